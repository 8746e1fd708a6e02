"""The ``{listing}`` directive: print a piece of the library from its file.

    ```{listing} attention.softmax
    ```

``:whole:`` prints a class with its methods, or a whole module. ``:again:`` marks a
repeated listing; every piece has one without it (see `lint.completeness`), which the
role ``{listing}`attention.softmax``` links to.
"""

import re
import textwrap
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from itertools import chain
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx import addnodes
from sphinx.domains import Domain, ObjType
from sphinx.domains.std import StandardDomain
from sphinx.util.docutils import SphinxDirective

from literate.pieces import Piece, find_pieces, joined, module_of, modules
from literate.source_pages import address
from paths import BOOK

MOST_IMPORTANT, USUAL = 0, 1  # to Sphinx's search
DIRECTIVE = re.compile(r"^```\{listing\} (\S+)\n((?::\w+:.*\n)*)```$", re.MULTILINE)


class Listing(SphinxDirective):
    """Print one piece with its file and line numbers; the page depends on the file."""

    required_arguments = 1
    option_spec: ClassVar = dict.fromkeys(("whole", "again"), directives.flag)

    def run(self) -> list[nodes.Node]:
        """Return a literal block, captioned with its file and lines."""
        try:
            pieces = find_pieces(self.arguments[0], whole="whole" in self.options)
        except LookupError as error:
            raise self.error(str(error)) from error
        whole = joined(pieces)
        self.env.note_dependency(str(whole.path))
        wrapper = nodes.container(
            "", literal_block=True, classes=["literal-block-wrapper", "listing"]
        )
        wrapper += self.caption(whole)
        wrapper += self.code(whole)
        if "again" not in self.options:
            wrapper["names"] = [label(piece.name) for piece in pieces]
            self.state.document.note_explicit_target(wrapper)
        return [wrapper]

    def caption(self, piece: Piece) -> nodes.caption:
        """Return a caption that links to the piece in its file."""
        path, lines = piece.place.split(", ")
        link = nodes.reference(refuri=address(self.env.app, piece), internal=True)
        link += [nodes.literal(path, path), nodes.Text(f", {lines}")]
        caption = nodes.caption("", "", link)
        if "again" in self.options:
            caption += nodes.Text(" (shown again)")
        self.set_source_info(caption)
        return caption

    def code(self, piece: Piece) -> nodes.literal_block:
        """Return the code, numbered as in the file."""
        code = textwrap.dedent(piece.text)
        block = nodes.literal_block(code, code)  # not highlighted if they differ
        block["language"], block["linenos"] = piece.language, True
        block["highlight_args"] = {"linenostart": piece.first}
        self.set_source_info(block)
        return block


@cache
def pages() -> dict[str, list[list[str]]]:
    """Map each page to its listings without ``:again:``, each the pieces it prints.

    Parses the pages' text before Sphinx does. Skips an unknown name, because its
    directive reports it.
    """
    found = {}
    for path in sorted(BOOK.glob("*.md")):
        found[path.stem] = printed = list[list[str]]()
        for name, options in DIRECTIVE.findall(path.read_text(encoding="utf-8")):
            if ":again:" not in options:
                with suppress(LookupError):
                    pieces = find_pieces(name, ":whole:" in options)
                    printed.append([piece.name for piece in pieces])
    return found


@cache
def printed() -> dict[str, str]:
    """Map each piece that is printed to the first piece of its listing."""
    listings = chain.from_iterable(pages().values())
    return {name: names[0] for names in listings for name in names}


def label(name: str) -> str:
    """Return the label of a piece's listing."""
    return f"listing-{name}"


class ListingDomain(Domain):
    """Have the search find a piece's listing before all else that mentions it.

    Of a name in Python and in JavaScript, it finds Python's first.
    """

    name = "listing"
    label = "library"
    object_types = {"listing": ObjType("listing")}  # noqa: RUF012, as in Sphinx

    def get_objects(self) -> Iterator[tuple[str, str, str, str, str, int]]:
        """Yield each piece that is printed, with the place of its listing."""
        std = self.env.get_domain("std")
        assert isinstance(std, StandardDomain)
        for name in printed():
            page, anchor = std.anonlabels.get(label(name), ("", ""))
            if page:
                in_python = module_of(name) in modules()
                priority = MOST_IMPORTANT if in_python else USUAL
                yield name, name, "listing", page, anchor, priority

    def merge_domaindata(self, docnames: list[str], otherdata: object) -> None:
        """Merge nothing: the labels are the standard domain's."""


def link(name: str) -> addnodes.pending_xref:
    """Return a link to a piece's listing; `theme.numbering` writes its number."""
    first = printed().get(name, name)
    return addnodes.pending_xref(
        "", nodes.inline("", "the listing"), refdomain="std", reftype="ref",
        reftarget=label(name), refexplicit=True, refwarn=True, numbered=label(first),
    )  # fmt: skip


def role(*of_role: Any) -> tuple[list[nodes.Node], list[nodes.system_message]]:
    """Return the role's link."""
    _, _, name, *_ = of_role
    return [link(name)], []
