"""Let each position look at the ones before it: causal self-attention (chapter 4).

Paper: Vaswani et al. 2017, "Attention Is All You Need".
"""

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

Remember = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Map vectors to vectors: ``x @ weight + bias``.

    x: [..., n_in]; weight: [n_in, n_out], the way GPT-2 stores it; bias: [n_out].
    Returns [..., n_out]. Chapter 4.
    """
    return x @ weight + bias


def softmax(scores: Tensor) -> Tensor:
    """Turn the scores of the last axis into shares: positive, and 1 in sum.

    The largest score is subtracted first; that changes nothing but keeps exp from
    overflowing. scores: [..., n] → [..., n]. Chapter 4.
    """
    powers = torch.exp(scores - scores.amax(dim=-1, keepdim=True))
    return powers / powers.sum(dim=-1, keepdim=True)


def causal_mask(n_query: int, n_key: int) -> Tensor:
    """Say which keys each query may see: those at its own position and before.

    The queries are the *last* ``n_query`` of ``n_key`` positions, so the mask is
    aligned at the lower right: with a cache (chapter 8) there are more keys than
    queries. Returns bool [n_query, n_key], True where visible. Chapter 4.
    """
    queries = torch.arange(n_key - n_query, n_key)
    return torch.arange(n_key) <= queries[:, None]


def attention(
    q: Tensor, k: Tensor, v: Tensor, visible: Tensor
) -> tuple[Tensor, Tensor]:
    """Average the values for each query, weighted by how well it matches their keys.

    q: [..., T, d_head]; k, v: [..., S, d_head]; visible: bool, to [..., T, S].
    Returns the averages [..., T, d_head] and the weights [..., T, S]. Chapter 4.
    """
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])  # [..., T, S]
    weights = softmax(scores.masked_fill(~visible, -torch.inf))
    return weights @ v, weights


def split_heads(x: Tensor, n_head: int) -> Tensor:
    """Cut each vector into one part a head. Chapter 4.

    x: [..., T, n_embd] → [..., n_head, T, d_head].
    """
    return x.reshape(*x.shape[:-1], n_head, -1).transpose(-3, -2)


def merge_heads(x: Tensor) -> Tensor:
    """Lay the heads' parts side by side again, undoing `split_heads`. Chapter 4.

    x: [..., n_head, T, d_head] → [..., T, n_embd].
    """
    return x.transpose(-3, -2).flatten(-2)


def self_attention(
    x: Tensor,
    weights: Mapping[str, Tensor],
    n_head: int,
    visible: Tensor,
    remember: Remember | None = None,
) -> tuple[Tensor, Tensor]:
    """Run one attention layer: make Q, K and V, attend in every head, project back.

    x: [..., T, n_embd]; weights: the block's ``attn.*``; visible: bool, broadcast to
    [..., n_head, T, S]. ``remember`` takes the new keys and values,
    [..., n_head, T, d_head], and returns them behind all past ones,
    [..., n_head, S, d_head]: that is the KV cache's whole part in it (chapter 8).
    Returns [..., T, n_embd] and the attention weights [..., n_head, T, S]. Chapter 4.
    """
    qkv = linear(x, weights["attn.c_attn.weight"], weights["attn.c_attn.bias"])
    q, k, v = (split_heads(part, n_head) for part in qkv.chunk(3, dim=-1))
    if remember is not None:
        k, v = remember(k, v)
    mixed, attention_weights = attention(q, k, v, visible)
    out = linear(
        merge_heads(mixed), weights["attn.c_proj.weight"], weights["attn.c_proj.bias"]
    )
    return out, attention_weights
