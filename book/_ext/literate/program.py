"""Index the library's definitions, each with its listing and its equation.

``{whole-program} appendix`` lists the definitions of the modules that are first printed
on a page whose name begins with this regular expression, in reading order, with links
to each one's listing and to the equation that it implements; the entries of the
reference get the same links. An equation belongs to the definition that its label
names: ``$$ ... $$ (attention.softmax)``.
"""

import ast
import re
from collections.abc import Iterator
from functools import cache
from itertools import chain

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxDirective

from literate import listings
from literate.pieces import Definition, module_of, modules
from paths import BOOK

COLUMNS = {"Definition": 72, "Printed in": 28}
LABELLED = re.compile(
    r"(?:\$\$ \(|\{math\}.*\n(?::.*\n)*?:label: )([^\s)]+)\)?$", re.MULTILINE
)
DOCUMENTED = re.compile(r"^\.\. automodule:: hardway\.(\S+)", re.MULTILINE)


class WholeProgram(SphinxDirective):
    """List the definitions that some pages print, module by module."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return a section for each module."""
        depend_on_chapters(self.env)
        self.equations, self.documented = equations(), documented()
        chosen = re.compile(self.arguments[0])
        names = {
            module: list[str]()
            for module, page in reading_order().items()
            if chosen.match(page)
        }
        for name in definitions():
            names.get(module_of(name), []).append(name)
        return [self.module(module, found) for module, found in names.items() if found]

    def module(self, module: str, names: list[str]) -> nodes.section:
        """Return a module's summary and the table of its definitions."""
        section = nodes.section(ids=[nodes.make_id(f"program-{module}")])
        about = nodes.paragraph("", first_line(parse(module)))
        table = nodes.tgroup(cols=len(COLUMNS))
        table += [nodes.colspec(colwidth=width) for width in COLUMNS.values()]
        head = row(*([nodes.Text(title)] for title in COLUMNS))
        rows = [self.row(name, module) for name in names]
        table += [nodes.thead("", head), nodes.tbody("", *rows)]
        section += [nodes.title("", module), about]
        section += nodes.table("", table, classes=["program", "colwidths-given"])
        return section

    def row(self, name: str, module: str) -> nodes.row:
        """Return the table row of one definition."""
        shown: nodes.Node = nodes.literal("", name.removeprefix(f"{module}."))
        if module in self.documented and is_public(name):
            shown = addnodes.pending_xref(
                "", shown, refdomain="py", reftype="obj", reftarget=f"hardway.{name}"
            )
        printed: list[nodes.Node] = [listings.link(holder(name))]
        if name in self.equations:
            equation = addnodes.pending_xref(
                "", nodes.inline(), refdomain="math", reftype="eq", reftarget=name
            )
            printed += [nodes.Text(", equation "), equation]
        return row([shown, nodes.Text(summary(name))], printed)


def row(*cells: list[nodes.Node]) -> nodes.row:
    """Return a table row, each cell one paragraph."""
    paragraphs = [nodes.paragraph("", "", *cell) for cell in cells]
    return nodes.row("", *(nodes.entry("", paragraph) for paragraph in paragraphs))


@cache
def parse(module: str) -> ast.Module:
    """Parse a module's file."""
    return ast.parse(modules()[module].read_text(encoding="utf-8"))


@cache
def definitions() -> dict[str, ast.AST]:
    """Map the dotted name of every definition to its node, in file order."""
    return {
        f"{module}.{name}": node
        for module in modules()
        for name, node in defined_in(parse(module).body)
    }


def defined_in(body: list[ast.stmt]) -> Iterator[tuple[str, ast.stmt]]:
    """Yield constants, functions, classes and methods with their names."""
    for node in body:
        match node:
            case (
                ast.Assign(targets=[ast.Name(id=name)])
                | ast.AnnAssign(target=ast.Name(id=name))
            ):
                yield name, node
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name, node
            case ast.ClassDef(name=name, body=parts):
                yield name, node
                methods = [part for part in parts if isinstance(part, Definition)]
                yield from ((f"{name}.{part.name}", part) for part in methods)


def reading_order() -> dict[str, str]:
    """Map the modules, in the order in which the book prints them, to the first page.

    Last come those that no page prints, with an empty name.
    """
    order: dict[str, str] = {}
    for page, groups in listings.pages().items():
        for name in chain.from_iterable(groups):
            order.setdefault(module_of(name), page)
    return order | {module: "" for module in modules() if module not in order}


def holder(name: str) -> str:
    """Return the piece that contains a definition: its own, or its module's head."""
    return name if name in listings.printed() else module_of(name)


@cache
def equations() -> set[str]:
    """Return the labels of the book's equations."""
    return set(LABELLED.findall(text_of_book()))


@cache
def documented() -> set[str]:
    """Return the modules that the reference documents."""
    return set(DOCUMENTED.findall(text_of_book()))


def text_of_book() -> str:
    """Return the source of all pages."""
    return "\n".join(path.read_text(encoding="utf-8") for path in BOOK.glob("*.md"))


def is_public(name: str) -> bool:
    """Return whether a definition has a public name and a docstring."""
    private = any(part.startswith("_") for part in name.split("."))
    return not private and summary(name) > " "


def summary(name: str) -> str:
    """Return the first line of a definition's docstring, after a space."""
    node = definitions()[name]
    return f" {first_line(node)}" if isinstance(node, Definition) else ""


def first_line(node: Definition | ast.Module) -> str:
    """Return the first line of a docstring, without backticks."""
    return (ast.get_docstring(node) or "").split("\n")[0].replace("`", "")


def depend_on_chapters(env: BuildEnvironment) -> None:
    """Reread the current page when any page of the book changes."""
    for path in BOOK.glob("*.md"):
        env.note_dependency(str(path))


def annotate(
    app: Sphinx, what: str, name: str, thing: object, options: object, lines: list[str]
) -> None:
    """Append the links to an entry of the reference."""
    depend_on_chapters(app.env)
    piece = name.partition(".")[2]
    if piece in definitions():
        links = [f"Printed in :listing:`{holder(piece)}`."]
        if piece in equations():
            links.append(f"Implements :eq:`{piece}`.")
        lines += ["", " ".join(links), ""]
