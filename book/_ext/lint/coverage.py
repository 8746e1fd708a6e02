"""Every piece of the library is printed, and every equation implemented.

Each listing has a label, so Sphinx itself warns of a piece that two listings print
without the mark ``:again:``; here is named what none prints. No line is hidden.
"""

from collections import Counter
from collections.abc import Container, Iterator
from typing import cast

from sphinx.domains.std import StandardDomain
from sphinx.environment import BuildEnvironment

from lint.problem import Problem
from literate.listings import label
from literate.pieces import modules, partition
from literate.program import definitions, equations


def check(env: BuildEnvironment) -> Iterator[Problem]:
    """Yield the pieces that are hidden, and the equations that nothing implements."""
    labels = cast(StandardDomain, env.get_domain("std")).anonlabels
    yield from map(Problem, hidden(labels))
    for name in sorted(equations() - definitions().keys()):
        yield Problem(f"the library does not define {name}, an equation's label")


def hidden(labels: Container[str]) -> Iterator[str]:
    """Say which pieces have no listing; ``labels`` are those of the book."""
    pieces = [piece for module in modules() for piece in partition(module)]
    for name, times in Counter(piece.name for piece in pieces).items():
        if times > 1:
            yield f"hidden: {times} pieces of the library are called {name}"
    for piece in pieces:
        if label(piece.name) not in labels:
            yield f"hidden: no page shows {piece.name} ({piece.place})"
