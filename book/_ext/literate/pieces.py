"""Partition the library into the pieces that the book prints.

A piece is a function, a method, a class's head (its docstring and fields), a constant,
or a module's head (its docstring, imports and first constants). Names are dotted,
without ``hardway``: ``attention``, ``attention.softmax``, ``model.GPT2.trace``. Every
nonblank line of the library is in exactly one piece.

The same holds for the JavaScript that computes the living figures. Its modules are
called ``browser.model`` and so on.
"""

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from paths import FIGURES, LIBRARY, REPOSITORY

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
Starts = Iterator[tuple[str, int]]
DEFINED = re.compile(r"(?:async )?(?:function\*?|class|const|let) (\w+)")
METHOD = re.compile(r"  (?:async )?\*?(?!constructor)(\w+)\(.*\{$")


@dataclass(frozen=True)
class Piece:
    """A named run of lines of one file; ``first`` counts from 1."""

    name: str
    path: Path
    first: int
    text: str

    @property
    def last(self) -> int:
        """The number of the last line."""
        return self.first + self.text.count("\n")

    @property
    def language(self) -> str:
        """The language, as Pygments calls it."""
        return language(self.path)

    @property
    def place(self) -> str:
        """The file and lines, as a caption shows them."""
        path = self.path.relative_to(REPOSITORY).as_posix()
        return f"{path}, lines {self.first}–{self.last}"


def language(path: Path) -> str:
    """Return a file's language, as Pygments calls it."""
    return "javascript" if path.suffix == ".js" else "python"


@cache
def modules() -> dict[str, Path]:
    """Map the dotted name of every module to its file, of a package to its __init__."""
    found = {}
    for path in sorted(LIBRARY.rglob("*.py")):
        *packages, name = path.relative_to(LIBRARY).with_suffix("").parts
        parts = packages if packages and name == "__init__" else [*packages, name]
        found[".".join(parts)] = path
    return found


@cache
def scripts(folder: str) -> dict[str, Path]:
    """Map the names of the modules in JavaScript to their files, of one folder."""
    prefix = "browser" if folder == "engine" else f"browser.{folder}"
    files = sorted((FIGURES / folder).glob("*.js"))
    return {f"{prefix}.{path.stem}": path for path in files}


def printed_modules() -> dict[str, Path]:
    """Map the name of every module that the book prints to its file."""
    return modules() | scripts("engine")


def module_of(name: str) -> str:
    """Return the module that contains a piece, or raise `LookupError`."""
    known = printed_modules()
    module = name
    while module not in known:
        module, dot, _ = module.rpartition(".")
        if not dot:
            raise LookupError(f"the library has no module for {name!r}")
    return module


def partition(module: str) -> list[Piece]:
    """Return a module's pieces, in the order of the file.

    Raises `ValueError` for a statement that belongs to no piece.
    """
    path = printed_modules()[module]
    lines = path.read_text(encoding="utf-8").splitlines()
    if path.suffix == ".js":
        starts = list(_starts_in_script(module, lines))
    else:
        starts = list(_starts(module, ast.parse("\n".join(lines)), lines))
    ends = [first - 1 for _, first in starts[1:]] + [len(lines)]
    pieces = []
    for (name, first), last in zip(starts, ends, strict=True):
        text = "\n".join(lines[first - 1 : last]).rstrip()
        if text.strip():
            pieces.append(Piece(name, path, first, text))
    return pieces


def find_pieces(name: str, whole: bool = False) -> list[Piece]:
    """Return the piece called ``name``, with ``whole`` also all pieces inside it.

    Raises `LookupError` if the library has no such piece.
    """
    found = [
        piece
        for piece in partition(module_of(name))
        if piece.name == name or (whole and piece.name.startswith(f"{name}."))
    ]
    if not found or found[0].name != name:
        raise LookupError(f"the library has no piece {name!r}")
    return found


def joined(pieces: Sequence[Piece]) -> Piece:
    """Join consecutive pieces into one."""
    first, last = pieces[0], pieces[-1]
    lines = first.path.read_text(encoding="utf-8").splitlines()
    text = "\n".join(lines[first.first - 1 : last.last])
    return Piece(first.name, first.path, first.first, text)


def _starts(module: str, tree: ast.Module, lines: Sequence[str]) -> Starts:
    """Yield the name and first line of each piece of a module."""
    yield module, 1
    in_head = True
    for node in tree.body:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                in_head = False
                name = f"{module}.{node.name}"
                yield name, _first_line(node, lines)
                if isinstance(node, ast.ClassDef):
                    yield from _methods(name, node, lines)
            case _ if in_head:
                pass
            case (
                ast.Assign(targets=[ast.Name(id=constant)])
                | ast.AnnAssign(target=ast.Name(id=constant))
            ):
                yield f"{module}.{constant}", _first_line(node, lines)
            case _:
                raise ValueError(
                    f"{module}, line {node.lineno}: a statement between definitions "
                    "is in no piece; move it up, to the module's head"
                )


def _starts_in_script(module: str, lines: Sequence[str]) -> Starts:
    """Yield the name and first line of each piece of a module in JavaScript.

    A class's head has its constructor; a comment belongs to what it stands directly
    above.
    """
    yield module, 1
    in_head, inside = True, ""
    for number, line in enumerate(lines, 1):
        name = ""
        if found := DEFINED.match(line):
            name = f"{module}.{found[1]}"
            inside = name if "class" in found[0] else ""
            in_head &= found[0].startswith(("const", "let"))
        elif inside and (found := METHOD.match(line)):
            name = f"{inside}.{found[1]}"
        if name and not in_head:
            first = number
            while lines[first - 2].lstrip().startswith(("/**", "*")):
                first -= 1
            yield name, first


def _methods(name: str, definition: ast.ClassDef, lines: Sequence[str]) -> Starts:
    """Yield the name and first line of each method; fields must precede them."""
    in_head = True
    for node in definition.body:
        if isinstance(node, Definition):
            in_head = False
            yield f"{name}.{node.name}", _first_line(node, lines)
        elif not in_head:
            raise ValueError(
                f"{name}, line {node.lineno}: a statement between methods is in no "
                "piece; move it up, to the class's head"
            )


def _first_line(node: ast.stmt, lines: Sequence[str]) -> int:
    """Return the first line, decorators and the comment above included."""
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    first = min([node.lineno, *(decorator.lineno for decorator in decorators)])
    while lines[first - 2].lstrip().startswith("#"):
        first -= 1
    return first
