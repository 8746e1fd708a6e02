"""The type that every check yields."""

from typing import NamedTuple


class Problem(NamedTuple):
    """A message, and the page it is about, if it is about one."""

    text: str
    page: str | None = None
