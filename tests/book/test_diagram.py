"""The map of the machine lights one part, and every part leads to its chapter."""

from types import SimpleNamespace

import pytest
from bs4 import BeautifulSoup, Tag

from literate.pieces import modules
from paths import REPOSITORY
from theme import diagram

Box = tuple[int, int, int, int]


def drawn(lit: str) -> Tag:
    """Draw the picture as on a page of the book."""
    builder = SimpleNamespace(get_relative_uri=lambda here, there: f"../{there}.html")
    env = SimpleNamespace(app=SimpleNamespace(builder=builder), docname="book/x")
    directive = diagram.Pipeline.__new__(diagram.Pipeline)
    directive.state = SimpleNamespace(
        document=SimpleNamespace(settings=SimpleNamespace(env=env))
    )
    return BeautifulSoup(directive.figure(lit), "html.parser").figure


@pytest.mark.parametrize("lit", ["", *diagram.PARTS])
def test_one_part_is_lit(lit: str) -> None:
    for drawing in drawn(lit).select("svg"):
        assert len(drawing.select("a")) == len(diagram.PARTS)
        current = [link.get_text() for link in drawing.select("a.lit[aria-current]")]
        assert len(current) == bool(lit)
        assert all(diagram.PARTS[lit].startswith(name) for name in current)
        here = f"Here: {diagram.PARTS[lit]}." if lit else "forward pass."
        assert drawing["aria-label"].endswith(here)


def test_there_is_a_drawing_for_a_wide_and_one_for_a_narrow_screen() -> None:
    assert [svg["class"] for svg in drawn("").select("svg")] == [["wide"], ["tall"]]
    ids = [tag["id"] for tag in drawn("").select("[id]")]
    assert len(ids) == len(set(ids)) == 2


def test_every_part_leads_to_a_chapter() -> None:
    for link in drawn("").select("a"):
        page = link["href"].removeprefix("../").replace(".html", ".md")
        assert (REPOSITORY / page).is_file()


def test_parts_bear_the_names_of_modules() -> None:
    parts_of_modules = {"mlp", "logits"}
    assert set(diagram.PARTS) - parts_of_modules <= set(modules())


def test_boxes_lie_in_the_picture_and_do_not_cross() -> None:
    def inside(a: Box, b: Box) -> bool:
        return b[0] <= a[0] and a[1] <= b[1] and b[2] <= a[2] and a[3] <= b[3]

    def apart(a: Box, b: Box) -> bool:
        beside = a[1] <= b[0] or b[1] <= a[0]
        return beside or a[3] <= b[2] or b[3] <= a[2]

    for drawing in drawn("").select("svg"):
        _, _, width, height = map(int, drawing["viewbox"].split())
        boxes = [edges(rect) for rect in drawing.select("a rect")]
        for i, a in enumerate(boxes):
            assert inside(a, (0, width, 0, height))
            assert all(apart(a, b) or inside(a, b) or inside(b, a) for b in boxes[:i])


def edges(rect: Tag) -> Box:
    """Return a rectangle's edges: left, right, top, bottom."""
    x, y, width, height = (int(rect[name]) for name in ("x", "y", "width", "height"))
    return x, x + width, y, y + height
