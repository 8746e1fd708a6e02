"""Sampling against transformers; the loop with and without cache, alone or batched."""

import itertools
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
import torch
from hypothesis import assume, example, given
from hypothesis import strategies as st
from torch import Tensor
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from hardway import GPT2, KVCache, Tokenizer
from hardway.generation import (
    Sampler,
    apply_temperature,
    draw,
    generate,
    generate_batch,
    keep_top_k,
    keep_top_p,
    next_token_probabilities,
    stream,
    stream_text,
    whole_characters,
)
from references import SMALL, as_transformers, random_model

LOGITS = st.lists(st.floats(-30, 30, width=32), min_size=1, max_size=40).map(
    torch.tensor
)
NO_IDS = torch.empty(1, 0, dtype=torch.int64)  # the warpers do not look at the ids
MODES = pytest.mark.parametrize("use_cache", [True, False], ids=["cached", "uncached"])
SAMPLED = {"temperature": 0.9, "top_k": 20, "top_p": 0.95, "seed": 7}
WAYS = pytest.mark.parametrize("how", [{}, SAMPLED], ids=["greedy", "sampled"])
PROMPT = [5, 17, 42]


class Stub:
    """Stands where a model does; ``answer`` makes the logits [n_vocab] of each step."""

    config = SMALL

    def __init__(
        self, answer: Callable[[int], Tensor], n_vocab: int | None = None
    ) -> None:
        self.answer = answer
        self.weights = {"wte.weight": torch.zeros(1)}
        self.fed: list[list[int]] = []
        self.caches: list[KVCache | None] = []
        if n_vocab is not None:
            self.config = type(SMALL)(**(vars(SMALL) | {"n_vocab": n_vocab}))

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


def saying(ids: list[int], n_vocab: int = SMALL.n_vocab) -> Any:
    """A model that says just these ids, whatever it is asked."""
    one_hot = torch.nn.functional.one_hot
    return Stub(lambda step: one_hot(torch.tensor(ids[step]), n_vocab).float(), n_vocab)


def refuse(step: int) -> Tensor:
    pytest.fail("the model was called")


@pytest.fixture(scope="module")
def model() -> GPT2:
    """In float64, so that no near tie between two tokens depends on rounding."""
    return random_model(dtype=torch.float64)


# --- the processors, against transformers' ---


@given(logits=LOGITS, temperature=st.floats(0.01, 100))
def test_temperature_equals_transformers(logits: Tensor, temperature: float) -> None:
    """Up to a constant, which no softmax notices."""
    original = logits.clone()
    theirs = TemperatureLogitsWarper(temperature)(NO_IDS, logits[None])[0]
    found = apply_temperature(logits, temperature)
    torch.testing.assert_close(found, theirs - theirs.max(), atol=1e-3, rtol=1e-4)
    assert found.max() == 0
    assert torch.equal(logits, original)


@pytest.mark.parametrize("temperature", [1e-5, 1e-30, 1e-38, 1e-45, 1e-46, 5e-324])
def test_case_38_no_temperature_is_too_low(temperature: float) -> None:
    probabilities = next_token_probabilities(torch.tensor([1.0, 3.0, 2.0]), temperature)
    assert probabilities.tolist() == [0.0, 1.0, 0.0]


@pytest.mark.parametrize("temperature", [1e9, 1e38, 1e39, 1e308])
def test_no_temperature_is_too_high(temperature: float) -> None:
    probabilities = next_token_probabilities(torch.tensor([1.0, 3.0]), temperature)
    assert probabilities.tolist() == [0.5, 0.5]


@given(logits=LOGITS, k=st.integers(1, 50))
def test_top_k_equals_transformers(logits: Tensor, k: int) -> None:
    """Hypothesis draws many ties; k may be more than there are tokens."""
    original = logits.clone()
    theirs = TopKLogitsWarper(k)(NO_IDS, logits[None])[0]
    assert torch.equal(keep_top_k(logits, k), theirs)
    assert torch.equal(logits, original)


def test_top_k_keeps_ties() -> None:
    kept = keep_top_k(torch.tensor([1.0, 0.0, 1.0, 1.0]), 2)
    assert kept.tolist() == [1.0, -torch.inf, 1.0, 1.0]


