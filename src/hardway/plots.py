"""Draw the book's figures, and record the numbers that its prose quotes.

Each function takes plain sequences or tensors and returns a matplotlib figure, which a
notebook shows. Color never carries meaning alone: cells, bars and lines are labeled,
and the palettes (cividis, PuOr, and four of Okabe and Ito's hues, set apart in
lightness) stay distinct in grayscale. The site replaces ``INK``, ``PAPER``, ``MUTED``,
``PALE`` and ``COLORS`` by those of its theme: draw nothing else in these colors.
"""

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import accumulate, chain
from typing import Any

try:
    import matplotlib.pyplot as plt
except ImportError as error:
    raise ImportError(
        "figures need matplotlib: pip install 'hardway[plots]'"
    ) from error
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.text import Text
from torch import Tensor, arange, linspace

COLORS = (
    "#0072B2",
    "#E0691A",
    "#005A43",
    "#54195A",
)  # blue, orange, green, purple
MARKERS = ("o", "s", "^", "D")
HATCHES = ("", "//", "--", "xx")
LINES = ("-", "--", "-.", ":")
PALE = "#DCE9F2"  # of a box
INK = "#222222"
MUTED = "#6E6E6E"
PAPER = "#FEFEFE"
MASKED = "×"  # the sign of a cell that must not be attended to
WIDTH = 7.6  # inches: the width of the text column
NARROW = 4.5  # still legible where a phone shrinks it
STYLE: dict[Any, Any] = {
    "figure.dpi": 120,
    "figure.facecolor": PAPER,
    "axes.facecolor": "none",
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "savefig.bbox": "tight",
    "savefig.pad_inches": 0.08,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "hardway",  # the same ids each time
    "image.composite_image": False,  # a cell is a pixel, however large it is drawn
    "font.size": 11,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 4,
    "legend.frameon": False,
    "text.parse_math": False,  # a token may hold a dollar sign
}
CHARACTER = 6.5  # points; column labels that take more than there is are rotated
FEW = 8  # columns, of a narrow figure
LINE = 0.24  # inches, of a journey
SATURATED = 3
ABOVE: dict[str, Any] = {  # a legend that no mark can strike through
    "loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.3
}  # fmt: skip
LEADER: dict[str, Any] = {
    "arrowstyle": "-", "color": MUTED, "linewidth": 0.6, "shrinkA": 2
}  # fmt: skip
BOX: dict[str, Any] = {
    "boxstyle": "round,pad=0.2", "facecolor": PALE, "edgecolor": MUTED, "linewidth": 0.8
}  # fmt: skip
COLOR_STEPS = 64
ANNOTATE_UP_TO = 120  # cells; a larger heat map shows colors only

Numbers = Tensor | Sequence[float]


class _Drawing(Figure):
    """A figure that a notebook shows as SVG, the same bytes each time."""

    def _repr_svg_(self) -> str:
        drawn = io.StringIO()
        with plt.rc_context(STYLE):
            self.savefig(drawn, format="svg", metadata={"Date": None})
        return drawn.getvalue()


def glue(name: str, value: object) -> None:
    """Record a value under a name, for ``{glue:text}`` to quote in the page's prose.

    Unprintable characters in a string are escaped. Outside a build of the book (in
    JupyterLab, say) this does nothing.
    """
    try:
        from myst_nb import glue as record
    except ImportError:
        return
    if isinstance(value, str):
        value = "".join(c if c.isprintable() else _spelled(c) for c in value)
    record(name, value, display=False)


def heatmap(
    matrix: Tensor,
    rows: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    *,
    row_title: str = "",
    column_title: str = "",
    value_title: str = "",
    diverging: bool = False,
    digits: int = 2,
) -> Figure:
    """Draw a heat map of a matrix [R, C], with the values in its cells if they fit.

    ``diverging`` centers the color map on 0, for values that can be negative.
    """
    n_rows = len(matrix)
    labeled = rows is not None or n_rows <= 40
    height = min(9.0, 1.0 + n_rows * (0.32 if labeled else 0.05))
    width = NARROW if matrix.shape[1] <= FEW else WIDTH
    with _canvas(height=max(1.6, height), width=width) as (figure, axes):
        limit = _limit(matrix)
        image = _cells(
            axes, matrix, -limit if diverging else None, limit if diverging else None
        )
        _name_cells(axes, rows, columns)
        axes.set(xlabel=column_title, ylabel=row_title)
        if matrix.numel() <= ANNOTATE_UP_TO:
            _write_values(axes, image, matrix, digits)
        _color_bar(figure, image, axes, value_title)
    return figure


