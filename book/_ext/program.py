"""The map of the program: every definition with its page, its equation and its tests.

``{whole-program}`` lists the definitions of the library, each after the ones it uses,
with links to where a chapter prints it, to the equation it implements and to the tests
that use it; the entries of the reference get the same links. Nothing of it is typed. An
equation whose label is the name of a definition, ``$$ ... $$ (attention.softmax)``, is
the one that this definition implements.
"""

import ast
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

import listing
import sources
from listing import BOOK
from names import TESTS, defined_in, definitions, tree_of
from pieces import LIBRARY
from uses import definitions_in_order, modules_in_order, tests_of, through

logger = logging.getLogger(__name__)

COLUMNS = {"Definition": 36, "Printed in": 20, "Tests that use it": 44}
LABELLED = re.compile(
    r"(?:\$\$ \(|\{math\}.*\n(?::.*\n)*?:label: )([^\s)]+)\)?$", re.MULTILINE
)
UNREFERENCED = {"cli", "__init__"}  # nobody imports from these
MANY = 3  # so many tests fold away


class WholeProgram(SphinxDirective):
    """List the library's definitions, module by module, in dependency order."""

    def run(self) -> list[nodes.Node]:
        """Return a section with a table for each module."""
        depend_on_everything(self.env)
        self.equations = equations()
        return [self.module(m) for m in modules_in_order() if definitions_in_order(m)]

    def module(self, module: str) -> nodes.section:
        """Say what a module is for, and list what it defines."""
        section = nodes.section(ids=[f"program-{module.strip('_')}"])
        about = nodes.paragraph("", first_line(tree_of(LIBRARY / f"{module}.py")))
        rows = [self.cells(name) for name in definitions_in_order(module)]
        section += [nodes.title("", module), about, table(COLUMNS, rows)]
        return section

    def cells(self, name: str) -> list[list[nodes.Node]]:
        """Say all about one definition, in the order of the columns."""
        printed: list[nodes.Node] = [listing.link(holder(name))]
        if name in self.equations:
            equation = addnodes.pending_xref(
                "", nodes.inline(), refdomain="math", reftype="eq", reftarget=name
            )
            printed += [nodes.Text(", equation "), equation]
        return [
            [self.entry(name), nodes.Text(summary(name))],
            printed,
            self.tests(name),
        ]

    def entry(self, name: str) -> nodes.Node:
        """Name a definition, with a link to the reference where it stands there."""
        self.env.get_domain("std").anonlabels[row_label(name)] = (
            self.env.docname,
            row_label(name),
        )
        shown = nodes.literal("", name.partition(".")[2], ids=[row_label(name)])
        if not is_public(name) or name.split(".")[0] in UNREFERENCED:
            return shown
        return addnodes.pending_xref(
            "", shown, refdomain="py", reftype="obj", reftarget=f"hardway.{name}"
        )

    def tests(self, name: str) -> list[nodes.Node]:
        """List the tests that use a definition, or what they use it through."""
        if not (tests := tests_of(name)):
            users = ", ".join(through(name))
            return [nodes.emphasis("", f"through {users}" if users else "by Python")]
        shown = f"<ul>{''.join(map(self.test, tests))}</ul>"
        if len(tests) > MANY:
            summary = f"<summary>{len(tests)} tests</summary>"
            shown = f"<details>{summary}{shown}</details>"
        return [nodes.raw("", shown, format="html")]

    def test(self, test: str) -> str:
        """Name a test, with a link to it, in plain HTML: they are most of the page."""
        file, _, function = test.partition(".")
        path = TESTS / f"{file}.py"
        line = defined_in(path)[function].lineno
        address = sources.own_place(self.env.app, path, line)
        return f'<li><a href="{address}">{file}::{function}</a></li>'


def holder(name: str) -> str:
    """Name the piece that prints a definition: its own, or for a constant the head."""
    return name if name in listing.printed() else name.split(".")[0]


def row_label(name: str) -> str:
    """Return the name of a definition's row in the map."""
    return f"program-{name}"


def tests_role(*of_role: Any) -> tuple[list[nodes.Node], list[nodes.system_message]]:
    """Make a link to the tests of a definition, which says how many there are."""
    _, _, name, *_ = of_role
    count = len(tests_of(name))
    text = {0: "tests of what uses it", 1: "one test"}.get(count, f"{count} tests")
    link = addnodes.pending_xref(
        "", nodes.inline("", text), refdomain="std", reftype="ref", refwarn=True,
        reftarget=row_label(name), refexplicit=True,
    )  # fmt: skip
    return [link], []


