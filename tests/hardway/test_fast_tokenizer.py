"""The fast tokenizer against the taught one, which is its reference."""

import re
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import regex
from hypothesis import example, given
from hypothesis import strategies as st

import hardway
from hardway.fast.tokenizer import (
    BLANK,
    CACHED_WORDS,
    LONG_WORD,
    FastTokenizer,
    IdCache,
    IdMerger,
    split_stretches,
)
from hardway.hub import POCKET
from hardway.tokenizer import Tokenizer, merge_naive, split_words

# Of each kind that the two patterns tell apart, in ASCII and beyond it.
KINDS = "aZ09'!_ \n\t\r\x00\x0b\x1c\x1f\x7f\x85\xa0\u2028é²½٣中’\u200b🤗\u0378"
PARTS = ["'s", "'ll", "'LL", "don't", "don’t", " the", "café", "  ", "\r\n", "\xa0\n"]
TEXT = st.one_of(
    st.text(st.sampled_from(KINDS)),
    st.lists(st.sampled_from(PARTS)).map("".join),
    st.text(st.characters(exclude_categories=["Cs"])),
)
ABC = st.text(st.sampled_from("abc"), min_size=1, max_size=3).map(str.encode)


def words_of(stretches: list[str]) -> Iterator[str]:
    for stretch in stretches:
        yield from [stretch] if stretch.isascii() else split_words(stretch)


# --- cutting ---


@given(text=TEXT)
@example(text="a\xa0  b \xa0c\xa0 \n d")
@example(text="!\x1c\x1c a\x1c \x1c\n\x1d b")
@example(text="caf caf1 café1 1é 1² !é '’s 's’ 'sé")
def test_the_stretches_are_cut_into_the_same_words(text: str) -> None:
    assert list(words_of(split_stretches(text))) == split_words(text)


def test_characters_are_cut_alike() -> None:
    """On either side of others: all that come before the last blank, and some more."""
    characters = map(chr, [*range(0x3100), *range(0x3100, sys.maxunicode, 61)])
    for c in characters:
        text = f"a{c} 1{c} .{c} {c}a {c}1 {c}. {c}  {c}\n{c}"
        assert list(words_of(split_stretches(text))) == split_words(text)


def test_blanks_are_the_same_to_re_and_regex() -> None:
    text = "".join(map(chr, range(sys.maxunicode + 1)))
    assert re.findall(BLANK, text) == regex.findall(r"\s", text)


def test_english_is_cut_by_re_alone() -> None:
    text = "We'll see 2 cats, won't we?\n\n  (No!)\tYes: 1,234.50 -- x_1 = [y]"
    assert split_stretches(text) == split_words(text)


# --- merging ---


@pytest.fixture(scope="module")
def merger(tokenizer: Tokenizer) -> IdMerger:
    return IdMerger(tokenizer.ids, tokenizer.ranks)


@given(word=st.one_of(st.binary(max_size=80), TEXT.map(str.encode)))
@example(word=b"")
@example(word=b"-" * 93)
@example(word=b"abab" * 20)
def test_ids_are_merged_as_pieces_are(
    word: bytes, merger: IdMerger, tokenizer: Tokenizer
) -> None:
    pieces = merge_naive(word, tokenizer.ranks)
    assert merger.merge(word) == [tokenizer.ids[piece] for piece in pieces]


def test_each_token_is_merged_to_its_id(merger: IdMerger, tokenizer: Tokenizer) -> None:
    for piece, id in tokenizer.ids.items():
        assert merger.merge(piece) == [id]


