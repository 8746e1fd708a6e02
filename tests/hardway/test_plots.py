"""The figures: what they say, and that any token can stand in them."""

import io
import itertools
import math
import sys
from collections.abc import Callable, Iterator

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb, to_rgba
from matplotlib.figure import Figure
from matplotlib.path import Path
from matplotlib.text import Text

from hardway import plots

TWO = torch.tensor([[0.25, -1.5], [0.0, 2.0]])
SHARES = TWO.clamp(0, 1)


@pytest.fixture(autouse=True)
def no_window() -> Iterator[None]:
    """Draw in memory, and look afterwards that no figure was left open."""
    mpl.use("agg")
    style = dict(mpl.rcParams)
    yield
    assert plt.get_fignums() == []
    assert dict(mpl.rcParams) == style


def drawn(figure: Figure) -> Figure:
    figure.savefig(io.BytesIO(), dpi=30)
    return figure


def texts(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def ticks(axes: Axes, which: str) -> list[str]:
    axis = {"x": axes.xaxis, "y": axes.yaxis}[which]
    return [label.get_text() for label in axis.get_ticklabels()]


def titles(axes: Axes) -> tuple[str, str, str]:
    return axes.get_title(), axes.get_xlabel(), axes.get_ylabel()


def legend(axes: Axes) -> list[str] | None:
    shown = axes.get_legend()
    return shown and [text.get_text() for text in shown.get_texts()]


def luminance(color: object) -> float:
    """From 0, black, to 1, white, as the web defines it."""
    channels = [
        c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4
        for c in to_rgb(color)
    ]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), channels, strict=True))


def lightness(color: object) -> float:
    """From 0 to 100, in steps that look alike (L* of CIELAB)."""
    return 116 * luminance(color) ** (1 / 3) - 16


def contrast(one: object, other: object) -> float:
    darker, lighter = sorted([luminance(one), luminance(other)])
    return (lighter + 0.05) / (darker + 0.05)


def test_heatmap() -> None:
    figure = plots.heatmap(
        TWO, ["r0", "r1"], ["c0", "c1"],
        row_title="rows", column_title="columns", value_title="values", digits=1,
    )  # fmt: skip
    axes, bar = drawn(figure).axes
    assert axes.images[0].get_array().tolist() == TWO.tolist()
    assert texts(axes) == ["0.2", "-1.5", "0.0", "2.0"]
    assert (ticks(axes, "y"), ticks(axes, "x")) == (["r0", "r1"], ["c0", "c1"])
    assert titles(axes) == ("", "columns", "rows")
    assert bar.get_ylabel() == "values"
    assert axes.images[0].get_cmap().name == "cividis"
    assert axes.images[0].get_clim() == (-1.5, 2.0)


def test_heatmap_diverging() -> None:
    (image,) = drawn(plots.heatmap(TWO, diverging=True)).axes[0].images
    assert image.get_cmap().name == "PuOr"
    assert image.get_clim() == (-2.0, 2.0)


@pytest.mark.parametrize("diverging", [True, False])
def test_heatmap_numbers_can_be_read(diverging: bool) -> None:
    """White on dark and black on light: at least 4.5 to 1, as the web asks for."""
    matrix = torch.linspace(-1, 1, 41)[:, None]
    axes = drawn(plots.heatmap(matrix, diverging=diverging)).axes[0]
    (image,) = axes.images
    for text, value in zip(axes.texts, matrix.flatten().tolist(), strict=True):
        assert contrast(text.get_color(), image.cmap(image.norm(value))) >= 4.5, value


def test_colors_can_be_told_apart_in_grayscale() -> None:
    """Lines on white ask for 3 to 1, and two neighbors for a difference one sees."""
    for color, following in itertools.pairwise([*plots.COLORS, plots.COLORS[0]]):
        assert contrast(color, "white") >= 3, color
        assert abs(lightness(color) - lightness(following)) >= 10, (color, following)


