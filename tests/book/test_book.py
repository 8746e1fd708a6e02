"""The chapters and the extensions that build them, without building."""

import re

import pytest

from paths import BOOK, REPOSITORY

CHAPTERS = sorted(BOOK.glob("*.md"))
WITHOUT_CELLS = [
    "{whole-program}", ".. automodule::", "{glossary}", "{bibliography}", "{exercises}",
    "{listing} browser.",
]  # fmt: skip
NAMES = [chapter.stem for chapter in CHAPTERS]


@pytest.fixture(params=CHAPTERS, ids=NAMES)
def text(request: pytest.FixtureRequest) -> str:
    return request.param.read_text(encoding="utf-8")


def test_the_table_of_contents_holds_every_chapter() -> None:
    toc = (REPOSITORY / "_toc.yml").read_text(encoding="utf-8")
    assert sorted(re.findall(r"(?:root|file): book/(\S+)", toc)) == sorted(NAMES)


def test_a_chapter_is_a_notebook(text: str) -> None:
    """Without this header every code cell would vanish from the page."""
    if any(directive in text for directive in WITHOUT_CELLS):
        assert "{code-cell}" not in text
        return
    header = text.split("---\n")[1]
    assert "format_name: myst" in header
    assert "name: python3" in header
    assert text.count("```{code-cell} ipython3") >= 2


@pytest.mark.parametrize("folder", ["book/_ext", "tools"])
def test_every_module_of_the_machinery_is_described(folder: str) -> None:
    guide = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
    files = (REPOSITORY / folder).rglob("*.py")
    names = [path.stem for path in files if path.stem != "__init__"]
    assert len(names) >= 5
    assert [name for name in names if f"`{name}`" not in guide] == []


@pytest.mark.parametrize(
    "hole", ["skip-execution", "raises-exception", "remove-", "allow_errors"]
)
def test_a_chapter_hides_no_cell_and_excuses_no_failure(text: str, hole: str) -> None:
    assert hole not in text


def test_every_figure_is_described(text: str) -> None:
    figures = text.count("\n  figure:\n")
    assert text.count("\n    alt: ") == figures
    assert len(re.findall(r"\n    caption: \S", text)) == figures