@given(logits=LOGITS, p=st.floats(1e-6, 1))
@example(logits=torch.zeros(4), p=0.5)
def test_top_p_equals_transformers(logits: Tensor, p: float) -> None:
    """Sums that hit the line, and ties on it, included."""
    original = logits.clone()
    assert torch.equal(
        keep_top_p(logits, p), TopPLogitsWarper(p)(NO_IDS, logits[None])[0]
    )
    assert torch.equal(logits, original)


@given(logits=LOGITS, p=st.floats(0.01, 1))
def test_top_p_equals_a_loop_from_the_top(logits: Tensor, p: float) -> None:
    """The nucleus as the paper defines it, but for sums too near the line to call."""
    kept, held = [], 0.0
    shares = logits.double().softmax(dim=-1)
    for share in shares.sort(descending=True).values.tolist():
        assume(abs(held - p) > 1e-5)
        if held < p:
            kept.append(share)
        held += share
    found = shares[keep_top_p(logits, p).isfinite()].sort(descending=True).values
    assert found.tolist() == kept


@pytest.mark.parametrize(
    ("shares", "p", "kept"),
    [
        ([0.3, 0.1, 0.1, 0.5], 0.8, [0.3, 0.5]),  # these two are transformers' own
        ([0.15, 0.3, 0.3, 0.25], 0.8, [0.3, 0.3, 0.25]),
        ([0.5, 0.25, 0.125, 0.125], 0.75, [0.5, 0.25]),  # exact: not crossed
        ([0.5, 0.25, 0.125, 0.125], 0.76, [0.5, 0.25, 0.125]),  # crossing: kept
        ([0.5, 0.25, 0.125, 0.125], 0.5, [0.5]),
        ([0.125, 0.25, 0.125, 0.5], 0.51, [0.25, 0.5]),
        ([0.5, 0.25, 0.125, 0.125], 1e-9, [0.5]),  # one is always kept
        ([0.5, 0.25, 0.125, 0.125], 1e-30, [0.5]),
        ([0.5, 0.25, 0.125, 0.125], 1.0, [0.5, 0.25, 0.125, 0.125]),
    ],
)
def test_top_p_at_the_line(shares: list[float], p: float, kept: list[float]) -> None:
    found = keep_top_p(torch.tensor(shares).log(), p)
    assert found[found.isfinite()].exp().tolist() == pytest.approx(kept)


def test_top_p_of_a_batch_is_that_of_each_row() -> None:
    logits = torch.randn(3, 2, 50, generator=torch.Generator().manual_seed(0))
    found = keep_top_p(logits, 0.7)
    for i, j in itertools.product(range(3), range(2)):
        assert torch.equal(found[i, j], keep_top_p(logits[i, j], 0.7))


def test_top_p_of_one_cuts_nothing() -> None:
    """Rounding brings the sum to 1 long before the last of 50,257 tokens."""
    logits = 3 * torch.randn(50_257, generator=torch.Generator().manual_seed(0))
    assert (next_token_probabilities(logits, 1.0, top_p=1.0) > 0).all()
    assert (next_token_probabilities(logits, 1.0, top_p=1) > 0).all()


@given(
    logits=LOGITS,
    temperature=st.floats(0.1, 5),
    k=st.integers(1, 10),
    p=st.floats(0.05, 1),
)
def test_the_order_is_temperature_top_k_top_p(
    logits: Tensor, temperature: float, k: int, p: float
) -> None:
    theirs = logits[None]
    near = (logits[:, None] - logits).abs()
    assume(((near == 0) | (near > 1e-4)).all())  # equal, or told apart when divided
    for warper in (TemperatureLogitsWarper(temperature), TopKLogitsWarper(k)):
        theirs = warper(NO_IDS, theirs)
    ends = theirs.double().softmax(dim=-1).sort().values.cumsum(dim=-1)
    assume(((ends - (1 - p)).abs() > 1e-5).all())  # we subtract the largest logit first
    theirs = TopPLogitsWarper(p)(NO_IDS, theirs).softmax(dim=-1)[0]
    found = next_token_probabilities(logits, temperature, k, p)
    torch.testing.assert_close(found, theirs, atol=1e-5, rtol=1e-3)
    assert torch.equal(found > 0, theirs > 0)


