"""Every check accepts what it should, as plain numbers, and names what it refuses."""

import enum
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from hardway import KVCache, checks, inputs
from hardway.checks import integer, number, safe_repr, some
from references import SMALL, NoWeights, random_model, with_sizes
from refusals import BAD_DEVICES, refuses

# What spells an integer elsewhere than in Python, of 64 bits.
SPELLINGS: list[Callable[[int], Any]] = [int, np.int64, torch.tensor]
NOT_INTEGERS = [
    True, False, np.True_, torch.tensor(True), 1.0, np.float64(1), torch.tensor(1.0),
    torch.tensor([1, 2]), np.array([1, 2]), "1", b"1", None, [1], math.nan, math.inf,
    1j, Fraction(1),
]  # fmt: skip
NOT_NUMBERS = [
    True, False, np.True_, torch.tensor(True), "1", "nan", b"1", None, [1.0], 1j,
    math.nan, math.inf, -math.inf, np.nan, np.inf, torch.tensor(math.nan),
    torch.tensor([1.0, 2.0]), np.array([1.0, 2.0]), 10**400,
]  # fmt: skip


# --- integers ---


@pytest.mark.parametrize("spelled", SPELLINGS)
@given(value=st.integers(-(2**63), 2**63 - 1))
def test_integers_of_any_library_come_back_as_pythons(
    spelled: Callable[[int], Any], value: int
) -> None:
    found = integer("n", spelled(value), -(2**63), 2**63)
    assert type(found) is int
    assert found == value


@pytest.mark.parametrize(
    "kind", [np.int8, np.uint8, np.int32, np.uint64, torch.uint8, torch.int32]
)
def test_integers_of_any_width(kind: Any) -> None:
    in_torch = isinstance(kind, torch.dtype)
    value = torch.tensor(7, dtype=kind) if in_torch else kind(7)
    assert integer("n", value) == 7
    assert type(integer("n", value)) is int


@given(value=st.integers(), low=st.integers(), width=st.integers(0, 2**70))
def test_an_integer_is_accepted_just_where_it_is_in_range(
    value: int, low: int, width: int
) -> None:
    high = low + width
    if low <= value <= high:
        assert integer("n", value, low, high) == value
    else:
        with refuses("n"):
            integer("n", value, low, high)
    if value >= low:
        assert integer("n", value, low) == value
    else:
        with refuses("n"):
            integer("n", value, low)


@pytest.mark.parametrize("value", NOT_INTEGERS, ids=repr)
def test_what_is_no_integer_is_refused(value: Any) -> None:
    with refuses("n"):
        integer("n", value, -5, 5)


def test_a_refusal_says_what_is_allowed_why_and_what_came() -> None:
    with pytest.raises(ValueError, match=r"^n_tokens .* 1 to 8 \(max_len\), got 9$"):
        integer("n_tokens", 9, 1, 8, " (max_len)")
    for value in (-1, np.int64(-1), torch.tensor(-1)):
        with pytest.raises(ValueError, match=r"^seed .* at least 0, got -1$"):
            integer("seed", value)


# --- numbers ---


