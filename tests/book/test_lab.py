"""Notebooks are laid out for JupyterLab, but over nobody's work."""

import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from paths import LIBRARY
from tools import lab


@pytest.fixture
def built(tmp_path: Path) -> Path:
    built = tmp_path / "built"
    built.mkdir()
    for name in ("mine", "run"):
        cells = [new_markdown_cell(f"# {name}"), new_code_cell("1 + 1")]
        nbformat.write(new_notebook(cells=cells), built / f"{name}.ipynb")
    return built


def test_a_notebook_that_its_reader_changed_is_left_alone(
    built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = tmp_path / "notebooks"
    lab.lay_out(built, directory)
    mine, run = directory / "mine.ipynb", directory / "run.ipynb"
    edited, executed = nbformat.read(mine, 4), nbformat.read(run, 4)
    edited.cells[-1].source = "my own notes"
    executed.cells[-1].execution_count = 7  # run and saved, not changed
    nbformat.write(edited, mine)
    nbformat.write(executed, run)
    capsys.readouterr()
    lab.lay_out(built, directory)
    assert capsys.readouterr().out.startswith(f"{mine} holds your changes and stays;")
    assert nbformat.read(mine, 4) == edited
    assert nbformat.read(run, 4).cells[-1].execution_count is None
    mine.unlink()
    lab.lay_out(built, directory)
    assert "my own notes" not in mine.read_text()


def test_data_that_the_cells_read_lies_beside_them(built: Path, tmp_path: Path) -> None:
    for text in ("1", "2"):
        (built / "record.json").write_text(text)
        lab.lay_out(built, tmp_path / "notebooks")
        assert (tmp_path / "notebooks" / "record.json").read_text() == text


def test_a_notebook_of_another_build_is_replaced(built: Path, tmp_path: Path) -> None:
    directory = tmp_path / "notebooks"
    lab.lay_out(built, directory)
    changed = nbformat.read(built / "run.ipynb", 4)
    changed.cells[-1].source = "2 + 2"
    nbformat.write(changed, built / "run.ipynb")
    lab.lay_out(built, directory)
    assert nbformat.read(directory / "run.ipynb", 4).cells[-1].source == "2 + 2"


@pytest.mark.parametrize(("user", "more"), [(1000, []), (0, ["--allow-root"])])
def test_the_kernels_find_the_model_from_anywhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, user: int, more: list[str]
) -> None:
    started = []
    monkeypatch.chdir(LIBRARY)
    monkeypatch.setenv("HARDWAY_MODEL", "models/pocket")  # relative to here
    monkeypatch.setattr(lab.os, "execv", lambda *command: started.append(command))
    monkeypatch.setattr(lab.os, "geteuid", lambda: user)
    lab.open_lab(tmp_path)
    assert lab.os.environ["HARDWAY_MODEL"] == str(LIBRARY / "models" / "pocket")
    command = [sys.executable, "-m", "jupyterlab", str(tmp_path), *more]
    assert started == [(sys.executable, command)]
