"""Print the built pages as one PDF, with a cover, page numbers and links.

    python -m tools.pdf _build/html _build/book.pdf

The pages are joined in the order of the menu into one page, which Chromium prints. What
is folded is open; a link to a page that isn't in the menu becomes text.
"""

import posixpath
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from bs4 import BeautifulSoup, Tag
from playwright.sync_api import sync_playwright

from tools.chromium import launch

FIRST = "book/index.html"
JOINED = "book/whole.html"  # beside the pages, so that all relative addresses hold
UNPRINTED = ".headerlink, .prev-next-footer, button, script"
SCRIPTS = ("documentation_options.js", "book.js")
REFERENCES = ("aria-labelledby", "aria-describedby")
SCALE = 0.75  # text of 10 points, lines of code as wide as the page
IN_DRAWING = re.compile(r"(?<=url\(#)[\w.-]+")  # what a drawing refers to in itself
PAPER = """
@page { size: A4; margin: 18mm 16mm 20mm; @bottom-center { content: counter(page); } }
@page :first { @bottom-center { content: none; } }
body { padding: 0; }
article { break-before: page; }
.bd-main .bd-content .bd-article h1:first-of-type { display: block; }
.bd-main .bd-article .highlight pre { font-size: 0.875rem; }
.cover { height: 320mm; display: grid; align-content: center; }
.cover img { width: 80mm; margin-bottom: 16mm; }
.cover .provenance { margin-top: 80mm; }
.pages { break-before: page; }
"""


def main(html: Path, pdf: Path) -> int:
    """Write the PDF and print its size, or why it can't be printed."""
    if not (html / FIRST).is_file():
        print(f"{html}: there is no book; run `make book` first", file=sys.stderr)
        return 2
    joined = html / JOINED
    try:
        joined.write_text(str(join(html)), encoding="utf-8")
        print_page(joined, pdf)
    except FileNotFoundError as error:
        why = f"{error}; install Chromium, or run: playwright install chromium"
        print(f"A PDF needs Chromium: {why}", file=sys.stderr)
        return 2
    finally:
        joined.unlink(missing_ok=True)
    print(f"{pdf}: {pdf.stat().st_size / 1e6:.1f} MB")
    return 0


def print_page(page: Path, pdf: Path) -> None:
    """Have Chromium print a page, with bookmarks from its headings."""
    with sync_playwright() as playwright:
        browser = launch(playwright)
        opened = browser.new_page(color_scheme="light")
        opened.goto(page.absolute().as_uri(), wait_until="load")
        opened.evaluate("document.fonts.ready")
        opened.pdf(
            path=pdf, prefer_css_page_size=True, scale=SCALE, outline=True, tagged=True
        )
        browser.close()


def join(html: Path) -> BeautifulSoup:
    """Return a page with the articles of all pages in the menu."""
    book = parse(html / FIRST)
    pages = list(menu(book))
    articles = [article(html, page, pages) for page in pages]
    main = book.new_tag("main", attrs={"class": "bd-main"})
    content = main
    for name in ("bd-content", "bd-article-container"):
        content.append(inner := book.new_tag("div", attrs={"class": name}))
        content = inner
    content.extend([cover(book), contents(articles), *articles])
    scripts = [tag for tag in book.select("script[src]") if ends(tag, SCRIPTS)]
    for tag in book.select("script"):
        tag.extract()
    style = book.new_tag("style")
    style.string = PAPER
    one(book, "head").extend([style, *scripts])
    one(book, "html")["data-theme"] = "light"
    one(book, "body").clear()
    one(book, "body").append(main)
    return book


def parse(path: Path) -> BeautifulSoup:
    """Parse a page's HTML."""
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


def one(page: Tag, selector: str) -> Tag:
    """Return the first tag that a selector selects; raise `ValueError` if none."""
    if (found := page.select_one(selector)) is None:
        raise ValueError(f"the page has no {selector}")
    return found


def ends(tag: Tag, names: tuple[str, ...]) -> bool:
    """Return whether a script is one of those named."""
    return urlsplit(str(tag["src"])).path.endswith(tuple(f"/{name}" for name in names))


def menu(book: BeautifulSoup) -> Iterator[str]:
    """Yield the pages that the first page's menu names, itself included."""
    for link in book.select("nav.bd-links a[href]"):
        address = urlsplit(str(link["href"])).path
        yield posixpath.normpath(f"book/{address}") if address else FIRST


def article(html: Path, page: str, pages: list[str]) -> Tag:
    """Return a page's article, its identifiers and links those of the whole book."""
    found = one(parse(html / page), "article.bd-article")
    for tag in found.select(UNPRINTED):
        tag.extract()
    for tag in found.select("details"):
        tag["open"] = ""
    for tag in found.select("[id]:not(.pipeline *)"):  # which book.css refers to
        tag["id"] = anchor(page, str(tag["id"]))
    for tag in found.select("svg:not(.pipeline *) :not(a)"):
        for name, value in tag.attrs.items():
            if name == "href" and str(value).startswith("#"):
                tag[name] = f"#{anchor(page, str(value)[1:])}"
            elif isinstance(value, str):
                tag[name] = IN_DRAWING.sub(lambda id: anchor(page, id[0]), value)
    for tag in found.find_all(True):
        for name in {*REFERENCES} & tag.attrs.keys():
            tag[name] = " ".join(anchor(page, id) for id in str(tag[name]).split())
    for link in found.select("a[href]"):
        relink(link, page, pages)
    found["id"] = anchor(page)
    return found


def anchor(page: str, id: str = "") -> str:
    """Return the whole book's identifier for a place on a page."""
    stem = Path(page).stem
    return f"{stem}--{id}" if id else stem


def relink(link: Tag, page: str, pages: list[str]) -> None:
    """Lead a link to its place in the book, or make it text; leave one to elsewhere."""
    address = urlsplit(str(link["href"]))
    if address.scheme or address.netloc:
        return
    there = posixpath.join(posixpath.dirname(page), address.path)
    target = posixpath.normpath(there) if address.path else page
    if target in pages:
        link["href"] = f"#{anchor(target, address.fragment)}"
    else:
        del link["href"]


def cover(book: BeautifulSoup) -> Tag:
    """Return the cover: logo, title, promise, and what the pages ran on."""
    page = book.new_tag("section", attrs={"class": "cover"})
    for selector in ("img.logo__image", "article h1", "article p", ".provenance"):
        page.append(one(book, selector).extract())
    for tag in page.select(".headerlink"):
        tag.extract()
    return page


def contents(articles: list[Tag]) -> Tag:
    """Return the list of the pages, with links to them."""
    lines = [
        f'<li><a href="#{article["id"]}">{one(article, "h1").get_text()}</a></li>'
        for article in articles
    ]
    text = f'<nav class="pages"><h1>Contents</h1><ul>{"".join(lines)}</ul></nav>'
    return one(BeautifulSoup(text, "html.parser"), "nav")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
