"""One transformer block: what attention and the MLP add to the residual stream.

Papers: Ba et al. 2016 (layer norm), Hendrycks & Gimpel 2016 (GELU), Radford et al. 2019
(pre-norm).
"""

import math

import torch
from torch import Tensor

from hardway.attention import CacheUpdate, Weights, linear, self_attention


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, epsilon: float) -> Tensor:
    """Layer norm: give each vector mean 0 and variance 1, then scale and shift it.

    x: [..., n_embd]; weight, bias: [n_embd]; ``epsilon`` keeps the division safe where
    the variance is 0. Returns [..., n_embd].
    """
    centered = x - x.mean(dim=-1, keepdim=True)
    variance = (centered * centered).mean(dim=-1, keepdim=True)
    return centered / torch.sqrt(variance + epsilon) * weight + bias


def gelu(x: Tensor) -> Tensor:
    """GELU activation, by GPT-2's tanh approximation of x · Φ(x).

    Φ is the cumulative distribution function of the standard normal distribution.
    x: any shape, kept.
    """
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def mlp(x: Tensor, weights: Weights) -> Tensor:
    """Position-wise MLP: expand 4×, GELU, project back.

    x: [..., n_embd] → [..., n_embd]; weights: the block's ``mlp`` weights.
    """
    hidden = gelu(linear(x, **weights["c_fc"]))  # [..., 4 · n_embd]
    return linear(hidden, **weights["c_proj"])


def transformer_block(
    x: Tensor,
    block: Weights,
    n_head: int,
    epsilon: float,
    mask: Tensor,
    update_cache: CacheUpdate | None = None,
) -> tuple[Tensor, Tensor]:
    """Pre-norm transformer block: attention, then the MLP, each added to the stream.

    x: [..., T, n_embd]; block: the weights of one block, nested; mask and update_cache:
    see `hardway.attention.self_attention`. Returns the residual stream [..., T, n_embd]
    and the attention weights [..., n_head, T, S].
    """
    normed = layer_norm(x, **block["ln_1"], epsilon=epsilon)
    attended, attn_weights = self_attention(
        normed, block["attn"], n_head, mask, update_cache
    )
    x = x + attended
    normed = layer_norm(x, **block["ln_2"], epsilon=epsilon)
    return x + mlp(normed, block["mlp"]), attn_weights