def test_more_is_lighter_in_grayscale() -> None:
    """And of the diverging colors, what is nearer to zero."""
    cividis, pu_or = (mpl.colormaps[name] for name in ("cividis", "PuOr"))
    shades = [lightness(cividis(i)) for i in range(256)]
    assert shades == sorted(shades)
    shades = [lightness(pu_or(i)) for i in range(256)]
    assert shades[:128] == sorted(shades[:128])
    assert shades[128:] == sorted(shades[128:], reverse=True)


@pytest.mark.parametrize("diverging", [True, False])
def test_heatmap_of_what_is_not_finite(diverging: bool) -> None:
    """A causal mask's minus infinity has the sign of a masked cell, NaN has nothing."""
    scores = torch.tensor([[0.5, -torch.inf], [torch.nan, -1.0]])
    axes = drawn(plots.heatmap(scores, diverging=diverging)).axes[0]
    assert texts(axes) == [plots.MASKED, "0.50", "-1.00"]
    assert axes.texts[0].get_position() == (1, 0)
    assert axes.texts[0].get_color() == plots.MUTED
    lowest, highest = axes.images[0].get_clim()
    assert (lowest, highest) == (-1.0, 1.0 if diverging else 0.5)


@pytest.mark.parametrize("diverging", [True, False])
def test_heatmap_of_zeros(diverging: bool) -> None:
    assert texts(drawn(plots.heatmap(torch.zeros(1, 2), diverging=diverging)).axes[0])


def test_a_large_heatmap_has_no_numbers() -> None:
    assert plots.ANNOTATE_UP_TO == 120
    assert len(texts(drawn(plots.heatmap(torch.rand(12, 10))).axes[0])) == 120
    assert texts(drawn(plots.heatmap(torch.rand(11, 11))).axes[0]) == []
    assert drawn(plots.heatmap(torch.rand(900, 2))).get_figheight() == 9.0


def test_heatmaps() -> None:
    matrices = {f"head {i}": TWO * i for i in range(5)}
    figure = plots.heatmaps(
        matrices, ["r0", "r1"], ["c0", "c1"],
        per_line=3, row_title="rows", column_title="columns",
    )  # fmt: skip
    *grid, _ = drawn(figure).axes
    found = [titles(axes) for axes in grid]
    assert found == [
        ("head 0", "", "rows"),
        ("head 1", "", ""),
        ("head 2", "columns", ""),
        ("head 3", "columns", "rows"),
        ("head 4", "columns", ""),
        ("", "", ""),
    ]
    assert [axes.axison for axes in grid] == [True] * 5 + [False]
    for axes, matrix in zip(grid, matrices.values(), strict=False):
        assert axes.images[0].get_array().tolist() == matrix.tolist()
        assert axes.images[0].get_clim() == (0.0, 8.0)


@pytest.mark.parametrize(("count", "per_line"), [(1, 1), (1, 4), (2, 1), (4, 2)])
def test_heatmaps_in_any_number(count: int, per_line: int) -> None:
    matrices = {str(i): TWO for i in range(count)}
    figure = drawn(plots.heatmaps(matrices, per_line=per_line, diverging=True))
    images = [image for axes in figure.axes[:count] for image in axes.images]
    assert [image.get_clim() for image in images] == [(-2.0, 2.0)] * count
    assert {image.get_cmap().name for image in images} == {"PuOr"}


def test_bars() -> None:
    numbers = torch.tensor([1234.5, -0.25])
    figure = plots.bars(["a", "b"], numbers, value_title="share", digits=2)
    (axes,) = drawn(figure).axes
    assert [bar.get_width() for bar in axes.patches] == [1234.5, -0.25]
    assert texts(axes) == ["1,234.50", "-0.25"]
    assert ticks(axes, "y") == ["a", "b"]
    assert axes.yaxis_inverted()
    assert titles(axes) == ("", "share", "")


