"""Leave out what every page is given and this book does not use.

`sphinx_thebe` comes with Jupyter Book unasked, and adds scripts to each page.

Pygments marks every word of a code, Sphinx every word of a name and of a signature,
which is more than half of a page. What looks alike in the light and the dark style is
marked alike here, and what looks like plain text is not marked.

The build keeps nearly all it makes until it ends, so Python's garbage collector looks
through it less often.
"""

import gc
import re
from collections.abc import Iterable
from typing import IO, Any

from pygments.formatters import HtmlFormatter
from pygments.styles import get_style_by_name
from pygments.token import STANDARD_TYPES, Generic, Token, _TokenType
from sphinx.application import Sphinx
from sphinx.builders.html import StandaloneHTMLBuilder
from sphinx.highlighting import PygmentsBridge

UNUSED = "sphinx_thebe"
COLLECT_AFTER = 50_000  # new objects: the same memory, and two thirds of the time
Tokens = Iterable[tuple[_TokenType, str]]
SIGNATURE = re.compile(r'<dt class="sig .*?</dt>', re.DOTALL)
PLAIN = re.compile(r'<span class="(?:[npw]|sig-return-icon)">([^<]*)</span>')
UNBREAKABLE = re.compile(r'<span class="pre">([\w.]+|[^&])</span>', re.ASCII)
# MyST-NB's label hides a fold's own line from screen readers; docutils' role is gone.
INACCESSIBLE = {
    ' aria-label="Toggle hidden content"': "",
    ' role="doc-biblioentry"': ' role="listitem"',
}
STYLES = ("pygments_light_style", "pygments_dark_style")


class LeanFormatter(HtmlFormatter):  # type: ignore[misc]
    """Write code with one mark for all that looks alike; see `seen_alike`."""

    def format(self, tokensource: Tokens, outfile: IO[str]) -> None:
        """Write the code."""
        super().format(self.fewer(tokensource), outfile)

    def fewer(self, tokens: Tokens) -> Tokens:
        """Let each token be of the briefest kind of its look, and a space of any."""
        alike = self.options["alike"]
        before = Token
        for kind, text in tokens:
            before = before if text.strip(" ") == "" else alike.get(kind, kind)
            yield before, text


def seen_alike(styles: Iterable[str]) -> dict[_TokenType, _TokenType]:
    """Map the kinds of token to the briefest that looks the same in all of the styles.

    What a session shows is left alone: a prompt cannot be selected, however it looks.
    """
    looks = [get_style_by_name(style).style_for_token for style in styles]
    first: dict[str, _TokenType] = {}
    return {
        kind: first.setdefault(str([look(kind) for look in looks]), kind)
        for kind in sorted(STANDARD_TYPES, key=lambda kind: len(STANDARD_TYPES[kind]))
        if kind not in Generic
    }


def mark_few(app: Sphinx) -> None:
    """Let the pages' code be marked for the theme's two styles."""
    builder = app.builder
    if isinstance(builder, StandaloneHTMLBuilder):
        options = builder.theme.get_options(builder.theme_options)
        alike = seen_alike(options[style] for style in STYLES)
        builder.highlighter.formatter_args["alike"] = alike


def tidy(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object
) -> None:
    """Take out of a page, and of its table of contents, what is not needed in it."""
    for part in {"body", "toc"} & context.keys():
        context[part] = UNBREAKABLE.sub(r"\1", context[part])
        context[part] = SIGNATURE.sub(unmarked, context[part])
        for written, wanted in INACCESSIBLE.items():
            context[part] = context[part].replace(written, wanted)


def unmarked(signature: re.Match[str]) -> str:
    """Take marks that no style sheet knows off a signature, the inner ones first."""
    return PLAIN.sub(r"\1", PLAIN.sub(r"\1", signature[0]))


def register(app: Sphinx) -> None:
    """Take back what the unused extension, set up before this one, has asked for.

    Jupyter Book sets it up unasked, and it has no setting to be left out.
    """
    gc.set_threshold(COLLECT_AFTER)
    for listeners in app.events.listeners.values():
        for listener in listeners[:]:
            if listener.handler.__module__ == UNUSED:
                app.disconnect(listener.id)
    css_files = app.registry.css_files
    css_files[:] = [each for each in css_files if each[0] != "sphinx-thebe.css"]
    PygmentsBridge.html_formatter = LeanFormatter
