"""Collect what a page's cells run on: the library, the model, Python and torch.

Every kernel runs this file by its path, so of the project it imports only the library.
"""

import hashlib
import math
import platform
from importlib.metadata import version
from pathlib import Path

import hardway
from hardway import Config, hub
from hardway.checkpoint import expected_shapes

TOOLS = ("torch", "matplotlib", "jupyter-book", "myst-nb", "Sphinx")


def model_directory() -> Path:
    """Return the directory of the model that the book runs on."""
    return hub.find("auto").absolute()


def facts() -> dict[str, str]:
    """Describe the library and the model that ``import hardway`` finds here.

    Raises `OSError` or `ValueError` if the model is missing or isn't a GPT-2.
    """
    directory = model_directory()
    shapes = expected_shapes(Config.from_file(directory / "config.json"))
    return {
        "model": directory.name,
        "parameters": f"{sum(map(math.prod, shapes.values())):,}",
        "weights": file_hash(directory / "model.safetensors"),
        "config": file_hash(directory / "config.json"),
        "vocabulary": file_hash(directory / "vocab.json"),
        "merges": file_hash(directory / "merges.txt"),
        "library": tree_hash(Path(hardway.__file__).parent),
        "python": platform.python_version(),
        **{tool: version(tool) for tool in TOOLS},
    }


def tree_hash(directory: Path, *kinds: str) -> str:
    """Hash names and contents of files below a directory, by default code and data."""
    digest = hashlib.sha256()
    kinds = kinds or ("*.py", "*.json")
    found = {path for kind in kinds for path in directory.rglob(kind)}
    for path in sorted(filter(Path.is_file, found)):
        name = path.relative_to(directory).as_posix()
        digest.update(name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def file_hash(path: Path) -> str:
    """Hash a file, without reading it into memory at once."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
