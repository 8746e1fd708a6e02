"""Read a regular expression in Python's notation.

What a class such as ``[^"]`` or ``\\w`` stands for, Python's own ``re`` is asked; only
the structure is parsed here: alternatives, groups, and repetition.
"""

import re
from collections.abc import Iterator
from functools import cache, lru_cache

from hardway.decoding.expressions import (
    Expression,
    characters,
    either,
    literal,
    repeat,
    then,
)
from hardway.decoding.refusals import check_pattern, unsupported

TOKEN = re.compile(
    r"""(?P<open>\((?:\?:|\?P<\w+>)?) | (?P<close>\)) | (?P<bar>\|)
    | (?P<quantifier>(?:[*+?] | \{(?=[\d,])\d*(?:,\d*)?\})[?+]?)
    | (?P<set>\[\^?\]?(?:\\.|[^\]\\])*\])
    | (?P<escape>\\(?:x..|u.{4}|U.{8}|N\{[^}]*\}|0[0-7]{0,2}|.))
    | (?P<special>[.^$]) | (?P<character>.)""",
    re.VERBOSE | re.DOTALL,
)


def parse(pattern: str) -> Expression:
    """Return the expression for the texts that a pattern matches as a whole.

    Raises `ValueError` for what isn't a pattern, and for what describes more than a set
    of texts: lookaround, references to groups, flags, and anchors but at the ends.
    """
    tokens = [(t.lastgroup or "", t[0]) for t in TOKEN.finditer(check_pattern(pattern))]
    if tokens[:1] == [("special", "^")]:
        del tokens[0]
    if tokens[-1:] == [("special", "$")]:
        del tokens[-1]
    return _alternatives(iter([*tokens, ("close", "")]))


def _alternatives(tokens: Iterator[tuple[str, str]]) -> Expression:
    """Read up to the parenthesis that closes this group."""
    options: list[Expression] = []
    parts: list[Expression] = []
    for kind, text in tokens:
        if kind == "quantifier":
            if not parts:  # as in (?=, which the quantifier ? seems to follow
                raise unsupported("pattern", f"({text}")
            parts.append(repeat(parts.pop(), *bounds(text)))
        elif kind == "open":
            parts.append(_alternatives(tokens))
        elif kind in ("bar", "close"):
            options.append(then(*parts))
            parts = []
            if kind == "close":
                break
        else:
            parts.append(atom(kind, text))
    return either(*options)


def bounds(quantifier: str) -> tuple[int, int | None]:
    """Return how often at least, and at most, a quantifier repeats.

    A lazy one matches the same texts.

    >>> bounds("*"), bounds("+?"), bounds("{3}"), bounds("{,5}")
    ((0, None), (1, None), (3, 3), (0, 5))
    """
    text = quantifier[:-1] if quantifier[1:] and quantifier[-1] in "?+" else quantifier
    if quantifier != text and quantifier[-1] == "+":
        raise unsupported("pattern", quantifier)
    if text in "*+?":
        return int(text == "+"), 1 if text == "?" else None
    low, comma, high = text[1:-1].partition(",")
    last = high if comma else low
    return int(low or 0), int(last) if last else None


def atom(kind: str, text: str) -> Expression:
    """Match the characters that one atom of a pattern stands for."""
    if kind == "character" or (kind == "escape" and not text[1].isalnum()):
        return literal(text[-1])
    if text in ("^", "$") or re.fullmatch(r"\\[AZzbB1-9]", text):
        raise unsupported("pattern", text)
    return characters(code_points(text))


@lru_cache(maxsize=128)
def code_points(atom: str) -> list[tuple[int, int]]:
    """Return the ranges of code points that an atom of a pattern matches.

    >>> code_points("[a-cx]")
    [(97, 99), (120, 120)]
    """
    runs = re.compile(f"(?:{atom})+")
    return [
        (first + run.start(), first + run.end() - 1)
        for first, text in _all_characters()
        for run in runs.finditer(text)
    ]


@cache
def _all_characters() -> list[tuple[int, str]]:
    """Return every character there is, before the surrogates and after them."""
    return [
        (first, "".join(map(chr, range(first, end))))
        for first, end in ((0, 0xD800), (0xE000, 0x110000))
    ]
