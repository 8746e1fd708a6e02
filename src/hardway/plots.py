"""Draw the book's figures, and record the numbers that its prose quotes.

Each function takes plain sequences or tensors and returns a matplotlib figure, which a
notebook shows. Color never carries meaning alone: cells, bars and lines are labeled,
and the palettes (cividis, PuOr, and four of Okabe and Ito's hues, set apart in
lightness) stay distinct in grayscale.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import accumulate
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
from torch import Tensor

COLORS = (
    "#0072B2",
    "#E0691A",
    "#005A43",
    "#54195A",
)  # blue, orange, green, purple
MARKERS = ("o", "s", "^", "D")
HATCHES = ("", "//", "..", "xx")
LINES = ("-", "--", "-.", ":")
PALE = "#DCE9F2"
WIDTH = 7.2  # inches: the width of the text column
STYLE: dict[Any, Any] = {
    "figure.dpi": 120,
    "figure.facecolor": "white",
    "savefig.bbox": "tight",
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 4,
    "legend.frameon": False,
    "text.parse_math": False,  # a token may hold a dollar sign
}
CHARACTERS = 24  # across all column labels; beyond that, they are rotated
ANNOTATE_UP_TO = 120  # cells; a larger heat map shows colors only

Numbers = Tensor | Sequence[float]


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
    with _canvas(height=max(1.6, height)) as (figure, axes):
        limit = _limit(matrix)
        image = _cells(
            axes, matrix, -limit if diverging else None, limit if diverging else None
        )
        _name_cells(axes, rows, columns)
        axes.set(xlabel=column_title, ylabel=row_title)
        if matrix.numel() <= ANNOTATE_UP_TO:
            _write_values(axes, image, matrix, digits)
        figure.colorbar(image, ax=axes, label=value_title, fraction=0.035, pad=0.02)
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
    matrices have their values in the cells.
    """
    n_lines = -(-len(matrices) // per_line)
    highest = max(map(_limit, matrices.values()))
    lowest = -highest if diverging else 0.0
    side = WIDTH / per_line
    with _canvas(n_lines, per_line, height=n_lines * side + 0.8) as (figure, _):
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
            _name_cells(axes, rows, columns, size=6 if per_line > 2 else 8)
            axes.tick_params(labelleft=first, labelbottom=bottom)
            axes.set_xlabel(column_title if bottom else "")
            axes.set_ylabel(row_title if first else "")
        figure.colorbar(image, ax=grid, label=value_title, fraction=0.02, pad=0.02)
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
    with _canvas(height=0.7 + 0.28 * len(labels)) as (figure, axes):
        drawn = axes.barh(range(len(labels)), numbers, color=COLORS[0])
        axes.bar_label(
            drawn, labels=[f"{n:,.{digits}f}" for n in numbers], padding=3, size=8
        )
        _name_cells(axes, labels, None, size=10)
        axes.invert_yaxis()
        axes.margins(x=0.15)
        axes.locator_params(axis="x", nbins=6)  # labels as long as 0.00025 fit
        axes.set(xlabel=value_title)
        right = axes.get_xlim()[1]
        for i, (name, above) in enumerate((cuts or {}).items(), start=1):
            axes.axhline(above - 0.5, color=COLORS[i % 4], linestyle=LINES[i % 4])
            axes.text(right, above - 0.55, name, ha="right", va="bottom")
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
    with _canvas(height=3.2) as (figure, axes):
        for i, (name, (x, y)) in enumerate(series.items()):
            xs, ys = _list(x), _list(y)
            axes.plot(
                xs, ys, label=name, color=COLORS[i % 4],
                linestyle=LINES[i % 4] if len(xs) > 1 else "",
                marker=MARKERS[i % 4] if len(xs) <= 40 else None,
            )  # fmt: skip
        axes.set(xlabel=x_title, ylabel=y_title)
        if log_y:
            axes.set_yscale("log")
            axes.yaxis.set_minor_formatter(ticker.LogFormatter())
        if from_zero:
            axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(ticker.StrMethodFormatter("{x:,.10g}"))
        if downwards:
            axes.invert_yaxis()
        if len(series) > 1:
            axes.legend()
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
    size = 7 if len(columns) > 7 else 9
    with _canvas(height=1.0 + 0.36 * len(rows)) as (figure, axes):
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
            figure.colorbar(image, ax=axes, label=value_title, fraction=0.035, pad=0.02)
    return figure


def boxes(
    rows: Mapping[str, Sequence[tuple[str, float]]],
    *,
    x_title: str = "",
    mark: float | None = None,
) -> Figure:
    """Draw rows of adjacent boxes, given as (label, width), the first row on top.

    A box without a label is a gap. ``mark`` draws a vertical line at that x through all
    rows, and darkens the boxes that contain it.
    """
    with _canvas(height=0.7 + 0.34 * len(rows)) as (figure, axes):
        for y, row in enumerate(rows.values()):
            left = 0.0
            for name, size in row:
                hit = mark is not None and left <= mark < left + size
                if name:
                    _box(axes, y, left, size, name, COLORS[0] if hit else PALE)
                left += size
        _name_cells(axes, list(rows), None, size=10)
        axes.tick_params(left=False)
        axes.spines["left"].set_visible(False)
        axes.invert_yaxis()
        axes.margins(x=0.01)
        axes.set(xlabel=x_title)
        if mark is not None:
            axes.axvline(mark, color=COLORS[1], linestyle="--")
            axes.text(mark, -0.5, f"{mark:g}", ha="center", va="bottom")
    return figure


def _box(axes: Axes, y: int, left: float, size: float, name: str, color: str) -> None:
    """Draw one box with its label, clipped to the axes."""
    axes.barh(
        y, size, left=left, height=0.8, color=color, edgecolor="black", linewidth=0.8
    )
    axes.text(
        left + size / 2, y, name, ha="center", va="center", size=8, clip_on=True,
        color=_ink_on(color),
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
        _name_cells(axes, list(rows), None, size=9)
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
        axes.plot(xs, [below, y], color="gray", linewidth=1, zorder=1)
    axes.text(
        middle, y, piece, ha="center", va="center", size=9,
        bbox={"boxstyle": "round", "facecolor": PALE, "linewidth": 0.8},
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

    Each group has a color, a marker, and a column of labels, with a line to each point.
    """
    spread = places.amax(dim=0) - places.amin(dim=0)
    with _canvas(height=4.2) as (figure, axes):
        parts = places.split_with_sizes(list(map(len, groups.values())))
        for i, (group, here) in enumerate(zip(groups, parts, strict=True)):
            axes.scatter(
                *here.T.tolist(), color=COLORS[i % 4], marker=MARKERS[i % 4],
                label=group, zorder=2,
            )  # fmt: skip
            column = float(here[:, 0].max() + 0.04 * spread[0])
            top = float(here[:, 1].mean() + 0.022 * spread[1] * (len(here) - 1))
            order = here[:, 1].argsort(descending=True).tolist()
            for line, at in enumerate(order):
                axes.annotate(
                    groups[group][at], tuple(here[at].tolist()), va="center", size=9,
                    xytext=(column, top - 0.044 * spread[1] * line),
                    arrowprops={"arrowstyle": "-", "color": "gray", "linewidth": 0.6},
                )  # fmt: skip
        axes.margins(x=0.12, y=0.08)
        axes.tick_params(labelleft=False, labelbottom=False, left=False, bottom=False)
        axes.legend()
    return figure


def attention_arcs(
    names: Sequence[str], attn_weights: Numbers, *, value_title: str = ""
) -> Figure:
    """Draw the last token's attention: an arc to each token, as wide as its weight."""
    numbers, last = _list(attn_weights), len(names) - 1
    with _canvas(height=2.4) as (figure, axes):
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
            axes.text(place, -0.42, f"{weight:.2f}", ha="center", va="top", size=8)
        axes.set_xlim(-0.6, last + 0.6)
        axes.set_ylim(-0.65, (last / 2) ** 0.5 + 0.15)
        axes.set_axis_off()
        axes.set_title(value_title, loc="left")
    return figure


def arrows(vectors: Mapping[str, Numbers], *, title: str = "") -> Figure:
    """Draw two-dimensional vectors as labeled arrows from the origin."""
    with _canvas(height=3.4) as (figure, axes):
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
                bbox={"color": "white", "pad": 0},  # over the axes' lines
            )  # fmt: skip
            axes.plot(x, y, alpha=0)  # so that the axes reach the tip
        axes.axhline(0, color="gray", linewidth=0.6)
        axes.axvline(0, color="gray", linewidth=0.6)
        axes.set_aspect("equal", adjustable="datalim")
        axes.margins(0.15)
        axes.set_title(title, loc="left")
    return figure


def grouped_bars(
    labels: Sequence[str], series: Mapping[str, Numbers], *, value_title: str = ""
) -> Figure:
    """Draw grouped vertical bars: one group per label, one bar per series."""
    width = 0.8 / len(series)
    with _canvas(height=3.2) as (figure, axes):
        for i, (name, values) in enumerate(series.items()):
            middle = (i - (len(series) - 1) / 2) * width
            heights = dict(zip(range(len(labels)), _list(values), strict=True))
            axes.bar(
                [at + middle for at in heights], list(heights.values()), width,
                color=COLORS[i % 4], label=name, edgecolor="white", linewidth=0.5,
                hatch=HATCHES[i % 4],
            )  # fmt: skip
        _name_cells(axes, None, labels, size=9)
        axes.set(ylabel=value_title)
        axes.legend()
    return figure


def masks(
    matrices: Mapping[str, Tensor],
    rows: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    *,
    row_title: str = "",
    column_title: str = "",
) -> Figure:
    """Draw boolean matrices side by side: bright cells with ✓, dark cells with ✗."""
    n_rows, n_columns = next(iter(matrices.values())).shape
    side = WIDTH / len(matrices) / (n_columns + 1)
    height = 1.0 + side * n_rows
    with _canvas(1, len(matrices), height=height) as (figure, _):
        for axes, (name, matrix) in zip(figure.axes, matrices.items(), strict=True):
            image = _cells(axes, matrix.float(), 0.0, 1.0)
            axes.set_aspect("equal")
            axes.set(title=name, xlabel=column_title)
            _name_cells(axes, rows, columns)
            for r, row in enumerate(matrix.tolist()):
                for c, seen in enumerate(row):
                    axes.text(
                        c, r, "✓" if seen else "✗", ha="center", va="center", size=9,
                        color=_ink(image, float(seen)),
                    )  # fmt: skip
        for axes in figure.axes[1:]:
            axes.tick_params(labelleft=False)
        figure.axes[0].set_ylabel(row_title)
    return figure


def shaded_text(
    pieces: Sequence[str], shades: Numbers, *, value_title: str = "", columns: int = 66
) -> Figure:
    """Draw text with each piece on a background colored by its shade, from 0 to 1.

    The font is monospace, ``columns`` characters to a line, with a proportional
    fallback. A piece whose shade is not finite has a white background.
    """
    drawable = list(map(_drawable, pieces))
    places = list(_flowed(drawable, columns))
    n_lines = places[-1][0] + 1
    with _canvas(height=0.5 + 0.3 * n_lines) as (figure, axes):
        image = _cells(axes, Tensor([_list(shades)]), 0.0, 1.0)
        image.set_visible(False)  # it only gives the pieces their colors
        for piece, shade, (line, column) in zip(
            drawable, _list(shades), places, strict=True
        ):
            known = math.isfinite(shade)
            axes.barh(
                line, len(piece), left=column, height=0.9, edgecolor="white",
                color=image.cmap(image.norm(shade)) if known else "white",
            )  # fmt: skip
            axes.text(
                column + len(piece) / 2, line, piece, ha="center", va="center",
                size=9, family=["monospace", "sans-serif"], color=_ink(image, shade),
            )  # fmt: skip
        axes.set_xlim(0, columns)
        axes.set_ylim(n_lines - 0.5, -0.5)
        axes.set_axis_off()
        axes.set_aspect("auto")
        figure.colorbar(image, ax=axes, label=value_title, fraction=0.035, pad=0.02)
    return figure


def _flowed(pieces: Sequence[str], columns: int) -> Iterator[tuple[int, int]]:
    """Wrap without splitting a piece: yield the line and column of each."""
    line = column = 0
    for piece in pieces:
        if column and column + len(piece) > columns:
            line, column = line + 1, 0
        yield line, column
        column += len(piece)


@contextmanager
def _canvas(
    n_rows: int = 1, n_columns: int = 1, *, height: float
) -> Iterator[tuple[Figure, Axes]]:
    """Open a figure in the book's style; close it, so that a notebook shows it once."""
    with plt.rc_context(STYLE):
        size = (WIDTH, height)
        figure, _ = plt.subplots(n_rows, n_columns, figsize=size, layout="constrained")
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
    return axes.imshow(
        matrix.tolist(),
        aspect="auto",
        cmap="PuOr" if diverging else "cividis",
        vmin=lowest,
        vmax=highest,
        interpolation="nearest",
    )


def _write_values(axes: Axes, image: Any, matrix: Tensor, digits: int) -> None:
    for r, row in enumerate(matrix.tolist()):
        for c, value in enumerate(row):
            axes.text(
                c, r, f"{value:.{digits}f}", ha="center", va="center", size=8,
                color=_ink(image, value),
            )  # fmt: skip


def _ink(image: Any, value: float) -> str:
    """Choose the text color for a cell; a value that is not finite has a white cell."""
    return _ink_on(image.cmap(image.norm(value))) if math.isfinite(value) else "black"


def _ink_on(color: Any) -> str:
    """Choose black or white text, whichever contrasts more with the background."""
    red, green, blue = to_rgb(color)
    luminance = 0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2
    return "white" if luminance < 0.18 else "black"


def _name_cells(
    axes: Axes, rows: Sequence[str] | None, columns: Sequence[str] | None, size: int = 8
) -> None:
    if rows is not None:
        axes.set_yticks(range(len(rows)), map(_drawable, rows), size=size)
    if columns is not None:
        axes.set_xticks(range(len(columns)), map(_drawable, columns), size=size)
        widest = max(map(len, columns), default=0)
        if widest > 3 and widest * len(columns) > CHARACTERS:
            axes.tick_params("x", rotation=60)
            plt.setp(axes.get_xticklabels(), ha="right")


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
