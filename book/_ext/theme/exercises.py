"""List the exercises of all chapters by kind, for teachers: ``{exercises}``.

An exercise names its kind in its class: ``:class: kind-break-it``.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.util.docutils import SphinxDirective

KINDS = {
    "kind-predict": "predict",
    "kind-compute": "compute",
    "kind-build": "build",
    "kind-break-it": "break it",
    "kind-change-the-model": "change the model",
    "kind-change-the-library": "change the library",
}
EXERCISE = re.compile(
    r"^`{3,}\{exercise(?:-start)?\} *(.*)\n((?::.*\n)*)", re.MULTILINE
)
OPTION = re.compile(r"^:(\w+): *(.*)$", re.MULTILINE)
PREDICT = re.compile(r"^[`:]{3,}\{admonition\} Predict$", re.MULTILINE)
COLUMNS = {"Chapter": 30, "Predict boxes": 12, "Exercises": 58}


class Exercises(SphinxDirective):
    """Tabulate the chapters, their predictions and their exercises."""

    def run(self) -> list[nodes.Node]:
        """Return a table with a row for each chapter."""
        table = nodes.tgroup(cols=len(COLUMNS))
        table += [nodes.colspec(colwidth=width) for width in COLUMNS.values()]
        head = row(*([nodes.paragraph("", title)] for title in COLUMNS))
        rows = [self.chapter(path) for path in self.chapters()]
        table += [nodes.thead("", head), nodes.tbody("", *rows)]
        return [nodes.table("", table, classes=["colwidths-given"])]

    def chapters(self) -> Iterator[Path]:
        """Yield the chapters beside this page, which is reread when they change."""
        folder = Path(self.env.doc2path(self.env.docname)).parent
        for path in sorted(folder.glob("[0-9][0-9]-*.md")):
            self.env.note_dependency(str(path))
            yield path

    def chapter(self, path: Path) -> nodes.row:
        """Return the row of one chapter."""
        text, page = path.read_text(encoding="utf-8"), self.env.path2doc(str(path))
        link = addnodes.pending_xref(
            "", nodes.inline(), refdomain="std", reftype="doc", reftarget=f"/{page}",
            refexplicit=False, refwarn=True,
        )  # fmt: skip
        number = str(len(PREDICT.findall(text)))
        return row(
            [nodes.paragraph("", "", link)],
            [nodes.paragraph("", number)],
            [self.exercise(path, *found.groups()) for found in EXERCISE.finditer(text)],
        )

    def exercise(self, path: Path, title: str, options: str) -> nodes.paragraph:
        """Return a link to an exercise, its title and its kind."""
        given = dict(OPTION.findall(options))
        label = given.get("label", "")
        kinds = [
            KINDS[name] for name in given.get("class", "").split() if name in KINDS
        ]
        if not kinds:
            known = ", ".join(KINDS)
            problem = f"the exercise {label!r} must have a class among {known}"
            raise self.error(f"{path.name}: {problem}")
        link = addnodes.pending_xref(
            "", nodes.inline(), refdomain="std", reftype="ref", reftarget=label,
            refexplicit=False, refwarn=True,
        )  # fmt: skip
        return nodes.paragraph(
            "", "", link, nodes.Text(f", {title}: {', '.join(kinds)}")
        )


def row(*cells: list[nodes.paragraph]) -> nodes.row:
    """Return a table row."""
    return nodes.row("", *(nodes.entry("", *cell) for cell in cells))
