"""Offer every page as a notebook that holds its outputs and runs anywhere.

`writing` makes the notebooks from what the pages ran, `plain` puts MyST's Markdown in
plain terms, and `buttons` lead to them.
"""

from typing import Any

from sphinx.application import Sphinx

from notebooks import buttons, writing


def setup(app: Sphinx) -> dict[str, Any]:
    """Add buttons after the theme's own; write the notebooks after the pages."""
    app.connect("html-page-context", buttons.add, priority=600)
    app.connect("build-finished", writing.write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
