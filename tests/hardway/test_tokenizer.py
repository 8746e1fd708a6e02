"""The tokenizer against tiktoken, Hugging Face's tokenizers, and published ids."""

import json
import random
import sys
import time
import unicodedata
from collections import deque
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import tiktoken
from hypothesis import example, given
from hypothesis import strategies as st
from tiktoken.load import data_gym_to_mergeable_bpe_ranks
from tokenizers import ByteLevelBPETokenizer

import hardway
from hardway.fast.tokenizer import LONG_WORD, FastTokenizer
from hardway.hub import POCKET
from hardway.tokenizer import (
    END_OF_TEXT,
    Tokenizer,
    byte_alphabet,
    display,
    merge_heap,
    merge_naive,
    merge_pair,
    merge_steps,
    spelled_bytes,
    split_words,
)
from refusals import refuses, refuses_file
from texts import MULTILINGUAL, TEXT

# GPT-2's pattern as OpenAI published it with the model.
PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
END_OF_TEXT_PLAIN = [27, 91, 437, 1659, 5239, 91, 29]

GOLDEN = {
    "Hello": [15496],
    "tokenization": [30001, 1634],
    "hello world": [31373, 995],
    "hello how are you?": [31373, 703, 389, 345, 30],
    "0" * 16: [25645],
    "0" * 17: [8269, 10535, 830],
    "Hello!! I'm Andrej Karpathy. It's 2022. w00t :D 🤗": [
        15496, 3228, 314, 1101, 10948, 73, 509, 5117, 10036, 13, 632, 338, 33160, 13,
        266, 405, 83, 1058, 35, 12520, 97, 245,
    ],
    "asdf asdfasdf a!!, @aba 9asdf90asdfk": [
        292, 7568, 355, 7568, 292, 7568, 257, 3228, 11, 2488, 15498, 860, 292, 7568,
        3829, 292, 7568, 74,
    ],
    "The dog": [464, 3290],
    "San Francisco is": [15017, 6033, 318],
    "Cars are": [34, 945, 389],
    "Ondřej Čertík was born in": [
        46, 358, 129, 247, 68, 73, 34754, 234, 861, 8836, 74, 373, 4642, 287,
    ],
    "": [],
}  # fmt: skip


KINDS = [Tokenizer, FastTokenizer]


