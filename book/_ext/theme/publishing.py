"""Derive every published URL from one setting, ``repository: url`` in ``_config.yml``.

If it is empty, a build on GitHub Actions uses its own repository; any other build has
no repository buttons and no OpenGraph card.
"""

import os
from typing import Any
from urllib.parse import urlsplit

from sphinx.application import Sphinx
from sphinx.config import Config

BUTTONS = ("repository", "issues", "edit_page", "source")
MISSING_PAGE = """<h1>There is no such page</h1>
<p>The address you followed leads nowhere in this book: perhaps a page was renamed, or a
letter was lost on the way.</p>
<p>Start <a href="{root}book/index.html">at the beginning</a>, or
<a href="{root}search.html">search the book</a>, its code included.</p>"""


def repository(configured: str) -> str:
    """Return the repository's URL, or "" if the book isn't published."""
    server = os.environ.get("GITHUB_SERVER_URL", "")
    name = os.environ.get("GITHUB_REPOSITORY", "")
    here = f"{server}/{name}" if server and name else ""
    return (configured or here).rstrip("/")


def name_on_github(repository: str) -> str:
    """Return ``owner/name``, or "" if the repository isn't on GitHub."""
    parts = urlsplit(repository)
    return parts.path.strip("/") if parts.netloc == "github.com" else ""


def pages_address(repository: str) -> str:
    """Return the GitHub Pages URL of a repository, or ""."""
    on_github = name_on_github(repository)
    if not on_github:
        return ""
    owner, name = on_github.split("/")
    host = f"{owner.lower()}.github.io"
    return f"https://{host}/" if name.lower() == host else f"https://{host}/{name}/"


def revision(config: Config) -> str:
    """Return what is built: the commit, if GitHub Actions names it, or the branch."""
    branch = config.html_theme_options.get("repository_branch", "main")
    return os.environ.get("GITHUB_SHA") or branch


def files_address(config: Config) -> str:
    """Return the base URL of the repository's files, or ""."""
    at = revision(config)
    return f"{config.repository}/blob/{at}" if config.repository else ""


def configure(app: Sphinx, config: Config) -> None:
    """Set the URLs that the theme and the extensions read."""
    options = config.html_theme_options
    config.repository = repository(options.get("repository_url", ""))
    options["repository_url"] = config.repository
    config.files_address = files_address(config)
    for button in BUTTONS:
        options[f"use_{button}_button"] = bool(config.repository)
    pages = config.html_baseurl or pages_address(config.repository)
    config.html_baseurl = config.ogp_site_url = pages and pages.rstrip("/") + "/"
    root = urlsplit(config.html_baseurl).path or "/"
    config.notfound_urls_prefix = root
    config.notfound_context = {
        "title": "There is no such page",
        "body": MISSING_PAGE.format(root=root),
    }


def leave_out_card(
    app: Sphinx, page: str, template: str, context: dict[str, Any], *rest: object
) -> None:
    """Disable the card if the site has no URL."""
    if not app.config.ogp_site_url:
        context["meta"] = {**(context.get("meta") or {}), "ogp_disable": True}
