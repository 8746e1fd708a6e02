"""The ``{living}`` directive: a figure in which the model thinks in the browser.

    ```{living} attention browser.model.attention
    The caption.
    ```

The argument names the figure, and the listings that compute it. Without its script, and
in the notebook, it's a table that the library made for the build.
"""

import shutil
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from literate import listings
from theme import browser, still

MARK = 'data-figure="'


class Living(SphinxDirective):
    """Place a figure; the text is its caption."""

    required_arguments = 1
    optional_arguments = 1
    final_argument_whitespace = True
    has_content = True

    def run(self) -> list[nodes.Node]:
        """Return the figure, its table for now, its caption and its listings."""
        name, *lines = " ".join(self.arguments).split()
        if name not in browser.defaults():
            raise self.error(f"no living figure is called {name!r}")
        figure = nodes.figure(names=[f"living-{name}"], classes=["living"])
        self.set_source_info(figure)
        figure += nodes.raw("", self.placed(name), format="html")
        text = self.parse_content_to_nodes()
        caption = nodes.caption("", "", *text[0].children)
        caption += nodes.Text(" The lines that compute it: ")
        for number, listing in enumerate(lines):
            caption += [nodes.Text(", " if number else ""), listings.link(listing)]
        caption += nodes.Text(".")
        figure += caption
        self.state.document.note_explicit_target(figure)
        return [figure]

    def placed(self, name: str) -> str:
        """Return the element that the script fills, with the table of the build."""
        return f'<div {MARK}{name}">{still.table(name)}</div>'


def load(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object
) -> None:
    """Load the program, its style, and what the figures of a page show at first."""
    found = [
        name
        for name in browser.defaults()
        if f'{MARK}{name}"' in context.get("body", "")
    ]
    if not found:
        return
    for kind in ("figures", *(f"recorded-{name}" for name in found)):
        app.add_js_file(f"{browser.FOLDER}/{browser.named(kind, '.js')}", defer="defer")
    app.add_css_file(f"{browser.FOLDER}/{browser.named('figures', '.css')}")


def write(app: Sphinx, exception: Exception | None) -> None:
    """Write the figures' files at the end of a build."""
    if exception or app.builder.name != "html":
        return
    folder = Path(app.outdir) / "_static" / browser.FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, content in browser.files().items():
        (folder / name).write_bytes(content)
