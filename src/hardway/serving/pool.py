"""Pages of the KV cache: who uses them, which are free, which can be found again.

A page is room for the keys and values of ``page_size`` consecutive tokens. Here are
only numbers; `hardway.serving.paged` holds the memory they count. Source: Kwon et al.
2023.
"""

from array import array
from collections import OrderedDict
from collections.abc import Sequence
from hashlib import sha256


def page_key(before: bytes, ids: Sequence[int]) -> bytes:
    """Chained hash: name a full page by its tokens and by the page before it.

    Keys and values depend on all earlier tokens, so equal tokens after another text are
    another page. ``before`` is the key of the page before, or empty for the first one.
    """
    return sha256(before + array("q", ids).tobytes()).digest()


class PagePool:
    """Reference counts of the pages, and an index of the full ones by their keys."""

    def __init__(self, n_pages: int) -> None:
        """Start with all pages free, and empty."""
        self.owners = [0] * n_pages  # the reference count of each page
        self.free = OrderedDict.fromkeys(range(n_pages))  # the next to be reused first
        self.page_of: dict[bytes, int] = {}
        self.key_of: dict[int, bytes] = {}

    def allocate(self) -> int:
        """Take the first free page, and forget what it held."""
        page, _ = self.free.popitem(last=False)
        if page in self.key_of:
            del self.page_of[self.key_of.pop(page)]
        self.owners[page] = 1
        return page

    def share(self, key: bytes) -> int | None:
        """Add an owner to the page with this key, in use or free; None if none has it.

        A shared page is full, so no owner writes to it.
        """
        page = self.page_of.get(key)
        if page is not None:
            self.free.pop(page, None)
            self.owners[page] += 1
        return page

    def publish(self, page: int, key: bytes) -> None:
        """Let others share a page, once all of its keys and values are computed."""
        if key not in self.page_of:  # another request may have computed the same
            self.page_of[key], self.key_of[page] = page, key

    def release(self, page: int) -> None:
        """Take an owner away. Without owners a page is free, but keeps what it holds.

        One that cannot be found again is the first to be reused, the others come in the
        order in which they were released.
        """
        self.owners[page] -= 1
        if not self.owners[page]:
            self.free[page] = None
            self.free.move_to_end(page, last=page in self.key_of)
