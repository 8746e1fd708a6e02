"""Run every notebook of the built book where nothing but the package is installed.

    python -m tools.run_notebooks _build/html/notebooks

The environment is new and has the package, not editable, its plots, and JupyterLab.
"""

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from tempfile import TemporaryDirectory

from paths import REPOSITORY


def main(built: Path) -> int:
    """Run the notebooks in ``built``; print those that fail and return their number."""
    names = sorted(path.name for path in built.glob("*.ipynb"))
    if not names:
        sys.exit(f"{built}: there are no notebooks")
    with TemporaryDirectory() as folder:
        clean, work = Path(folder) / "clean", Path(folder) / "work"
        shutil.copytree(built, work)
        install(clean)
        failed = [name for name in names if not runs(clean, work / name)]
    print(f"{len(names) - len(failed)} of {len(names)} notebooks run.", *failed)
    return len(failed)


def install(clean: Path) -> None:
    """Create the environment."""
    venv.create(clean, with_pip=True)
    constraints, package = str(REPOSITORY / "constraints.txt"), f"{REPOSITORY}[plots]"
    pip = [str(clean / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, "-c", constraints, package, "jupyterlab"], check=True)


def runs(clean: Path, notebook: Path) -> bool:
    """Return whether a notebook runs to its end, without this project's settings."""
    ours = ("HARDWAY_", "PYTHON")
    plain = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
    jupyter = str(clean / "bin" / "jupyter")
    command = [jupyter, "execute", "--timeout=600", str(notebook)]
    return subprocess.run(command, env=plain, cwd=notebook.parent).returncode == 0


if __name__ == "__main__":
    sys.exit(min(main(Path(sys.argv[1])), 1))
