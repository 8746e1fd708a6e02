"""The map of the machine lights one part, and every part leads to its chapter."""

from types import SimpleNamespace

import pytest
from bs4 import BeautifulSoup, Tag

from literate.pieces import REPOSITORY, modules
from theme import diagram


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
    figure = drawn(lit)
    links = figure.select("a")
    current = [link.get_text() for link in figure.select("a.lit[aria-current]")]
    assert len(links) == len(diagram.PARTS)
    assert current == ([diagram.PARTS[lit].label] if lit else [])
    description = figure.svg["aria-label"]
    assert description.endswith(f"Here: {current[0]}." if lit else "forward pass. ")


def test_every_part_leads_to_a_chapter() -> None:
    for link in drawn("").select("a"):
        page = link["href"].removeprefix("../").replace(".html", ".md")
        assert (REPOSITORY / page).is_file()


def test_parts_bear_the_names_of_modules() -> None:
    parts_of_modules = {"mlp", "logits"}
    assert set(diagram.PARTS) - parts_of_modules <= set(modules())


def test_boxes_lie_in_the_picture_and_do_not_cross() -> None:
    def inside(a: diagram.Part, b: diagram.Part) -> bool:
        return (
            b.x <= a.x
            and a.x + a.width <= b.x + b.width
            and b.y <= a.y
            and a.y + a.height <= b.y + b.height
        )

    def apart(a: diagram.Part, b: diagram.Part) -> bool:
        beside = a.x + a.width <= b.x or b.x + b.width <= a.x
        return beside or a.y + a.height <= b.y or b.y + b.height <= a.y

    parts = list(diagram.PARTS.values())
    for i, a in enumerate(parts):
        assert inside(a, diagram.Part(0, 0, 700, 232, "", ""))
        assert all(apart(a, b) or inside(a, b) or inside(b, a) for b in parts[:i])
