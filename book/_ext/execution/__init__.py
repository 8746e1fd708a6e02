"""Run the cells of the pages, and have every page say what it ran on.

`running` executes notebooks into the cache that MyST-NB reads, `provenance` names that
cache after all a run depends on (`facts`), `measured` marks what a clock said, and
`escaping` makes control characters visible.
"""

from typing import Any

from sphinx.application import Sphinx

from execution import measured, provenance, running


def setup(app: Sphinx) -> dict[str, Any]:
    """Key the cache, run the pages before they are read, write the footers."""
    app.add_config_value("provenance", {}, "env")
    app.add_config_value("page_making", "", "env")  # other extensions: other pages
    app.connect("config-inited", provenance.configure)
    app.connect("env-before-read-docs", running.run_ahead)
    app.connect("doctree-read", measured.mark)
    app.connect("html-page-context", provenance.add_footer)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
