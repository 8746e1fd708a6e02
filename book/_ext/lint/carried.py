"""Hold the running example together: a number carried to the next page is the same.

Every chapter takes one sentence a step further, in a cell with the tag ``carried``. The
cell prints a line for each thing it was handed and each it hands on: a name, two spaces
or more, and the values. A chapter must be handed something by the one before it, and
what bears the same name on two pages must have the same value, up to one unit in the
last place.
"""

import re
from collections.abc import Iterator, Mapping

from docutils import nodes
from sphinx.environment import BuildEnvironment

from lint.problem import Problem

CHAPTER = re.compile(r"(.*/)?\d\d-")
LINE = re.compile(r"(\S+(?: \S+)*)  +(\S.*)")
NUMBER = re.compile(r"-?\d+\.(\d+)(%?)")


def handed(page: nodes.document) -> dict[str, str]:
    """Return what the page's cells with the tag ``carried`` print, by name."""
    found: dict[str, str] = {}
    for cell in page.findall(nodes.container):
        if "tag_carried" in cell["classes"]:
            for output in cell.findall(nodes.literal_block):
                if "output" in output["classes"]:
                    lines = map(LINE.fullmatch, output.astext().splitlines())
                    found |= {line[1]: line[2] for line in lines if line}
    return found


def agree(one: str, other: str) -> bool:
    """Say whether two lists of values are the same, as far as they are printed."""
    mine, theirs = one.split(), other.split()
    return len(mine) == len(theirs) and all(map(same, mine, theirs))


def same(one: str, other: str) -> bool:
    """Compare two values; the last place of a fraction may be rounded either way."""
    mine, theirs = NUMBER.fullmatch(one), NUMBER.fullmatch(other)
    if not (mine and theirs):
        return one == other
    places = len(mine[1])
    apart = abs(float(one.rstrip("%")) - float(other.rstrip("%")))
    alike = (places, mine[2]) == (len(theirs[1]), theirs[2])
    return alike and apart < 1.5 * 10.0**-places


def problems(pages: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    """Yield where the thread breaks; ``pages`` are the chapters, in reading order."""
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
    """Yield every break when all pages have been read."""
    chapters = sorted(filter(CHAPTER.match, env.found_docs))
    pages = {name: handed(env.get_doctree(name)) for name in chapters}
    yield from map(Problem, problems(pages))
