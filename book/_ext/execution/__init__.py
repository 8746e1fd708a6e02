"""Run the pages' cells, and record in every page what it ran on.

`running` executes notebooks into the cache that MyST-NB reads, `provenance` keys that
cache on everything a run depends on (`facts`), `measured` marks timings, and `escaping`
makes control characters visible.
"""

from typing import Any

from sphinx.application import Sphinx

from execution import measured, provenance, running


def setup(app: Sphinx) -> dict[str, Any]:
    """Key the cache, run the pages before they are read, write the footers."""
    app.add_config_value("provenance", {}, "env")
    app.add_config_value("page_making", "", "env")  # changes with the extensions
    app.connect("config-inited", provenance.configure)
    app.connect("env-before-read-docs", running.run_ahead)
    app.connect("doctree-read", measured.mark)
    app.connect("html-page-context", provenance.add_footer)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
