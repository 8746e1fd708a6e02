"""Pages become notebooks in plain Markdown; what would not is a warning."""

import io
import json
import re
import shutil
import sys
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import pytest
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace

from execution import measured
from literate.pieces import find_pieces, joined
from notebooks import writing
from notebooks.plain import Page, in_plain_terms
from tools import run_notebooks

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("notebooks")]

HEADER = """---
jupytext: {text_representation: {extension: .md, format_name: myst}}
kernelspec: {display_name: Python 3, language: python, name: python3}
---
"""
CELLS = """
(a-label)=
# First page

```{code-cell} ipython3
from base64 import b64decode
from IPython.display import Image
from myst_nb import glue
glue("answer", "4_2*", display=False)
print("seen")
```

The answer is {glue:text}`answer`.

```{code-cell} ipython3
---
mystnb:
  image: {alt: A dot alone.}
  figure: {name: fig-dot, caption: "A **dot**, see [](second.md)."}
tags: [measured]
---
Image(b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk"
                "YAAAAAYAAjCB0C8AAAAASUVORK5CYII="))
```

$$ a = b $$ (the-law)

## A part

The law is {eq}`the-law`.

```{exercise} Count
:label: ex-count
How many?
```
"""
FIGURE = """
```{figure} line.svg
:alt: A line.
:name: fig-line

A *line*,
see {eq}`the-law`.
```
"""
WORDS = """
# Words

```{glossary}
cat
  It purrs.

fat cat
  It sleeps.
```

```{bibliography}
:all:
```
"""
DRAWING = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'
SOURCES = """
@misc{one, author = {Fox, Ann}, title = {A}, year = {2001}}
@misc{two, author = {Ek, Bo and Li, Di}, title = {B}, year = {2002}}
@misc{three, author = {Ek, Bo and Li, Di and Poe, Al}, title = {C}, year = {2003}}
"""
PAGES = {
    "index": "# Start\n\n```{toctree}\nfirst\nsecond\nwords\n```\n",
    "first": HEADER + CELLS,
    "second": HEADER
    + "# Second page\n\n```{code-cell} ipython3\n1 + 1\n```\n"
    + FIGURE,
    "words": WORDS,
}
CONFIG = {
    "bibtex_bibfiles": ["sources.bib"],
    "bibtex_default_style": "credit",
    "bibtex_reference_style": "credit",
    "extensions": ["myst_nb", "sphinx_exercise", "theme", "notebooks"],
    "html_theme": "sphinx_book_theme",
    "html_title": "A Book",
    "html_theme_options": {},
    "myst_enable_extensions": ["colon_fence", "deflist", "dollarmath"],
    "myst_heading_anchors": 3,
    "nb_execution_mode": "cache",
    "numfig": True,
}

Build = Callable[..., Sphinx]


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Build]:
    """Build a small book; its cells run once, and then come from the cache."""
    folder = tmp_path_factory.mktemp("book")
    patch = pytest.MonkeyPatch()
    for name in ("GITHUB_SERVER_URL", "GITHUB_REPOSITORY", "GITHUB_SHA"):
        patch.delenv(name, raising=False)

    def build_pages(more: str = "", repository: str = "") -> Sphinx:
        source, out = folder / "source", folder / "_build"
        shutil.rmtree(out, ignore_errors=True)
        source.mkdir(exist_ok=True)
        (source / "sources.bib").write_text(SOURCES)
        (source / "line.svg").write_text(DRAWING)
        (source / "data.json").write_text("{}")
        for name, text in PAGES.items():
            (source / f"{name}.md").write_text(text + (more if name != "index" else ""))
        config = CONFIG | {
            "nb_execution_cache_path": str(folder / "cache"),
            "html_theme_options": {"repository_url": repository},
        }
        with docutils_namespace():  # or the next one would warn of what it finds
            app = Sphinx(
                source, None, out / "html", out / "doctrees", "html", config,
                status=None, warning=io.StringIO(), warningiserror=True,
                keep_going=True,
            )  # fmt: skip
            app.build()
        return app

    yield build_pages
    patch.undo()


