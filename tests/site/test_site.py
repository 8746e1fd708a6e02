"""The built book in a browser: read, searched, printed, by mouse and by keyboard.

It needs a Chromium, and the book: `make book`.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

import browser as chromium
import site_checks
from paths import REPOSITORY

pytestmark = pytest.mark.browser

HTML = REPOSITORY / "_build" / "html"
CHAPTERS = [
    f"book/{path.stem}.html" for path in sorted((REPOSITORY / "book").glob("*.md"))
]
PAGES = [*CHAPTERS, "search.html", "genindex.html", "source/attention.html"]
ATTENTION = "book/04-attention.html"
WIDE, NARROW = {"width": 1280, "height": 800}, {"width": 360, "height": 740}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        launched = chromium.launch(playwright)
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    if not (HTML / "book" / "index.html").is_file():
        chromium.lacking("the book: run `make book` first")
    missing_page = (HTML / "404.html").read_text("utf-8")
    root = re.search(r'href="(/[^"]*)_static/', missing_page)[1]  # where it will be
    with chromium.serving(HTML, root) as address:
        yield address


@contextmanager
def opened(browser: Browser, address: str, **settings: object) -> Iterator[Page]:
    """Open a page for a new reader, of whom the browser remembers nothing."""
    context = browser.new_context(viewport=WIDE, **settings)
    page = context.new_page()
    page.set_default_timeout(20_000)
    page.goto(address)
    yield page
    context.close()


@pytest.mark.parametrize("name", [*PAGES, "404.html"])
def test_a_page_is_sound(browser: Browser, site: str, name: str) -> None:
    """Light and dark, wide and narrow, without an error or a request elsewhere."""
    with opened(browser, "about:blank", color_scheme="light") as page:
        faults = site_checks.watch(page, site)
        page.goto(site + name)
        faults += site_checks.inaccessible(page)
        faults += site_checks.raw_formulas(page)
        page.set_viewport_size(NARROW)
        faults += site_checks.wider_than_its_window(page)
        page.emulate_media(color_scheme="dark")
        page.wait_for_selector("html[data-theme=dark]")
        page.wait_for_timeout(300)  # colours fade over
        faults += site_checks.inaccessible(
            page, ["color-contrast", "scrollable-region-focusable"]
        )
    assert faults == []


@pytest.mark.parametrize("name", PAGES)
def test_a_page_needs_no_server_and_can_be_printed(
    browser: Browser, site: str, name: str
) -> None:
    with opened(browser, "about:blank") as page:
        faults = site_checks.watch(page, "file://")
        page.goto((HTML / name).as_uri())
        faults += site_checks.raw_formulas(page)
        faults += site_checks.unprintable(page)
    assert faults == []


def test_paper_is_white(browser: Browser, site: str) -> None:
    with opened(browser, site + ATTENTION, color_scheme="dark") as page:
        theme = page.locator("html")
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert theme.get_attribute("data-theme") == "light"
        page.evaluate("dispatchEvent(new Event('afterprint'))")
        assert theme.get_attribute("data-theme") == "dark"


@pytest.mark.parametrize(
    ("words", "place"),
    [
        ("masked_fill", "04-attention"),
        ("split_heads", "04-attention"),
        ("c_attn", "04-attention"),
        ("wte.weight", "01-weights"),
    ],
)
def test_search_finds_code(browser: Browser, site: str, words: str, place: str) -> None:
    for home in (site, f"{HTML.as_uri()}/"):
        with opened(browser, "about:blank") as page:
            faults = site_checks.watch(page, home)
            page.goto(f"{home}search.html?q={words}")
            page.wait_for_selector("#search-results li a")
            found = page.locator("#search-results li a").evaluate_all(
                "links => links.map((link) => link.href)"
            )
            page.wait_for_load_state("networkidle")
        assert any(place in address for address in found)
        assert faults == []


def search(page: Page, home: str, words: str) -> list[str]:
    """Search for words, and return the addresses that are found, best first."""
    page.goto(f"{home}search.html?q={words}")
    page.get_by_text("Search finished").wait_for()
    links = page.locator("#search-results li > a")
    return links.evaluate_all("links => links.map((link) => link.getAttribute('href'))")


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("softmax", "book/04-attention.html#listing-attention-softmax"),
        ("causal_mask", "book/04-attention.html#listing-attention-causal-mask"),
        ("layer_norm", "book/05-block.html#listing-block-layer-norm"),
        ("KVCache", "book/08-kv-cache.html#listing-kv-cache-kvcache"),
    ],
)
def test_a_function_s_listing_is_found_first(
    browser: Browser, site: str, name: str, place: str
) -> None:
    with opened(browser, "about:blank") as page:
        assert search(page, site, name)[0] == place


def test_a_chapter_is_found_before_what_contains_its_word(
    browser: Browser, site: str
) -> None:
    with opened(browser, "about:blank") as page:
        found = search(page, site, "cache")
    parts = [
        place for place in found if "#listing" in place and not place.endswith("-cache")
    ]
    assert found.index("book/08-kv-cache.html") < found.index(parts[0])


FURNITURE = ("Copy", "Show the plotting code", "Checked here", "What this page imports")


def test_an_excerpt_quotes_the_text(browser: Browser, site: str) -> None:
    with opened(browser, "about:blank") as page:
        for words in ("softmax", "assert", "import", "weight"):
            found = search(page, site, words)
            page.wait_for_function(
                "n => document.querySelectorAll('p.context').length >= n",
                arg=min(5, len(found)),
            )
            said = " ".join(page.locator("p.context").all_inner_texts())
            assert words in said.lower()
            assert [piece for piece in FURNITURE if piece in said] == []


@pytest.mark.parametrize("by", ["search", "address"])
def test_matched_words_are_marked_in_the_text(
    browser: Browser, site: str, by: str
) -> None:
    for home in (site, f"{HTML.as_uri()}/"):
        with opened(browser, "about:blank") as page:
            if by == "search":
                search(page, home, "purrs")
                page.locator("#search-results li > a").first.click()
            else:
                page.goto(f"{home}{ATTENTION}?highlight=purrs")
            marked = page.locator(".bd-article span.highlighted")
            marked.first.wait_for()
            assert {word.lower() for word in marked.all_inner_texts()} == {"purrs"}
            color = "it => getComputedStyle(it).backgroundColor"
            assert marked.first.evaluate(color) == "rgb(255, 224, 102)"
            page.keyboard.press("Escape")
            assert page.locator("span.highlighted").count() == 0


def test_the_notebook_is_saved_even_without_a_server(
    browser: Browser, site: str
) -> None:
    notebook = HTML / "notebooks" / "04-attention.ipynb"
    for home in (site, f"{HTML.as_uri()}/"):
        with opened(browser, f"{home}{ATTENTION}") as page:
            page.locator(".dropdown-download-buttons > button").click()
            with page.expect_download() as saving:
                page.get_by_text(".ipynb").click()
            assert saving.value.suggested_filename == notebook.name
            assert Path(saving.value.path()).read_bytes() == notebook.read_bytes()
            assert page.url == f"{home}{ATTENTION}"


def test_an_old_address_leads_on(browser: Browser, site: str) -> None:
    with opened(browser, f"{site}book/appendix-fast-tokenizer.html") as page:
        page.wait_for_url("**/book/appendix-speed.html#*")
        assert page.locator(":target").count() == 1


def test_the_first_screen_holds_the_whole_offer(browser: Browser, site: str) -> None:
    with opened(browser, f"{site}book/index.html") as page:
        offer = page.locator(
            ".bd-article > section > :is(h1, p:nth-of-type(-n + 4), figure), "
            ".bd-article > section > .cell:first-of-type .cell_output"
        )
        assert offer.count() == 7
        boxes = [box.bounding_box() for box in offer.all()]
        assert max(box["y"] + box["height"] for box in boxes) <= WIDE["height"]


def test_no_page_loads_what_it_does_not_use(browser: Browser, site: str) -> None:
    with opened(browser, "about:blank") as page:
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{site}{ATTENTION}", wait_until="networkidle")
        sizes = page.evaluate(
            "performance.getEntries().map((it) => it.encodedBodySize ?? 0)"
        )
    unused = ("fontawesome", "fa-solid", "MathJax", "searchindex", "searchtools")
    assert [url for url in asked if any(name in url for name in unused)] == []
    assert sum(sizes) < 1_500_000


LIVING = [
    path.stem
    for path in sorted((REPOSITORY / "book").glob("*.md"))
    if "```{living}" in path.read_text("utf-8")
]
TO_PAPER = """figure => {
  figure.querySelector(".live").style.display = "none";
  figure.querySelector(".paper").style.display = "block";
}"""


@pytest.mark.parametrize("name", LIVING)
def test_a_living_figure_has_its_room_from_the_start(
    browser: Browser, site: str, name: str
) -> None:
    """So that nothing moves when its script replaces the table of the build."""
    with opened(browser, f"{site}book/{name}.html") as page:
        figure = page.locator("[data-figure]")
        figure.locator("[role=status]").wait_for()
        assert (
            page.locator(":is([role=status], [aria-live=polite]):visible").count() == 1
        )
        for show in ("() => 0", TO_PAPER):
            figure.evaluate(show)
            for size in (WIDE, NARROW):
                page.set_viewport_size(size)
                room = figure.evaluate(
                    "it => parseFloat(getComputedStyle(it).minHeight)"
                )
                assert figure.bounding_box()["height"] == pytest.approx(room, abs=1)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_solved_task_can_be_read(browser: Browser, site: str, theme: str) -> None:
    with opened(browser, f"{site}{ATTENTION}", color_scheme=theme) as page:
        page.wait_for_selector(f"html[data-theme={theme}]")
        task = page.locator("[data-figure] .task")
        task.evaluate(
            "it => it.append(Object.assign(document.createElement('strong'), "
            "{textContent: '✓ found'}))"
        )
        assert task.locator("strong").is_visible()
        assert list(site_checks.inaccessible(page, ["color-contrast"])) == []


def test_the_missing_page_leads_home(browser: Browser, site: str) -> None:
    with opened(browser, f"{site}404.html") as page:
        page.get_by_role("link", name="at the beginning").click()
        assert page.url == f"{site}book/index.html"


def test_the_reader_chooses_light_or_dark(browser: Browser, site: str) -> None:
    with opened(browser, site + ATTENTION, color_scheme="dark") as page:
        theme = page.locator("html")
        assert theme.get_attribute("data-theme") == "dark"
        toggle = page.locator(".theme-switch-button:visible")
        shown = set()
        for _ in range(3):
            toggle.click()
            shown.add(theme.get_attribute("data-theme"))
        assert shown == {"light", "dark"}
        figure = page.locator(".bd-article figure svg").first
        assert figure.evaluate("it => getComputedStyle(it).filter") == "none"


def test_what_is_copied_is_the_code(browser: Browser, site: str) -> None:
    """Without line numbers; and what a cell printed has no button."""
    with opened(
        browser, site + ATTENTION, permissions=["clipboard-read", "clipboard-write"]
    ) as page:
        listing = page.locator(".listing", has_text="def softmax").first
        listing.locator(".highlight").hover()
        listing.locator("button.copybtn").click()
        copied = page.evaluate("navigator.clipboard.readText()")
        source = (REPOSITORY / "src/hardway/attention.py").read_text("utf-8")
        assert copied.startswith("def softmax(")
        assert copied.rstrip() in source
        assert page.locator(".cell_input button.copybtn").count() > 10
        assert page.locator(".cell_output button.copybtn").count() == 0


def test_the_keyboard_reaches_everything(browser: Browser, site: str) -> None:
    with opened(browser, site + ATTENTION) as page:
        page.wait_for_function("document.querySelector('button.copybtn')")
        stops = site_checks.walk(page, 150)
    assert stops[0]["name"] == "Skip to main content"
    reached = " ".join(str(stop["name"]) for stop in stops)
    for name in ("Search", "4 · Attention", "Color mode", "Chapter 3", "Copy"):
        assert name in reached
    assert [stop["name"] for stop in stops if not stop["seen"]] == []


@pytest.mark.parametrize(
    "box", ["figure.scrolls figcaption", ".pst-scrollable-table-container.scrolls"]
)
def test_what_is_wider_than_a_phone_says_so(
    browser: Browser, site: str, box: str
) -> None:
    with opened(browser, f"{site}book/06-forward.html") as page:
        boxes = page.locator(f".bd-article {box}")
        boxes.wait_for(state="detached")
        page.set_viewport_size(NARROW)
        boxes.first.wait_for()
        said = boxes.first.evaluate("box => getComputedStyle(box, '::before').content")
    assert said == '"⟷ scroll sideways"'


SOUND = """<!doctype html><html lang="en"><head><title>A page</title></head><body>
<main><h1>A page</h1><p>Text.</p>
<span class="math"><math><mi>x</mi></math></span>
<article class="bd-article"><pre>short</pre></article></main></body></html>"""
LONG_LINE = "a line that would be cut " * 9


@pytest.mark.parametrize(
    ("check", "planted", "fault"),
    [
        (site_checks.inaccessible, "<img src='data:,'>", "image-alt"),
        (
            site_checks.inaccessible,
            "<b style='color: #999'>faint</b>",
            "color-contrast",
        ),
        (site_checks.inaccessible, "<h4>too deep</h4>", "heading-order"),
        (
            site_checks.inaccessible,
            "<i class='highlight'><span class='k'>if</span> <span class='k'>if</span>"
            "<span class='n' style='color: #999'>it</span></i>",
            "color-contrast",
        ),
        (site_checks.wider_than_its_window, "<hr style='width: 400px'>", "pixels wide"),
        (site_checks.raw_formulas, "<b class='math'>\\(x\\)</b>", "1 formulas"),
        (site_checks.unprintable, LONG_LINE, "paper cuts pre"),
        (site_checks.unprintable, "<button>Press</button>", "paper shows button"),
    ],
)
def test_a_planted_defect_is_found(
    browser: Browser,
    check: Callable[[Page], Iterator[str]],
    planted: str,
    fault: str,
) -> None:
    with opened(browser, "about:blank") as page:
        page.set_viewport_size(NARROW)
        page.set_content(SOUND)
        assert list(check(page)) == []
        page.set_content(SOUND.replace("short", f"short {planted}"))
        page.set_viewport_size(NARROW)
        assert any(fault in found for found in check(page))


@pytest.mark.parametrize(
    ("planted", "fault"),
    [
        ("<script>console.error('lost')</script>", "error: lost"),
        ("<script>nobody()</script>", "nobody is not defined"),
        ("<img src='http://cdn.example/x.png'>", "asks for http://cdn.example/x.png"),
        ("<img src='missing.png'>", "404"),
    ],
)
def test_a_planted_fault_is_noted(
    browser: Browser, tmp_path: Path, planted: str, fault: str
) -> None:
    (tmp_path / "sound.html").write_text(SOUND)
    (tmp_path / "planted.html").write_text(SOUND.replace("Text.", planted))
    with chromium.serving(tmp_path) as home, opened(browser, "about:blank") as page:
        faults = site_checks.watch(page, home)
        page.goto(f"{home}sound.html")
        assert faults == []
        page.goto(f"{home}planted.html")
        page.wait_for_load_state("networkidle")
        assert any(fault in found for found in faults)


def test_a_focus_that_does_not_show_is_seen(browser: Browser) -> None:
    with opened(browser, "about:blank") as page:
        page.set_content("<button>a</button><button style='outline: none'>b</button>")
        assert [stop["seen"] for stop in site_checks.walk(page, 2)] == [True, False]


def test_where_tests_must_run_nothing_may_be_lacking(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="need the book"):
        chromium.lacking("the book")
    monkeypatch.setenv("CI", "")
    with pytest.raises(pytest.skip.Exception, match="need the book"):
        chromium.lacking("the book")
