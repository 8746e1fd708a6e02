"""Leave out what Jupyter Book puts into every page and this book does not use.

`sphinx_thebe` would run cells on a server elsewhere. It comes with Jupyter Book whether
or not it is asked for, adds scripts to each article and one that fails in each page.
"""

from sphinx.application import Sphinx

UNUSED = "sphinx_thebe"


def setup(app: Sphinx) -> dict[str, bool]:
    """Take back what the unused extension, set up before this one, has asked for."""
    for listeners in app.events.listeners.values():
        listeners[:] = [each for each in listeners if each.handler.__module__ != UNUSED]
    css_files = app.registry.css_files
    css_files[:] = [each for each in css_files if each[0] != "sphinx-thebe.css"]
    return {"parallel_read_safe": True, "parallel_write_safe": True}
