"""Every figure of the book, in one visual language, and the numbers its prose quotes.

Each function takes plain sequences or tensors and returns a matplotlib figure, which a
notebook shows. Colour is never the only carrier: cells, bars and lines are labelled,
and the palettes (cividis, PuOr, and four of Okabe and Ito's hues, set apart in
lightness) can be told apart in greyscale.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import matplotlib.pyplot as plt
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.text import Text
from torch import Tensor

COLOURS = (
    "#0072B2",
    "#E0691A",
    "#005A43",
    "#54195A",
)  # blue, orange, green, purple
MARKERS = ("o", "s", "^", "D")
LINES = ("-", "--", "-.", ":")
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
ANNOTATE_UP_TO = 120  # cells; a larger heat map shows colours only

Numbers = Tensor | Sequence[float]


def glue(name: str, value: object) -> None:
    """Record a value of the run, so that the page's prose can quote it.

    The prose says ``{glue:text}`` and the name. Outside a build of the book (in
    JupyterLab, say) this does nothing.
    """
    try:
        from myst_nb import glue as record
    except ImportError:
        return
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
    """Draw a matrix [R, C] as coloured cells, with the numbers in them where they fit.

    ``diverging`` centres the colours on 0, for values that can be negative.
    """
    n_rows = len(matrix)
    labelled = rows is not None or n_rows <= 40
    height = min(9.0, 1.0 + n_rows * (0.32 if labelled else 0.05))
    with _canvas(height=max(1.6, height)) as (figure, axes):
        limit = float(matrix.nan_to_num(0.0, 0.0, 0.0).abs().max()) or 1.0
        image = _cells(
            axes, matrix, -limit if diverging else None, limit if diverging else None
        )
        _name_cells(axes, rows, columns)
        axes.set(xlabel=column_title, ylabel=row_title)
        if matrix.numel() <= ANNOTATE_UP_TO:
            for r, row in enumerate(matrix.tolist()):
                for c, value in enumerate(row):
                    axes.text(
                        c, r, f"{value:.{digits}f}", ha="center", va="center", size=8,
                        color=_ink(image, value),
                    )  # fmt: skip
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
) -> Figure:
    """Draw matrices of one shape side by side on one colour scale, each under its name.

    ``diverging`` centres the colours on 0; without it they start there.
    """
    n_lines = -(-len(matrices) // per_line)
    highest = max(float(matrix.abs().max()) for matrix in matrices.values())
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
            first, bottom = i % per_line == 0, i + per_line >= len(matrices)
            _name_cells(axes, rows, columns, size=6 if per_line > 2 else 8)
            axes.tick_params(labelleft=first, labelbottom=bottom)
            axes.set_xlabel(column_title if bottom else "")
            axes.set_ylabel(row_title if first else "")
        figure.colorbar(image, ax=grid, fraction=0.02, pad=0.02)
    return figure


def bars(
    labels: Sequence[str], values: Numbers, *, value_title: str = "", digits: int = 3
) -> Figure:
    """Draw one horizontal bar a label, each with its number, the first at the top."""
    numbers = _list(values)
    with _canvas(height=0.7 + 0.28 * len(labels)) as (figure, axes):
        drawn = axes.barh(range(len(labels)), numbers, color=COLOURS[0])
        axes.bar_label(
            drawn, labels=[f"{n:,.{digits}f}" for n in numbers], padding=3, size=8
        )
        _name_cells(axes, labels, None, size=10)
        axes.invert_yaxis()
        axes.margins(x=0.15)
        axes.locator_params(axis="x", nbins=6)  # labels as long as 0.00025 fit
        axes.set(xlabel=value_title)
    return figure


def lines(
    series: Mapping[str, tuple[Numbers, Numbers]],
    *,
    x_title: str = "",
    y_title: str = "",
    log_y: bool = False,
    from_zero: bool = False,
) -> Figure:
    """Draw curves given as x and y values; they differ in colour, dash and marker."""
    with _canvas(height=3.2) as (figure, axes):
        for i, (name, (x, y)) in enumerate(series.items()):
            xs, ys = _list(x), _list(y)
            axes.plot(
                xs, ys, label=name, color=COLOURS[i % 4], linestyle=LINES[i % 4],
                marker=MARKERS[i % 4] if len(xs) <= 40 else None,
            )  # fmt: skip
        axes.set(xlabel=x_title, ylabel=y_title)
        if log_y:
            axes.set_yscale("log")
            axes.yaxis.set_minor_formatter(ticker.LogFormatter())
        if from_zero:
            axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(ticker.StrMethodFormatter("{x:,.10g}"))
        if len(series) > 1:
            axes.legend()
    return figure


def strip(parts: Mapping[str, float], *, unit: str = "") -> Figure:
    """Draw a whole as one strip, its parts end to end, each as long as its share."""
    total = sum(parts.values())
    with _canvas(height=1.2 + 0.24 * len(parts)) as (figure, axes):
        left = 0.0
        for i, (name, size) in enumerate(parts.items()):
            amount = f"{size:,.0f} {unit}".rstrip()
            label = f"{name}: {amount} ({size / total:.1%})"
            axes.barh(
                0, size, left=left, color=COLOURS[i % 4], edgecolor="white",
                hatch=("", "//", "..", "xx")[i // 4 % 4], label=label,
            )  # fmt: skip
            if size > 0.12 * total:
                axes.text(
                    left + size / 2,
                    0,
                    name,
                    ha="center",
                    va="center",
                    color=_ink_on(COLOURS[i % 4]),
                    size=8,
                )
            left += size
        axes.set_xlim(0, total)
        axes.set_axis_off()
        axes.legend(loc="upper left", bbox_to_anchor=(0, 0), fontsize=8)
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
    """Draw a table of words on cells coloured by ``shades`` [R, C], from 0 to 1."""
    with _canvas(height=1.0 + 0.36 * len(rows)) as (figure, axes):
        image = _cells(axes, shades, 0.0, 1.0)
        for r, line in enumerate(words):
            for c, word in enumerate(line):
                axes.text(
                    c, r, word, ha="center", va="center", size=7, clip_on=True,
                    color=_ink(image, float(shades[r, c])),
                )  # fmt: skip
        _name_cells(axes, rows, columns)
        axes.set(xlabel=column_title, ylabel=row_title)
        figure.colorbar(image, ax=axes, label=value_title, fraction=0.035, pad=0.02)
    return figure


def boxes(
    rows: Mapping[str, Sequence[tuple[str, float]]], *, x_title: str = ""
) -> Figure:
    """Draw each row as boxes side by side, each with its name and as wide as its size.

    A box without a name is a gap. The first row is at the top.
    """
    with _canvas(height=0.7 + 0.34 * len(rows)) as (figure, axes):
        for y, row in enumerate(rows.values()):
            left = 0.0
            for name, size in row:
                if name:
                    axes.barh(
                        y, size, left=left, height=0.8, edgecolor="black",
                        color="#DCE9F2", linewidth=0.8,
                    )  # fmt: skip
                    middle = left + size / 2
                    axes.text(
                        middle, y, name, ha="center", va="center", size=8, clip_on=True
                    )
                left += size
        _name_cells(axes, list(rows), None, size=10)
        axes.tick_params(left=False)
        axes.spines["left"].set_visible(False)
        axes.invert_yaxis()
        axes.margins(x=0.01)
        axes.set(xlabel=x_title)
    return figure


@contextmanager
def _canvas(
    n_rows: int = 1, n_columns: int = 1, *, height: float
) -> Iterator[tuple[Figure, Axes]]:
    """Open a figure in the book's style; closed, a notebook shows it only once."""
    with plt.rc_context(STYLE):
        size = (WIDTH, height)
        figure, _ = plt.subplots(n_rows, n_columns, figsize=size, layout="constrained")
        try:
            yield figure, figure.axes[0]
            for text in figure.findobj(Text):
                text.set_text(_drawable(text.get_text()))
        finally:
            plt.close(figure)


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