@pytest.fixture(scope="module")
def app(build: Build) -> Sphinx:
    return build()


def page(app: Sphinx, name: str = "first", site: str = "") -> Page:
    return Page(app.env, name, {"answer": "4_2*"}, site)


def warnings(app: Sphinx) -> str:
    return app._warning.getvalue()


def read(app: Sphinx, name: str) -> nbformat.NotebookNode:
    path = Path(app.outdir) / "notebooks" / f"{name}.ipynb"
    return nbformat.read(path, as_version=4)


SOFTMAX = joined(find_pieces("attention.softmax"))


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("It is {glue:text}`answer`.", r"It is 4\_2\*."),
        ("By {eq}`the-law`.", "By (A.1)."),
        ("See {numref}`fig-dot`.", "See Figure A.1."),
        ("See {ref}`a-label`.", "See First page."),
        ("See {doc}`second`.", "See [Second page](second.ipynb)."),
        ("A {term}`cat`, two {term}`cats <cat>`.", "A cat, two cats."),
        ("A {term}`fat\ncat`.", "A fat cat."),
        ("By {cite:t}`one` {cite:p}`two`.", "By Fox (2001) (Ek and Li 2002)."),
        ("By {cite:t}`three`.", "By Ek et al. (2003)."),
        ("See {ref}`here <a-label>`.", "See here."),
        ("[](second.md)", "[Second page](second.ipynb)"),
        ("[a `b[0]`](second.md)", "[a `b[0]`](second.ipynb)"),
        ("[](second.md#second-page)", "[Second page](second.ipynb)"),
        ("[](#a-part) [up](#a-label)", "A part up"),
        ("[start](index.md)", "start"),
        ("[web](https://x.org/y.md)", "[web](https://x.org/y.md)"),
        ("A `{role}` and `` {eq}`the-law` ``.", "A `{role}` and `` {eq}`the-law` ``."),
        ("```python\n{eq}`x`\n```", "```python\n{eq}`x`\n```"),
        ("$a\n+ b$ and \\$5", "$a + b$ and \\$5"),
        ("% nobody sees this\n(label)=\nText.", "Text."),
        (
            "Text:\n\n$$\na = b\n$$ (the-law)\n\nOn.",
            "Text:\n\n$$a = b \\tag{A.1}$$\n\nOn.",
        ),
        (
            "$$ a &= b \\\\ c &= d $$",
            r"$$\begin{aligned} a &= b \\ c &= d \end{aligned}$$",
        ),
        ("```{math}\n:label: the-law\na = b\n```", r"$$a = b \tag{A.1}$$"),
        (
            ":::{admonition} Guess *it*\n:class: tip\nBy {eq}`the-law`.\n\n- one\n:::",
            "> **Guess *it***\n>\n> By (A.1).\n>\n> - one",
        ),
        ("```{admonition} Guess\n```", "> **Guess**\n>"),
        (
            "````{admonition} Guess\n```{math}\na\n= b\n```\n````",
            "> **Guess**\n>\n> $$a = b$$",
        ),
        ("- one\n\n  ```{math}\n  a\n  ```\n- two", "- one\n\n  $$a$$\n- two"),
        (
            "1. ```{admonition} Guess\n   What?\n   ```",
            "1. > **Guess**\n   >\n   > What?",
        ),
        (
            ":::{dropdown} Answer\nBy {eq}`the-law`.\n:::",
            "<details><summary>Answer</summary>\n\nBy (A.1).\n\n</details>",
        ),
        (
            "```{exercise} Count\n:label: ex-count\nHow *many*?\n```",
            "> **Exercise A.1. Count**\n>\n> How *many*?",
        ),
        (
            "```{solution-start} ex-count\n:class: dropdown\n```\n\nTwo.\n\n"
            "```{solution-end}\n```",
            "**Solution to Exercise A.1**\n\nTwo.",
        ),
        ("```{pipeline} attention\n```", ""),
        (
            "```{listing} attention.softmax\n:again:\n```",
            f"````python\n# {SOFTMAX.place}\n{SOFTMAX.text}\n````",
        ),
    ],
)
def test_each_construct_in_plain_terms(app: Sphinx, text: str, plain: str) -> None:
    before = warnings(app)
    assert in_plain_terms(page(app), text) == plain
    assert warnings(app) == before


