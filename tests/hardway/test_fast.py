"""The fast block against the taught one, against torch, and in every layout."""

from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from hardway import GPT2, Config, KVCache, block, fast
from hardway.attention import causal_mask, self_attention
from hardway.model import skip_padding
from tensors import assert_close, randn
from test_block import block_weights
from test_model import SMALL, random_model, random_tokens

FLOATS = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
HALVES = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
ROUNDING = {torch.float16: 1e-3, torch.bfloat16: 1e-2}


@pytest.fixture(params=[True, False], ids=["onednn", "without"])
def onednn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Run a test with oneDNN's product, where torch has it, and without."""
    if request.param and not fast.HAS_ONEDNN:
        pytest.skip("this torch was built without oneDNN")
    monkeypatch.setattr(fast, "HAS_ONEDNN", request.param)
    return bool(request.param)


@pytest.mark.usefixtures("onednn")
@FLOATS
@pytest.mark.parametrize("by", ["rows", "columns"])
@pytest.mark.parametrize("leading", [(), (1,), (1, 1), (3,), (2, 5)], ids=str)
@pytest.mark.parametrize(("n_in", "n_out"), [(1, 1), (7, 3), (48, 144), (3, 500)])
def test_linear_equals_torch(
    n_in: int, n_out: int, leading: tuple[int, ...], by: str, dtype: torch.dtype
) -> None:
    weight, bias = randn(n_in, n_out, dtype=dtype), randn(n_out, dtype=dtype, seed=1)
    if by == "columns":
        weight = weight.T.contiguous().T
    x = randn(*leading, n_in, dtype=dtype, seed=2)
    expected = F.linear(x, weight.T, bias)
    assert_close(fast.linear(x, weight, bias), expected)
    assert_close(fast.linear(x, weight), F.linear(x, weight.T))
    bent = F.gelu(expected, approximate="tanh")
    assert_close(fast.linear(x, weight, bias, gelu=True), bent, factor=10)


@pytest.mark.usefixtures("onednn")
@HALVES
@pytest.mark.parametrize("by", ["rows", "columns"])
@pytest.mark.parametrize("leading", [(1,), (1, 1), (3,), (2, 5)], ids=str)
def test_weights_of_half_the_precision_meet_vectors_of_the_whole(
    leading: tuple[int, ...], by: str, dtype: torch.dtype
) -> None:
    weight, bias = randn(48, 144, dtype=dtype), randn(144, dtype=dtype, seed=1)
    if by == "columns":
        weight = weight.T.contiguous().T
    x = randn(*leading, 48, seed=2)
    found = fast.linear(x, weight, bias)
    assert found.dtype == torch.float32
    assert torch.equal(found, fast.linear(x, weight, bias.float()))
    exact = F.linear(x.double(), weight.T.double(), bias.double())
    error = (found - exact).abs().max() / exact.abs().max()
    assert error < (2e-6 if x.numel() > 48 or by == "rows" else ROUNDING[dtype])


@pytest.mark.parametrize(
    ("n_in", "n_threads", "n_bands"),
    [(48, 1, 1), (48, 2, 2), (48, 5, 6), (48, 9, 12), (7, 2, 1), (1, 2, 1), (2, 2, 2)],
)
def test_the_cores_add_up_the_same_rows_in_bands(
    n_in: int, n_threads: int, n_bands: int
) -> None:
    x, weight = randn(n_in), randn(n_in, 5, seed=1)
    with (
        patch.object(torch, "get_num_threads", return_value=n_threads),
        patch.object(torch, "bmm", wraps=torch.bmm) as bmm,
    ):
        assert_close(fast.sum_rows(x, weight), x @ weight)
    assert len(bmm.call_args.args[0]) == len(bmm.call_args.args[1]) == n_bands


@HALVES
@pytest.mark.parametrize("by", ["rows", "columns"])
def test_vectors_of_another_length_are_refused(by: str, dtype: torch.dtype) -> None:
    """Even where together they have as many numbers as one that fits."""
    for weight in (randn(48, 10), randn(48, 10, dtype=dtype)):
        turned = weight.T.contiguous().T if by == "columns" else weight
        for x in (randn(2, 24), randn(24), randn(1, 49)):
            with pytest.raises(RuntimeError):
                fast.linear(x, turned)


