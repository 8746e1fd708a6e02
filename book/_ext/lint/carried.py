"""Check that the running example's values agree from chapter to chapter.

A cell with the tag ``carried`` prints a line for each value it takes over or passes on:
a name, two or more spaces, and the numbers. A chapter must share a name with the one
before it, and the values of a name must agree to one unit in the last place.
"""

import re
from collections.abc import Iterator, Mapping

from docutils import nodes
from sphinx.environment import BuildEnvironment

from lint.problem import Problem

CHAPTER = re.compile(r"(.*/)?0[0-8]-")  # Part I, which runs one model on one sentence
LINE = re.compile(r"(\S+(?: \S+)*)  +(\S.*)")
NUMBER = re.compile(r"-?\d+\.(\d+)(%?)")


def handed(page: nodes.document) -> dict[str, str]:
    """Return the values that a page's ``carried`` cells print, by name."""
    found: dict[str, str] = {}
    for cell in page.findall(nodes.container):
        if "tag_carried" in cell["classes"]:
            for output in cell.findall(nodes.literal_block):
                if "output" in output["classes"]:
                    lines = map(LINE.fullmatch, output.astext().splitlines())
                    found |= {line[1]: line[2] for line in lines if line}
    return found


def agree(one: str, other: str) -> bool:
    """Return whether two lists of values agree."""
    mine, theirs = one.split(), other.split()
    return len(mine) == len(theirs) and all(map(same, mine, theirs))


def same(one: str, other: str) -> bool:
    """Return whether two values agree, to one unit in a fraction's last place."""
    mine, theirs = NUMBER.fullmatch(one), NUMBER.fullmatch(other)
    if not (mine and theirs):
        return one == other
    places = len(mine[1])
    apart = abs(float(one.rstrip("%")) - float(other.rstrip("%")))
    alike = (places, mine[2]) == (len(theirs[1]), theirs[2])
    return alike and apart < 1.5 * 10.0**-places


def problems(pages: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    """Yield the disagreements; ``pages`` are the chapters, in reading order."""
    first: dict[str, tuple[str, str]] = {}
    before: Mapping[str, str] | None = None
    for page, values in pages.items():
        if before is not None and not before.keys() & values.keys():
            yield f"{page} takes up nothing that the chapter before it hands on"
        for name, value in values.items():
            origin, original = first.setdefault(name, (page, value))
            if not agree(value, original):
                yield f"«{name}» is {value} on {page}, and was {original} on {origin}"
        before = values


def check(env: BuildEnvironment) -> Iterator[Problem]:
    """Yield the disagreements between the chapters."""
    chapters = sorted(filter(CHAPTER.match, env.found_docs))
    pages = {name: handed(env.get_doctree(name)) for name in chapters}
    yield from map(Problem, problems(pages))
