"""The loop with and without a cache, alone or batched, for any language model."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Barrier
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

from hardway import GPT2, KVCache, Sampler, Tokenizer
from hardway.decoding.speculative import LookUp, rounds
from hardway.fast.gpt2 import FastGPT2
from hardway.generation import (
    cached_steps,
    decode_steps,
    decode_stream,
    generate,
    generate_batch,
    infer,
    pad_left,
    stop_at,
    stream,
    stream_text,
    uncached_steps,
)
from hardway.inputs import ModelConfig
from hardway.serving import Engine
from references import (
    SMALL,
    as_transformers,
    random_model,
    with_sizes,
)
from refusals import BAD_OPTIONS, refuses

MODES = pytest.mark.parametrize("use_cache", [True, False], ids=["cached", "uncached"])
SAMPLED = {"temperature": 0.9, "top_k": 20, "top_p": 0.95, "seed": 7}
WAYS = pytest.mark.parametrize("how", [{}, SAMPLED], ids=["greedy", "sampled"])
PROMPT = [5, 17, 42]


class Stub:
    """Stands where a model does; ``answer`` makes the logits [n_vocab] of each step."""

    def __init__(
        self, answer: Callable[[int], Tensor], n_vocab: int = SMALL.n_vocab
    ) -> None:
        self.config: ModelConfig = with_sizes(SMALL, n_vocab=n_vocab)
        self.answer = answer
        self.fed: list[list[int]] = []
        self.caches: list[KVCache | None] = []

    def __call__(
        self,
        tokens: Tensor,
        cache: KVCache | None = None,
        last_only: bool = False,
        n_pad: Tensor | None = None,
    ) -> Tensor:
        logits = self.answer(len(self.fed)).expand(*tokens.shape[:-1], 1, -1)
        self.fed.append(list(tokens.shape))
        self.caches.append(cache)
        assert last_only
        return logits

    def new_cache(self, batch_size: int = 1, max_len: int | None = None) -> KVCache:
        return KVCache(self.config, batch_size, max_len)


def saying(ids: list[int], n_vocab: int = SMALL.n_vocab) -> Stub:
    """A model that says just these ids, whatever it is asked."""
    one_hot = torch.nn.functional.one_hot
    return Stub(lambda step: one_hot(torch.tensor(ids[step]), n_vocab).float(), n_vocab)


def refuse(step: int) -> Tensor:
    pytest.fail("the model was called")


@pytest.fixture(scope="module")
def model() -> GPT2:
    """In float64, so that no near tie between two tokens depends on rounding."""
    return random_model(dtype=torch.float64)


# --- the loop ---


@MODES
@pytest.mark.parametrize("n_prompt", [1, 6])
def test_greedy_equals_transformers(
    model: GPT2, use_cache: bool, n_prompt: int
) -> None:
    reference = as_transformers(model)
    for first in range(5):
        prompt = [(first + 31 * i) % SMALL.n_vocab for i in range(n_prompt)]
        n = SMALL.n_ctx - n_prompt
        expected = reference.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, n_prompt, dtype=torch.int64),
            do_sample=False,
            max_new_tokens=n,
            pad_token_id=0,
        )
        found = generate(model, prompt, n, use_cache=use_cache)
        assert found == expected[0, n_prompt:].tolist()
        assert len(found) == n


@WAYS
def test_cached_uncached_and_streamed_are_equal(
    model: GPT2, how: dict[str, Any]
) -> None:
    expected = generate(model, PROMPT, 20, use_cache=False, **how)
    assert generate(model, PROMPT, 20, **how) == expected
    assert list(stream(model, PROMPT, 20, **how)) == expected
    assert list(stream(model, PROMPT, 20, use_cache=False, **how)) == expected
    assert generate(model, PROMPT, 8, **how) == expected[:8]
    assert len(set(expected)) > 3  # no loop that would hide a difference


@MODES
def test_sampling_is_the_seeds_alone(model: GPT2, use_cache: bool) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = generate(model, PROMPT, 20, temperature=1.0, seed=3, use_cache=use_cache)
    generate(model, PROMPT, 5, temperature=1.0, use_cache=use_cache)  # of no seed
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    again = {"temperature": 1.0, "use_cache": use_cache}
    assert generate(model, PROMPT, 20, seed=3, **again) == first
    assert generate(model, PROMPT, 20, seed=4, **again) != first


def test_without_a_seed_each_run_is_another(model: GPT2) -> None:
    runs = [tuple(generate(model, PROMPT, 29, temperature=2.0)) for _ in range(3)]
    assert len(set(runs)) == 3


@pytest.mark.parametrize("seed", [0, 2**63 - 1])
def test_the_smallest_and_largest_seed(model: GPT2, seed: int) -> None:
    assert len(generate(model, PROMPT, 3, temperature=1.0, seed=seed)) == 3


@MODES
def test_what_the_model_is_fed(use_cache: bool) -> None:
    """Prefill, then one token a step; without a cache, all of them each time."""
    stub = saying([1, 2, 3, 4])
    ids = stream(stub, PROMPT, 4, use_cache=use_cache)
    assert stub.fed == []  # nothing is computed before it is asked for
    assert next(ids) == 1
    assert stub.fed == ([[1, 3]] if use_cache else [[3]])
    assert list(ids) == [2, 3, 4]
    cached = [[1, 3], [1, 1], [1, 1], [1, 1]]
    assert stub.fed == (cached if use_cache else [[3], [4], [5], [6]])


def test_the_model_makes_one_cache_with_no_room_to_spare() -> None:
    for prompts in ([PROMPT], [PROMPT, [1]]):
        stub = saying([1, 2, 3, 4])
        generate_batch(stub, prompts, 4)
        (cache,) = {id(cache): cache for cache in stub.caches}.values()
        assert cache is not None
        assert (cache.batch_size, cache.max_len) == (len(prompts), 7)


def test_without_a_cache_none_is_made() -> None:
    stub = saying([1, 2, 3, 4])
    generate(stub, PROMPT, 4, use_cache=False)
    assert stub.caches == [None] * 4


@MODES
@pytest.mark.parametrize(
    ("stop_ids", "expected"),
    [((), [1, 2, 3, 2]), ({3}, [1, 2]), ([3, 2], [1]), ((1,), []), ({9}, [1, 2, 3, 2])],
)
def test_a_stop_id_ends_the_text_and_is_left_out(
    use_cache: bool, stop_ids: Any, expected: list[int]
) -> None:
    stub = saying([1, 2, 3, 2])
    arguments = {"use_cache": use_cache, "stop_ids": stop_ids}
    assert generate(stub, PROMPT, 4, **arguments) == expected
    assert len(stub.fed) == min(4, len(expected) + 1)
    if use_cache:
        batch = generate_batch(saying([1, 2, 3, 2]), [PROMPT, [1]], 4, **arguments)
        assert batch == [expected, expected]


@MODES
def test_no_new_tokens_need_no_model(use_cache: bool) -> None:
    stub = Stub(refuse)
    full = [0] * SMALL.n_ctx
    assert generate(stub, full, 0, use_cache=use_cache) == []
    assert list(stream(stub, full, 0, use_cache=use_cache)) == []
    assert generate_batch(stub, [full, PROMPT], 0, use_cache=use_cache) == [[], []]
    assert generate_batch(stub, [], 5, use_cache=use_cache) == []


@MODES
def test_no_new_tokens_take_no_memory(
    use_cache: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Padding these many prompts, or a cache for them, would."""

    def allocate(*_: Any, **__: Any) -> None:
        pytest.fail("memory was allocated")

    stub = Stub(refuse)
    monkeypatch.setattr(stub, "new_cache", allocate)
    for name in ("tensor", "zeros", "empty", "full"):
        monkeypatch.setattr(torch, name, allocate)
    prompts = [[1] * SMALL.n_ctx, [2]] * 500
    assert generate_batch(stub, prompts, 0, use_cache=use_cache) == [[]] * 1000


