"""Make a page of every file of the library, to whose lines the captions lead.

`sphinx.ext.viewcode` shows only what the reference documents: no private function, no
command line, no line numbers.
"""

from collections.abc import Iterator
from typing import Any

from sphinx.application import Sphinx

from literate.pieces import REPOSITORY, Piece, module_of, modules


def address(app: Sphinx, piece: Piece) -> str:
    """Return where the lines of a piece are: in the repository, or on a page here."""
    if repository := app.config.files_address:
        file, _ = piece.place.split(", ")
        return f"{repository}/{file}#L{piece.first}-L{piece.last}"
    page = page_name(module_of(piece.name))
    return f"{app.builder.get_relative_uri(app.env.docname, page)}#L-{piece.first}"


def page_name(module: str) -> str:
    """Return the name of a module's page."""
    return f"source/{module.replace('.', '/')}"


def pages(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Yield one page for each file, its lines numbered and anchored."""
    for module, path in modules().items():
        code = app.builder.highlighter.highlight_block(  # type: ignore[attr-defined]
            path.read_text(encoding="utf-8"), "python", linenos="inline",
            lineanchors="L",
        )  # fmt: skip
        title = path.relative_to(REPOSITORY).as_posix()
        body = f'<h1>{title}</h1>\n<div class="source">{code}</div>'
        yield page_name(module), {"title": title, "body": body}, "page.html"
