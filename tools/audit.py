"""Read the built pages once more and prove what they promise.

    python -m tools.audit _build/html

The links of every page lead somewhere, it needs no network, and its footer says what it
ran on, the same as every other page's. A browser obeys only what the theme has put into
every page, and nothing that came from data. No page is heavy. A page of the book shows
the library's lines as they are, describes its pictures, and holds no traceback.
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
from tools import REPOSITORY

# What a browser fetches when a page is opened.
FETCHED = (
    ":is(script, img, iframe, source, video, audio, embed)[src], object[data], link:is("
    "[rel~=stylesheet], [rel~=preload], [rel~=modulepreload], [rel~=icon])[href]"
)
LINKS = "a[href], link[href], img[src], script[src]"
HIGHLIGHTING = {"span", "a"}
ADDRESSES = ("href", "src", "action", "formaction", "data", "xlink:href", "poster")
SCHEMES = {"http", "https", "mailto"}
THEME_PAGES = {"search.html"}  # with a script that only it needs
THEME_HANDLERS = {"toggleFullScreen()", "window.print()"}
# What has no place in a text: it would run, or change how the rest of the page is read.
FOREIGN = (
    "script, iframe, object, embed, base, form, meta, link, style, template, animate, "
    "set"
)
OWN_NAME = re.compile(r"DOCUMENTATION_OPTIONS\.pagename = '[\w/-]+';")
STYLED = re.compile(r"""(?:\burl\(|@import)\s*["']?((?:https?:)?//[^\s"')]+)""")
OUTPUT = "div, img, pre, pre *, figure, figure *"
HEAVIEST = 300_000  # bytes of a page and of the files that only it uses
KINDS = {"code": "pre", "tables": "table", "formulas": ".math", "navigation": "nav"}


Link = tuple[str, Path, str]  # the address, the file and the anchor it means


@dataclass(frozen=True)
class Site:
    """Where the pages are, and what the address of their root will be, as links say."""

    root: Path
    prefix: str


@dataclass(frozen=True)
class Page:
    """What one page says: its own faults, and what only all pages together judge."""

    faults: list[str]
    anchors: set[str]
    links: list[Link]
    footer: str
    scripts: list[str]
    files: set[Path]  # that a browser fetches to show it


Pages = Mapping[Path, Page]


def main(html: Path, mapped: Callable[..., Iterable[Page]] = map) -> int:
    """Print every fault of the pages below ``html``; return how many there are.

    ``mapped`` is ``map``, or that of a pool which looks at several pages at once.
    """
    parts = html.glob("_static/**/*.html")  # of the theme's: they are no pages
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
    """Read a page."""
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
    """Parse a page."""
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


def audit(path: Path, page: BeautifulSoup) -> Iterator[str]:
    """Yield the faults of one page."""
    yield from fetched_from_elsewhere(page)
    yield from foreign_handlers(page)
    yield from acting_characters(page)
    if page.select_one("meta[http-equiv=refresh]"):
        return  # it only leads on
    if not page.select_one(".provenance"):
        yield "its footer does not say what it ran on"
    if path.parent.name == "book":
        yield from audit_article(page)


def strangers(pages: Pages) -> Iterator[tuple[Path, str]]:
    """Yield the pages that ran on something else than most, or are of another build."""
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
    """Yield the faults of a page of the book in what it says and shows."""
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
    """Compare each listing with the lines of the file that its caption names."""
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
    """Look for pictures without words: alt text that somebody wrote, and a caption."""
    for picture in article.select("img"):
        name, alt = Path(str(picture["src"])).name, str(picture.get("alt", ""))
        if len(alt.split()) < 5 or name in alt:
            yield f"the picture {name} has no alt text that says what to see"
        figure = picture.find_parent("figure")
        caption = figure and figure.select_one("figcaption .caption-text")
        if not caption or len(caption.get_text().split()) < 3:
            yield f"the picture {name} has no caption"


def foreign_scripts(article: Tag) -> Iterator[str]:
    """Look for anything that would run: data may be shown, but never obeyed."""
    for tag in article.select(FOREIGN):
        yield f"it holds a <{tag.name}> in the text: {str(tag)[:60]}"
    for tag in article.find_all(True):
        for name in tag.attrs:
            if name.startswith("on"):
                yield f"it holds a handler in the text: <{tag.name} {name}>"


def foreign_handlers(page: BeautifulSoup) -> Iterator[str]:
    """Look in a whole page for handlers that are not the theme's, and for addresses
    that would run: browsers skip white space in a scheme, and so does this.
    """
    for tag in page.find_all(True):
        for name, value in tag.attrs.items():
            if name == "srcdoc" or (
                name.startswith("on") and value not in THEME_HANDLERS
            ):
                yield f"it holds a handler: <{tag.name} {name}={str(value)[:40]!r}>"
            if name in ADDRESSES:
                place = re.sub(r"[\s\x00-\x20]+", "", str(value))
                scheme = re.match(r"([^/?#:]*):", place)
                if scheme and scheme[1].lower() not in SCHEMES:
                    yield f"it holds an address that could run: {place[:40]!r}"


def acting_characters(page: BeautifulSoup) -> Iterator[str]:
    """Look for characters that act instead of being seen; pages show their escapes."""
    for character in sorted(set(ACTING.findall(str(page)))):
        yield f"it holds the character {character!a}, which acts and is not seen"


def lone_scripts(pages: Pages) -> Iterator[tuple[Path, str]]:
    """Yield the scripts written into one page alone: the theme's are in several."""
    places = Counter(chain.from_iterable(set(page.scripts) for page in pages.values()))
    for path, page in pages.items():
        for script in page.scripts:
            own = places[script] < 2 and not OWN_NAME.fullmatch(script.strip())
            if own and len(pages) > 1 and path.name not in THEME_PAGES:
                yield path, f"it holds a script of its own: {script.strip()[:60]!r}"


def heavy(pages: Pages) -> Iterator[tuple[Path, str]]:
    """Yield the pages that are heavy, and what weighs most.

    A file that several pages use is fetched once, and counts for none of them.
    """
    users = Counter(chain.from_iterable(page.files for page in pages.values()))
    for path, page in pages.items():
        own = [file for file in page.files if users[file] == 1]
        sizes = {file.name: file.stat().st_size for file in own}
        total = path.stat().st_size + sum(sizes.values())
        if total > HEAVIEST:
            article = parse(path)
            for kind, selector in KINDS.items():
                sizes[kind] = len("".join(map(str, article.select(selector))).encode())
            most = sorted(sizes, key=sizes.__getitem__, reverse=True)[:3]
            yield (
                path,
                f"it has {total:,} bytes of its own, more than {HEAVIEST:,}; most are "
                "in its " + ", ".join(f"{part} ({sizes[part]:,})" for part in most),
            )


def files(path: Path, page: BeautifulSoup, site: Site) -> Iterator[Path]:
    """Yield the files of the site that a browser fetches to show a page."""
    for local in map(urlsplit, filter(None, map(address, page.select(FETCHED)))):
        file = lead(path, unquote(local.path), site)
        if not (local.scheme or local.netloc) and file.is_file():
            yield file


def unescaped_markup(article: Tag) -> Iterator[str]:
    """Look for tags in code and output, where highlighting alone may put some.

    An output is text or a picture: HTML made of data would bring the data's own.
    """
    for tag in article.select("pre *"):
        if tag.name not in HIGHLIGHTING:
            yield f"it holds markup in code or output: {str(tag)[:60]}"
    for tag in article.select(f".cell_output :not({OUTPUT})"):
        yield f"it holds an output of markup: {str(tag)[:60]}"


def address(tag: Tag) -> str:
    """Return where a tag leads, or what it shows."""
    return next(str(tag[name]) for name in ("href", "src", "data") if name in tag.attrs)


def fetched_from_elsewhere(page: BeautifulSoup) -> Iterator[str]:
    """Look for anything that a browser would fetch over the network on opening."""
    for place in map(address, page.select(FETCHED)):
        if re.match(r"(\w+:)?//", place):
            yield f"it fetches {place}"
    for tag in page.select("style, [style]"):
        yield from fetched_by_style(str(tag.get("style") or tag.get_text()))


def fetched_by_style(text: str) -> Iterator[str]:
    """Look in a style sheet, or in a page's own styles, for files from elsewhere."""
    for place in STYLED.findall(text):
        yield f"it fetches {place}"


def links(path: Path, page: BeautifulSoup, site: Site) -> Iterator[Link]:
    """Yield the links of a page that stay within the site."""
    for parts in map(urlsplit, map(address, page.select(LINKS))):
        if not (parts.scheme or parts.netloc):
            target = lead(path, unquote(parts.path), site)
            yield parts.geturl(), target, unquote(parts.fragment)


def dead_links(pages: Pages, site: Site) -> Iterator[tuple[Path, str]]:
    """Yield the links and anchors within the site that lead nowhere."""
    for path, page in pages.items():
        for address, target, anchor in page.links:
            if not (target.is_file() and target.is_relative_to(site.root)):
                yield path, f"a link leads nowhere: {address}"
            elif anchor and target in pages and anchor not in pages[target].anchors:
                yield path, f"a link's anchor is not on its page: {address}"


def lead(path: Path, address: str, site: Site) -> Path:
    """Return where a link on a page leads."""
    if not address:
        return path
    if address.startswith(site.prefix):  # as on the page for what is missing
        return site.root / address.removeprefix(site.prefix)
    return (path.parent / address).resolve()


if __name__ == "__main__":
    with ProcessPoolExecutor() as pool:
        sys.exit(min(main(Path(sys.argv[1]).resolve(), pool.map), 1))