def test_a_method_is_not_indented(app: Sphinx) -> None:
    text = in_plain_terms(page(app), "```{listing} model.Decoder.trace\n```")
    assert "\ndef trace(" in text


def test_a_drawing_is_in_the_notebook_itself(app: Sphinx) -> None:
    data = b64encode(DRAWING.encode()).decode()
    assert in_plain_terms(page(app, "second"), FIGURE) == (
        f"![A line.](data:image/svg+xml;base64,{data})\n\n"
        "_Figure B.1. A *line*, see [(A.1)](first.ipynb)._"
    )


def test_references_lead_to_other_notebooks(app: Sphinx) -> None:
    text = "{eq}`the-law`, {numref}`fig-dot`, {ref}`a-label`, [](#a-label)"
    assert in_plain_terms(page(app, "second"), text) == (
        "[(A.1)](first.ipynb), [Figure A.1](first.ipynb), [First page](first.ipynb), "
        "[First page](first.ipynb)"
    )


def test_a_page_without_a_notebook_is_on_the_web(app: Sphinx) -> None:
    published = page(app, site="https://x.org/book/")
    link = "[Start](https://x.org/book/index.html)"
    assert in_plain_terms(published, "[](index.md)") == link


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{sub}`x`", "the role {sub} is not known"),
        ("- one\n\n  ```{note}\n  x\n  ```", "the directive {note} is not known"),
        ("Term\n: Meaning", "a block of the kind 'dl_open' is not known"),
        ("[x](gone.md)", "the link to gone.md leads nowhere"),
        ("![x](dot.png)", "the link to dot.png leads nowhere"),
        ("[](#gone)", "nothing is called #gone"),
        ("{eq}`gone`", "{eq} finds nothing called 'gone'"),
        ("{doc}`gone`", "{doc} finds nothing called 'gone'"),
        ("{ref}`gone`", "{ref} finds nothing called 'gone'"),
        ("{numref}`gone`", "{numref} finds nothing called 'gone'"),
        ("{term}`gone`", "{term} finds nothing called 'gone'"),
        ("{cite:p}`gone`", 'could not find bibtex key "gone"'),
        ("{glue:text}`gone`", "no cell recorded a value called 'gone'"),
        ("```{listing} m.gone\n```", "the library has no module for 'm.gone'"),
        ("$$a$$ (gone)", "{eq} finds nothing called 'gone'"),
    ],
)
def test_what_is_not_known_is_a_warning(app: Sphinx, text: str, problem: str) -> None:
    before = len(warnings(app))
    in_plain_terms(page(app), text)
    assert problem in warnings(app)[before:]


def test_a_warning_about_a_notebook_fails_the_build(build: Build) -> None:
    """Sphinx itself knows {sub}; the notebook would show it raw."""
    app = build(more="\nH{sub}`2`O\n")
    assert "the notebook: the role {sub} is not known" in warnings(app)
    assert app.statuscode == 1


