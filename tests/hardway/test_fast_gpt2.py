"""The fast model against the taught one: dense, cached, padded and ragged."""

import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import hardway
import hardway.fast.gpt2 as fast
from hardway import GPT2, Config, KVCache, Tokenizer, block, generate
from hardway.attention import attention, causal_mask
from hardway.fast import linear, ragged
from hardway.fast.gpt2 import FastGPT2
from hardway.fast.ragged import attend_in_rows
from hardway.model import positions_and_mask, skip_padding
from references import (
    SMALL,
    assert_same_logits,
    block_weights,
    random_model,
    random_tokens,
    save_model,
)
from refusals import refuses
from tensors import assert_close, randn

FLOATS = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
HALVES = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
ALL = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
DTYPES = pytest.mark.parametrize("dtype", ALL, ids=str)
ROUNDING = {torch.float16: 1e-3, torch.bfloat16: 1e-2}


@pytest.fixture(params=[True, False], ids=["onednn", "without"])
def onednn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Run a test with oneDNN's product, where torch has it, and without."""
    if request.param and not linear.HAS_ONEDNN:
        pytest.skip("this torch was built without oneDNN")
    monkeypatch.setattr(linear, "HAS_ONEDNN", request.param)
    return bool(request.param)


def as_fast(model: GPT2) -> FastGPT2:
    return FastGPT2(model.config, model.weights)


def assert_equal_models(found: Tensor, expected: Tensor, dtype: torch.dtype) -> None:
    """Within the rounding of one vector at a time, which halves allow themselves."""
    assert found.shape == expected.shape
    assert_same_logits(found, expected, 5 * ROUNDING.get(dtype, 1e-6))


# --- the block ---


