"""Constraints: masks against brute force, and output that is always valid."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jsonschema
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from chats import chat_tokenizer
from hardway import GPT2, Sampler, Tokenizer, generate, generate_batch
from hardway.decoding import JsonSchema, Regex
from hardway.decoding.constrained import Automaton, Constrained, Trie
from hardway.decoding.expressions import NOTHING, derivative, shortest
from hardway.decoding.pattern import parse
from references import SMALL, random_model, with_sizes
from refusals import refuses

FORM = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer"},
        "height": {"type": "number"},
        "pets": {"type": "array", "items": {"enum": ["dog", "é🦊", 3]}, "maxItems": 3},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def pocket() -> Tokenizer:
    return Tokenizer.from_pretrained("pocket")


@pytest.fixture(scope="module")
def small() -> Tokenizer:
    """Every byte, three merges, three special tokens."""
    return chat_tokenizer()


@pytest.fixture(scope="module")
def model(small: Tokenizer) -> GPT2:
    """Random weights, as wild as untrained ones."""
    return random_model(with_sizes(SMALL, n_vocab=small.n_vocab, n_ctx=200))


# --- the automaton and the tree ---


@given(data=st.lists(st.sampled_from(list("aAb1é🦊 ".encode())), max_size=8))
def test_an_automaton_steps_as_derivatives_do(data: list[int]) -> None:
    expression = parse("([a-z]|é){2,4}(?:\\d|🦊)*b?")
    automaton = Automaton(expression)
    assert automaton.step(1, b"") == 1
    for byte in data:
        expression = derivative(expression, byte)
    state = automaton.step(1, bytes(data))
    assert automaton.states[state] == expression
    assert (state == 0) == (expression == NOTHING)
    if state:
        assert automaton.left[state] == shortest(expression)


def test_the_number_of_states_is_that_of_the_minimal_automaton() -> None:
    """Of (a|b)*abb: four, as in the textbook, and the dead one."""
    automaton = Automaton(parse("(?:a|b)*abb"))
    for text in (b"abb", b"babb", b"aabbab", b"c"):
        automaton.step(1, text)
    for state in range(len(automaton.states)):
        automaton.complete(state)
    assert len(automaton.states) == 5


def test_the_tree_of_gpt2s_vocabulary(pocket: Tokenizer) -> None:
    """Its size was counted by another program."""
    trie = Trie(pocket)
    assert trie.n_nodes == 98_023
    assert len(trie.levels) == 128 == max(map(len, pocket.ids))
    assert sorted(trie.tokens.tolist()) == [*range(50_256)]


TEXTS = st.text('ab"1é🦊,: {', max_size=5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "pattern", [" ?[a-z]+(?:é|🦊)*", '"[^"]*"', "\\d{2,3}|the.*", "[\\w ]{1,6}"]
)
@given(text=TEXTS)
@settings(max_examples=20)
def test_a_mask_is_that_of_brute_force(
    pattern: str, pocket: Tokenizer, text: str
) -> None:
    """Each token of the vocabulary is tried, byte by byte."""
    constraint = REGEXES.setdefault(pattern, Regex(pattern, pocket))
    ids = pocket.encode(text)
    states = constraint.automaton
    if states.step(1, text.encode()) == 0:
        with refuses("new_ids"):
            constraint.allowed(ids)
        return
    allowed = constraint.allowed(ids)
    start = states.step(1, text.encode())
    for id in range(0, pocket.n_vocab - 1, 97):
        assert allowed[id] == (states.step(start, pocket.pieces[id]) != 0)
    assert allowed[pocket.eot_id] == bool(re.fullmatch(pattern, text))
    assert allowed.any()


REGEXES: dict[str, Regex] = {}


@given(
    text=st.text(
        st.characters(codec="utf-8", exclude_characters='"\\', min_codepoint=32),
        max_size=8,
    )
)
def test_every_way_to_spell_a_text_is_allowed(text: str) -> None:
    """A character over several tokens included; every byte is a token."""
    tokenizer = chat_tokenizer()
    constraint = SPELLED.setdefault(0, Regex('"[^"]*"', tokenizer))
    whole = f'"{text}"'.encode()
    for ids in (
        [tokenizer.ids[bytes([b])] for b in whole],
        tokenizer.encode(f'"{text}"'),
    ):
        for n, id in enumerate([*ids, tokenizer.eot_id]):
            allowed = constraint.allowed(ids[:n])
            assert allowed[id]
            assert allowed[tokenizer.eot_id] == (n == len(ids))


SPELLED: dict[int, Regex] = {}


# --- output that is always valid ---


@pytest.mark.parametrize("temperature", [0.0, 1.0, 2.0, 100.0])
@pytest.mark.parametrize("n", [45, 80])
def test_a_document_is_always_valid(
    model: GPT2, small: Tokenizer, temperature: float, n: int
) -> None:
    """Random weights, any seed, and no more tokens than just enough, byte by byte."""
    constraint = JsonSchema(FORM, small)
    assert constraint.automaton.left[1] <= 45
    for seed in range(4):
        ids = generate(
            model, [1, 2, 3], n, temperature=temperature, seed=seed,
            constraint=constraint,
        )  # fmt: skip
        assert small.eot_id not in ids
        jsonschema.validate(json.loads(small.decode(ids)), FORM)


@pytest.mark.parametrize(
    "pattern", ["[a-z ]+\\.", "(?:\\d{3}-)*\\d{4}", "a{3}|b*", "🦊+é", "(?:yes|no)!?"]
)
def test_a_text_always_matches(model: GPT2, small: Tokenizer, pattern: str) -> None:
    constraint = Regex(pattern, small)
    prompts = [[1], [2, 3], [4]]
    options = {"temperature": 2.0, "constraint": constraint}
    for use_cache in (True, False):
        for seed in range(3):
            texts = generate_batch(
                model, prompts, 12, use_cache=use_cache, seed=seed, **options
            )
            for ids in texts:
                assert re.fullmatch(pattern, small.decode(ids))


def test_the_budget_is_met_to_the_token(model: GPT2, small: Tokenizer) -> None:
    """A text that could go on forever is closed in time, and as late as allowed."""
    constraint = Regex('"(?:\\\\u[0-9]{4}|[a-z])*"', small)
    lengths = set()
    for n in range(2, 14):
        for seed in range(5):
            ids = generate(
                model, [1], n, temperature=5.0, seed=seed, constraint=constraint,
                logit_bias={small.ids[b'"']: -5.0},
            )  # fmt: skip
            assert re.fullmatch('"(?:\\\\u[0-9]{4}|[a-z])*"', small.decode(ids))
            lengths.add(n - len(ids))
    assert 0 in lengths


def test_without_time_a_text_is_as_near_its_end_as_can_be(small: Tokenizer) -> None:
    constraint = Regex("as+|t{9}", small).within(1)
    ids = constraint.allowed([]).nonzero().flatten().tolist()
    assert {small.decode_bytes([id]) for id in ids} == {b"as", b"ass"}
    late = Regex("t{9}|tu{3}", small).within(2)
    ids = late.allowed(small.encode("t")).nonzero().flatten().tolist()
    assert [small.decode([id]) for id in ids] == ["u"]


def test_a_constraint_is_shared_by_threads(model: GPT2, small: Tokenizer) -> None:
    def run(seed: int) -> list[int]:
        options: dict[str, Any] = {"temperature": 3.0, "seed": seed}
        return generate(model, [1], 60, constraint=constraint, **options)

    constraint = JsonSchema(FORM, small)
    alone = [run(seed) for seed in range(6)]
    constraint = JsonSchema(FORM, small)
    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(run, range(6))) == alone


def test_a_constraint_that_has_been_used_goes_on(model: GPT2, small: Tokenizer) -> None:
    """What it keeps for the next time was made between steps that need no gradient."""
    constraint = JsonSchema(FORM, small)
    generate(model, [1], 60, constraint=constraint, temperature=3.0, seed=0)
    fresh = JsonSchema(FORM, small)
    for seed in range(1, 4):
        ids: list[int] = []
        sampler = Sampler(3.0, seed=seed, constraint=constraint.within(60))
        for _ in range(60):
            assert torch.equal(constraint.allowed(ids), fresh.allowed(ids))
            ids.append(sampler.choose(torch.zeros(small.n_vocab), [], ids))
            if ids[-1] == small.eot_id:
                break


def test_after_the_end_nothing_but_the_end_has_to_follow(small: Tokenizer) -> None:
    constraint = Regex("ab", small)
    ids = [*small.encode("ab"), small.eot_id]
    assert constraint.allowed(ids[:2]).nonzero().tolist() == [[small.eot_id]]
    assert constraint.allowed(ids).nonzero().tolist() == [[small.eot_id]]
    with refuses("new_ids"):
        constraint.allowed(small.encode("b"))


def test_a_byte_without_a_token_is_never_needed() -> None:
    """As in SmolLM2's vocabulary, which lacks 21 bytes."""
    tokenizer = chat_tokenizer(without="é".encode()[1:] + b"x")
    model = random_model(with_sizes(SMALL, n_vocab=tokenizer.n_vocab))
    constraint = Regex("(?:[éx]|ab){3}", tokenizer)
    ids = generate(model, [1], 9, temperature=2.0, seed=0, constraint=constraint)
    assert tokenizer.decode(ids) == "ababab"
    with pytest.raises(ValueError, match=r"^the constraint must match"):
        Regex("[éx]+", tokenizer)


