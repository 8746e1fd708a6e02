"""Numbers of figures, listings, exercises and equations begin with the chapter's."""

import io
import re
from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace

CONFIG = {
    "extensions": ["myst_nb", "sphinx_exercise", "literate", "theme"],
    "bibtex_bibfiles": [],
    "myst_enable_extensions": ["dollarmath"],
    "html_theme": "sphinx_book_theme",
    "numfig": True,
}
INDEX = """# Book

```{toctree}
zero
four
one
two
```
"""
PAGE = """# {title}

## A section

```{{listing}} {piece}
```

```{{figure}} dot.svg
:name: fig-{name}
:alt: a dot

A dot.
```

```{{figure}} dot.svg
:name: fig-{name}-again
:alt: a dot

Another.
```

$$x$$ (eq-{name})

```{{exercise}} Count
:label: ex-{name}
How many?
```

See {{numref}}`fig-{name}-again`, {{eq}}`eq-{name}`, {{ref}}`ex-four`,
{{listing}}`attention.softmax`.
"""
PIECES = {
    "0 · Nothing": "attention.causal_mask",
    "4 · Attention": "attention.softmax",
    "First aid": "block.gelu",
    "Second": "block.mlp",
}


def build(folder: Path) -> str:
    """Build the book again, and return what Sphinx said."""
    said = io.StringIO()
    with docutils_namespace():
        Sphinx(
            folder, None, folder / "out", folder / "trees", "html", CONFIG,
            status=said, warning=said, warningiserror=True,
        ).build()  # fmt: skip
    return re.sub(r"\x1b\[[\d;]*m", "", said.getvalue())


def page(folder: Path, name: str) -> BeautifulSoup:
    return BeautifulSoup((folder / "out" / f"{name}.html").read_text(), "html.parser")


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("book")
    (folder / "dot.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    (folder / "index.md").write_text(INDEX)
    names = ("zero", "four", "one", "two")
    for name, (title, piece) in zip(names, PIECES.items(), strict=True):
        text = PAGE.format(title=title, name=name, piece=piece)
        (folder / f"{name}.md").write_text(text)
    build(folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "number"), [("zero", "0"), ("four", "4"), ("one", "A"), ("two", "B")]
)
def test_numbers_begin_with_the_chapter(book: Path, name: str, number: str) -> None:
    article = page(book, name).select_one("article")
    captions = [tag.get_text().strip() for tag in article.select(".caption-number")]
    assert captions == [
        f"Listing {number}.1",
        f"Figure {number}.1",
        f"Figure {number}.2",
        f"Exercise {number}.1",
    ]
    assert article.select_one(".eqno").get_text().startswith(f"({number}.1)")
    last = " ".join(article.find_all("p")[-1].get_text().split())
    assert last == f"See Figure {number}.2, ({number}.1), Exercise 4.1, Listing 4.1."


@pytest.mark.slow
def test_appendices_have_letters(book: Path) -> None:
    appendix = page(book, "two")
    titles = [tag.get_text().rstrip("#") for tag in appendix.select("section > h1, h2")]
    assert titles[-2:] == ["B · Second", "A section"]
    assert appendix.title.get_text().startswith("B · Second")
    toc = [tag.get_text() for tag in page(book, "zero").select("li.toctree-l1 > a")]
    assert toc == ["0 · Nothing", "4 · Attention", "A · First aid", "B · Second"]


@pytest.mark.slow
def test_only_another_letter_writes_all_pages(book: Path) -> None:
    (book / "zero.md").write_text((book / "zero.md").read_text() + "\nMore.\n")
    assert "now-outdated files... none found" in build(book)
    (book / "index.md").write_text(INDEX.replace("one\ntwo", "two\none"))
    assert "now-outdated files... 4 found" in build(book)
    assert "A · Second" in page(book, "four").get_text()
