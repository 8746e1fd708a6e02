"""Formulas are MathML, with the spaces that TeX would set."""

import io
import re
from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace

from paths import BOOK
from theme import formulas

PAGE = r"""# Page

Here $e^x$ stands in the line ($x$), and $y$, *$z$* and $n$-th.

$$a &= b \\ c &= -\ln p$$ (the-law)

By {eq}`the-law`.
"""


def drawn(latex: str) -> str:
    return formulas.mathml(nodes.math("", latex)).removeprefix("<math>")[:-7]


SPACE = '<mspace width="0.167em" />'
APPLIED = f"<mo>{formulas.APPLY}</mo>{SPACE}"


@pytest.mark.parametrize(
    ("latex", "row"),
    [
        ("x", "<mi>x</mi>"),
        (r"\ln p", f"<mi>ln</mi>{APPLIED}<mi>p</mi>"),
        (r"2\ln p", f"<mn>2</mn>{SPACE}<mi>ln</mi>{APPLIED}<mi>p</mi>"),
        (
            r"\log_2 p",
            f"<msub><mi>log</mi><mn>2</mn></msub>{SPACE}<mi>p</mi>",
        ),
        (
            "1/2",
            '<mn>1</mn><mo stretchy="false" lspace="0" rspace="0">/</mo><mn>2</mn>',
        ),
        ("-1", '<mo form="prefix">−</mo><mn>1</mn>'),
        ("0,-1", '<mn>0</mn><mo>,</mo><mo form="prefix">−</mo><mn>1</mn>'),
        ("a-b", "<mi>a</mi><mo>−</mo><mi>b</mi>"),
        (r"\dots", "<mi>…</mi>"),
        (r"^{\mathsf T}", "<msup><mrow /><mi>𝖳</mi></msup>"),
    ],
)
def test_what_is_drawn(latex: str, row: str) -> None:
    assert drawn(latex) == row


def test_no_space_before_a_parenthesis() -> None:
    assert "mspace" not in drawn(r"\ln(p)")
    assert "mspace" not in drawn(r"\operatorname{softmax}(z)_i")


def build(folder: Path, text: str) -> str:
    """Build a page; return what Sphinx warns of."""
    (folder / "index.md").write_text(text)
    said = io.StringIO()
    config = {
        "extensions": ["myst_nb", "theme"],
        "bibtex_bibfiles": [],
        "myst_enable_extensions": ["dollarmath"],
        "html_theme": "sphinx_book_theme",
        "html_math_renderer": "mathml",
        "numfig": True,
        "templates_path": [str(BOOK / "_templates")],
    }
    with docutils_namespace():
        Sphinx(
            folder, None, folder / "out", folder / "trees", "html", config,
            status=None, warning=said,
        ).build()  # fmt: skip
    return said.getvalue()


@pytest.mark.slow
def test_a_page_needs_no_script_for_its_formulas(tmp_path: Path) -> None:
    assert build(tmp_path, PAGE) == ""
    html = (tmp_path / "out" / "index.html").read_text()
    page = BeautifulSoup(html, "html.parser")
    assert page.select_one("span.math math").get_text() == "ex"
    kept = [tag.get_text() for tag in page.select("p .nobreak")]
    assert kept == ["(x),", "y,", "n-"]
    line = page.select_one("p:has(math)").get_text()
    assert line == "Here ex stands in the line (x), and y, z and n-th."
    law = page.select_one("div.math")
    assert law["id"] == "equation-the-law"
    assert law.select_one(".eqno").get_text().startswith("(1)")
    rows = law.select("math[display=block] mtr")
    assert [row.get_text() for row in rows] == ["a=b", f"c=−ln{formulas.APPLY}p"]
    links = page.select("p a[href='#equation-the-law']")
    assert [link.get_text() for link in links] == ["(1)"]
    assert not re.search(r"MathJax|fontawesome\.js|searchindex", html)
    assert "searchindex" in (tmp_path / "out" / "search.html").read_text()


@pytest.mark.slow
def test_an_unknown_formula_is_a_warning(tmp_path: Path) -> None:
    assert r"the formula \nothing: Unknown LaTeX" in build(tmp_path, r"# A $\nothing$")