def heatmaps(
    matrices: Mapping[str, Tensor],
    rows: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    *,
    per_line: int = 4,
    row_title: str = "",
    column_title: str = "",
    diverging: bool = False,
    value_title: str = "",
) -> Figure:
    """Draw heat maps of equally shaped matrices on one color scale, each with a title.

    ``diverging`` centers the color map on 0; without it the map starts there. Small
    matrices have their values in the cells. A cell of minus infinity has no color, and
    the sign of a masked one; a cell of NaN is blank.
    """
    n_lines = -(-len(matrices) // per_line)
    highest = max(map(_limit, matrices.values()))
    lowest = -highest if diverging else 0.0
    few = per_line * next(iter(matrices.values())).shape[1] <= FEW
    width = NARROW if few else WIDTH
    height = n_lines * width / per_line + 0.8
    with _canvas(n_lines, per_line, height=height, width=width) as (figure, _):
        grid = figure.axes
        for axes in grid[len(matrices) :]:
            axes.set_axis_off()
        for i, (name, matrix) in enumerate(matrices.items()):
            axes = grid[i]
            image = _cells(axes, matrix, lowest, highest)
            axes.set_title(name)
            if matrix.numel() <= ANNOTATE_UP_TO // len(matrices):
                _write_values(axes, image, matrix, digits=2)
            first, bottom = i % per_line == 0, i + per_line >= len(matrices)
            _name_cells(axes, rows, columns)
            axes.tick_params(labelleft=first, labelbottom=bottom)
            axes.set_xlabel(column_title if bottom else "")
            axes.set_ylabel(row_title if first else "")
        _color_bar(figure, image, grid, value_title)
    return figure


def bars(
    labels: Sequence[str],
    values: Numbers,
    *,
    value_title: str = "",
    digits: int = 3,
    cuts: Mapping[str, int] | None = None,
) -> Figure:
    """Draw horizontal bars, one per label, annotated with their values, first on top.

    ``cuts`` maps the name of each dividing line to the number of bars above it.
    """
    numbers = _list(values)
    height = 0.8 + 0.3 * len(labels)
    with _canvas(height=height, width=NARROW) as (figure, axes):
        drawn = axes.barh(range(len(labels)), numbers, color=COLORS[0])
        axes.bar_label(drawn, labels=[f"{n:,.{digits}f}" for n in numbers], padding=3)
        _name_cells(axes, labels, None, "medium")
        axes.invert_yaxis()
        axes.margins(x=0.2, y=0.02)
        axes.set(xlabel=value_title)
        axes.tick_params(bottom=False, labelbottom=False)  # each bar has its number
        axes.spines["bottom"].set_visible(False)
        right = axes.get_xlim()[1]
        for i, (name, above) in enumerate((cuts or {}).items(), start=1):
            axes.axhline(above - 0.5, color=COLORS[i % 4], linestyle=LINES[i % 4])
            axes.text(right, above - 0.65, name, ha="right", va="bottom")
    return figure


def lines(
    series: Mapping[str, tuple[Numbers, Numbers]],
    *,
    x_title: str = "",
    y_title: str = "",
    log_y: bool = False,
    from_zero: bool = False,
    downwards: bool = False,
) -> Figure:
    """Plot series of x and y values, distinct in color, line style and marker.

    ``downwards`` inverts the y axis, so that rank 1 is at the top.
    """
    height = 3.0 + 0.22 * len(series)
    with _canvas(height=height, width=NARROW) as (figure, axes):
        for i, (name, (x, y)) in enumerate(series.items()):
            xs, ys = _list(x), _list(y)
            axes.plot(
                xs, ys, label=name, color=COLORS[i % 4],
                linestyle=LINES[i % 4] if len(xs) > 1 else "",
                marker=MARKERS[i % 4] if len(xs) <= 40 else None,
            )  # fmt: skip
        axes.set(xlabel=x_title, ylabel=y_title)
        axes.locator_params(axis="x", nbins=6)
        if log_y:
            axes.set_yscale("log")
            axes.yaxis.set_minor_formatter(ticker.LogFormatter())
        if from_zero:
            axes.set_ylim(bottom=0)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(ticker.StrMethodFormatter("{x:,.10g}"))
        if downwards:
            axes.invert_yaxis()
        if len(series) > 1:
            axes.legend(**ABOVE)
    return figure


def grid_of_words(
    words: Sequence[Sequence[str]],
    shades: Tensor,
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    row_title: str = "",
    column_title: str = "",
    value_title: str = "",
) -> Figure:
    """Draw a table of words in cells colored by ``shades`` [R, C], from 0 to 1.

    Without a ``value_title`` there is no color bar.
    """
    with _canvas(height=1.0 + 0.36 * len(rows)) as (figure, axes):
        size = _small(axes) if len(columns) > 7 else "medium"
        image = _cells(axes, shades, 0.0, 1.0)
        for r, line in enumerate(words):
            for c, word in enumerate(line):
                axes.text(
                    c, r, word, ha="center", va="center", size=size, clip_on=True,
                    color=_ink(image, float(shades[r, c])),
                )  # fmt: skip
        _name_cells(axes, rows, columns)
        axes.set(xlabel=column_title, ylabel=row_title)
        if value_title:
            _color_bar(figure, image, axes, value_title)
    return figure


def boxes(
    rows: Mapping[str, Sequence[tuple[str, float]]],
    *,
    x_title: str = "",
    mark: float | None = None,
) -> Figure:
    """Draw rows of adjacent boxes, given as (label, width), the first row on top.

    A box without a label is a gap. ``mark`` marks that x in all rows, and fills the
    boxes that contain it.
    """
    with _canvas(height=0.7 + 0.34 * len(rows)) as (figure, axes):
        for y, row in enumerate(rows.values()):
            left = 0.0
            for name, size in row:
                hit = mark is not None and left <= mark < left + size
                if name:
                    _box(axes, y, left, size, name, COLORS[0] if hit else PALE)
                left += size
        _name_cells(axes, list(rows), None, "medium")
        axes.tick_params(left=False)
        axes.spines["left"].set_visible(False)
        axes.invert_yaxis()
        axes.margins(x=0.01)
        axes.set(xlabel=x_title)
        if mark is not None:
            for y in range(len(rows)):  # past the names in the boxes
                for edge in (y - 0.5, y + 0.26):
                    axes.plot([mark, mark], [edge, edge + 0.24], color=COLORS[1])
            axes.text(mark, -0.5, f"{mark:g}", ha="center", va="bottom")
    return figure


def _box(axes: Axes, y: int, left: float, size: float, name: str, color: str) -> None:
    """Draw one box with its label, clipped to the axes."""
    axes.barh(
        y, size, left=left, height=0.8, color=color, edgecolor=MUTED, linewidth=0.8
    )
    axes.text(
        left + size / 2, y, name, ha="center", va="center", clip_on=True,
        size=_small(axes), color=_ink_on(color),
    )  # fmt: skip


def tree(rows: Mapping[str, Sequence[str]], *, row_title: str = "") -> Figure:
    """Draw the merge tree: each row merges some adjacent pieces of the one before.

    The first row, the leaves, is at the bottom. A piece is drawn in the row where it
    first appears, centered above its characters, with an edge to each of its parts.
    """
    with _canvas(height=0.6 + 0.4 * len(rows)) as (figure, axes):
        born: dict[tuple[int, int], int] = {}
        for y, pieces in enumerate(rows.values()):
            ends = list(accumulate(map(len, pieces)))
            below = list(born)
            for span, piece in zip(
                zip([0, *ends], ends, strict=False), pieces, strict=True
            ):
                if span not in born:
                    born[span] = y
                    parts = _largest_within(span, below)
                    _grow(axes, piece, span, y, {part: born[part] for part in parts})
        _name_cells(axes, list(rows), None)
        axes.set(ylabel=row_title, xlim=(-0.5, ends[-1] + 0.5))
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.tick_params(bottom=False, labelbottom=False, left=False)
        axes.spines[["left", "bottom"]].set_visible(False)
    return figure


def _grow(
    axes: Axes,
    piece: str,
    span: tuple[int, int],
    y: int,
    parts: Mapping[tuple[int, int], int],
) -> None:
    """Draw a node centered above its characters, and an edge to each of its parts."""
    middle = sum(span) / 2
    for part, below in parts.items():
        xs = [sum(part) / 2, middle]
        axes.plot(xs, [below, y], color=MUTED, linewidth=1, zorder=1)
    axes.text(
        middle, y, piece, ha="center", va="center",
        bbox=BOX,
    )  # fmt: skip


def _largest_within(
    span: tuple[int, int], spans: Sequence[tuple[int, int]]
) -> list[tuple[int, int]]:
    """Return the children of ``span``: the latest of the spans that tile it."""
    found: list[tuple[int, int]] = []
    for first, last in reversed(spans):
        inside = span[0] <= first and last <= span[1]
        if inside and not any(a <= first and last <= b for a, b in found):
            found.append((first, last))
    return found


def points(groups: Mapping[str, Sequence[str]], places: Tensor) -> Figure:
    """Draw a labeled scatter plot of ``places`` [n, 2], in the order of the groups.

    Each group has a color and a marker. The labels are in a column on either side, with
    a line to each point.
    """
    middle, names = places[:, 0].median(), [*chain(*groups.values())]
    with _canvas(height=5.0, width=NARROW) as (figure, axes):
        parts = places.split_with_sizes(list(map(len, groups.values())))
        for i, (group, here) in enumerate(zip(groups, parts, strict=True)):
            axes.scatter(
                *here.T.tolist(), color=COLORS[i % 4], marker=MARKERS[i % 4],
                label=group, zorder=2,
            )  # fmt: skip
        for side, chosen in ((-1, places[:, 0] <= middle), (1, places[:, 0] > middle)):
            _name_points(axes, names, places, chosen.nonzero().flatten(), side)
        axes.margins(x=0.05, y=0.05)
        axes.set_axis_off()
        axes.legend(**ABOVE)
    return figure


def _name_points(
    axes: Axes, names: Sequence[str], places: Tensor, chosen: Tensor, side: int
) -> None:
    """Write the names of the chosen points in a column, with a line to each point."""
    lowest, highest = places.aminmax(dim=0)
    spread = highest - lowest
    x = float((highest if side > 0 else lowest)[0] + side * 0.12 * spread[0])
    order = chosen[places[chosen, 1].argsort()]
    steps = 0.065 * float(spread[1]) * arange(len(order))  # a line for each name
    level = places[order, 1] - steps
    upward, downward = level.cummax(0).values, level.flip(0).cummin(0).values.flip(0)
    heights = (upward + downward) / 2 + steps
    for at, height in zip(order.tolist(), heights.tolist(), strict=True):
        axes.annotate(
            names[at], tuple(places[at].tolist()), va="center",
            xytext=(x, height), ha="left" if side > 0 else "right",
            arrowprops=LEADER | {"relpos": (0 if side > 0 else 1, 0.5)},
        )  # fmt: skip


def attention_arcs(
    names: Sequence[str], attn_weights: Numbers, *, value_title: str = ""
) -> Figure:
    """Draw the last token's attention: an arc to each token, as wide as its weight."""
    numbers, last = _list(attn_weights), len(names) - 1
    width = NARROW if len(names) <= FEW else WIDTH
    with _canvas(height=2.4, width=width) as (figure, axes):
        for place, (name, weight) in enumerate(zip(names, numbers, strict=True)):
            middle, radius = (last + place) / 2, max(last - place, 0.6) / 2
            angles = [math.pi * step / 40 for step in range(41)]
            axes.plot(
                [middle + radius * math.cos(angle) for angle in angles],
                [math.sin(angle) * radius**0.5 for angle in angles],
                color=COLORS[0], linewidth=0.4 + 16 * weight, alpha=0.75,
                solid_capstyle="butt", zorder=1,
            )  # fmt: skip
            axes.text(place, -0.12, name, ha="center", va="top")
            axes.text(place, -0.36, f"{weight:.2f}", ha="center", va="top")
        axes.set_xlim(-0.6, last + 0.6)
        axes.set_ylim(-0.65, (last / 2) ** 0.5 + 0.15)
        axes.set_axis_off()
        axes.set_title(value_title, loc="left")
    return figure


def arrows(vectors: Mapping[str, Numbers], *, title: str = "") -> Figure:
    """Draw two-dimensional vectors as labeled arrows from the origin, to scale."""
    with _canvas(height=3.4, width=NARROW) as (figure, axes):
        for i, (name, vector) in enumerate(vectors.items()):
            x, y = _list(vector)
            axes.annotate(
                "", (x, y), (0, 0), zorder=2,
                arrowprops={"arrowstyle": "-|>", "color": COLORS[i % 4], "lw": 1.8,
                            "shrinkA": 0, "shrinkB": 0},
            )  # fmt: skip
            ends_here = x * y >= 0  # or a longer arrow could strike the name through
            axes.annotate(
                name, (x, y), (-5 if ends_here else 5, 5), textcoords="offset points",
                ha="right" if ends_here else "left",
                bbox={"color": PAPER, "pad": 0},  # over the axes' lines
            )  # fmt: skip
            axes.plot(x, y, alpha=0)  # so that the axes reach the tip
        axes.axhline(0, color=MUTED, linewidth=0.6)
        axes.axvline(0, color=MUTED, linewidth=0.6)
        axes.set_aspect("equal", adjustable="datalim")
        axes.margins(x=0.35, y=0.15)
        axes.set_axis_off()
        axes.set_title(title, loc="left")
    return figure


def grouped_bars(
    labels: Sequence[str], series: Mapping[str, Numbers], *, value_title: str = ""
) -> Figure:
    """Draw grouped vertical bars: one group per label, one bar per series."""
    width = 0.8 / len(series)
    height = 3.2 + 0.22 * len(series)
    with _canvas(height=height, width=NARROW) as (figure, axes):
        for i, (name, values) in enumerate(series.items()):
            middle = (i - (len(series) - 1) / 2) * width
            heights = dict(zip(range(len(labels)), _list(values), strict=True))
            axes.bar(
                [at + middle for at in heights], list(heights.values()), width,
                color=COLORS[i % 4], label=name, edgecolor=PAPER, linewidth=0.5,
                hatch=HATCHES[i % 4],
            )  # fmt: skip
        _name_cells(axes, None, labels)
        axes.tick_params("y", left=True, labelleft=True)  # its values have numbers
        axes.set(ylabel=value_title)
        axes.legend(**ABOVE)
    return figure


def masks(
    matrices: Mapping[str, Tensor],
    rows: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    *,
    row_title: str = "",
    column_title: str = "",
) -> Figure:
    """Draw boolean matrices side by side: filled cells with ✓, empty ones with ×."""
    n_rows, n_columns = next(iter(matrices.values())).shape
    width = NARROW if len(matrices) * n_columns <= 2 * FEW else WIDTH
    side = width / len(matrices) / (n_columns + 1)
    height = 1.0 + side * n_rows
    with _canvas(1, len(matrices), height=height, width=width) as (figure, _):
        for axes, (name, matrix) in zip(figure.axes, matrices.items(), strict=True):
            for r, c in matrix.nonzero().tolist():
                cell = {"left": c - 0.5, "height": 1, "edgecolor": PAPER}
                axes.barh(r, 1, color=COLORS[0], **cell)
                axes.text(c, r, "✓", ha="center", va="center", color=PAPER)
            _cross_out(axes, ~matrix)
            axes.set(xlim=(-0.5, n_columns - 0.5), ylim=(n_rows - 0.5, -0.5))
            axes.set(title=name, xlabel=column_title, aspect="equal")
            axes.spines[:].set_visible(True)
            _name_cells(axes, rows, columns)
        for axes in figure.axes[1:]:
            axes.tick_params(labelleft=False)
        figure.axes[0].set_ylabel(row_title)
    return figure


def shaded_text(
    pieces: Sequence[str], shades: Numbers, *, value_title: str = "", columns: int = 44
) -> Figure:
    """Draw text with each piece on a background colored by its shade, from 0 to 1.

    The font is monospace, ``columns`` characters to a line, with a proportional
    fallback. A piece whose shade is not finite has a white background.
    """
    drawable = list(map(_drawable, pieces))
    places = list(_flowed(drawable, columns))
    n_lines = places[-1][0] + 1
    with _canvas(height=0.5 + 0.3 * n_lines, width=NARROW) as (figure, axes):
        image = _cells(axes, Tensor([_list(shades)]), 0.0, 1.0)
        image.set_visible(False)  # it only gives the pieces their colors
        for piece, shade, (line, column) in zip(
            drawable, _list(shades), places, strict=True
        ):
            known = math.isfinite(shade)
            axes.barh(
                line, len(piece), left=column, height=0.9, edgecolor=PAPER,
                color=image.cmap(image.norm(shade)) if known else PAPER,
            )  # fmt: skip
            axes.text(
                column + len(piece) / 2, line, piece, ha="center", va="center",
                family=["monospace", "sans-serif"], color=_ink(image, shade),
            )  # fmt: skip
        axes.set_xlim(0, columns)
        axes.set_ylim(n_lines - 0.5, -0.5)
        axes.set_axis_off()
        axes.set_aspect("auto")
        _color_bar(figure, image, axes, value_title)
    return figure


def _flowed(pieces: Sequence[str], columns: int) -> Iterator[tuple[int, int]]:
    """Wrap without splitting a piece: yield the line and column of each."""
    line = column = 0
    for piece in pieces:
        if column and column + len(piece) > columns:
            line, column = line + 1, 0
        yield line, column
        column += len(piece)


Stop = str | Tensor | Mapping[str, float]


def journey(stops: Mapping[str, Stop]) -> Figure:
    """Draw a token's way through the model, from the top down.

    A stop is a text in a box, a vector as a strip of colors, or probabilities as bars.
    One whose name begins with ``+`` is added to the strip above, and has its scale.
    Colors saturate at ``SATURATED`` times a strip's median size.
    """
    lines = [len(stop) if isinstance(stop, Mapping) else 1 for stop in stops.values()]
    with _canvas(height=LINE * (sum(lines) + 1), width=NARROW) as (figure, axes):
        y, scale = 0.5, 1.0
        axes.plot([0, 0], [0, sum(lines)], color=MUTED, zorder=0)
        for (name, stop), n_lines in zip(stops.items(), lines, strict=True):
            axes.text(-0.06, y, name, ha="right", va="center")
            if isinstance(stop, str):
                axes.text(0.08, y, stop, va="center", bbox=BOX)
            elif isinstance(stop, Tensor):
                added = name.startswith("+")
                scale = scale if added else SATURATED * float(stop.abs().median())
                _strip(axes, stop / scale, y, 0.24 if added else 0.4)
                axes.plot(0, y, "o", color=PAPER if added else MUTED, markersize=9)
                axes.plot(0, y, "+" if added else "", color=INK, markersize=7)
            else:
                _likely(axes, stop, y)
            y += n_lines
        axes.plot(0, sum(lines), "v", color=MUTED, markersize=6)
        axes.set(xlim=(-0.66, 1), ylim=(sum(lines) + 0.3, 0), aspect="auto")
        axes.set_axis_off()
    return figure


def _strip(axes: Axes, vector: Tensor, y: float, half: float) -> None:
    """Draw a vector as a strip of colors around y, for values from -1 to 1."""
    axes.imshow(
        [vector.tolist()], cmap="PuOr", vmin=-1, vmax=1, interpolation="none",
        extent=(0.06, 1, y + half, y - half),
    )  # fmt: skip


def _likely(axes: Axes, probabilities: Mapping[str, float], y: float) -> None:
    """Draw one bar below the other, the name of each on its left."""
    for line, (name, p) in enumerate(probabilities.items()):
        axes.text(0.36, y + line, name, ha="right", va="center")
        length = 0.4 * p / max(probabilities.values())
        axes.barh(y + line, length, left=0.4, height=0.6, color=COLORS[0])
        axes.text(0.42 + length, y + line, f"{p:.3f}", va="center")


@contextmanager
def _canvas(
    n_rows: int = 1, n_columns: int = 1, *, height: float, width: float = WIDTH
) -> Iterator[tuple[Figure, Axes]]:
    """Open a figure in the book's style; close it, so that a notebook shows it once."""
    with plt.rc_context(STYLE):
        figure, _ = plt.subplots(
            n_rows, n_columns, figsize=(width, height), layout="constrained",
            FigureClass=_Drawing,
        )  # fmt: skip
        try:
            yield figure, figure.axes[0]
            for text in figure.findobj(Text):
                text.set_text(_drawable(text.get_text()))
        finally:
            plt.close(figure)


def _limit(matrix: Tensor) -> float:
    """Return the largest finite absolute value, or 1 if all are 0."""
    return float(matrix.nan_to_num(0.0, 0.0, 0.0).abs().max()) or 1.0


def _cells(
    axes: Axes, matrix: Tensor, lowest: float | None, highest: float | None
) -> Any:
    diverging = lowest is not None and lowest < 0
    _cross_out(axes, matrix == -math.inf)
    axes.spines[:].set_visible(True)
    return axes.imshow(
        matrix.tolist(),
        aspect="auto",
        cmap="PuOr" if diverging else "cividis",
        vmin=lowest,
        vmax=highest,
        interpolation="none",
    )


def _color_bar(figure: Figure, image: Any, axes: Any, title: str) -> None:
    """Draw the scale of colors in a few steps beside the axes."""
    thin = 8 * figure.get_figheight()  # in proportion to its height
    bar: Any = figure.colorbar(
        image, ax=axes, label=title, fraction=0.035, pad=0.02, aspect=thin
    )
    lowest, highest = image.get_clim()
    bar.solids.remove()
    steps = linspace(lowest, highest, COLOR_STEPS)[:, None]
    bar.ax.imshow(
        steps.tolist(), cmap=image.cmap, vmin=lowest, vmax=highest, aspect="auto",
        extent=(0, 1, lowest, highest), origin="lower", interpolation="none",
    )  # fmt: skip


def _write_values(axes: Axes, image: Any, matrix: Tensor, digits: int) -> None:
    """Write the number into each cell; one that is not finite has its sign or none."""
    for r, row in enumerate(matrix.tolist()):
        for c, value in enumerate(row):
            if math.isfinite(value):
                axes.text(
                    c, r, f"{value:.{digits}f}", ha="center", va="center",
                    size=_small(axes), color=_ink(image, value),
                )  # fmt: skip


def _cross_out(axes: Axes, hidden: Tensor) -> None:
    """Put the sign of a masked cell into each cell that is hidden."""
    for r, c in hidden.nonzero().tolist():
        axes.text(
            c, r, MASKED, ha="center", va="center", size=_small(axes), color=MUTED
        )


def _ink(image: Any, value: float) -> str:
    """Choose a cell's text color; a value that is not finite has a cell without one."""
    return _ink_on(image.cmap(image.norm(value))) if math.isfinite(value) else INK


def _ink_on(color: Any) -> str:
    """Choose a text color that contrasts with the background, in any theme."""
    if color in COLORS or color == PALE:
        return PAPER if color in COLORS else INK
    red, green, blue = to_rgb(color)
    luminance = 0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2
    return "white" if luminance < 0.18 else "black"


def _small(axes: Axes) -> str:
    """Choose the size of small labels: there are none in a narrow figure."""
    return "medium" if axes.figure.bbox.width <= NARROW * axes.figure.dpi else "small"


def _name_cells(
    axes: Axes,
    rows: Sequence[str] | None,
    columns: Sequence[str] | None,
    size: str = "",
) -> None:
    size = size or _small(axes)
    axes.tick_params("y", left=rows is not None, labelleft=rows is not None)
    if rows is not None:
        axes.set_yticks(range(len(rows)), map(_drawable, rows), size=size)
    if columns is not None:
        axes.set_xticks(range(len(columns)), map(_drawable, columns), size=size)
        widest = max(map(len, columns), default=0)
        room = 72 * axes.bbox.width / axes.figure.dpi / CHARACTER
        if widest > 3 and widest * len(columns) > room:
            axes.tick_params("x", rotation=60)
            plt.setp(axes.get_xticklabels(), ha="right", rotation_mode="anchor")


def _drawable(text: str) -> str:
    """Escape unprintable characters, and those that the font lacks."""
    known = _visible()
    return "".join(c if c in known else _spelled(c) for c in text)


def _spelled(character: str) -> str:
    return character.encode("unicode_escape").decode()


@cache
def _visible() -> frozenset[str]:
    characters = map(chr, get_font(findfont(FontProperties())).get_charmap())
    return frozenset(filter(str.isprintable, characters)) | {"\n"}


def _list(values: Numbers) -> list[float]:
    return [float(value) for value in values]