@MODES
def test_case_38_greedy_is_deterministic(model: GPT2, use_cache: bool) -> None:
    """Whatever the seed, the filters and the state of torch's own generator."""
    expected = generate(model, PROMPT, 20)
    for seed, top_k, top_p in ((None, 1, None), (3, None, 0.1), (4, 2, 1.0)):
        torch.manual_seed(seed or 0)
        how: dict[str, Any] = {"top_k": top_k, "top_p": top_p, "seed": seed}
        found = generate(model, PROMPT, 20, temperature=0, use_cache=use_cache, **how)
        assert found == expected


@pytest.mark.slow
@WAYS
def test_threads_share_a_model(model: GPT2, how: dict[str, Any]) -> None:
    """Each thread generates what it would alone, also while the others do."""
    prompts = [[first, 2 * first, 3] for first in range(1, 17)]
    alone = [generate(model, prompt, 20, **how) for prompt in prompts]
    together = Barrier(8)

    def run(prompt: list[int]) -> list[int]:
        together.wait(timeout=60)
        return generate(model, prompt, 20, **how)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(run, prompts)) == alone


# --- bad arguments ---

BAD: list[tuple[str, Any]] = [
    *BAD_OPTIONS,
    *(("max_new_tokens", value) for value in (-1, True, 1.0, "1", None)),
]
BAD_IDS = [97, -1, True, 1.0, "a", None]
BAD_PROMPTS: list[tuple[Any, str]] = [
    ([], "prompt_ids"),
    *((value, "prompt_ids") for value in (5, None, torch.tensor(5), "", "ab", b"ab")),
    *(([1, value], "each of prompt_ids") for value in BAD_IDS),
    (torch.tensor([1.0]), "each of prompt_ids"),
    ([1] * 33, "prompt_ids and max_new_tokens"),
]


