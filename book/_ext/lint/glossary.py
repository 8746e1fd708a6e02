"""Hold the glossary against the chapters: a term in bold is explained in both.

Bold is for the terms that a page explains. Two kinds of bold aren't terms: what the box
at the end of a chapter repeats, and the words with which the items of a list begin. A
term needs an entry, and an entry has to lead to a page with its term in bold.
"""

import re
from collections.abc import Iterator, Mapping

from docutils import nodes
from sphinx import addnodes
from sphinx.environment import BuildEnvironment

from lint.problem import Problem

APPENDIX = re.compile(r"(.*/)?appendix-")
SUMMARY = "What to remember"


def normal(term: str) -> str:
    """Return what is common to a term at the head of a sentence, or in the plural."""
    return term.casefold().removesuffix("s")


def terms(page: nodes.document) -> dict[str, str]:
    """Return the terms that a page has in bold, by their normal form."""
    strong = filter(is_term, page.findall(nodes.strong))
    found = [" ".join(bold.astext().split()) for bold in strong]
    return {normal(term): term for term in found}


def is_term(bold: nodes.strong) -> bool:
    """Say whether words in bold are a term that is explained here."""
    line = bold.parent
    in_list = isinstance(line.parent, nodes.list_item)
    begins_item = in_list and line.astext().startswith(bold.astext())
    return not (begins_item or any(map(is_summary, around(bold))))


def around(node: nodes.Node) -> Iterator[nodes.Element]:
    """Yield what a node stands in, from the inside outwards."""
    while node := node.parent:
        yield node


def is_summary(node: nodes.Element) -> bool:
    """Say whether a node is a box that says again what a chapter has explained."""
    return isinstance(node, nodes.Admonition) and node[0].astext() == SUMMARY


def entries(page: nodes.document) -> Iterator[tuple[str, set[str]]]:
    """Yield each term of a glossary, and the pages that its explanation leads to."""
    for glossary in page.findall(addnodes.glossary):
        for item in glossary.findall(nodes.definition_list_item):
            links = item.findall(addnodes.pending_xref)
            pages = {link["reftarget"] for link in links if link["refdomain"] == "doc"}
            for term in item.findall(nodes.term):
                yield term.astext(), pages


def problems(
    bold: Mapping[str, Mapping[str, str]], glossary: Mapping[str, set[str]]
) -> Iterator[str]:
    """Yield what is missing on either side; ``bold`` gives the terms of each page."""
    known = {normal(term) for term in glossary}
    for page, found in bold.items():
        if APPENDIX.match(page):
            continue  # where bold may also be for other things
        for term in sorted(found.keys() - known):
            yield f"{page} has «{found[term]}» in bold, and the glossary does not"
    for term, pages in glossary.items():
        if not any(normal(term) in bold.get(page, ()) for page in pages):
            where = " and ".join(sorted(pages)) or "no page"
            yield f"the glossary's «{term}» leads to {where}, without it in bold"


def check(env: BuildEnvironment) -> Iterator[Problem]:
    """Yield every term on one side that is not on the other."""
    pages = {name: env.get_doctree(name) for name in sorted(env.found_docs)}
    bold = {name: terms(page) for name, page in pages.items()}
    glossary = dict(entry for page in pages.values() for entry in entries(page))
    yield from map(Problem, problems(bold, glossary))
