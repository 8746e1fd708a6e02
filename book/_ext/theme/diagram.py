"""The ``{pipeline}`` directive: a diagram of the model, the current part highlighted.

    ```{pipeline} attention
    ```

Parts are named after modules and link to chapters. The highlighted one is also bold and
framed, so that it doesn't depend on color. On a phone the diagram is a tall one.
"""

import re
from pathlib import Path

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

FILES = [Path(__file__).with_name(f"machine-{shape}.svg") for shape in ("wide", "tall")]
LINES = [line for file in FILES for line in file.read_text("utf-8").splitlines()]
DRAWINGS = "".join(map(str.strip, LINES))
PART = re.compile(r'<a data-part="(\w+)" href="([\w-]+)">(.+?)</a>')
PARTS: dict[str, str] = {}
for _name, _, _box in PART.findall(DRAWINGS):
    PARTS.setdefault(_name, re.sub("<.+?>", "", _box))
CAPTION = "The whole machine. Click a part to open its chapter."


class Pipeline(SphinxDirective):
    """Draw the diagram; the optional argument names the part to highlight."""

    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the diagram as inline SVG, so that the theme colors it."""
        lit = self.arguments[0] if self.arguments else ""
        if lit and lit not in PARTS:
            raise self.error(f"the machine has no part {lit!r}; it has {list(PARTS)}")
        return [nodes.raw("", self.figure(lit), format="html")]

    def figure(self, lit: str) -> str:
        """Return the HTML of the diagram and its caption."""

        def part(match: re.Match[str]) -> str:
            name, page, box = match.groups()
            builder, current = self.env.app.builder, ""
            address = builder.get_relative_uri(self.env.docname, f"book/{page}") or "#"
            if name == lit:
                current = ' class="lit" aria-current="true"'
            return f'<a href="{address}"{current}>{box}</a>'

        here = f" Here: {PARTS[lit]}." if lit else ""
        figure = f"{PART.sub(part, DRAWINGS)}<figcaption>{CAPTION}$here</figcaption>"
        return f'<figure class="pipeline">{figure.replace("$here", here)}</figure>'
