"""Attention's parts against torch's own functions and plain Python loops."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from hardway.attention import (
    attention,
    causal_mask,
    linear,
    merge_heads,
    self_attention,
    softmax,
    split_heads,
)
from tensors import TOLERANCE, assert_close, randn

DTYPES = pytest.mark.parametrize("dtype", TOLERANCE)


# --- linear ---


@DTYPES
@pytest.mark.parametrize("leading", [(), (5,), (2, 3), (2, 1, 4)])
def test_linear_is_torchs_with_the_weight_transposed(
    leading: tuple[int, ...], dtype: torch.dtype
) -> None:
    x, weight, bias = (
        randn(*leading, 4, dtype=dtype),
        randn(4, 3, dtype=dtype),
        randn(3, dtype=dtype),
    )
    assert_close(linear(x, weight, bias), F.linear(x, weight.T, bias))


def test_linear_by_hand() -> None:
    x, weight = torch.tensor([1.0, 2.0]), torch.tensor([[1.0, 10.0], [100.0, 1000.0]])
    assert linear(x, weight, torch.tensor([0.5, 0.25])).tolist() == [201.5, 2010.25]


# --- softmax ---


@DTYPES
@given(
    scores=st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=20),
    shift=st.floats(-1e4, 1e4, width=32),
)
def test_softmax_equals_torch(
    scores: list[float], shift: float, dtype: torch.dtype
) -> None:
    x = torch.tensor([scores, scores[::-1]], dtype=dtype) + shift
    found = softmax(x)
    assert_close(found, torch.softmax(x, dim=-1))
    assert_close(found.sum(dim=-1), torch.ones(2, dtype=dtype))


def test_softmax_neither_overflows_nor_gives_hidden_scores_anything() -> None:
    assert softmax(torch.tensor([1e30, 1e30, -1e30])).tolist() == [0.5, 0.5, 0.0]
    assert softmax(torch.tensor([-torch.inf, 3.0])).tolist() == [0.0, 1.0]


# --- the mask ---


@given(n_query=st.integers(1, 9), n_past=st.integers(0, 9))
def test_causal_mask_is_aligned_at_the_lower_right(n_query: int, n_past: int) -> None:
    mask = causal_mask(n_query, n_past + n_query)
    assert mask.dtype == torch.bool
    assert mask.tolist() == [
        [key <= n_past + query for key in range(n_past + n_query)]
        for query in range(n_query)
    ]


def test_one_query_sees_the_whole_past() -> None:
    """Aligned at the upper left, it would see the first key alone."""
    assert causal_mask(1, 5).tolist() == [[True] * 5]


def test_the_mask_is_made_where_it_is_needed() -> None:
    assert causal_mask(2, 3, device="meta").device.type == "meta"


# --- attention ---


@DTYPES
@given(
    batch=st.integers(1, 2),
    n_head=st.integers(1, 3),
    n_query=st.integers(1, 5),
    n_past=st.integers(0, 4),
    d_head=st.integers(1, 8),
    seed=st.integers(0, 99),
)
def test_attention_equals_torch(
    batch: int,
    n_head: int,
    n_query: int,
    n_past: int,
    d_head: int,
    seed: int,
    dtype: torch.dtype,
) -> None:
    n_key = n_past + n_query
    q = randn(batch, n_head, n_query, d_head, dtype=dtype, seed=seed)
    k = randn(batch, n_head, n_key, d_head, dtype=dtype, seed=seed + 100)
    v = randn(batch, n_head, n_key, d_head, dtype=dtype, seed=seed + 200)
    mask = causal_mask(n_query, n_key)
    found, weights = attention(q, k, v, mask)
    assert_close(found, F.scaled_dot_product_attention(q, k, v, attn_mask=mask))
    assert weights.shape == (batch, n_head, n_query, n_key)
    assert_close(weights.sum(dim=-1), torch.ones(batch, n_head, n_query, dtype=dtype))
    assert (weights.masked_select(~mask) == 0).all()


def test_attention_equals_a_loop() -> None:
    n_query, n_key, d_head = 3, 5, 4
    q, k, v = (randn(n, d_head, dtype=torch.float64, seed=n) for n in (3, 5, 5))
    found, weights = attention(q, k, v, causal_mask(n_query, n_key))
    for i in range(n_query):
        keys = range(n_key - n_query + i + 1)
        scores = [sum(q[i, d] * k[j, d] for d in range(d_head)) for j in keys]
        powers = [math.exp(float(score) / math.sqrt(d_head)) for score in scores]
        for j in keys:
            assert float(weights[i, j]) == pytest.approx(powers[j] / sum(powers))
        for d in range(d_head):
            expected = sum(powers[j] / sum(powers) * float(v[j, d]) for j in keys)
            assert float(found[i, d]) == pytest.approx(expected)


# --- heads ---


@given(
    leading=st.lists(st.integers(1, 3), max_size=2),
    length=st.integers(1, 4),
    n_head=st.integers(1, 4),
    d_head=st.integers(1, 4),
)
def test_heads_are_parts_side_by_side(
    leading: list[int], length: int, n_head: int, d_head: int
) -> None:
    x = randn(*leading, length, n_head * d_head)
    heads = split_heads(x, n_head)
    assert heads.shape == (*leading, n_head, length, d_head)
    for head in range(n_head):
        part = x[..., head * d_head : (head + 1) * d_head]
        assert torch.equal(heads[..., head, :, :], part)
    assert torch.equal(merge_heads(heads), x)


# --- the layer ---


def layer_weights(n_embd: int, dtype: torch.dtype) -> dict[str, dict[str, Tensor]]:
    return {
        "c_attn": {
            "weight": randn(n_embd, 3 * n_embd, dtype=dtype, seed=1),
            "bias": randn(3 * n_embd, dtype=dtype, seed=2),
        },
        "c_proj": {
            "weight": randn(n_embd, n_embd, dtype=dtype, seed=3),
            "bias": randn(n_embd, dtype=dtype, seed=4),
        },
    }


@DTYPES
@pytest.mark.parametrize(("n_embd", "n_head"), [(4, 1), (12, 3), (16, 8)])
def test_self_attention_equals_torchs_module(
    n_embd: int, n_head: int, dtype: torch.dtype
) -> None:
    weights, x = layer_weights(n_embd, dtype), randn(2, 5, n_embd, dtype=dtype)
    module = torch.nn.MultiheadAttention(n_embd, n_head, batch_first=True, dtype=dtype)
    with torch.no_grad():
        module.in_proj_weight.copy_(weights["c_attn"]["weight"].T)
        module.in_proj_bias.copy_(weights["c_attn"]["bias"])
        module.out_proj.weight.copy_(weights["c_proj"]["weight"].T)
        module.out_proj.bias.copy_(weights["c_proj"]["bias"])
        expected = module(
            x,
            x,
            x,
            attn_mask=~causal_mask(5, 5),
            need_weights=True,
            average_attn_weights=False,
        )
    found = self_attention(x, weights, n_head, causal_mask(5, 5))
    assert_close(found[0], expected[0])
    assert_close(found[1], expected[1])


@pytest.mark.parametrize("cut", [1, 3, 5])
def test_update_cache_gets_the_new_keys_and_gives_back_all(cut: int) -> None:
    """With the past handed back, the rest of a sequence comes out as in one piece."""
    n_head, weights, x = (
        3,
        layer_weights(12, torch.float64),
        randn(6, 12, dtype=torch.float64),
    )
    whole, whole_attention = self_attention(x, weights, n_head, causal_mask(6, 6))
    seen: list[tuple[Tensor, Tensor]] = []

    def update_cache(k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        assert k.shape == v.shape == (n_head, k.shape[-2], 4)
        seen.append((k, v))
        keys, values = zip(*seen, strict=True)
        return torch.cat(keys, dim=-2), torch.cat(values, dim=-2)

    first, _ = self_attention(
        x[:cut], weights, n_head, causal_mask(cut, cut), update_cache
    )
    mask = causal_mask(6 - cut, 6)
    rest, rest_attention = self_attention(x[cut:], weights, n_head, mask, update_cache)
    assert [k.shape[-2] for k, _ in seen] == [cut, 6 - cut]
    assert_close(torch.cat([first, rest]), whole)
    assert_close(rest_attention, whole_attention[:, cut:])
