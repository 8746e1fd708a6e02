"""Audit the built pages.

    python -m tools.audit _build/html

Links resolve, nothing is fetched from the network, no script or handler but the theme's
can run, all footers name the same library and model, and no page is heavy. A page of
the book prints the library exactly, describes its figures, and has no traceback.
"""

import re
import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from copy import copy
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from urllib.parse import unquote, urlsplit

from bs4 import BeautifulSoup, Tag

from execution.escaping import ACTING
from paths import REPOSITORY

# What a browser fetches when a page is opened.
FETCHED = (
    ":is(script, img, iframe, source, video, audio, embed)[src], object[data], link:is("
    "[rel~=stylesheet], [rel~=preload], [rel~=modulepreload], [rel~=icon])[href]"
)
LINKS = "a[href], link[href], img[src], script[src]"
HIGHLIGHTING = {"span", "a"}
ADDRESSES = ("href", "src", "action", "formaction", "data", "xlink:href", "poster")
SCHEMES = {"http", "https", "mailto"}
PIXELS = "data:image/png;base64,"  # of a drawing's image
THEME_PAGES = {"search.html"}  # with a script that only it needs
THEME_HANDLERS = {"toggleFullScreen()", "window.print()"}
# Not allowed in an article: these run, or change how the page is parsed.
FOREIGN = (
    "script, iframe, object, embed, base, form, meta, link, style, template, animate, "
    "set"
)
OWN_NAME = re.compile(r"DOCUMENTATION_OPTIONS\.pagename = '[\w/-]+';")
STYLED = re.compile(r"""(?:\burl\(|@import)\s*["']?((?:https?:)?//[^\s"')]+)""")
DRAWN = "svg, :is(g, defs, clippath, pattern, path, rect, use, image, text)"
OUTPUT = f"div, img, pre, pre *, figure, figure :not(svg, svg *), {DRAWN}"
HEAVIEST = 300_000  # bytes, of a page and the files that only it uses
HEAVIEST_SEARCH = 600_000  # the search page's index has the words of all pages
KINDS = {"code": "pre", "tables": "table", "formulas": ".math", "navigation": "nav"}

Link = tuple[str, Path, str]  # the address, the file and the anchor it means


@dataclass(frozen=True)
class Site:
    """The pages' directory, and the URL path that it is served at."""

    root: Path
    prefix: str


@dataclass(frozen=True)
class Page:
    """A page's own faults, and what is checked across pages."""

    faults: list[str]
    anchors: set[str]
    links: list[Link]
    footer: str
    scripts: list[str]
    files: set[Path]  # that a browser fetches to show it


Pages = Mapping[Path, Page]


def main(html: Path, mapped: Callable[..., Iterable[Page]] = map) -> int:
    """Print every fault of the pages below ``html``; return how many there are."""
    parts = html.glob("_static/**/*.html")  # the theme's, not pages
    found = sorted(set(html.rglob("*.html")) - set(parts))
    if not found:
        print(f"{html}: there are no pages")
        return 1
    missing = html / "404.html"
    text = missing.read_text(encoding="utf-8") if missing in found else ""
    prefix = re.search(r'"(/[^"]*)_static/', text)
    site = Site(html, prefix[1] if prefix else "/")
    pages = dict(zip(found, mapped(partial(look, site=site), found), strict=True))
    faults = [(path, fault) for path, page in pages.items() for fault in page.faults]
    faults += chain(dead_links(pages, site), strangers(pages))
    faults += chain(lone_scripts(pages), heavy(pages))
    faults += [
        (path, fault)
        for path in sorted(html.rglob("*.css"))
        for fault in fetched_by_style(path.read_text(encoding="utf-8"))
    ]
    for path, fault in faults:
        print(f"{path.relative_to(html)}: {fault}")
    if not faults:
        print(f"{len(pages)} pages keep what they promise.")
    return len(faults)


def look(path: Path, site: Site) -> Page:
    """Read and audit a page."""
    page = parse(path)
    return Page(
        list(audit(path, page)),
        {str(tag["id"]) for tag in page.find_all(id=True)},
        list(links(path, page, site)),
        "".join(map(str, page.select(".provenance"))),
        [script.get_text() for script in page.select("script")],
        set(files(path, page, site)),
    )


