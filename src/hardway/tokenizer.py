"""Turn text into token ids and back: byte-pair encoding from scratch.

Byte-level BPE is the tokenizer of GPT-2 and of many models since. Text is split into
words, each word into its bytes, and adjacent pieces are merged, earliest learned pair
first, until no learned pair is left. Papers: Sennrich et al. 2016 (BPE), Radford et al.
2019 (the byte-level variant).
"""

import heapq
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Self

import regex

from hardway import checks, hub, vocabulary

# GPT-2's pre-tokenization: contractions, letters, digits, other symbols, whitespace.
# Newer models cut out each digit first.
WORD = regex.compile(
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
)
DIGIT = regex.compile(r"\p{N}|\P{N}+")
GPT2_SPLIT = (WORD,)
PATTERNS = {"ByteLevel": WORD, "Digits": DIGIT}  # by their names in tokenizer.json
END_OF_TEXT = "<|endoftext|>"

Pair = tuple[bytes, bytes]
Pattern = regex.Pattern[str]


def byte_alphabet() -> dict[int, str]:
    """Map each byte to the printable character that stands for it in GPT-2's files.

    ``vocab.json`` and ``merges.txt`` are text, so bytes that are not printable (or
    are whitespace) borrow characters from U+0100 on. A space is written Ġ.

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


def spelled_bytes(spelling: str) -> bytes:
    """Decode a token's spelling in GPT-2's files to its bytes.

    >>> spelled_bytes("Ġcaf")
    b' caf'
    """
    return bytes(map(BYTE_OF.__getitem__, spelling))


def split_words(text: str, patterns: Iterable[Pattern] = GPT2_SPLIT) -> list[str]:
    """Split text into words, which merges never cross; joined, they are the text again.

    Each pattern cuts the parts that the one before it left; it must match all of them.

    >>> split_words("We'll see 22 cats")
    ['We', "'ll", ' see', ' 22', ' cats']
    >>> split_words("We'll see 22 cats", [DIGIT, WORD])
    ['We', "'ll", ' see', ' ', '2', '2', ' cats']
    """
    parts = [text]
    for pattern in patterns:
        parts = [word for part in parts for word in pattern.findall(part)]
    return parts


def merge_pair(pieces: Sequence[bytes], pair: Pair) -> list[bytes]:
    """Join every occurrence of ``pair``, from left to right, into one piece.

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
    """Yield every step of the merging: the pair merged, and the pieces after it.

    The first step is None and the single bytes. ``ranks`` gives the order in which
    pairs were learned; the lowest is merged first.

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

    This takes O(n²) steps, and a word can be as long as the text. `merge_heap` gives
    the same pieces in O(n log n).
    """
    for _, pieces in merge_steps(word, ranks):
        pass
    return pieces  # the last step's


def merge_heap(word: bytes, ranks: Mapping[Pair, int]) -> list[bytes]:
    """Return the same pieces as `merge_naive` in O(n log n) steps, using a heap.

    Pieces form a doubly linked list: ``after[i]`` is where the piece after the one at
    ``i`` starts, ``before[i]`` where the one before it does. Heap entries that a merge
    has made stale are skipped when they are popped.
    """
    pieces = [bytes([byte]) for byte in word]
    n = len(pieces)
    before, after = list(range(-1, n - 1)), list(range(1, n + 1))
    heap = [(ranks[p], i, p) for i, p in enumerate(pairwise(pieces)) if p in ranks]
    heapq.heapify(heap)
    while heap:
        best, new = heap[0][0], []
        while heap and heap[0][0] == best:  # all its occurrences, from left to right
            _, i, pair = heapq.heappop(heap)
            if after[i] < n and (pieces[i], pieces[after[i]]) == pair:
                new += _join(i, pieces, before, after)
        for i, pair in new:
            if pair in ranks:
                heapq.heappush(heap, (ranks[pair], i, pair))
    return [piece for piece in pieces if piece]


def _join(
    i: int, pieces: list[bytes], before: list[int], after: list[int]
) -> list[tuple[int, Pair]]:
    """Merge the piece at ``i`` with its successor; return the new adjacent pairs.

    Each comes with the index where it starts; at an end of the word there is only one.
    """
    j, n = after[i], len(pieces)
    pieces[i], pieces[j] = pieces[i] + pieces[j], b""
    after[i] = after[j]
    if after[i] < n:
        before[after[i]] = i
    return [
        (left, (pieces[left], pieces[right]))
        for left, right in ((before[i], i), (i, after[i]))
        if left >= 0 and right < n
    ]