# --- schemas ---

SCALARS = st.one_of(
    st.just({"type": "integer"}),
    st.just({"type": "number"}),
    st.just({"type": "boolean"}),
    st.just({"type": "null"}),
    st.builds(
        lambda low, more: {"type": "string", "minLength": low, "maxLength": low + more},
        st.integers(0, 3),
        st.integers(0, 3),
    ),
    st.builds(
        lambda values: {"enum": values},
        st.lists(
            st.none() | st.booleans() | st.integers(-99, 99) | st.text(max_size=3),
            min_size=1,
            max_size=3,
        ),
    ),
)
KEYS = st.text(st.characters(codec="utf-8"), max_size=3)
SCHEMAS = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.builds(
            lambda properties: {"type": "object", "properties": properties},
            st.dictionaries(KEYS, inner, max_size=3),
        ),
        st.builds(
            lambda items, low, more: {
                "type": "array", "items": items, "minItems": low, "maxItems": low + more
            },
            inner, st.integers(0, 2), st.integers(0, 2),
        ),
    ),
    max_leaves=5,
)  # fmt: skip


@given(schema=SCHEMAS, seed=st.integers(0, 1000))
@settings(max_examples=25)
def test_what_a_schema_allows_validates(schema: dict[str, Any], seed: int) -> None:
    """A walk at random, as wild as any model, of a length that it does not choose."""
    tokenizer = chat_tokenizer()
    constraint = JsonSchema(schema, tokenizer)
    bound = constraint.within(constraint.automaton.left[1] + 20)
    generator, ids = torch.Generator().manual_seed(seed), list[int]()
    assert bound.max_new_tokens is not None
    while len(ids) < bound.max_new_tokens:
        choices = bound.allowed(ids).nonzero().flatten().tolist()
        ids.append(choices[int(torch.randint(len(choices), (), generator=generator))])
        if ids[-1] == tokenizer.eot_id:
            ids.pop()
            break
    jsonschema.validate(json.loads(tokenizer.decode_bytes(ids)), schema)


