"""The figures in the pages: what matplotlib drew, in few bytes, in the theme."""

import base64
import io
import itertools
import re
from xml.etree.ElementTree import Element, fromstring

import pytest
from PIL import Image, ImageColor

from hardway import plots
from paths import REPOSITORY
from theme import pictures

PAGE = REPOSITORY / "book" / "04-attention.md"
STYLED = "fill: {}; stroke: #222222; stroke-width: 0.8; stroke-linejoin: miter"
FONT = "font-size: 10px; font-family: {}, sans-serif; text-anchor: middle; fill: {}"


def svg(*parts: str) -> Element:
    """A drawing as matplotlib writes it."""
    return fromstring(
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 100.04 50" '
        f'xmlns:xlink="http://www.w3.org/1999/xlink">{"".join(parts)}</svg>'
    )


def inside(*parts: str) -> str:
    """What of a drawing is inside the page's SVG."""
    written = pictures.Picture(svg(*parts), "d0-").html("Some <lines>.")
    opening, body = re.fullmatch("(<svg.*?>)(.*)</svg>", written).groups()
    assert 'role="img" aria-label="Some &lt;lines&gt;."' in opening
    assert 'viewBox="0 0 100 50" width="125" height="62"' in opening
    return str(body)


def test_a_drawing_has_the_colors_of_the_theme() -> None:
    path = '<path d="M 1.26 2 \nL 3 4.04 \n" style="{}"/>'
    for color, there in ((plots.COLORS[1], "var(--c1)"), ("#12ab34", "#12ab34")):
        assert inside(path.format(STYLED.format(color.lower()))) == (
            f'<path d="M1.3 2L3 4" fill="{there}" stroke="currentColor" '
            'stroke-width="0.8"/>'
        )
    nothing = path.format("fill: none")
    assert inside(nothing, f'<g id="patch_1">{path}</g>', "<metadata/>") == ""


def test_a_drawing_has_the_text_of_the_page() -> None:
    text = '<text x="1" y="2.0" transform="rotate({} 1 2)" style="{}">&lt;b&gt;</text>'
    sans = FONT.format("'DejaVu Sans'", "{}")
    ink, white = (sans.format(color) for color in ("#222222", "#ffffff"))
    assert inside(text.format("-0", ink)) == (
        '<text x="1" y="2" text-anchor="middle">&lt;b&gt;</text>'
    )
    assert 'fill="#ffffff"' in inside(text.format("-0", white))
    assert 'fill="#000"' in inside(text.format("-0", sans.partition("; fill")[0]))
    assert 'transform="rotate(-90 1 2)"' in inside(text.format("-90", ink))
    mono = FONT.format("'DejaVu Sans Mono'", "#222222")
    assert "--pst-font-family-monospace" in inside(text.format("-0", mono))


def test_what_is_drawn_alike_is_written_once() -> None:
    tick = '<use xlink:href="#tick" x="{}" y="9" style="stroke: #222222"/>'
    ticks = '<defs><path id="tick" d="M 0 0 L 0 3.5"/></defs>' + tick * 2
    assert inside(ticks.format(1.5, 7)) == (
        '<path d="M1.5 9L1.5 12.5M7 9L7 12.5" stroke="currentColor"/>'
    )


def test_ids_are_a_drawing_s_own() -> None:
    curve = '<defs><path id="m1" d="M 0 0 C 1 2 3 4 5 6"/></defs>'
    use = '<g clip-path="url(#p1)"><use xlink:href="#m1" x="1" y="2" style=""/></g>'
    clip = '<clipPath id="p1"><rect x="0" y="0" width="9" height="9"/></clipPath>'
    assert inside(curve, use, clip) == (
        '<g clip-path="url(#d0-0)"><use x="1" y="2" href="#d0-1"/></g><defs>'
        '<clipPath id="d0-0"><rect x="0" y="0" width="9" height="9"></rect></clipPath>'
        '<path id="d0-1" d="M0 0C1 2 3 4 5 6"></path></defs>'
    )


def test_a_hatch_has_the_colors_of_the_theme() -> None:
    bar = '<path d="M 0 0 L 9 9 z" style="fill: url(#h1)"/>'
    hatch = (
        f'<rect x="0" y="0" width="73" height="73" fill="{plots.COLORS[0].lower()}"/>'
    )
    written = inside(bar, f'<defs><pattern id="h1">{hatch}</pattern></defs>')
    assert 'fill="url(#d0-0)"' in written
    assert (
        '<pattern id="d0-0"><rect x="0" y="0" width="73" height="73" fill="var(--c0)'
        in (written)
    )


def test_a_drawing_of_the_book_has_the_colors_of_the_theme() -> None:
    file = REPOSITORY / "book" / "_static" / "block.svg"
    written = pictures.in_theme(file.read_text("utf-8"), "One block.")
    assert not re.findall("#[0-9A-Fa-f]{3,6}", written)
    assert written.startswith('<svg class="drawn" role="img" aria-label="One block."')
    assert "patch_1" in file.read_text("utf-8")
    assert "patch_1" not in written


@pytest.mark.parametrize("colors", [3, 300])
def test_the_pixels_of_a_heat_map_stay_as_they_are(colors: int) -> None:
    drawn = Image.new("RGBA", (colors, 2), "white")
    for x in range(colors):
        drawn.putpixel((x, 0), (x % 256, x // 256, 7, 255))
    file = io.BytesIO()
    drawn.save(file, "PNG")
    data = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
    shown = base64.b64decode(pictures.smallest(data).partition(",")[2])
    with Image.open(io.BytesIO(shown)) as picture:
        assert picture.convert("RGBA").tobytes() == drawn.tobytes()


def luminance(color: str) -> float:
    """From 0, black, to 1, white, as the web defines it."""
    channels = [c / 255 for c in ImageColor.getrgb(color)]
    linear = [
        c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels
    ]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_colors_are_told_apart_in_both_themes() -> None:
    """By 3 to 1 from the background, and by a tenth in lightness from a neighbor."""
    css = (REPOSITORY / "book" / "_static" / "book.css").read_text("utf-8")
    rules = re.findall(r"\.drawn \{ (.*?) \}", css)[:2]
    for rule, ground in zip(rules, ("#ffffff", "#121212"), strict=True):
        colors = re.findall(r"--c\d: (#\w+)", rule)
        assert len(colors) == len(plots.COLORS)
        for color, following in itertools.pairwise([*colors, colors[0]]):
            low, high = sorted(map(luminance, (color, ground)))
            assert (high + 0.05) / (low + 0.05) >= 3, color
            one, other = (116 * luminance(c) ** (1 / 3) for c in (color, following))
            assert abs(one - other) >= 10, (color, following)
    assert re.findall(r"--c\d: (#\w+)", rules[0]) == [c.lower() for c in plots.COLORS]


def test_the_built_pages_show_figures_in_few_bytes() -> None:
    page = REPOSITORY / "_build" / "html" / "book" / "04-attention.html"
    if not page.is_file():
        pytest.skip("needs the book: run `make book` first")
    shown = re.findall(r'<svg class="drawn.*?</svg>', page.read_text("utf-8"))
    drawn = re.findall(r"^plots\.\w+\(", PAGE.read_text("utf-8"), re.MULTILINE)
    assert len(shown) == len([call for call in drawn if call != "plots.glue("])
    assert sum(map(len, shown)) < 80_000
    ids = re.findall(r' id="(04-attention-\d+-\d+)"', "".join(shown))
    assert len(ids) == len(set(ids)) > 10
