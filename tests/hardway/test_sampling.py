"""Sampling against transformers and plain Python, in the one order it has."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given
from hypothesis import strategies as st
from torch import Tensor
from transformers import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from hardway import sampling
from hardway.sampling import (
    Sampler,
    add_bias,
    apply_temperature,
    keep_allowed,
    keep_min_p,
    keep_top_k,
    keep_top_p,
    keep_top_p_of_few,
    penalize_count,
    penalize_repetition,
    sample,
)
from refusals import BAD_OPTIONS, refuses

LOGITS = st.lists(st.floats(-30, 30, width=32), min_size=1, max_size=40).map(
    torch.tensor
)
NO_IDS = torch.empty(1, 0, dtype=torch.int64)  # the warpers do not look at the ids


def next_token_probabilities(
    logits: Tensor, temperature: float, k: int | None = None, p: float | None = None
) -> Tensor:
    return Sampler(temperature, k, p).probabilities(logits)


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
@example(logits=torch.cat([torch.zeros(4), torch.full((500,), -20.0)]), p=0.7)
@example(logits=torch.zeros(4), p=1e-9)
@example(logits=torch.tensor([-9.0] * 7 + [9.0, -9.0, 9.0] + [-9.0] * 7), p=0.25)
def test_top_p_of_few_equals_top_p(logits: Tensor, p: float) -> None:
    """But for sums so near the line that rounding decides."""
    held = logits.double().sort().values.softmax(dim=-1).cumsum(dim=-1)
    assume(((held - (1 - p)).abs() > 1e-5).all())
    expected = keep_top_p(logits, p)
    assert torch.equal(keep_top_p_of_few(logits, p), expected)
    rows = logits.expand(2, 3, -1)
    assert torch.equal(keep_top_p_of_few(rows, p), expected.expand(2, 3, -1))


def test_top_p_of_few_sorts_few() -> None:
    logits = torch.randn(20_000, generator=torch.Generator().manual_seed(0)) * 5
    expected = keep_top_p(logits.double(), 0.9)
    with patch.object(sampling, "keep_top_p", wraps=keep_top_p) as spied:
        found = keep_top_p_of_few(logits.double(), 0.9)
    assert torch.equal(found, expected)
    assert len(spied.call_args.args[0]) < 5_000


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
    assert (next_token_probabilities(logits, 1.0, p=1.0) > 0).all()
    assert (next_token_probabilities(logits, 1.0, p=1) > 0).all()


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
def test_a_sample_falls_where_the_cumulative_sum_says(
    weights: list[int], u: int
) -> None:
    """In whole numbers, where nothing is rounded."""
    assume(any(weights))
    place = u * sum(weights)  # in units of 2^-20
    ends = itertools.accumulate(weights)
    expected = next(i for i, end in enumerate(ends) if place < end * 2**20)
    assert sample(torch.tensor(weights, dtype=torch.float64), u / 2**20) == expected


@pytest.mark.parametrize("u", [0.0, 1 - 2**-53])
def test_a_sample_never_takes_what_has_no_probability(u: float) -> None:
    for total in (1.0, 0.9999999, 1.0000001, 0.5, 3.0):
        shares = torch.tensor([0.0, 0.25, 0.0, 0.75, 0.0], dtype=torch.float64) * total
        assert sample(shares, u) == (1 if u == 0 else 3)


def test_draws_are_as_frequent_as_probable() -> None:
    logits = torch.tensor([2.0, 0.0, 1.0, -1.0, 0.5])
    sampler = Sampler(temperature=1.5, seed=0)
    n = 5000
    drawn = torch.tensor([sampler.choose(logits) for _ in range(n)])
    shares = torch.softmax(logits / 1.5, dim=-1)
    deviation = (shares * (1 - shares) / n).sqrt()
    found = drawn.bincount(minlength=5) / n
    assert ((found - shares).abs() < 4 * deviation).all()


def test_greedy_takes_the_first_of_equals() -> None:
    assert Sampler().choose(torch.tensor([1.0, 5.0, 5.0])) == 1


@pytest.mark.parametrize("logits", [[-torch.inf, 0.0], [0.0, -torch.inf, -torch.inf]])
def test_case_39_one_token_is_always_kept(logits: list[float]) -> None:
    for top_k, top_p in ((1, None), (None, 1e-9), (1, 1e-9)):
        shares = next_token_probabilities(torch.tensor(logits), 1.0, top_k, top_p)
        assert sorted(shares.tolist())[-1] == 1.0


# --- the sampler ---


@given(logits=LOGITS, k=st.integers(1, 10), p=st.floats(0.05, 1))
@example(logits=torch.zeros(2), k=1, p=0.5)
def test_greedy_is_the_first_of_the_highest_whatever_the_filters(
    logits: Tensor, k: int, p: float
) -> None:
    """Top-p keeps one of two that tie, and need not keep the first."""
    for sampler in (Sampler(0), Sampler(0, k), Sampler(0, None, p), Sampler(0, k, p)):
        assert sampler.choose(logits) == int(logits.argmax())


def test_the_processors_come_in_one_order() -> None:
    """Temperature before top-p, which it flattens, and top-k too, which cuts."""
    logits = torch.tensor([4.0, 3.0, 2.0, 1.0, 0.0])
    warm, few, most = 3.0, 3, 0.6
    found = Sampler(warm, few, most).process(logits)
    expected = keep_top_p(keep_top_k(apply_temperature(logits, warm), few), most)
    assert torch.equal(found, expected)
    late = apply_temperature(keep_top_p(keep_top_k(logits, few), most), warm)
    swapped = keep_top_k(keep_top_p(apply_temperature(logits, warm), most), few)
    assert found.isfinite().sum() == 2
    for other in (late, swapped):
        assert not torch.equal(found, other)


@given(logits=LOGITS, temperature=st.floats(0.1, 5), k=st.integers(1, 10))
def test_probabilities_are_the_softmax_of_the_processed_logits(
    logits: Tensor, temperature: float, k: int
) -> None:
    sampler = Sampler(temperature, k)
    expected = sampler.process(logits).softmax(dim=-1)
    torch.testing.assert_close(sampler.probabilities(logits), expected)
    rows = torch.stack([logits, logits.flip(0)])
    torch.testing.assert_close(sampler.probabilities(rows)[0], expected)


def test_at_temperature_1_the_probabilities_are_the_softmax() -> None:
    logits = torch.tensor([1.0, -2.0, 0.5])
    found = Sampler(1.0).probabilities(logits)
    torch.testing.assert_close(found, logits.softmax(dim=-1))


@given(logits=LOGITS, k=st.none() | st.integers(1, 9), p=st.none() | st.floats(0.05, 1))
@example(logits=torch.zeros(5), k=None, p=0.5)
@example(logits=torch.tensor([1.0, 5.0, 5.0]), k=2, p=0.1)
def test_greedy_gives_all_to_the_first_of_the_highest(
    logits: Tensor, k: int | None, p: float | None
) -> None:
    """Also where top-p would keep another of those that tie."""
    one_hot = torch.nn.functional.one_hot
    for sampler in (Sampler(), Sampler(0, k, p)):
        rows = torch.stack([logits, logits.flip(0)])
        found = sampler.probabilities(rows)
        assert found.dtype == logits.dtype
        assert torch.equal(found, one_hot(rows.argmax(dim=-1), len(logits)).float())
        assert torch.equal(sampler.probabilities(logits), found[0])
        assert sampler.choose(logits) == int(found[0].argmax())


def test_a_processor_gets_the_ids_so_far() -> None:
    """A processor that is added comes last, and greedy decoding runs it too."""
    seen: list[Any] = []

    def never_again(logits: Tensor, prompt_ids: Any, new_ids: Any) -> Tensor:
        seen.append((list(prompt_ids), list(new_ids)))
        ids = torch.tensor([*prompt_ids, *new_ids])
        return logits.index_fill(0, ids, -torch.inf)

    for temperature in (0.0, 0.01):
        sampler = Sampler(temperature, seed=0)
        sampler.processors.append(never_again)
        assert sampler.choose(torch.tensor([1.0, 2.0, 3.0]), [2]) == 1
        assert sampler.probabilities(torch.tensor([1.0, 2.0, 3.0]), [2], [1])[0] == 1
    assert seen == [([2], []), ([2], [1])] * 2


# What the same calls drew before sampling had a module of its own.
DRAWN: list[tuple[dict[str, Any], list[int]]] = [
    ({"temperature": 1.0, "seed": 0},
     [49, 45, 41, 48, 44, 46, 35, 39, 43, 38, 41, 35]),
    ({"temperature": 0.7, "top_k": 8, "seed": 3},
     [40, 42, 46, 41, 45, 44, 41, 43, 43, 46, 41, 44]),
    ({"temperature": 1.5, "top_p": 0.8, "seed": 7},
     [39, 39, 47, 44, 48, 47, 39, 43, 46, 46, 34, 34]),
    ({"temperature": 0.9, "top_k": 20, "top_p": 0.95, "seed": 2**63 - 1},
     [49, 43, 49, 42, 46, 43, 47, 39, 41, 34, 41, 41]),
]  # fmt: skip


@pytest.mark.parametrize(("options", "expected"), DRAWN, ids=str)
def test_a_seed_draws_what_it_always_drew(
    options: dict[str, Any], expected: list[int]
) -> None:
    logits = torch.linspace(-2, 2, 50).sin() * 3
    sampler = Sampler(**options)
    assert [sampler.choose(logits) for _ in range(12)] == expected


def test_a_sampler_draws_from_a_generator_of_its_own() -> None:
    logits = torch.zeros(1000)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one, other = Sampler(1.0, seed=3), Sampler(1.0, seed=3)
    first = [one.choose(logits) for _ in range(5)]
    assert [other.choose(logits) for _ in range(5)] == first
    assert [one.choose(logits) for _ in range(5)] != first  # it goes on
    assert [Sampler(1.0, seed=4).choose(logits) for _ in range(5)] != first
    assert len({Sampler(1.0).choose(logits) for _ in range(20)}) > 1  # without a seed
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("name", "value"), BAD_OPTIONS)
def test_case_38_a_bad_option_is_named(name: str, value: Any) -> None:
    """Greedy decoding has no use for top_k and such, and checks them all the same."""
    for temperature in (0.0, 1.0):
        with refuses(name):
            Sampler(**{"temperature": temperature} | {name: value})


def test_options_may_be_numpys_or_tensors() -> None:
    logits = torch.arange(50.0)
    spelled = Sampler(np.float32(0.5), np.int64(3), torch.tensor(0.5), np.int64(7))  # type: ignore[arg-type]
    plain = Sampler(0.5, 3, 0.5, 7)
    assert torch.equal(spelled.probabilities(logits), plain.probabilities(logits))
    assert spelled.choose(logits) == plain.choose(logits)


@pytest.mark.parametrize("zero", [0, 0.0, torch.tensor(0.0), Fraction(1, 10**400)])
def test_a_temperature_that_is_zero_as_a_float_is_greedy(zero: Any) -> None:
    sampler = Sampler(zero)
    assert sampler.is_greedy is True
    assert sampler.choose(torch.tensor([1.0, 3.0, 2.0])) == 1


# --- penalties, bias, masks, min-p ---

SEEN = st.lists(st.integers(0, 39), max_size=12)


@given(logits=LOGITS, p=st.floats(0, 1))
@example(logits=torch.tensor([0.5, 0.25, 0.125, 0.125]).log(), p=0.5)  # equal: kept
def test_min_p_equals_transformers(logits: Tensor, p: float) -> None:
    original = logits.clone()
    theirs = MinPLogitsWarper(p)(NO_IDS, logits[None])[0]
    assert torch.equal(keep_min_p(logits, p), theirs)
    assert torch.equal(logits, original)


@given(logits=LOGITS, prompt=SEEN, new=SEEN, penalty=st.floats(0.01, 10))
def test_repetition_penalty_equals_transformers(
    logits: Tensor, prompt: list[int], new: list[int], penalty: float
) -> None:
    """Prompt and output, once for each token that occurs."""
    ids = [id % len(logits) for id in prompt + new]
    theirs = RepetitionPenaltyLogitsProcessor(penalty)(
        torch.tensor([ids], dtype=torch.int64), logits[None].clone()
    )[0]
    for n in (0, len(ids) // 2, len(ids)):
        sampler = Sampler(repetition_penalty=penalty)
        found = sampler.process(logits, ids[:n], ids[n:])
        torch.testing.assert_close(found, theirs)


@given(
    logits=LOGITS,
    prompt=SEEN,
    new=SEEN,
    frequency=st.floats(-2, 2),
    presence=st.floats(-2, 2),
)
def test_frequency_and_presence_penalties_are_openais_formula(
    logits: Tensor, prompt: list[int], new: list[int], frequency: float, presence: float
) -> None:
    """mu[j] - c[j] * frequency - (c[j] > 0) * presence, c over the output alone."""
    new = [id % len(logits) for id in new]
    expected = logits.double().tolist()
    for j in range(len(expected)):
        count = sum(id == j for id in new)
        expected[j] -= count * frequency
        expected[j] -= float(count > 0) * presence
    options = {"frequency_penalty": frequency, "presence_penalty": presence}
    found = Sampler(**options).process(logits, prompt, new)
    wanted = torch.tensor(expected, dtype=torch.float32)
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-5)


@given(logits=LOGITS, bias=st.dictionaries(st.integers(0, 39), st.floats(-100, 100)))
def test_a_bias_is_added(logits: Tensor, bias: dict[int, float]) -> None:
    bias = {id: value for id, value in bias.items() if id < len(logits)}
    found = Sampler(logit_bias=bias).process(logits)
    expected = [x + bias.get(i, 0) for i, x in enumerate(logits.tolist())]
    torch.testing.assert_close(found, torch.tensor(expected))


def test_golden_values() -> None:
    """Computed with transformers, and by hand where it has none."""
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0, -2.0])
    found = Sampler(repetition_penalty=1.5).process(logits, [0], [3])
    assert found.tolist() == pytest.approx([4 / 3, 1, 0, -1.5, -2])
    counted = Sampler(frequency_penalty=0.5, presence_penalty=0.25)
    found = counted.process(logits, [1, 1, 4], [0, 3, 0])
    assert found.tolist() == [0.75, 1, 0, -1.75, -2]
    assert kept_by(keep_min_p(logits, 0.1)) == [0, 1, 2]
    warm_first = Sampler(2.0, min_p=0.2).process(logits)
    assert kept_by(warm_first) == [0, 1, 2, 3]
    assert kept_by(apply_temperature(keep_min_p(logits, 0.2), 2)) == [0, 1]


def kept_by(logits: Tensor) -> list[int]:
    return logits.isfinite().nonzero()[:, 0].tolist()


@dataclass
class OneOf:
    """A constraint: just these tokens, always."""

    ids: list[int]
    n_vocab: int = 5
    eot_id: int = 4

    def allowed(self, new_ids: Sequence[int]) -> Tensor:
        return torch.isin(torch.arange(self.n_vocab), torch.tensor(self.ids))

    def within(self, max_new_tokens: int) -> "OneOf":
        return self


def test_the_whole_order() -> None:
    """Constraint and bias, penalties, temperature, top-k, top-p, min-p.

    Every neighbor is exchanged, and makes a difference.
    """
    logits = torch.tensor([3.0, 2.5, 1.0, 0.5, -1.0])
    steps = [
        lambda x: keep_allowed(x, OneOf([0, 1, 2, 3]).allowed([])),
        lambda x: add_bias(x, {4: 9.0, 0: -3.5, 3: 1.0}),
        lambda x: penalize_repetition(x, [0, 1, 3], 2.0),
        lambda x: penalize_count(x, [1, 1, 3], 0.25, 0.5),
        lambda x: apply_temperature(x, 0.8),
        lambda x: keep_top_k(x, 3),
        lambda x: keep_top_p(x, 0.8),
        lambda x: keep_min_p(x, 0.7),
    ]
    sampler = Sampler(
        0.8, 3, 0.8, None, 0.7, logit_bias={4: 9.0, 0: -3.5, 3: 1.0},
        constraint=OneOf([0, 1, 2, 3]), repetition_penalty=2.0,
        frequency_penalty=0.25, presence_penalty=0.5,
    )  # fmt: skip
    found = sampler.process(logits, [0], [1, 1, 3])
    assert torch.equal(found, run(steps, logits))
    assert not torch.equal(found, run(steps[::-1], logits))
    assert sampler.stop_ids == {4}


def run(steps: list[Any], logits: Tensor) -> Tensor:
    for step in steps:
        logits = step(logits)
    return logits


def test_without_options_nothing_runs() -> None:
    assert Sampler().processors == []
    assert len(Sampler(1.0).processors) == 1
    off = Sampler(
        0.0, logit_bias={}, repetition_penalty=1, frequency_penalty=0, min_p=0.5
    )
    assert off.processors == []
    assert off.stop_ids == set()


def test_greedy_takes_the_highest_after_the_adjustments() -> None:
    logits = torch.tensor([3.0, 2.0, 1.0, 0.0, -1.0])
    assert Sampler(repetition_penalty=2.0).choose(logits, [0]) == 1
    assert Sampler(presence_penalty=2).choose(logits, [1], [0]) == 1
    assert Sampler(frequency_penalty=1).choose(logits, [1], [0, 0, 0, 1, 1]) == 2
    assert Sampler(logit_bias={4: 5}).choose(logits) == 4
    assert Sampler(constraint=OneOf([2, 3])).choose(logits) == 2
    assert Sampler(constraint=OneOf([2, 3])).probabilities(logits).tolist()[2] == 1


def test_what_is_not_allowed_is_never_drawn() -> None:
    """Whatever is added to its logit."""
    sampler = Sampler(
        5.0, seed=0, constraint=OneOf([1, 3]), logit_bias={0: 100.0, 2: 100.0}
    )
    drawn = {sampler.choose(torch.zeros(5)) for _ in range(50)}
    assert drawn == {1, 3}


def test_adjustments_take_rows() -> None:
    """As `probabilities` does: [..., n_vocab]."""
    sampler = Sampler(
        1.0, logit_bias={1: 2.0}, constraint=OneOf([0, 1, 2]), repetition_penalty=1.5,
        frequency_penalty=0.5, min_p=0.2,
    )  # fmt: skip
    rows = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0))
    found = sampler.probabilities(rows, [0], [1, 2])
    for i, j in itertools.product(range(2), range(3)):
        one = sampler.probabilities(rows[i, j], [0], [1, 2])
        torch.testing.assert_close(found[i, j], one)