def starts(prompt: Any, arguments: dict[str, Any]) -> Iterator[Callable[[Any], Any]]:
    """Every way to start; `stream` is called, and not iterated."""
    for use_cache in (True, False):
        both = {"use_cache": use_cache} | arguments
        yield lambda stub, both=both: generate(stub, prompt, **both)
        yield lambda stub, both=both: stream(stub, prompt, **both)
        yield lambda stub, both=both: generate_batch(stub, [prompt], **both)
        yield lambda stub, both=both: generate_batch(stub, [[1], prompt], **both)


@pytest.mark.parametrize(("name", "value"), BAD)
def test_case_38_a_bad_argument_is_refused_before_any_work(
    name: str, value: Any
) -> None:
    """Greedy decoding has no use for top_k and such, and checks them all the same."""
    for temperature in (0.0, 1.0):
        arguments = {"max_new_tokens": 1, "temperature": temperature, name: value}
        for start in starts(PROMPT, arguments):
            with refuses(name):
                start(Stub(refuse))
        with refuses(name):
            generate_batch(Stub(refuse), [], **arguments)


@pytest.mark.parametrize("value", BAD_IDS)
def test_a_bad_stop_id_is_refused_before_any_work(value: Any) -> None:
    arguments = {"max_new_tokens": 1, "stop_ids": [1, value]}
    for start in starts(PROMPT, arguments):
        with refuses("each of stop_ids"):
            start(Stub(refuse))
    with refuses("each of stop_ids"):
        generate_batch(Stub(refuse), [], **arguments)


@pytest.mark.parametrize("stop_ids", [5, None, 1.5, "ab", b"ab"])
def test_stop_ids_that_hold_no_ids_are_refused_before_any_work(stop_ids: Any) -> None:
    arguments = {"max_new_tokens": 1, "stop_ids": stop_ids}
    for start in starts(PROMPT, arguments):
        with refuses("stop_ids"):
            start(Stub(refuse))
    with refuses("stop_ids"):
        generate_batch(Stub(refuse), [], **arguments)


@MODES
@pytest.mark.parametrize(
    ("prompts", "named"),
    [(5, "prompts"), (None, "prompts"), ([5, 6], "prompt_ids"),
     ([[1], 6], "prompt_ids"), ("ab", "prompt_ids"), (["ab"], "prompt_ids"),
     (b"ab", "prompt_ids")],
    ids=str,
)  # fmt: skip
def test_prompts_that_hold_no_prompts_are_refused(
    prompts: Any, named: str, use_cache: bool
) -> None:
    with refuses(named):
        generate_batch(Stub(refuse), prompts, 3, use_cache=use_cache)


@pytest.mark.parametrize("prompt", ["Once upon", b"Once upon"])
def test_a_prompt_of_text_is_told_what_makes_ids_of_it(prompt: Any) -> None:
    for start in starts(prompt, {"max_new_tokens": 3}):
        with pytest.raises(ValueError, match=r"^prompt_ids .* call tokenizer\.encode$"):
            start(Stub(refuse))


@pytest.mark.parametrize("n", [30, 10**30])
def test_case_39_more_than_the_context_is_refused_before_any_work(n: int) -> None:
    for start in starts(PROMPT, {"max_new_tokens": n}):
        with refuses("prompt_ids and max_new_tokens"):
            start(Stub(refuse))


@pytest.mark.parametrize(("prompt", "named"), BAD_PROMPTS, ids=str)
def test_case_39_a_bad_prompt_is_refused_before_any_work(
    prompt: Any, named: str
) -> None:
    for start in starts(prompt, {"max_new_tokens": 0}):
        with refuses(named):
            start(Stub(refuse))


@pytest.mark.parametrize("run", [generate, stream, generate_batch, decode_steps])
def test_options_are_given_by_name(run: Callable[..., Any]) -> None:
    batched = run in (generate_batch, decode_steps)
    prompt = [PROMPT] if batched else PROMPT
    with pytest.raises(TypeError, match="positional argument"):
        run(Stub(refuse), prompt, 3, 0.7)
    with pytest.raises(TypeError, match="unexpected keyword argument 'temprature'"):
        run(Stub(refuse), prompt, 3, temprature=0.7)


