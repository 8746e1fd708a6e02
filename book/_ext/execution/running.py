"""Execute the pages' notebooks into MyST-NB's cache before Sphinx reads them.

MyST-NB would run one page at a time, and split a line that a kernel sent in two parts.
Here two run concurrently (a page with timings runs alone), and control characters in
outputs are escaped. Last, the kernel reports the `facts`; they stay in the cached
notebook, where `provenance` reads them.
"""

import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import nbclient
import nbformat
import psutil
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn
from myst_nb.core.read import create_nb_reader
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.errors import SphinxError
from sphinx.util import logging

from execution import facts
from execution.escaping import escaped
from execution.measured import is_measured

logger = logging.getLogger(__name__)

Run = tuple[Path, NotebookNode]
AT_ONCE = 2  # each may hold a full-size model in memory

QUESTION = f"""
import json, runpy
print(json.dumps(runpy.run_path({facts.__file__!r})["facts"]()))
"""


def run_ahead(app: Sphinx, env: BuildEnvironment, pages: list[str]) -> None:
    """Run the notebooks that the cache lacks, those with timings one by one."""
    if env.mystnb_config.execution_mode != "cache":  # type: ignore[attr-defined]
        return
    cache = get_cache(app.config.nb_execution_cache_path)
    # Keyed by hash: pages with the same cells run once.
    together: dict[str, Run] = {}
    alone: dict[str, Run] = {}
    for path, notebook in read(env, pages):
        try:
            cache.match_cache_notebook(notebook)
        except KeyError:
            group = alone if any(map(is_measured, notebook.cells)) else together
            group[cache.create_hashed_notebook(notebook)[1]] = path, notebook
    timeout = app.config.nb_execution_timeout
    for group, at_once in ((together, AT_ONCE), (alone, 1)):
        for path, notebook in run_all(group.values(), at_once, timeout):
            logger.info("%s: its cells ran", path)
            bundle = CacheBundleIn(notebook, str(path))
            cache.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)


def read(env: BuildEnvironment, pages: list[str]) -> Iterator[Run]:
    """Yield the notebooks of the pages that have cells, as MyST-NB will read them."""
    settings = env.myst_config, env.mystnb_config  # type: ignore[attr-defined]
    for page in pages:
        path = env.doc2path(page)
        text = Path(path).read_text(encoding="utf-8")
        if reader := create_nb_reader(path, *settings, text):
            yield Path(path), reader.read(text)


def run_all(notebooks: Iterable[Run], at_once: int, timeout: int) -> Iterator[Run]:
    """Run up to `at_once` notebooks concurrently; a failure cancels those not begun."""
    with ThreadPoolExecutor(at_once) as pool:
        try:
            runs = [pool.submit(run, *each, timeout) for each in notebooks]
            for done in as_completed(runs):
                yield done.result()
        except SphinxError:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        except KeyboardInterrupt:  # the kernels don't receive it
            pool.shutdown(wait=False, cancel_futures=True)
            for kernel in psutil.Process().children():
                kernel.kill()
            raise


def run(path: Path, notebook: NotebookNode, timeout: int) -> Run:
    """Run every cell, and record the kernel's facts in the notebook's metadata."""
    notebook.cells.append(nbformat.v4.new_code_cell(QUESTION))
    try:
        # An orderly shutdown would take a second, and the kernel has nothing to save.
        nbclient.execute(
            notebook,
            cwd=str(path.parent),
            timeout=timeout,
            coalesce_streams=True,
            record_timing=False,
            shutdown_kernel="immediate",
        )
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        raise SphinxError(f"{error}\n{path}: a cell failed, as said above") from error
    question = notebook.cells.pop()
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            escape(output)
    # The cache keeps no other part of the metadata.
    notebook.metadata["language_info"]["ran_on"] = json.loads(question.outputs[0].text)
    return path, notebook


def escape(output: NotebookNode) -> None:
    """Escape control characters in an output's text."""
    texts = output.get("data", output)
    for kind, text in texts.items():
        if "text" in kind and isinstance(text, str):
            texts[kind] = escaped(text)
