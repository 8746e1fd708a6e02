"""What a cell prints in parts reaches the page as one text, unbroken."""

import nbformat
import pytest
from jupyter_cache.executors import utils

import streams

IN_PARTS = (
    "import time\nprint('one', end='', flush=True)\ntime.sleep(1)\nprint(' line')"
)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the kernel client's own
def test_a_line_printed_in_parts_stays_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(utils, "executenb", utils.executenb)  # to put it back
    streams.setup(None)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(IN_PARTS)])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    result = utils.single_nb_execution(
        notebook, cwd=None, timeout=60, allow_errors=False
    )
    assert result.err is None
    assert [output.text for output in notebook.cells[0].outputs] == ["one line\n"]
