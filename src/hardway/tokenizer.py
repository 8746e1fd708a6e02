"""Turn text into token ids and back: byte-pair encoding from scratch (chapter 2).

GPT-2's tokenizer works on bytes. Text is cut into words, each word into its bytes, and
neighbouring pieces are merged, the pair that was learned first going first, until no
learned pair is left. Paper: Sennrich et al. 2016 (BPE), Radford et al. 2019 (the
byte-level variant).
"""

import heapq
import json
import os
import reprlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Self

import regex

from hardway import hub
from hardway.fast_tokenizer import IdCache, IdMerger, split_stretches

# How GPT-2 cuts text into words: contractions, letters, digits, other signs, white
# space.
WORD = regex.compile(
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
)
END_OF_TEXT = "<|endoftext|>"
FILES = {"vocab": "vocab.json", "merges": "merges.txt"}  # each error names its part
LONG_WORD = 128  # bytes; from about here on the heap is faster
CACHED_WORDS = 50_000

Pair = tuple[bytes, bytes]


def byte_alphabet() -> dict[int, str]:
    """Map each byte to the printable character that stands for it in GPT-2's files.

    ``vocab.json`` and ``merges.txt`` are text, so bytes that do not print (or that
    split lines) borrow characters from U+0100 on. A space is written Ġ. Chapter 2.

    >>> byte_alphabet()[ord("a")], byte_alphabet()[ord(" ")]
    ('a', 'Ġ')
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1)]
    printable += range(ord("®"), ord("ÿ") + 1)
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {
        byte: chr(256 + i) for i, byte in enumerate(others)
    }


BYTE_OF = {character: byte for byte, character in byte_alphabet().items()}


def split_words(text: str) -> list[str]:
    """Cut text into words, which merges never cross; joined, they are the text again.

    Chapter 2.

    >>> split_words("We'll see 2 cats")
    ['We', "'ll", ' see', ' 2', ' cats']
    """
    return WORD.findall(text)


def merge_pair(pieces: Sequence[bytes], pair: Pair) -> list[bytes]:
    """Join every occurrence of ``pair``, from left to right, into one piece. Chapter 2.

    >>> merge_pair([b"a", b"b", b"a", b"b"], (b"a", b"b"))
    [b'ab', b'ab']
    """
    merged: list[bytes] = []
    i = 0
    while i < len(pieces):
        if tuple(pieces[i : i + 2]) == pair:
            merged.append(pieces[i] + pieces[i + 1])
            i += 2
        else:
            merged.append(pieces[i])
            i += 1
    return merged


def merge_steps(
    word: bytes, ranks: Mapping[Pair, int]
) -> Iterator[tuple[Pair | None, list[bytes]]]:
    """Show the work: yield each pair that is merged, and the pieces after it.

    Before any merge come None and the single bytes. ``ranks`` gives the order in which
    pairs were learned; the lowest goes first. Chapter 2.

    >>> ranks = {(b"l", b"o"): 0, (b"lo", b"w"): 1}
    >>> [pieces for _, pieces in merge_steps(b"low", ranks)]
    [[b'l', b'o', b'w'], [b'lo', b'w'], [b'low']]
    """
    pieces = [bytes([byte]) for byte in word]
    yield None, pieces
    while known := [pair for pair in pairwise(pieces) if pair in ranks]:
        best = min(known, key=lambda pair: ranks[pair])
        pieces = merge_pair(pieces, best)
        yield best, pieces


def merge_naive(word: bytes, ranks: Mapping[Pair, int]) -> list[bytes]:
    """Merge until no learned pair is left, scanning all pairs for each merge.

    The time grows with the square of the length, and a word can be as long as the text.
    `merge_heap` gives the same pieces without that. Chapter 2.
    """
    for _, pieces in merge_steps(word, ranks):
        pass
    return pieces  # the last step's


def merge_heap(word: bytes, ranks: Mapping[Pair, int]) -> list[bytes]:
    """Do what `merge_naive` does in O(n log n) steps, with the pairs in a heap.

    Pieces form a linked list: ``after[i]`` is where the piece behind the one at ``i``
    starts, and ``before[i]`` where the one in front of it does. A merge changes at most
    two pairs; entries of the heap that a merge has made stale are recognised, and
    skipped, when they surface. Chapter 2.
    """
    pieces: list[bytes] = [bytes([byte]) for byte in word]
    n = len(pieces)
    before, after = list(range(-1, n - 1)), list(range(1, n + 1))
    heap = [
        (ranks[pair], i, pair)
        for i, pair in enumerate(pairwise(pieces))
        if pair in ranks
    ]
    heapq.heapify(heap)
    while heap:
        best, new = heap[0][0], []
        while heap and heap[0][0] == best:  # wherever it stands, from left to right
            _, i, pair = heapq.heappop(heap)
            j = after[i]
            if j == n or (pieces[i], pieces[j]) != pair:
                continue  # stale: a half of it has been merged into something else
            pieces[i], pieces[j] = pieces[i] + pieces[j], b""
            after[i] = after[j]
            if after[i] < n:
                before[after[i]] = i
            for left, right in ((before[i], i), (i, after[i])):
                if left >= 0 and right < n:
                    new.append((left, (pieces[left], pieces[right])))
        for i, pair in new:
            if pair in ranks:
                heapq.heappush(heap, (ranks[pair], i, pair))
    return [piece for piece in pieces if piece]


class Tokenizer:
    """GPT-2's tokenizer, text to ids and back, equal to the original. Chapter 2."""

    def __init__(
        self, vocab: Mapping[str, int], merges: Sequence[tuple[str, str]]
    ) -> None:
        """Build from the contents of ``vocab.json`` and ``merges.txt``.

        vocab: each token's spelling and id; merges: pairs, the first learned first, or
        none: then every byte is a token.
        Raises `ValueError` where the two do not fit together.
        """
        specials = {token: id for token, id in vocab.items() if token == END_OF_TEXT}
        self.ids = {
            _spelled(spelling, "vocab: the token"): id
            for spelling, id in vocab.items()
            if spelling not in specials
        }
        piece = "merges: the piece"
        self.ranks = {
            (_spelled(a, piece), _spelled(b, piece)): rank
            for rank, (a, b) in enumerate(merges)
        }
        self.special_ids: dict[str, int] = specials
        self.pieces = {id: piece for piece, id in self.ids.items()}
        self.pieces |= {id: token.encode() for token, id in specials.items()}
        self.n_vocab = len(self.pieces)
        self._check(merges)
        self.eot_id: int = specials[END_OF_TEXT]
        self._merger = IdMerger(self.ids, self.ranks)
        self._cache = IdCache(self._encode_stretch, LONG_WORD, CACHED_WORDS)

    def _check(self, merges: Sequence[tuple[str, str]]) -> None:
        """Check that every byte and every merge's result has an id, without gaps."""
        if END_OF_TEXT not in self.special_ids:
            raise ValueError(f"vocab: the special token {END_OF_TEXT} is missing")
        ids = [*self.ids.values(), *self.special_ids.values()]
        if gaps := set(range(len(ids))).difference(ids):
            raise ValueError(
                f"vocab: the ids of its {len(ids):,} tokens must be 0 to "
                f"{len(ids) - 1}, each once, but none has the id {min(gaps)}"
            )
        for character, byte in BYTE_OF.items():
            if bytes([byte]) not in self.ids:
                token = f"the token {character!r}, for the byte {byte}, is missing"
                raise ValueError(f"vocab: {token}")
        if len(self.ranks) < len(merges):
            twice = " ".join(Counter(merges).most_common(1)[0][0])
            raise ValueError(f"merges: the pair {twice[:40]!r} is there twice")
        for (a, b), (left, right) in zip(merges, self.ranks, strict=True):
            if left + right not in self.ids:
                line, token = f"{a} {b}"[:40], (a + b)[:40]
                problem = f"makes {token!r}, which has no id in vocab"
                raise ValueError(f"merges: the pair {line!r} {problem}")

    @classmethod
    def from_pretrained(
        cls, name_or_directory: str | os.PathLike[str] = "pocket"
    ) -> Self:
        """Load ``vocab.json`` and ``merges.txt`` of a known model, or from a directory.

        Raises `FileNotFoundError` where they are missing, `ValueError` naming the file
        and what is wrong with it where they are malformed. Chapter 2.
        """
        directory = hub.find(name_or_directory)
        try:
            return cls(
                _read_vocab(directory / FILES["vocab"]),
                _read_merges(directory / FILES["merges"]),
            )
        except ValueError as error:
            part, _, problem = str(error).partition(": ")
            raise ValueError(f"{directory / FILES[part]}: {problem}") from error

    def encode(
        self, text: str, allowed_special: Collection[str] = frozenset()
    ) -> list[int]:
        """Return the ids of ``text``.

        A special token spelled out in the text is plain text, unless
        ``allowed_special`` holds it or is ``"all"``: text from a stranger cannot end a
        document. Raises `ValueError` for a lone surrogate (half of a UTF-16 pair, which
        no UTF-8 spells) and for an unknown special. Chapter 2.
        """
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise ValueError(
                "text must not hold a lone surrogate such as "
                f"{text[error.start]!r} at position {error.start}"
            ) from None
        specials = self._allowed(allowed_special)
        if not specials:
            return self._encode_plain(text)
        ids: list[int] = []
        pattern = "|".join(regex.escape(token) for token in specials)
        for part in regex.split(f"({pattern})", text):
            ids += (
                [self.special_ids[part]]
                if part in specials
                else self._encode_plain(part)
            )
        return ids

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Return the ids' bytes. Raises `ValueError` for an unknown id. Chapter 2."""
        return b"".join(self._piece(id) for id in ids)

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of the ids.

        Bytes that are not UTF-8 become U+FFFD (�). Raises `ValueError` for an id
        outside the vocabulary. Chapter 2.
        """
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def _encode_plain(self, text: str) -> list[int]:
        return self._look_up(split_stretches(text))

    def _look_up(self, parts: list[str]) -> list[int]:
        ids: list[int] = []
        for known in map(self._cache.__getitem__, parts):
            ids += known
        return ids

    def _encode_stretch(self, stretch: str) -> list[int]:
        """Encode what the cache does not have."""
        if not stretch.isascii() and len(words := split_words(stretch)) > 1:
            return self._look_up(words)
        raw = stretch.encode("utf-8")
        if len(raw) < LONG_WORD:
            return self._merger.merge(raw)
        return [self.ids[piece] for piece in merge_heap(raw, self.ranks)]

    def _allowed(self, allowed_special: Collection[str]) -> set[str]:
        if allowed_special == "all":
            return set(self.special_ids)
        if isinstance(allowed_special, str) or not set(allowed_special) <= set(
            self.special_ids
        ):
            raise ValueError(
                f"allowed_special must be 'all' or some of {sorted(self.special_ids)}, "
                f"not {allowed_special!r}"
            )
        return set(allowed_special)

    def _piece(self, id: int) -> bytes:
        if type(id) is not int or id not in self.pieces:
            raise ValueError(
                f"ids must be whole numbers from 0 to {self.n_vocab - 1}, not {id!r}"
            )
        return self.pieces[id]


HINTS = {
    " ": " (a space is spelled Ġ)",
    "\ufeff": " (it is a byte order mark: save the file as UTF-8 without one)",
}


def _spelled(spelling: str, place: str) -> bytes:
    """Return the bytes that a spelling in a file stands for."""
    try:
        return bytes(map(BYTE_OF.__getitem__, spelling))
    except KeyError as error:
        character = error.args[0]
        raise ValueError(
            f"{place} {spelling[:40]!r} holds {character!a}, which is not in GPT-2's "
            f"byte alphabet{HINTS.get(character, '')}"
        ) from None


def _read_vocab(path: Path) -> dict[str, int]:
    """Read a JSON object that gives each token its id."""
    try:
        vocab = json.loads(path.read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ValueError("vocab: it nests too deeply") from error
    except ValueError as error:
        raise ValueError(f"vocab: it is not JSON in UTF-8: {error}") from error
    if not isinstance(vocab, dict):
        raise ValueError("vocab: it is not an object of tokens and ids")
    for token, id in vocab.items():
        if type(id) is not int:
            problem = f"has the id {reprlib.repr(id)}, which is not a whole number"
            raise ValueError(f"vocab: the token {token[:40]!r} {problem}")
    return vocab


def _read_merges(path: Path) -> list[tuple[str, str]]:
    """Read a line for each pair, the first learned first; line 1 may be a version."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"merges: it is not UTF-8: {error}") from error
    merges = []
    for number, line in enumerate(lines, start=1):
        if not line or (number == 1 and line.startswith("#version")):
            continue
        left, _, right = line.partition(" ")
        if not left or not right or " " in right:
            problem = f"{line[:40]!r} is not two pieces with one space between"
            raise ValueError(f"merges: line {number}: {problem}")
        merges.append((left, right))
    return merges


def display(piece: bytes) -> str:
    """Spell a piece so that every byte shows: a space as ␣, the unprintable escaped.

    Chapter 2.

    >>> display(" café".encode()), display(b"\\n"), display(b"\\xf0\\x9f")
    ('␣café', '\\\\n', '\\\\xf0\\\\x9f')
    """
    text = piece.decode("utf-8", errors="backslashreplace")
    shown = "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode() for c in text
    )
    return shown.replace(" ", "␣")
