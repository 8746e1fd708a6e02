"""With the cache, however filled, every position's logits are those without it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transformers import DynamicCache

from hardway import GPT2, Config, KVCache, Tokenizer, inputs
from references import (
    SMALL,
    NoWeights,
    as_transformers,
    assert_same_logits,
    random_model,
    random_tokens,
)
from refusals import BAD_DEVICES, refuses
from tensors import randn

CONFIGS = [
    SMALL,
    Config(n_vocab=13, n_ctx=32, n_embd=8, n_head=1, n_layer=1),
    Config(n_vocab=200, n_ctx=32, n_embd=32, n_head=8, n_layer=3),
]


def in_chunks(
    model: GPT2, tokens: Tensor, cache: KVCache, sizes: Sequence[int]
) -> Tensor:
    """Feed the tokens chunk by chunk, and join the logits."""
    logits = [model(chunk, cache) for chunk in tokens.split(list(sizes), dim=-1)]
    return torch.cat(logits, dim=-2)


# --- equality ---


@pytest.mark.parametrize("config", CONFIGS, ids=str)
@pytest.mark.parametrize(
    "batch", [(), (1,), (3,)], ids=["single", "batch of 1", "batch of 3"]
)
@pytest.mark.parametrize("prompt", [1, 5, 31])
def test_prefill_then_decode(
    config: Config, batch: tuple[int, ...], prompt: int
) -> None:
    model, tokens = random_model(config), random_tokens(config, *batch, 32)
    cache = KVCache(config, batch_size=batch[0] if batch else 1)
    found = in_chunks(model, tokens, cache, [prompt] + [1] * (32 - prompt))
    assert cache.length == 32
    uncached = model(tokens)
    for step in range(32):
        assert_same_logits(found[..., step, :], uncached[..., step, :])


@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=12).filter(
        lambda s: sum(s) <= 32
    ),
    batch=st.integers(1, 3),
    spare=st.integers(0, 5),
)
def test_any_chunks(sizes: list[int], batch: int, spare: int) -> None:
    length = sum(sizes)
    model, tokens = random_model(), random_tokens(SMALL, batch, length)
    cache = KVCache(SMALL, batch, max_len=min(length + spare, SMALL.n_ctx))
    assert_same_logits(in_chunks(model, tokens, cache, sizes), model(tokens))


@given(
    sizes=st.lists(st.integers(1, 6), min_size=1, max_size=6).filter(
        lambda s: sum(s) <= 32
    ),
    pads=st.lists(st.integers(0, 5), min_size=1, max_size=3),
)
def test_any_chunks_with_left_padding(sizes: list[int], pads: list[int]) -> None:
    """Each sequence's tokens come out as they do alone, without padding or cache."""
    length = sum(sizes)
    pads = [min(pad, length - 1) for pad in pads]
    model, tokens = random_model(), random_tokens(SMALL, len(pads), max(length, 1))
    n_pad = torch.tensor(pads)
    cache = KVCache(SMALL, len(pads))
    logits = [model(chunk, cache, n_pad=n_pad) for chunk in tokens.split(sizes, dim=1)]
    for row, found, pad in zip(tokens, torch.cat(logits, dim=1), pads, strict=True):
        assert torch.isfinite(found).all()
        assert_same_logits(found[pad:], model(row[pad:]))


def test_last_only_fills_the_cache_all_the_same() -> None:
    model, tokens = random_model(), random_tokens(SMALL, 10)
    cache = KVCache(SMALL)
    first = model(tokens[:6], cache, last_only=True)
    rest = model(tokens[6:], cache)
    assert_same_logits(torch.cat([first, rest]), model(tokens)[5:])


def test_pocket(pocket: GPT2, tokenizer: Tokenizer) -> None:
    """Real weights, whose residual stream has a few very large numbers."""
    tokens = torch.tensor(
        tokenizer.encode("Once upon a time there lived a king. " * 12)
    )
    cache = KVCache(pocket.config, max_len=len(tokens))
    sizes = [40, 1, 1, 30, 1, 1, len(tokens) - 74]
    assert_same_logits(in_chunks(pocket, tokens, cache, sizes), pocket(tokens))