# --- the draw ---


@given(
    weights=st.lists(st.integers(0, 1000), min_size=1, max_size=30),
    u=st.integers(0, 2**20 - 1),
)
def test_draw_falls_where_the_cumulative_sum_says(weights: list[int], u: int) -> None:
    """In whole numbers, where nothing is rounded."""
    assume(any(weights))
    place = u * sum(weights)  # in units of 2^-20
    ends = itertools.accumulate(weights)
    expected = next(i for i, end in enumerate(ends) if place < end * 2**20)
    assert draw(torch.tensor(weights, dtype=torch.float64), u / 2**20) == expected


@pytest.mark.parametrize("u", [0.0, 1 - 2**-53])
def test_draw_never_takes_what_has_no_probability(u: float) -> None:
    for total in (1.0, 0.9999999, 1.0000001, 0.5, 3.0):
        shares = torch.tensor([0.0, 0.25, 0.0, 0.75, 0.0], dtype=torch.float64) * total
        assert draw(shares, u) == (1 if u == 0 else 3)


def test_draws_are_as_frequent_as_probable() -> None:
    logits = torch.tensor([2.0, 0.0, 1.0, -1.0, 0.5])
    sampler = Sampler(temperature=1.5, seed=0)
    generator = sampler.generator()
    n = 5000
    drawn = torch.tensor([sampler.choose(logits, generator) for _ in range(n)])
    shares = torch.softmax(logits / 1.5, dim=-1)
    deviation = (shares * (1 - shares) / n).sqrt()
    found = drawn.bincount(minlength=5) / n
    assert ((found - shares).abs() < 4 * deviation).all()


def test_greedy_takes_the_first_of_equals() -> None:
    sampler = Sampler()
    assert sampler.choose(torch.tensor([1.0, 5.0, 5.0]), sampler.generator()) == 1


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
    assert generate(model, PROMPT, 20, 1.0, seed=3, use_cache=use_cache) == first
    assert generate(model, PROMPT, 20, 1.0, seed=4, use_cache=use_cache) != first


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
    assert stub.fed == [[3]]
    assert list(ids) == [2, 3, 4]
    assert stub.fed == ([[3], [1], [1], [1]] if use_cache else [[3], [4], [5], [6]])


@pytest.mark.parametrize(
    ("stored", "dtype"),
    [
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
        (torch.float16, torch.float32),
    ],
    ids=str,
)
def test_the_cache_has_what_the_model_computes_in_and_no_room_to_spare(
    stored: torch.dtype, dtype: torch.dtype
) -> None:
    for run in (
        lambda stub: generate(stub, PROMPT, 4),
        lambda stub: generate_batch(stub, [PROMPT, [1]], 4),
    ):
        stub = saying([1, 2, 3, 4])
        stub.weights = {"wte.weight": torch.zeros(1, dtype=stored)}
        run(stub)
        assert {cache.keys.dtype for cache in stub.caches} == {dtype}
        assert {cache.max_len for cache in stub.caches} == {7}
        assert len(set(map(id, stub.caches))) == 1


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
    batch = generate_batch(saying([1, 2, 3, 2]), [PROMPT, [1]], 4, **arguments)
    assert batch == [expected, expected]


@MODES
def test_no_new_tokens_need_no_model(use_cache: bool) -> None:
    stub: Any = Stub(refuse)
    full = [0] * SMALL.n_ctx
    assert generate(stub, full, 0, use_cache=use_cache) == []
    assert list(stream(stub, full, 0, use_cache=use_cache)) == []
    assert generate_batch(stub, [full, PROMPT], 0, use_cache=use_cache) == [[], []]
    assert generate_batch(stub, [], 5, use_cache=use_cache) == []