def test_lines() -> None:
    few, many = [1, 10, 100], list(range(41))
    series = {"few": (few, torch.tensor([2.0, 1e6, 3.0])), "many": (many, many)}
    figure = plots.lines(series, x_title="tokens", y_title="ms", from_zero=True)
    (axes,) = drawn(figure).axes
    first, second = axes.lines
    assert (list(first.get_xdata()), list(first.get_ydata())) == (few, [2.0, 1e6, 3.0])
    assert (first.get_linestyle(), first.get_marker()) == ("-", "o")
    assert (second.get_linestyle(), second.get_marker()) == ("--", "None")
    assert first.get_color() != second.get_color()
    assert legend(axes) == ["few", "many"]
    assert titles(axes) == ("", "tokens", "ms")
    assert axes.get_ylim()[0] == 0
    assert "1,000,000" in ticks(axes, "y")


def test_a_single_point_has_no_line() -> None:
    [axes] = drawn(plots.lines({"point": ([1], [2])})).axes
    [point] = axes.lines
    assert (point.get_linestyle(), point.get_marker()) == ("None", "o")


@pytest.mark.parametrize("highest", [3.0, 9.0, 2e5])
def test_lines_on_a_logarithmic_axis(highest: float) -> None:
    figure = plots.lines({"one": ([1, 2], [2.0, highest])}, log_y=True)
    (axes,) = drawn(figure).axes
    assert axes.get_yscale() == "log"
    assert legend(axes) is None
    labels = [text.get_text() for text in axes.get_yticklabels(which="both")]
    assert "2" in labels or "10" in labels
    assert not [label for label in labels if set(label) & set("$\\{")]


def test_grid_of_words() -> None:
    figure = plots.grid_of_words(
        [["a", "b"], ["c", "d"]], SHARES, ["r0", "r1"], ["c0", "c1"],
        row_title="layer", column_title="token", value_title="probability",
    )  # fmt: skip
    axes, bar = drawn(figure).axes
    assert texts(axes) == ["a", "b", "c", "d"]
    assert [text.get_color() for text in axes.texts] == ["white"] * 3 + ["black"]
    assert (ticks(axes, "y"), ticks(axes, "x")) == (["r0", "r1"], ["c0", "c1"])
    assert titles(axes) == ("", "token", "layer")
    assert bar.get_ylabel() == "probability"
    assert axes.images[0].get_clim() == (0.0, 1.0)


def test_boxes() -> None:
    rows = {"file": [("header", 8.0), ("", 2.0), ("data", 6.0)], "next": [("x", 1.0)]}
    (axes,) = drawn(plots.boxes(rows, x_title="bytes")).axes
    boxes = [(bar.get_x(), bar.get_width()) for bar in axes.patches]
    assert boxes == [(0.0, 8.0), (10.0, 6.0), (0.0, 1.0)]
    assert texts(axes) == ["header", "data", "x"]
    assert ticks(axes, "y") == ["file", "next"]
    assert axes.yaxis_inverted()
    assert titles(axes) == ("", "bytes", "")


ODD = {
    "$x$": "$x$",
    "$\\frac{$": "$\\frac{$",
    "": "",
    " ": " ",
    "<b>&amp;": "<b>&amp;",
    "a\nb": "a\nb",
    "\t\x00\x1b\r": "\\t\\x00\\x1b\\r",
    "\u202e\ud83d": "\\u202e\\ud83d",
    "日本": "\\u65e5\\u672c",
    "😀🫠": "😀\\U0001fae0",
}
TITLE = "".join(ODD)
SQUARE = torch.rand(len(ODD), len(ODD))