def test_the_options_of_text_are_given_by_name(tokenizer: Tokenizer) -> None:
    stub, run = Stub(refuse, n_vocab=50257), stream_text
    with pytest.raises(TypeError, match="positional argument"):
        run(stub, tokenizer, "a", 3, 0.7)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="unexpected keyword argument 'stops'"):
        run(stub, tokenizer, "a", 3, stops=0)  # type: ignore[call-arg]


@MODES
def test_iterators_are_read_once(model: GPT2, use_cache: bool) -> None:
    expected = generate(model, PROMPT, 8, use_cache=use_cache)
    stop = expected[5]
    expected = expected[: expected.index(stop)]
    how = {"use_cache": use_cache}
    assert generate(model, iter(PROMPT), 8, stop_ids=iter([stop]), **how) == expected  # type: ignore[arg-type]
    assert list(stream(model, iter(PROMPT), 8, stop_ids={stop}, **how)) == expected  # type: ignore[arg-type]
    prompts = iter([iter(PROMPT), iter(PROMPT)])
    found = generate_batch(model, prompts, 8, stop_ids=iter([stop]), **how)  # type: ignore[arg-type]
    assert found == [expected, expected]


@MODES
def test_numbers_may_be_numpys_or_tensors(model: GPT2, use_cache: bool) -> None:
    expected = generate(model, PROMPT, 8, use_cache=use_cache, stop_ids=[3], **SAMPLED)
    spelled: dict[str, Any] = {
        "temperature": torch.tensor(0.9, dtype=torch.float64),
        "top_k": np.int32(20),
        "top_p": np.float64(0.95),
        "seed": torch.tensor(7),
        "stop_ids": torch.tensor([3]),
    }
    n: Any = np.int64(8)
    for prompt in (np.array(PROMPT), torch.tensor(PROMPT), map(np.int64, PROMPT)):
        found = generate(model, prompt, n, use_cache=use_cache, **spelled)
        assert found == expected
        assert {type(id) for id in found} == {int}


def test_the_callers_prompt_is_left_alone(model: GPT2) -> None:
    prompt = PROMPT.copy()
    for use_cache in (True, False):
        generate(model, prompt, 3, use_cache=use_cache)
        generate_batch(model, [prompt], 3, use_cache=use_cache)
    assert prompt == PROMPT


def test_the_loops_leave_the_callers_lists_alone(model: GPT2) -> None:
    prompts = [PROMPT.copy(), [1]]
    samplers, stops = [Sampler(), Sampler()], {model.config.n_vocab}
    found = list(cached_steps(model, prompts, 3, samplers, stops))
    assert len(found) == 6
    assert prompts == [PROMPT, [1]]
    assert len(list(uncached_steps(model, prompts[0], 3, samplers[0], stops))) == 3
    assert prompts == [PROMPT, [1]]
    assert (len(samplers), stops) == (2, {model.config.n_vocab})


def test_a_tokenizer_of_another_size_is_refused_before_any_work() -> None:
    class Other:
        n_vocab = SMALL.n_vocab + 1

        def encode(self, text: str) -> list[int]:
            pytest.fail("text was encoded")

    with refuses("tokenizer") as caught:
        stream_text(Stub(refuse), Other(), "a", 3)  # type: ignore[arg-type]
    assert "n_vocab = 97, " in str(caught.value)
    assert "got 98" in str(caught.value)


@pytest.mark.parametrize(
    ("prompt", "arguments", "named"),
    [
        ("", {}, "prompt"),
        (None, {}, "text"),
        (b"a", {}, "text"),
        ("a\ud800", {}, "text"),
        ("a", {"top_p": 0}, "top_p"),
        ("a" * 999, {}, "prompt_ids and max_new_tokens"),
    ],
)
def test_stream_text_checks_at_the_call(
    tokenizer: Tokenizer, prompt: str, arguments: dict[str, Any], named: str
) -> None:
    stub = Stub(refuse, n_vocab=50257)
    with refuses(named):
        stream_text(stub, tokenizer, prompt, 3, **arguments)


@pytest.mark.parametrize("arguments", [{"top_k": 1}, {"top_k": 10**9}, {"top_p": 1}])
def test_good_arguments_at_the_edge(arguments: dict[str, Any]) -> None:
    logits = torch.arange(SMALL.n_vocab, dtype=torch.float32)
    stub = Stub(lambda step: 1000 * logits)
    found = generate(stub, PROMPT, 2, temperature=1, seed=0, **arguments)
    assert found == [SMALL.n_vocab - 1] * 2


