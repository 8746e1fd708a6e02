"""Draw what a living figure shows where no script runs: a table, darker where more is.

Its numbers are the library's recorded answers, so they are those of the script.
"""

import math
from collections.abc import Callable, Sequence
from html import escape

from theme import browser
from theme.recorded import Question

Cell = tuple[str, float]  # a text, and how dark it is, from 0 to 1


def table(figure: str) -> str:
    """Return a figure's table as HTML."""
    return TABLES[figure](browser.recordings()[figure])


def html(
    caption: str, head: Sequence[str], rows: Sequence[tuple[str, Sequence[Cell]]]
) -> str:
    """Return a table; each row has a label."""
    titles = "".join(f'<th scope="col">{escape(title)}</th>' for title in head)
    lines = "".join(
        f'<tr><th scope="row">{escape(label)}</th>{"".join(map(cell, cells))}</tr>'
        for label, cells in rows
    )
    head_row = f"<thead><tr><td></td>{titles}</tr></thead>"
    text = f"<caption>{escape(caption)}</caption>{head_row}<tbody>{lines}</tbody>"
    return f'<div class="still"><table>{text}</table></div>'


def cell(content: Cell) -> str:
    """Return one cell."""
    text, shade = content
    return f'<td style="--shade: {100 * shade:.1f}%">{escape(text)}</td>'


def percent(p: float) -> Cell:
    """Return a cell with a probability."""
    return f"{100 * p:.1f}%", p


def generate(questions: Sequence[Question]) -> str:
    """Return the text, and the candidates for its first token."""
    (_, asked, _), (_, _, rivals), *_ = questions
    text = "".join(found[0][1] for _, _, found in questions[1:]).replace("␣", " ")
    rows = [(piece, [percent(p)]) for _, piece, p in rivals]
    written = f'<p class="written">{escape(asked["text"])}{escape(text)}</p>'
    return written + html("Candidates for the first new token", ["Probability"], rows)


def sampling(questions: Sequence[Question]) -> str:
    """Return the distribution before and after the filters."""
    rows = [
        (row["piece"], [percent(row["before"]), percent(row["after"])])
        for row in questions[0][2]["rows"]
    ]
    return html(
        "Probabilities, before and after the filters", ["Before", "After"], rows
    )


def attention(questions: Sequence[Question]) -> str:
    """Return the attention weights of one head."""
    view, answer = browser.defaults()["attention"], questions[0][2]
    pieces, scores = answer["pieces"], answer["scores"][view["layer"]][view["head"]]
    n, rows = len(pieces), []
    for i, piece in enumerate(pieces):
        seen = scores[n * i : n * i + i + 1]
        powers = [math.exp(score / math.sqrt(answer["d_head"])) for score in seen]
        weights = [power / sum(powers) for power in powers]
        masked = [("–", 0.0)] * (n - i - 1)
        rows.append((piece, [(f"{w:.2f}", w) for w in weights] + masked))
    caption = f"Attention weights of head {view['head']} in block {view['layer']}"
    return html(f"{caption}: rows are queries, columns are keys", pieces, rows)


def merges(questions: Sequence[Question]) -> str:
    """Return the tokens, their ids and their bytes."""
    rows = [
        (
            token["piece"],
            [(str(token["id"]), 0.0), (bytes(token["bytes"]).hex(" "), 0.0)],
        )
        for steps in questions[0][2]
        for token in steps[-1]
    ]
    return html("Every token", ["Id", "Bytes"], rows)


def cache(questions: Sequence[Question]) -> str:
    """Return how many positions a few passes compute, with a cache and without."""
    prompt = len(questions[0][2]["ids"])
    rows = [
        (str(i + 1), [(str(1 if i else prompt), 0.0), (str(prompt + i), 0.0)])
        for i in range(6)
    ]
    return html("Positions computed by each forward pass", ["Cached", "Uncached"], rows)


def lens(questions: Sequence[Question]) -> str:
    """Return the most probable token at each layer and position."""
    answer = questions[0][2]
    rows = [
        (
            f"block {layer - 1}" if layer else "embeddings",
            [(c[0][1], c[0][2]) for c in cells],
        )
        for layer, cells in enumerate(answer["cells"])
    ]
    return html("The most probable token after each", answer["pieces"], rows[::-1])


def scheduler(questions: Sequence[Question]) -> str:
    """Return the pages, who owns them, and how full they are."""
    size, rows = questions[0][1]["page_size"], []
    for number, page in enumerate(questions[0][2]["pages"]):
        owners = " and ".join(page["owners"]) or "nobody"
        full = (f"{page['held']} of {size}", page["held"] / size)
        rows.append((f"page {number}", [(owners, 0.0), full]))
    return html("Pages of the KV cache", ["Owned by", "Tokens"], rows)


def miniature(questions: Sequence[Question]) -> str:
    """Return the numbers of the machine."""
    pieces, numbers = questions[0][2]["pieces"], questions[1][2]
    vectors: list[tuple[str, list[float]]] = []
    for title, name in (("embedding", "embeddings"), ("key", "k"), ("value", "v")):
        vectors += zip(
            [f"{title} of {piece}" for piece in pieces], numbers[name], strict=True
        )
    vectors += [(name, numbers[name]) for name in ("q", "scores", "weights", "output")]
    rows = [(title, [(f"{x:.2f}", 0.0) for x in vector]) for title, vector in vectors]
    return html("The numbers of the machine", [str(i) for i in range(1, 9)], rows)


TABLES: dict[str, Callable[[Sequence[Question]], str]] = {
    "generate": generate,
    "sampling": sampling,
    "attention": attention,
    "tokenizer": merges,
    "kv-cache": cache,
    "logit-lens": lens,
    "miniature": miniature,
    "scheduler": scheduler,
}
