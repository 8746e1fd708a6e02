"""Put the figures that cells draw into the pages: small, sharp, and in their theme.

A page has matplotlib's SVG inline. Its text is text, in the page's own font; the colors
of `hardway.plots` are the theme's, through the custom properties of ``book.css``; the
cells of a heat map are the pixels of a small PNG, drawn enlarged. What nobody sees is
left out: metadata, defaults, unused ids, and digits after the first.
"""

import base64
import io
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from html import escape
from itertools import cycle
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, fromstring

from docutils import nodes
from PIL import Image
from sphinx.transforms.post_transforms import SphinxPostTransform

from hardway import plots

SCALE = 1.25  # pixels to a point
TEXT_SCALE = 1.09  # the page's font is narrower than the one that was measured
FITS_PHONE = 360  # points: a figure that is wider scrolls there
THEME = {
    plots.INK: "currentColor",
    plots.PAPER: "var(--paper)",
    plots.MUTED: "var(--muted)",
    plots.PALE: "var(--pale)",
} | {color: f"var(--c{i})" for i, color in enumerate(plots.COLORS)}
THEME = {color.lower(): there for color, there in THEME.items()}
SEEN = ("fill", "stroke", "stroke-width", "stroke-dasharray", "opacity", "fill-opacity",
        "stroke-opacity", "text-anchor", "font-weight")  # fmt: skip
UNSEEN = {("stroke-width", "1"), ("text-anchor", "start"), ("opacity", "1")}
NUMBER = re.compile(r"-?\d+\.\d+(?:e-?\d+)?")
COORDINATE = re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?")
DECLARED = re.compile(r"([\w-]+): ([^;]+)")
FONT_SIZE = re.compile(r"font(?:-size)?: [^;]*?([\d.]+)px")
USED = re.compile(r"url\(#(\w+)\)")
HREF = "{http://www.w3.org/1999/xlink}href"
STRAIGHT = re.compile(r"[MLz\d\s.-]+")  # a path without curves
COLOR = re.compile(r"#[0-9A-Fa-f]{6}\b")
BACKGROUND = re.compile(r'\s*<rect id="patch_1"[^>]*>')
PLACED = ("d", "x", "y", "width", "height", "patternUnits")


@dataclass
class Leaf:
    """An element without children: what it shares with others, what is its own."""

    tag: str
    style: dict[str, str]
    own: dict[str, str]
    text: str = ""

    def __str__(self) -> str:
        end = f">{escape(self.text, quote=False)}</{self.tag}>" if self.text else "/>"
        return f"<{self.tag}{listed(self.own)}{end}"


