"""Beam search against transformers, and against trying every text."""

import itertools
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hardway import GPT2, KVCache, beam_search, generate
from hardway.config import Config
from hardway.decoding.beam import Beams
from llamas import random_llama
from references import SMALL, as_transformers, random_model, with_sizes
from refusals import refuses

TINY = Config(n_vocab=11, n_ctx=16, n_embd=12, n_head=2, n_layer=2)


def theirs(
    model: GPT2,
    prompt: list[int],
    n: int,
    num_beams: int,
    power: float,
    stops: list[int],
) -> list[list[int]]:
    """What transformers finds, without the stop ids and what pads a short text."""
    found = as_transformers(model).generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.int64),
        do_sample=False, max_new_tokens=n, num_beams=num_beams,
        num_return_sequences=num_beams, length_penalty=power,
        eos_token_id=stops or None, pad_token_id=stops[0] if stops else 0,
    )  # fmt: skip
    rows = [row[len(prompt) :] for row in found.tolist()]
    return [list(itertools.takewhile(lambda id: id not in stops, row)) for row in rows]


@given(
    seed=st.integers(0, 50),
    prompt=st.lists(st.integers(0, 10), min_size=1, max_size=4),
    n=st.integers(1, 10),
    num_beams=st.integers(2, 4),
    power=st.sampled_from([-1.0, 0.0, 0.6, 1.0, 2.0]),
    stops=st.lists(st.integers(0, 10), max_size=2, unique=True),
)
@settings(max_examples=40)
def test_the_texts_are_those_of_transformers(
    seed: int, prompt: list[int], n: int, num_beams: int, power: float, stops: list[int]
) -> None:
    """In float64, so that no near-tie depends on rounding."""
    model = random_model(TINY, seed, torch.float64)
    found = beam_search(model, prompt, n, num_beams, power, stops)
    assert found == theirs(model, prompt, n, num_beams, power, stops)


def test_a_larger_vocabulary_and_a_golden_text() -> None:
    model = random_model(dtype=torch.float64)
    found = beam_search(model, [5, 17, 42], 12, 5, stop_ids=[29])
    assert found == theirs(model, [5, 17, 42], 12, 5, 1.0, [29])
    assert found[0] == [68, 58, 58, 58, 58, 58, 37, 37, 37, 37, 37, 37]


def log_probability(model: Any, prompt: list[int], ids: list[int]) -> float:
    logits = model(torch.tensor(prompt + ids)).double()[len(prompt) - 1 : -1]
    steps = logits.log_softmax(dim=-1)
    return float(steps[range(len(ids)), ids].sum())


def test_beams_enough_find_the_most_probable_text_of_all() -> None:
    """Of 5 to the power of 4 texts; without stop ids, no length to weigh."""
    model = random_model(with_sizes(TINY, n_vocab=5), dtype=torch.float64)
    every = [list(ids) for ids in itertools.product(range(5), repeat=4)]
    every.sort(key=lambda ids: -log_probability(model, [1, 2], ids))
    assert beam_search(model, [1, 2], 4, 125)[:10] == every[:10]
    narrow = log_probability(model, [1, 2], beam_search(model, [1, 2], 4, 1)[0])
    assert narrow <= log_probability(model, [1, 2], every[0])


@pytest.mark.parametrize(
    "model", [random_model(), random_llama()], ids=["gpt2", "llama"]
)
def test_one_beam_is_greedy(model: Any) -> None:
    assert beam_search(model, [3, 1], 12, 1) == [generate(model, [3, 1], 12)]


def test_the_texts_are_in_the_order_of_their_scores() -> None:
    model = random_model(TINY, dtype=torch.float64)
    for power in (0.0, 1.0):
        texts = beam_search(model, [1, 2, 3], 6, 4, power)
        scores = [log_probability(model, [1, 2, 3], ids) for ids in texts]
        assert scores == sorted(scores, reverse=True)
        assert len({*map(tuple, texts)}) == 4


def test_the_length_penalty() -> None:
    """Sum and length (-2, 2), (-3, 4), (-5, 8): which one wins depends on the power."""
    pairs = [(-2.0, 2), (-3.0, 4), (-5.0, 8)]
    scores = {
        power: [total / length**power for total, length in pairs]
        for power in (0.0, 0.6, 1.0, 2.0)
    }
    assert scores[0.6] == pytest.approx([-1.31951, -1.30583, -1.43587], abs=1e-5)
    best = {power: found.index(max(found)) for power, found in scores.items()}
    assert best == {0.0: 0, 0.6: 1, 1.0: 2, 2.0: 2}
    for power, found in scores.items():
        assert [finish(*pair, power) for pair in pairs] == pytest.approx(found)


def finish(total: float, length: int, power: float) -> float:
    """The score of one text that ends at a length, by `Beams`."""
    beams = Beams(1, power, {0})
    beams.running, beams.length = [(total, [1] * (length - 1))], length - 1
    beams.advance(torch.tensor([[0.0, -torch.inf]]).nan_to_num(neginf=-1e9), False)
    return beams.finished[0][0]


def test_fewer_texts_than_beams() -> None:
    """Two tokens that both end: there is one text, the empty one, twice."""
    model = random_model(with_sizes(TINY, n_vocab=2))
    assert beam_search(model, [1], 5, 3, stop_ids=[0, 1]) == [[], []]
    assert beam_search(model, [1], 0, 3) == []
    assert len(beam_search(model, [1], 1, 3)) == 2


def test_rows_of_a_cache_are_copied() -> None:
    one, other = KVCache(SMALL, 2, 8), KVCache(SMALL, 3, 6)
    for cache in (one, other):
        cache.keys.normal_(), cache.values.normal_()
    other.length = 5
    keys, values = other.keys.clone(), other.values.clone()
    one.copy_rows(other, [2, 0])
    assert one.length == 5
    assert torch.equal(one.keys[..., :5, :], keys[:, [2, 0], :, :5])
    other.copy_rows(other, [1, 1, 0])  # onto itself
    assert torch.equal(other.values[..., :5, :], values[:, [1, 1, 0], :, :5])


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("num_beams", {"num_beams": 0}), ("num_beams", {"num_beams": 1.5}),
        ("length_penalty", {"length_penalty": float("nan")}),
        ("length_penalty", {"length_penalty": "1"}),
        ("max_new_tokens", {"max_new_tokens": -1}),
        ("each of stop_ids", {"stop_ids": [11]}), ("stop_ids", {"stop_ids": 3}),
        ("prompt_ids", {"prompt_ids": []}),
        ("each of prompt_ids", {"prompt_ids": [11]}),
        ("prompt_ids and max_new_tokens", {"max_new_tokens": 16}),
    ],
)  # fmt: skip
def test_bad_arguments(name: str, arguments: dict[str, Any]) -> None:
    class Untouched(GPT2):
        def __call__(self, *_: Any, **__: Any) -> Tensor:
            pytest.fail("the model was called")

    model = Untouched(TINY, random_model(TINY).weights)
    given_ = {"prompt_ids": [1], "max_new_tokens": 2, "num_beams": 2} | arguments
    with refuses(name):
        beam_search(model, **given_)


def test_broken_weights_are_named() -> None:
    weights = random_model(TINY).weights
    weights["ln_f.bias"] = weights["ln_f.bias"] * torch.nan
    with pytest.raises(ValueError, match="new token 1 contain NaN"):
        beam_search(GPT2(TINY, weights), [1], 2, 2)
