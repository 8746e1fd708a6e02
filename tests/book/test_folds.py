"""What is folded: results that answer a question, cells that only check or import."""

import io
from pathlib import Path

import pytest
from bs4 import BeautifulSoup, Tag
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace

from theme.folds import has_output, in_a_line

PAGE = """---
jupytext:
  text_representation: {{extension: .md, format_name: myst, format_version: 0.13}}
kernelspec: {{display_name: Python 3, language: python, name: python3}}
---

# Page

{}
"""
ASK = "\n:::{admonition} Predict\nHow many?\n:::\n"


def cell(code: str) -> str:
    return f"\n```{{code-cell}} ipython3\n{code}\n```\n"


def article(folder: Path, text: str) -> Tag:
    (folder / "index.md").write_text(PAGE.format(text))
    config = {
        "bibtex_bibfiles": [],
        "extensions": ["myst_nb", "theme"],
        "myst_enable_extensions": ["colon_fence"],
        "html_theme": "sphinx_book_theme",
    }
    with docutils_namespace():
        Sphinx(
            folder, None, folder / "out", folder / "trees", "html", config,
            status=None, warning=io.StringIO(), warningiserror=True,
        ).build()  # fmt: skip
    page = (folder / "out" / "index.html").read_text()
    return BeautifulSoup(page, "html.parser").select_one("article.bd-article")


@pytest.mark.slow
def test_what_answers_a_question_is_folded(tmp_path: Path) -> None:
    body = article(
        tmp_path,
        cell("print('before')") + ASK + "Think.\n" + cell("x = 1")
        + cell("print('first')") + cell("print('adjacent')") + "So.\n"
        + cell("print('later')"),
    )  # fmt: skip
    folded = body.select("details .cell_output pre")
    assert [out.get_text().strip() for out in folded] == ["first", "adjacent"]
    assert {pre.get_text().strip() for pre in body.select(".cell_output pre")} == {
        "before", "first", "adjacent", "later",
    }  # fmt: skip
    code = [
        fold.select_one(".cell_input").get_text() for fold in body.select("details")
    ]
    assert [line.strip() for line in code] == ["print('first')", "print('adjacent')"]


@pytest.mark.slow
def test_a_check_is_one_line(tmp_path: Path) -> None:
    body = article(tmp_path, cell("assert 1 == 1\nassert 2 == 2") + cell("y = 3"))
    [fold] = body.select("details.above-input")
    assert fold.select_one(".collapsed").get_text() == "Checked here: 2 assertions"
    assert "aria-label" not in fold.summary.attrs  # its line is what is read aloud
    assert "assert 2 == 2" in fold.get_text()
    assert "y = 3" not in fold.get_text()


@pytest.mark.parametrize(
    ("code", "line"),
    [
        ("assert x", "Checked here: 1 assertion"),
        ("torch.testing.assert_close(x, y)", "Checked here: 1 assertion"),
        ("for x in y:\n    assert x\nassert y", "Checked here: 2 assertions"),
        ('assert x\nplots.glue("x", x)', "Checked here: 1 assertion"),
        ("import math\nfrom math import pi", "What this page imports"),
        (
            "import hardway\ndirectory = hub.find('auto')\n"
            'model = hardway.GPT2.from_pretrained("auto")\nconfig = model.config',
            "What this page imports and loads",
        ),
        ("import math\nx = 1", ""),
        ("y = x\nassert x == y", ""),
        ("if x:\n    assert x\nelse:\n    y = x", ""),
        ("for x in y:\n    z = x\n    assert z", ""),
        ('plots.glue("x", x)', ""),
        ("", ""),
        ("# your turn", ""),
        ("async def f():\n    assert x", ""),
        ("x = 1", ""),
        ("def f():\n    assert x", ""),
        ("import math\ndef f(): ...", ""),
        ("%time x", ""),
    ],
)
def test_what_stands_for_a_cell_without_output(code: str, line: str) -> None:
    assert in_a_line(code) == line


def test_after_a_question_no_assertion_is_left_open() -> None:
    assert in_a_line("y = x\nassert x == y", True) == "Checked here: 1 assertion"
    assert in_a_line("y = x", True) == ""


def test_output_is_found_whatever_stands_behind_it() -> None:
    output = nodes.container(nb_element="cell_code_output")
    note = nodes.paragraph("", "Measured.")
    assert has_output(nodes.container("", nodes.container(), output, note))
    assert not has_output(nodes.container("", nodes.container(), note))


@pytest.mark.slow
def test_a_check_next_to_an_answer_gives_nothing_away(tmp_path: Path) -> None:
    checks = cell("y = 4\nassert y == 4")
    body = article(tmp_path, ASK + cell("print(4)") + checks + "So.\n" + checks)
    folded = [fold.select_one("pre").get_text() for fold in body.select("details")]
    assert ["assert" in code for code in folded] == [False, True]
