"""What a check yields: one interface for all of them."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from sphinx.environment import BuildEnvironment


class Problem(NamedTuple):
    """What is wrong, and on which page, where it is one page's fault."""

    text: str
    page: str | None = None


Check = Callable[[BuildEnvironment], Iterator[Problem]]