def parse(path: Path) -> BeautifulSoup:
    """Parse a page's HTML."""
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


def audit(path: Path, page: BeautifulSoup) -> Iterator[str]:
    """Yield the faults of one page."""
    yield from fetched_from_elsewhere(page)
    yield from foreign_handlers(page)
    yield from acting_characters(page)
    if page.select_one("meta[http-equiv=refresh]"):
        return  # a redirect
    if not page.select_one(".provenance"):
        yield "its footer does not say what it ran on"
    if path.parent.name == "book":
        yield from audit_article(page)


def strangers(pages: Pages) -> Iterator[tuple[Path, str]]:
    """Yield pages from another build."""
    footers = Counter(page.footer for page in pages.values() if page.footer)
    usual = max(footers, key=footers.__getitem__, default="")
    for path, page in pages.items():
        if page.footer not in (usual, ""):
            yield (
                path,
                "it did not run with the others' model and library; if it is a page of "
                "an earlier build, `make clean` removes it",
            )


def audit_article(page: BeautifulSoup) -> Iterator[str]:
    """Yield the faults of a page's article."""
    article = page.select_one("article.bd-article")
    if article is None:
        yield "it has no article"
        return
    yield from unfaithful_listings(article)
    yield from undescribed_pictures(article)
    yield from foreign_scripts(article)
    yield from unescaped_markup(article)
    if "Traceback (most recent call last)" in article.get_text():
        yield "it shows a traceback"


def unfaithful_listings(article: Tag) -> Iterator[str]:
    """Yield listings that differ from the lines that their captions name."""
    for listing in article.select("div.listing"):
        caption = "".join(tag.get_text() for tag in listing.select(".caption-text"))
        path, first, last = re.findall(r"^(\S+), lines (\d+)–(\d+)", caption)[0]
        lines = (REPOSITORY / path).read_text(encoding="utf-8").splitlines()
        source = textwrap.dedent("\n".join(lines[int(first) - 1 : int(last)]))
        block = copy(listing)
        for number in block.select(".linenos"):
            number.extract()
        if "".join(pre.get_text() for pre in block.select("pre")).rstrip() != source:
            yield f"the listing of {caption} is not what the file says"


def undescribed_pictures(article: Tag) -> Iterator[str]:
    """Yield pictures without alt text or a caption."""
    for picture in article.select("img, svg[role=img]"):
        name = Path(str(picture.get("src", "drawn by a cell"))).name
        alt = str(picture.get("alt", picture.get("aria-label", "")))
        if len(alt.split()) < 5 or name in alt:
            yield f"the picture {name} has no alt text that says what to see"
        figure = picture.find_parent("figure")
        caption = figure and figure.select_one("figcaption .caption-text")
        if not caption or len(caption.get_text().split()) < 3:
            yield f"the picture {name} has no caption"


def foreign_scripts(article: Tag) -> Iterator[str]:
    """Yield tags and handlers that could run in an article."""
    for tag in article.select(FOREIGN):
        yield f"it holds a <{tag.name}> in the text: {str(tag)[:60]}"
    for tag in article.find_all(True):
        for name in tag.attrs:
            if name.startswith("on"):
                yield f"it holds a handler in the text: <{tag.name} {name}>"


def foreign_handlers(page: BeautifulSoup) -> Iterator[str]:
    """Yield handlers that aren't the theme's, and URLs that could run."""
    for tag in page.find_all(True):
        for name, value in tag.attrs.items():
            if name == "srcdoc" or (
                name.startswith("on") and value not in THEME_HANDLERS
            ):
                yield f"it holds a handler: <{tag.name} {name}={str(value)[:40]!r}>"
            if name in ADDRESSES:
                place = re.sub(r"[\s\x00-\x20]+", "", str(value))  # as browsers do
                scheme = re.match(r"([^/?#:]*):", place)
                pixels = tag.name == "image" and place.startswith(PIXELS)
                if scheme and scheme[1].lower() not in SCHEMES and not pixels:
                    yield f"it holds an address that could run: {place[:40]!r}"


def acting_characters(page: BeautifulSoup) -> Iterator[str]:
    """Yield control characters and bidirectional marks that aren't escaped."""
    for character in sorted(set(ACTING.findall(str(page)))):
        yield f"it holds the character {character!a}, which acts and is not seen"


