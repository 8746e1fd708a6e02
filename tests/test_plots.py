"""Figures show what they are given."""

import pytest

from hardway import plots


def test_boxes_are_as_wide_as_their_sizes_and_nameless_ones_are_gaps() -> None:
    figure = plots.boxes(
        {"file": [("length", 8), ("data", 20)], "data": [("", 8), ("a", 20)]},
        x_title="byte",
    )
    (axes,) = figure.axes
    drawn = [(box.get_x(), box.get_width(), box.get_y()) for box in axes.patches]
    assert drawn == [
        pytest.approx(box) for box in [(0, 8, -0.4), (8, 20, -0.4), (8, 20, 0.6)]
    ]
    assert [text.get_text() for text in axes.texts] == ["length", "data", "a"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["file", "data"]
    assert axes.yaxis_inverted()
    assert axes.get_xlabel() == "byte"
