"""A quicker tokenizer, equal to the one of chapter 2.

Three things cost time: the cut into words, the look-up of each word, and the merges of
a new one. The first two are left to ``re`` and ``dict``, whose steps are written in C.
The merges run on ids, which are quicker to compare and to join than bytes.
"""

import re
from collections.abc import Callable, Mapping
from itertools import pairwise, repeat

# `WORD` of the tokenizer again, for Python's `re`: twice as quick as `regex`, but with
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

    ``split_words`` cuts wherever this does. Chapter 2.

    >>> split_stretches("We'll see 2 naïve, naïve cats")
    ['We', "'ll", ' see', ' 2', ' naïve,', ' naïve', ' cats']
    """
    return STRETCH.findall(text)


class IdMerger:
    """Does what ``merge_naive`` does, on ids in place of bytes. Chapter 2."""

    def __init__(
        self, ids: Mapping[bytes, int], ranks: Mapping[tuple[bytes, bytes], int]
    ) -> None:
        """Take the id of each piece, and the pairs in the order of their ranks.

        A pair is left out if a piece of it has no id, since no merge makes that piece.
        """
        self.byte_ids = [ids[bytes([byte])] for byte in range(256)]
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
    """The ids of what was encoded before; ``encode`` makes those of what was not.

    A dict calls ``__missing__`` for a key that it lacks, so one that it has costs no
    step of Python. What is as long as ``too_long``, as text or in ids, is not kept, and
    a dict of ``limit`` keys is emptied: no text can fill the memory. Threads may share
    it; at worst, two of them make the same ids. Chapter 2.
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