@dataclass
class Picture:
    """A drawing of matplotlib's, to be written leaf by leaf."""

    root: Element
    prefix: str
    names: dict[str, str] = field(default_factory=dict)

    def html(self, alt: str) -> str:
        """Return the drawing as inline SVG."""
        *_, width, height = map(float, self.root.attrib["viewBox"].split())
        leaves = list(self.leaves(self.root, {}))
        texts = [leaf for leaf in leaves if leaf.tag == "text"]
        sizes = Counter(text.style["font-size"] for text in texts)
        usual = max(sizes, key=sizes.__getitem__, default="")
        for text in texts:
            if text.style["font-size"] == usual:
                del text.style["font-size"]
        shapes = joined([leaf for leaf in leaves if leaf.tag != "text"])
        attributes = {
            "class": "drawn wide" if width > FITS_PHONE else "drawn",
            "viewBox": f"0 0 {width:.0f} {height:.0f}",
            "width": f"{width * SCALE:.0f}",
            "height": f"{height * SCALE:.0f}",
            "role": "img",
            "aria-label": alt,
            "fill": "currentColor",
            "font-size": usual,
        }
        body = grouped([*shapes, *texts]) + self.defined()
        return f"<svg{listed(attributes)}>{body}</svg>"

    def leaves(self, parent: Element, clip: Mapping[str, str]) -> Iterator[Leaf]:
        """Yield what is drawn, in order."""
        for element in parent:
            tag = name_of(element)
            here = {**clip, **self.clipped(element)}
            if tag == "g" and element.get("id") != "patch_1":  # the background
                yield from self.leaves(element, here)
            elif tag in ("path", "text", "use", "image"):
                leaf = self.leaf(element, here)
                if leaf.style.get("fill") != "none" or "stroke" in leaf.style:
                    yield leaf

    def leaf(self, element: Element, clip: Mapping[str, str]) -> Leaf:
        """Read an element; a marker of straight lines becomes a path."""
        tag, style = name_of(element), styled(element.get("style", ""))
        if tag == "image":
            own = {key: element.attrib[key] for key in ("width", "height", "transform")}
            return Leaf(tag, {}, own | {"href": smallest(element.attrib[HREF])})
        own = {
            key: rounded(element.attrib[key]) for key in "dxy" if key in element.attrib
        }
        if tag == "text":
            turned = element.get("transform", "rotate(-0 ")
            own |= {} if "(-0 " in turned else {"transform": rounded(turned)}
            return Leaf(tag, style, own, element.text or "")
        if tag == "use":
            marker = self.find(element.attrib[HREF][1:])
            if not STRAIGHT.fullmatch(marker.attrib["d"]):
                own["href"] = f"#{self.name(marker.attrib['id'])}"
                return Leaf(tag, {**style, **clip}, own)
            x, y = (float(element.attrib[key]) for key in "xy")
            own = {"d": rounded(moved(marker.attrib["d"], x, y))}
        if hatched := USED.fullmatch(style.get("fill", "")):
            style["fill"] = f"url(#{self.name(hatched[1])})"
        return Leaf("path", {**style, **clip}, own)

    def clipped(self, element: Element) -> dict[str, str]:
        """Return an element's clip path, by its new name."""
        found = USED.fullmatch(element.get("clip-path", ""))
        return {"clip-path": f"url(#{self.name(found[1])})"} if found else {}

    def name(self, old: str) -> str:
        """Return the new, unique id for one of matplotlib's."""
        return self.names.setdefault(old, f"{self.prefix}{len(self.names)}")

    def find(self, old: str) -> Element:
        """Return the element with one of matplotlib's ids."""
        return next(each for each in self.root.iter() if each.get("id") == old)

    def defined(self) -> str:
        """Return the definitions of all that is used."""
        written = "".join(self.definition(self.find(old)) for old in [*self.names])
        return f"<defs>{written}</defs>" if written else ""

    def definition(self, element: Element) -> str:
        """Write a clip path, a marker or a pattern with its content."""
        tag, kept = name_of(element), element.attrib
        own = {key: rounded(kept[key]) for key in PLACED if key in kept}
        if kept.get("id") in self.names:
            own = {"id": self.names[kept["id"]], **own}
        else:  # part of a pattern
            own |= styled(f"fill: {kept.get('fill', '')}; {kept.get('style', '')}")
        inside = "".join(map(self.definition, element))
        return f"<{tag}{listed(own)}>{inside}</{tag}>"


def name_of(element: Element) -> str:
    """Return an element's tag without its namespace."""
    return element.tag.rpartition("}")[2]


def styled(style: str) -> dict[str, str]:
    """Return the declarations that are seen, as attributes, in the theme's colors."""
    said: dict[str, str] = dict(DECLARED.findall(style))
    kept = {key: THEME.get(said[key], said[key]) for key in SEEN if key in said}
    if size := FONT_SIZE.search(style):  # a text: its color is ink, if it isn't another
        kept["font-size"] = f"{float(size[1]) * TEXT_SCALE:.1f}"
        kept.setdefault("fill", "#000")
        if kept["fill"] == "currentColor":
            del kept["fill"]
        if "Mono" in style.partition(",")[0]:
            kept["font-family"] = "var(--pst-font-family-monospace)"
    return {key: value for key, value in kept.items() if (key, value) not in UNSEEN}


