"""Every piece of the library is printed exactly once, every equation implemented.

A piece that no listing shows, or that two show without the mark ``:again:``, is a
problem: no line is hidden.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

from sphinx.environment import BuildEnvironment

from lint.problem import Problem
from literate.listings import shown
from literate.pieces import modules, partition
from literate.program import definitions, equations


def check(env: BuildEnvironment) -> Iterator[Problem]:
    """Yield what is hidden, doubled, or implemented by nothing."""
    yield from map(Problem, uncovered(shown(env)))
    for label in sorted(equations() - definitions().keys()):
        yield Problem(
            f"an equation is labelled {label}, which the library does not define"
        )


def uncovered(shown: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Say which pieces the pages, each with what it shows, do not show exactly once."""
    pages = defaultdict(list)
    for page, names in shown.items():
        for name in names:
            pages[name].append(page)
    pieces = [piece for module in modules() for piece in partition(module)]
    for name, times in Counter(piece.name for piece in pieces).items():
        if times > 1:
            yield f"hidden: {times} pieces of the library are called {name}"
    for piece in pieces:
        where = pages[piece.name]
        if not where:
            yield f"hidden: no page shows {piece.name} ({piece.place})"
        elif len(where) > 1:
            yield f"doubled: {piece.name} is shown in {' and '.join(where)}"
