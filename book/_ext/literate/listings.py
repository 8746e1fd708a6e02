"""The ``{listing}`` directive: print a piece of the library as it stands in the file.

    ```{listing} attention.softmax
    ```

``:whole:`` prints a class with its methods, or a module to its end. ``:again:`` marks a
piece that another listing has shown already, and the page says so: every piece has one
listing without the mark (see `lint.coverage`), to which the role
``{listing}`attention.softmax``` leads.
"""

import re
import textwrap
from contextlib import suppress
from functools import cache
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx import addnodes
from sphinx.util.docutils import SphinxDirective

from literate.pieces import REPOSITORY, Piece, find_pieces, joined
from literate.source_pages import address

BOOK = REPOSITORY / "book"
DIRECTIVE = re.compile(r"^```\{listing\} (\S+)\n((?::\w+:.*\n)*)```$", re.MULTILINE)


class Listing(SphinxDirective):
    """Show one piece with its file and line numbers; the page depends on the file."""

    required_arguments = 1
    option_spec: ClassVar = dict.fromkeys(("whole", "again"), directives.flag)

    def run(self) -> list[nodes.Node]:
        """Return the literal block, captioned with the place it was taken from."""
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
        """Say where the piece stands, with a link to it there."""
        path, lines = piece.place.split(", ")
        link = nodes.reference(refuri=address(self.env.app, piece), internal=True)
        link += [nodes.literal(path, path), nodes.Text(f", {lines}")]
        caption = nodes.caption("", "", link)
        if "again" in self.options:
            caption += nodes.Text(" (shown again)")
        self.set_source_info(caption)
        return caption

    def code(self, piece: Piece) -> nodes.literal_block:
        """Show the lines, numbered as in the file."""
        code = textwrap.dedent(piece.text)
        block = nodes.literal_block(code, code)  # where the two differ: no highlighting
        block["language"], block["linenos"] = "python", True
        block["highlight_args"] = {"linenostart": piece.first}
        self.set_source_info(block)
        return block


@cache
def pages() -> dict[str, list[str]]:
    """Map each chapter's name to the pieces that it prints for the first time.

    This reads the chapters' text, before Sphinx does, and once in a build. A name that
    the library does not have is left out: its listing says so.
    """
    found = {}
    for path in sorted(BOOK.glob("*.md")):
        found[path.stem] = names = list[str]()
        for name, options in DIRECTIVE.findall(path.read_text(encoding="utf-8")):
            if ":again:" not in options:
                with suppress(LookupError):
                    pieces = find_pieces(name, ":whole:" in options)
                    names += [piece.name for piece in pieces]
    return found


def printed() -> dict[str, str]:
    """Map each piece to what prints it: a chapter with its number, or an appendix."""
    return {
        name: f"chapter {int(page[:2])}" if page[:2].isdigit() else "an appendix"
        for page, names in pages().items()
        for name in names
    }


def label(name: str) -> str:
    """Return the name of the listing's place."""
    return f"listing-{name}"


def link(name: str) -> addnodes.pending_xref:
    """Return a link to a piece's listing; it reads «chapter 4», or «an appendix»."""
    text = nodes.inline("", printed().get(name, "no page"))
    return addnodes.pending_xref(
        "", text, refdomain="std", reftype="ref", reftarget=label(name),
        refexplicit=True, refwarn=True,
    )  # fmt: skip


def role(*of_role: Any) -> tuple[list[nodes.Node], list[nodes.system_message]]:
    """Make the link that the role asks for."""
    _, _, name, *_ = of_role
    return [link(name)], []
