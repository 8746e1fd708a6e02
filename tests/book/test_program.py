"""The map of the program: all that is defined, in reading order, with its equation."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from lint import completeness
from literate import listings, pieces, program

FIRST = """'''The first module.'''
LIMIT: int = 3
def late(x):
    '''Do `it`.

    And more.
    '''
class Thing:
    size: int = 0
    def grow(self): ...
    async def _shrink(self): ...
"""


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A library of two modules, and its book, in place of the real ones."""
    library, book = tmp_path / "hardway", tmp_path / "book"
    (library / "fast").mkdir(parents=True)
    book.mkdir()
    (library / "first.py").write_text(FIRST)
    (library / "fast" / "last.py").write_text("'''The last.'''\ndef early(): ...\n")
    (book / "01-one.md").write_text(
        "```{listing} first.late\n```\n$$\nx\n$$ (first.late)\n\n"
        "$$y$$ (first.gone)\n\n```{math}\n:label: a-law\nz\n```\n"
    )
    (book / "appendix-a.md").write_text("```{listing} fast.last\n:whole:\n```\n")
    for module in (pieces, listings, program):
        for name, value in (("LIBRARY", library), ("BOOK", book)):
            monkeypatch.setattr(module, name, value, raising=False)
    monkeypatch.setattr(pieces, "REPOSITORY", tmp_path)
    monkeypatch.setattr(pieces, "FIGURES", tmp_path)
    forget()
    yield tmp_path
    forget()


def forget() -> None:
    """Clear the caches of what the files say."""
    for function in (
        pieces.modules, pieces.scripts, listings.pages, listings.printed, program.parse,
        program.definitions, program.equations, program.documented,
    ):  # fmt: skip
        function.cache_clear()


def test_definitions_stand_in_the_order_of_the_files(tree: Path) -> None:
    assert list(program.definitions()) == [
        "fast.last.early",
        "first.LIMIT",
        "first.late",
        "first.Thing",
        "first.Thing.grow",
        "first.Thing._shrink",
    ]


def test_modules_stand_in_the_order_of_reading(tree: Path) -> None:
    printed = {"first": "01-one", "fast.last": "appendix-a"}
    assert list(program.reading_order().items()) == list(printed.items())
    (tree / "hardway" / "unprinted.py").touch()
    forget()
    assert list(program.reading_order()) == ["first", "fast.last", "unprinted"]
    assert program.reading_order() == printed | {"unprinted": ""}


@pytest.mark.parametrize(
    ("pages", "named"), [("0", ["first"]), ("1|appendix", ["fast.last"]), ("1", [])]
)
def test_a_map_has_the_modules_of_its_pages(
    tree: Path, pages: str, named: list[str]
) -> None:
    directive = program.WholeProgram.__new__(program.WholeProgram)
    noted = SimpleNamespace(note_dependency=lambda path: None)
    settings = SimpleNamespace(env=noted)
    document = SimpleNamespace(settings=settings)
    directive.state = SimpleNamespace(document=document)
    directive.arguments = [pages]
    assert [section[0].astext() for section in directive.run()] == named


def test_a_definition_is_printed_on_its_own_or_with_its_module(tree: Path) -> None:
    assert program.holder("first.late") == "first.late"
    assert program.holder("first.LIMIT") == "first"
    assert program.holder("fast.last.early") == "fast.last.early"


def test_what_a_definition_says_of_itself(tree: Path) -> None:
    assert program.summary("first.late") == " Do it."
    assert program.summary("first.LIMIT") == ""


def test_an_equation_of_nothing_is_named(tree: Path) -> None:
    assert program.equations() == {"first.late", "first.gone", "a-law"}
    standard = SimpleNamespace(anonlabels={})
    env = SimpleNamespace(get_domain={"std": standard}.get)
    problems = [problem.text for problem in completeness.check(env)]
    assert [text for text in problems if "equation" in text] == [
        "the library does not define a-law, an equation's label",
        "the library does not define first.gone, an equation's label",
    ]


def test_an_entry_of_the_reference_has_its_links(tree: Path) -> None:
    app = SimpleNamespace(env=SimpleNamespace(note_dependency=lambda path: None))
    entries: dict[str, list[str]] = {}
    for name in ("first.late", "fast.last.early", "first.gone"):
        entries[name] = ["Do it."]
        program.annotate(app, "", f"hardway.{name}", None, None, entries[name])
    assert [lines[1:] for lines in entries.values()] == [
        ["", "Printed in :listing:`first.late`. Implements :eq:`first.late`.", ""],
        ["", "Printed in :listing:`fast.last.early`.", ""],
        [],
    ]


@pytest.mark.slow
def test_the_real_program() -> None:
    assert {"attention.attention", "block.layer_norm"} <= program.equations()
    assert next(iter(program.reading_order())) == "miniature"
    assert len(program.definitions()) > 100
