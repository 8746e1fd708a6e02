"""What a cell prints reaches the page unbroken, and its kernel says what it ran on."""

import nbformat
import pytest
from jupyter_cache.executors import utils

import execution
from facts import facts, tree_hash
from pieces import LIBRARY

IN_PARTS = (
    "import time\nprint('one', end='', flush=True)\ntime.sleep(1)\nprint(' line')"
)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the kernel client's own
def test_a_line_printed_in_parts_stays_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(utils, "executenb", utils.executenb)  # to put it back
    execution.setup(None)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(IN_PARTS)])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    result = utils.single_nb_execution(
        notebook, cwd=None, timeout=60, allow_errors=False
    )
    assert result.err is None
    assert [[output.text for output in cell.outputs] for cell in notebook.cells] == [
        ["one line\n"]
    ]
    ran_on = notebook.metadata["language_info"]["ran_on"]
    assert ran_on == facts()
    assert ran_on["library"] == tree_hash(LIBRARY)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_failing_cell_is_still_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(utils, "executenb", utils.executenb)
    execution.setup(None)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 / 0")])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    result = utils.single_nb_execution(
        notebook, cwd=None, timeout=60, allow_errors=False
    )
    assert "ZeroDivisionError" in str(result.err)
    assert [cell.source for cell in notebook.cells] == ["1 / 0"]