def test_decoding_equals_transformers_with_its_own_cache() -> None:
    model, tokens = random_model(), random_tokens(SMALL, 2, 20)
    reference = as_transformers(model)
    cache, their_cache = (
        KVCache(SMALL, batch_size=2),
        DynamicCache(config=reference.config),
    )
    for chunk in tokens.split([7, 1, 1, 4, 1, 1, 5], dim=1):
        with torch.no_grad():
            expected = reference(chunk, past_key_values=their_cache, use_cache=True)
        assert_same_logits(model(chunk, cache), expected.logits)
        assert cache.length == their_cache.get_seq_length()
    for layer in range(SMALL.n_layer):
        keys = their_cache.layers[layer].keys
        assert_same_logits(cache.keys[layer, :, :, : cache.length], keys)


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str
)
def test_the_cache_may_have_another_dtype_than_the_model(dtype: torch.dtype) -> None:
    model, tokens = random_model(), random_tokens(SMALL, 12)
    cache = KVCache(SMALL, dtype=dtype)
    found = in_chunks(model, tokens, cache, [4, 1, 1, 6])
    assert cache.keys.dtype == cache.values.dtype == dtype
    assert_same_logits(
        found, model(tokens), tolerance=1e-4 if dtype == torch.float64 else 0.05
    )


# --- memory ---


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str
)
@pytest.mark.parametrize(
    ("batch_size", "max_len"), [(1, None), (3, 7), (1, 1), (2, 32)]
)
def test_memory_is_exactly_as_stated(
    batch_size: int, max_len: int | None, dtype: torch.dtype
) -> None:
    cache = KVCache(SMALL, batch_size, max_len, dtype)
    stated = 2 * SMALL.n_layer * batch_size * (max_len or SMALL.n_ctx) * SMALL.n_embd
    found = (
        cache.keys.untyped_storage().nbytes() + cache.values.untyped_storage().nbytes()
    )
    assert found == stated * dtype.itemsize
    assert cache.max_len == (max_len or SMALL.n_ctx)


def test_gpt2_caches_73728_bytes_a_position() -> None:
    cache = KVCache(Config(50257, 1024, 768, 12, 12), max_len=1)
    assert cache.keys.nbytes + cache.values.nbytes == 73_728


def test_the_memory_is_allocated_once() -> None:
    model, cache = random_model(), KVCache(SMALL)
    before = cache.keys.data_ptr(), cache.values.data_ptr()
    in_chunks(model, random_tokens(SMALL, 20), cache, [10] + [1] * 10)
    cache.reset()
    assert (cache.keys.data_ptr(), cache.values.data_ptr()) == before


def test_append_returns_views_and_advance_moves_on() -> None:
    cache = KVCache(SMALL)
    k, v = torch.ones(1, 3, 2, 8), 2 * torch.ones(1, 3, 2, 8)
    keys, values = cache.append(1, k, v)
    assert torch.equal(keys, k)
    assert torch.equal(values, v)
    assert keys.data_ptr() == cache.keys[1].data_ptr()
    assert cache.length == 0  # until every layer has written
    cache.advance(2)
    keys, _ = cache.append(1, 3 * k, v)
    assert cache.length == 2
    assert keys[0, 0, :, 0].tolist() == [1, 1, 3, 3]
    assert not cache.keys[0].any()


# --- limits ---


@pytest.mark.parametrize(("max_len", "named"), [(8, "cache"), (None, "tokens")])
def test_a_full_cache_refuses_and_stays_as_it_was(
    max_len: int | None, named: str
) -> None:
    """Where it has room for the whole context, a new one would not help."""
    model, cache = random_model(), KVCache(SMALL, max_len=max_len)
    tokens = random_tokens(SMALL, cache.max_len)
    model(tokens[:-1], cache)
    before = cache.keys.clone(), cache.values.clone()
    with refuses(named):
        model(tokens[:2], cache)
    assert cache.length == cache.max_len - 1
    assert torch.equal(cache.keys, before[0])
    assert torch.equal(cache.values, before[1])
    assert_same_logits(model(tokens[-1:], cache), model(tokens)[-1:])
    with refuses(named):
        model(tokens[:1], cache)


def test_append_past_the_end_is_refused() -> None:
    cache = KVCache(SMALL, max_len=3)
    cache.advance(2)
    new = torch.ones(1, 3, 2, 8)
    with refuses("the cache's new length"):
        cache.append(0, new, new)
    assert not cache.keys.any()