@MODES
@WAYS
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_case_39_logits_that_are_not_finite_are_named_with_their_step(
    use_cache: bool, how: dict[str, Any], bad: float
) -> None:
    def answer(step: int) -> Tensor:
        logits = torch.zeros(SMALL.n_vocab)
        logits[7] = bad if step == 2 else 1.0
        return logits

    ids = stream(Stub(answer), PROMPT, 5, use_cache=use_cache, **how)
    assert len([next(ids), next(ids)]) == 2
    with refuses("the logits for new token 3"):
        next(ids)
    if not use_cache:
        return

    def answer_to_all(step: int) -> Tensor:
        return torch.stack([torch.zeros(SMALL.n_vocab), answer(step)])[:, None]

    with refuses("the logits for new token 3 of prompts[1]"):
        generate_batch(Stub(answer_to_all), [PROMPT, [1]], 5, **how)


@WAYS
def test_case_39_what_follows_a_stop_may_be_nan(how: dict[str, Any]) -> None:
    """Nobody reads what a row that has stopped goes on to say; the others go on."""

    def answer(step: int) -> Tensor:
        logits = torch.full((2, 1, SMALL.n_vocab), -1e9)
        logits[0, 0, 5] = torch.nan if step else 0.0  # stops, then falls ill
        logits[1, 0, [1, 2, 3, 5][step]] = 0.0
        return logits

    found = generate_batch(Stub(answer), [PROMPT, [1]], 9, stop_ids={5}, **how)
    assert found == [[], [1, 2, 3]]


def test_case_39_a_model_of_nan_is_named_at_once(model: GPT2) -> None:
    damaged = model.weights | {"ln_f.bias": model.weights["ln_f.bias"] * torch.nan}
    with refuses("the logits for new token 1"):
        generate(GPT2(model.config, damaged), PROMPT, 5)


# --- text ---


@MODES
@pytest.mark.parametrize(
    "text",
    [
        " a 🤗 中文 é",
        "👩‍👩‍👧‍👦🇩🇪",
        "日本語のテキスト",
        "plain",
        "e\u0301\u200d",
        "<|endoftext|>",
    ],
)
def test_case_37_stream_text_never_cuts_a_character(
    tokenizer: Tokenizer, text: str, use_cache: bool
) -> None:
    ids = tokenizer.encode(text)
    model = saying(ids, n_vocab=50257)
    pieces = list(stream_text(model, tokenizer, "x", len(ids), use_cache=use_cache))
    assert "".join(pieces) == text
    assert all(pieces)
    assert "�" not in "".join(pieces)
    assert len(pieces) <= len(ids)


