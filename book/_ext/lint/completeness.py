"""Check that every piece of the library is printed and every equation implemented.

Sphinx itself warns of a piece that two listings print without ``:again:``: their labels
collide.
"""

from collections import Counter
from collections.abc import Container, Iterator
from typing import cast

from sphinx.domains.std import StandardDomain
from sphinx.environment import BuildEnvironment

from lint.problem import Problem
from literate.listings import label
from literate.pieces import partition, printed_modules
from literate.program import definitions, equations


def check(env: BuildEnvironment) -> Iterator[Problem]:
    """Yield unprinted pieces and unimplemented equations."""
    labels = cast(StandardDomain, env.get_domain("std")).anonlabels
    yield from map(Problem, hidden(labels))
    for name in sorted(equations() - definitions().keys()):
        yield Problem(f"the library does not define {name}, an equation's label")


def hidden(labels: Container[str]) -> Iterator[str]:
    """Yield a message for each piece whose listing's label isn't in ``labels``."""
    pieces = [piece for module in printed_modules() for piece in partition(module)]
    for name, times in Counter(piece.name for piece in pieces).items():
        if times > 1:
            yield f"hidden: {times} pieces of the library are called {name}"
    for piece in pieces:
        if label(piece.name) not in labels:
            yield f"hidden: no page shows {piece.name} ({piece.place})"
