"""Say what a page is about, to search engines, and how long it takes, to the reader.

The description is the page's own, from its front matter (``description:``) or else the
paragraphs before its first section. Prose is read at `WORDS_A_MINUTE`; code, which
isn't read that fast, is counted apart.
"""

import textwrap
from html import escape
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx

WORDS_A_MINUTE = 200
LONGEST = 200  # characters of a description, about what search engines show
# Paragraphs in a table, the reference, the bibliography, the glossary.
LOOKED_UP = (nodes.entry, addnodes.desc_content, nodes.citation, addnodes.glossary)
TIME = "reading-time"  # its class
CODE = ("python", "ipython3")  # the languages of listings and cells; output has others


def describe(
    app: Sphinx,
    page: str,
    template: str,
    context: dict[str, Any],
    doctree: nodes.document | None,
) -> None:
    """Add the description to the page's head, and to the card that is shared."""
    if doctree is None:
        return
    meta = context.get("meta") or {}
    text = description(doctree, meta.get("description", ""))
    if text:
        tag = f'<meta name="description" content="{escape(text)}" />\n'
        context["metatags"] = context.get("metatags", "") + tag
        context["meta"] = meta | {"og:description": text}


def description(doctree: nodes.document, own: str = "") -> str:
    """Return a page's own description, or how its text begins."""
    first = doctree.next_node(nodes.section)
    opening = (node for node in first or () if isinstance(node, nodes.paragraph))
    text = " ".join(node.astext() for node in opening if TIME not in node["classes"])
    return textwrap.shorten(own or text, LONGEST, placeholder=" …")


def state_time(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """Put the reading time below the title of a page, except the book's first."""
    title = doctree.next_node(nodes.title)
    if page != app.config.root_doc and title is not None and (text := time(doctree)):
        place = title.parent.index(title) + 1
        title.parent.insert(place, nodes.paragraph("", text, classes=[TIME]))


def time(doctree: nodes.document) -> str:
    """Return how long the page's prose takes, and how many lines of code it has."""
    prose = filter(is_prose, doctree.findall(nodes.paragraph))
    words = sum(len(paragraph.astext().split()) for paragraph in prose)
    blocks = doctree.findall(nodes.literal_block)
    code = [block.astext() for block in blocks if block.get("language") in CODE]
    lines = sum(len(text.splitlines()) for text in code)
    minutes = round(words / WORDS_A_MINUTE)
    if not minutes:
        return ""
    reading = f"{minutes} minute{'s' * (minutes > 1)} of prose"
    return f"{reading}, {lines:,} lines of code" if lines else reading


def is_prose(node: nodes.Node) -> bool:
    """Return whether a paragraph is read in turn, not looked up."""
    while (node := node.parent) is not None:
        if isinstance(node, LOOKED_UP):
            return False
    return True
