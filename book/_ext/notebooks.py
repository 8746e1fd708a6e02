"""Offer every page as a notebook that holds its outputs and runs anywhere.

MyST-NB leaves the pages as it ran them in ``jupyter_execute``. At the end of a build
they are put in plain terms, in ``notebooks`` beside the pages, which have a button to
download them. Where the book is published on GitHub, others open them in Colab and
Binder: for these the folder is pushed to a branch called ``notebooks``.
"""

import ast
import json
import platform
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

import nbformat
from jupyter_cache import get_cache
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from sphinx.application import Sphinx

import measured
from plain import ROLES, Page, in_plain_terms, inline, is_notebook
from published import name_on_github, revision

Button = dict[str, Any]

KERNEL = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
NOTE = """\
*This notebook is a page of the book [{title}]({address}). It needs the book's
package; the next cell installs it where it is missing. The numbers in the text are
those of the outputs you see.*"""
NOTE_UNPUBLISHED = """\
*This notebook is a page of the book {title}. It needs the book's package: run
`pip install .` in the folder that holds the book. The numbers in the text are those of
the outputs you see.*"""
INSTALL = """\
try:
    import hardway
except ImportError:
    %pip install -q "{package}\""""


def write(app: Sphinx, exception: Exception | None) -> None:
    """Write the notebook of every page that has cells."""
    if exception or app.builder.name != "html":
        return
    folder = Path(app.outdir) / "notebooks"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for docname in sorted(app.env.found_docs):
        if is_notebook(app.env, docname):
            nbformat.write(notebook(app, docname), folder / file_name(docname))
    if package := published_package(app):
        (folder / "requirements.txt").write_text(f"{package}\n", encoding="utf-8")
        python = ".".join(platform.python_version_tuple()[:2])
        (folder / "runtime.txt").write_text(f"python-{python}\n", encoding="utf-8")


def file_name(docname: str) -> str:
    """Name the notebook of a page."""
    return f"{PurePosixPath(docname).name}.ipynb"


def published_package(app: Sphinx) -> str:
    """Return what pip installs the package by, or nothing where it is not published."""
    repository, at = app.config.repository, revision(app.config)
    return f"hardway @ git+{repository}@{at}" if repository else ""


def notebook(app: Sphinx, docname: str) -> NotebookNode:
    """Make the notebook of one page from what MyST-NB ran."""
    path = Path(app.outdir).parent / "jupyter_execute" / f"{docname}.ipynb"
    values = glued_values(path.with_suffix(".glue.json"))
    page = Page(app.env, docname, values, app.config.html_baseurl)
    cells = [*opening(app, docname)]
    for cell in executed(app, path).cells:
        if cell.cell_type == "markdown":
            cells.append(new_markdown_cell(in_plain_terms(page, cell.source)))
        else:
            cells += code(page, cell)
    for number, cell in enumerate(cells):
        cell.id = f"cell-{number}"  # the same in every build
    return new_notebook(cells=cells, metadata=KERNEL)


def executed(app: Sphinx, path: Path) -> NotebookNode:
    """Read a notebook with its outputs.

    Where MyST-NB took them from its cache, it wrote the notebook without them.
    """
    notebook = nbformat.read(path, as_version=4)
    with suppress(KeyError):  # a page may be exempt from the cache
        cache = get_cache(app.config.nb_execution_cache_path)
        _, notebook = cache.merge_match_into_notebook(notebook)
    return notebook


def opening(app: Sphinx, docname: str) -> Iterator[NotebookNode]:
    """Say what the notebook is and what it needs, and fetch that where it can be."""
    package = published_package(app)
    note = NOTE if package else NOTE_UNPUBLISHED
    site = app.config.html_baseurl
    address = f"{site}{docname}.html" if site else app.config.repository
    yield new_markdown_cell(note.format(title=app.config.html_title, address=address))
    if package:
        yield new_code_cell(INSTALL.format(package=package))


def code(page: Page, cell: NotebookNode) -> Iterator[NotebookNode]:
    """Keep a cell with its outputs; its picture is described as on the page."""
    if not cell.execution_count:
        page.warn(f"a cell was not run: {cell.source[:40]}")
    wishes = cell.metadata.get("mystnb", {})
    outputs = [output for output in cell.outputs if not is_glue(output)]
    for output in outputs:
        if "image/png" in output.get("data", {}):
            output.metadata = {"image/png": {"alt": alt_text(page, cell)}}
    metadata = {key: cell.metadata[key] for key in cell.metadata if key != "mystnb"}
    yield new_code_cell(
        cell.source,
        outputs=outputs,
        execution_count=cell.execution_count,
        metadata=metadata,
    )
    if "measured" in metadata.get("tags", []):
        yield new_markdown_cell(f"_{measured.NOTE}_")
    if figure := wishes.get("figure"):
        number = ROLES["numref"](page, figure["name"])
        caption = inline(page, figure["caption"])
        yield new_markdown_cell(f"_{number}. {caption}_")


def alt_text(page: Page, cell: NotebookNode) -> str:
    """Return what a cell says for those who do not see its picture."""
    alt: str = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
    if not alt:
        page.warn(f"a picture has no alt text: {cell.source[:40]}")
    return alt


def is_glue(output: NotebookNode) -> bool:
    """Say whether an output is a value recorded for the prose, not one to see."""
    return "scrapbook" in output.get("metadata", {})


def glued_values(record: Path) -> dict[str, str]:
    """Read what the cells of a page recorded for its prose to quote."""
    if not record.is_file():
        return {}
    outputs = json.loads(record.read_text(encoding="utf-8"))
    return {
        name: str(ast.literal_eval(output["data"]["text/plain"]))
        for name, output in outputs.items()
    }


def add_buttons(
    app: Sphinx, docname: str, template: str, context: dict[str, Any], doctree: object
) -> None:
    """Put the notebook among a page's downloads, and what opens it at once beside."""
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
    """Return the buttons that open a notebook where nothing has to be installed."""
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
    """Return a link in a form that the theme understands."""
    return {"type": "link", "text": text, "url": url, "tooltip": tooltip, "icon": icon}


def setup(app: Sphinx) -> dict[str, bool]:
    """Add buttons after the theme's own; write the notebooks after the pages."""
    app.connect("html-page-context", add_buttons, priority=600)
    app.connect("build-finished", write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
