"""Open the built notebooks in JupyterLab, over nobody's work.

    python -m tools.lab _build/html/notebooks _build/notebooks

The notebooks of the last build are copied, and the data that they read; a notebook that
its reader has changed stays.
"""

import hashlib
import json
import os
import shutil
import sys
from pathlib import Path

import nbformat

from execution.facts import model_directory
from execution.provenance import data_files


def lay_out(built: Path, directory: Path) -> None:
    """Copy every built notebook into ``directory``, but over nobody's work."""
    directory.mkdir(parents=True, exist_ok=True)
    for source in sorted(built.glob("*.ipynb")):
        path = directory / source.name
        if path.is_file() and is_changed(nbformat.read(path, as_version=4)):
            print(f"{path} holds your changes and stays; delete it for a fresh one.")
            continue
        notebook = nbformat.read(source, as_version=4)
        notebook.metadata["written_as"] = sources_hash(notebook)
        nbformat.write(notebook, path)
    for data in data_files(built):
        shutil.copy2(data, directory)
    print(f"The pages are notebooks in {directory}.")


def is_changed(notebook: nbformat.NotebookNode) -> bool:
    """Say whether the cells are not as `lay_out` wrote them; outputs do not count."""
    return bool(notebook.metadata.get("written_as") != sources_hash(notebook))


def sources_hash(notebook: nbformat.NotebookNode) -> str:
    """Hash what stands in the cells."""
    sources = json.dumps([cell.source for cell in notebook.cells])
    return hashlib.sha256(sources.encode()).hexdigest()


def open_lab(directory: Path) -> None:
    """Become JupyterLab; its kernels find the model from wherever they start."""
    os.environ["HARDWAY_MODEL"] = str(model_directory())
    command = [sys.executable, "-m", "jupyterlab", str(directory)]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")  # in a container there is nobody else
    os.execv(command[0], command)


if __name__ == "__main__":
    lay_out(Path(sys.argv[1]), Path(sys.argv[2]))
    open_lab(Path(sys.argv[2]))
