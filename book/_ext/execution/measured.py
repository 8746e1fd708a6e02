"""Mark timings: the output of a cell with the tag ``measured`` may differ between runs.

Everything else must be the same in every build (``tools/reproducible.py``), and prose
never quotes a measured number (`lint.numbers`).
"""

from collections.abc import Iterator

from docutils import nodes
from nbformat import NotebookNode
from sphinx.application import Sphinx

NOTE = "Measured by the clock when this copy was built; another run will differ."


def is_measured(cell: NotebookNode) -> bool:
    """Return whether a notebook's cell measures time."""
    return "measured" in cell.metadata.get("tags", ())


def measured(doctree: nodes.document) -> Iterator[nodes.container]:
    """Yield the cells of a page that measure time."""
    for cell in doctree.findall(nodes.container):
        if "tag_measured" in cell["classes"]:
            yield cell


def mark(app: Sphinx, doctree: nodes.document) -> None:
    """Append the note to each measured cell."""
    for cell in measured(doctree):
        cell += nodes.paragraph("", NOTE, classes=["measured"])
