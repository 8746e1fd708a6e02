"""Vocabularies of three kinds of file: what they mean, and what each may not say."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from gguf import GGUFReader, GGUFWriter
from hypothesis import assume, example, given
from hypothesis import strategies as st
from tokenizers import models, pre_tokenizers

import hardway
from hardway import hub, layout, vocabulary
from hardway.fast.tokenizer import LONG_WORD, FastTokenizer
from hardway.gguf import GGUFError
from hardway.hub import POCKET
from hardway.tokenizer import (
    BYTE_OF,
    DIGIT,
    END_OF_TEXT,
    WORD,
    Tokenizer,
    merge_naive,
    split_words,
)
from refusals import refuses, refuses_file
from texts import MULTILINGUAL, TEXT

KINDS = [Tokenizer, FastTokenizer]
START, END = "<|im_start|>", "<|im_end|>"
Json = dict[str, Any]

# Published for SmolLM2-135M, or made by llama.cpp from the same file.
GOLDEN = {
    "Hello world": [19556, 905],
    "  two  spaces\n\n\ttab": [216, 827, 216, 5600, 1116, 197, 15999],
    "3.14159 and 2026": [35, 30, 33, 36, 33, 37, 41, 284, 216, 34, 32, 34, 38],
    "a1b2": [81, 33, 82, 34],
    "½ ²": [16738, 216, 19133],
    "naïve café": [3546, 46494, 37366],
    "🤗": [10813, 114, 241],
    "日本語": [23274, 115, 40993, 179, 120, 248],
    "don't DON'T": [12420, 982, 422, 2154, 23, 68],
    "x = 1\n    y = 2\n": [104, 446, 216, 33, 472, 329, 446, 216, 34, 198],
    "The capital of France is": [504, 3575, 282, 4649, 314],
    "Once upon a time": [6403, 1980, 253, 655],
    "def add(a, b): return": [1604, 803, 24, 81, 28, 278, 727, 1003],
    "In 2026, the weather": [788, 216, 34, 32, 34, 38, 28, 260, 3947],
    "Hello world, this is": [19556, 905, 28, 451, 314],
    "She walked into the": [8113, 13197, 618, 260],
    "The quick brown fox": [504, 2365, 6354, 16438],
}
MISSING = bytes.fromhex("04061314161dc0c1 f1f2f5f6f7f8f9fafbfcfdfeff")


# --- GPT-2's two files ---


@given(
    pairs=st.lists(st.tuples(*[st.text("abĠ#", min_size=1, max_size=3)] * 2)),
    version=st.booleans(),
)
def test_merges_are_read_as_they_were_written(
    pairs: list[tuple[str, str]], version: bool, tmp_path_factory: Any
) -> None:
    path: Path = tmp_path_factory.mktemp("merges") / "merges.txt"
    lines = [" ".join(pair) for pair in pairs]
    path.write_text("\n".join([*(["#version: 0.2"] * version), *lines]), "utf-8")
    assert vocabulary.read_merges(path) == pairs


def test_a_vocabulary_that_fits_its_merges() -> None:
    vocab = BYTE_OF | {"ab": 256, END_OF_TEXT: 257}
    vocabulary.check(vocab, [("a", "b")], BYTE_OF, {END_OF_TEXT})
    with refuses("merges"):
        vocabulary.check(vocab, [("b", "a")], BYTE_OF, {END_OF_TEXT})
    with refuses("vocab"):
        vocabulary.check(vocab, [("a", "b")], BYTE_OF, {"<|pad|>"})


# --- digits first ---


@pytest.fixture(scope="module")
def gpt2_parts() -> tuple[dict[str, int], list[tuple[str, str]]]:
    vocab = json.loads((POCKET / "vocab.json").read_text("utf-8"))
    return vocab, vocabulary.read_merges(POCKET / "merges.txt")


@pytest.fixture(scope="module", params=KINDS, ids=["taught", "fast"])
def digits_first(request: pytest.FixtureRequest, gpt2_parts: Any) -> Tokenizer:
    kind: type[Tokenizer] = request.param
    return kind(*gpt2_parts, patterns=[DIGIT, WORD])


@pytest.fixture(scope="module")
def digits_reference(gpt2_parts: Any) -> tokenizers.Tokenizer:
    return reference(*gpt2_parts)


def reference(
    vocab: dict[str, int], merges: list[tuple[str, str]]
) -> tokenizers.Tokenizer:
    """Hugging Face's tokenizers, with SmolLM2's pre-tokenization."""
    made = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=merges))
    steps = [
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False),
    ]
    made.pre_tokenizer = pre_tokenizers.Sequence(steps)
    return made


@given(text=TEXT)
@example(text="  1  2\n\n3 \t4's5 'll6")
@example(text="a ²\xa0½ ٣ \u3000Ⅷ12.5é7")
@example(text="1" * LONG_WORD + " " * LONG_WORD + "é" * LONG_WORD + "2")
def test_digits_are_cut_out_first(
    text: str, digits_first: Tokenizer, digits_reference: tokenizers.Tokenizer
) -> None:
    ids = digits_first.encode(text)
    assert ids == digits_reference.encode(text).ids
    assert digits_first.decode(ids) == text


@given(text=TEXT)
def test_words_after_digits_join_to_the_text(text: str) -> None:
    words = split_words(text, [DIGIT, WORD])
    assert "".join(words) == text
    assert split_words("".join(words), [DIGIT]) == split_words(text, [DIGIT])
    assert all(len(word) == 1 for word in words if re.search(r"\d", word))


@pytest.mark.slow
@pytest.mark.parametrize("patterns", [[], [DIGIT], [WORD, DIGIT], [WORD, WORD]])
def test_any_patterns_are_applied_in_their_order(
    patterns: list[Any], gpt2_parts: Any
) -> None:
    taught, fast = (kind(*gpt2_parts, patterns=patterns) for kind in KINDS)
    text = "In 2026, don't ²½ naïve 10 30\n"
    words = split_words(text, patterns)
    pieces = [p for word in words for p in merge_naive(word.encode(), taught.ranks)]
    assert taught.encode(text) == fast.encode(text) == [taught.ids[p] for p in pieces]


# --- special tokens ---


@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_are_text_unless_allowed(kind: type[Tokenizer]) -> None:
    """The longest one that fits is taken, in whatever order they come."""
    vocab = BYTE_OF | {"<a>": 256, "<a><b>": 257, END: 258}
    made = kind(vocab, [], specials=["<a>", "<a><b>"], end=END)
    assert made.eot_id == 258
    assert made.special_ids == {"<a>": 256, "<a><b>": 257, END: 258}
    text = f"<a><b><a>{END}!"
    assert made.encode(text) == [*text.encode()]
    assert made.encode(text, "all") == [257, 256, 258, 33]
    assert made.encode(text, {"<a>"})[:2] == [256, 60]
    assert made.decode([257, 256, 258, 33]) == text


@pytest.mark.parametrize("kind", KINDS)
def test_a_byte_without_a_token_is_refused(kind: type[Tokenizer]) -> None:
    """Also where a merge would hide it: no tokenizer would get that far."""
    vocab = {"a": 0, "Ã": 1, "ab": 2, END_OF_TEXT: 3}
    made = kind(vocab, [("a", "b")])
    assert len(made.missing) == 254
    assert made.encode("aa") == [0, 0]
    for text, byte, place in (("ab", "0x62", 1), ("aé", "0xa9", 1), ("a😀", "0xf0", 1)):
        with refuses("text") as caught:
            made.encode(text)
        assert f"{byte} in {text[place]!a} at position {place}" in str(caught.value)


# --- the real file ---


@pytest.fixture(scope="module")
def smollm2_path() -> Path:
    try:
        return hub.weights("smollm2")
    except FileNotFoundError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module", params=KINDS, ids=["taught", "fast"])
def smollm2(request: pytest.FixtureRequest, smollm2_path: Path) -> Tokenizer:
    kind: type[Tokenizer] = request.param
    return kind.from_pretrained(smollm2_path)


@pytest.fixture(scope="module")
def smollm2_reference(smollm2_path: Path) -> tokenizers.Tokenizer:
    """Made from the arrays that gguf-py reads, so by none of our own code."""
    fields = GGUFReader(smollm2_path).fields
    tokens, merges = (
        fields[f"tokenizer.ggml.{name}"].contents() for name in ("tokens", "merges")
    )
    pairs = [tuple(merge.split(" ")) for merge in merges]
    return reference({token: id for id, token in enumerate(tokens)}, pairs)


@pytest.mark.parametrize(("text", "ids"), GOLDEN.items())
def test_smollm2_published_ids(smollm2: Tokenizer, text: str, ids: list[int]) -> None:
    assert smollm2.encode(text) == ids
    assert smollm2.decode(ids) == text


def test_smollm2_special_tokens(smollm2: Tokenizer) -> None:
    assert (smollm2.n_vocab, smollm2.eot_id) == (49152, 2)
    assert [*smollm2.special_ids.values()] == [*range(17)]
    assert [*smollm2.special_ids][:3] == [END_OF_TEXT, START, END]
    text = f"{START}user\nHi{END}\n"
    assert smollm2.encode(text, "all") == [1, 4093, 198, 26843, 2, 198]
    assert not {*smollm2.encode(text)} & {*range(17)}
    assert smollm2.decode(smollm2.encode(text)) == text


def test_smollm2_lacks_21_bytes(smollm2: Tokenizer) -> None:
    assert smollm2.missing == MISSING
    for text in ("\x04", "Hi\U00050000", "a\x1db"):
        with refuses("text"):
            smollm2.encode(text)


@pytest.mark.slow
@given(text=TEXT)
def test_smollm2_as_tokenizers(
    text: str, smollm2: Tokenizer, smollm2_reference: tokenizers.Tokenizer
) -> None:
    assume(not {*text.encode()} & {*MISSING})
    ids = smollm2.encode(text)
    assert ids == smollm2_reference.encode(text).ids
    assert smollm2.decode(ids) == text


@pytest.mark.slow
def test_smollm2_multilingual_sample(
    smollm2: Tokenizer, smollm2_reference: tokenizers.Tokenizer
) -> None:
    ids = smollm2.encode(MULTILINGUAL)
    assert ids == smollm2_reference.encode(MULTILINGUAL).ids
    assert smollm2.decode(ids) == MULTILINGUAL


# --- tokenizer.json ---

SMALL = BYTE_OF | {"ab": 256, "11": 257}
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
DIGITS = {"type": "Digits", "individual_digits": True}


def added(token: str, id: int, **changes: Any) -> Json:
    return {
        "id": id, "content": token, "single_word": False, "lstrip": False,
        "rstrip": False, "normalized": False, "special": True,
    } | changes  # fmt: skip


def sequence(*steps: Json) -> Json:
    return {"type": "Sequence", "pretokenizers": [*steps]}


def split(pattern: str, **changes: Any) -> Json:
    step = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated"}
    return step | {"invert": False} | changes


def tokenizer_json(directory: Path, **changes: Any) -> Path:
    """Write a sound one with some parts, or some of the model's parts, changed."""
    model = {
        "type": "BPE", "dropout": None, "unk_token": END_OF_TEXT,
        "continuing_subword_prefix": None, "end_of_word_suffix": None,
        "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
        "vocab": SMALL, "merges": ["a b", "1 1"],
    }  # fmt: skip
    parts = {
        "version": "1.0", "truncation": None, "padding": None, "normalizer": None,
        "added_tokens": [added(END_OF_TEXT, 258), added(END, 259)],
        "pre_tokenizer": BYTE_LEVEL,
        "post_processor": BYTE_LEVEL, "decoder": BYTE_LEVEL,
        "model": model | changes.pop("model", {}),
    }  # fmt: skip
    path = directory / "tokenizer.json"
    path.write_text(json.dumps(parts | changes), "utf-8")
    return path


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("step", "ids"),
    [
        (BYTE_LEVEL, [256, 32, 257]),
        (BYTE_LEVEL | {"use_regex": True}, [256, 32, 257]),
        (sequence(BYTE_LEVEL), [256, 32, 257]),
        (sequence(DIGITS, BYTE_LEVEL), [256, 32, 49, 49]),
        (sequence(split(r"\p{N}"), BYTE_LEVEL), [256, 32, 49, 49]),
        (
            sequence(DIGITS, split(WORD.pattern), BYTE_LEVEL | {"use_regex": False}),
            [256, 32, 49, 49],
        ),
    ],
    ids=["ByteLevel", "use_regex", "in a list", "Digits", "Split", "two Splits"],
)
def test_tokenizer_json(
    kind: type[Tokenizer], step: Json, ids: list[int], tmp_path: Path
) -> None:
    """As Hugging Face's tokenizers reads the same file."""
    path = tokenizer_json(tmp_path, pre_tokenizer=step)
    made = kind.from_pretrained(tmp_path)
    theirs = tokenizers.Tokenizer.from_file(str(path))
    for text in ("11ab 11", MULTILINGUAL, f"ab{END_OF_TEXT} {END}"):
        assert made.encode(text, "all") == theirs.encode(text).ids
    assert (made.n_vocab, made.eot_id) == (260, 258)
    assert made.special_ids == {END_OF_TEXT: 258, END: 259}
    assert made.encode("ab 11") == ids


