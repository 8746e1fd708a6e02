"""The map of the program: every definition with its listing and its equation.

``{whole-program}`` lists the definitions of the library in the order in which the book
prints their modules, with links to the listing of each and to the equation that it
implements; the entries of the reference get the same links. None of it is typed. An
equation whose label is the name of a definition, ``$$ ... $$ (attention.softmax)``, is
the one that this definition implements.
"""

import ast
import re
from collections.abc import Iterator
from functools import cache

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxDirective

from literate import listings
from literate.listings import BOOK
from literate.pieces import Definition, module_of, modules

COLUMNS = {"Definition": 72, "Printed in": 28}
LABELLED = re.compile(
    r"(?:\$\$ \(|\{math\}.*\n(?::.*\n)*?:label: )([^\s)]+)\)?$", re.MULTILINE
)
DOCUMENTED = re.compile(r"^\.\. automodule:: hardway\.(\S+)", re.MULTILINE)


class WholeProgram(SphinxDirective):
    """List the library's definitions, module by module, in reading order."""

    def run(self) -> list[nodes.Node]:
        """Return a section with a table for each module."""
        depend_on_chapters(self.env)
        self.equations, self.documented = equations(), documented()
        names = {module: list[str]() for module in reading_order()}
        for name in definitions():
            names[module_of(name)].append(name)
        return [self.module(module, found) for module, found in names.items() if found]

    def module(self, module: str, names: list[str]) -> nodes.section:
        """Say what a module is for, and list what it defines."""
        section = nodes.section(ids=[nodes.make_id(f"program-{module}")])
        about = nodes.paragraph("", first_line(parse(module)))
        table = nodes.tgroup(cols=len(COLUMNS))
        table += [nodes.colspec(colwidth=width) for width in COLUMNS.values()]
        head = row(*([nodes.Text(title)] for title in COLUMNS))
        rows = [self.row(name, module) for name in names]
        table += [nodes.thead("", head), nodes.tbody("", *rows)]
        classes = ["program", "colwidths-given"]
        section += [nodes.title("", module), about]
        section += nodes.table("", table, classes=classes)
        return section

    def row(self, name: str, module: str) -> nodes.row:
        """Say all about one definition, in the order of the columns."""
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
    """Make a row of a table, each cell one paragraph."""
    paragraphs = [nodes.paragraph("", "", *cell) for cell in cells]
    return nodes.row("", *(nodes.entry("", paragraph) for paragraph in paragraphs))


@cache
def parse(module: str) -> ast.Module:
    """Parse a module's file, once."""
    return ast.parse(modules()[module].read_text(encoding="utf-8"))


@cache
def definitions() -> dict[str, ast.AST]:
    """Map the dotted name of every definition to its code, in file order."""
    return {
        f"{module}.{name}": node
        for module in modules()
        for name, node in defined_in(parse(module).body)
    }


def defined_in(body: list[ast.stmt]) -> Iterator[tuple[str, ast.stmt]]:
    """Yield constants, functions, classes, and methods behind their class."""
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


def reading_order() -> list[str]:
    """Name the modules in the order in which the book prints them."""
    printed = [module_of(name) for names in listings.pages().values() for name in names]
    return list(dict.fromkeys([*printed, *modules()]))


def holder(name: str) -> str:
    """Name the piece that prints a definition: its own, or for a constant the head."""
    return name if name in listings.printed() else module_of(name)


def equations() -> set[str]:
    """Name the definitions whose equation stands in a chapter."""
    return set(LABELLED.findall(text_of_book()))


def documented() -> set[str]:
    """Name the modules that the reference documents."""
    return set(DOCUMENTED.findall(text_of_book()))


def text_of_book() -> str:
    """Return what all pages say, before Sphinx reads them."""
    return "\n".join(path.read_text(encoding="utf-8") for path in BOOK.glob("*.md"))


def is_public(name: str) -> bool:
    """Say whether a function, class or method is for others to call, and says so."""
    private = any(part.startswith("_") for part in name.split("."))
    return not private and summary(name) > " "


def summary(name: str) -> str:
    """Return what a definition says of itself, to stand behind its name."""
    node = definitions()[name]
    return f" {first_line(node)}" if isinstance(node, Definition) else ""


def first_line(node: Definition | ast.Module) -> str:
    """Return the first line of a docstring, without its markup."""
    return (ast.get_docstring(node) or "").split("\n")[0].replace("`", "")


def depend_on_chapters(env: BuildEnvironment) -> None:
    """Let a page be read again when a chapter has changed, and prints other pieces."""
    for path in BOOK.glob("*.md"):
        env.note_dependency(str(path))


def annotate(
    app: Sphinx, what: str, name: str, thing: object, options: object, lines: list[str]
) -> None:
    """Give an entry of the reference its links."""
    depend_on_chapters(app.env)
    piece = name.partition(".")[2]
    if piece in definitions():
        links = [f"Printed in :listing:`{holder(piece)}`."]
        if piece in equations():
            links.append(f"Implements :eq:`{piece}`.")
        lines += ["", " ".join(links), ""]
