"""Render every file of the library and of the figures as a page with numbered lines.

`sphinx.ext.viewcode` renders only the modules that the reference documents, and doesn't
number lines.
"""

from collections.abc import Iterator
from typing import Any

from sphinx.application import Sphinx

from literate.pieces import Piece, language, module_of, printed_modules, scripts
from paths import REPOSITORY


def address(app: Sphinx, piece: Piece) -> str:
    """Return the URL of a piece's lines, in the repository or else on a source page."""
    if repository := app.config.files_address:
        file, _ = piece.place.split(", ")
        return f"{repository}/{file}#L{piece.first}-L{piece.last}"
    page = page_name(module_of(piece.name))
    return f"{app.builder.get_relative_uri(app.env.docname, page)}#L-{piece.first}"


def page_name(module: str) -> str:
    """Return the name of a module's source page."""
    return f"source/{module.replace('.', '/')}"


def pages(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Yield a page for each file, its lines numbered and anchored."""
    for module, path in (printed_modules() | scripts("ui")).items():
        code = app.builder.highlighter.highlight_block(  # type: ignore[attr-defined]
            path.read_text(encoding="utf-8"), language(path), linenos="inline",
            lineanchors="L",
        )  # fmt: skip
        title = path.relative_to(REPOSITORY).as_posix()
        body = f'<h1>{title}</h1>\n<div class="source">{code}</div>'
        yield page_name(module), {"title": title, "body": body}, "page.html"