def lone_scripts(pages: Pages) -> Iterator[tuple[Path, str]]:
    """Yield inline scripts that only one page has; the theme's are in several."""
    places = Counter(chain.from_iterable(set(page.scripts) for page in pages.values()))
    for path, page in pages.items():
        for script in page.scripts:
            own = places[script] < 2 and not OWN_NAME.fullmatch(script.strip())
            if own and len(pages) > 1 and path.name not in THEME_PAGES:
                yield path, f"it holds a script of its own: {script.strip()[:60]!r}"


def heavy(pages: Pages) -> Iterator[tuple[Path, str]]:
    """Yield pages over `HEAVIEST`, with their largest parts; skip shared files."""
    users = Counter(chain.from_iterable(page.files for page in pages.values()))
    for path, page in pages.items():
        own = [file for file in page.files if users[file] == 1]
        sizes = {file.name: file.stat().st_size for file in own}
        total = path.stat().st_size + sum(sizes.values())
        heaviest = HEAVIEST_SEARCH if path.name == "search.html" else HEAVIEST
        if total > heaviest:
            article = parse(path)
            for kind, selector in KINDS.items():
                sizes[kind] = len("".join(map(str, article.select(selector))).encode())
            most = sorted(sizes, key=sizes.__getitem__, reverse=True)[:3]
            yield (
                path,
                f"it has {total:,} bytes of its own, more than {heaviest:,}; most are "
                "in its " + ", ".join(f"{part} ({sizes[part]:,})" for part in most),
            )


def files(path: Path, page: BeautifulSoup, site: Site) -> Iterator[Path]:
    """Yield the site's files that a browser fetches with a page."""
    for local in map(urlsplit, filter(None, map(address, page.select(FETCHED)))):
        file = lead(path, unquote(local.path), site)
        if not (local.scheme or local.netloc) and file.is_file():
            yield file


def unescaped_markup(article: Tag) -> Iterator[str]:
    """Yield tags in code that aren't highlighting, and outputs of HTML."""
    for tag in article.select("pre *"):
        if tag.name not in HIGHLIGHTING:
            yield f"it holds markup in code or output: {str(tag)[:60]}"
    for tag in article.select(f".cell_output :not({OUTPUT})"):
        yield f"it holds an output of markup: {str(tag)[:60]}"


def address(tag: Tag) -> str:
    """Return a tag's URL."""
    return next(str(tag[name]) for name in ("href", "src", "data") if name in tag.attrs)


def fetched_from_elsewhere(page: BeautifulSoup) -> Iterator[str]:
    """Yield the URLs that a page fetches from the network."""
    for place in map(address, page.select(FETCHED)):
        if re.match(r"(\w+:)?//", place):
            yield f"it fetches {place}"
    for tag in page.select("style, [style]"):
        yield from fetched_by_style(str(tag.get("style") or tag.get_text()))


def fetched_by_style(text: str) -> Iterator[str]:
    """Yield the URLs that CSS fetches from the network."""
    for place in STYLED.findall(text):
        yield f"it fetches {place}"


def links(path: Path, page: BeautifulSoup, site: Site) -> Iterator[Link]:
    """Yield a page's internal links."""
    for parts in map(urlsplit, map(address, page.select(LINKS))):
        if not (parts.scheme or parts.netloc):
            target = lead(path, unquote(parts.path), site)
            yield parts.geturl(), target, unquote(parts.fragment)


def dead_links(pages: Pages, site: Site) -> Iterator[tuple[Path, str]]:
    """Yield internal links to missing files or anchors."""
    for path, page in pages.items():
        for address, target, anchor in page.links:
            if not (target.is_file() and target.is_relative_to(site.root)):
                yield path, f"a link leads nowhere: {address}"
            elif anchor and target in pages and anchor not in pages[target].anchors:
                yield path, f"a link's anchor is not on its page: {address}"


def lead(path: Path, address: str, site: Site) -> Path:
    """Return the file that a link on a page leads to."""
    if not address:
        return path
    if address.startswith(site.prefix):  # on 404.html
        return site.root / address.removeprefix(site.prefix)
    return (path.parent / address).resolve()


if __name__ == "__main__":
    with ProcessPoolExecutor() as pool:
        sys.exit(min(main(Path(sys.argv[1]).resolve(), pool.map), 1))
