"""Credits and the list of sources are the same; none is written by hand."""

import re
from pathlib import Path

import pytest
from pybtex.database import BibliographyData, parse_file
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace

from lint.citations import check, typed
from paths import BOOK, LIBRARY
from theme.credits import label

CITED = re.compile(r"\{cite:[pt]\}`(\w+)`")
SOURCES = """
@misc{one, author = {Fox, Ann}, title = {A}, year = {2001}}
@misc{two, author = {Ek, Bo and Li, Di}, title = {B}, year = {2002}}
"""


@pytest.fixture(scope="module")
def sources() -> BibliographyData:
    return parse_file(BOOK / "references.bib")


@pytest.fixture(scope="module")
def book() -> str:
    return "\n".join(path.read_text("utf-8") for path in sorted(BOOK.glob("*.md")))


def test_every_source_is_cited(sources: BibliographyData, book: str) -> None:
    assert set(CITED.findall(book)) == set(sources.entries)


def test_every_source_can_be_found(sources: BibliographyData) -> None:
    for key, entry in sources.entries.items():
        places = {"eprint", "journal", "institution", "url"}
        assert places & set(entry.fields), f"{key} says nowhere where it is"


def test_a_source_has_a_name_of_its_own(sources: BibliographyData) -> None:
    names = [label(entry) for entry in sources.entries.values()]
    assert len(set(names)) == len(names)


def test_no_chapter_writes_a_credit_typed(book: str) -> None:
    assert typed(book) == set()


def test_what_a_docstring_credits_is_in_the_list(sources: BibliographyData) -> None:
    library = "\n".join(path.read_text("utf-8") for path in LIBRARY.rglob("*.py"))
    credits = typed(library)
    assert "Vaswani et al. 2017" in credits
    assert "Press and Wolf 2017" in credits
    assert credits <= {label(entry) for entry in sources.entries.values()}


@pytest.mark.parametrize(
    "text",
    ["(Ba et al. 2016)", "Ba et al.\n    2016", "Ba et al. (2016)", "Ba et al., 2016"],
)
def test_a_credit_by_hand_is_found(text: str) -> None:
    assert typed(text) == {"Ba et al. 2016"}


def build(folder: Path, page: str) -> Sphinx:
    """Build a page and the list of what it cites."""
    (folder / "index.md").write_text(
        f"# Start\n\n{page}\n\n```{{toctree}}\nlist\n```\n"
    )
    config = {
        "bibtex_bibfiles": ["sources.bib"],
        "bibtex_default_style": "credit",
        "bibtex_reference_style": "credit",
        "extensions": ["myst_nb", "theme"],
        "html_theme": "sphinx_book_theme",
    }
    with docutils_namespace():
        app = Sphinx(folder, None, folder / "out", folder / "trees", "html", config,
                     status=None, warningiserror=True)  # fmt: skip
        app.build()
    return app


def listed(folder: Path, page: str) -> list[str]:
    """Build a page; return the names in the list of what it cites."""
    shown = Path(build(folder, page).outdir, "list.html").read_text("utf-8")
    return re.findall(r"</span>([^<]+ \d{4})<span", shown)


@pytest.mark.slow
def test_the_list_is_what_the_pages_cite_now(tmp_path: Path) -> None:
    (tmp_path / "sources.bib").write_text(SOURCES)
    (tmp_path / "list.md").write_text("# List\n\n```{bibliography}\n```\n")
    assert listed(tmp_path, "By {cite:t}`one`.") == ["Fox 2001"]
    both = ["Ek and Li 2002", "Fox 2001"]
    assert listed(tmp_path, "By {cite:t}`one`, {cite:p}`two`.") == both


@pytest.mark.slow
def test_typed_credits_and_uncited_sources_are_named(tmp_path: Path) -> None:
    (tmp_path / "sources.bib").write_text(SOURCES)
    (tmp_path / "list.md").write_text("# List\n\n```{bibliography}\n```\n")
    app = build(tmp_path, "By {cite:t}`one` and by Ek and Li (2002).")
    assert [(problem.page, problem.text) for problem in check(app.env)] == [
        ("index", "«Ek and Li 2002» is typed; cite it by its key"),
        (None, "no page cites the source two"),
    ]
