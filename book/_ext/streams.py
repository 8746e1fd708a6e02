"""Join what a cell prints exactly as it was printed.

A kernel sends its output in parts, cut wherever a timer ran out. MyST-NB joins them
with line breaks of its own, so that a busy machine could break a line of a page in two.
The notebook client can join them unchanged; it only has to be asked.
"""

from functools import partial

from jupyter_cache.executors import utils
from sphinx.application import Sphinx


def setup(app: Sphinx) -> dict[str, bool]:
    """Ask for it in every execution."""
    utils.executenb = partial(utils.executenb, coalesce_streams=True)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
