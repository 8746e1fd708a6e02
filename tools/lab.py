"""Open the built notebooks in JupyterLab.

    python -m tools.lab _build/html/notebooks _build/notebooks

Copies the notebooks and their data, but keeps the reader's changed notebooks.
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
    """Copy the notebooks without overwriting changed ones."""
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
    """Return whether the cells' sources differ from those that `lay_out` wrote."""
    return bool(notebook.metadata.get("written_as") != sources_hash(notebook))


def sources_hash(notebook: nbformat.NotebookNode) -> str:
    """Hash the cells' sources."""
    sources = json.dumps([cell.source for cell in notebook.cells])
    return hashlib.sha256(sources.encode()).hexdigest()


def open_lab(directory: Path) -> None:
    """Replace this process by JupyterLab, with an absolute path to the model."""
    os.environ["HARDWAY_MODEL"] = str(model_directory())
    command = [sys.executable, "-m", "jupyterlab", str(directory)]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")  # as in a container
    os.execv(command[0], command)


if __name__ == "__main__":
    lay_out(Path(sys.argv[1]), Path(sys.argv[2]))
    open_lab(Path(sys.argv[2]))
