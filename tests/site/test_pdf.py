"""The pages become one PDF, in which links lead from page to page."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

import browser as chromium
from tools import pdf

MENU = """<nav class="bd-links"><a href="#">Book</a>
<a href="09-one.html">One</a> <a href="two.html">Two</a></nav>
<img class="logo__image" src="../logo.svg"><p class="provenance">Ran on a model.</p>"""
PAGE = """<!doctype html><html lang="en"><head><title>Book</title></head><body>
{menu}<article class="bd-article"><section id="part"><h1>{title}<a class="headerlink"
href="#part">#</a></h1><p>A promise.</p>{text}</section></article>
<script>document.title = "run"</script>
<script src="../_static/book.js?v=1"></script></body></html>"""
ONE = """<p><a href="two.html#part">There</a> <a href="#part">here</a>
<a href="two.html">a page</a> <a href="../source/m.html#L-1">source</a>
<a href="https://x.org/">elsewhere</a></p>
<details><summary>Answer</summary><p>Folded.</p></details>
<figure class="pipeline"><svg><marker id="tip"></marker></svg></figure>
<svg><path id="d0-0"></path>
<use class="c" fill="#ffffff" href="#d0-0" clip-path="url(#d0-1)"></use>
<image href="data:image/png;base64,AA"></image></svg>
<button>Press</button>"""


@pytest.fixture
def html(tmp_path: Path) -> Path:
    (tmp_path / "book").mkdir()
    texts = {"index": "", "09-one": ONE, "two": "<p>The end.</p>"}
    for name, text in texts.items():
        page = PAGE.format(title=name.split("-")[-1].title(), text=text, menu=MENU)
        (tmp_path / "book" / f"{name}.html").write_text(page)
    return tmp_path


def test_the_pages_are_joined_in_the_order_of_the_menu(html: Path) -> None:
    book = pdf.join(html)
    titles = [tag.get_text() for tag in book.select("h1")]
    assert titles == ["Index", "Contents", "Index", "One", "Two"]
    listed = [link["href"] for link in book.select("nav a")]
    assert listed == ["#index", "#09-one", "#two"]
    cover = book.select_one(".cover").get_text(" ", strip=True)
    assert cover == "Index A promise. Ran on a model."
    assert [tag["src"] for tag in book.select("script")] == ["../_static/book.js?v=1"]


def test_links_lead_to_their_places_in_the_book(html: Path) -> None:
    (one,) = pdf.join(html).select("article[id='09-one']")
    links = {link.get_text(): link.get("href") for link in one.select("a")}
    assert links == {
        "There": "#two--part",
        "here": "#09-one--part",
        "a page": "#two",
        "source": None,
        "elsewhere": "https://x.org/",
    }
    assert one.section["id"] == "09-one--part"
    assert one.details.has_attr("open")
    assert one.select_one("marker#tip")
    assert one.select_one("path")["id"] == "09-one--d0-0"
    assert one.use.attrs == {
        "class": ["c"],
        "fill": "#ffffff",
        "href": "#09-one--d0-0",
        "clip-path": "url(#09-one--d0-1)",
    }
    assert one.image["href"] == "data:image/png;base64,AA"
    assert not one.select("button")


def test_a_site_or_a_browser_that_is_missing_is_one_line(
    html: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert pdf.main(tmp_path / "book", tmp_path / "book.pdf") == 2
    assert capsys.readouterr().err.count("\n") == 1

    def missing(playwright: object) -> None:
        raise FileNotFoundError("no browser")

    monkeypatch.setattr(pdf, "launch", missing)
    assert pdf.main(html, tmp_path / "book.pdf") == 2
    said = capsys.readouterr().err
    assert said.startswith("A PDF needs Chromium: no browser; install Chromium")
    assert said.count("\n") == 1
    assert not (html / pdf.JOINED).exists()


@pytest.mark.browser
def test_chromium_prints_it(
    html: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with sync_playwright() as playwright:
        chromium.launch(playwright).close()  # or the test is skipped
    written = tmp_path / "book.pdf"
    assert pdf.main(html, written) == 0
    assert re.fullmatch(rf"{written}: \d+\.\d MB\n", capsys.readouterr().out)
    content = written.read_bytes()
    assert content.startswith(b"%PDF")
    assert len(re.findall(rb"/Type /Page\b(?!s)", content)) == 5
    assert b"/Outlines" in content
    for place in (b"09-one--part", b"two--part", b"two"):
        assert b"/Dest /" + place in content
    assert b"https://x.org/" in content