@FLOATS
@pytest.mark.usefixtures("onednn")
@pytest.mark.parametrize("rows", [None, [0], [8], [1, 5, 2]], ids=str)
@pytest.mark.parametrize("past", [0, 5])
def test_the_block_equals_the_taught_one(
    past: int, rows: list[int] | None, dtype: torch.dtype
) -> None:
    """Whatever rows are asked for, all keys and values are computed."""
    weights, n = block_weights(24, dtype), 9
    x, mask = randn(n, 24, dtype=dtype), causal_mask(n, n + past)
    before = randn(2, 3, past, 8, dtype=dtype, seed=5)
    updates: list[tuple[Tensor, Tensor]] = []

    def update_cache(k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        updates.append((k, v))
        return torch.cat([before[0], k], dim=-2), torch.cat([before[1], v], dim=-2)

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        assert q.shape == k.shape == v.shape == (n, 3, 8)
        keys, values = update_cache(k.transpose(0, 1), v.transpose(0, 1))
        return attention(q.transpose(0, 1), keys, values, mask)[0].transpose(0, 1)

    expected, _ = block.transformer_block(x, weights, 3, 1e-5, mask, update_cache)
    asked = None if rows is None else torch.tensor(rows)
    found = fast.transformer_block(x, weights, 3, 1e-5, attend, asked)
    assert_close(found, expected if rows is None else expected[rows], factor=10)
    for taught, quick in zip(*updates, strict=True):
        assert_close(quick, taught, factor=10)


@FLOATS
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("past", [0, 4])
def test_rows_of_a_batch_attend_apart(
    past: int, padded: bool, dtype: torch.dtype
) -> None:
    batch, n = 3, 5
    config = Config(n_vocab=1, n_ctx=16, n_embd=24, n_head=3, n_layer=2)
    q, k, v = randn(3, batch, 3, past + n, 8, dtype=dtype)
    positions = torch.arange(past, past + n)
    mask = causal_mask(n, past + n)
    if padded:
        _, mask = skip_padding(positions, mask, torch.tensor([0, 4, 1]))
    cache = KVCache(config, batch, dtype=dtype) if past else None
    if cache is not None:
        cache.append(1, k[:, :, :past], v[:, :, :past])
        cache.advance(past)
    new = [x[:, :, past:].transpose(1, 2).flatten(0, 1) for x in (q, k, v)]
    found = attend_in_rows(batch, mask, cache, 1, *new)
    expected, _ = attention(q[:, :, past:], k, v, mask)
    assert_close(found, expected.transpose(1, 2).flatten(0, 1), factor=10)
    if cache is not None:
        assert torch.equal(cache.keys[1, :, :, : past + n], k)
        assert cache.length == past  # the model counts when every layer has written


# --- the model, dense ---


@DTYPES
@pytest.mark.usefixtures("onednn")
@pytest.mark.parametrize("batch", [(), (1,), (3,)], ids=str)
def test_the_model_equals_the_taught_one(
    batch: tuple[int, ...], dtype: torch.dtype
) -> None:
    taught = random_model(dtype=dtype)
    model = as_fast(taught)
    for n in (1, 2, SMALL.n_ctx):
        tokens = random_tokens(SMALL, *batch, n)
        assert_equal_models(model(tokens), taught(tokens), dtype)


@DTYPES
@given(
    sizes=st.lists(st.integers(1, 8), min_size=1, max_size=4),
    batch=st.integers(0, 3),
    pads=st.none() | st.lists(st.integers(0, 4), min_size=3, max_size=3),
)
def test_the_model_equals_the_taught_one_in_any_chunks(
    sizes: list[int], batch: int, pads: list[int] | None, dtype: torch.dtype
) -> None:
    taught, shape = random_model(dtype=dtype), (batch,) if batch else ()
    model, tokens = as_fast(taught), random_tokens(SMALL, *shape, sum(sizes))
    n_pad = None
    if pads is not None:
        n_pad = torch.tensor(pads[: max(batch, 1)]).clamp(max=sum(sizes) - 1)
    caches = [each.new_cache(max(batch, 1)) for each in (model, taught)]
    for chunk in tokens.split(sizes, dim=-1):
        found = model(chunk, caches[0], n_pad=n_pad)
        assert_equal_models(found, taught(chunk, caches[1], n_pad=n_pad), dtype)
    assert caches[0].length == caches[1].length == sum(sizes)


@pytest.mark.parametrize("batch", [(), (1,), (3,)], ids=str)
@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize(("past", "n"), [(0, 1), (0, 6), (4, 1), (4, 6)])
def test_a_whole_prompt_and_a_single_token_need_no_mask(
    past: int, n: int, padded: bool, cached: bool, batch: tuple[int, ...]
) -> None:
    taught, size = random_model(dtype=torch.float64), batch[0] if batch else 1
    model, tokens = as_fast(taught), random_tokens(SMALL, *batch, past + n)
    n_pad = torch.tensor([0, 3, 1][:size]) % (past + n) if padded else None
    caches: list[KVCache | None] = [None, None]
    if cached or past:
        caches = [model.new_cache(size), taught.new_cache(size)]
    if past:
        for each, cache in zip((model, taught), caches, strict=True):
            each(tokens[..., :past], cache, n_pad=n_pad)
    attends: list[tuple[bool, bool]] = []

    def watched(*given: Any, **options: Any) -> Tensor:
        attends.append((given[3] is None, options.get("is_causal", False)))
        return original(*given, **options)

    original = torch.nn.functional.scaled_dot_product_attention
    with (
        patch.object(ragged.F, "scaled_dot_product_attention", watched),
        patch.object(ragged, "positions_and_mask", wraps=positions_and_mask) as made,
    ):
        found = model(tokens[..., past:], caches[0], n_pad=n_pad)
    needs_none = not padded and (past == 0 or n == 1)
    assert made.called != needs_none  # nor is one made: it grows as T squared
    assert attends == [(needs_none, needs_none and n > 1)] * SMALL.n_layer
    expected = taught(tokens[..., past:], caches[1], n_pad=n_pad)
    assert found.shape == expected.shape
    assert_close(found, expected)


@pytest.mark.parametrize("past", [0, 4])
@pytest.mark.parametrize("n_pad", [None, torch.tensor([0, 3, 1])], ids=str)
def test_the_last_block_computes_the_last_position_only(
    n_pad: Tensor | None, past: int
) -> None:
    model, tokens = as_fast(random_model()), random_tokens(SMALL, 3, 9)
    everywhere = model(tokens, n_pad=n_pad)
    cache = KVCache(SMALL, batch_size=3)
    if past:
        model(tokens[:, :past], cache, n_pad=n_pad)
    sizes: list[int] = []

    def watched(*arguments: Any) -> Tensor:
        out = block_of_the_fast_model(*arguments)
        sizes.append(len(out))
        return out

    block_of_the_fast_model = fast.transformer_block
    with patch.object(fast, "transformer_block", watched):
        last = model(tokens[:, past:], cache, last_only=True, n_pad=n_pad)
    assert last.shape == (3, 1, SMALL.n_vocab)
    assert_close(last, everywhere[:, -1:], factor=20)
    assert sizes == [3 * (9 - past)] * (SMALL.n_layer - 1) + [3]


@pytest.mark.parametrize(
    "config", [Config(31, 12, 24, 3, 2), Config(600, 40, 96, 4, 3)], ids=str
)
def test_one_token_at_a_time_equals_the_taught_model(config: Config) -> None:
    taught = random_model(config)
    model, tokens = as_fast(taught), random_tokens(config, config.n_ctx)
    caches = KVCache(config), KVCache(config)
    for part in tokens.split([5] + [1] * (config.n_ctx - 5)):
        assert_close(model(part, caches[0]), taught(part, caches[1]), factor=50)


# --- the model, ragged ---


class Sequences:
    """Keys and values of each sequence apart, in a tensor of their own."""

    def __init__(self, model: GPT2, n: int) -> None:
        config, dtype = model.config, model.compute_dtype
        empty = torch.empty(0, config.n_kv_head, config.d_head, dtype=dtype)
        self.keys = [[empty] * config.n_layer for _ in range(n)]
        self.values = [[empty] * config.n_layer for _ in range(n)]

    def length(self, sequence: int) -> int:
        return len(self.keys[sequence][-1])

    def attend(self, spans: Sequence[tuple[int, int]]) -> Callable[..., Tensor]:
        """Attend within each sequence; spans: which, and how many new tokens."""

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            mixed, sizes = [], [n for _, n in spans]
            new = zip(*(x.split(sizes) for x in (q, k, v)), strict=True)
            for (sequence, n), (q, k, v) in zip(spans, new, strict=True):
                keys = torch.cat([self.keys[sequence][layer], k])
                values = torch.cat([self.values[sequence][layer], v])
                self.keys[sequence][layer] = keys
                self.values[sequence][layer] = values
                heads = (x.transpose(0, 1) for x in (q, keys, values))
                averaged, _ = attention(*heads, causal_mask(n, len(keys)))
                mixed.append(averaged.transpose(0, 1))
            return torch.cat(mixed)

        return attend


def run(
    model: FastGPT2,
    sequences: Sequences,
    parts: dict[int, Tensor],
    rows: Tensor | None = None,
) -> Tensor:
    """Run the new tokens of some sequences in one call."""
    starts = {sequence: sequences.length(sequence) for sequence in parts}
    positions = [
        torch.arange(starts[sequence], starts[sequence] + len(part))
        for sequence, part in parts.items()
    ]
    spans = [(sequence, len(part)) for sequence, part in parts.items()]
    return model.forward(
        torch.cat(list(parts.values())),
        torch.cat(positions),
        sequences.attend(spans),
        rows,
    )


def test_two_sequences_of_different_lengths_in_one_call() -> None:
    taught = random_model()
    model = as_fast(taught)
    sequences = Sequences(model, 2)
    long, short = random_tokens(SMALL, 11), random_tokens(SMALL, 4, seed=2)
    logits = run(model, sequences, {0: long, 1: short})
    assert logits.shape == (15, SMALL.n_vocab)
    assert_same_logits(logits[:11], taught(long))
    assert_same_logits(logits[11:], taught(short))


def test_one_decodes_while_another_is_read() -> None:
    taught = random_model()
    model = as_fast(taught)
    sequences = Sequences(model, 3)
    a, b, c = (random_tokens(SMALL, 12, seed=seed) for seed in (1, 2, 3))
    run(model, sequences, {0: a[:7]})
    steps = [
        {0: a[7:8], 1: b[:5]},  # one more of a, and b's prompt
        {1: b[5:6], 0: a[8:9], 2: c[:3]},
        {2: c[3:10], 0: a[9:10]},  # b rests, c's prompt comes in chunks
        {0: a[10:], 1: b[6:7], 2: c[10:]},
    ]
    whole = [taught(each) for each in (a, b, c)]
    for parts in steps:
        starts = {sequence: sequences.length(sequence) for sequence in parts}
        found = run(model, sequences, parts).split(list(map(len, parts.values())))
        for (sequence, part), logits in zip(parts.items(), found, strict=True):
            start = starts[sequence]
            assert_same_logits(logits, whole[sequence][start : start + len(part)])
    assert [sequences.length(i) for i in range(3)] == [12, 7, 12]


@DTYPES
def test_rows_picks_which_logits_are_returned(dtype: torch.dtype) -> None:
    model = as_fast(random_model(dtype=dtype))
    parts = {0: random_tokens(SMALL, 6), 1: random_tokens(SMALL, 3, seed=2)}

    def logits(rows: Tensor | None) -> Tensor:
        return run(model, Sequences(model, 2), parts, rows)

    everything = logits(None)
    for rows in ([5, 8], [8, 0, 3], [2], list(range(9))):
        found = logits(torch.tensor(rows))
        assert_equal_models(found, everything[rows], dtype)


# --- what runs what ---


def forbidden(*_: Any, **__: Any) -> Any:
    raise AssertionError("fast code ran")


@pytest.fixture
def nothing_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every function of the fast modules raise when it is called."""
    for module in (linear, fast):
        for name, value in list(vars(module).items()):
            if getattr(value, "__module__", "").startswith("hardway.fast"):
                if isinstance(value, type):
                    monkeypatch.setattr(value, "__call__", forbidden)
                    monkeypatch.setattr(value, "forward", forbidden)
                else:
                    monkeypatch.setattr(module, name, forbidden)


def test_the_model_runs_the_fast_products() -> None:
    model, tokens = as_fast(random_model()), random_tokens(SMALL, 9)
    with (
        patch.object(linear, "matmul", forbidden),
        pytest.raises(AssertionError, match="fast code ran"),
    ):
        model(tokens)


@DTYPES
def test_a_trace_is_the_taught_models(
    dtype: torch.dtype, request: pytest.FixtureRequest
) -> None:
    taught, tokens = random_model(dtype=dtype), random_tokens(SMALL, 9)
    model, expected = as_fast(taught), taught.trace(tokens)
    request.getfixturevalue("nothing_fast")
    found = model.trace(tokens)
    for name, tensor in vars(expected).items():
        if dtype in ROUNDING:  # its matrices lie by columns, and add up in that order
            assert_close(getattr(found, name), tensor, factor=20)
        else:
            assert torch.equal(getattr(found, name), tensor)


def test_a_trace_agrees_with_the_call() -> None:
    model, tokens = as_fast(random_model()), random_tokens(SMALL, 9)
    assert_close(model(tokens), model.trace(tokens).logits, factor=20)


@pytest.mark.usefixtures("nothing_fast")
def test_nothing_taught_runs_fast_code(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("hardway.fast", "hardway.fast.tokenizer"):
        monkeypatch.setitem(sys.modules, name, None)
    model = GPT2.from_pretrained("pocket")
    tokenizer = Tokenizer.from_pretrained("pocket")
    ids = tokenizer.encode("Once upon a")
    assert generate(model, ids, 1) == generate(model, ids, 1, use_cache=False) == [640]
    assert model.trace(torch.tensor(ids)).logits[-1].argmax() == 640


# --- loading ---


def test_load_returns_the_fast_model(pocket: GPT2) -> None:
    model = hardway.load("pocket")
    assert type(model) is FastGPT2
    tokens = random_tokens(pocket.config, 2, 20)
    assert_same_logits(model(tokens), pocket(tokens))
    assert type(GPT2.from_pretrained("pocket")) is GPT2


@DTYPES
def test_load_takes_a_dtype(dtype: torch.dtype) -> None:
    model = hardway.load("pocket", dtype=dtype)
    assert {weight.dtype for weight in model.weights.values()} == {dtype}


def test_load_takes_its_arguments_by_name(tmp_path: Path) -> None:
    save_model(tmp_path, random_model().weights)
    model = hardway.load(
        name_or_path=tmp_path, dtype=torch.float64, quantize=None, device="meta"
    )
    assert type(model) is FastGPT2
    assert model.config == SMALL
    assert (model.device.type, model.compute_dtype) == ("meta", torch.float64)


def test_load_takes_a_device() -> None:
    model = hardway.load(device="meta")
    assert {weight.device.type for weight in model.weights.values()} == {"meta"}
    assert model(torch.tensor([1, 2])).shape == (2, 50257)


@pytest.mark.parametrize("dtype", [torch.int64, 0, "", False, "float16"], ids=repr)
def test_load_refuses_a_dtype_without_fractions(dtype: Any) -> None:
    """None alone stands for the default, and nothing else that counts as false."""
    with refuses("dtype"):
        hardway.load("pocket", dtype=dtype)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("h.0.attn.c_attn.weight", torch.ones(72, 24),
         "h.0.attn.c_attn.weight must have shape [24, 72] for the config, got [72, "),
        ("h.1.mlp.c_fc.bias", torch.ones(1, 96), "h.1.mlp.c_fc.bias must have shape"),
        ("h.2.ln_1.bias", torch.ones(24), "the checkpoint has 'h.2.ln_1.bias'"),
        ("ln_f.bias", torch.ones(24, dtype=torch.float64), "the weights must share"),
        ("wte.weight", torch.ones(97, 24, device="meta"), "the weights must be on one"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_weights_are_checked_before_they_are_laid_out(
    name: str, value: Tensor, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fast, "pack_weight", forbidden)
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        FastGPT2(SMALL, random_model().weights | {name: value})
    with pytest.raises(AssertionError, match="fast code ran"):
        FastGPT2(SMALL, random_model().weights)


# --- weights of half the precision ---


@HALVES
def test_a_block_of_half_the_precision_lies_by_columns(dtype: torch.dtype) -> None:
    exact = random_model()
    given = {name: tensor.to(dtype) for name, tensor in exact.weights.items()}
    model = FastGPT2(exact.config, given)
    for name, tensor in model.weights.items():
        assert torch.equal(tensor, given[name])
        in_block = name.startswith("h.") and tensor.dim() == 2
        assert (tensor.T if in_block else tensor).is_contiguous()
    for tensor in exact.weights.values():
        assert tensor.is_contiguous()


@HALVES
def test_half_the_precision_is_close_one_token_at_a_time(dtype: torch.dtype) -> None:
    exact = random_model()
    model = FastGPT2(
        exact.config, {name: tensor.to(dtype) for name, tensor in exact.weights.items()}
    )
    tokens = random_tokens(exact.config, 12)
    cache, expected = KVCache(model.config), exact(tokens)
    found = torch.cat([model(token, cache) for token in tokens.split(1)])
    assert (found - expected).abs().max() < 5 * ROUNDING[dtype] * expected.abs().max()
    trace = model.trace(tokens)  # which computes in float32
    assert trace.residual.dtype == torch.float32
    assert_equal_models(trace.logits, model(tokens), dtype)


def test_what_changes_a_weight_in_place_is_seen_at_once() -> None:
    """The fast block keeps no copies that could grow stale."""
    for dtype in (torch.float32, torch.float16):
        model = as_fast(random_model(dtype=dtype))
        tokens = random_tokens(model.config, 1)
        before = model(tokens)
        for name in ("wte.weight", "h.0.mlp.c_fc.weight"):
            model.weights[name].mul_(2)
            after = model(tokens)
            assert not torch.equal(after, before)
            before = after


@pytest.mark.parametrize("n_tokens", [1, 6])
@pytest.mark.parametrize(
    "learning",
    [
        ("h.0.attn.c_attn.weight", "wte.weight"),
        ("h.0.attn.c_attn.weight",),
        ("h.1.mlp.c_fc.bias",),
        ("h.1.ln_2.weight",),
    ],
    ids=str,
)
def test_gradients_are_those_of_the_taught_model(
    learning: tuple[str, ...], n_tokens: int
) -> None:
    model = random_model()
    tokens = random_tokens(model.config, n_tokens)
    gradients = []
    for kind in (FastGPT2, GPT2):
        weights = {
            name: tensor.clone().requires_grad_(name in learning)
            for name, tensor in model.weights.items()
        }
        kind(model.config, weights)(tokens).square().sum().backward()
        gradients.append([weights[name].grad for name in learning])
    for found, expected in zip(*gradients, strict=True):
        assert expected.abs().max() > 0
        assert_close(found, expected, factor=100)
