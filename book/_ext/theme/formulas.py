"""Write formulas as MathML, which browsers draw by themselves.

docutils translates the LaTeX. What it leaves out, and TeX does, is added: space around
the names of functions, none around a slash, and signs that stand before a number.
"""

import re
from typing import Any
from xml.etree import ElementTree

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number
from sphinx.writers.html5 import HTML5Translator

logger = logging.getLogger(__name__)

APPLY = "\u2061"  # between a function and its argument; it isn't seen
NOT_XML = {
    ' xmlns="http://www.w3.org/1998/Math/MathML"': "",  # not needed in HTML
    "&ApplyFunction;": APPLY,
}
ALIASES = {r"\dots": r"\ldots"}  # LaTeX that docutils doesn't know
ROWS = ("math", "mrow", "mtd", "msqrt")
THIN = {"width": "0.167em"}
CLOSING = {")", "]", "}", "|", "‖", "!"}
OPENING_END = re.compile(r"[(\[“‘\"']+\Z")
PUNCTUATION = re.compile(r"\A[.,;:?!)\]”’\"'–-]+")
SIGNS = {"−", "-", "+", "±"}


class KeepTogether(SphinxPostTransform):
    """Let no line begin with the punctuation after a formula, or end with a bracket.

    A browser may break the line on both sides of a formula.
    """

    default_priority = 900  # after all that writes text

    def run(self, **settings: Any) -> None:
        """Put each formula in one unbreakable node with what touches it."""
        for formula in list(self.document.findall(nodes.math)):
            row, place = formula.parent, formula.parent.index(formula)
            around = row[max(place - 1, 0) : place + 2]
            before = text_of(around[0], OPENING_END) if place else ""
            after = text_of(around[-1], PUNCTUATION)
            if before or after:
                kept = nodes.inline(classes=["nobreak"])
                row[place] = kept
                kept += [nodes.Text(before), formula, nodes.Text(after)]
            if after:
                row[place + 1] = nodes.Text(around[-1].astext()[len(after) :])
            if before:
                row[place - 1] = nodes.Text(around[0].astext()[: -len(before)])


def text_of(node: nodes.Node, pattern: re.Pattern[str]) -> str:
    """Return what a pattern finds in a text, or "" in any other node."""
    found = pattern.search(node) if isinstance(node, nodes.Text) else None
    return found[0] if found else ""


def inline(writer: HTML5Translator, node: nodes.math) -> None:
    """Write a formula in a line of text."""
    writer.body.append(f'<span class="math">{mathml(node)}</span>')
    raise nodes.SkipNode


def block(writer: HTML5Translator, node: nodes.math_block) -> None:
    """Write a formula of its own line, with its number."""
    writer.body.append(writer.starttag(node, "div", CLASS="math"))
    if node["number"]:
        number = get_node_equation_number(writer, node)
        writer.body.append(f'<span class="eqno">({number})')
        writer.add_permalink_ref(node, "Link to this equation")
        writer.body.append("</span>")
    writer.body.append(f"{mathml(node, block=True)}</div>\n")
    raise nodes.SkipNode


def mathml(node: nodes.Element, block: bool = False) -> str:
    """Return a formula as MathML; warn, which fails the build, of one that isn't known.

    Several rows are aligned at their ``&``.
    """
    latex = node.astext().strip()
    if latex.startswith(("^", "_")):
        latex = f"{{}}{latex}"  # docutils wants a base
    for name, alias in ALIASES.items():
        latex = latex.replace(name, alias)
    try:
        text = tex2mathml(latex, as_block=block)
    except (MathError, IndexError) as error:
        logger.warning("the formula %s: %s", latex, error, location=node)
        return ""
    for written, wanted in NOT_XML.items():
        text = text.replace(written, wanted)
    tree = ElementTree.fromstring(text)
    for row in list(tree.iter()):
        row.tail = None
        if len(row):
            row.text = None
            set_spaces(row)
    return ElementTree.tostring(tree, encoding="unicode")


def set_spaces(row: ElementTree.Element) -> None:
    """Set the spaces in a row of a formula."""
    before = None
    for node in list(row):
        if node.tag == "mo" and node.text == "/":
            node.attrib.update(lspace="0", rspace="0")
        elif node.tag == "mo" and node.text in SIGNS and opens(before):
            node.set("form", "prefix")
        elif row.tag in ROWS and before is not None and apart(before, node):
            row.insert(list(row).index(node), ElementTree.Element("mspace", THIN))
        if node.text != APPLY:
            before = node


def opens(before: ElementTree.Element | None) -> bool:
    """Return whether a sign after this belongs to what follows it."""
    return before is None or (before.tag == "mo" and before.text not in CLOSING)


def apart(before: ElementTree.Element, node: ElementTree.Element) -> bool:
    """Return whether one of two neighbors is a function's name, none an operator."""
    named = is_name(before) or is_name(node)
    return named and not {before.tag, node.tag} & {"mo", "mspace"}


def is_name(node: ElementTree.Element) -> bool:
    """Return whether this is the name of a function, perhaps with an index."""
    if node.tag in ("msub", "msup"):
        return is_name(node[0])
    return node.tag == "mi" and len(node.text or "") > 1
