"""Convert a page's MyST to plain Markdown, which any notebook viewer can render.

Each directive, role and block type that the book uses has a function in `BLOCKS`,
`DIRECTIVES` or `ROLES`; one without is a warning, and a warning fails the build.
"""

import mimetypes
import re
import textwrap
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import cast

from docutils import nodes
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from myst_parser.config.main import MdParserConfig
from myst_parser.parsers.mdit import create_md_parser
from sphinx.addnodes import pending_xref
from sphinx.builders import Builder
from sphinx.domains.std import StandardDomain
from sphinx.environment import BuildEnvironment
from sphinx.util import docname_join, logging
from sphinx.util.docutils import ReferenceRole

from literate.pieces import find_pieces, joined
from theme.still import table

logger = logging.getLogger(__name__)

# Block types that stay as they are; the text in them is converted.
TABLE = {"table", "thead", "tbody", "tr", "th", "td"}
LISTS = {"bullet_list", "ordered_list", "list_item"}
COMMONMARK = {"heading", "paragraph", "inline", "blockquote", "hr"} | TABLE | LISTS

DIRECTIVE = re.compile(r"\{([^}]+)\}\s*(.*)")
OPTIONS = re.compile(r"\A(?::[\w-]+:.*(?:\n|\Z))*")
INLINE = re.compile(
    r"""\{(?P<role>[\w:.+-]+)\}(?P<quote>`+)(?P<content>(?:(?!\n\n).)+?)(?P=quote)
    | (?P<code>`+)(?!`)(?:(?!\n\n).)+?(?<!`)(?P=code)(?!`)
    | (?<!\\)\$(?P<math>(?!\s)(?:(?!\n\n)[^$])+?(?<!\s))\$
    | !?\[(?P<text>(?:[^\[\]]|\[[^\]]*\])*)\]\((?P<target>[^)\s]+)\)""",
    re.VERBOSE | re.DOTALL,
)
SPECIAL = re.compile(r"[\\`*_\[\]<>|$~#]")


@dataclass(frozen=True)
class Page:
    """A page, with what its text may refer to."""

    env: BuildEnvironment
    docname: str
    quoted: Mapping[str, str]  # the values that its cells glued
    site: str = ""  # where the book is published

    name = "notebook"  # the pages of this "builder" are notebooks

    def get_relative_uri(self, here: str, there: str, typ: str | None = None) -> str:
        """Return the URL of another page's notebook or web page, as a builder does."""
        if is_notebook(self.env, there):
            return f"{PurePosixPath(there).name}.ipynb"
        return f"{self.site}{there}.html" if self.site else ""

    def warn(self, problem: str) -> None:
        """Log a warning, which fails the build."""
        logger.warning("the notebook: %s", problem, location=self.docname)


def is_notebook(env: BuildEnvironment, docname: str) -> bool:
    """Return whether a page has cells, and so a notebook."""
    return "kernelspec" in env.metadata.get(docname, {})


def in_plain_terms(page: Page, text: str) -> str:
    """Convert MyST to plain Markdown."""
    lines, written, done = text.split("\n"), [], 0
    for token in blocks(page, text):
        first, last = token.map or (done, done)
        if first > done:
            written.append(inline(page, "\n".join(lines[done:first])))
        plain = BLOCKS[token.type](page, token)
        original = lines[first:last]
        written += original if plain is None else fitted(plain, token, original[0])
        done = last
    written.append(inline(page, "\n".join(lines[done:])))
    return "\n".join(written).strip("\n")


def blocks(page: Page, text: str) -> Iterator[Token]:
    """Yield the blocks to convert, and warn of unknown ones."""
    config: MdParserConfig = vars(page.env)["myst_config"]
    for token in create_md_parser(config, RendererHTML).parse(text):
        if token.type in BLOCKS:
            yield token
        elif token.nesting >= 0 and token.type.removesuffix("_open") not in COMMONMARK:
            page.warn(f"a block of the kind {token.type!r} is not known")


def fitted(plain: str, token: Token, line: str) -> list[str]:
    """Indent a block as the original was, in a list item or a quote."""
    before = line[: line.index(token.markup)]
    indent = re.sub(r"[^>\s]", " ", before)
    fitted = textwrap.indent(plain, indent, lambda _: True).removeprefix(indent)
    return [line.rstrip() for line in f"{before}{fitted}".splitlines()]