def _ink(image: Any, value: float) -> str:
    """Choose the colour of a text in a cell; what is not finite has a white cell."""
    return _ink_on(image.cmap(image.norm(value))) if math.isfinite(value) else "black"


def _ink_on(colour: Any) -> str:
    """Choose white or black for a text, whichever stands out more from its ground."""
    red, green, blue = to_rgb(colour)
    luminance = 0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2
    return "white" if luminance < 0.18 else "black"


def _name_cells(
    axes: Axes, rows: Sequence[str] | None, columns: Sequence[str] | None, size: int = 8
) -> None:
    if rows is not None:
        axes.set_yticks(range(len(rows)), map(_drawable, rows), size=size)
    if columns is not None:
        axes.set_xticks(range(len(columns)), map(_drawable, columns), size=size)
        if max(map(len, columns), default=0) > 3:
            axes.tick_params("x", rotation=60)
            plt.setp(axes.get_xticklabels(), ha="right")


def _drawable(text: str) -> str:
    """Escape what would not be seen, or what the font lacks; matplotlib would warn."""
    known = _visible()
    return "".join(
        c if c in known else c.encode("unicode_escape").decode() for c in text
    )


@cache
def _visible() -> frozenset[str]:
    characters = map(chr, get_font(findfont(FontProperties())).get_charmap())
    return frozenset(filter(str.isprintable, characters)) | {"\n"}


def _list(values: Numbers) -> list[float]:
    return [float(value) for value in values]
