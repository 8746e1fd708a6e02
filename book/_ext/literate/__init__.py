"""Print the library: listings, an index of its definitions, and source pages.

``{listing}`` prints a `Piece`, ``{whole-program}`` lists all definitions with links to
their listings, and every source file becomes a page, to which the captions link.
"""

from typing import Any

from sphinx.application import Sphinx

from literate import listings, program, source_pages


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directives, the role, the reference's links and the source pages."""
    app.setup_extension("sphinx.ext.autodoc")
    app.add_config_value("files_address", "", "env")  # in the links
    app.add_directive("listing", listings.Listing)
    app.add_domain(listings.ListingDomain)
    app.add_role("listing", listings.role)
    app.add_directive("whole-program", program.WholeProgram)
    app.connect("autodoc-process-docstring", program.annotate)
    app.connect("html-collect-pages", source_pages.pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
