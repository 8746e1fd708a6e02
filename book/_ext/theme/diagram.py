"""The ``{pipeline}`` directive: the whole machine as one picture, the current part lit.

    ```{pipeline} attention
    ```

The parts bear the names of the library's modules. A reader clicks a part to go to its
chapter; the lit one is bold and framed, so that colour is not needed to see it.
"""

from html import escape
from typing import NamedTuple

from docutils import nodes
from sphinx.util.docutils import SphinxDirective


class Part(NamedTuple):
    """A box of the picture: where it is, what stands in it, which page explains it."""

    x: int
    y: int
    width: int
    height: int
    label: str
    page: str


# In the order in which they are drawn: what encloses others comes first.
PARTS = {
    "safetensors": Part(215, 168, 325, 30, "weights: a file of numbers", "01-weights"),
    "model": Part(140, 8, 410, 152, "forward pass", "06-forward"),
    "block": Part(250, 32, 190, 120, "block, n_layer times", "05-block"),
    "tokenizer": Part(20, 70, 100, 44, "tokenizer", "02-tokenizer"),
    "embeddings": Part(147, 70, 98, 44, "embeddings", "03-embeddings"),
    "attention": Part(260, 62, 82, 34, "attention", "04-attention"),
    "mlp": Part(350, 62, 80, 34, "MLP", "05-block"),
    "kv_cache": Part(260, 110, 82, 34, "KV cache", "08-kv-cache"),
    "logits": Part(450, 70, 90, 44, "logits", "06-forward"),
    "generation": Part(580, 70, 100, 44, "sampler", "07-generation"),
}
ENCLOSING = {"model", "block"}  # their labels stand at the top
# What passes between the parts, as the lines of an SVG path; the last is the loop.
ARROWS = (
    "M120 92 H145", "M245 92 H258", "M440 92 H448", "M540 92 H578",
    "M342 79 H348", "M312 108 V98", "M290 98 V108", "M378 168 V162",
    "M630 114 V222 H180 V116",
)  # fmt: skip
TEXTS = (
    (70, 58, "text"),
    (630, 58, "token"),
    (405, 217, "the new token's id is appended"),
)
ALT = (
    "A diagram of the machine. Text passes from left to right through the tokenizer "
    "and the forward pass, which holds the embeddings, a block repeated n_layer times "
    "(attention with its KV cache, and the MLP) and the logits, to the sampler. The id "
    "of the new token goes back to the embeddings. Below, the file of weights feeds "
    "the forward pass. "
)
CAPTION = "The whole machine. Click a part to open its chapter."
MARKER = (
    '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
    'markerHeight="7" orient="auto"><path d="M0 0 L8 4 L0 8 Z"/></marker></defs>'
)


class Pipeline(SphinxDirective):
    """Draw the machine; the argument, if any, names the part that is lit."""

    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the picture, drawn into the page, whose colours it takes."""
        lit = self.arguments[0] if self.arguments else ""
        if lit and lit not in PARTS:
            raise self.error(f"the machine has no part {lit!r}; it has {list(PARTS)}")
        return [nodes.raw("", self.figure(lit), format="html")]

    def figure(self, lit: str) -> str:
        """Write the picture and its caption as HTML."""
        here = f"Here: {PARTS[lit].label}." if lit else ""
        drawn = "".join(self.part(name, name == lit) for name in PARTS)
        arrows = "".join(f'<path class="arrow" d="{path}"/>' for path in ARROWS)
        texts = "".join(
            f'<text class="said" x="{x}" y="{y}">{escape(text)}</text>'
            for x, y, text in TEXTS
        )
        return (
            f'<figure class="pipeline"><svg viewBox="0 0 700 232" role="group" '
            f'aria-label="{escape(ALT + here)}">{MARKER}{drawn}{arrows}{texts}</svg>'
            f"<figcaption>{escape(f'{CAPTION} {here}'.strip())}</figcaption></figure>"
        )

    def part(self, name: str, lit: bool) -> str:
        """Draw one box, a link to its chapter."""
        x, y, width, height, label, page = PARTS[name]
        middle, line = x + width / 2, y + (18 if name in ENCLOSING else height / 2 + 5)
        address = self.env.app.builder.get_relative_uri(
            self.env.docname, f"book/{page}"
        )
        current = ' class="lit" aria-current="true"' if lit else ""
        return (
            f'<a href="{address or "#"}"{current}>'
            f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="5"/>'
            f'<text x="{middle:g}" y="{line:g}">{escape(label)}</text></a>'
        )