def test_tokenizer_json_of_older_and_newer_spelling(tmp_path: Path) -> None:
    """Pairs as lists; no type; a special token that is in the vocabulary, too."""
    model = {"vocab": SMALL | {END_OF_TEXT: 258}, "merges": [["a", "b"], ["1", "1"]]}
    path = tokenizer_json(tmp_path, model=model, added_tokens=[added(END_OF_TEXT, 258)])
    found = json.loads(path.read_text("utf-8"))
    del found["model"]["type"], found["model"]["ignore_merges"], found["post_processor"]
    path.write_text(json.dumps(found), "utf-8")
    made = Tokenizer.from_pretrained(tmp_path)
    assert (made.n_vocab, made.encode("abab")) == (259, [256, 256])


def test_tokenizer_json_goes_before_the_two_files(tmp_path: Path) -> None:
    """They do not say how words are cut, so SmolLM2's would be read as GPT-2's."""
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / name).write_bytes((POCKET / name).read_bytes())
    assert Tokenizer.from_pretrained(tmp_path).n_vocab == 50257
    tokenizer_json(tmp_path)
    assert Tokenizer.from_pretrained(tmp_path).n_vocab == 260


@pytest.mark.parametrize(
    ("changes", "entry"),
    [
        ({"normalizer": {"type": "NFC"}}, "normalizer must be None, got"),
        ({"post_processor": {"type": "TemplateProcessing"}}, "post_processor.type"),
        ({"decoder": {"type": "Metaspace"}}, "decoder.type"),
        ({"decoder": "ByteLevel"}, "decoder must be an object"),
        ({"model": {"type": "WordPiece"}}, "model.type"),
        ({"model": {"dropout": 0.1}}, "model.dropout"),
        ({"model": {"continuing_subword_prefix": "##"}}, "model.continuing_subword"),
        ({"model": {"end_of_word_suffix": "</w>"}}, "model.end_of_word_suffix"),
        ({"model": {"byte_fallback": True}}, "model.byte_fallback"),
        ({"model": {"ignore_merges": True}}, "model.ignore_merges"),
        ({"model": {"vocab": [["a", 0]]}}, "model.vocab must be an object"),
        ({"model": {"merges": {}}}, "model.merges must be a list"),
        ({"model": {"merges": ["a"]}}, "merges: 'a' is not two pieces"),
        ({"model": {"merges": [["a", ""]]}}, "merges: each must be a pair"),
        ({"model": {"merges": [["a", "b", "c"]]}}, "merges: each must be a pair"),
        ({"model": {"merges": [None]}}, "merges: each must be a pair"),
        ({"model": {"merges": ["b a"]}}, "merges: the pair 'b a' makes 'ba'"),
        ({"model": {"merges": ["a b", "a b"]}}, "merges: the pair 'a b' appears twice"),
        ({"model": {"vocab": SMALL | {"ab": "256"}}}, "vocab: the token 'ab' has"),
        ({"model": {"vocab": SMALL | {"ab": 999}}}, "none has the id 256"),
        ({"model": {"vocab": SMALL | {"▁a": 258}}}, r"vocab: the token '▁a' contains"),
        ({"added_tokens": None}, "added_tokens must be a list"),
        ({"added_tokens": []}, f"vocab: the special token '{END_OF_TEXT}' is missing"),
        ({"added_tokens": ["<a>"]}, "added_tokens: each must have an id and a content"),
        ({"added_tokens": [added("", 258)]}, "added_tokens: each must have an id"),
        ({"added_tokens": [added("<a>", 258)] * 2}, "'<a>' must have one id"),
        ({"added_tokens": [added("ab", 258)]}, "'ab' must have one id"),
        ({"added_tokens": [added(END_OF_TEXT, 260)]}, "none has the id 258"),
        ({"added_tokens": [added("new", 258, special=False)]}, "'new' must be special"),
        ({"added_tokens": [added("<a>", 258, lstrip=True)]}, "'<a>': lstrip must"),
        ({"pre_tokenizer": None}, "pre_tokenizer None is not implemented"),
        ({"pre_tokenizer": {"type": "Metaspace"}}, "Metaspace"),
        ({"pre_tokenizer": BYTE_LEVEL | {"add_prefix_space": True}}, "pre_tokenizer"),
        ({"pre_tokenizer": BYTE_LEVEL | {"use_regex": False}}, "must end in GPT-2's"),
        ({"pre_tokenizer": DIGITS}, "pre_tokenizer must end in GPT-2's"),
        ({"pre_tokenizer": sequence()}, "pre_tokenizer must end in GPT-2's"),
        ({"pre_tokenizer": sequence(BYTE_LEVEL, DIGITS)}, "must end in GPT-2's"),
        ({"pre_tokenizer": sequence(BYTE_LEVEL, BYTE_LEVEL)}, "must end in GPT-2's"),
        ({"pre_tokenizer": sequence(sequence(BYTE_LEVEL))}, "is not implemented"),
        ({"pre_tokenizer": sequence(split("(a+)+b"), BYTE_LEVEL)}, "Split"),
        (
            {"pre_tokenizer": sequence(split(r"\p{N}", invert=True), BYTE_LEVEL)},
            "Split",
        ),
        (
            {
                "pre_tokenizer": sequence(
                    {"type": "Digits", "individual_digits": False}, BYTE_LEVEL
                )
            },
            "Digits",
        ),
    ],
    ids=str,
)
def test_a_tokenizer_json_that_is_not_this_kind(
    changes: Json, entry: str, tmp_path: Path
) -> None:
    path = tokenizer_json(tmp_path, **changes)
    for kind in KINDS:
        with refuses_file(path, entry) as caught:
            kind.from_pretrained(tmp_path)
        assert len(str(caught.value)) < len(str(path)) + 350


