"""The glossary and the bold terms of the pages are the same; planted gaps are found."""

from pathlib import Path

import pytest
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace

from lint.glossary import check, normal, problems

INDEX = "# Start\n\n```{{toctree}}\none\nappendix-glossary\n```\n\n{}\n"
GLOSSARY = "# G\n\n```{{glossary}}\n{}\n```\n\nHere **bold** is no term.\n"
CAT = "cat\n  It purrs. [Chapter 1](one.md)."


def found(folder: Path, one: str, glossary: str = CAT, index: str = "") -> str:
    pages = {"index": INDEX.format(index), "one": f"# One\n\n{one}\n"}
    pages["appendix-glossary"] = GLOSSARY.format(glossary)
    for name, text in pages.items():
        (folder / f"{name}.md").write_text(text)
    config = {"extensions": ["myst_nb"], "myst_enable_extensions": ["colon_fence"]}
    with docutils_namespace():
        app = Sphinx(
            folder, None, folder / "out", folder / "trees", "dummy", config,
            status=None, warning=None,
        )  # fmt: skip
        app.build()
    return "\n".join(problem.text for problem in check(app.env))


@pytest.mark.parametrize(
    "page",
    [
        "A **cat** purrs.",
        "**Cats** purr.",
        "- a **cat**: it purrs",
        "| animal |\n|---|\n| **cat** |",
        ":::{admonition} Predict\nDoes a **cat** purr?\n:::",
        "A **cat**.\n\n- **First**: look.\n",
        "A **cat**.\n\n:::{admonition} What to remember\n:class: x\n- A **dog**.\n:::",
    ],
)
def test_a_term_in_bold_is_in_the_glossary(tmp_path: Path, page: str) -> None:
    assert found(tmp_path, page) == ""


@pytest.mark.parametrize(
    ("page", "term"),
    [
        ("A **cat** and a **black\ndog**.", "black dog"),
        ("A **cat**.\n\n- a **dog**", "dog"),
        ("A **cat**.\n\n:::{admonition} Predict\nA **dog**?\n:::", "dog"),
    ],
)
def test_a_term_without_an_entry_is_a_warning(
    tmp_path: Path, page: str, term: str
) -> None:
    problem = f"one has «{term}» in bold, and the glossary does not"
    assert problem in found(tmp_path, page)


@pytest.mark.parametrize(
    ("page", "glossary", "index", "problem"),
    [
        ("A *cat*.", CAT, "", "«cat» leads to one, without it in bold"),
        ("A **cat**.", "cat\n  It purrs.", "", "«cat» leads to no page"),
        ("A *cat*.", CAT, "A **cat**.", "«cat» leads to one, without it in bold"),
        ("A **cat**.", f"tom\n{CAT}", "", "«tom» leads to one, without it in bold"),
    ],
)
def test_an_entry_that_no_page_explains_is_a_warning(
    tmp_path: Path, page: str, glossary: str, index: str, problem: str
) -> None:
    assert problem in found(tmp_path, page, glossary, index)


def test_one_page_of_several_is_enough() -> None:
    bold = {"a": {"cat": "cat"}, "b": {}}
    assert list(problems(bold, {"Cats": {"a", "b"}})) == []


@pytest.mark.parametrize("term", ["Stop ids", "stop id"])
def test_one_term_has_one_form(term: str) -> None:
    assert normal(term) == "stop id"
