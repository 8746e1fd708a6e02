"""The ``{listing}`` directive: print a piece of the library as it stands in the file.

    ```{listing} attention.softmax
    ```

``:whole:`` prints a class with its methods, or a module to its end. ``:again:`` marks a
piece that another listing has shown already, and the page says so. A piece that no
listing shows, or that two show without the mark, is a warning, and a warning fails the
build: no line is hidden. The role ``{listing}`attention.softmax``` leads to a listing.
"""

import re
import textwrap
from collections import defaultdict
from contextlib import suppress
from functools import cache
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from pieces import REPOSITORY, Piece, find_pieces, joined, modules, partition, strays
from sources import address

BOOK = REPOSITORY / "book"
DIRECTIVE = re.compile(r"^```\{listing\} (\S+)\n((?::\w+:.*\n)*)```$", re.MULTILINE)

logger = logging.getLogger(__name__)


class Listing(SphinxDirective):
    """Show one piece with its file and line numbers; the page depends on the file."""

    required_arguments = 1
    option_spec: ClassVar = {"whole": directives.flag, "again": directives.flag}

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
            shown(self.env)[self.env.docname] += [piece.name for piece in pieces]
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


def shown(env: BuildEnvironment) -> defaultdict[str, list[str]]:
    """Return the names of the pieces that each page shows for the first time."""
    if not hasattr(env, "listings"):
        env.listings = defaultdict(list)
    return env.listings


def forget(app: Sphinx, env: BuildEnvironment, docname: str) -> None:
    """Drop what a page showed before it is read again."""
    shown(env).pop(docname, None)


def merge(
    app: Sphinx, env: BuildEnvironment, docnames: list[str], other: BuildEnvironment
) -> None:
    """Take over what another process read."""
    shown(env).update({name: shown(other)[name] for name in docnames})


def check(app: Sphinx, env: BuildEnvironment) -> None:
    """Warn of every piece that is hidden, and of every one that is doubled."""
    for problem in problems(shown(env)):
        logger.warning(problem, type="listing")


def problems(shown: dict[str, list[str]]) -> list[str]:
    """Say which pieces of the library the pages do not show exactly once."""
    pages = defaultdict(list)
    for page, names in shown.items():
        for name in names:
            pages[name].append(page)
    found = [f"hidden: no page can show {path}, in a folder" for path in strays()]
    for piece in (piece for module in modules() for piece in partition(module)):
        where = pages[piece.name]
        if not where:
            found.append(f"hidden: no page shows {piece.name} ({piece.place})")
        elif len(where) > 1:
            found.append(f"doubled: {piece.name} is shown in {' and '.join(where)}")
    return found


def setup(app: Sphinx) -> dict[str, int]:
    """Register the directive, and the check at the end of reading."""
    app.add_directive("listing", Listing)
    app.add_role("listing", role)
    app.connect("env-purge-doc", forget)
    app.connect("env-merge-info", merge)
    app.connect("env-check-consistency", check)
    return {
        "env_version": 2,  # raise it, and every page is read again
        "parallel_read_safe": True,
        "parallel_write_safe": True,
    }