@pytest.mark.slow
@pytest.mark.parametrize(
    "draw",
    [
        lambda odd: plots.heatmap(SQUARE, odd, odd, value_title=TITLE),
        lambda odd: plots.heatmaps(dict.fromkeys(odd, SQUARE), odd, odd),
        lambda odd: plots.bars(odd, SQUARE[0], value_title=TITLE),
        lambda odd: plots.lines(dict.fromkeys(odd, ([1], [2])), y_title=TITLE),
        lambda odd: plots.grid_of_words([odd] * len(odd), SQUARE, odd, odd),
        lambda odd: plots.boxes({o: [(o, 1.0)] for o in odd}, x_title=TITLE),
        lambda odd: plots.grouped_bars(odd, {TITLE: SQUARE[0]}),
        lambda odd: plots.masks(dict.fromkeys(odd, SQUARE > 0.5), odd, odd),
        lambda odd: plots.shaded_text(odd, SQUARE[0], value_title=TITLE),
    ],
)
def test_any_token_can_be_drawn(draw: Callable[[list[str]], Figure]) -> None:
    shown = [text.get_text() for text in drawn(draw(list(ODD))).findobj(Text)]
    for odd, expected in ODD.items():
        assert any(text.startswith(expected) for text in shown)
        assert odd == expected or not any(odd in text for text in shown)


def test_a_failure_leaves_no_figure_open() -> None:
    with pytest.raises(ValueError, match="shape"):
        plots.lines({"a": ([1, 2], [1])})


