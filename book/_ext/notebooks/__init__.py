"""Export every page as an executed notebook that runs anywhere.

`writing` writes the notebooks, `plain` converts MyST to plain Markdown, and `buttons`
links the pages to them.
"""

from typing import Any

from sphinx.application import Sphinx

from notebooks import buttons, writing


def setup(app: Sphinx) -> dict[str, Any]:
    """Add buttons after the theme's, and write the notebooks after the pages."""
    app.connect("html-page-context", buttons.add, priority=600)
    app.connect("build-finished", writing.write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