@given(
    name=st.text(max_size=8),
    age=st.integers(-(10**15) + 1, 10**15 - 1),
    height=st.floats(-(10**9), 10**9).map(lambda x: round(x, 6)),
    pets=st.lists(st.sampled_from(["dog", "é🦊", 3]), max_size=3),
)
@example(name="\u2028\x7f", age=0, height=-0.0, pets=[])
def test_a_valid_document_is_allowed(
    name: str, age: int, height: float, pets: list[Any]
) -> None:
    """As Python writes it, with or without spaces, with characters or escapes."""
    document = {"name": name, "age": age, "height": height, "pets": pets}
    for ensure_ascii in (True, False):
        if ensure_ascii and not name.isascii() and max(name) > "\uffff":
            continue  # a surrogate pair of escapes, which is left out
        for separators in ((",", ":"), (", ", ": ")):
            text = json.dumps(
                document, ensure_ascii=ensure_ascii, separators=separators
            ).replace("\\u00e9\\ud83e\\udd8a", "é🦊")
            state = AUTOMATON.step(1, text.encode())
            assert state != 0, text
            assert AUTOMATON.left[state] == 0


AUTOMATON = JsonSchema(FORM, chat_tokenizer()).automaton


@pytest.mark.parametrize(
    "text",
    [
        "{}", '{"name":"a"}', '{"name":"a\n","age":1,"height":1,"pets":[]}',
        '{"age":1,"name":"","height":1,"pets":[]}',
        '{"name":"","age":01,"height":1,"pets":[]}',
        '{"name":"","age":1.0,"height":1,"pets":[]}',
        '{"name":"","age":+1,"height":1,"pets":[]}',
        '{"name":"","age":1,"height":.5,"pets":[]}',
        '{"name":"","age":1,"height":1.,"pets":[]}',
        '{"name":"","age":1,"height":1,"pets":["cat"]}',
        '{"name":"","age":1,"height":1,"pets":[3,3,3,3]}',
        '{"name":"","age":1,"height":1,"pets":[3,]}',
        '{"name":"","age":1,"height":1,"pets":[]} ',
        '{"name":"\\ud800","age":1,"height":1,"pets":[]}',
        '{"name":"\\x","age":1,"height":1,"pets":[]}',
        '{"name":"","age":1234567890123456,"height":1,"pets":[]}',
    ],
)  # fmt: skip
def test_an_invalid_document_is_not_allowed(text: str) -> None:
    state = AUTOMATON.step(1, text.encode())
    assert state == 0 or AUTOMATON.left[state] > 0


