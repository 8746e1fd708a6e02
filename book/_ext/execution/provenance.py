"""Key the execution cache on what the cells run on, and show it in the footer.

MyST-NB's cache is keyed on a page's cells alone, so a change of the library would leave
old output beside new listings. Here the cache's directory is named by a hash of
everything the cells run on, and every page is read again when that hash changes.
"""

import hashlib
import json
import os
import shutil
from html import escape
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.environment import BuildEnvironment
from sphinx.errors import ConfigError

from execution.facts import facts, file_hash, model_directory, tree_hash
from paths import BOOK, EXTENSIONS, FIGURES, LIBRARY

CACHES_KEPT = 4  # so that undoing a change of the library runs nothing again
ASSETS = (BOOK / "_static", BOOK / "_templates", FIGURES)
RUN_BY = ("running.py", "escaping.py")


def configure(app: Sphinx, config: Config) -> None:
    """Set the execution cache's directory and the kernels' environment."""
    known = known_facts()
    files = [*(EXTENSIONS / "execution" / name for name in RUN_BY), *data_files(BOOK)]
    hashes = {path.name: file_hash(path) for path in files}
    run = json.dumps([known, hashes], sort_keys=True)
    key = hashlib.sha256(run.encode()).hexdigest()[:16]
    caches = Path(app.outdir).parent / ".jupyter_cache"
    (caches / key).mkdir(parents=True, exist_ok=True)
    (caches / key).touch()
    for old in sorted(caches.glob("*/"), key=os.path.getmtime)[:-CACHES_KEPT]:
        shutil.rmtree(old)
    config.provenance = known
    assets = [tree_hash(directory, "*") for directory in ASSETS]
    config.page_making = "".join([key, tree_hash(EXTENSIONS, "*.py", "*.svg"), *assets])
    config.nb_execution_cache_path = str(caches / key)
    # Kernels inherit these: an absolute path to the model, and one thread, so that sums
    # don't depend on the number of cores.
    os.environ["HARDWAY_MODEL"] = str(model_directory())
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def data_files(directory: Path) -> list[Path]:
    """Return the data files that the pages' cells may read."""
    return sorted(directory.glob("*.json*"))


def known_facts() -> dict[str, str]:
    """Return what this build runs on; raise if it isn't the library that it prints."""
    try:
        known = facts()
    except (OSError, ValueError) as error:
        raise ConfigError(f"HARDWAY_MODEL: {error}") from error
    if known["library"] != tree_hash(LIBRARY):
        raise ConfigError(
            "`import hardway` finds another library than src/hardway, which the pages "
            "print; install this one: make .venv/.installed-book"
        )
    return known


def ran_on(env: BuildEnvironment, page: str) -> dict[str, str]:
    """Return the facts that a page's kernel reported; {} for a page without cells."""
    metadata = env.metadata[page]
    missing = {"model": "not recorded"} if "kernelspec" in metadata else {}
    ran: dict[str, str] = metadata.get("language_info", {}).get("ran_on", missing)
    return ran


def add_footer(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object
) -> None:
    """Add to each page what it ran on, or the build's facts if it has no cells."""
    ran = ran_on(app.env, page) if page in app.env.found_docs else {}
    context["theme_extra_footer"] = footer(ran or app.config.provenance)


def footer(known: dict[str, str]) -> str:
    """Format the facts as HTML."""
    return (
        f'<p class="provenance" data-weights="{known["weights"]}">This copy ran on the '
        f"model <b>{escape(known['model'])}</b>, {known['parameters']} parameters; "
        f"library <code>{known['library'][:16]}</code>, "
        f"Python {escape(known['python'])}, torch {escape(known['torch'])}.</p>"
    )