# Blocks: each returns plain Markdown, or None if the block is plain already.


def fence(page: Page, token: Token) -> str | None:
    """Convert a directive; leave a block of code."""
    match = DIRECTIVE.fullmatch(token.info.strip())
    if match is None:
        return None
    name, argument = match.groups()
    if name not in DIRECTIVES:
        page.warn(f"the directive {{{name}}} is not known")
        return None
    options = "".join(OPTIONS.findall(token.content))
    body = token.content.removeprefix(options).strip("\n")
    named = dict(re.findall(r"^:([\w-]+):\s*(.*)$", options, re.MULTILINE))
    return DIRECTIVES[name](page, argument, named, body)


def display_math(page: Page, token: Token) -> str:
    """Convert a block of math, its label to its number."""
    return formula(page, token.content, token.info)


def formula(page: Page, content: str, label: str) -> str:
    """Return a formula on one line, which is valid in a quote, aligned as by Sphinx."""
    content = " ".join(content.split())
    if r"\\" in content and r"\begin{" not in content:
        content = rf"\begin{{aligned}} {content} \end{{aligned}}"
    if label:
        number = cross_reference("math", "eq", page, label).strip("()")
        content += rf" \tag{{{number}}}"
    return f"$${content}$$"


BLOCKS: dict[str, Callable[[Page, Token], str | None]] = {
    "amsmath": lambda page, token: None,
    "code_block": lambda page, token: None,
    "colon_fence": fence,
    "fence": fence,
    "html_block": lambda page, token: None,
    "math_block": display_math,
    "math_block_label": display_math,
    "myst_line_comment": lambda page, token: "",
    "myst_target": lambda page, token: "",
}

# Directives: each takes the argument, the options and the body.


def listing(page: Page, name: str, options: Mapping[str, str], body: str) -> str:
    """Return a piece as a block of code: not a cell, because it may not run alone."""
    try:
        piece = joined(find_pieces(name, whole="whole" in options))
    except LookupError as error:
        page.warn(str(error))
        return ""
    return f"````python\n# {piece.place}\n{textwrap.dedent(piece.text)}\n````"


def admonition(page: Page, title: str, options: Mapping[str, str], body: str) -> str:
    """Return an admonition as a quote with a bold title."""
    text = f"**{inline(page, title)}**\n\n{in_plain_terms(page, body)}"
    return textwrap.indent(text, "> ", lambda line: True).replace("> \n", ">\n")


def math(page: Page, first: str, options: Mapping[str, str], body: str) -> str:
    """Convert a math directive."""
    return formula(page, f"{first}\n{body}", options.get("label", ""))


def dropdown(page: Page, title: str, options: Mapping[str, str], body: str) -> str:
    """Return a dropdown as HTML details."""
    text = in_plain_terms(page, body)
    return f"<details><summary>{inline(page, title)}</summary>\n\n{text}\n\n</details>"


def figure(page: Page, path: str, options: Mapping[str, str], body: str) -> str:
    """Embed a figure, with its number and caption."""
    _, file = page.env.relfn2path(path, page.docname)
    data = b64encode(Path(file).read_bytes()).decode()
    number = cross_reference("std", "numref", page, options["name"])
    caption = " ".join(inline(page, body).split())
    kind, _ = mimetypes.guess_type(file)
    drawing = f"![{options['alt']}](data:{kind};base64,{data})"
    return f"{drawing}\n\n_{number}. {caption}_"


def exercise(page: Page, title: str, options: Mapping[str, str], body: str) -> str:
    """Return an exercise as an admonition, numbered as on the page."""
    number = cross_reference("std", "numref", page, options["label"])
    return admonition(page, f"{number}. {title}" if title else number, {}, body)


def solution(page: Page, label: str, options: Mapping[str, str], body: str) -> str:
    """Return the heading of a solution."""
    return f"**Solution to {cross_reference('std', 'numref', page, label)}**"


def living(page: Page, names: str, options: Mapping[str, str], body: str) -> str:
    """Return the table of a living figure, with the figure's number and caption."""
    name, *_ = names.split()
    number = cross_reference("std", "numref", page, f"living-{name}")
    return f"{table(name)}\n\n_{number}. {' '.join(inline(page, body).split())}_"


