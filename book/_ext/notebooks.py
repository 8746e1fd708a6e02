"""Turn the chapters into notebooks for JupyterLab, their listings into code.

    python book/_ext/notebooks.py DIRECTORY

A chapter is MyST Markdown, which Jupytext reads. What only a build of the book
understands is put in plain terms first: ``{listing}`` directives become the code they
print, links between chapters lead to the notebooks, and quoted values are those of the
last build where there was one. A notebook that its reader has changed is left alone.
"""

import ast
import hashlib
import json
import re
import sys
from pathlib import Path

import jupytext
import nbformat

from pieces import REPOSITORY, find_pieces, joined

BOOK = REPOSITORY / "book"
EXECUTED = REPOSITORY / "_build" / "jupyter_execute" / "book"

LISTING = re.compile(r"^```\{listing\} (\S+)\n((?::\w+:.*\n)*)```$", re.MULTILINE)
GLUED = re.compile(r"\{glue:text\}`([^`]+)`")
LINK = re.compile(r"\[([^\]]*)\]\(([\w-]+)\.md\)")


def main(directory: Path) -> None:
    """Write every chapter into ``directory`` as a notebook, but over nobody's work."""
    directory.mkdir(parents=True, exist_ok=True)
    for chapter in sorted(BOOK.glob("*.md")):
        path = directory / f"{chapter.stem}.ipynb"
        if path.is_file() and is_changed(nbformat.read(path, as_version=4)):
            print(f"{path} holds your changes and stays; delete it for a fresh one.")
            continue
        notebook = jupytext.reads(in_plain_terms(chapter), fmt="md:myst")
        notebook.metadata["written_as"] = sources_hash(notebook)
        nbformat.write(notebook, path)
    print(f"The chapters are notebooks in {directory}.")


def is_changed(notebook: nbformat.NotebookNode) -> bool:
    """Say whether the cells are other ones than `main` wrote; outputs do not count."""
    return notebook.metadata.get("written_as") != sources_hash(notebook)


def sources_hash(notebook: nbformat.NotebookNode) -> str:
    """Hash what stands in the cells."""
    sources = json.dumps([cell.source for cell in notebook.cells])
    return hashlib.sha256(sources.encode()).hexdigest()


def in_plain_terms(chapter: Path) -> str:
    """Return a chapter's text without what only a build of the book understands."""
    values = glued_values(EXECUTED / f"{chapter.stem}.glue.json")
    text = LISTING.sub(code_block, chapter.read_text(encoding="utf-8"))
    text = GLUED.sub(lambda match: values.get(match[1], f"`{match[1]}`"), text)
    return LINK.sub(
        lambda match: f"[{match[1] or title(match[2])}]({match[2]}.ipynb)", text
    )


def code_block(match: re.Match[str]) -> str:
    """Write a listing as Markdown, headed by where it was taken from."""
    piece = joined(find_pieces(match[1], whole=":whole:" in match[2]))
    heading = f"# {piece.place}"
    return f"````python\n{heading}\n{piece.text}\n````"


def glued_values(record: Path) -> dict[str, str]:
    """Read what the cells of a built chapter recorded for its prose to quote."""
    if not record.is_file():
        return {}
    outputs = json.loads(record.read_text(encoding="utf-8"))
    return {
        name: str(ast.literal_eval(output["data"]["text/plain"]))
        for name, output in outputs.items()
    }


def title(stem: str) -> str:
    """Return the title of a chapter: its first heading."""
    text = (BOOK / f"{stem}.md").read_text(encoding="utf-8")
    return re.findall(r"^# (.+)$", text, re.MULTILINE)[0]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
