"""Compare two builds of the book, page by page.

    python -m tools.reproducible one/_build/html two/_build/html

Only measured cells may differ, and what derives from them: their figures, the search
index and their outputs in the notebooks.
"""

import hashlib
import json
import sys
from pathlib import Path

from bs4 import BeautifulSoup

MADE_OF_ALL = {"searchindex.js"}  # the search index has measured words


def main(one: Path, two: Path) -> int:
    """Print every file that differs; return how many there are."""
    first, second = fingerprints(one), fingerprints(two)
    differing = sorted({name for name, _ in first.items() ^ second.items()})
    for name in differing:
        print(f"{name}: not the same in both builds")
    if not first:
        print(f"{one}: there are no files")
    elif not differing:
        print(f"{len(first)} files are the same in both builds.")
    return len(differing) or not first


def fingerprints(html: Path) -> dict[str, str]:
    """Hash every file of a site, without measured outputs."""
    pages = {path: unmeasured(path) for path in sorted(html.rglob("*.html"))}
    shown = "".join(pages.values())
    found = {}
    for path in sorted(html.rglob("*")):
        name = path.relative_to(html).as_posix()
        measured = path.parent.name == "_images" and path.name not in shown
        measured |= path.name.endswith(".ipynb.js")  # a copy of the notebook
        if path.is_dir() or measured or name in MADE_OF_ALL:
            continue
        content = pages[path].encode() if path in pages else unmeasured_bytes(path)
        found[name] = hashlib.sha256(content).hexdigest()
    return found


def unmeasured(path: Path) -> str:
    """Return a page without its measured outputs."""
    page = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
    for output in page.select(".tag_measured .cell_output"):
        output.decompose()
    return str(page)


def unmeasured_bytes(path: Path) -> bytes:
    """Return another file's bytes, of a notebook without its measured outputs."""
    if path.suffix != ".ipynb":
        return path.read_bytes()
    notebook = json.loads(path.read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        if "measured" in cell["metadata"].get("tags", []):
            cell["outputs"] = []
    return json.dumps(notebook).encode()


if __name__ == "__main__":
    sys.exit(min(main(Path(sys.argv[1]), Path(sys.argv[2])), 1))
