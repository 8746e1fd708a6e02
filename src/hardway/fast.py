"""The block again, in few large steps that read each weight once (How fast is it?).

`layer_norm`, `self_attention`, `mlp` and `transformer_block` do what their namesakes of
chapters 4 and 5 do, with the same arguments; the tests hold each pair equal. ``GPT2``
runs these, and ``GPT2.trace`` the taught ones.
"""

from collections.abc import Mapping
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from hardway.attention import Remember, merge_heads, split_heads

# The matrix product that torch's own compiler calls. It is not documented, so where a
# torch comes without it, the usual product has to do.
HAS_ONEDNN = hasattr(torch.ops.mkldnn, "_linear_pointwise")


def computing_dtype(stored: torch.dtype) -> torch.dtype:
    """Return the dtype to compute in: float32 where weights have fewer bits than that.

    How fast is it?
    """
    return torch.promote_types(stored, torch.float32)


def sum_rows(x: Tensor, weight: Tensor) -> Tensor:
    """Multiply a vector by a matrix that lies in memory row by row.

    ``x @ weight`` is the sum of the matrix's rows, each times one number of the vector.
    Torch knows such a sum as an embedding bag; here each core fills one with its share
    of the rows. x: [n_in]; weight: [n_in, n_out]. Returns [n_out]. How fast is it?
    """
    rows, starts = _shares(len(weight), torch.get_num_threads())
    bags = F.embedding_bag(rows, weight, starts, mode="sum", per_sample_weights=x)
    return bags.sum(dim=0)


@lru_cache
def _shares(n: int, n_cores: int) -> tuple[Tensor, Tensor]:
    """Number ``n`` rows, and say at which of them each core's share starts."""
    n_cores = min(n, n_cores)
    return torch.arange(n), torch.arange(n_cores) * n // n_cores


def dot_columns(x: Tensor, weight: Tensor) -> Tensor:
    """Multiply a vector by a matrix of half the precision that lies column by column.

    One number after the other is the dot product of the vector with a column. The
    products are added up in float32, the sums rounded to the matrix's dtype.
    x: [n_in]; weight: [n_in, n_out]. Returns [n_out], of x's dtype. How fast is it?
    """
    return torch.mv(weight.T, x.to(weight.dtype)).to(x.dtype)


def laid_out(name: str, weight: Tensor) -> Tensor:
    """Lay a block's matrix of half the precision in memory as `dot_columns` reads it.

    The numbers and their indices stay as they are, and so does any other weight. How
    fast is it?
    """
    is_matrix = name.startswith("h.") and weight.dim() == 2
    if is_matrix and weight.dtype != computing_dtype(weight.dtype):
        return weight.T.contiguous().T
    return weight


def multiply(x: Tensor, weight: Tensor) -> Tensor:
    """Multiply vectors by a matrix, in x's precision, with all the processor's might.

    x: [..., n_in]; weight: [n_in, n_out]. Returns [..., n_out], of x's dtype. How fast
    is it?
    """
    weight = weight.to(x.dtype)
    if HAS_ONEDNN and x.dtype == torch.float32 and not _is_learning(x, weight):
        product = torch.ops.mkldnn._linear_pointwise
        out: Tensor = product(x, weight.T, None, "none", [], "")
        return out
    return x @ weight


def _is_learning(x: Tensor, weight: Tensor) -> bool:
    """Say whether someone wants the gradient, which only the usual product has."""
    return torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Do ``x @ weight + bias`` in the way that the matrix's place in memory suggests.

    x: [..., n_in], float32 or float64; weight: [n_in, n_out], of x's dtype or a smaller
    one; bias: [n_out]. Returns [..., n_out], of x's dtype. How fast is it?
    """
    product = multiply
    if x.numel() == len(weight) and not _is_learning(x, weight):  # a single vector
        if weight.dtype == torch.float32 == x.dtype and weight.is_contiguous():
            product = sum_rows
        elif weight.dtype != x.dtype and weight.T.is_contiguous():
            product = dot_columns
    vectors = x if product is multiply else x.flatten()
    out = product(vectors, weight).view(*x.shape[:-1], -1)
    return out if bias is None else out + bias


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, epsilon: float) -> Tensor:
    """Do what `hardway.block.layer_norm` does, in one step. How fast is it?"""
    return F.layer_norm(x, x.shape[-1:], weight.to(x.dtype), bias.to(x.dtype), epsilon)


def self_attention(
    x: Tensor,
    weights: Mapping[str, Tensor],
    n_head: int,
    visible: Tensor,
    remember: Remember | None = None,
) -> tuple[Tensor, None]:
    """Do what `hardway.attention.self_attention` does, but keep no attention weights.

    Torch's fused attention never has a row of them in memory whole (Dao et al. 2022).
    How fast is it?
    """
    qkv = linear(x, weights["attn.c_attn.weight"], weights["attn.c_attn.bias"])
    q, k, v = (split_heads(part, n_head) for part in qkv.chunk(3, dim=-1))
    if remember is not None:
        k, v = remember(k, v)
    mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=visible)
    out = linear(
        merge_heads(mixed), weights["attn.c_proj.weight"], weights["attn.c_proj.bias"]
    )
    return out, None


def mlp(x: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
    """Do what `hardway.block.mlp` does, with GELU in one step. How fast is it?"""
    hidden = linear(x, weights["mlp.c_fc.weight"], weights["mlp.c_fc.bias"])
    hidden = F.gelu(hidden, approximate="tanh")
    return linear(hidden, weights["mlp.c_proj.weight"], weights["mlp.c_proj.bias"])


def transformer_block(
    x: Tensor,
    weights: Mapping[str, Tensor],
    n_head: int,
    epsilon: float,
    visible: Tensor,
    remember: Remember | None = None,
) -> tuple[Tensor, None]:
    """Do what `hardway.block.transformer_block` does, but keep no attention weights.

    How fast is it?
    """
    normed = layer_norm(x, weights["ln_1.weight"], weights["ln_1.bias"], epsilon)
    attended, _ = self_attention(normed, weights, n_head, visible, remember)
    x = x + attended
    normed = layer_norm(x, weights["ln_2.weight"], weights["ln_2.bias"], epsilon)
    return x + mlp(normed, weights), None