@pytest.mark.parametrize(
    ("raw", "entry"), [("[]", "not a JSON object"), ("{", "JSON"), ("{}", "pre_token")]
)
def test_a_tokenizer_json_that_is_none(raw: str, entry: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(raw)
    with refuses_file(tmp_path / "tokenizer.json", entry):
        Tokenizer.from_pretrained(tmp_path)


# --- the end ---


@pytest.mark.parametrize(
    ("files", "end"),
    [
        ({}, 258),
        ({"tokenizer_config.json": {"eos_token": END}}, 259),
        ({"tokenizer_config.json": {"eos_token": {"content": END}}}, 259),
        ({"tokenizer_config.json": {"eos_token": None}}, 258),
        ({"generation_config.json": {"eos_token_id": 259}}, 259),
        ({"generation_config.json": {"eos_token_id": [259, 258]}}, 259),
        ({"config.json": {"eos_token_id": 259}}, 259),
        (
            {
                "tokenizer_config.json": {"eos_token": END},
                "config.json": {"eos_token_id": 258},
            },
            259,
        ),
    ],
    ids=str,
)
def test_the_model_s_own_end(files: dict[str, Json], end: int, tmp_path: Path) -> None:
    tokenizer_json(tmp_path)
    for name, contents in files.items():
        (tmp_path / name).write_text(json.dumps(contents))
    assert Tokenizer.from_pretrained(tmp_path).eot_id == end


@pytest.mark.parametrize(
    ("name", "contents", "entry"),
    [
        ("tokenizer_config.json", {"eos_token": "</s>"}, "eos_token"),
        ("tokenizer_config.json", {"eos_token": ["x"]}, "eos_token"),
        ("generation_config.json", {"eos_token_id": []}, "eos_token_id"),
        ("generation_config.json", {"eos_token_id": 7}, "eos_token_id"),
        ("config.json", [], "not a JSON object"),
    ],
)
def test_an_end_that_is_not_special(
    name: str, contents: Any, entry: str, tmp_path: Path
) -> None:
    tokenizer_json(tmp_path)
    (tmp_path / name).write_text(json.dumps(contents))
    with refuses_file(tmp_path / name, entry):
        Tokenizer.from_pretrained(tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_the_chat_template(kind: type[Tokenizer], tmp_path: Path) -> None:
    """A file of its own goes before the entry, as for transformers."""
    tokenizer_json(tmp_path)
    assert kind.from_pretrained(tmp_path).chat_template is None
    (tmp_path / "tokenizer_config.json").write_text("{}")
    assert kind.from_pretrained(tmp_path).chat_template is None
    (tmp_path / "tokenizer_config.json").write_text('{"chat_template": "{{ 1 }}"}')
    assert kind.from_pretrained(tmp_path).chat_template == "{{ 1 }}"
    (tmp_path / "chat_template.jinja").write_text("{{ 'é' }}\n", encoding="utf-8")
    assert kind.from_pretrained(tmp_path).chat_template == "{{ 'é' }}\n"


def test_a_chat_template_that_is_not_text(tmp_path: Path) -> None:
    tokenizer_json(tmp_path)
    path = tmp_path / "chat_template.jinja"
    path.write_bytes(b"\xff")
    with refuses_file(path, "utf-8"):
        Tokenizer.from_pretrained(tmp_path)


# --- GGUF ---

TOKENS = [END_OF_TEXT, END, *BYTE_OF, "ab", "11"]


def gguf_file(path: Path, **changes: Any) -> Path:
    """Write a sound file with some of its keys changed, or left out if None.

    template: the chat template, which is not one of the vocabulary's keys.
    """
    template = changes.pop("template", None)
    values = {
        "model": "gpt2", "pre": "smollm", "tokens": TOKENS,
        "token_type": [3] * 2 + [1] * (len(TOKENS) - 2), "merges": ["a b", "1 1"],
        "bos_token_id": 0, "eos_token_id": 1, "add_bos_token": False,
    } | changes  # fmt: skip
    writer = GGUFWriter(path, "llama")
    for key, value in values.items():
        name = f"tokenizer.ggml.{key}"
        match value:
            case None:
                continue
            case bool():
                writer.add_bool(name, value)
            case int():
                writer.add_uint32(name, value)
            case str():
                writer.add_string(name, value)
            case _:
                writer.add_array(name, value)
    if template is not None:
        writer.add_chat_template(template)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pre", ["smollm", "gpt-2"])
@pytest.mark.parametrize("whole", [True, False], ids=["the directory", "the file"])
def test_gguf(kind: type[Tokenizer], pre: str, whole: bool, tmp_path: Path) -> None:
    path = gguf_file(tmp_path / "some.gguf", pre=pre)
    made = kind.from_pretrained(tmp_path if whole else path)
    assert made.special_ids == {END_OF_TEXT: 0, END: 1}
    assert (made.n_vocab, made.eot_id) == (len(TOKENS), 1)
    ab, one, eleven = map(TOKENS.index, ("ab", "1", "11"))
    digits = {"smollm": [one, one], "gpt-2": [eleven]}
    assert made.encode(f"ab11{END}", "all") == [ab, *digits[pre], 1]


@pytest.mark.parametrize("template", [None, "{{ 'é' }}\n"])
def test_the_chat_template_of_a_gguf_file(template: str | None, tmp_path: Path) -> None:
    path = gguf_file(tmp_path / "some.gguf", template=template)
    for kind in KINDS:
        assert kind.from_pretrained(path).chat_template == template


def test_gguf_needs_no_key_that_has_a_usual_value(tmp_path: Path) -> None:
    gguf_file(tmp_path / "a.gguf", add_bos_token=None, bos_token_id=None)
    assert hardway.load_tokenizer(tmp_path).eot_id == 1


@pytest.mark.parametrize(
    ("changes", "entry"),
    [
        ({"model": "llama"}, "tokenizer.ggml.model must be 'gpt2', got 'llama'"),
        ({"model": None}, "tokenizer.ggml.model"),
        ({"pre": "qwen2"}, "tokenizer.ggml.pre must be 'gpt-2' or 'smollm'"),
        ({"pre": None}, "tokenizer.ggml.pre"),
        ({"add_bos_token": True}, "tokenizer.ggml.add_bos_token"),
        ({"add_eos_token": True}, "tokenizer.ggml.add_eos_token"),
        ({"tokens": None}, "tokenizer.ggml.tokens must be a list"),
        ({"tokens": "abc"}, "tokenizer.ggml.tokens must be a list"),
        ({"tokens": [*range(len(TOKENS))]}, "tokens must be strings"),
        ({"tokens": [*TOKENS[:-1], "ab"]}, "tokens must be distinct, got 'ab' twice"),
        ({"tokens": TOKENS[:-1]}, "token_type must be 1 (normal) or 3 (control)"),
        ({"tokens": ["", *TOKENS[1:]]}, "vocab: the special token '' must have"),
        ({"token_type": None}, "tokenizer.ggml.token_type must be a list"),
        ({"token_type": [3, 4] + [1] * (len(TOKENS) - 2)}, "token_type must be 1"),
        ({"merges": None}, "tokenizer.ggml.merges must be a list"),
        ({"merges": ["a  b"]}, "merges: 'a  b' is not two pieces"),
        ({"merges": [1, 2]}, "merges: each must be a pair of pieces"),
        ({"merges": ["a a"]}, "merges: the pair 'a a' makes 'aa'"),
        ({"eos_token_id": None}, "eos_token_id must be a special token, got None"),
        ({"eos_token_id": 5}, "eos_token_id must be a special token, got 5"),
        (
            {"tokens": [*TOKENS[:-1], "a b"], "merges": ["a b"]},
            "vocab: the token 'a b'",
        ),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_gguf_vocabulary_that_is_not_this_kind(
    changes: Json, entry: str, tmp_path: Path
) -> None:
    path = gguf_file(tmp_path / "some.gguf", **changes)
    for kind in KINDS:
        with refuses_file(path, entry) as caught:
            kind.from_pretrained(path)
        assert len(str(caught.value)) < len(str(path)) + 250


def test_a_broken_gguf_file_is_the_reader_s_error(tmp_path: Path) -> None:
    path = gguf_file(tmp_path / "some.gguf")
    path.write_bytes(path.read_bytes()[:1000])
    with refuses_file(path, "", GGUFError):
        Tokenizer.from_pretrained(path)


def test_where_a_directory_s_vocabulary_is_looked_for(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"vocab\.json"):
        Tokenizer.from_pretrained(tmp_path)
    one = gguf_file(tmp_path / "one.gguf")
    found = layout.find_vocabulary
    assert found(tmp_path) == found(one) == (one,)
    gguf_file(tmp_path / "two.gguf")
    with refuses_file(tmp_path, "one.gguf, two.gguf"):
        Tokenizer.from_pretrained(tmp_path)
    (tmp_path / "model.safetensors").touch()  # these weights, and no vocabulary
    with pytest.raises(FileNotFoundError, match=r"vocab\.json"):
        Tokenizer.from_pretrained(tmp_path)