@FLOATS
@pytest.mark.usefixtures("onednn")
@pytest.mark.parametrize(
    ("batch", "new", "past"), [(1, 1, 0), (1, 9, 0), (3, 4, 5), (1, 1, 8)]
)
def test_the_block_equals_the_taught_one(
    batch: int, new: int, past: int, dtype: torch.dtype
) -> None:
    weights = block_weights(24, dtype)
    x, total = randn(batch, new, 24, dtype=dtype), new + past
    before = randn(2, batch, 3, past, 8, dtype=dtype, seed=5)

    def remember(k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        return torch.cat([before[0], k], dim=-2), torch.cat([before[1], v], dim=-2)

    arguments = (weights, 3, 1e-5, causal_mask(new, total), remember)
    found, nothing = fast.transformer_block(x, *arguments)
    assert nothing is None
    assert_close(found, block.transformer_block(x, *arguments)[0], factor=10)


@FLOATS
@pytest.mark.usefixtures("onednn")
@pytest.mark.parametrize("asked", [1, 3, 9])
def test_the_block_answers_for_as_many_last_positions_as_the_mask_has_rows(
    asked: int, dtype: torch.dtype
) -> None:
    weights, visible = block_weights(24, dtype), causal_mask(9, 9)
    x, remembered = randn(2, 9, 24, dtype=dtype), []

    def remember(k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        remembered.append((k, v))
        return k, v

    arguments = (weights, 3, 1e-5)
    found, _ = fast.transformer_block(x, *arguments, visible[-asked:], remember)
    expected, _ = block.transformer_block(x, *arguments, visible, remember)
    assert_close(found, expected[:, -asked:], factor=10)
    for all_of_them, taught in zip(*remembered, strict=True):
        assert_close(all_of_them, taught, factor=10)


@FLOATS
def test_its_parts_equal_the_taught_ones(dtype: torch.dtype) -> None:
    weights = block_weights(24, dtype)
    x, visible = randn(2, 6, 24, dtype=dtype), causal_mask(6, 6)
    norm = weights["ln_1.weight"], weights["ln_1.bias"], 1e-5
    assert_close(fast.layer_norm(x, *norm), block.layer_norm(x, *norm), factor=10)
    assert_close(fast.mlp(x, weights), block.mlp(x, weights), factor=10)
    found, _ = fast.self_attention(x, weights, 4, visible)
    assert_close(found, self_attention(x, weights, 4, visible)[0], factor=10)


def test_padding_stays_hidden() -> None:
    weights, x = block_weights(24, torch.float32), randn(2, 6, 24)
    _, visible = skip_padding(torch.arange(6), causal_mask(6, 6), torch.tensor([0, 4]))
    found, _ = fast.self_attention(x, weights, 3, visible)
    assert_close(found, self_attention(x, weights, 3, visible)[0], factor=10)


# --- in the model ---


class Taught(GPT2):
    """A model that runs the block of chapter 5."""

    run_block = staticmethod(block.transformer_block)


def test_the_model_runs_the_fast_block_and_its_trace_the_taught_one() -> None:
    model = random_model()
    tokens = random_tokens(model.config, 9)
    with (
        patch.object(fast, "multiply", side_effect=AssertionError("fast")),
        pytest.raises(AssertionError, match="fast"),
    ):
        model(tokens)
    with patch.object(GPT2, "run_block", side_effect=AssertionError("fast")):
        trace = model.trace(tokens)
    assert_close(model(tokens), trace.logits, factor=20)
    taught = Taught(model.config, model.weights)
    assert_close(model(tokens), taught(tokens), factor=20)


@pytest.mark.parametrize("kind", [GPT2, Taught])
@pytest.mark.parametrize("past", [0, 4])
@pytest.mark.parametrize("n_pad", [None, torch.tensor([0, 3, 1])], ids=str)
def test_the_last_block_looks_from_the_last_position_only(
    n_pad: Tensor | None, past: int, kind: type[GPT2]
) -> None:
    model = kind(SMALL, random_model(SMALL).weights)
    tokens = random_tokens(SMALL, 3, 9)
    everywhere = model(tokens, n_pad=n_pad)
    cache = KVCache(SMALL, batch_size=3)
    if past:
        model(tokens[:, :past], cache, n_pad=n_pad)
    masks = []

    def run_block(*arguments: Any) -> tuple[Tensor, Tensor | None]:
        masks.append(list(arguments[4].shape[-2:]))
        return kind.run_block(*arguments)

    with patch.object(model, "run_block", run_block):
        last = model(tokens[:, past:], cache, last_only=True, n_pad=n_pad)
    assert last.shape == (3, 1, SMALL.n_vocab)
    assert_close(last, everywhere[:, -1:], factor=20)
    assert masks == [[9 - past, 9]] * (SMALL.n_layer - 1) + [[1, 9]]


@pytest.mark.parametrize(
    "config", [Config(31, 12, 24, 3, 2), Config(600, 40, 96, 4, 3)]
)
def test_one_token_at_a_time_equals_the_taught_model(config: Config) -> None:
    model = random_model(config)
    taught = Taught(config, model.weights)
    tokens = random_tokens(config, config.n_ctx)
    caches = KVCache(config), KVCache(config)
    for part in tokens.split([5] + [1] * (config.n_ctx - 5)):
        assert_close(model(part, caches[0]), taught(part, caches[1]), factor=50)


@HALVES
def test_a_block_of_half_the_precision_lies_by_columns(dtype: torch.dtype) -> None:
    exact = random_model()
    given = {name: tensor.to(dtype) for name, tensor in exact.weights.items()}
    model = GPT2(exact.config, given)
    for name, tensor in model.weights.items():
        assert torch.equal(tensor, given[name])
        in_block = name.startswith("h.") and tensor.dim() == 2
        assert (tensor.T if in_block else tensor).is_contiguous()
    for tensor in exact.weights.values():
        assert tensor.is_contiguous()


@HALVES
def test_half_the_precision_is_close_one_token_at_a_time(dtype: torch.dtype) -> None:
    exact = random_model()
    model = GPT2(
        exact.config, {name: tensor.to(dtype) for name, tensor in exact.weights.items()}
    )
    tokens = random_tokens(exact.config, 12)
    cache, expected = KVCache(model.config), exact(tokens)
    found = torch.cat([model(token, cache) for token in tokens.split(1)])
    assert (found - expected).abs().max() < 5 * ROUNDING[dtype] * expected.abs().max()
    trace = model.trace(tokens)  # which computes in float32
    assert trace.residual.dtype == torch.float32
    assert_close(trace.logits, model(tokens), factor=20)


def test_what_changes_a_weight_in_place_is_seen_at_once() -> None:
    """The fast block keeps no copies that could grow stale."""
    for dtype in (torch.float32, torch.float16):
        model = random_model(dtype=dtype)
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
    for kind in (GPT2, Taught):
        weights = {
            name: tensor.clone().requires_grad_(name in learning)
            for name, tensor in model.weights.items()
        }
        kind(model.config, weights)(tokens).square().sum().backward()
        gradients.append([weights[name].grad for name in learning])
    for found, expected in zip(*gradients, strict=True):
        assert expected.abs().max() > 0
        assert_close(found, expected, factor=100)
