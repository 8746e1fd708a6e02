"""Add buttons that download a page's notebook, or open it in Colab or Binder."""

from typing import Any

from sphinx.application import Sphinx

from notebooks.plain import is_notebook
from notebooks.writing import file_name
from theme.publishing import name_on_github

Button = dict[str, Any]


def add(
    app: Sphinx, docname: str, template: str, context: dict[str, Any], doctree: object
) -> None:
    """Add the download button, and the launch buttons if the book is on GitHub."""
    if not is_notebook(app.env, docname):
        return
    name = file_name(docname)
    address = context["pathto"](f"notebooks/{name}", resource=True)
    download = button(".ipynb", address, "Download notebook", "fas fa-code")
    groups = {group.get("label"): group for group in context["header_buttons"]}
    groups["download-buttons"]["buttons"].insert(0, download)
    if on_github := name_on_github(app.config.repository):
        context["header_buttons"].insert(0, launches(on_github, name))


def launches(on_github: str, name: str) -> Button:
    """Return the launch buttons for Colab and Binder."""
    colab = (
        f"https://colab.research.google.com/github/{on_github}/blob/notebooks/{name}"
    )
    binder = f"https://mybinder.org/v2/gh/{on_github}/notebooks?urlpath=lab/tree/{name}"
    logos = "_static/images/logo_"
    return {
        "type": "group",
        "label": "launch-buttons",
        "icon": "fas fa-rocket",
        "tooltip": "Run this page",
        "buttons": [
            button("Colab", colab, "Run this page on Colab", f"{logos}colab.png"),
            button("Binder", binder, "Run this page on Binder", f"{logos}binder.svg"),
        ],
    }


def button(text: str, url: str, tooltip: str, icon: str) -> Button:
    """Return a button as the theme expects it."""
    return {"type": "link", "text": text, "url": url, "tooltip": tooltip, "icon": icon}
