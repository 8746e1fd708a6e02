"""What every check yields."""

from typing import NamedTuple


class Problem(NamedTuple):
    """What is wrong, and on which page, where it is one page's fault."""

    text: str
    page: str | None = None
