"""Expressions, derivatives and patterns, against Python's own ``re``."""

import re
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hardway.decoding.expressions import (
    EMPTY,
    NOTHING,
    Expression,
    byte_sequences,
    byte_sets,
    characters,
    derivative,
    either,
    literal,
    repeat,
    restrict,
    shortest,
    then,
)
from hardway.decoding.pattern import code_points, parse
from refusals import refuses

ATOMS = [
    "a", "b", "é", "🦊", ".", "[ab]", "[^a]", "[^a\\n]", "[]b]", "[\\]é-🦊]", "\\d",
    "\\w", "\\S", "\\W", "\\.", "\\x61", "\\u00e9", "\\n", "-", "\\-", "}", " ", "\\0",
]  # fmt: skip
QUANTIFIERS = ["*", "+", "?", "{2}", "{1,2}", "{,2}", "{0}", "{2,}", "*?", "{1,3}?"]
PATTERNS = st.recursive(
    st.sampled_from(ATOMS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map("".join),
        st.lists(inner, min_size=1, max_size=3).map(lambda x: f"(?:{'|'.join(x)})"),
        st.tuples(inner, st.sampled_from(QUANTIFIERS)).map(lambda x: f"({x[0]}){x[1]}"),
    ),
    max_leaves=8,
)
TEXTS = st.text("abé🦊1. \n-]", max_size=6)


def after(expression: Expression, data: bytes) -> Expression:
    for byte in data:
        expression = derivative(expression, byte)
    return expression


def matches(expression: Expression, text: str) -> bool:
    rest = after(expression, text.encode())
    return rest != NOTHING and shortest(rest) == 0


@given(pattern=PATTERNS, texts=st.lists(TEXTS, min_size=5, max_size=10))
@example(pattern="(a*)*b|(a|ab)(b|)", texts=["ab", "abb", "b", "aaab", ""])
@example(pattern="(a?){2,3}b", texts=["b", "ab", "aab", "aaab", "aaaab"])
@example(pattern="^(a|)+$", texts=["", "a", "aa", "b", "\n"])
@example(pattern="", texts=["", "a", "b", "c", "d"])
@example(pattern="a|", texts=["", "a", "b", "aa", "|"])
@example(pattern="x{,y}{z{}", texts=["x{,y}{z{}", "x", "", "y", "z"])
def test_a_pattern_matches_what_re_matches(pattern: str, texts: list[str]) -> None:
    expression = parse(pattern)
    for text in texts:
        assert matches(expression, text) == bool(re.fullmatch(pattern, text))


@given(pattern=PATTERNS)
@settings(max_examples=40)
def test_a_live_state_can_be_completed(pattern: str) -> None:
    """In as few bytes as `shortest` says, and by `re`'s judgment."""
    expression, data = parse(pattern), bytearray()
    assert expression != NOTHING
    while n := shortest(expression):
        nexts = [(derivative(expression, byte), byte) for byte in range(256)]
        live = [(rest, byte) for rest, byte in nexts if rest != NOTHING]
        assert all(shortest(rest) >= n - 1 for rest, _ in live)
        expression, byte = next(x for x in live if shortest(x[0]) == n - 1)
        data.append(byte)
    assert re.fullmatch(pattern, data.decode())


