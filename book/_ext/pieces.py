"""Cut the library into the pieces that the book prints.

A piece is a function, a method, a class's head (its docstring and fields), the top of a
module (its docstring, imports and constants, down to the first definition), or a
constant further down. Their names are dotted, without the package: ``attention``,
``attention.softmax``, ``model.GPT2``, ``model.GPT2.trace``, ``hub.CHECKPOINTS``.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
LIBRARY = REPOSITORY / "src" / "hardway"

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


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


def find_piece(name: str, whole: bool = False) -> Piece:
    """Return the piece called ``name``; ``whole`` gives a class with its methods, or a
    module's file.

    Raises `LookupError` where the library has no such piece.
    """
    module = name.split(".")[0]
    path = LIBRARY / f"{module}.py"
    if not path.is_file():
        raise LookupError(f"the library has no module {module!r} (asked for {name!r})")
    lines = path.read_text(encoding="utf-8").splitlines()
    if whole and name == module:
        return _piece(name, path, lines, 1, len(lines))
    for found, first, last in _spans(module, lines, whole):
        if found == name:
            return _piece(name, path, lines, first, last)
    raise LookupError(f"the library has no piece {name!r}")


def _spans(
    module: str, lines: list[str], whole: bool
) -> Iterator[tuple[str, int, int]]:
    """Name the first and last line of every piece of a module."""
    tree = ast.parse("\n".join(lines))
    definitions = [node for node in tree.body if isinstance(node, Definition)]
    yield module, 1, min(map(_first_line, definitions), default=len(lines) + 1) - 1
    below = tree.body.index(definitions[0]) if definitions else len(tree.body)
    for node in tree.body[below:]:
        match node:
            case ast.Assign(targets=[ast.Name(id=constant)]):
                yield (
                    f"{module}.{constant}",
                    node.lineno,
                    node.end_lineno or node.lineno,
                )
    for node in definitions:
        name, first = f"{module}.{node.name}", _first_line(node)
        methods = [child for child in node.body if isinstance(child, Definition)]
        if not isinstance(node, ast.ClassDef) or whole or not methods:
            yield name, first, _last_line(node)
            continue
        yield name, first, _first_line(methods[0]) - 1
        for method in methods:
            yield f"{name}.{method.name}", _first_line(method), _last_line(method)


def _first_line(node: Definition) -> int:
    return min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])


def _last_line(node: ast.stmt) -> int:
    return node.end_lineno or node.lineno


def _piece(name: str, path: Path, lines: list[str], first: int, last: int) -> Piece:
    while last > first and not lines[last - 1].strip():
        last -= 1
    return Piece(name, path, first, "\n".join(lines[first - 1 : last]))
