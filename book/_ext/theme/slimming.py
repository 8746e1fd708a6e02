"""Make the pages smaller and the build faster.

`sphinx_thebe`, which Jupyter Book always sets up, adds unused scripts to each page.

More than half of a page would be the ``<span>`` of every token of code and every word
of a name or signature. Here tokens that look alike in both styles share a class, and
those that look like plain text have no span. Nor has the text of a link, and a link to
a definition doesn't repeat its name in a tooltip.

The theme's scripts for icons and for searching are left out, too, where nothing needs
them: book.css has the icons that are used.
"""

import gc
import re
from collections.abc import Iterable
from typing import IO, Any

from markupsafe import Markup
from pygments.formatters import HtmlFormatter
from pygments.styles import get_style_by_name
from pygments.token import STANDARD_TYPES, Generic, Token, _TokenType
from sphinx.application import Sphinx
from sphinx.builders.html import StandaloneHTMLBuilder
from sphinx.highlighting import PygmentsBridge

UNUSED = "sphinx_thebe"
COLLECT_AFTER = 50_000  # objects: the same peak memory in two thirds of the time
Tokens = Iterable[tuple[_TokenType, str]]
SIGNATURE = re.compile(r'<dt class="sig .*?</dt>', re.DOTALL)
PLAIN = re.compile(r'<span class="(?:[npw]|sig-return-icon)">([^<]*)</span>')
LINK_TEXT = re.compile(r'<span class="(?:xref )?std std-\w+">([^<]*)</span>')
TOOLTIP = re.compile(r' title="hardway[\w.]*"')
SCRIPT = re.compile(r"<script [^>]*></script>\n?")
UNBREAKABLE = re.compile(r'<span class="pre">([\w.]+|[^&])</span>', re.ASCII)
# MyST-NB's label hides a fold's summary from screen readers; ARIA dropped the role.
INACCESSIBLE = {
    ' aria-label="Toggle hidden content"': "",
    ' role="doc-biblioentry"': ' role="listitem"',
}
STYLES = ("pygments_light_style", "pygments_dark_style")


class LeanFormatter(HtmlFormatter):  # type: ignore[misc]
    """Highlight with one class for all tokens that look alike; see `seen_alike`."""

    def format(self, tokensource: Tokens, outfile: IO[str]) -> None:
        """Write the highlighted code."""
        super().format(self.fewer(tokensource), outfile)

    def fewer(self, tokens: Tokens) -> Tokens:
        """Replace token types by equivalents, so that adjacent tokens share a span."""
        alike = self.options["alike"]
        before = Token
        for kind, text in tokens:
            before = before if text.strip(" ") == "" else alike.get(kind, kind)
            yield before, text


def seen_alike(styles: Iterable[str]) -> dict[_TokenType, _TokenType]:
    """Map token types to the one with the shortest class that all styles render alike.

    Generic types stay, because CSS makes a session's prompts unselectable.
    """
    rules = [get_style_by_name(style).style_for_token for style in styles]
    first: dict[str, _TokenType] = {}
    return {
        kind: first.setdefault(str([rule(kind) for rule in rules]), kind)
        for kind in sorted(STANDARD_TYPES, key=lambda kind: len(STANDARD_TYPES[kind]))
        if kind not in Generic
    }


def mark_few(app: Sphinx) -> None:
    """Give the formatter the equivalences of the theme's two styles."""
    builder = app.builder
    if isinstance(builder, StandaloneHTMLBuilder):
        options = builder.theme.get_options(builder.theme_options)
        alike = seen_alike(options[style] for style in STYLES)
        builder.highlighter.formatter_args["alike"] = alike


def tidy(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object
) -> None:
    """Remove what a page doesn't need from it and its table of contents."""
    context["without"] = without
    for part in {"body", "toc"} & context.keys():
        context[part] = UNBREAKABLE.sub(r"\1", context[part])
        context[part] = SIGNATURE.sub(unmarked, context[part])
        context[part] = LINK_TEXT.sub(r"\1", TOOLTIP.sub("", context[part]))
        for written, wanted in INACCESSIBLE.items():
            context[part] = context[part].replace(written, wanted)


def without(html: str, *scripts: str) -> Markup:
    """Remove the tags that load some scripts; called by the template of all pages."""

    def kept(tag: re.Match[str]) -> str:
        return "" if any(script in tag[0] for script in scripts) else tag[0]

    return Markup(SCRIPT.sub(kept, html))


def unmarked(signature: re.Match[str]) -> str:
    """Remove unstyled spans from a signature, inner ones first."""
    return PLAIN.sub(r"\1", PLAIN.sub(r"\1", signature[0]))


def register(app: Sphinx) -> None:
    """Disconnect sphinx_thebe's listeners and install LeanFormatter."""
    gc.set_threshold(COLLECT_AFTER)
    for listeners in app.events.listeners.values():
        for listener in listeners[:]:
            if listener.handler.__module__ == UNUSED:
                app.disconnect(listener.id)
    css_files = app.registry.css_files
    css_files[:] = [each for each in css_files if each[0] != "sphinx-thebe.css"]
    PygmentsBridge.html_formatter = LeanFormatter
