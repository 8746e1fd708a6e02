"""Write the notebooks into ``notebooks`` beside the pages at the end of a build.

They are MyST-NB's, from ``jupyter_execute``, converted to plain Markdown, with the data
files they read. On GitHub, the folder is pushed to the branch ``notebooks``, from which
Colab and Binder open it.
"""

import ast
import json
import platform
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

import nbformat
from jupyter_cache import get_cache
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from sphinx.application import Sphinx

from execution.measured import NOTE as MEASURED
from execution.measured import is_measured
from execution.provenance import data_files
from notebooks.plain import ROLES, Page, in_plain_terms, inline, is_notebook
from theme.publishing import revision

# Copies for readers without a server: a script can't read a notebook from a file, but
# can load another script that hands it one.
COPIES = "_static/notebooks"
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
`pip install ".[plots]"` in the folder that holds the book. The numbers in the text are
those of the outputs you see.*"""
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
    copies = Path(app.outdir) / COPIES
    for empty in (folder, copies):
        shutil.rmtree(empty, ignore_errors=True)
        empty.mkdir()
    for docname in sorted(app.env.found_docs):
        if is_notebook(app.env, docname):
            text = nbformat.writes(notebook(app, docname)) + "\n"
            (folder / file_name(docname)).write_text(text, encoding="utf-8")
            script = f"saveNotebook({json.dumps(text)});\n"
            (copies / f"{file_name(docname)}.js").write_text(script, encoding="utf-8")
            for data in data_files(Path(app.env.doc2path(docname)).parent):
                shutil.copy2(data, folder)
    if package := published_package(app):
        (folder / "requirements.txt").write_text(f"{package}\n", encoding="utf-8")
        python = ".".join(platform.python_version_tuple()[:2])
        (folder / "runtime.txt").write_text(f"python-{python}\n", encoding="utf-8")


def file_name(docname: str) -> str:
    """Return the file name of a page's notebook."""
    return f"{PurePosixPath(docname).name}.ipynb"


def published_package(app: Sphinx) -> str:
    """Return the package's pip requirement, or "" if it isn't published."""
    repository, at = app.config.repository, revision(app.config)
    return f"hardway[plots] @ git+{repository}@{at}" if repository else ""


def notebook(app: Sphinx, docname: str) -> NotebookNode:
    """Convert the notebook that MyST-NB ran for a page."""
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
    written: NotebookNode = new_notebook(cells=cells, metadata=KERNEL)
    return written


def executed(app: Sphinx, path: Path) -> NotebookNode:
    """Read a notebook, with the outputs that MyST-NB left in its cache."""
    notebook: NotebookNode = nbformat.read(path, as_version=4)
    with suppress(KeyError):  # not in the cache
        cache = get_cache(app.config.nb_execution_cache_path)
        _, notebook = cache.merge_match_into_notebook(notebook)
    return notebook


def opening(app: Sphinx, docname: str) -> Iterator[NotebookNode]:
    """Yield the introduction, and a cell that installs the package if published."""
    package = published_package(app)
    note = NOTE if package else NOTE_UNPUBLISHED
    site = app.config.html_baseurl
    address = f"{site}{docname}.html" if site else app.config.repository
    yield new_markdown_cell(note.format(title=app.config.html_title, address=address))
    if package:
        yield new_code_cell(INSTALL.format(package=package))


def code(page: Page, cell: NotebookNode) -> Iterator[NotebookNode]:
    """Yield a cell with its outputs, alt text and caption."""
    if not cell.execution_count:
        page.warn(f"a cell was not run: {cell.source[:40]}")
    wishes = cell.metadata.get("mystnb", {})
    outputs = [output for output in cell.outputs if not is_glue(output)]
    for output in outputs:
        if "image/png" in output.get("data", {}):
            output.data.pop("image/svg+xml", None)  # which not all viewers show
            output.metadata = {"image/png": {"alt": alt_text(page, cell)}}
    metadata = {key: cell.metadata[key] for key in cell.metadata if key != "mystnb"}
    kept = {"execution_count": cell.execution_count, "metadata": metadata}
    yield new_code_cell(cell.source, outputs=outputs, **kept)
    if is_measured(cell):
        yield new_markdown_cell(f"_{MEASURED}_")
    if figure := wishes.get("figure"):
        number = ROLES["numref"](page, figure["name"])
        caption = inline(page, figure["caption"])
        yield new_markdown_cell(f"_{number}. {caption}_")


def alt_text(page: Page, cell: NotebookNode) -> str:
    """Return the alt text of a cell's figure, or warn."""
    alt: str = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
    if not alt:
        page.warn(f"a picture has no alt text: {cell.source[:40]}")
    return alt


def is_glue(output: NotebookNode) -> bool:
    """Return whether an output is a glued value."""
    return "scrapbook" in output.get("metadata", {})


def glued_values(record: Path) -> dict[str, str]:
    """Read the values that a page's cells glued."""
    if not record.is_file():
        return {}
    outputs = json.loads(record.read_text(encoding="utf-8"))
    return {
        name: str(ast.literal_eval(output["data"]["text/plain"]))
        for name, output in outputs.items()
    }
