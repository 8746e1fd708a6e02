"""Check that bold terms and glossary entries match.

A bold term needs a glossary entry, and an entry has to link to a page with its term in
bold. Bold isn't a term in a chapter's summary box or at the start of a list item.
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
    """Normalize a term: casefold, strip the plural s."""
    return term.casefold().removesuffix("s")


def terms(page: nodes.document) -> dict[str, str]:
    """Return a page's bold terms, by their normalized form."""
    strong = filter(is_term, page.findall(nodes.strong))
    found = [" ".join(bold.astext().split()) for bold in strong]
    return {normal(term): term for term in found}


def is_term(bold: nodes.strong) -> bool:
    """Return whether bold text is a term."""
    line = bold.parent
    in_list = isinstance(line.parent, nodes.list_item)
    begins_item = in_list and line.astext().startswith(bold.astext())
    return not (begins_item or any(map(is_summary, around(bold))))


def around(node: nodes.Node) -> Iterator[nodes.Element]:
    """Yield a node's ancestors, innermost first."""
    while node := node.parent:
        yield node


def is_summary(node: nodes.Element) -> bool:
    """Return whether a node is a chapter's summary box."""
    return isinstance(node, nodes.Admonition) and node[0].astext() == SUMMARY


def entries(page: nodes.document) -> Iterator[tuple[str, set[str]]]:
    """Yield each glossary term, and the pages that its entry links to."""
    for glossary in page.findall(addnodes.glossary):
        for item in glossary.findall(nodes.definition_list_item):
            links = item.findall(addnodes.pending_xref)
            pages = {link["reftarget"] for link in links if link["refdomain"] == "doc"}
            for term in item.findall(nodes.term):
                yield term.astext(), pages


def problems(
    bold: Mapping[str, Mapping[str, str]], glossary: Mapping[str, set[str]]
) -> Iterator[str]:
    """Yield what is missing on either side; ``bold`` has the terms of each page."""
    known = {normal(term) for term in glossary}
    for page, found in bold.items():
        if APPENDIX.match(page):
            continue  # bold has other uses there
        for term in sorted(found.keys() - known):
            yield f"{page} has «{found[term]}» in bold, and the glossary does not"
    for term, pages in glossary.items():
        if not any(normal(term) in bold.get(page, ()) for page in pages):
            where = " and ".join(sorted(pages)) or "no page"
            yield f"the glossary's «{term}» leads to {where}, without it in bold"


def check(env: BuildEnvironment) -> Iterator[Problem]:
    """Yield the mismatches between pages and glossary."""
    pages = {name: env.get_doctree(name) for name in sorted(env.found_docs)}
    bold = {name: terms(page) for name, page in pages.items()}
    glossary = dict(entry for page in pages.values() for entry in entries(page))
    yield from map(Problem, problems(bold, glossary))