def test_a_piece_comes_as_soon_as_it_is_whole(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("🤗 end")
    model = saying(ids, n_vocab=50257)
    pieces = stream_text(model, tokenizer, "x", len(ids))
    n_emoji = len(tokenizer.encode("🤗"))
    assert n_emoji > 1
    assert next(pieces) == "🤗"
    assert len(model.fed) == n_emoji
    assert list(pieces) == [" end"]


def test_a_character_that_stays_half_comes_at_the_end(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("ok🤗")[:-1]
    model = saying(ids, n_vocab=50257)
    assert list(stream_text(model, tokenizer, "x", len(ids))) == ["ok", "�"]


@given(ids=st.lists(st.integers(0, 50256), max_size=30))
def test_case_37_decode_stream_join_to_the_decoded_text(
    tokenizer: Tokenizer, ids: list[int]
) -> None:
    """Even where the bytes are not UTF-8 at all."""
    assert "".join(decode_stream(tokenizer, ids)) == tokenizer.decode(ids)


@pytest.mark.slow
@given(text=st.text())
def test_case_37_text_is_never_shown_as_broken(tokenizer: Tokenizer, text: str) -> None:
    """Even byte by byte, each character comes whole, when its last byte is there."""
    ids = [tokenizer.ids[bytes([byte])] for byte in text.encode()]
    assert list(decode_stream(tokenizer, ids)) == list(text)


@given(ids=st.lists(st.integers(0, 255), max_size=30))
def test_decode_stream_of_single_bytes(tokenizer: Tokenizer, ids: list[int]) -> None:
    assert "".join(decode_stream(tokenizer, ids)) == tokenizer.decode(ids)


@MODES
@WAYS
def test_stream_text_equals_generate(
    pocket: GPT2, tokenizer: Tokenizer, use_cache: bool, how: dict[str, Any]
) -> None:
    prompt = "Once upon a time"
    ids = generate(pocket, tokenizer.encode(prompt), 12, **how)
    pieces = stream_text(pocket, tokenizer, prompt, 12, use_cache=use_cache, **how)
    assert "".join(pieces) == tokenizer.decode(ids)


# --- the batch ---

RAGGED = [[1, 2, 3, 4, 5, 6, 7, 8], [9], [10, 11, 12], [1, 2, 3], [9]]


@MODES
@WAYS
@pytest.mark.parametrize("stop_ids", [(), "common"])
def test_case_39_a_ragged_batch_equals_each_alone(
    model: GPT2, use_cache: bool, how: dict[str, Any], stop_ids: Any
) -> None:
    alone = [generate(model, prompt, 20, **how) for prompt in RAGGED]
    if stop_ids == "common":  # what the first and the third say fifth: others may never
        stop_ids = {alone[0][4], alone[2][4]}
        alone = [
            generate(model, prompt, 20, stop_ids=stop_ids, **how) for prompt in RAGGED
        ]
        assert len({len(ids) for ids in alone}) > 1
    found = generate_batch(
        model, RAGGED, 20, use_cache=use_cache, stop_ids=stop_ids, **how
    )
    assert found == alone
    assert found[1] == found[4]  # equal prompts and seeds, wherever they stand


@MODES
def test_a_batch_fills_the_context(model: GPT2, use_cache: bool) -> None:
    prompts = [[1] * 30, [2]]
    found = generate_batch(model, prompts, 2, use_cache=use_cache)
    assert found == [generate(model, prompt, 2) for prompt in prompts]


def test_a_batch_ends_when_all_have_stopped() -> None:
    stub = saying([1, 2, 3, 4, 5])
    assert generate_batch(stub, [PROMPT, [1]], 5, stop_ids={2}) == [[1], [1]]
    assert stub.fed == [[2, 3], [2, 1]]


def test_a_batch_in_float32(pocket: GPT2, tokenizer: Tokenizer) -> None:
    texts = ["Once upon a time", "The king said that he", "A"]
    prompts = [tokenizer.encode(text) for text in texts]
    alone = [generate(pocket, prompt, 12) for prompt in prompts]
    assert generate_batch(pocket, prompts, 12) == alone


def test_a_batch_is_padded_at_the_left() -> None:
    tokens, n_pad = pad_left([[1, 2, 3], [4]])
    assert tokens.tolist() == [[1, 2, 3], [0, 0, 4]]
    assert n_pad is not None
    assert n_pad.tolist() == [0, 2]
    tokens, n_pad = pad_left([[1, 2], [3, 4]])
    assert tokens.tolist() == [[1, 2], [3, 4]]
    assert n_pad is None


@MODES
@WAYS
def test_decode_steps_tell_which_prompt_each_id_continues(
    model: GPT2, use_cache: bool, how: dict[str, Any]
) -> None:
    alone = [generate(model, prompt, 6, **how) for prompt in RAGGED[:3]]
    found: list[list[int]] = [[], [], []]
    order = []
    for sequence, id in decode_steps(model, RAGGED[:3], 6, use_cache=use_cache, **how):
        found[sequence].append(id)
        order.append(sequence)
    assert found == alone
    assert order == ([0, 1, 2] * 6 if use_cache else [0] * 6 + [1] * 6 + [2] * 6)


# --- any language model ---


@dataclass(frozen=True)
class TinyConfig:
    n_vocab: int = 11
    n_ctx: int = 24
    n_layer: int = 1
    n_head: int = 4
    n_kv_head: int = 2
    d_head: int = 3


class Tiny:
    """No GPT2: says the sum of all tokens so far and of their number, modulo 11.

    It knows the sum by its cache alone, whose keys are the tokens themselves.
    """

    config = TinyConfig()

    def __call__(
        self,
        tokens: Tensor,
        cache: KVCache | None = None,
        last_only: bool = False,
        n_pad: Tensor | None = None,
    ) -> Tensor:
        batch = tokens if tokens.dim() == 2 else tokens[None]
        keys = batch.float()[:, None, :, None].expand(-1, 2, -1, 3)
        if cache is not None:
            keys, _ = cache.append(0, keys, keys)
            cache.advance(batch.shape[1])
        seen = keys[:, 0, :, 0] + 1  # [B, S]
        if n_pad is not None:
            seen = seen * (torch.arange(seen.shape[1]) >= n_pad[:, None])
        sums = seen.cumsum(dim=1)[:, -1 if last_only else -batch.shape[1] :].long()
        logits = torch.nn.functional.one_hot(sums % 11, 11).float()
        return logits if tokens.dim() == 2 else logits[0]

    def new_cache(self, batch_size: int = 1, max_len: int | None = None) -> KVCache:
        return KVCache(self.config, batch_size, max_len)


def sums(ids: list[int], n: int) -> list[int]:
    for _ in range(n):
        ids = [*ids, (sum(ids) + len(ids)) % 11]
    return ids[-n:]


@MODES
def test_generation_asks_for_a_language_model_and_no_more(use_cache: bool) -> None:
    prompts = [[1, 2, 3], [7], [10, 10]]
    expected = [sums(prompt, 9) for prompt in prompts]
    tiny, how = Tiny(), {"use_cache": use_cache}
    assert [generate(tiny, prompt, 9, **how) for prompt in prompts] == expected  # type: ignore[arg-type]
    assert list(stream(tiny, prompts[0], 9, **how)) == expected[0]  # type: ignore[arg-type]
    assert generate_batch(tiny, prompts, 9, **how) == expected  # type: ignore[arg-type]
    pairs = sorted(decode_steps(tiny, prompts, 9, **how), key=lambda pair: pair[0])  # type: ignore[arg-type]
    assert [id for _, id in pairs] == [id for ids in expected for id in ids]
    with refuses("each of prompt_ids"):
        generate(tiny, [11], 1, **how)  # type: ignore[arg-type]
    with refuses("prompt_ids and max_new_tokens"):
        generate(tiny, [1], 24, **how)  # type: ignore[arg-type]


@MODES
@WAYS
def test_the_fast_model_writes_what_the_taught_one_does(
    model: GPT2, use_cache: bool, how: dict[str, Any]
) -> None:
    fast = FastGPT2(model.config, model.weights)
    found = generate_batch(fast, RAGGED, 20, use_cache=use_cache, **how)
    assert found == generate_batch(model, RAGGED, 20, use_cache=use_cache, **how)
    assert found[2] == generate(fast, RAGGED[2], 20, use_cache=use_cache, **how)


def test_steps_name_prompts_that_cannot_be_iterated_over() -> None:
    with refuses("prompts"):
        decode_steps(random_model(), 5, 3)  # type: ignore[arg-type]


# --- stop strings ---


def cut(text: str, stop: list[str]) -> str:
    """What `stop_at` has to leave: up to the stop string that is complete first."""
    ends = [(text.find(end) + len(end), -len(end)) for end in stop if end in text]
    if not ends:
        return text
    end, length = min(ends)
    return text[: end + length]


PARTS = st.lists(st.text("abc\n", max_size=5), max_size=8)
STOPS = st.lists(st.text("abc\n", min_size=1, max_size=4), min_size=1, max_size=4)


@given(pieces=PARTS, stop=STOPS)
@example(pieces=["ab", "cab", "cd"], stop=["abcd"])
@example(pieces=["aab"], stop=["ab"])
@example(pieces=["abcd"], stop=["bc", "abcd", "abc"])
def test_a_text_ends_before_its_first_stop_string(
    pieces: list[str], stop: list[str]
) -> None:
    """Wherever the pieces begin and end; and nothing that is yielded is empty."""
    found = list(stop_at(pieces, stop))
    assert "".join(found) == cut("".join(pieces), stop)
    assert all(found)


@given(pieces=PARTS, stop=STOPS)
def test_text_is_held_back_no_longer_than_it_has_to_be(
    pieces: list[str], stop: list[str]
) -> None:
    """After each piece, what is missing could still become a stop string."""
    for n in range(len(pieces) + 1):
        whole = "".join(pieces[:n])
        if any(end in whole for end in stop):
            return
        missing = whole
        stream_of_pieces = stop_at(iter([*pieces[:n], "\0"]), stop)
        for piece in stream_of_pieces:
            if "\0" in piece:
                break
            missing = missing.removeprefix(piece)
        assert any(end.startswith(missing) for end in stop)


def test_no_token_is_computed_after_a_stop_string() -> None:
    tokenizer = Tokenizer.from_pretrained("pocket")
    ids = tokenizer.encode("One fox.\n\nTwo foxes.")
    stub = saying(ids, tokenizer.n_vocab)
    found = stream_text(stub, tokenizer, "a", len(ids), stop="\n\n")
    assert "".join(found) == "One fox."
    written = tokenizer.decode(ids[: len(stub.fed)])
    assert written.rstrip("\n") == "One fox."
    stub = saying(ids, tokenizer.n_vocab)
    found = stream_text(stub, tokenizer, "a", len(ids), stop=("Fox", "x.\n\nTw"))
    assert "".join(found) == "One fo"


def test_a_stop_string_may_end_inside_a_character_of_several_tokens() -> None:
    tokenizer = Tokenizer.from_pretrained("pocket")
    text = "a fox 🦊 and a ☃ snowman"
    ids = tokenizer.encode(text)
    for stop in ("🦊", "☃", " ☃ sn", "🦊 and"):
        stub = saying(ids, tokenizer.n_vocab)
        found = list(stream_text(stub, tokenizer, "a", len(ids), stop=[stop]))
        assert "".join(found) == text[: text.index(stop)]


@pytest.mark.parametrize("stop", ["", ["a", ""], [1], 5, None, [b"a"]])
def test_a_bad_stop_string_is_refused_before_any_work(stop: Any) -> None:
    tokenizer = Tokenizer.from_pretrained("pocket")
    with refuses("stop"):
        stream_text(Stub(refuse, tokenizer.n_vocab), tokenizer, "a", 3, stop=stop)


# --- penalties, bias and constraints ---


@dataclass
class Countdown:
    """Allow a text of just these ids, in this order, and then the end."""

    ids: list[int]
    n_vocab: int = SMALL.n_vocab
    eot_id: int = 96
    n_max: int | None = None

    def allowed(self, new_ids: Any) -> Tensor:
        assert self.n_max == 9
        mask = torch.zeros(self.n_vocab, dtype=torch.bool)
        mask[[*self.ids, self.eot_id][len(new_ids)]] = True
        return mask

    def within(self, max_new_tokens: int) -> "Countdown":
        return Countdown(self.ids, self.n_vocab, self.eot_id, max_new_tokens)


@MODES
@WAYS
def test_a_constraint_decides_and_ends_the_text(
    model: GPT2, use_cache: bool, how: dict[str, Any]
) -> None:
    options = how | {"use_cache": use_cache, "constraint": Countdown([7, 3, 3, 90])}
    assert generate(model, PROMPT, 9, **options) == [7, 3, 3, 90]
    assert generate_batch(model, [PROMPT, [1]], 9, **options) == [[7, 3, 3, 90]] * 2


@MODES
def test_penalties_see_prompt_and_output_of_their_own_sequence(
    model: GPT2, use_cache: bool
) -> None:
    prompts = [PROMPT, [42, 7, 42, 7], [9]]
    for penalty in (
        {"repetition_penalty": 1.9}, {"presence_penalty": 2.0},
        {"frequency_penalty": -2.0}, {"logit_bias": {5: 3.5}},
    ):  # fmt: skip
        options: dict[str, Any] = {"use_cache": use_cache} | penalty
        alone = [generate(model, ids, 12, **options) for ids in prompts]
        assert generate_batch(model, prompts, 12, **options) == alone
        assert alone != generate_batch(model, prompts, 12)
        for prompt, ids in zip(prompts, alone, strict=True):
            sampler = Sampler(**penalty)  # type: ignore[arg-type]
            rows = model(torch.tensor(prompt + ids))[len(prompt) - 1 : -1]
            for n, row in enumerate(rows):
                assert sampler.choose(row, prompt, ids[:n]) == ids[n]


@MODES
def test_greedy_with_a_repetition_penalty_equals_transformers(
    model: GPT2, use_cache: bool
) -> None:
    expected = as_transformers(model).generate(
        torch.tensor([PROMPT]), attention_mask=torch.ones(1, 3, dtype=torch.int64),
        do_sample=False, max_new_tokens=25, pad_token_id=0, repetition_penalty=1.3,
    )  # fmt: skip
    found = generate(model, PROMPT, 25, use_cache=use_cache, repetition_penalty=1.3)
    assert found == expected[0, 3:].tolist()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("each of logit_bias", {"logit_bias": {SMALL.n_vocab: 1.0}}),
        ("constraint", {"constraint": Countdown([1], n_vocab=5)}),
    ],
)
def test_options_of_another_vocabulary_are_refused(name: str, value: Any) -> None:
    for start in starts(PROMPT, {"max_new_tokens": 1} | value):
        with refuses(name):
            start(Stub(refuse))


def test_what_a_text_needs_leaves_nothing_behind(model: GPT2) -> None:
    """The loop runs without gradients; its caller and the caller's cache don't."""

    def spoil(logits: Tensor, prompt_ids: Any, new_ids: Any) -> Tensor:
        logits[new_ids] = -torch.inf  # in place
        return logits

    sampler, cache = Sampler(), model.new_cache(1, 20)
    sampler.processors.append(spoil)
    steps = cached_steps(model, [PROMPT], 8, [sampler], (), cache)
    found = []
    for _, id in steps:
        assert not torch.is_inference_mode_enabled()
        found.append(id)
    assert len({*found}) == 8
    assert not infer(model, torch.tensor(PROMPT)).is_inference()
    engine = Engine(FastGPT2(model.config, model.weights))
    request = engine.submit(PROMPT, 8)
    request.sampler.processors.append(spoil)
    engine.run()
    assert request.output_ids == found
    step = rounds(model, LookUp(model.config.n_vocab), PROMPT, 8, 3, sampler, ())
    assert [id for each in step for id in each.ids] == found
