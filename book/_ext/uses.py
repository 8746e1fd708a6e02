"""Find out who uses what: the program's order, and each definition's tests."""

import ast
import re
from collections.abc import Mapping
from functools import cache

from names import TESTS, defined_in, definitions, tree_of, used_in
from pieces import LIBRARY, modules


@cache
def uses_of_definitions() -> dict[str, set[str]]:
    """Map every definition to the definitions that it uses."""
    return {
        name: (used_in(node, LIBRARY / f"{name.split('.')[0]}.py", name) - {name})
        & definitions().keys()
        for name, node in definitions().items()
    }


@cache
def uses_of_tests() -> dict[str, set[str]]:
    """Map every test, ``file.function``, to the definitions that it uses.

    What a test's helpers and fixtures use, it uses.
    """
    own = {
        f"{path.stem}.{name}": used_in(node, path, f"{path.stem}.{name}")
        for path in sorted(TESTS.glob("*.py"))
        for name, node in defined_in(path).items()
    }
    helpers = {name: used & own.keys() for name, used in own.items()}
    return {
        name: set().union(*(own[helper] for helper in reachable(name, helpers)))
        & definitions().keys()
        for name in own
        if name.split(".")[1].startswith("test_")
    }


def registrars(name: str) -> set[str]:
    """Name the definitions that decorate this one: they hold it, and call it."""
    decorators = getattr(definitions()[name], "decorator_list", [])
    module = name.split(".")[0]
    parts = [part for decorator in decorators for part in ast.walk(decorator)]
    names = {f"{module}.{part.id}" for part in parts if isinstance(part, ast.Name)}
    return names & definitions().keys()


def reachable(start: str, edges: Mapping[str, set[str]]) -> set[str]:
    """Return ``start`` and all that can be reached from it."""
    reached: set[str] = set()
    waiting = [start]
    while waiting:
        here = waiting.pop()
        if here not in reached:
            reached.add(here)
            waiting += edges[here]
    return reached


def modules_in_order() -> list[str]:
    """Order the modules: each after those it uses."""
    edges = {module: set[str]() for module in sorted(modules(), key=chapter)}
    for name, used in uses_of_definitions().items():
        edges[name.split(".")[0]] |= {other.split(".")[0] for other in used}
    return in_order(edges)


def chapter(module: str) -> str:
    """Return the number of the chapter that a module says it belongs to."""
    text = ast.get_docstring(tree_of(LIBRARY / f"{module}.py")) or ""
    return next(iter(re.findall(r"\(chapters? (\d)", text)), "none")


def definitions_in_order(module: str) -> list[str]:
    """Order a module's definitions: each after those of its module that it uses."""
    names = [name for name in definitions() if name.split(".")[0] == module]
    edges = {name: uses_of_definitions()[name] & set(names) for name in names}
    for name in names:
        edges[name] |= {name.rpartition(".")[0]} & set(names)  # a method's class
    return in_order(edges)


def in_order(edges: Mapping[str, set[str]]) -> list[str]:
    """Put every name behind those it points to, else in the order given."""
    ordered: dict[str, None] = {}
    entered: set[str] = set()

    def visit(name: str) -> None:
        if name not in entered:  # a circle is entered once
            entered.add(name)
            for other in (other for other in edges if other in edges[name]):
                visit(other)
            ordered[name] = None

    for name in edges:
        visit(name)
    return list(ordered)


def tests_of(name: str) -> list[str]:
    """Name the tests that use a definition, those of its own module first."""
    tests = [test for test, used in uses_of_tests().items() if name in used]
    own = f"test_{name.split('.')[0]}."
    return sorted(tests, key=lambda test: (not test.startswith(own), test))


def through(name: str) -> list[str]:
    """Name the nearest tested definitions by which the tests reach this one."""
    seen, nearest = {name}, {name}
    while nearest and not any(map(tests_of, nearest)):
        nearest = set().union(*map(users_of, nearest)) - seen
        seen |= nearest
    return sorted(filter(tests_of, nearest))


def users_of(name: str) -> set[str]:
    """Name the definitions whose code uses this one, or that hold and call it."""
    users = {user for user, used in uses_of_definitions().items() if name in used}
    return users | registrars(name)