@MODES
def test_case_38_greedy_is_deterministic(model: GPT2, use_cache: bool) -> None:
    """Whatever the seed, the filters and the state of torch's own generator."""
    expected = generate(model, PROMPT, 20)
    for seed, top_k, top_p in ((None, 1, None), (3, None, 0.1), (4, 2, 1.0)):
        torch.manual_seed(seed or 0)
        found = generate(model, PROMPT, 20, 0, top_k, top_p, seed, use_cache)
        assert found == expected


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

BAD: list[tuple[str, Any, str]] = [
    *(("temperature", value, "temperature must be a finite number from 0 on")
      for value in (-0.1, float("nan"), float("inf"), -float("inf"), True, "1", None)),
    *(("top_k", value, "top_k must be None or a whole number from 1 on")
      for value in (0, -1, True, 1.0, "1")),
    *(("top_p", value, "top_p must be None or above 0 and at most 1")
      for value in (0, 0.0, -0.1, 1.1, 2, float("nan"), float("inf"), True, "1")),
    *(("seed", value, "seed must be None or from 0 to 2^63 - 1")
      for value in (-1, 2**63, True, 1.0, "1")),
    *(("max_new_tokens", value, "max_new_tokens must be a whole number from 0 on")
      for value in (-1, True, 1.0, "1", None)),
]  # fmt: skip
BAD_STOP_IDS = [97, -1, True, 1.0, "a", None]
BAD_PROMPTS: list[tuple[Any, str]] = [
    ([], "prompt_ids must hold at least one id"),
    *(([1, value], "prompt_ids must be whole numbers from 0 to 96")
      for value in (97, -1, True, 1.0, "a", None)),
    (torch.tensor([1]), "prompt_ids must be whole numbers from 0 to 96"),
    ([1] * 33, "a prompt of 33 ids and max_new_tokens = 0 are more than"),
]  # fmt: skip


def starts(prompt: Any, arguments: dict[str, Any]) -> Iterator[Callable[[Any], Any]]:
    """Every way to start; `stream` is called, and not iterated."""
    for use_cache in (True, False):
        both = {"use_cache": use_cache} | arguments
        yield lambda stub, both=both: generate(stub, prompt, **both)
        yield lambda stub, both=both: stream(stub, prompt, **both)
        yield lambda stub, both=both: generate_batch(stub, [prompt], **both)
        yield lambda stub, both=both: generate_batch(stub, [[1], prompt], **both)


@pytest.mark.parametrize(("name", "value", "message"), BAD)
def test_case_38_a_bad_argument_is_refused_before_any_work(
    name: str, value: Any, message: str
) -> None:
    """Greedy decoding has no use for top_k and such, and checks them all the same."""
    for temperature in (0.0, 1.0):
        arguments = {"max_new_tokens": 1, "temperature": temperature, name: value}
        for start in starts(PROMPT, arguments):
            with pytest.raises(
                ValueError, match=re.escape(f"{message}, not {value!r}")
            ):
                start(Stub(refuse))


@pytest.mark.parametrize("value", BAD_STOP_IDS)
def test_a_bad_stop_id_is_refused_before_any_work(value: Any) -> None:
    message = f"stop_ids must be whole numbers from 0 to 96, not {value!r}"
    for start in starts(PROMPT, {"max_new_tokens": 1, "stop_ids": [1, value]}):
        with pytest.raises(ValueError, match=re.escape(message)):
            start(Stub(refuse))


@pytest.mark.parametrize("n", [30, 10**30])
def test_case_39_more_than_the_context_is_refused_before_any_work(n: int) -> None:
    message = f"ids and max_new_tokens = {n} are more than the model's n_ctx = 32"
    for start in starts(PROMPT, {"max_new_tokens": n}):
        with pytest.raises(ValueError, match=re.escape(message)):
            start(Stub(refuse))


@pytest.mark.parametrize(("prompt", "message"), BAD_PROMPTS, ids=str)
def test_case_39_a_bad_prompt_is_refused_before_any_work(
    prompt: Any, message: str
) -> None:
    for start in starts(prompt, {"max_new_tokens": 0}):
        with pytest.raises(ValueError, match=message):
            start(Stub(refuse))


