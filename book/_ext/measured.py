"""Mark what a clock said: a cell with the tag ``measured`` may differ in another run.

The page says so below its output, and everything else on the page has to be the same in
every build (see `reproducible`). So a measured number is never quoted in prose.
"""

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging

logger = logging.getLogger(__name__)

NOTE = "Measured by the clock when this copy was built; another run will differ."


def mark(app: Sphinx, doctree: nodes.document) -> None:
    """Write the note below each measured cell; warn of one that hands out values."""
    for cell in doctree.findall(nodes.container):
        if "tag_measured" in cell["classes"]:
            cell += nodes.paragraph("", NOTE, classes=["measured"])
            if "glue(" in cell.astext():
                logger.warning(
                    "a measured cell glues a value; prose cannot mark it as measured",
                    location=cell,
                    type="measured",
                )


def setup(app: Sphinx) -> dict[str, bool]:
    """Look at each page as it has been read."""
    app.connect("doctree-read", mark)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
