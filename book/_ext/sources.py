"""Make a page of every file of the library, so that a listing can lead to its place.

Where a repository is published, listings lead there instead.
"""

from collections.abc import Iterator
from typing import Any

from sphinx.application import Sphinx

from pieces import LIBRARY, REPOSITORY, Piece, modules


def address(app: Sphinx, piece: Piece) -> str:
    """Return where a reader finds the lines of a piece, from the page being read."""
    path = piece.path.relative_to(REPOSITORY).as_posix()
    if repository := app.config.files_address:
        return f"{repository}/{path}#L{piece.first}-L{piece.last}"
    page = app.builder.get_relative_uri(app.env.docname, page_name(piece.path.stem))
    return f"{page}#L-{piece.first}"


def page_name(module: str) -> str:
    """Return the name of a module's page."""
    return f"source/{module}"


def pages(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Yield one page for each file, its lines numbered and anchored."""
    for module in modules():
        path = LIBRARY / f"{module}.py"
        code = app.builder.highlighter.highlight_block(
            path.read_text(encoding="utf-8"), "python", linenos="inline",
            lineanchors="L",
        )  # fmt: skip
        title = path.relative_to(REPOSITORY).as_posix()
        body = f'<h1>{title}</h1>\n<div class="source">{code}</div>'
        yield page_name(module), {"title": title, "body": body}, "page.html"


def setup(app: Sphinx) -> dict[str, bool]:
    """Write the pages when the chapters are written."""
    app.connect("html-collect-pages", pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
