"""Causal self-attention: each position mixes in the values of those before it.

Paper: Vaswani et al. 2017, "Attention Is All You Need".
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

CacheUpdate = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
Weights = Mapping[str, Any]  # nested as the checkpoint's dots say


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Linear layer: ``x @ weight + bias``.

    x: [..., n_in]; weight: [n_in, n_out], the way GPT-2 stores it; bias: [n_out].
    Returns [..., n_out].
    """
    return x @ weight + bias


def softmax(scores: Tensor) -> Tensor:
    """Softmax over the last axis: positive, and summing to 1.

    Subtracting the largest score first changes nothing except that exp cannot overflow.
    scores: [..., n] → [..., n].
    """
    powers = torch.exp(scores - scores.amax(dim=-1, keepdim=True))
    return powers / powers.sum(dim=-1, keepdim=True)


def causal_mask(
    n_query: int, n_key: int, device: torch.device | str | None = None
) -> Tensor:
    """Causal mask: each query sees the keys at its own position and before.

    The queries are the *last* ``n_query`` of ``n_key`` positions, so the mask is
    aligned at the lower right: with a cache there are more keys than queries.
    Returns bool [n_query, n_key], True where a query may look.
    """
    queries = torch.arange(n_key - n_query, n_key, device=device)
    return torch.arange(n_key, device=device) <= queries[:, None]


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Scaled dot-product attention: average the values, weighted by matching keys.

    q: [..., T, d_head]; k, v: [..., S, d_head]; mask: bool, broadcast to [..., T, S],
    True where a query may look.
    Returns the averages [..., T, d_head] and the attention weights [..., T, S].
    """
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])  # [..., T, S]
    attn_weights = softmax(scores.masked_fill(~mask, -torch.inf))
    return attn_weights @ v, attn_weights


def split_heads(x: Tensor, n_head: int) -> Tensor:
    """Cut each vector into one part per head.

    x: [..., T, n_embd] → [..., n_head, T, d_head].
    """
    return x.reshape(*x.shape[:-1], n_head, -1).transpose(-3, -2)


def merge_heads(x: Tensor) -> Tensor:
    """Concatenate the heads' parts again, undoing `split_heads`.

    x: [..., n_head, T, d_head] → [..., T, n_embd].
    """
    return x.transpose(-3, -2).flatten(-2)


def self_attention(
    x: Tensor,
    attn: Weights,
    n_head: int,
    mask: Tensor,
    update_cache: CacheUpdate | None = None,
) -> tuple[Tensor, Tensor]:
    """Multi-head self-attention: project to Q, K and V, attend per head, project back.

    x: [..., T, n_embd]; attn: the block's ``attn`` weights; mask: bool, broadcast to
    [..., n_head, T, S]. ``update_cache`` takes the new keys and values,
    [..., n_head, T, d_head], and returns them after all past ones,
    [..., n_head, S, d_head]: attention needs nothing else from a KV cache.
    Returns [..., T, n_embd] and the attention weights [..., n_head, T, S].
    """
    qkv = linear(x, **attn["c_attn"])  # [..., T, 3 · n_embd]
    q, k, v = (split_heads(part, n_head) for part in qkv.chunk(3, dim=-1))
    if update_cache is not None:
        k, v = update_cache(k, v)
    mixed, attn_weights = attention(q, k, v, mask)
    return linear(merge_heads(mixed), **attn["c_proj"]), attn_weights