def test_glue_records(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded: list[tuple[object, ...]] = []
    monkeypatch.setattr("myst_nb.ext.glue.glue", lambda *call: recorded.append(call))
    plots.glue("n_tokens", 5)
    plots.glue("said", "é<b> \x1b[2J\u202e中\n")
    assert recorded == [
        ("n_tokens", 5, False),
        ("said", r"é<b> \x1b[2J\u202e中\n", False),
    ]


def test_glue_outside_the_book(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "myst_nb", None)
    plots.glue("n_tokens", 5)
    assert capsys.readouterr() == ("", "")


def test_boxes_mark_a_place_in_every_row() -> None:
    rows = {"one": [("a", 1.0), ("b", 1.0)], "two": [("c", 0.5), ("d", 1.5)]}
    [axes] = drawn(plots.boxes(rows, mark=1.0)).axes
    marked = {text.get_text() for text in axes.texts if text.get_color() == plots.PAPER}
    assert marked == {"b", "d"}  # a border belongs to the part on its right
    ends = [line.get_ydata() for line in axes.lines]
    names = [text.get_position()[1] for text in axes.texts if text.get_text() != "1"]
    assert not any(low <= name <= high for low, high in ends for name in names)
    assert "1" in texts(axes)
    [plain] = drawn(plots.boxes(rows)).axes
    assert all(text.get_color() == plots.INK for text in plain.texts)


def test_a_tree_joins_each_piece_to_its_parts() -> None:
    rows = {"bytes": list("abab"), "rank 0": ["ab", "ab"], "rank 7": ["abab"]}
    [axes] = drawn(plots.tree(rows, row_title="rank")).axes
    assert texts(axes) == [*"abab", "ab", "ab", "abab"]
    assert [text.get_position()[0] for text in axes.texts] == [
        0.5, 1.5, 2.5, 3.5, 1.0, 3.0, 2.0,
    ]  # fmt: skip
    assert [text.get_position()[1] for text in axes.texts] == [0] * 4 + [1] * 2 + [2]
    branches = [tuple(map(tuple, line.get_xydata().tolist())) for line in axes.lines]
    assert sorted(branches) == [
        ((0.5, 0.0), (1.0, 1.0)), ((1.0, 1.0), (2.0, 2.0)), ((1.5, 0.0), (1.0, 1.0)),
        ((2.5, 0.0), (3.0, 1.0)), ((3.0, 1.0), (2.0, 2.0)), ((3.5, 0.0), (3.0, 1.0)),
    ]  # fmt: skip
    assert ticks(axes, "y") == list(rows)


def test_a_tree_grows_past_pieces_that_wait() -> None:
    """A piece that is joined late hangs on a long branch, from where it was born."""
    rows = {"0": ["a", "b", "c"], "1": ["a", "bc"], "2": ["abc"]}
    [axes] = drawn(plots.tree(rows)).axes
    assert texts(axes) == ["a", "b", "c", "bc", "abc"]
    ends = {tuple(line.get_xydata()[0].tolist()) for line in axes.lines[-2:]}
    assert ends == {(0.5, 0.0), (2.0, 1.0)}


def test_points_have_names_beside_their_group() -> None:
    places = torch.tensor([[0.0, 0.0], [0.1, 0.2], [3.0, 1.0]])
    groups = {"near": ["a", "b"], "far": ["c"]}
    [axes] = drawn(plots.points(groups, places)).axes
    assert legend(axes) == ["near", "far"]
    names = {text.get_text(): text for text in axes.texts}
    assert {name: text.xy for name, text in names.items()} == {
        name: tuple(place) for name, place in zip("abc", places.tolist(), strict=True)
    }
    heights = {name: text.get_position()[1] for name, text in names.items()}
    assert heights["b"] > heights["a"]  # the higher point has the higher name
    offsets = [group.get_offsets().tolist() for group in axes.collections]
    assert offsets == [places[:2].tolist(), places[2:].tolist()]


def test_an_arc_is_as_wide_as_its_attention_weight() -> None:
    weights = [0.1, 0.6, 0.3]
    figure = plots.attention_arcs(["a", "b", "c"], weights, value_title="weights")
    [axes] = drawn(figure).axes
    assert texts(axes) == ["a", "0.10", "b", "0.60", "c", "0.30"]
    widths = [line.get_linewidth() for line in axes.lines]
    assert sorted(widths) == [widths[i] for i in (0, 2, 1)]
    starts = [line.get_xdata()[0] for line in axes.lines]
    ends = [line.get_xdata()[-1] for line in axes.lines]
    assert starts == pytest.approx([2.0, 2.0, 2.3])  # the last token's own arc, too
    assert ends == pytest.approx([0.0, 1.0, 1.7])
    assert axes.get_title(loc="left") == "weights"


def test_arrows_lead_from_the_origin() -> None:
    vectors = {"right": [2.0, 0.0], "left": torch.tensor([-1.0, 1.0])}
    [axes] = drawn(plots.arrows(vectors, title="two")).axes
    tips = {text.get_text(): text.xy for text in axes.texts if text.get_text()}
    assert tips == {"right": (2.0, 0.0), "left": (-1.0, 1.0)}
    arrows = [text for text in axes.texts if text.arrow_patch]
    assert [arrow.xy for arrow in arrows] == list(tips.values())
    assert {arrow.get_position() for arrow in arrows} == {(0, 0)}
    assert axes.get_title(loc="left") == "two"


@pytest.mark.slow
@pytest.mark.parametrize("degrees", range(0, 360, 5))
def test_no_arrow_strikes_a_name_through(degrees: int) -> None:
    """Not even where it lies on another, and goes on."""
    x, y = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    figure = drawn(plots.arrows({"short": [x, y], "the longer": [2 * x, 2 * y]}))
    [axes] = figure.axes
    line = Path(axes.transData.transform([(0, 0), (2 * x, 2 * y)]))
    for name in (text for text in axes.texts if text.get_text()):
        assert not line.intersects_bbox(name.get_window_extent())


def test_small_heatmaps_have_numbers_and_large_ones_have_not() -> None:
    small = drawn(plots.heatmaps({"a": TWO, "b": -TWO}, value_title="v"))
    assert texts(small.axes[0]) == ["0.25", "-1.50", "0.00", "2.00"]
    assert small.axes[-1].get_ylabel() == "v"
    large = drawn(plots.heatmaps({"a": torch.rand(12, 12), "b": torch.rand(12, 12)}))
    assert texts(large.axes[0]) == []


def test_cuts_go_below_their_bars() -> None:
    figure = plots.bars(list("abc"), [3.0, 2.0, 1.0], cuts={"two": 2, "one": 1})
    [axes] = drawn(figure).axes
    assert [list(line.get_ydata()) for line in axes.lines] == [[1.5, 1.5], [0.5, 0.5]]
    assert texts(axes)[3:] == ["two", "one"]
    first, second = axes.lines
    assert first.get_linestyle() != second.get_linestyle()


@pytest.mark.parametrize("log_y", [True, False])
def test_lines_downwards_have_the_first_rank_at_the_top(log_y: bool) -> None:
    ranks = {"rank": ([0, 1], [300.0, 1.0])}
    [axes] = drawn(plots.lines(ranks, log_y=log_y, downwards=True)).axes
    assert axes.yaxis_inverted()
    assert not drawn(plots.lines(ranks, log_y=log_y)).axes[0].yaxis_inverted()


def test_a_grid_of_words_without_a_value_has_no_scale() -> None:
    [axes] = drawn(plots.grid_of_words([["new"]], torch.ones(1, 1), ["1"], ["0"])).axes
    assert texts(axes) == ["new"]


def test_words_in_many_columns_are_smaller() -> None:
    sizes = {
        columns: drawn(
            plots.grid_of_words(
                [["a"] * columns], torch.ones(1, columns), ["r"], ["c"] * columns
            )
        ).axes[0].texts[0].get_size()
        for columns in (7, 8)
    }  # fmt: skip
    assert sizes[7] > sizes[8]


def test_grouped_bars_stand_side_by_side() -> None:
    series = {"cold": torch.tensor([0.75, 0.25]), "hot": [0.5, 0.5]}
    figure = plots.grouped_bars(["a", "b"], series, value_title="share")
    [axes] = drawn(figure).axes
    bars = [(bar.get_x(), bar.get_height()) for bar in axes.patches]
    assert [height for _, height in bars] == [0.75, 0.25, 0.5, 0.5]
    assert [x for x, _ in bars] == pytest.approx([-0.4, 0.6, 0.0, 1.0])
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([0.4] * 4)
    assert legend(axes) == ["cold", "hot"]
    assert ticks(axes, "x") == ["a", "b"]
    assert titles(axes) == ("", "", "share")
    assert all(tick.label1.get_visible() for tick in axes.yaxis.get_major_ticks())
    styles = {(bar.get_facecolor(), bar.get_hatch()) for bar in axes.patches}
    assert len(styles) == 2


def test_masks_have_ticks_and_crosses_in_square_cells() -> None:
    lower = torch.ones(2, 3, dtype=torch.bool).tril()
    figure = plots.masks(
        {"one": lower, "two": ~lower}, ["r0", "r1"], ["c0", "c1", "c2"],
        row_title="query", column_title="key",
    )  # fmt: skip
    one, two = drawn(figure).axes
    for axes, seen in ((one, lower), (two, ~lower)):
        places = {mark: torch.zeros_like(lower) for mark in ("✓", plots.MASKED)}
        for text in axes.texts:
            c, r = text.get_position()
            places[text.get_text()][r, c] = True
        assert torch.equal(places["✓"], seen)
        assert torch.equal(places[plots.MASKED], ~seen)
    assert (titles(one), titles(two)) == (("one", "key", "query"), ("two", "key", ""))
    assert (ticks(one, "y"), ticks(one, "x")) == (["r0", "r1"], ["c0", "c1", "c2"])
    assert one.get_aspect() == two.get_aspect() == 1.0
    assert contrast(plots.PAPER, plots.COLORS[0]) >= 4.5
    assert contrast(plots.MUTED, plots.PAPER) >= 4.5
    for axes in (one, two):
        assert {tuple(bar.get_facecolor()) for bar in axes.patches} == {
            to_rgba(plots.COLORS[0])
        }


def test_a_shaded_text_flows_in_lines_and_breaks_no_piece() -> None:
    pieces, shades = ["One", " two", " three", "."], [torch.nan, 0.0, 1.0, 0.5]
    figure = plots.shaded_text(pieces, shades, value_title="foreseen", columns=8)
    axes, bar = drawn(figure).axes
    assert texts(axes) == pieces
    grounds = [(bar.get_x(), bar.get_width()) for bar in axes.patches]
    assert grounds == [(0, 3), (3, 4), (0, 6), (6, 1)]
    assert [text.get_position() for text in axes.texts] == [
        (1.5, 0), (5.0, 0), (3.0, 1), (6.5, 1),
    ]  # fmt: skip
    assert axes.patches[0].get_facecolor() == to_rgba(plots.PAPER)  # not known
    for text, ground in zip(axes.texts, axes.patches, strict=True):
        assert contrast(text.get_color(), ground.get_facecolor()) >= 4.5
    assert {text.get_family()[0] for text in axes.texts} == {"monospace"}
    assert bar.get_ylabel() == "foreseen"
    assert axes.get_ylim() == (1.5, -0.5)


@pytest.mark.parametrize(
    ("columns", "turned"), [("king cat it", 0), ("longer " * 12, 60)]
)
def test_names_are_turned_where_they_would_overlap(columns: str, turned: int) -> None:
    names = columns.split()
    [axes, _] = drawn(plots.heatmap(torch.ones(1, len(names)), ["a"], names)).axes
    assert {label.get_rotation() for label in axes.get_xticklabels()} == {turned}


def test_names_and_numbers_that_do_not_belong_together_are_refused() -> None:
    places = torch.zeros(2, 2)
    with pytest.raises(RuntimeError, match="split"):
        plots.points({"group": ["a", "b", "c"]}, places)
    with pytest.raises(ValueError, match="shorter"):
        plots.attention_arcs(["a", "b"], [1.0])
    with pytest.raises(ValueError, match="shorter"):
        plots.grouped_bars(["a", "b"], {"x": [1.0]})


def test_a_notebook_shows_the_same_svg_each_time() -> None:
    """With text that is text, one pixel for each cell, and no date."""
    first, second = (plots.heatmap(TWO, ["<b>", "r"])._repr_svg_() for _ in range(2))
    assert first == second
    assert ">&lt;b&gt;</text>" in first
    assert 'width="2" height="2"' in first
    assert "dc:date" not in first


def test_names_of_points_do_not_overlap() -> None:
    places = torch.tensor([[0.0, 0.5], [0.1, 0.5], [0.2, 0.51], [3.0, 0.0], [3.0, 1.0]])
    [axes] = drawn(plots.points({"group": list("abcde")}, places)).axes
    left = [text for text in axes.texts if text.get_ha() == "right"]
    assert len(left) == 3
    boxes = [Text.get_window_extent(text) for text in left]  # without its line
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))


