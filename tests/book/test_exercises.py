"""The table of the exercises: every chapter's, with their kinds."""

import io
from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace

CONFIG = {
    "extensions": ["myst_nb", "sphinx_exercise", "literate", "theme"],
    "bibtex_bibfiles": [],
    "html_theme": "sphinx_book_theme",
    "numfig": True,
}
INDEX = "# Book\n\n```{toctree}\n01-one\nappendix-a\n```\n"
CHAPTER = """# 1 · One

:::{admonition} Predict
:class: tip
What?
:::

```{exercise} Count
:label: ex-count
:class: kind-compute

How many?
```

```{exercise} Zero
:label: ex-zero
:class: CLASS

Set it to zero.
```
"""


def table(folder: Path, kind: str) -> tuple[str, str]:
    """Build a book of one chapter and the table; return its text and the warnings."""
    (folder / "index.md").write_text(INDEX)
    (folder / "01-one.md").write_text(CHAPTER.replace("CLASS", kind))
    (folder / "appendix-a.md").write_text("# All\n\n```{exercises}\n```\n")
    out, warnings = folder / "out", io.StringIO()
    with docutils_namespace():
        app = Sphinx(folder, None, out, out / "trees", "html", CONFIG, None, warnings)
        app.build()
    page = (out / "appendix-a.html").read_text(encoding="utf-8")
    found = BeautifulSoup(page, "html.parser").select_one("article table")
    text = " ".join(found.get_text(" ").split()) if found else ""
    return text, warnings.getvalue()


@pytest.mark.slow
def test_each_chapter_has_its_predictions_and_exercises(tmp_path: Path) -> None:
    text, warnings = table(tmp_path, "dropdown kind-break-it")
    assert text == (
        "Chapter Predict boxes Exercises 1 · One 1 "
        "Exercise 1.1 , Count: compute Exercise 1.2 , Zero: break it"
    )
    assert "exercise" not in warnings


@pytest.mark.slow
def test_an_exercise_without_a_kind_is_an_error(tmp_path: Path) -> None:
    text, warnings = table(tmp_path, "kind-other")
    assert text == ""
    assert "01-one.md: the exercise 'ex-zero' must have a class" in warnings
