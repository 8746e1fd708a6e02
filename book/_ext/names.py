"""Say what the names in a piece of code stand for: which of the library's definitions.

Names are followed through imports, annotations, assignments and calls, as a reader
follows them; nothing is run. So a method is found where its object's class is written
somewhere near: ``cache: KVCache``, ``model = GPT2(...)``, ``-> Trace``.
"""

import ast
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from pieces import LIBRARY, REPOSITORY, modules

TESTS = REPOSITORY / "tests"
PACKAGE = LIBRARY.name

Function = ast.FunctionDef | ast.AsyncFunctionDef
# What a name stands for: "module attention", "definition attention.softmax",
# "object model.GPT2" (an instance of it), or "test references.random_model".
Names = dict[str, str]


@cache
def definitions() -> dict[str, ast.AST]:
    """Map the dotted name of every definition of the library to its code."""
    return {
        f"{module}.{name}": node
        for module in modules()
        for name, node in defined_in(LIBRARY / f"{module}.py").items()
    }


def used_in(code: ast.AST, path: Path, name: str) -> set[str]:
    """Resolve every name in the code of the definition, or test function, ``name``."""
    scope = dict(_names(path))
    fixtures = _names(TESTS / "conftest.py") if path.parent == TESTS else {}
    owner = name.rpartition(".")[0]
    scope |= {"self": f"object {owner}", "cls": f"definition {owner}"}
    found: set[str] = set()
    parts = sorted(ast.walk(code), key=lambda part: getattr(part, "lineno", 0))
    for part in parts:
        match part:
            case ast.arg(arg=parameter, annotation=annotation):
                found.add(_names(path).get(parameter) or fixtures.get(parameter, ""))
                scope[parameter] = _annotated(annotation, scope) or scope.get(
                    parameter, ""
                )
            case ast.Assign(targets=[target], value=value):
                _assign(target, value, scope)
    for part in parts:
        found.add(_resolve(part, scope))
        if isinstance(part, ast.Attribute) and _resolve(part.value, scope) == "package":
            found.add("definition __init__.__getattr__")
        if isinstance(part, ast.Call):
            found |= _called(_resolve(part.func, scope))
    kinds = ("definition ", "test ")
    return {thing.split(" ")[1] for thing in found if thing.startswith(kinds)}


@cache
def tree_of(path: Path) -> ast.Module:
    """Parse a file, once."""
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def defined_in(path: Path) -> dict[str, ast.AST]:
    """Map what a file defines to its code: constants, functions, classes, methods."""
    found: dict[str, ast.AST] = {}
    for node in tree_of(path).body:
        if isinstance(node, ast.Assign) and path.parent == LIBRARY:
            found[node.targets[0].id] = node
        elif isinstance(node, ast.AnnAssign) and path.parent == LIBRARY:
            found[node.target.id] = node
        elif isinstance(node, Function):
            found[node.name] = node
        elif isinstance(node, ast.ClassDef):
            methods = [part for part in node.body if isinstance(part, Function)]
            head = [part for part in node.body if part not in methods]
            found[node.name] = ast.ClassDef(
                node.name, node.bases, [], head, node.decorator_list
            )
            found |= {f"{node.name}.{method.name}": method for method in methods}
    return found


@cache
def _exported() -> Names:
    """Say what the package's own names stand for: it imports them for type checkers."""
    parts = ast.walk(tree_of(LIBRARY / "__init__.py"))
    return _imported([part for part in parts if isinstance(part, ast.ImportFrom)])


def _imported(imports: Sequence[ast.ImportFrom]) -> Names:
    """Say what names stand for that are imported from the library, or between tests."""
    names: Names = {}
    for node in imports:
        package, _, module = (node.module or "").partition(".")
        for alias in node.names:
            name, known = alias.name, alias.asname or alias.name
            if package == PACKAGE and module:
                names[known] = f"definition {module}.{name}"
            elif package == PACKAGE and name in modules():
                names[known] = f"module {name}"
            elif package == PACKAGE:
                names[known] = _exported().get(name, "")
            elif (path := TESTS / f"{package}.py").is_file():
                names[known] = _names(path).get(name, "")
    return names


@cache
def _declared(path: Path) -> Names:
    """Say what the names stand for that a file imports or defines."""
    body = tree_of(path).body
    names = _imported([node for node in body if isinstance(node, ast.ImportFrom)])
    for node in body:
        if isinstance(node, ast.Import) and any(
            alias.name.split(".")[0] == PACKAGE for alias in node.names
        ):
            names[PACKAGE] = "package"
    kind = "definition" if path.parent == LIBRARY else "test"
    return names | {name: f"{kind} {path.stem}.{name}" for name in defined_in(path)}


@cache
def _names(path: Path) -> Names:
    """Say what all names at the top level of a file stand for."""
    names = dict(_declared(path))
    for node in tree_of(path).body:
        if isinstance(node, ast.Assign) and path.parent == TESTS:
            _assign(node.targets[0], node.value, names)
    return names


def _assign(target: ast.AST, value: ast.AST, scope: Names) -> None:
    """Let the names on the left stand for what is on the right."""
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        for one, of_them in zip(target.elts, value.elts, strict=False):
            _assign(one, of_them, scope)
    elif isinstance(target, ast.Name):
        scope[target.id] = _resolve(value, scope)


def _resolve(node: ast.AST, scope: Names) -> str:
    """Say what an expression stands for, or nothing."""
    match node:
        case ast.Name(id=name):
            return scope.get(name, "")
        case ast.Attribute(value=value, attr=name):
            match _resolve(value, scope).split(" "):
                case ["package"] if f"__init__.{name}" in definitions():
                    return f"definition __init__.{name}"
                case ["package"]:
                    return _exported().get(name, "")
                case ["module" | "definition" | "object", owner]:
                    inner = f"{owner}.{name}"
                    return f"definition {inner}" if inner in definitions() else ""
        case ast.Call(func=function):
            return _returned(_resolve(function, scope))
    return ""


def _returned(function: str) -> str:
    """Say what a call returns: an object of the class, or what is annotated."""
    kind, _, name = function.partition(" ")
    module, _, local = name.partition(".")
    path = (LIBRARY if kind == "definition" else TESTS) / f"{module}.py"
    known = defined_in(path) if kind in ("definition", "test") else {}
    match known.get(local):
        case ast.ClassDef():
            return f"object {name}"
        case ast.FunctionDef(returns=ast.Name(id="Self")):
            return f"object {name.rpartition('.')[0]}"
        case ast.FunctionDef(returns=annotation):
            return _annotated(annotation, _declared(path))
    return ""


def _annotated(annotation: ast.AST | None, scope: Names) -> str:
    """Say what an annotation promises: an object of one of the library's classes."""
    for part in ast.walk(annotation) if annotation else ():
        thing = _resolve(part, scope)
        if isinstance(part, ast.Name | ast.Attribute) and thing.startswith("def"):
            return thing.replace("definition", "object")
    return ""


def _called(thing: str) -> set[str]:
    """Name the methods that run when a class, or an object, is called."""
    kind, _, owner = thing.partition(" ")
    ways = {"definition": ["__init__", "__post_init__"], "object": ["__call__"]}
    methods = [f"{owner}.{method}" for method in ways.get(kind, [])]
    return {f"definition {name}" for name in methods if name in definitions()}
