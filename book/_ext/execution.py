"""Run the cells of a chapter: keep what they print as printed, and what they ran on.

A kernel sends its output in parts, cut wherever a timer ran out. MyST-NB joins them
with line breaks of its own, so that a busy machine could break a line of a page in two.
The notebook client can join them unchanged; it only has to be asked.

What a cell prints may come from a model or a file, that is, from strangers. HTML in it
Sphinx escapes; characters that act instead of being seen are escaped here.

When all cells are done, the kernel itself is asked what it ran on. The answer stays
with the notebook, in the cache too, where `provenance` reads it.

Sphinx reads one page after the other, and would run them so. Instead those whose run
the cache lacks are run before the reading, two at a time, which then finds them there.
"""

import json
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbclient
import nbformat
import psutil
from docutils.utils import new_document
from jupyter_cache import get_cache
from jupyter_cache.executors import utils
from myst_nb.core.execute import create_client
from myst_nb.core.execute.base import ExecutionError, NotebookClientBase
from myst_nb.core.loggers import SphinxDocLogger
from myst_nb.core.read import create_nb_reader
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.errors import SphinxError

from acting import escaped

AT_ONCE = 2  # each may have a model of full size in memory

QUESTION = f"""
import json, sys
sys.path.append({str(Path(__file__).parent)!r})
from facts import facts
print(json.dumps(facts()))
"""


def execute(notebook: nbformat.NotebookNode, *args: Any, **options: Any) -> None:
    """Run every cell, then one more, whose output becomes the notebook's metadata."""
    notebook.cells.append(nbformat.v4.new_code_cell(QUESTION))
    try:
        # A kernel that has answered has nothing to save, and takes a second to tidy up.
        nbclient.execute(
            notebook,
            *args,
            coalesce_streams=True,
            shutdown_kernel="immediate",
            **options,
        )
    finally:
        question = notebook.cells.pop()
    answer = json.loads(question.outputs[0].text)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            escape(output)
    # Of a notebook's metadata, the cache keeps this part.
    notebook.metadata["language_info"]["ran_on"] = answer


def escape(output: nbformat.NotebookNode) -> None:
    """Escape what acts in an output's text: printed, the value of a cell, or glued."""
    texts = output.get("data", output)
    for kind, text in texts.items():
        if "text" in kind and isinstance(text, str):
            texts[kind] = escaped(text)


def run_ahead(app: Sphinx, env: BuildEnvironment, pages: list[str]) -> None:
    """Run pages before they are read; one that the cache has costs nothing here.

    Where a cell measures time, the page waits until it has the machine to itself.
    """
    if env.mystnb_config.execution_mode != "cache":
        return
    cache = get_cache(env.mystnb_config.execution_cache_path)
    _ = cache.db  # made here, not by two at a time
    clients = {}  # by what is run: of two pages with the same cells, one
    for page in pages:
        path = env.doc2path(page)
        text = Path(path).read_text(encoding="utf-8")
        reader = create_nb_reader(path, env.myst_config, env.mystnb_config, text)
        if reader is None:
            continue  # no cells
        notebook = reader.read(text)
        if any("measured" in cell.metadata.get("tags", ()) for cell in notebook.cells):
            continue
        document = new_document(path)
        document.settings.env = SimpleNamespace(docname=page)  # the name in its log
        logger = SphinxDocLogger(document)
        _, key = cache.create_hashed_notebook(notebook)
        clients[key] = create_client(
            notebook, path, env.mystnb_config, logger, reader.read_fmt
        )
    run_clients(list(clients.values()))


def run_clients(clients: list[NotebookClientBase]) -> None:
    """Run some at once. One that fails ends the build, when those that run are done."""

    def run(client: NotebookClientBase) -> None:
        with client:
            pass  # it ran, or was found

    with ThreadPoolExecutor(AT_ONCE) as pool:
        try:
            for done in as_completed([pool.submit(run, client) for client in clients]):
                done.result()
        except ExecutionError as failed:
            pool.shutdown(wait=False, cancel_futures=True)
            raise SphinxError(f"{failed}: a cell failed, as said above") from failed
        except KeyboardInterrupt:  # of which the kernels do not hear
            pool.shutdown(wait=False, cancel_futures=True)
            for kernel in psutil.Process().children():
                kernel.kill()
            raise


def setup(app: Sphinx) -> dict[str, bool]:
    """Run every chapter in this way."""
    utils.executenb = execute
    app.connect("env-before-read-docs", run_ahead)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