@pytest.mark.parametrize(
    ("prompt", "arguments", "message"),
    [
        ("", {}, "prompt_ids must hold at least one id"),
        ("a\ud800", {}, "lone surrogate"),
        ("a", {"top_p": 0}, "top_p must be"),
        ("a" * 999, {}, "are more than the model's n_ctx = 32 positions"),
    ],
)
def test_stream_text_checks_at_the_call(
    tokenizer: Tokenizer, prompt: str, arguments: dict[str, Any], message: str
) -> None:
    stub: Any = Stub(refuse, n_vocab=50257)
    with pytest.raises(ValueError, match=message):
        stream_text(stub, tokenizer, prompt, 3, **arguments)


@pytest.mark.parametrize("arguments", [{"top_k": 1}, {"top_k": 10**9}, {"top_p": 1}])
def test_good_arguments_at_the_edge(arguments: dict[str, Any]) -> None:
    logits = torch.arange(SMALL.n_vocab, dtype=torch.float32)
    stub: Any = Stub(lambda step: 1000 * logits)
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

    message = r"the logits for new token 3 hold NaN or infinity; look for"
    ids = stream(Stub(answer), PROMPT, 5, use_cache=use_cache, **how)  # type: ignore[arg-type]
    assert len([next(ids), next(ids)]) == 2
    with pytest.raises(ValueError, match=message):
        next(ids)

    def answer_to_all(step: int) -> Tensor:
        return torch.stack([torch.zeros(SMALL.n_vocab), answer(step)])[:, None]

    message = r"the logits for new token 3 of prompts\[1\] hold NaN or infinity"
    batch: Any = Stub(answer_to_all)
    with pytest.raises(ValueError, match=message):
        generate_batch(batch, [PROMPT, [1]], 5, use_cache=use_cache, **how)


@MODES
@WAYS
def test_case_39_what_follows_a_stop_may_be_nan(
    use_cache: bool, how: dict[str, Any]
) -> None:
    """Nobody reads what a row that has stopped goes on to say; the others go on."""

    def answer(step: int) -> Tensor:
        logits = torch.full((2, 1, SMALL.n_vocab), -1e9)
        logits[0, 0, 5] = torch.nan if step else 0.0  # stops, then falls ill
        logits[1, 0, [1, 2, 3, 5][step]] = 0.0
        return logits

    stub: Any = Stub(answer)
    found = generate_batch(
        stub, [PROMPT, [1]], 9, use_cache=use_cache, stop_ids={5}, **how
    )
    assert found == [[], [1, 2, 3]]


def test_case_39_a_model_of_nan_is_named_at_once(model: GPT2) -> None:
    damaged = model.weights | {"ln_f.bias": model.weights["ln_f.bias"] * torch.nan}
    with pytest.raises(ValueError, match="the logits for new token 1 hold NaN"):
        generate(GPT2(model.config, damaged), PROMPT, 5)


@pytest.mark.parametrize("logits", [[-torch.inf, 0.0], [0.0, -torch.inf, -torch.inf]])
def test_case_39_one_token_is_always_kept(logits: list[float]) -> None:
    for top_k, top_p in ((1, None), (None, 1e-9), (1, 1e-9)):
        shares = next_token_probabilities(torch.tensor(logits), 1.0, top_k, top_p)
        assert sorted(shares.tolist())[-1] == 1.0


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
def test_case_37_whole_characters_join_to_the_decoded_text(
    tokenizer: Tokenizer, ids: list[int]
) -> None:
    """Even where the bytes are not UTF-8 at all."""
    assert "".join(whole_characters(tokenizer, ids)) == tokenizer.decode(ids)


@pytest.mark.slow
@given(text=st.text())
def test_case_37_text_is_never_shown_as_broken(tokenizer: Tokenizer, text: str) -> None:
    """Even byte by byte, each character comes whole, when its last byte is there."""
    ids = [tokenizer.ids[bytes([byte])] for byte in text.encode()]
    assert list(whole_characters(tokenizer, ids)) == list(text)


@given(ids=st.lists(st.integers(0, 255), max_size=30))
def test_whole_characters_of_single_bytes(tokenizer: Tokenizer, ids: list[int]) -> None:
    assert "".join(whole_characters(tokenizer, ids)) == tokenizer.decode(ids)


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
