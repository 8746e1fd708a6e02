"""Make a page of every file of the library and of its tests, to which links can lead.

A listing leads to its place there, or in the repository where one is published; the
name of a test leads to the test.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

from names import TESTS
from pieces import LIBRARY, REPOSITORY, Piece, modules


def address(app: Sphinx, piece: Piece) -> str:
    """Return where a reader finds the lines of a piece, from the page being read."""
    return place(app, piece.path, piece.first, piece.last)


def place(app: Sphinx, path: Path, first: int, last: int) -> str:
    """Return where lines of a file are, from the page being read."""
    if repository := app.config.files_address:
        file = path.relative_to(REPOSITORY).as_posix()
        return f"{repository}/{file}#L{first}-L{last}"
    return own_place(app, path, first)


def own_place(app: Sphinx, path: Path, line: int) -> str:
    """Return where the book itself shows a line of a file, from the page being read."""
    page = app.builder.get_relative_uri(app.env.docname, page_name(path))
    return f"{page}#L-{line}"


def page_name(path: Path) -> str:
    """Return the name of a file's page."""
    return f"source/{path.stem}"


def pages(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Yield one page for each file, its lines numbered and anchored."""
    for path in [*(LIBRARY / f"{name}.py" for name in modules()), *tests()]:
        code = app.builder.highlighter.highlight_block(
            path.read_text(encoding="utf-8"), "python", linenos="inline",
            lineanchors="L",
        )  # fmt: skip
        title = path.relative_to(REPOSITORY).as_posix()
        body = f'<h1>{title}</h1>\n<div class="source">{code}</div>'
        yield page_name(path), {"title": title, "body": body}, "page.html"


def tests() -> list[Path]:
    """Return the files of the tests."""
    return sorted(TESTS.glob("test_*.py"))


def setup(app: Sphinx) -> dict[str, bool]:
    """Write the pages when the chapters are written."""
    app.connect("html-collect-pages", pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