@given(
    word=st.text(st.sampled_from("abc"), max_size=30).map(str.encode),
    pairs=st.lists(st.tuples(ABC, ABC), unique=True),
)
@example(word=b"abab", pairs=[(b"ab", b"a"), (b"a", b"b")])
@example(word=b"aaaaa", pairs=[(b"a", b"a"), (b"aa", b"aa")])
@example(word=b"xabc", pairs=[(b"b", b"c"), (b"a", b"bc"), (b"ab", b"c")])
def test_ids_are_merged_as_pieces_are_under_any_ranks(
    word: bytes, pairs: list[tuple[bytes, bytes]]
) -> None:
    """Even if a pair comes before those that make its pieces, or if two make one."""
    ranks = {pair: rank for rank, pair in enumerate(pairs)}
    pieces = [bytes([byte]) for byte in range(256)] + [a + b for a, b in pairs]
    ids = {piece: 1000 - place for place, piece in enumerate(dict.fromkeys(pieces))}
    found = IdMerger(ids, ranks).merge(word)
    assert found == [ids[piece] for piece in merge_naive(word, ranks)]


# --- remembering ---


def test_the_cache_is_bounded() -> None:
    asked: list[str] = []

    def encode(key: str) -> list[int]:
        asked.append(key)
        return [0] * (9 if key == "many" else 1)

    cache = IdCache(encode, too_long=5, limit=3)
    keys = ["a", "b", "a", "longer", "longer", "many", "many", "c", "a", "d", "a"]
    sizes = []
    for key in keys:
        assert cache[key] == encode(key)
        asked.pop()
        sizes.append(len(cache))
    assert asked == ["a", "b", *["longer"] * 2, *["many"] * 2, "c", "d", "a"]
    assert sizes == [1, 2, 2, 2, 2, 2, 2, 3, 3, 1, 2]
    assert cache.__missing__("e") == [0]
    assert "e" in cache


def test_words_are_cached_within_bounds() -> None:
    """A long word must not fill the memory; the same short one is merged once."""
    tokenizer = FastTokenizer.from_pretrained(POCKET)
    cache = tokenizer._cache
    assert cache.limit == CACHED_WORDS
    tokenizer.encode("b" * LONG_WORD + "中" * 50)
    assert not cache
    for _ in range(2):
        tokenizer.encode("hello hello, don’t")
        assert cache.keys() == {"hello", " hello", ",", " don’t", " don", "’", "t"}
    known = cache["hello"]
    tokenizer.encode("hello").append(0)
    assert tokenizer.encode("hello") == known == [31373]


@pytest.mark.slow
def test_threads_may_share_a_tokenizer() -> None:
    """With a cache so small that each empties it under the other all the time."""
    tokenizer = FastTokenizer.from_pretrained(POCKET)
    texts = [f" w{n} don’t x{n % 7} café{n % 5}, y" * 3 for n in range(300)]
    expected = [tokenizer.encode(text) for text in texts]
    tokenizer._cache.limit = 4
    tokenizer._cache.clear()
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(tokenizer.encode, texts * 4))
    finally:
        sys.setswitchinterval(before)
    assert found == expected * 4
    assert len(tokenizer._cache) < 4 + 4


# --- whole ---


@pytest.fixture(scope="module")
def fast() -> FastTokenizer:
    return hardway.load_tokenizer("pocket")


@given(text=TEXT)
@example(text="")
@example(text="<|endoftext|>a<|endoftext|>")
@example(text="a" * LONG_WORD + "é" * LONG_WORD + " a")
def test_any_text_is_encoded_as_the_taught_tokenizer_does(
    text: str, fast: FastTokenizer, tokenizer: Tokenizer
) -> None:
    assert fast.encode(text) == tokenizer.encode(text)
    special = fast.encode(text, allowed_special="all")
    assert special == tokenizer.encode(text, allowed_special="all")
    assert fast.decode(special) == text


@pytest.mark.slow
def test_each_loads_its_own_kind() -> None:
    assert type(hardway.load_tokenizer()) is FastTokenizer
    assert type(hardway.load_tokenizer(POCKET)) is FastTokenizer
    assert type(Tokenizer.from_pretrained()) is Tokenizer
    with pytest.raises(FileNotFoundError, match="no/such"):
        hardway.load_tokenizer("no/such")