def test_a_journey_has_a_stop_below_the_other() -> None:
    stops = {"id": "257", "row": torch.tensor([1.0, -2.0, 4.0]), "+ place": TWO[0],
             "probability": {"a": 0.5, "b": 0.25}, "sampled": "b"}  # fmt: skip
    [axes] = drawn(plots.journey(stops)).axes
    heights = {text.get_text(): text.get_position()[1] for text in axes.texts[::-1]}
    assert sorted(stops, key=heights.__getitem__) == list(stops)
    row, place = axes.images
    typical = 3 * 2.0  # colors saturate at three times the row's median
    shades = torch.tensor(row.get_array().tolist())
    torch.testing.assert_close(shades, stops["row"][None] / typical)
    shades = torch.tensor(place.get_array().tolist())
    torch.testing.assert_close(shades, TWO[:1] / typical)  # on the row's scale
    first, second = axes.patches
    assert first.get_width() == pytest.approx(2 * second.get_width())


def test_heatmaps_have_a_scale_where_a_number_is_missing() -> None:
    holes = torch.tensor([[torch.nan, 1.0], [-2.0, torch.inf]])
    figure = drawn(plots.heatmaps({"a": holes, "b": SHARES}, diverging=True))
    assert {axes.images[0].get_clim() for axes in figure.axes[:2]} == {(-2.0, 2.0)}
