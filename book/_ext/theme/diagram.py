"""The ``{pipeline}`` directive: the whole machine as one picture, the current part lit.

    ```{pipeline} attention
    ```

The parts bear the names of the library's modules. A reader clicks a part to go to its
chapter; the lit one is bold and framed, so that color is not needed to see it.
"""

import re
from pathlib import Path

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

FILE = Path(__file__).with_name("machine.svg")
DRAWING = "".join(map(str.strip, FILE.read_text(encoding="utf-8").splitlines()))
PART = re.compile(r'<a data-part="(\w+)" href="([\w-]+)">(.+?)</a>')
PARTS = {name: re.sub("<.+?>", "", box) for name, _, box in PART.findall(DRAWING)}
CAPTION = "The whole machine. Click a part to open its chapter."


class Pipeline(SphinxDirective):
    """Draw the machine; the argument, if any, names the part that is lit."""

    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the picture, drawn into the page, whose colors it takes."""
        lit = self.arguments[0] if self.arguments else ""
        if lit and lit not in PARTS:
            raise self.error(f"the machine has no part {lit!r}; it has {list(PARTS)}")
        return [nodes.raw("", self.figure(lit), format="html")]

    def figure(self, lit: str) -> str:
        """Write the picture and its caption as HTML."""

        def part(match: re.Match[str]) -> str:
            name, page, box = match.groups()
            builder, current = self.env.app.builder, ""
            address = builder.get_relative_uri(self.env.docname, f"book/{page}") or "#"
            if name == lit:
                current = ' class="lit" aria-current="true"'
            return f'<a href="{address}"{current}>{box}</a>'

        here = f" Here: {PARTS[lit]}." if lit else ""
        figure = f"{PART.sub(part, DRAWING)}<figcaption>{CAPTION}$here</figcaption>"
        return f'<figure class="pipeline">{figure.replace("$here", here)}</figure>'