def rounded(text: str) -> str:
    """Round coordinates to tenths of a point, and leave out spaces."""
    text = NUMBER.sub(lambda number: f"{float(number[0]):.1f}".removesuffix(".0"), text)
    return re.sub(r"\s*([A-Za-z])\s+", r"\1", text).replace("\n", " ").strip()


def moved(path: str, x: float, y: float) -> str:
    """Move a path of straight lines."""
    steps = cycle((x, y))
    return COORDINATE.sub(lambda number: str(float(number[0]) + next(steps)), path)


def smallest(data: str) -> str:
    """Write a PNG again, with a palette if it has few colors."""
    raw = base64.b64decode(data.partition(",")[2])
    with Image.open(io.BytesIO(raw)) as opened:
        picture = opened.convert("RGBA")
    if picture.getchannel("A").getextrema() == (255, 255):
        picture = picture.convert("RGB")
        if colors := picture.getcolors(256):
            picture = picture.quantize(len(colors), dither=Image.Dither.NONE)
    written = io.BytesIO()
    picture.save(written, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(written.getvalue()).decode()}"


def joined(leaves: list[Leaf]) -> list[Leaf]:
    """Join consecutive paths of one style that cover nothing twice."""
    done: list[Leaf] = []
    for leaf in leaves:
        last = done[-1] if done else None
        same = last and leaf.tag == last.tag == "path" and leaf.style == last.style
        if last and same and not any("opacity" in key for key in leaf.style):
            last.own["d"] += leaf.own["d"]
        else:
            done.append(leaf)
    return done


def grouped(leaves: list[Leaf]) -> str:
    """Write the leaves, consecutive ones of one style in a group."""
    runs: list[tuple[dict[str, str], list[Leaf]]] = []
    for leaf in leaves:
        if runs and leaf.style == runs[-1][0] and "opacity" not in leaf.style:
            runs[-1][1].append(leaf)
        else:
            runs.append((leaf.style, [leaf]))
    return "".join(
        f"<g{listed(style)}>{''.join(map(str, run))}</g>"
        if len(run) > 1 or run[0].tag == "use"  # which would move its own clip path
        else str(Leaf(run[0].tag, {}, run[0].own | style, run[0].text))
        for style, run in runs
    )


def listed(attributes: Mapping[str, str]) -> str:
    """Write attributes."""
    return "".join(f' {key}="{escape(value)}"' for key, value in attributes.items())


def in_theme(drawing: str, alt: str) -> str:
    """Return an SVG file of the book, which is in the light theme's colors, as HTML."""
    drawing = COLOR.sub(lambda color: THEME.get(color[0].lower(), color[0]), drawing)
    attributes = {"class": "drawn", "role": "img", "aria-label": alt}
    drawing = drawing.replace("<svg", f"<svg{listed(attributes)}", 1)
    return BACKGROUND.sub("", drawing)


class Inline(SphinxPostTransform):
    """Put each figure into its page, in HTML builds."""

    default_priority = 10  # after MyST-NB's choice of outputs, before images are read
    formats = ("html",)

    def run(self, **kwargs: Any) -> None:
        """Replace the images that cells have drawn, and those of the book."""
        written = Path(self.app.outdir).parent / "jupyter_execute"
        page = Path(self.env.docname).name  # ids are unique in the whole book
        for number, image in enumerate([*self.document.findall(nodes.image)]):
            file, alt = Path(image["uri"]), image.get("alt", "")
            if file.suffix != ".svg":
                continue
            if file.parent.name == written.name:
                root = fromstring((written / file.name).read_bytes())
                drawing = Picture(root, f"{page}-{number}-").html(alt)
            else:
                text = (Path(self.app.srcdir) / file).read_text("utf-8")
                drawing = in_theme(text, alt)
            image.replace_self(nodes.raw("", drawing, format="html"))
