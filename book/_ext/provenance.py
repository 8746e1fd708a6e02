"""Make a page depend on what it ran with: the library, the model, Python and torch.

MyST-NB's cache knows a page's cells and nothing else, so a change of the library would
leave old output beside new listings. Here the cache's directory is named after a hash
of everything the cells run on, and every page is read again when that hash changes. The
same facts stand in every page's footer.
"""

import hashlib
import json
import math
import os
import platform
import shutil
from html import escape
from importlib.metadata import version
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.errors import ConfigError

from hardway import Config as GPT2Config
from hardway import hub
from hardway.model import expected_shapes
from pieces import LIBRARY

CACHES_KEPT = 4  # so that undoing a change of the library runs nothing again


def facts() -> dict[str, str]:
    """Say what this build runs on."""
    try:
        directory = hub.find(hub.book_model())
        shapes = expected_shapes(GPT2Config.from_file(directory / "config.json"))
        model = {
            "model": directory.absolute().name,
            "parameters": f"{sum(map(math.prod, shapes.values())):,}",
            "weights": file_hash(directory / "model.safetensors"),
            "config": file_hash(directory / "config.json"),
            "vocabulary": file_hash(directory / "vocab.json"),
            "merges": file_hash(directory / "merges.txt"),
        }
    except (OSError, ValueError) as error:
        raise ConfigError(f"HARDWAY_MODEL: {error}") from error
    return model | {
        "library": tree_hash(LIBRARY),
        "python": platform.python_version(),
        "torch": version("torch"),
        "matplotlib": version("matplotlib"),
    }


def tree_hash(directory: Path) -> str:
    """Hash every Python file below a directory, names and contents."""
    digest = hashlib.sha256()
    for path in sorted(directory.rglob("*.py")):
        name = path.relative_to(directory).as_posix()
        digest.update(name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def file_hash(path: Path) -> str:
    """Hash a file, in pieces that fit in memory."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def configure(app: Sphinx, config: Config) -> None:
    """Point the execution cache, and the footer, at what this build runs on."""
    known = facts()
    key = hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:16]
    caches = Path(app.outdir).parent / ".jupyter_cache"
    (caches / key).mkdir(parents=True, exist_ok=True)
    (caches / key).touch()
    for old in sorted(caches.glob("*/"), key=os.path.getmtime)[:-CACHES_KEPT]:
        shutil.rmtree(old)
    config.provenance = key + tree_hash(Path(__file__).parent)  # how pages are made
    config.nb_execution_cache_path = str(caches / key)
    config.html_theme_options["extra_footer"] = footer(known)
    # The kernels inherit these: the model wherever they start, and sums that do not
    # depend on the number of cores.
    os.environ["HARDWAY_MODEL"] = str(hub.find(hub.book_model()).resolve())
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def footer(known: dict[str, str]) -> str:
    """Write the facts as one line of HTML."""
    return (
        '<p class="provenance">This copy ran on the model '
        f"<b>{escape(known['model'])}</b>, {known['parameters']} parameters, "
        f"weights SHA-256 <code>{known['weights']}</code>; "
        f"library <code>{known['library'][:16]}</code>, "
        f"Python {escape(known['python'])}, torch {escape(known['torch'])}.</p>"
    )


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the configuration value that ties every page to the run."""
    app.add_config_value("provenance", "", "env")
    app.connect("config-inited", configure)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
