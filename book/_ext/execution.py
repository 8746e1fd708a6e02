"""Run the cells of a chapter: keep what they print as printed, and what they ran on.

A kernel sends its output in parts, cut wherever a timer ran out. MyST-NB joins them
with line breaks of its own, so that a busy machine could break a line of a page in two.
The notebook client can join them unchanged; it only has to be asked.

What a cell prints may come from a model or a file, that is, from strangers. HTML in it
Sphinx escapes; characters that act instead of being seen are escaped here.

When all cells are done, the kernel itself is asked what it ran on. The answer stays
with the notebook, in the cache too, where `provenance` reads it.
"""

import json
from pathlib import Path
from typing import Any

import nbclient
import nbformat
from jupyter_cache.executors import utils
from sphinx.application import Sphinx

from acting import escaped

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
        nbclient.execute(notebook, *args, coalesce_streams=True, **options)
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


def setup(app: Sphinx) -> dict[str, bool]:
    """Run every chapter in this way."""
    utils.executenb = execute
    return {"parallel_read_safe": True, "parallel_write_safe": True}
