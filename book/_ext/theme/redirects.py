"""Keep the addresses of pages that were renamed or removed.

`redirects` in ``_config.yml`` maps an old page to the page, or its section, that took
its place: a page written there sends the reader on.
"""

from collections.abc import Iterator
from typing import Any

from sphinx.application import Sphinx
from sphinx.errors import ConfigError


def pages(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Yield a page for each old address; raise if its successor doesn't exist."""
    for old, new in app.config.redirects.items():
        page, _, section = new.partition("#")
        if old in app.env.found_docs or page not in app.env.found_docs:
            raise ConfigError(f"redirects: {old} must be gone, and {page} a page")
        address = app.builder.get_relative_uri(old, page)
        address += f"#{section}" if section else ""
        title = app.env.titles[page].astext()
        yield old, {"title": title, "address": address}, "redirect.html"
