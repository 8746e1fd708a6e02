"""A faster tokenizer, equal to the taught one.

Three things cost time: cutting text into words, looking each word up, and merging a new
one. The first two are left to ``re`` and ``dict``, whose steps are written in C. The
merges run on ids, which are faster to compare and to join than bytes.
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import pairwise, repeat

from hardway.tokenizer import (
    END_OF_TEXT,
    GPT2_SPLIT,
    Pattern,
    Tokenizer,
    merge_heap,
    split_words,
)

LONG_WORD = 128  # bytes; from about here on the heap is faster than merges on ids
CACHED_WORDS = 50_000

# `WORD` of the tokenizer again, for Python's `re`: twice as fast as `regex`, but with
# no \p{L}, so it knows letters, digits and signs in ASCII alone. Where they touch any
# other character, all up to the next blank stays together (INK+), for `split_words` to
# cut. (To `re`, \x1c to \x1f are blanks; to `regex` they are signs.)
BLANK = r"[^\S\x1c-\x1f]"
INK = r"[\S\x1c-\x1f]"
SIGN = r"[\x00-\x08\x0e-\x1f!-/:-@\[-`{-\x7f]"
STRETCH = re.compile(
    r" ?[A-Za-z]++(?![^\x00-\x7f])|'(?:[stmd]|re|ve|ll)"
    rf"| ?(?:[0-9]++|{SIGN}++)(?![^\x00-\x7f])"
    rf"| ?{INK}+|{BLANK}+(?!{INK})|{BLANK}+"
)


def split_stretches(text: str) -> list[str]:
    """Cut text into stretches: one word each if it is ASCII, one or more if it is not.

    ``split_words`` cuts wherever this does.

    >>> split_stretches("We'll see 2 naïve, naïve cats")
    ['We', "'ll", ' see', ' 2', ' naïve,', ' naïve', ' cats']
    """
    return STRETCH.findall(text)


class FastTokenizer(Tokenizer):
    """The tokenizer with a cache of encoded stretches, and merges on ids."""

    def __init__(
        self, vocab: Mapping[str, int], merges: Sequence[tuple[str, str]],
        specials: Collection[str] = (), end: str = END_OF_TEXT,
        patterns: Iterable[Pattern] = GPT2_SPLIT, chat_template: str | None = None,
    ) -> None:  # fmt: skip
        """Build a `hardway.tokenizer.Tokenizer`, and prepare the merges on ids."""
        super().__init__(vocab, merges, specials, end, patterns, chat_template)
        self._merger = IdMerger(self.ids, self.ranks)
        self._cache = IdCache(self._encode_stretch, LONG_WORD, CACHED_WORDS)

    def _encode_plain(self, text: str) -> list[int]:
        """Apply all patterns but the last, then split the parts into stretches.

        Stretches stand for GPT-2's pattern, the last one in every known vocabulary; for
        any other pattern, there is only the taught way.
        """
        if self.patterns[-1:] != GPT2_SPLIT:
            return super()._encode_plain(text)
        ids: list[int] = []
        for part in split_words(text, self.patterns[:-1]):
            ids += self._look_up(split_stretches(part))
        return ids

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


class IdMerger:
    """Like `hardway.tokenizer.merge_naive`, on ids instead of bytes."""

    def __init__(
        self, ids: Mapping[bytes, int], ranks: Mapping[tuple[bytes, bytes], int]
    ) -> None:
        """Take the id of each piece, and the pairs in the order of their ranks.

        A pair is left out if a piece of it has no id, since no merge makes that piece.
        Nor does a text hold a byte without an id: `encode` has refused it.
        """
        self.byte_ids = [ids.get(bytes([byte]), -1) for byte in range(256)]
        self.made = [ids[left + right] for left, right in ranks]
        self.ranks = {
            (ids[left], ids[right]): rank
            for rank, (left, right) in enumerate(ranks)
            if left in ids and right in ids
        }

    def merge(self, word: bytes) -> list[int]:
        """Return the ids of a word's pieces.

        ``order[i]`` is the rank of the pair that begins at ``i``, ``never`` if it was
        not learned. The best is merged from left to right, wherever it stands; a merge
        changes the pairs to its left and to its right, and only these are ranked again.
        """
        rank, made, never = self.ranks.get, self.made, len(self.made)
        ids = list(map(self.byte_ids.__getitem__, word))
        order = list(map(rank, pairwise(ids), repeat(never)))
        while order and (best := min(order)) < never:
            while best in order:
                i = order.index(best)
                ids[i] = new = made[best]
                del ids[i + 1], order[i]
                if i > 0:
                    order[i - 1] = rank((ids[i - 1], new), never)
                if i < len(order):
                    order[i] = rank((new, ids[i + 1]), never)
        return ids


class IdCache(dict[str, list[int]]):
    """Bounded cache from text to ids; a miss calls ``encode``.

    A dict calls ``__missing__`` for a key that it lacks, so one that it has costs no
    step of Python. What is as long as ``too_long``, as text or in ids, is not kept, and
    a dict of ``limit`` keys is emptied: no text can fill the memory. Threads may share
    it; at worst, two of them make the same ids.
    """

    def __init__(
        self, encode: Callable[[str], list[int]], too_long: int, limit: int
    ) -> None:
        super().__init__()
        self.encode, self.too_long, self.limit = encode, too_long, limit

    def __missing__(self, key: str) -> list[int]:
        ids = self.encode(key)
        if max(len(key), len(ids)) < self.too_long:
            if len(self) >= self.limit:
                self.clear()
            self[key] = ids
        return ids
