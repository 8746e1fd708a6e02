"""Check that no number in prose is typed by hand, and no timing glued.

Decimals, percentages and integers over 12 are allowed in code, formulas, roles such as
``{glue:text}``, and tables whose header names GPT-2 124M. Captions and alt texts in
cells are prose.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import yaml
from docutils import nodes
from sphinx.environment import BuildEnvironment

from execution.measured import measured
from lint.problem import Problem

LARGEST_PLAIN = 12  # "twelve layers", "3 steps"
ALLOWED = [
    r"GPT-2 124M",  # the model's name
    r"SHA-256",  # the hash's name
    r"\b32 bits\b",  # four bytes, on any machine
    r"\b(19|20)\d\d\b",  # a year
    r"(?m)^# \d\d ·",  # a page's own number
    r"\b[Cc]hapter \d\d\b",
]
HEADER = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)
FENCE = re.compile(r"^(```+|~~~+)([^`\n]*)\n((?:.*\n)*?)\1\s*$", re.MULTILINE)
CODE = re.compile(r"\{(code-cell|listing|math|eval-rst)\}|[^{]*\Z")
SETTINGS = re.compile(r"\A---\n(.*?\n)---$", re.DOTALL | re.MULTILINE)
NOT_PROSE = [
    re.compile(r"\$\$.*?\$\$", re.DOTALL),
    re.compile(r"\$[^$\n]+\$"),
    re.compile(r"\{[\w:]+\}`[^`]*`"),  # roles
    re.compile(r"(?<!`)(`+)(?!`)(?:(?!\n\n).)+?(?<!`)\1(?!`)", re.DOTALL),  # code
    re.compile(r"\]\([^)]*\)"),  # the targets of links
    re.compile(r"^\|[^\n]*GPT-2 124M[^\n]*\n(\|[^\n]*\n)*", re.MULTILINE),
    *map(re.compile, ALLOWED),
]
NUMBER = re.compile(r"(?<![\w.,])(\d[\d,]*(?:\.\d+)?)(\s?%)?")


def typed_numbers(text: str) -> Iterator[str]:
    """Yield a message for each hand-typed number in a page's prose."""
    text = without_code(HEADER.sub("", text))
    for pattern in NOT_PROSE:
        text = pattern.sub(" ", text)
    for match in NUMBER.finditer(text):
        digits, percent = match[1].rstrip(","), match[2] or ""
        whole = "." not in digits and not percent
        if not whole or int(digits.replace(",", "")) > LARGEST_PLAIN:
            around = " ".join(
                text[max(0, match.start() - 30) : match.end() + 20].split()
            )
            yield f"{digits + percent!r} is typed by hand: …{around}…"


def without_code(text: str) -> str:
    """Strip fenced blocks of code, but keep admonitions, captions and alt texts."""

    def prose(fence: re.Match[str]) -> str:
        _, kind, body = fence.groups()
        if CODE.match(kind):
            return described(body)
        return f"{kind}\n{without_code(body)}"

    return FENCE.sub(prose, text)


def described(cell: str) -> str:
    """Return the caption and alt text of a cell's figure."""
    settings = SETTINGS.match(cell)
    wishes = yaml.safe_load(settings[1]).get("mystnb", {}) if settings else {}
    alt = wishes.get("image", {}).get("alt", "")
    return f"{alt}\n{wishes.get('figure', {}).get('caption', '')}"


def quoted_measurements(doctree: nodes.document) -> Iterator[str]:
    """Yield a message for each measured cell that glues a value."""
    for cell in measured(doctree):
        if "glue(" in cell.astext():
            yield "a measured cell glues a value; prose cannot mark it as measured"


def check(env: BuildEnvironment) -> Iterator[Problem]:
    """Yield the typed numbers and glued timings of each page."""
    for page in sorted(env.found_docs):
        text = Path(env.doc2path(page)).read_text(encoding="utf-8")
        for problem in typed_numbers(text):
            yield Problem(problem, page)
        for problem in quoted_measurements(env.get_doctree(page)):
            yield Problem(problem, page)
