"""Print the library in the book: listings, a map of the program, pages of its files.

A `Piece` is the unit: the directive ``{listing}`` prints one, ``{whole-program}`` lists
all definitions with links to their listings, and every file of the library becomes a
page, to which the captions lead.
"""

from typing import Any

from sphinx.application import Sphinx

from literate import listings, program, source_pages


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directives, the role, and the links of the reference."""
    app.setup_extension("sphinx.ext.autodoc")
    # Where the address changes, pages are read again, for the links in them.
    app.add_config_value("files_address", "", "env")
    app.add_directive("listing", listings.Listing)
    app.add_role("listing", listings.role)
    app.add_directive("whole-program", program.WholeProgram)
    app.connect("autodoc-process-docstring", program.annotate)
    app.connect("html-collect-pages", source_pages.pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