class Tokenizer:
    """Byte-level BPE, text to ids and back, equal to GPT-2's and to SmolLM2's own."""

    def __init__(
        self, vocab: Mapping[str, int], merges: Sequence[tuple[str, str]],
        specials: Collection[str] = (), end: str = END_OF_TEXT,
        patterns: Iterable[Pattern] = GPT2_SPLIT, chat_template: str | None = None,
    ) -> None:  # fmt: skip
        """Build from the contents of ``vocab.json`` and ``merges.txt``.

        vocab: each token's spelling and id; merges: pairs in the order learned (without
        any, every byte is a token); specials: special tokens besides ``end``, which
        ends a text; patterns: those of `split_words`; chat_template: how the model
        reads conversations. Raises `ValueError` if the parts do not fit together.
        """
        vocabulary.check(vocab, merges, BYTE_OF, {*specials, end})
        self.patterns, self.chat_template = tuple(patterns), chat_template
        self.special_ids = {token: vocab[token] for token in (*specials, end)}
        self.eot_id = vocab[end]
        self.ids = {
            spelled_bytes(spelling): id
            for spelling, id in vocab.items()
            if spelling not in self.special_ids
        }
        self.ranks = {
            (spelled_bytes(left), spelled_bytes(right)): rank
            for rank, (left, right) in enumerate(merges)
        }
        self.pieces = {id: piece for piece, id in self.ids.items()}
        self.pieces |= {id: token.encode() for token, id in self.special_ids.items()}
        self.n_vocab = len(self.pieces)
        self.missing = bytes(b for b in range(256) if bytes([b]) not in self.ids)

    @classmethod
    def from_pretrained(cls, name_or_path: str | os.PathLike[str] = "pocket") -> Self:
        """Load the vocabulary of a known model, of a directory or of a GGUF file.

        Raises `FileNotFoundError` if it is missing, `ValueError` naming the file and
        what is wrong with it if it is malformed.
        """
        with vocabulary.read(hub.find(name_or_path), BYTE_OF, PATTERNS) as contents:
            return cls(**contents)

    def encode(
        self, text: str, allowed_special: Collection[str] = frozenset()
    ) -> list[int]:
        """Return the ids of ``text``.

        A special token spelled out in the text is plain text, unless
        ``allowed_special`` contains it or is ``"all"``: untrusted text cannot end a
        document. Raises `ValueError` for a lone surrogate (half of a UTF-16 pair, which
        UTF-8 cannot encode), a byte without a token, and an unknown special token.
        """
        checks.check_text(text, self.missing)
        specials = checks.special_tokens(allowed_special, self.special_ids)
        if not specials:
            return self._encode_plain(text)
        ids: list[int] = []
        pattern = "|".join(map(regex.escape, sorted(specials, reverse=True)))
        for part in regex.split(f"({pattern})", text):
            if part in specials:
                ids.append(self.special_ids[part])
            else:
                ids += self._encode_plain(part)
        return ids

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Return the ids' bytes. Raises `ValueError` for an unknown id."""
        ids = checks.token_ids("ids", ids, self.n_vocab)
        return b"".join(map(self.pieces.__getitem__, ids))

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of the ids.

        Bytes that are not UTF-8 become U+FFFD (�). Raises `ValueError` for an id
        outside the vocabulary.
        """
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def _encode_plain(self, text: str) -> list[int]:
        """Encode text without special tokens."""
        return [
            self.ids[piece]
            for word in split_words(text, self.patterns)
            for piece in merge_heap(word.encode("utf-8"), self.ranks)
        ]


def display(piece: bytes) -> str:
    """Make every byte of a piece visible: a space as ␣, the unprintable escaped.

    >>> display(" café".encode()), display(b"\\n"), display(b"\\xf0\\x9f")
    ('␣café', '\\\\n', '\\\\xf0\\\\x9f')
    """
    text = piece.decode("utf-8", errors="backslashreplace")
    shown = "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode() for c in text
    )
    return shown.replace(" ", "␣")