@pytest.mark.parametrize(
    "spelled", [float, np.float64, lambda x: torch.tensor(x, dtype=torch.float64)]
)
@given(value=st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_of_any_library_come_back_as_pythons(
    spelled: Callable[[float], Any], value: float
) -> None:
    found = number("x", spelled(value), -math.inf)
    assert type(found) is float
    assert found == value


@pytest.mark.parametrize("value", [1, np.int64(1), torch.tensor(1), np.float32(1)])
def test_a_whole_number_is_a_number(value: Any) -> None:
    assert number("x", value, 0) == 1.0
    assert type(number("x", value, 0)) is float


@given(
    value=st.floats(allow_nan=False, allow_infinity=False),
    low=st.floats(-1e6, 1e6),
    width=st.floats(0, 1e6),
)
def test_a_number_is_accepted_just_where_it_is_in_range(
    value: float, low: float, width: float
) -> None:
    high = low + width
    for x in (value, low, high):
        for above in (False, True):
            if (low < x if above else low <= x) and x <= high:
                assert number("x", x, low, high, above=above) == x
            else:
                with refuses("x"):
                    number("x", x, low, high, above=above)


@pytest.mark.parametrize("value", NOT_NUMBERS, ids=lambda value: repr(value)[:20])
def test_what_is_no_finite_number_is_refused(value: Any) -> None:
    with refuses("x"):
        number("x", value, -math.inf)


# --- ids, text, names ---


class Member(enum.IntEnum):
    """An int of another type."""

    THIRD = 3


@given(ids=st.lists(st.integers(0, 96)))
def test_ids_of_any_library_come_back_as_pythons(ids: list[int]) -> None:
    for given_ids in (ids, iter(ids), np.array(ids, int), torch.tensor(ids).long()):
        found = checks.token_ids("ids", given_ids, 97)
        assert found == ids
        assert {type(id) for id in found} <= {int}


@pytest.mark.parametrize("bad", [97, -1, *NOT_INTEGERS], ids=repr)
def test_the_first_bad_id_is_refused(bad: Any) -> None:
    with refuses("each of stop_ids"):
        checks.token_ids("stop_ids", [1, bad, 2], 97)


def test_plain_ids_cost_no_call_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not a plain int inside the vocabulary takes the way of all numbers."""
    asked = []

    def watched(name: str, value: Any, *rest: Any) -> int:
        asked.append(value)
        return integer(name, value, *rest)

    monkeypatch.setattr(checks, "integer", watched)
    ids = [0, np.int64(5), 96, torch.tensor(7), Member(3)]
    found = checks.token_ids("ids", ids, 97)
    assert found == [0, 5, 96, 7, 3]
    assert {type(id) for id in found} == {int}
    assert asked == [5, 7, 3]
    for bad in (True, -1, 97):
        with refuses("each of ids"):
            checks.token_ids("ids", [0, bad], 97)
        assert asked.pop() is bad


@pytest.mark.parametrize("text", ["", "ab", b"ab", "\x1b"])
def test_text_is_no_ids_and_the_refusal_says_what_makes_them(text: Any) -> None:
    with refuses("prompt_ids") as caught:
        checks.token_ids("prompt_ids", text, 97)
    assert f"got {text!r}: call tokenizer.encode" in str(caught.value)


@pytest.mark.parametrize("value", [5, None, 1.5, torch.tensor(5), np.array(5), object])
def test_what_holds_no_items_is_refused(value: Any) -> None:
    for taken in (checks.items, lambda name, ids: checks.token_ids(name, ids, 97)):
        with refuses("stop_ids") as caught:
            taken("stop_ids", value)
        assert str(caught.value).endswith(f"must be a sequence, got {value!r}")


@pytest.mark.parametrize("text", [b"ab", None, 5, ["a"], bytearray(b"a")])
def test_what_is_no_text_is_refused(text: Any) -> None:
    with refuses("text") as caught:
        checks.check_text(text)
    assert str(caught.value) == f"text must be a str, got {text!r}"


@given(text=st.text())
def test_text_without_surrogates_is_text(text: str) -> None:
    checks.check_text(text)


@given(
    before=st.text(max_size=5),
    half=st.characters(categories=["Cs"]),
    after=st.text(max_size=5),
)
def test_a_surrogate_is_named_with_its_place(
    before: str, half: str, after: str
) -> None:
    with refuses("text") as caught:
        checks.check_text(before + half + after)
    assert f"{half!r} at position {len(before)}" in str(caught.value)


def test_a_text_with_something_in_it() -> None:
    assert checks.not_empty("prompt", " ") == " "
    with pytest.raises(ValueError, match=r"^prompt must hold .* character, got ''$"):
        checks.not_empty("prompt", "")
    for bad in (b"", None, "\ud800"):
        with refuses("text"):
            checks.not_empty("prompt", bad)  # type: ignore[arg-type]


def test_special_tokens() -> None:
    known = {"<a>", "<b>"}
    assert checks.special_tokens("all", known) == known
    assert checks.special_tokens(["<a>", "<a>"], known) == {"<a>"}
    assert checks.special_tokens((), known) == set()
    assert checks.special_tokens(iter(["<b>", "<a>"]), known) == known
    for bad in (
        "<a>", "", {"<c>"}, {"<a>", "<c>"}, iter(["<a>", "<c>"]), None, 5,
        b"<a>", b"", [b"<a>"],
    ):  # fmt: skip
        with refuses("allowed_special"):
            checks.special_tokens(bad, known)


@given(value=st.one_of(st.text(), st.lists(st.text()), st.integers(), st.none()))
def test_a_spelling_is_printable_and_short(value: Any) -> None:
    found = safe_repr(value)
    assert found.isprintable()
    assert len(found) < 1000


@pytest.mark.parametrize(
    "value", ["x" * 10**6, 10**4000, [0] * 10**6, [[[["x"]]]], b"x" * 10**6]
)
def test_a_spelling_of_much_is_short(value: Any) -> None:
    assert len(safe_repr(value)) < 130


def test_what_moves_a_cursor_or_turns_the_writing_is_escaped() -> None:
    shown = safe_repr("\x1b[2J\u202e\n\r\u2066\ufeff\u200b")
    assert shown == r"'\x1b[2J\u202e\n\r\u2066\ufeff\u200b'"


@pytest.mark.parametrize(
    ("spelling", "shown"),
    [("\x1b[2J", r"\x1b[2J"), ("a\u202eb\n", r"a\u202eb\n"), ("\ud800", r"\ud800"),
     ("é 中", "é 中")],
)  # fmt: skip
def test_what_another_class_says_of_itself_is_escaped(
    spelling: str, shown: str
) -> None:
    class Foreign:
        def __repr__(self) -> str:
            return spelling

    assert safe_repr(Foreign()) == shown
    assert safe_repr([Foreign()]) == f"[{shown}]"
    with refuses("n") as caught:
        integer("n", Foreign())
    assert str(caught.value).endswith(f"got {shown}")


def test_the_first_few_names_stand_for_all() -> None:
    assert some(["a", "b"]) == "'a', 'b'"
    assert some([str(i) for i in range(4)]) == "'0', '1', '2', '3'"
    assert some([str(i) for i in range(1005)]) == "'0', '1', '2', '3' and 1,001 more"


# --- what a model is called with ---


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_dtype_of_fractions_is_taken(dtype: torch.dtype) -> None:
    assert inputs.check_dtype("dtype", dtype) is dtype


@pytest.mark.parametrize(
    "dtype",
    [torch.int64, torch.bool, torch.uint8, torch.complex64, torch.float8_e4m3fn,
     torch.float8_e5m2, "float16", None, np.float32],
    ids=str,
)  # fmt: skip
def test_another_dtype_is_refused(dtype: Any) -> None:
    assert not inputs.is_usable(dtype)
    with refuses("dtype"):
        inputs.check_dtype("dtype", dtype)


def test_a_size_is_refused_above_the_limit_and_the_limit_can_be_moved(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inputs.check_size("the cache", inputs.MAX_BYTES)
    with pytest.raises(ValueError, match=r"^the cache .* raise MAX_BYTES$"):
        inputs.check_size("the cache", inputs.MAX_BYTES + 1)
    monkeypatch.setattr(inputs, "MAX_BYTES", 10)
    inputs.check_size("the cache", 10)
    with refuses("the cache"):
        inputs.check_size("the cache", 11)


def test_a_prompt_fills_the_context_and_not_more() -> None:
    assert inputs.check_prompt(iter([1, np.int64(2)]), 30, SMALL) == [1, 2]
    for ids, n in (([1, 2], 31), ([1] * 33, 0), ([1], 10**30)):
        with refuses("prompt_ids and max_new_tokens"):
            inputs.check_prompt(ids, n, SMALL)
    for ids in ([], iter([])):
        with refuses("prompt_ids"):
            inputs.check_prompt(ids, 1, SMALL)
    with refuses("each of prompt_ids"):
        inputs.check_prompt([1, 97], 1, SMALL)


@pytest.mark.parametrize("device", BAD_DEVICES, ids=repr)
def test_a_device_that_is_not_here_is_refused(device: Any) -> None:
    with refuses("device") as caught:
        inputs.check_device(device)
    assert str(caught.value).endswith(f"got {device!r}")


@pytest.mark.parametrize("device", ["cpu", "meta", torch.device("meta")], ids=repr)
def test_a_device_that_is_here_is_taken(device: Any) -> None:
    assert inputs.check_device(device) == torch.device(device)


GOOD = torch.tensor([1, 2, 3])
MODEL = NoWeights()


@pytest.mark.parametrize(
    "tokens",
    [
        torch.tensor([1], dtype=torch.int32), torch.tensor([1.0]), torch.tensor([]),
        torch.zeros(0, dtype=torch.int64), torch.zeros(2, 0, dtype=torch.int64),
        torch.tensor(1), torch.zeros(1, 1, 1, dtype=torch.int64),
    ],
    ids=str,
)  # fmt: skip
def test_tokens_of_another_type_or_shape(tokens: Tensor) -> None:
    with refuses("tokens"):
        inputs.check_call(MODEL, tokens)


@pytest.mark.parametrize(
    ("tokens", "bad"), [([1, 97], 97), ([[1], [-1]], -1), ([-1, 97], -1)]
)
def test_an_id_outside_the_vocabulary_is_named(tokens: Any, bad: int) -> None:
    with refuses("each of tokens") as caught:
        inputs.check_call(MODEL, torch.tensor(tokens))
    assert str(caught.value).endswith(f"got {bad}")


@pytest.mark.parametrize("tokens", [[1, 2], [[1], [2]], 5, None, np.array([1, 2])])
def test_tokens_that_are_no_tensor(tokens: Any) -> None:
    with refuses("tokens", TypeError) as caught:
        inputs.check_call(MODEL, tokens)
    assert "model(torch.tensor(ids))" in str(caught.value)  # what to do instead


def test_tokens_and_padding_without_values_have_a_shape_to_check() -> None:
    tokens = torch.zeros(2, 3, dtype=torch.int64, device="meta")
    n_pad = torch.zeros(2, dtype=torch.int64, device="meta")
    model = NoWeights(device=torch.device("meta"))
    inputs.check_call(model, tokens, n_pad=n_pad)
    for bad in (tokens.float(), tokens[:0], tokens.expand(1, 2, 3)):
        with refuses("tokens"):
            inputs.check_call(model, bad)
    for bad in (n_pad.float(), n_pad[:1], n_pad[None]):
        with refuses("n_pad"):
            inputs.check_call(model, tokens, n_pad=bad)


def test_positions_in_the_cache_count() -> None:
    inputs.check_call(MODEL, torch.zeros(32, dtype=torch.int64))
    for shape in ((33,), (2, 33)):
        with refuses("tokens"):
            inputs.check_call(MODEL, torch.zeros(shape, dtype=torch.int64))
    cache = KVCache(SMALL)
    cache.advance(30)
    inputs.check_call(MODEL, GOOD[:2], cache)
    with refuses("tokens"):
        inputs.check_call(MODEL, GOOD, cache)


@pytest.mark.parametrize(
    ("cache", "named"),
    [
        (KVCache(SMALL, batch_size=2), "batch_size"),
        (KVCache(SMALL, max_len=2), "max_len"),
        *((KVCache(with_sizes(SMALL, **changes)), named)
          for named, changes in [
              ("n_layer", {"n_layer": 3}), ("n_kv_head", {"n_head": 2}),
              ("d_head", {"n_embd": 48}), ("n_kv_head", {"n_embd": 48, "n_head": 6}),
          ]),
        (KVCache(SMALL, device="meta"), "device"),
    ],
)  # fmt: skip
def test_a_cache_that_does_not_fit(cache: KVCache, named: str) -> None:
    with refuses("cache") as caught:
        inputs.check_call(MODEL, GOOD, cache)
    assert f"{named} = " in str(caught.value)
    assert str(caught.value).endswith("make a new one with model.new_cache")


def test_a_cache_lies_where_its_model_does() -> None:
    model = NoWeights(device=torch.device("meta"))
    inputs.check_call(model, GOOD, KVCache(SMALL, device="meta"))
    with pytest.raises(ValueError, match=r"^cache must have device = meta, got cpu:"):
        inputs.check_call(model, GOOD, KVCache(SMALL))


@pytest.mark.parametrize(
    "n_pad",
    [torch.tensor([0]), torch.tensor([0, 0, 0]), torch.tensor(0),
     torch.tensor([0, -1]), torch.tensor([0, 3]), torch.tensor([0, 99]),
     torch.tensor([0.0, 1.0]), torch.tensor([[0], [1]]), [0, 1]],
    ids=str,
)  # fmt: skip
def test_padding_that_does_not_fit(n_pad: Any) -> None:
    with refuses("n_pad"):
        inputs.check_call(MODEL, torch.zeros(2, 3, dtype=torch.int64), n_pad=n_pad)


def test_padding_leaves_room_for_a_token_now_or_later() -> None:
    tokens = torch.zeros(2, 3, dtype=torch.int64)
    inputs.check_call(MODEL, tokens, n_pad=torch.tensor([0, 2]))
    cache = KVCache(SMALL, 2, max_len=5)
    inputs.check_call(MODEL, tokens, cache, torch.tensor([0, 4]))
    with refuses("n_pad"):
        inputs.check_call(MODEL, tokens, cache, torch.tensor([0, 5]))


def test_memory_is_refused_before_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tokens = torch.zeros(2, 8, dtype=torch.int64)
    scores, logits = 2 * 3 * 8 * 8 * 4, 2 * 8 * 97 * 4
    monkeypatch.setattr(inputs, "MAX_BYTES", logits)
    inputs.check_call(MODEL, tokens)
    monkeypatch.setattr(inputs, "MAX_BYTES", logits - 1)
    with refuses("the logits"):
        inputs.check_call(MODEL, tokens)
    inputs.check_call(MODEL, tokens, last_only=True)
    monkeypatch.setattr(inputs, "MAX_BYTES", scores - 1)
    with refuses("the attention weights"):
        inputs.check_call(MODEL, tokens, last_only=True)


@pytest.mark.parametrize(
    ("dtype", "itemsize"), [(torch.float32, 4), (torch.float64, 8)], ids=str
)
def test_memory_is_counted_in_what_the_model_computes_in(
    dtype: torch.dtype, itemsize: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = NoWeights(compute_dtype=dtype)
    tokens = torch.zeros(8, dtype=torch.int64)
    sizes = {"the attention weights": 3 * 8 * 8, "the logits": 8 * 97}
    for named, size in sizes.items():
        last_only = named != "the logits"
        monkeypatch.setattr(inputs, "MAX_BYTES", size * itemsize)
        inputs.check_call(model, tokens, last_only=last_only)
        monkeypatch.setattr(inputs, "MAX_BYTES", size * itemsize - 1)
        with refuses(named):
            inputs.check_call(model, tokens, last_only=last_only)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_logits_that_are_not_finite(bad: float) -> None:
    logits = torch.full((2, 5), 3e38)  # finite, unlike their sum
    inputs.check_finite_logits(logits, 0, {0, 1})
    logits[1, 3] = bad
    inputs.check_finite_logits(logits, 0, {0})  # nobody reads the other row
    with refuses("the logits for new token 3 of prompts[1]"):
        inputs.check_finite_logits(logits, 2, {0, 1})
    with refuses("the logits for new token 1"):
        inputs.check_finite_logits(logits[1], 0)


@pytest.mark.parametrize("name", ["tokens", "n_pad"])
def test_tensors_without_values_need_a_model_without(name: str) -> None:
    model, real = random_model(), {"tokens": torch.tensor([[1, 2]]), "n_pad": None}
    meta = {"tokens": [[1, 2]], "n_pad": [0]}[name]
    with refuses(name):
        model(**(real | {name: torch.tensor(meta, device="meta")}))


@pytest.mark.parametrize("device", ["mps", "xla", "hip", "privateuseone"])
def test_a_device_that_is_not_here_is_refused_in_a_line(device: str) -> None:
    with refuses("device") as caught:
        inputs.check_device(device)
    assert len(str(caught.value)) < 250


def test_a_trace_in_float64_is_counted_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    n_bytes = SMALL.n_layer * SMALL.n_head * 32 * 32 * 8
    model, tokens = (
        random_model(dtype=torch.float64),
        torch.zeros(32, dtype=torch.int64),
    )
    monkeypatch.setattr(inputs, "MAX_BYTES", n_bytes)
    model.trace(tokens)
    monkeypatch.setattr(inputs, "MAX_BYTES", n_bytes - 1)
    with refuses("the attention weights of all layers"):
        model.trace(tokens)
