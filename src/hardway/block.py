"""One transformer block: what is added to the residual stream, and how (chapter 5).

Papers: Ba et al. 2016 (layer norm), Hendrycks & Gimpel 2016 (GELU), Radford et al. 2019
(pre-norm).
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from hardway.attention import Remember, linear, self_attention


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, epsilon: float) -> Tensor:
    """Give each vector mean 0 and variance 1, then scale and shift it number by number.

    x: [..., n_embd]; weight, bias: [n_embd]; ``epsilon`` keeps the division safe where
    the variance is 0. Returns [..., n_embd]. Chapter 5.
    """
    centred = x - x.mean(dim=-1, keepdim=True)
    variance = (centred * centred).mean(dim=-1, keepdim=True)
    return centred / torch.sqrt(variance + epsilon) * weight + bias


def gelu(x: Tensor) -> Tensor:
    """Let large numbers pass, hold negative ones back, and bend smoothly between.

    GPT-2 uses the tanh approximation of x · Φ(x), Φ being the normal distribution's
    cumulative function. x: any shape, kept. Chapter 5.
    """
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def mlp(x: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
    """Think about each position alone: widen four times, bend, narrow again.

    x: [..., n_embd] → [..., n_embd]; weights: the block's ``mlp.*``. Chapter 5.
    """
    hidden = gelu(linear(x, weights["mlp.c_fc.weight"], weights["mlp.c_fc.bias"]))
    return linear(hidden, weights["mlp.c_proj.weight"], weights["mlp.c_proj.bias"])


def transformer_block(
    x: Tensor,
    weights: Mapping[str, Tensor],
    n_head: int,
    epsilon: float,
    visible: Tensor,
    remember: Remember | None = None,
) -> tuple[Tensor, Tensor]:
    """Add to the residual stream what attention finds, then what the MLP makes of it.

    x: [..., T, n_embd]; weights: the twelve tensors of one block, their ``h.N.`` cut
    off; visible and remember: see `hardway.attention.self_attention`. Returns the
    stream [..., T, n_embd] and the attention weights [..., n_head, T, S]. Chapter 5.
    """
    normed = layer_norm(x, weights["ln_1.weight"], weights["ln_1.bias"], epsilon)
    attended, attention_weights = self_attention(
        normed, weights, n_head, visible, remember
    )
    x = x + attended
    normed = layer_norm(x, weights["ln_2.weight"], weights["ln_2.bias"], epsilon)
    return x + mlp(normed, weights), attention_weights