@pytest.fixture(scope="module", params=KINDS, ids=["taught", "fast"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    """Both, for each is all that the other is."""
    kind: type[Tokenizer] = request.param
    return kind.from_pretrained("pocket")


@pytest.fixture(scope="module")
def reference() -> tiktoken.Encoding:
    """tiktoken's GPT-2, built from the local files: no network, no cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIKTOKEN_CACHE_DIR", "")
        ranks = data_gym_to_mergeable_bpe_ranks(
            str(POCKET / "merges.txt"), str(POCKET / "vocab.json")
        )
    return tiktoken.Encoding(
        "gpt2",
        pat_str=PATTERN,
        mergeable_ranks=ranks,
        special_tokens={END_OF_TEXT: 50256},
    )


@pytest.fixture(scope="module")
def hugging_face() -> ByteLevelBPETokenizer:
    return ByteLevelBPETokenizer.from_file(
        str(POCKET / "vocab.json"), str(POCKET / "merges.txt")
    )


def taught(text: str, tokenizer: Tokenizer) -> list[int]:
    """Encode in the plainest steps, with none of the quick ones."""
    words = [word.encode() for word in split_words(text)]
    pieces = [piece for word in words for piece in merge_naive(word, tokenizer.ranks)]
    return [tokenizer.ids[piece] for piece in pieces]


# --- ids ---


@pytest.mark.parametrize(("text", "ids"), GOLDEN.items())
def test_published_ids(tokenizer: Tokenizer, text: str, ids: list[int]) -> None:
    assert tokenizer.encode(text) == taught(text, tokenizer) == ids
    assert tokenizer.decode(ids) == text


@given(text=TEXT)
@example(text="'s't're've'm'll'd'S'LL don’t")
@example(text=" \x1c a\x85b\xa0\xa0c \u2028 \u3000d ")
@example(text="a" * (LONG_WORD - 1) + " " + "a" * (LONG_WORD - 1) + "é" * LONG_WORD)
def test_case_33_any_text_as_tiktoken_and_tokenizers(
    text: str,
    tokenizer: Tokenizer,
    reference: tiktoken.Encoding,
    hugging_face: ByteLevelBPETokenizer,
) -> None:
    ids = tokenizer.encode(text)
    assert ids == reference.encode_ordinary(text)
    assert ids == hugging_face.encode(text).ids
    assert ids == taught(text, tokenizer)
    assert tokenizer.decode(ids) == text


@given(raw=st.binary(max_size=80))
@example(raw=b"\x80" * 200)
@example(raw=b" \xec\x8b\xa4\xed")
@example(raw=bytes(range(256)))
def test_case_33_any_bytes(
    raw: bytes, tokenizer: Tokenizer, reference: tiktoken.Encoding
) -> None:
    """Any bytes can be spelled in tokens, text or not, and come back as they were."""
    ids = [tokenizer.ids[piece] for piece in merge_heap(raw, tokenizer.ranks)]
    assert tokenizer.decode_bytes(ids) == raw == reference.decode_bytes(ids)
    assert tokenizer.decode(ids) == raw.decode("utf-8", errors="replace")
    assert b"".join(tokenizer.decode_bytes([id]) for id in ids) == raw


@pytest.mark.slow
def test_case_33_each_token_is_its_own_encoding(tokenizer: Tokenizer) -> None:
    for id, piece in tokenizer.pieces.items():
        if id != tokenizer.eot_id:
            assert merge_heap(piece, tokenizer.ranks) == [piece]


def test_multilingual_sample(
    tokenizer: Tokenizer,
    reference: tiktoken.Encoding,
    hugging_face: ByteLevelBPETokenizer,
) -> None:
    ids = tokenizer.encode(MULTILINGUAL)
    assert (
        ids
        == reference.encode_ordinary(MULTILINGUAL)
        == hugging_face.encode(MULTILINGUAL).ids
    )
    assert tokenizer.decode(ids) == MULTILINGUAL


@pytest.mark.slow
def test_every_assigned_character(
    tokenizer: Tokenizer, reference: tiktoken.Encoding
) -> None:
    """Beside a letter, a digit, a sign and spaces, so that its class shows."""
    characters = [
        character
        for character in map(chr, range(sys.maxunicode + 1))
        if unicodedata.category(character) not in ("Cn", "Cs", "Co")
    ]
    assert len(characters) > 140_000
    for start in range(0, len(characters), 1000):
        text = "".join(
            f"a{c}1{c}.{c} {c}  {c}" for c in characters[start : start + 1000]
        )
        assert tokenizer.encode(text) == reference.encode_ordinary(text)


# --- no text is slow ---


LETTERS = "".join(random.Random(0).choices("abcdefghijklmnopqrstuvwxyz", k=1_000_000))


@pytest.mark.slow
@pytest.mark.parametrize("text", ["a" * 100_000, LETTERS[:200_000]], ids=["a", "a-z"])
def test_case_34_a_long_word_is_not_slow(
    tokenizer: Tokenizer, reference: tiktoken.Encoding, text: str
) -> None:
    """Two seconds; minutes, if the time grew with the square. So a minute tells them
    apart on any machine.
    """
    start = time.process_time()
    ids = tokenizer.encode(text)
    assert time.process_time() - start < 60
    assert ids == reference.encode_ordinary(text)


class Rationed(dict[tuple[bytes, bytes], int]):
    """The ranks of pairs, which can be asked for so many times and no more."""

    def __init__(self, ranks: dict[tuple[bytes, bytes], int], times: int) -> None:
        super().__init__(ranks)
        self.times = times

    def __contains__(self, pair: object) -> bool:
        self.spend()
        return super().__contains__(pair)

    def __getitem__(self, pair: tuple[bytes, bytes]) -> int:
        self.spend()
        return super().__getitem__(pair)

    def get(self, pair: tuple[bytes, bytes], default: Any = None) -> Any:
        self.spend()
        return super().get(pair, default)

    def spend(self) -> None:
        self.times -= 1
        assert self.times >= 0, "merging asks for more pairs than a heap has to"


@pytest.mark.slow
@pytest.mark.parametrize("text", ["-" * 1_000_000, LETTERS], ids=["dashes", "a-z"])
def test_case_34_a_million_characters_ask_for_few_pairs(
    tokenizer: Tokenizer,
    reference: tiktoken.Encoding,
    monkeypatch: pytest.MonkeyPatch,
    text: str,
) -> None:
    """A word as long as the text: a pair is asked for twice where it first stands.

    Each merge, of which a word has fewer than it has letters, makes two pairs more.
    The fast tokenizer leaves such words to the same heap, so fewer letters tell.
    """
    if isinstance(tokenizer, FastTokenizer):
        text = text[:100_000]
    ranks = Rationed(tokenizer.ranks, 6 * len(text))
    monkeypatch.setattr(tokenizer, "ranks", ranks)
    assert tokenizer.encode(text) == reference.encode_ordinary(text)
    assert ranks.times < 6 * len(text), "the ration was not asked for"


def test_case_34_all_pairs_for_each_merge_are_more_than_the_ration(
    tokenizer: Tokenizer,
) -> None:
    word = LETTERS[:1000].encode()
    with pytest.raises(AssertionError, match="asks for more"):
        merge_naive(word, Rationed(tokenizer.ranks, 6 * len(word)))


REPEATED = ["^", "0", "a", "'s", " ", "\n"]


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["", "\n"])
@pytest.mark.parametrize("prefix", ["", " "])
@pytest.mark.parametrize("unit", REPEATED)
def test_case_34_repetition(
    tokenizer: Tokenizer,
    reference: tiktoken.Encoding,
    unit: str,
    prefix: str,
    suffix: str,
) -> None:
    text = prefix + unit * 10_000 + suffix
    ids = tokenizer.encode(text)
    assert ids == reference.encode_ordinary(text)
    assert tokenizer.decode(ids) == text


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    [
        "-" * 32_768,
        "_" * 50_000,
        "".join(random.Random(0).choices("abcdefghijklmnopqrstuvwxyz", k=100_000)),
        "中" * 10_000,
    ],
    ids=["dashes", "underscores", "random letters", "Chinese"],
)
def test_case_34_long_words(
    tokenizer: Tokenizer, reference: tiktoken.Encoding, text: str
) -> None:
    assert tokenizer.encode(text) == reference.encode_ordinary(text)


# --- merging ---


@given(
    word=st.one_of(
        st.binary(min_size=1, max_size=80), TEXT.map(str.encode).filter(bool)
    )
)
@example(word=b"a" * 200)
@example(word=b"abab" * 40)
def test_naive_heap_and_traced_merges_agree(word: bytes, tokenizer: Tokenizer) -> None:
    pieces = merge_heap(word, tokenizer.ranks)
    assert pieces == merge_naive(word, tokenizer.ranks)
    steps = list(merge_steps(word, tokenizer.ranks))
    assert pieces == steps[-1][1]
    assert b"".join(pieces) == word
    assert all(piece in tokenizer.ids for piece in pieces)


@given(
    word=st.text(st.sampled_from("abc"), max_size=30).map(str.encode),
    pairs=st.lists(
        st.tuples(*[st.text(st.sampled_from("abc"), min_size=1, max_size=3)] * 2)
    ),
)
@example(word=b"abcabca", pairs=[("b", "c"), ("abc", "a"), ("a", "bc")])
@example(word=b"aaaaa", pairs=[("aa", "a"), ("a", "a")])
def test_merges_agree_under_any_ranks(
    word: bytes, pairs: list[tuple[str, str]]
) -> None:
    """Even if a pair comes before those that make its pieces, or if two make one."""
    ranks = {(a.encode(), b.encode()): rank for rank, (a, b) in enumerate(pairs)}
    assert merge_heap(word, ranks) == merge_naive(word, ranks)


def test_each_step_merges_the_lowest_ranked_pair_everywhere(
    tokenizer: Tokenizer,
) -> None:
    steps = deque(merge_steps(b"tokenization", tokenizer.ranks))
    pair, pieces = steps.popleft()
    assert pair is None
    assert pieces == [bytes([byte]) for byte in b"tokenization"]
    for pair, merged in steps:
        present = [p for p in pairwise(pieces) if p in tokenizer.ranks]
        assert pair == min(present, key=tokenizer.ranks.__getitem__)
        assert merged == merge_pair(pieces, pair)
        pieces = merged
    assert pieces == [b"token", b"ization"]


def test_merge_pair_goes_from_left_to_right() -> None:
    assert merge_pair([b"a"] * 5, (b"a", b"a")) == [b"aa", b"aa", b"a"]
    assert merge_pair([], (b"a", b"b")) == []


@given(text=TEXT)
def test_words_join_to_the_text(text: str) -> None:
    assert "".join(split_words(text)) == text


@given(raw=st.binary(max_size=20))
def test_a_spelling_stands_for_its_bytes(raw: bytes) -> None:
    assert spelled_bytes("".join(map(byte_alphabet().__getitem__, raw))) == raw


def test_the_byte_alphabet_is_a_bijection_onto_printable_characters() -> None:
    alphabet = byte_alphabet()
    assert sorted(alphabet) == list(range(256))
    assert len(set(alphabet.values())) == 256
    assert all(c.isprintable() and not c.isspace() for c in alphabet.values())


# --- special tokens ---


def test_sizes(tokenizer: Tokenizer) -> None:
    assert (tokenizer.n_vocab, tokenizer.eot_id) == (50257, 50256)
    assert tokenizer.decode([50256]) == END_OF_TEXT
    assert len(tokenizer.ranks) == 50000


def test_case_36_a_special_token_in_text_is_plain_text(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode(END_OF_TEXT) == END_OF_TEXT_PLAIN
    assert tokenizer.encode(END_OF_TEXT, allowed_special=set()) == END_OF_TEXT_PLAIN


@pytest.mark.parametrize(
    "allowed", ["all", {END_OF_TEXT}, [END_OF_TEXT], frozenset({END_OF_TEXT})]
)
def test_case_36_a_special_token_where_it_is_allowed(
    tokenizer: Tokenizer, reference: tiktoken.Encoding, allowed: str | set[str]
) -> None:
    text = f"{END_OF_TEXT}one {END_OF_TEXT}{END_OF_TEXT} two{END_OF_TEXT[:-1]}"
    ids = tokenizer.encode(text, allowed_special=allowed)
    assert ids == reference.encode(text, allowed_special="all")
    assert ids.count(50256) == 3
    assert tokenizer.decode(ids) == text


@pytest.mark.parametrize(
    "allowed",
    [{"<|pad|>"}, [END_OF_TEXT, "<|pad|>"], END_OF_TEXT, "", "a", None, 5,
     END_OF_TEXT.encode(), b"", [END_OF_TEXT.encode()], [[END_OF_TEXT]]],
    ids=repr,
)  # fmt: skip
def test_case_36_an_unknown_special_token_is_refused(
    tokenizer: Tokenizer, allowed: str | set[str]
) -> None:
    with refuses("allowed_special"):
        tokenizer.encode("text", allowed_special=allowed)


def test_case_36_allowed_tokens_may_come_from_an_iterator(
    tokenizer: Tokenizer,
) -> None:
    text, allowed = f"a{END_OF_TEXT}b{END_OF_TEXT}", iter([END_OF_TEXT])
    ids = tokenizer.encode(text, allowed)  # type: ignore[arg-type]
    assert ids == tokenizer.encode(text, "all")


# --- bad text, bad ids, bad bytes ---


@pytest.mark.parametrize(
    "text",
    [
        "\ud83d",
        "a\udc4d b",
        "\udfff" + "!" * LONG_WORD,
        "\ud83d\udc4d",
        "!" * 999 + "\ud800",
    ],
)
def test_case_35_a_surrogate_is_refused(tokenizer: Tokenizer, text: str) -> None:
    place = next(i for i, character in enumerate(text) if character >= "\ud800")
    with refuses("text") as caught:
        tokenizer.encode(text)
    assert str(caught.value).endswith(f"{text[place]!r} at position {place}")


@pytest.mark.parametrize("text", [b"text", None, 5, ["text"]], ids=repr)
def test_case_35_what_is_no_text_is_refused(tokenizer: Tokenizer, text: Any) -> None:
    for allowed in ((), "all"):
        with refuses("text"):
            tokenizer.encode(text, allowed)


@pytest.mark.parametrize("ids", ["text", b"text", 5, None], ids=repr)
def test_case_37_what_holds_no_ids_is_refused(tokenizer: Tokenizer, ids: Any) -> None:
    for decode in (tokenizer.decode, tokenizer.decode_bytes):
        with refuses("ids"):
            decode(ids)


@pytest.mark.parametrize("id", [-1, 50257, True, 1.0, "1", None])
def test_case_37_an_invalid_id_is_refused(tokenizer: Tokenizer, id: object) -> None:
    for decode in (tokenizer.decode, tokenizer.decode_bytes):
        with refuses("each of ids"):
            decode([15496, id])  # type: ignore[list-item]


@given(ids=st.lists(st.integers(0, 50256), max_size=20))
def test_decoding_equals_tiktoken(
    ids: list[int], tokenizer: Tokenizer, reference: tiktoken.Encoding
) -> None:
    assert tokenizer.decode_bytes(ids) == reference.decode_bytes(ids)
    assert tokenizer.decode(ids) == reference.decode(ids)
    assert tokenizer.decode_bytes(iter(ids)) == b"".join(
        tokenizer.decode_bytes([i]) for i in ids
    )


def test_bytes_that_are_not_utf8_become_replacement_characters(
    tokenizer: Tokenizer,
) -> None:
    ids = tokenizer.encode("🤗")
    assert tokenizer.decode(ids[:-1]) == "�"
    assert tokenizer.decode_bytes(ids[:-1]) == "🤗".encode()[:-1]
    assert tokenizer.decode(ids) == "🤗"


@pytest.mark.parametrize(
    ("piece", "shown"),
    [
        (b" token", "␣token"),
        (b"\n\t", "\\n\\t"),
        (b"\xf0\x9f", "\\xf0\\x9f"),
        ("é中🤗".encode(), "é中🤗"),
        ("\u200b\xa0\xad".encode(), "\\u200b\\xa0\\xad"),
        (b'<script>"', '<script>"'),
        (b"\x00", "\\x00"),
        (b"", ""),
    ],
)
def test_display(piece: bytes, shown: str) -> None:
    assert display(piece) == shown


def test_display_shows_every_token_in_print(tokenizer: Tokenizer) -> None:
    for piece in tokenizer.ids:
        shown = display(piece)
        assert shown.isprintable()
        assert " " not in shown


# --- files ---

Vocab = dict[str, object]
BYTES: Vocab = {character: byte for byte, character in byte_alphabet().items()}
SMALL: Vocab = BYTES | {"ab": 256, "abc": 257, END_OF_TEXT: 258}
SMALL_MERGES = "#version: 0.2\na b\nab c\n"


def write(
    directory: Path, vocab: object = SMALL, merges: str | bytes = SMALL_MERGES
) -> Path:
    text = vocab if isinstance(vocab, str) else json.dumps(vocab)
    (directory / "vocab.json").write_text(text, encoding="utf-8")
    raw = merges.encode() if isinstance(merges, str) else merges
    (directory / "merges.txt").write_bytes(raw)
    return directory


@pytest.mark.parametrize(
    "merges",
    [SMALL_MERGES, "a b\nab c", SMALL_MERGES.replace("\n", "\r\n")],
    ids=["as published", "no version line, no last newline", "Windows line ends"],
)
def test_a_small_vocabulary(tmp_path: Path, merges: str) -> None:
    tokenizer = Tokenizer.from_pretrained(write(tmp_path, merges=merges))
    assert tokenizer.encode("abcab c") == [257, 256, 32, 99]
    assert (tokenizer.n_vocab, tokenizer.eot_id) == (259, 258)


def test_a_merge_may_start_with_a_hash(tmp_path: Path) -> None:
    vocab = BYTES | {"##": 256, END_OF_TEXT: 257}
    tokenizer = Tokenizer.from_pretrained(write(tmp_path, vocab, "# #\n"))
    assert tokenizer.encode("###") == [256, 35]


@pytest.mark.parametrize(
    ("vocab", "entry"),
    [
        ("{", "not JSON in UTF-8"),
        ("[" * 100_000, "too deeply"),
        ("[]", "not a JSON object"),
        *((SMALL | {"ab": id}, f"'ab' has the id {id!r}")
          for id in ("256", True, 256.0, None, [256])),
        (SMALL | {"\u202e": None}, r"'\u202e' has the id None"),
        (SMALL | {"ab": 300}, "none has the id 256"),
        (SMALL | {"ab": -1}, "none has the id 256"),
        (SMALL | {"x": 256}, "none has the id 120"),
        (SMALL | {"xy": 258}, "none has the id 259"),
        (SMALL | {"xy": 7}, "none has the id 259"),
        (BYTES | {"ab": 256, "abc": 257}, END_OF_TEXT),
        ({"ab": 0, "abc": 1, END_OF_TEXT: 2}, "'!'"),
        (SMALL | {"a c": 259}, "'a c' contains ' '"),
        (SMALL | {"a c": 259}, "(a space is spelled Ġ)"),
        (SMALL | {"\u202e": 259}, r"'\u202e' contains '\u202e'"),
    ],
    ids=str,
)  # fmt: skip
def test_a_malformed_vocabulary(tmp_path: Path, vocab: object, entry: str) -> None:
    path = write(tmp_path, vocab) / "vocab.json"
    for kind in KINDS:
        with refuses_file(path, entry) as caught:
            kind.from_pretrained(tmp_path)
        assert len(str(caught.value)) < len(str(path)) + 250


@pytest.mark.parametrize(
    ("merges", "entry"),
    [
        ("a\n", "line 1: 'a'"),
        ("a b\na b c\n", "line 2: 'a b c'"),
        ("#version\na  b\n", "line 2: 'a  b'"),
        ("\na \n", "line 2: 'a '"),
        (" a\n", "line 1: ' a'"),
        ("a" * 10**6, f"line 1: '{'a' * 40}'"),
        ("a b\nab c\na b\n", "'a b' appears twice"),
        ("a 中\n", r"'中' contains '\u4e2d'"),
        ("\ufeffa b\n", "byte order mark: save the file as UTF-8 without one"),
        ("Ġ c\n", "'Ġ c' makes 'Ġc'"),
        (b"a \xff\n", "not UTF-8"),
    ],
)
def test_malformed_merges(tmp_path: Path, merges: str | bytes, entry: str) -> None:
    path = write(tmp_path, merges=merges) / "merges.txt"
    for kind in KINDS:
        with refuses_file(path, entry) as caught:
            kind.from_pretrained(tmp_path)
        assert len(str(caught.value)) < len(str(path)) + 250


@pytest.mark.parametrize(
    ("vocab", "merges", "part"),
    [
        (BYTES, [], "vocab"),
        (SMALL | {" ": 259}, [], "vocab"),
        (SMALL, [("a", "b"), ("a", "b")], "merges"),
        (SMALL, [("b", "c")], "merges"),
    ],
)
def test_objects_come_from_no_file(
    vocab: Vocab, merges: list[tuple[str, str]], part: str
) -> None:
    """What was never read from a file is not blamed on one."""
    with refuses(part) as caught:
        Tokenizer(vocab, merges)  # type: ignore[arg-type]
    assert ".json" not in str(caught.value)
    assert ".txt" not in str(caught.value)


@pytest.mark.parametrize("merges", ["", "#version: 0.2\n"])
def test_without_merges_every_byte_is_a_token(tmp_path: Path, merges: str) -> None:
    """An empty list is legal: text of any kind can be spelled in bytes."""
    tokenizer = Tokenizer.from_pretrained(write(tmp_path, merges=merges))
    assert tokenizer.encode("abc é") == [97, 98, 99, 32, 0xC3, 0xA9]
    assert tokenizer.decode([97, 98, 99, 32, 0xC3, 0xA9]) == "abc é"


@pytest.mark.parametrize("name", ["vocab.json", "merges.txt"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    write(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(FileNotFoundError, match=name):
        Tokenizer.from_pretrained(tmp_path)


def test_a_class_of_its_own_survives_loading(tmp_path: Path) -> None:
    class Mine(Tokenizer):
        pass

    assert type(Mine.from_pretrained(write(tmp_path))) is Mine


@pytest.mark.parametrize("kind", [Tokenizer, FastTokenizer])
@pytest.mark.parametrize("message", ["too small", "size: too small", "vocabulary: no"])
def test_an_error_of_a_class_of_its_own_keeps_its_message(
    kind: type[Tokenizer], message: str, tmp_path: Path
) -> None:
    class Mine(kind):  # type: ignore[misc, valid-type]
        def __init__(self, vocab: Vocab, merges: list[tuple[str, str]]) -> None:
            super().__init__(vocab, merges)
            raise ValueError(message)

    with pytest.raises(ValueError, match=message) as caught:
        Mine.from_pretrained(write(tmp_path))
    assert str(caught.value) == message


def test_the_fast_one_is_loaded_by_the_names_of_its_arguments(tmp_path: Path) -> None:
    found = hardway.load_tokenizer(name_or_path=write(tmp_path))
    assert type(found) is FastTokenizer
    assert found.n_vocab == len(SMALL)
