"""The block again, in few large steps that read each weight once (How fast is it?).

`layer_norm`, `self_attention`, `mlp` and `transformer_block` do what their namesakes of
chapters 4 and 5 do, with the same arguments; the tests hold each pair equal. Only the
mask says more here: it has a row for each of the last positions that are asked for.
``GPT2`` runs these, and ``GPT2.trace`` the taught ones.
"""

from collections.abc import Mapping

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
    Here each core adds up a band of them, if they can be cut into bands of one height.
    x: [n_in]; weight: [n_in, n_out]. Returns [n_out]. How fast is it?
    """
    n_in, n_out = weight.shape
    cores = torch.get_num_threads()
    n = next((n for n in range(cores, 2 * cores) if n_in % n == 0), 1)
    sums = torch.bmm(x.view(n, 1, -1), weight.view(n, -1, n_out))
    return sums.sum(dim=(0, 1))


def dot_columns(x: Tensor, weight: Tensor) -> Tensor:
    """Multiply a vector by a matrix of half the precision that lies column by column.

    One number after the other is the dot product of the vector, rounded to the matrix's
    dtype, with a column. The products are added up in float32, and the sums rounded.
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


def multiply(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, gelu: bool = False
) -> Tensor:
    """Multiply vectors by a matrix, in x's precision, with all the processor's might.

    oneDNN applies bias and GELU to each number while it is at hand.
    x: [..., n_in]; weight: [n_in, n_out]. Returns [..., n_out], of x's dtype. How fast
    is it?
    """
    weight = weight.to(x.dtype)
    bias = None if bias is None else bias.to(x.dtype)
    if HAS_ONEDNN and x.dtype == torch.float32 and not _is_learning(x, weight, bias):
        product = torch.ops.mkldnn._linear_pointwise
        then = "gelu" if gelu else "none"
        fused: Tensor = product(x, weight.T, bias, then, [], "tanh")
        return fused
    out = F.linear(x, weight.T, bias)
    return F.gelu(out, approximate="tanh") if gelu else out


def _is_learning(*tensors: Tensor | None) -> bool:
    """Say whether someone wants a gradient, which oneDNN's product does not have."""
    return torch.is_grad_enabled() and any(
        tensor.requires_grad for tensor in tensors if tensor is not None
    )


def linear(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, gelu: bool = False
) -> Tensor:
    """Do ``x @ weight + bias`` in the way that the matrix's place in memory suggests.

    x: [..., n_in], float32 or float64; weight: [n_in, n_out], of x's dtype or a smaller
    one; bias: [n_out]. Returns [..., n_out], of x's dtype; its GELU on demand. How fast
    is it?
    """
    alone = x.numel() == x.shape[-1] == len(weight)  # a single vector
    if alone and weight.dtype == torch.float32 == x.dtype and weight.is_contiguous():
        out = sum_rows(x.flatten(), weight)
    elif alone and weight.dtype != x.dtype and weight.T.is_contiguous():
        out = dot_columns(x.flatten(), weight)
    else:
        return multiply(x, weight, bias, gelu)
    out = out.view(*x.shape[:-1], -1)
    out = out if bias is None else out + bias
    return F.gelu(out, approximate="tanh") if gelu else out


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
    Only the positions that ``visible`` has a row for, the last ones, look. How fast is
    it?
    """
    qkv = linear(x, weights["attn.c_attn.weight"], weights["attn.c_attn.bias"])
    q, k, v = split_heads(qkv, 3 * n_head).chunk(3, dim=-3)
    if remember is not None:
        k, v = remember(k, v)
    q = q[..., -visible.shape[-2] :, :]
    mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=visible)
    out = linear(
        merge_heads(mixed), weights["attn.c_proj.weight"], weights["attn.c_proj.bias"]
    )
    return out, None


def mlp(x: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
    """Do what `hardway.block.mlp` does, with GELU in one step. How fast is it?"""
    fc = weights["mlp.c_fc.weight"], weights["mlp.c_fc.bias"]
    hidden = linear(x, *fc, gelu=True)
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

    Returns the stream at the positions that ``visible`` has a row for, the last ones.
    How fast is it?
    """
    normed = layer_norm(x, weights["ln_1.weight"], weights["ln_1.bias"], epsilon)
    attended, _ = self_attention(normed, weights, n_head, visible, remember)
    x = x[..., -visible.shape[-2] :, :] + attended
    normed = layer_norm(x, weights["ln_2.weight"], weights["ln_2.bias"], epsilon)
    return x + mlp(normed, weights), None