def test_a_pass_that_breaks_off_counts_for_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, tokens, cache = random_model(), random_tokens(SMALL, 6), KVCache(SMALL)
    model(tokens[:3], cache)
    append = cache.append

    def broken(layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        if layer == 1:
            raise KeyboardInterrupt
        return append(layer, k, v)

    monkeypatch.setattr(cache, "append", broken)
    with pytest.raises(KeyboardInterrupt):
        model(1 + tokens[3:] % 2, cache)
    monkeypatch.undo()
    assert cache.length == 3
    assert_same_logits(model(tokens[3:], cache), model(tokens)[3:])


def test_reset_forgets() -> None:
    model, cache = random_model(), KVCache(SMALL)
    model(random_tokens(SMALL, 30), cache)
    cache.reset()
    assert cache.length == 0
    tokens = random_tokens(SMALL, 9).flip(0)
    assert_same_logits(in_chunks(model, tokens, cache, [4, 5]), model(tokens))


# --- going back ---


@given(
    sizes=st.lists(st.integers(1, 8), min_size=1, max_size=3),
    kept=st.integers(0, 24),
    others=st.lists(st.integers(1, 4), min_size=1, max_size=2),
)
def test_what_is_rolled_back_was_never_written(
    sizes: list[int], kept: int, others: list[int]
) -> None:
    model, written = random_model(), sum(sizes)
    kept = min(kept, written)
    first = random_tokens(SMALL, written)
    second = random_tokens(SMALL, sum(others), seed=5)
    cache, fresh = KVCache(SMALL), KVCache(SMALL)
    in_chunks(model, first, cache, sizes)
    cache.truncate(kept)
    assert cache.length == kept
    if kept:
        model(first[:kept], fresh)
    found = in_chunks(model, second, cache, others)
    assert cache.length == fresh.length + len(second)
    assert_same_logits(found, in_chunks(model, second, fresh, others))
    assert_same_logits(found, model(torch.cat([first[:kept], second]))[kept:])


def test_only_what_is_filled_can_be_kept() -> None:
    cache = KVCache(SMALL)
    cache.advance(5)
    for length in (6, -1, 2.0, True, None):
        with refuses("length"):
            cache.truncate(length)  # type: ignore[arg-type]
        assert cache.length == 5
    cache.truncate(5)
    cache.truncate(0)
    assert cache.length == 0


@pytest.mark.parametrize("n", [-1, 28, 2.0, True, None, 10**30])
def test_no_more_positions_are_counted_than_are_free(n: Any) -> None:
    cache = KVCache(SMALL)
    cache.advance(5)
    with refuses("n"):
        cache.advance(n)
    assert cache.length == 5
    cache.advance(0)
    cache.advance(27)
    assert cache.length == SMALL.n_ctx


# --- sizes ---


@dataclass(frozen=True)
class Grouped:
    """A config of a model whose query heads share keys: 4 of them have 2."""

    n_vocab: int = 50
    n_ctx: int = 16
    n_layer: int = 3
    n_head: int = 4
    n_kv_head: int = 2
    d_head: int = 5


def test_the_cache_has_room_for_the_key_heads_alone() -> None:
    cache = KVCache(Grouped(), batch_size=2, max_len=7)
    assert cache.keys.shape == cache.values.shape == (3, 2, 2, 7, 5)
    k = randn(2, 2, 4, 5)
    keys, values = cache.append(1, k, -k)
    assert torch.equal(keys, k)
    assert torch.equal(values, -k)
    tokens = torch.zeros(2, 7, dtype=torch.int64)
    inputs.check_call(NoWeights(Grouped()), tokens, cache)
    with refuses("cache"):
        inputs.check_call(NoWeights(), tokens, cache)


def test_a_cache_that_would_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with refuses("the KV cache") as caught:
        KVCache(Config(50257, 1024, 768, 12, 12), batch_size=1000)
    assert "75,497,472,000" in str(caught.value)
    size = 2 * SMALL.n_layer * SMALL.n_ctx * SMALL.n_embd * 4
    monkeypatch.setattr("hardway.inputs.MAX_BYTES", size)
    assert KVCache(SMALL).keys.nbytes == size / 2
    with refuses("the KV cache"):
        KVCache(SMALL, dtype=torch.float64)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("max_len", value) for value in (0, -1, 33, True, 2.0)),
        *(("batch_size", value) for value in (0, -2, True, 1.5)),
        *(("dtype", value) for value in (torch.int64, torch.float8_e5m2)),
        *(("device", value) for value in BAD_DEVICES),
    ],
)
def test_bad_arguments_are_refused(name: str, value: Any) -> None:
    with refuses(name):
        KVCache(SMALL, **{name: value})


def test_sizes_may_be_numpys_or_tensors() -> None:
    cache = KVCache(SMALL, np.int64(2), torch.tensor(5))  # type: ignore[arg-type]
    assert (cache.batch_size, cache.max_len) == (2, 5)
    assert type(cache.batch_size) is type(cache.max_len) is int
