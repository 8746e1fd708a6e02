"""The map of the program: names are followed, gaps found, nothing out of order."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import names
import pieces
import program
import uses

FRONT = """'''The front door.'''
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from hardway.second import Thing as Thing
__version__ = "1"
def __getattr__(name): ...
"""
FIRST = """'''The first module (chapter 1).'''
LIMIT = 3
def late(x):
    return early(x) + LIMIT
def early(x):
    return x
@late
def held():
    ...
def forgotten():
    ...
"""
SECOND = """'''The second module (chapter 2).'''
from hardway import first
from hardway.first import early as soon
class Thing:
    size: int = soon(1)
    def __init__(self):
        self.grow()
    def __call__(self):
        return first.late(1)
    def grow(self) -> "Thing":
        return self
    @classmethod
    def make(cls) -> Self:
        return cls()
def pair(a: Thing | None, b):
    a.grow()
    b.grow()
"""
HELPERS = """from hardway import Thing
def thing() -> Thing:
    return Thing.make()
"""
FIXTURES = """import pytest, hardway
@pytest.fixture
def pair():
    return hardway.Thing()
"""
TEST = """import hardway
from hardway import first
from helpers import thing
ONE = thing()
def test_by_assignment():
    a, b = thing(), 2
    a()
def test_by_annotation(x: hardway.Thing): x.grow()
def test_by_a_fixture(pair): ...
def test_at_the_top(): ONE.grow()
def test_module(): assert first.late(1) < first.LIMIT
def test_version(): assert hardway.__version__
def test_of_something_else(late, grow): late.grow(grow)
"""


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A library of three modules and its tests, in place of the real ones."""
    library, tests, book = (tmp_path / name for name in ("hardway", "tests", "book"))
    for directory in (library, tests, book):
        directory.mkdir()
    (library / "__init__.py").write_text(FRONT)
    (library / "first.py").write_text(FIRST)
    (library / "second.py").write_text(SECOND)
    (tests / "helpers.py").write_text(HELPERS)
    (tests / "conftest.py").write_text(FIXTURES)
    (tests / "test_first.py").write_text(TEST)
    for module in (names, uses, pieces, program):
        for name, value in (("LIBRARY", library), ("TESTS", tests), ("BOOK", book)):
            monkeypatch.setattr(module, name, value, raising=False)
    forget()
    yield tmp_path
    forget()


def forget() -> None:
    """Empty the caches, which hold the trees of the files."""
    for module in (names, uses):
        for function in vars(module).values():
            if hasattr(function, "cache_clear"):
                function.cache_clear()


@pytest.mark.parametrize(
    ("test", "used"),
    [
        ("by_assignment", {"Thing", "Thing.make", "Thing.__call__"}),
        ("by_annotation", {"Thing", "Thing.grow"}),
        ("by_a_fixture", {"Thing", "Thing.__init__"}),
        ("at_the_top", {"Thing.grow"}),
        ("of_something_else", set()),
    ],
)
def test_methods_are_found_by_their_object(
    tree: Path, test: str, used: set[str]
) -> None:
    found = uses.uses_of_tests()[f"test_first.test_{test}"]
    assert found - {"__init__.__getattr__"} == {f"second.{name}" for name in used}


def test_names_of_modules_and_of_the_package(tree: Path) -> None:
    tests = uses.uses_of_tests()
    assert tests["test_first.test_module"] == {"first.late", "first.LIMIT"}
    assert "__init__.__version__" in tests["test_first.test_version"]


def test_what_definitions_use(tree: Path) -> None:
    used = uses.uses_of_definitions()
    assert used["first.late"] == {"first.early", "first.LIMIT"}
    assert used["second.Thing"] == {"first.early"}
    assert used["second.Thing.__init__"] == {"second.Thing.grow"}
    assert used["second.Thing.__call__"] == {"first.late"}
    assert used["second.Thing.make"] == {"second.Thing", "second.Thing.__init__"}
    assert used["second.pair"] == {"second.Thing", "second.Thing.grow"}


def test_each_comes_after_those_it_uses(tree: Path) -> None:
    assert uses.modules_in_order() == ["first", "second", "__init__"]
    assert uses.definitions_in_order("first") == [
        "first.LIMIT",
        "first.early",
        "first.late",
        "first.held",
        "first.forgotten",
    ]


def test_tests_reach_a_definition_through_its_users(tree: Path) -> None:
    assert uses.tests_of("first.early") == []
    assert uses.through("first.early") == ["first.late", "second.Thing"]
    assert uses.through("first.held") == ["first.late"]  # which decorates it
    assert uses.through("first.forgotten") == []


def test_gaps_are_named(tree: Path) -> None:
    (tree / "book" / "page.md").write_text(
        "$$\nx\n$$ (first.late)\n\n$$y$$ (first.gone)\n\n"
        "```{math}\n:label: a-law\nz\n```\n"
    )
    assert program.equations() == {"first.late", "first.gone", "a-law"}
    assert program.problems() == [
        "no test reaches first.forgotten",
        "no test reaches second.pair",
        "an equation is labelled a-law, which the library does not define",
        "an equation is labelled first.gone, which the library does not define",
    ]


def test_a_docstring_without_its_chapter_is_named(tree: Path) -> None:
    path = tree / "hardway" / "first.py"
    path.write_text(
        FIRST
        + "def said():\n    '''Do it. Chapter 1.'''\n"
        + "def wrong():\n    '''Do it. Chapter 2.'''\n"
        + "def _private():\n    '''Do it.'''\n"
    )
    shown = ["first", "first.said", "first.wrong", "first._private", "first.early"]
    assert program.silent(
        {"book/01-first": shown, "book/appendix": ["first.late"]}
    ) == [
        "the docstring of first.wrong does not name chapter 1",
        "the docstring of first.early does not name chapter 1",
    ]


def test_the_order_of_the_real_program() -> None:
    seen: set[str] = set()
    for module in uses.modules_in_order():
        for name in uses.definitions_in_order(module):
            used = uses.uses_of_definitions()[name]
            assert not (used - seen - {name}), f"{name} comes before what it uses"
            seen.add(name)
    assert seen == set(names.definitions())


def test_the_map_of_the_real_program_has_no_gap() -> None:
    assert program.problems() == []
    assert {"attention.attention", "block.layer_norm"} <= program.equations()
