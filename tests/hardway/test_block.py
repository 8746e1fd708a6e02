"""Layer norm, GELU, the MLP and the block against torch and plain Python."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from hardway.attention import causal_mask, linear, self_attention
from hardway.block import gelu, layer_norm, mlp, transformer_block
from references import block_weights
from tensors import TOLERANCE, assert_close, randn

DTYPES = pytest.mark.parametrize("dtype", TOLERANCE)


@DTYPES
@pytest.mark.parametrize("epsilon", [1e-5, 1e-1])
@given(
    leading=st.lists(st.integers(1, 3), max_size=2),
    n_embd=st.integers(2, 32),
    scale=st.sampled_from([1e-3, 1.0, 1e3]),
    seed=st.integers(0, 99),
)
def test_layer_norm_equals_torch(
    leading: list[int],
    n_embd: int,
    scale: float,
    seed: int,
    epsilon: float,
    dtype: torch.dtype,
) -> None:
    x = scale * (randn(*leading, n_embd, dtype=dtype, seed=seed) + 1)
    weight, bias = randn(2, n_embd, dtype=dtype, seed=100)
    found = layer_norm(x, weight, bias, epsilon)
    # the difference of two nearly equal numbers has few digits left: hence the factor
    assert_close(found, F.layer_norm(x, (n_embd,), weight, bias, epsilon), factor=20)


def test_layer_norm_by_hand() -> None:
    """The variance is the mean square, divided by n and not by n - 1."""
    x = torch.tensor([1.0, 3.0, 5.0, 7.0], dtype=torch.float64)  # mean 4, variance 5
    found = layer_norm(x, torch.full((4,), 2.0), torch.full((4,), 10.0), 1e-12)
    assert found.tolist() == pytest.approx(
        [10 + 2 * d / math.sqrt(5) for d in (-3, -1, 1, 3)]
    )


def test_layer_norm_of_a_constant_is_the_bias() -> None:
    bias = torch.tensor([1.0, 2.0, 3.0])
    assert torch.equal(
        layer_norm(torch.full((2, 3), 7.0), torch.ones(3), bias, 1e-5)[1], bias
    )


@DTYPES
def test_gelu_is_the_tanh_approximation(dtype: torch.dtype) -> None:
    x = torch.linspace(-12, 12, 10_001, dtype=dtype)
    assert_close(gelu(x), F.gelu(x, approximate="tanh"))
    difference = (gelu(x) - F.gelu(x)).abs().max()
    assert 4e-4 < difference < 5e-4  # the exact one is another function


@DTYPES
def test_gelu_equals_its_formula(dtype: torch.dtype) -> None:
    for x in (-3.0, -0.5, 0.0, 0.1, 2.0):
        inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
        expected = torch.tensor(0.5 * x * (1 + math.tanh(inner)), dtype=dtype)
        assert_close(gelu(torch.tensor(x, dtype=dtype)), expected)


@DTYPES
@pytest.mark.parametrize("leading", [(), (5,), (2, 3)])
def test_mlp_equals_torch(leading: tuple[int, ...], dtype: torch.dtype) -> None:
    w, x = block_weights(8, dtype), randn(*leading, 8, dtype=dtype, seed=99)
    c_fc, c_proj = w["mlp"]["c_fc"], w["mlp"]["c_proj"]
    hidden = F.linear(x, c_fc["weight"].T, c_fc["bias"])
    hidden = F.gelu(hidden, approximate="tanh")
    assert hidden.shape == (*leading, 32)
    assert_close(mlp(x, w["mlp"]), F.linear(hidden, c_proj["weight"].T, c_proj["bias"]))


@DTYPES
@pytest.mark.parametrize(("n_embd", "n_head"), [(4, 1), (12, 3)])
def test_block_normalizes_before_and_adds_after(
    n_embd: int, n_head: int, dtype: torch.dtype
) -> None:
    w, x, mask = (
        block_weights(n_embd, dtype),
        randn(2, 5, n_embd, dtype=dtype),
        causal_mask(5, 5),
    )
    found, weights = transformer_block(x, w, n_head, 1e-5, mask)
    normed = F.layer_norm(x, (n_embd,), **w["ln_1"], eps=1e-5)
    qkv = linear(normed, **w["attn"]["c_attn"])
    q, k, v = (
        part.unflatten(-1, (n_head, -1)).transpose(1, 2)
        for part in qkv.split(n_embd, dim=-1)
    )
    mixed = (
        F.scaled_dot_product_attention(q, k, v, is_causal=True)
        .transpose(1, 2)
        .flatten(2)
    )
    stream = x + linear(mixed, **w["attn"]["c_proj"])
    normed = F.layer_norm(stream, (n_embd,), **w["ln_2"], eps=1e-5)
    assert_close(found, stream + mlp(normed, w["mlp"]))
    assert weights.shape == (2, n_head, 5, 5)


def test_block_passes_update_cache_on() -> None:
    """The block's keys are those of its attention layer, after the norm."""
    w, x = block_weights(8, torch.float64), randn(3, 8, dtype=torch.float64)
    normed = layer_norm(x, **w["ln_1"], epsilon=1e-5)
    seen: list[Tensor] = []

    def update_cache(k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        seen.extend([k, v])
        return k, v

    transformer_block(x, w, 2, 1e-5, causal_mask(3, 3), update_cache)
    self_attention(normed, w["attn"], 2, causal_mask(3, 3), update_cache)
    assert len(seen) == 4
    assert torch.equal(seen[0], seen[2])
    assert torch.equal(seen[1], seen[3])


@DTYPES
@pytest.mark.parametrize("past", [0, 4])
def test_every_row_of_the_block_is_right(past: int, dtype: torch.dtype) -> None:
    """Row by row, as the stream of one position whose past is in the cache."""
    w, x = block_weights(12, dtype), randn(9, 12, dtype=dtype)
    keys, values = torch.empty(2, 3, 0, 4, dtype=dtype)

    def update_cache(k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        nonlocal keys, values
        keys, values = torch.cat([keys, k], -2), torch.cat([values, v], -2)
        return keys, values

    rows = [
        transformer_block(x[i : i + 1], w, 3, 1e-5, causal_mask(1, i + 1), update_cache)
        for i in range(9)
    ]
    expected = torch.cat([row for row, _ in rows])
    seen = keys[:, :past], values[:, :past]

    def after_the_past(k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        return torch.cat([seen[0], k], dim=-2), torch.cat([seen[1], v], dim=-2)

    mask = causal_mask(9 - past, 9)
    found, weights = transformer_block(x[past:], w, 3, 1e-5, mask, after_the_past)
    assert_close(found, expected[past:], factor=10)
    for i, (_, row) in enumerate(rows[past:]):
        assert_close(weights[:, i, : past + i + 1], row[:, 0], factor=10)