@given(
    low=st.integers(0, 0x10FFFF),
    high=st.integers(0, 0x10FFFF),
    others=st.lists(st.characters(), max_size=5),
)
@example(low=0, high=0xD7FF, others=["\x7f", "\x80", "\u07ff", "\u0800"])
@example(low=0xE000, high=0x10FFFF, others=["\uffff", "\U00010000"])
@example(low=0x7F, high=0x80, others=[])
def test_a_range_of_code_points_is_its_utf_8(
    low: int, high: int, others: list[str]
) -> None:
    if low > high:
        low, high = high, low
    if low < 0xE000 and high > 0xD7FF:
        return  # surrogates are in between
    expression = characters([(low, high)])
    near = {low, high, low - 1, high + 1, (low + high) // 2, *map(ord, others)}
    for point in near:
        if 0 <= point < 0x110000 and not 0xD800 <= point < 0xE000:
            assert matches(expression, chr(point)) == (low <= point <= high)


def test_all_characters_are_the_ten_rows_of_the_standard() -> None:
    """Well-formed byte sequences: table 3-7 of the Unicode standard, regrouped."""
    every = [
        seq for ends in ((0, 0xD7FF), (0xE000, 0x10FFFF))
        for seq in byte_sequences(*ends)
    ]  # fmt: skip
    rows = sorted(tuple((min(s), max(s)) for s in seq) for seq in every)
    tail = (0x80, 0xBF)
    assert rows == [
        ((0x00, 0x7F),),
        ((0xC2, 0xDF), tail),
        ((0xE0, 0xE0), (0xA0, 0xBF), tail),
        ((0xE1, 0xEC), tail, tail),
        ((0xED, 0xED), (0x80, 0x9F), tail),
        ((0xEE, 0xEF), tail, tail),
        ((0xF0, 0xF0), (0x90, 0xBF), tail, tail),
        ((0xF1, 0xF3), tail, tail, tail),
        ((0xF4, 0xF4), (0x80, 0x8F), tail, tail),
    ]


@pytest.mark.parametrize("atom", ["\\w", "[^a-f]", ".", "[à-ÿ🦊]"])
def test_code_points_are_what_re_says_of_each_character(atom: str) -> None:
    inside = {p for low, high in code_points(atom) for p in range(low, high + 1)}
    for point in [*range(0x3000), *range(0x1F900, 0x1FA00), 0xFFFF, 0x10FFFF]:
        assert (point in inside) == bool(re.fullmatch(atom, chr(point)))


def test_equal_languages_are_often_equal_values() -> None:
    a, b = literal("a"), literal("b")
    assert either(a, b) == either(b, a, NOTHING) == either(either(a), b)
    assert then(then(a, b), a) == then(a, then(b, a), EMPTY)
    assert then(a, NOTHING) == NOTHING == either()
    assert repeat(repeat(a)) == repeat(a) == derivative(repeat(a), ord("a"))
    assert repeat(NOTHING) == EMPTY == repeat(a, 0, 0)
    assert repeat(NOTHING, 1) == NOTHING
    states = {after(parse("(a|b)*abb"), text.encode()) for text in ("", "a", "ab", "b")}
    assert len(states) == 3  # as in the textbook


def test_a_repetition_takes_no_room_for_its_bound() -> None:
    many = parse("a{1000000}")
    assert shortest(many) == 1_000_000
    assert shortest(derivative(many, ord("a"))) == 999_999


def test_bytes_can_be_taken_out() -> None:
    expression = parse("[ab]c|b*d|é{2}|xb")
    rest = restrict(expression, [ord("b"), 0xA9])
    assert [matches(rest, t) for t in ("ac", "bc", "d", "bd", "éé", "xb")] == [
        True, False, True, False, False, False,
    ]  # fmt: skip
    assert restrict(parse("é"), [0xC3]) == NOTHING
    assert byte_sets(parse("[ab]c*|(?:d)")) == {
        frozenset(b"ab"), frozenset(b"c"), frozenset(b"d")
    }  # fmt: skip


@pytest.mark.parametrize(
    "pattern",
    [
        "a(?=b)", "(?!a)", "(?<=a)b", "(a)\\1", "(?P<n>a)(?P=n)", "(?i)a", "(?i:a)",
        "a\\b", "\\Ba", "a$b", "(a$)|b", "a^", "\\Aa", "a\\Z", "a*+", "(?>a)", "(?#x)",
        "(a)(?(1)b)", "a{2}+",
    ],
)  # fmt: skip
def test_what_is_more_than_a_set_of_texts_is_refused(pattern: str) -> None:
    re.compile(pattern)
    with refuses("pattern"):
        parse(pattern)


@pytest.mark.parametrize(
    "pattern", ["(", "a)", "[", "*", "a{2,1}", "\\", "(?P<1>a)", 5, None, "\ud800"]
)  # fmt: skip
def test_what_is_no_pattern_is_refused(pattern: Any) -> None:
    for value in (pattern, "a" * 4_001, "(" * 1900 + ")" * 1900):
        with refuses("pattern"):
            parse(value)