def test_a_notebook_is_the_page_as_it_ran(build: Build) -> None:
    app = build()
    assert warnings(app) == ""
    assert app.statuscode == 0
    notebook = read(app, "first")
    assert notebook.metadata.kernelspec.name == "python3"
    script = (Path(app.outdir) / writing.COPIES / "first.ipynb.js").read_text("utf-8")
    copied = json.loads(script.removeprefix("saveNotebook(").removesuffix(");\n"))
    assert copied == (Path(app.outdir) / "notebooks" / "first.ipynb").read_text("utf-8")
    assert [cell.id for cell in notebook.cells] == [f"cell-{n}" for n in range(8)]
    note, title, first, answer, second, clock, caption, end = notebook.cells
    assert "a page of the book A Book." in note.source
    assert title.source == "# First page"
    assert [output.text for output in first.outputs] == ["seen\n"]
    assert answer.source == r"The answer is 4\_2\*."
    (picture,) = second.outputs
    assert picture.metadata == {"image/png": {"alt": "A dot alone."}}
    assert second.metadata == {"tags": ["measured"]}
    assert clock.source == f"_{measured.NOTE}_"
    assert caption.source == "_Figure A.1. A **dot**, see [Second page](second.ipynb)._"
    law = "$$a = b \\tag{A.1}$$\n\n## A part\n\nThe law is (A.1)."
    assert end.source.startswith(law)
    shown = (Path(app.outdir) / "first.html").read_text("utf-8")
    assert re.search(r'class="eqno">\(A\.1\)<', shown)
    assert re.search(r'class="caption-number">Figure A.1 <', shown)


def test_two_builds_write_the_same_bytes(build: Build) -> None:
    def contents() -> dict[str, bytes]:
        folder = Path(build().outdir) / "notebooks"
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    first = contents()
    assert sorted(first) == ["data.json", "first.ipynb", "second.ipynb"]
    assert first["data.json"] == b"{}"  # which a cell may read
    assert contents() == first


def test_a_cell_that_was_not_run_is_a_warning(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CONFIG, "nb_execution_mode", "off")
    monkeypatch.setitem(PAGES, "second", PAGES["second"].replace("1 + 1", "1 + 2"))
    assert "the notebook: a cell was not run: 1 + 2" in warnings(build())


def test_a_picture_without_alt_text_is_a_warning(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = PAGES["first"].replace("alt: A dot alone.", "width: 9px")
    monkeypatch.setitem(PAGES, "first", silent)
    assert "the notebook: a picture has no alt text: Image(" in warnings(build())


def test_an_unpublished_page_offers_a_download_only(app: Sphinx, build: Build) -> None:
    out = Path(build().outdir)
    shown = (out / "first.html").read_text("utf-8")
    assert 'href="notebooks/first.ipynb"' in shown
    assert "colab" not in shown
    assert "mybinder" not in shown
    assert "notebooks/" not in (out / "index.html").read_text("utf-8")
    assert not list((out / "notebooks").glob("*.txt"))


def test_a_published_page_can_be_opened_elsewhere(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_SHA", "c0ffee")
    app = build(repository="https://github.com/A/book")
    package = "hardway[plots] @ git+https://github.com/A/book@c0ffee"
    folder = Path(app.outdir) / "notebooks"
    assert (folder / "requirements.txt").read_text() == f"{package}\n"
    assert re.fullmatch(r"python-3\.\d+\n", (folder / "runtime.txt").read_text())
    note, install, *_ = read(app, "first").cells
    assert "[A Book](https://a.github.io/book/first.html)" in note.source
    assert install.cell_type == "code"
    assert f'    %pip install -q "{package}"' in install.source.splitlines()
    shown = (Path(app.outdir) / "first.html").read_text("utf-8")
    colab = "https://colab.research.google.com/github/A/book/blob/notebooks/first.ipynb"
    binder = "https://mybinder.org/v2/gh/A/book/notebooks?urlpath=lab/tree/first.ipynb"
    assert f'href="{colab}"' in shown
    assert f'href="{binder}"' in shown


def test_only_github_opens_in_colab(build: Build) -> None:
    app = build(repository="https://gitlab.com/A/book")
    assert "colab" not in (Path(app.outdir) / "first.html").read_text("utf-8")
    assert "(https://gitlab.com/A/book)" in read(app, "first").cells[0].source


@pytest.mark.parametrize(("code", "runs"), [("1 + 1", True), ("1 / 0", False)])
def test_a_notebook_that_fails_is_told_apart(
    tmp_path: Path, code: str, runs: bool
) -> None:
    cells = [nbformat.v4.new_code_cell(code)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "n.ipynb")
    assert run_notebooks.runs(Path(sys.prefix), tmp_path / "n.ipynb") is runs