DIRECTIVES: dict[str, Callable[[Page, str, Mapping[str, str], str], str]] = {
    "admonition": admonition,
    "dropdown": dropdown,
    "exercise": exercise,
    "figure": figure,
    "listing": listing,
    "living": living,
    "math": math,
    "pipeline": lambda page, text, options, body: "",  # needs the other pages
    "solution-start": solution,
    "solution-end": lambda page, text, options, body: "",
}

# Within a paragraph: roles and links.


def inline(page: Page, text: str) -> str:
    """Convert roles and links, put formulas on one line, and leave code alone."""

    def plain(match: re.Match[str]) -> str:
        if match["code"]:
            return match[0]
        if match["math"]:
            return " ".join(match[0].split())
        if match["target"]:
            return link(page, match)
        if match["role"] in ROLES:
            return ROLES[match["role"]](page, match["content"])
        page.warn(f"the role {{{match['role']}}} is not known")
        return match[0]

    return INLINE.sub(plain, text)


def link(page: Page, match: re.Match[str]) -> str:
    """Convert a link between pages to the notebook, with the title as default text.

    A link within a page becomes text, because viewers' anchors differ.
    """
    path, _, anchor = match["target"].partition("#")
    if re.match(r"https?:|mailto:", path):
        return match[0]
    there = docname_join(page.docname, path.removesuffix(".md"))
    docname = there if path else page.docname
    if docname not in page.env.titles:
        page.warn(f"the link to {match['target']} leads nowhere")
        return match[0]
    docname, title = heading(page, docname, anchor)
    return reference(page, docname, inline(page, match["text"]) or title)


def heading(page: Page, docname: str, anchor: str) -> tuple[str, str]:
    """Return an anchor's page and title."""
    if not anchor:
        return docname, page.env.titles[docname].astext()
    slugs = page.env.metadata[docname].get("myst_slugs", {})
    if anchor in slugs:
        return docname, slugs[anchor][2]
    labels = cast(StandardDomain, page.env.get_domain("std")).labels
    if anchor not in labels:
        page.warn(f"nothing is called #{anchor}")
    there, _, title = labels.get(anchor, (docname, "", anchor))
    return there, title


def reference(page: Page, docname: str, text: str) -> str:
    """Return a link to a page, or plain text if there is no URL."""
    address = page.get_relative_uri(page.docname, docname)
    return f"[{text}]({address})" if address and docname != page.docname else text


def glued(page: Page, name: str) -> str:
    """Return a glued value, as the page shows it."""
    if name not in page.quoted:
        page.warn(f"no cell recorded a value called {name!r}")
    return escaped(page.quoted.get(name, name))


def escaped(text: str) -> str:
    """Escape Markdown's special characters."""
    return SPECIAL.sub(r"\\\g<0>", text)


def cross_reference(domain: str, role: str, page: Page, text: str) -> str:
    """Return a cross-reference as Sphinx resolves it."""
    text = " ".join(text.split())  # a line of the source may end in it
    match = ReferenceRole.explicit_title_re.match(text)
    title, target = match.groups() if match else (text, text)
    content = nodes.inline(title, title)
    node = pending_xref(
        "", content, reftype=role, reftarget=target, refexplicit=match is not None
    )
    found = page.env.get_domain(domain).resolve_xref(
        page.env, page.docname, cast(Builder, page), role, target, node, content
    )
    if found is None:
        page.warn(f"{{{role}}} finds nothing called {target!r}")
        return text
    address = found.get("refuri", "").partition("#")[0]
    return f"[{found.astext()}]({address})" if address else found.astext()


ROLES: dict[str, Callable[[Page, str], str]] = {
    "cite:p": partial(cross_reference, "cite", "p"),
    "cite:t": partial(cross_reference, "cite", "t"),
    "doc": partial(cross_reference, "std", "doc"),
    "eq": partial(cross_reference, "math", "eq"),
    "glue:text": glued,
    "numref": partial(cross_reference, "std", "numref"),
    "ref": partial(cross_reference, "std", "ref"),
    "term": partial(cross_reference, "std", "term"),
}