def equations() -> set[str]:
    """Name the definitions whose equation stands in a chapter."""
    texts = (path.read_text(encoding="utf-8") for path in BOOK.glob("*.md"))
    return {label for text in texts for label in LABELLED.findall(text)}


def summary(name: str) -> str:
    """Return what a definition says of itself, to stand behind its name."""
    node = definitions()[name]
    documented = isinstance(node, ast.FunctionDef | ast.ClassDef)
    return f" {first_line(node)}" if documented else ""


def first_line(node: ast.AST) -> str:
    """Return the first line of a docstring, without its markup."""
    return (ast.get_docstring(node) or "").split("\n")[0].replace("`", "")


def table(
    columns: Mapping[str, int], rows: Sequence[Sequence[list[nodes.Node]]]
) -> nodes.table:
    """Make a table; ``columns`` gives the titles and the widths."""
    group = nodes.tgroup(cols=len(columns))
    group += [nodes.colspec(colwidth=width) for width in columns.values()]
    head = nodes.thead("", row([[nodes.Text(title)] for title in columns]))
    group += [head, nodes.tbody("", *map(row, rows))]
    return nodes.table("", group, classes=["program", "colwidths-given"])


def row(cells: Sequence[list[nodes.Node]]) -> nodes.row:
    """Make a row; a cell that begins with text becomes a paragraph."""
    return nodes.row("", *(nodes.entry("", *in_blocks(cell)) for cell in cells))


def in_blocks(cell: list[nodes.Node]) -> list[nodes.Node]:
    """Put text into a paragraph; leave lists as they are."""
    if not cell or isinstance(cell[0], nodes.raw):
        return cell
    return [nodes.paragraph("", "", *cell)]


def depend_on_everything(env: BuildEnvironment) -> None:
    """Let a page be read again when a chapter, the library or a test has changed."""
    for directory, pattern in ((BOOK, "*.md"), (LIBRARY, "*.py"), (TESTS, "*.py")):
        for path in directory.glob(pattern):
            env.note_dependency(str(path))


def annotate(
    app: Sphinx, what: str, name: str, thing: object, options: object, lines: list[str]
) -> None:
    """Give an entry of the reference its links."""
    depend_on_everything(app.env)
    piece = name.partition(".")[2]
    if piece in definitions():
        links = [f"Printed in :listing:`{holder(piece)}`."]
        if piece in equations():
            links.append(f"Implements :eq:`{piece}`.")
        links.append(f"Proved by :tests:`{piece}`.")
        lines += ["", " ".join(links), ""]


def problems() -> list[str]:
    """Say which definitions no test reaches, and which equations belong to none."""
    untested = [
        f"no test reaches {name}"
        for name in definitions()
        if not (tests_of(name) or through(name) or name == "__init__.__dir__")
    ]
    return untested + [
        f"an equation is labelled {label}, which the library does not define"
        for label in sorted(equations() - definitions().keys())
    ]


def silent(shown: Mapping[str, Iterable[str]]) -> list[str]:
    """Say which public docstrings do not name the chapter that prints them.

    ``shown`` gives the pieces that each page prints; a chapter's page begins with its
    number.
    """
    found = []
    for page, names in shown.items():
        number = re.match(r"\d+", page.rpartition("/")[2])
        for name in filter(is_public, names) if number else ():
            text = ast.get_docstring(definitions()[name]) or ""
            if str(int(number[0])) not in re.findall(r"[Cc]hapters? (\d+)", text):
                found.append(
                    f"the docstring of {name} does not name chapter {int(number[0])}"
                )
    return found


def is_public(name: str) -> bool:
    """Say whether a piece is a function, class or method that others may call."""
    node = definitions().get(name)
    private = any(part.startswith("_") for part in name.split("."))
    return isinstance(node, ast.FunctionDef | ast.ClassDef) and not private


def check(app: Sphinx, env: BuildEnvironment) -> None:
    """Warn of every gap in the map."""
    for problem in problems() + silent(listing.shown(env)):
        logger.warning(problem, type="program")


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive, the reference's links, and the check of the map."""
    # One file of tests more, which no page could depend on: all pages are read again.
    app.add_config_value("tests", sorted(map(str, TESTS.glob("*.py"))), "env")
    app.add_directive("whole-program", WholeProgram)
    app.add_role("tests", tests_role)
    app.connect("autodoc-process-docstring", annotate)
    app.connect("env-check-consistency", check)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
