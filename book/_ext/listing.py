"""The ``{listing}`` directive: print a piece of the library, as it is in the file right
now.

    ```{listing} attention.softmax
    ```

Options: ``:whole:`` prints a class with its methods, or a module to its end.
"""

import textwrap
from typing import ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.directives.code import container_wrapper
from sphinx.util.docutils import SphinxDirective

from pieces import REPOSITORY, find_piece


class Listing(SphinxDirective):
    """Show one piece with its file and line numbers; the page depends on the file."""

    required_arguments = 1
    option_spec: ClassVar = {"whole": directives.flag}

    def run(self) -> list[nodes.Node]:
        """Return the literal block, captioned with the place it was taken from."""
        try:
            piece = find_piece(self.arguments[0], whole="whole" in self.options)
        except LookupError as error:
            raise self.error(str(error)) from error
        self.env.note_dependency(str(piece.path))
        place = piece.path.relative_to(REPOSITORY).as_posix()
        code = textwrap.dedent(piece.text)
        block = nodes.literal_block(code, code)  # where the two differ: no highlighting
        block["language"], block["linenos"] = "python", True
        block["highlight_args"] = {"linenostart": piece.first}
        self.set_source_info(block)
        caption = f"``{place}``, lines {piece.first}–{piece.last}"
        wrapper = container_wrapper(self, block, caption)
        wrapper["classes"].append("listing")
        return [wrapper]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("listing", Listing)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