OBJECT = {"type": "object", "properties": {"a": {"type": "integer"}}}


@pytest.mark.parametrize(
    ("schema", "name"),
    [
        (None, "schema"), ("{}", "schema"), ([], "schema"), (True, "schema"),
        ({}, "schema['type']"), ({"type": ["string", "null"]}, "schema['type']"),
        ({"type": "date"}, "schema['type']"), ({"$ref": "#/x"}, "schema['type']"),
        ({"anyOf": []}, "schema['type']"),
        *(({"type": "string", word: 1}, "schema")
          for word in ("pattern", "format", "anyOf", "const")),
        *(({"type": "integer", word: 1}, "schema")
          for word in ("minimum", "maximum", "multipleOf", "exclusiveMinimum")),
        (OBJECT | {"patternProperties": {}}, "schema"),
        (OBJECT | {"minProperties": 1}, "schema"),
        (OBJECT | {"required": ["b"]}, "schema['required']"),
        (OBJECT | {"required": "a"}, "schema['required']"),
        ({"type": "object"}, "schema['properties']"),
        ({"type": "object", "properties": []}, "schema['properties']"),
        ({"type": "object", "properties": {"a": {"type": "int"}}},
         "schema['properties']['a']['type']"),
        ({"type": "array", "items": {"type": "null"}}, "schema"),
        ({"type": "array", "maxItems": 2}, "schema"),
        ({"type": "array", "items": 3, "maxItems": 2}, "schema['items']"),
        ({"type": "array", "items": {"type": "null"}, "maxItems": -1},
         "schema['maxItems']"),
        ({"type": "array", "items": {"type": "null"}, "maxItems": 1, "minItems": 2},
         "schema['maxItems']"),
        ({"type": "string", "minLength": "1"}, "schema['minLength']"),
        ({"type": "string", "minLength": 2, "maxLength": 1}, "schema['maxLength']"),
        ({"enum": []}, "schema['enum']"), ({"enum": "ab"}, "schema['enum']"),
        ({"enum": [[1]]}, "schema['enum']"), ({"enum": [{}]}, "schema['enum']"),
        ({"enum": [float("nan")]}, "schema['enum']"),
        ({"enum": [float("inf")]}, "schema['enum']"),
        ({"type": "string", "enum": ["a", 1]}, "schema['enum']"),
        ({"type": "integer", "enum": [True]}, "schema['enum']"),
        ({"enum": ["a"], "maxLength": 2}, "schema"),
        ({"enum": ["\ud800"]}, "text"),
        ({"type": "object", "properties": {"\ud800": {"type": "null"}}}, "text"),
    ],
)  # fmt: skip
def test_what_a_schema_cannot_say_is_refused_by_name(schema: Any, name: str) -> None:
    with refuses(name) as error:
        JsonSchema(schema, chat_tokenizer())
    if isinstance(schema, dict):
        extra = {*schema} - {"type", "enum", "properties", "items", "required"}
        odd = [word for word in extra if repr(word) in str(error.value)]
        assert name != "schema" or odd or "open array" in str(error.value)


def test_what_only_describes_is_ignored(small: Tokenizer) -> None:
    schema = {"type": "null", "title": "T", "description": "d", "$schema": "s"}
    assert isinstance(JsonSchema(schema, small), Constrained)


def test_numbers_may_be_listed_for_either_type(small: Tokenizer) -> None:
    automaton = JsonSchema({"type": "number", "enum": [1, 2.5]}, small).automaton
    assert automaton.left[automaton.step(1, b"2.5")] == 0


def nested(n: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "null"}
    for _ in range(n):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


def test_a_schema_has_bounds(small: Tokenizer) -> None:
    assert JsonSchema(nested(30), small).automaton.left[1] == 4 + 30 * len('{"a":}')
    circular: dict[str, Any] = {"type": "object"}
    circular["properties"] = {"a": circular}
    long = {"enum": ["x" * 10_000]}
    for schema in (nested(31), nested(3000), circular, long, {"enum": [b"a"]}):
        with refuses("schema"):
            JsonSchema(schema, small)
