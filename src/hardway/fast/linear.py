"""Matrix products that read each weight once, whatever its layout and precision."""

import torch
import torch.nn.functional as F
from torch import Tensor

from hardway.checkpoint import compute_dtype
from hardway.fast.packed import Packed, bfloat16_pays

# The matrix product that torch's own compiler calls. It is not documented, so where a
# torch comes without it, the usual product has to do.
HAS_ONEDNN = hasattr(torch.ops.mkldnn, "_linear_pointwise")


def linear(
    x: Tensor, weight: Tensor | Packed, bias: Tensor | None = None, gelu: bool = False
) -> Tensor:
    """Linear layer ``x @ weight + bias``, choosing a kernel by memory layout.

    x: [..., n_in], float32 or float64; weight: [n_in, n_out], of x's dtype or a smaller
    one, or packed codes; bias: [n_out]. Returns [..., n_out], of x's dtype; on demand,
    its GELU. A product of codes without a bias is bfloat16, which is what torch's
    products return: adding it to x costs no conversion.
    """
    if not isinstance(weight, Tensor):
        return _finish(multiply_codes(x, weight), bias, gelu)
    if rounds_to_bfloat16(x, weight):
        out = F.linear(x.to(torch.bfloat16), weight.T).to(x.dtype)
        return _finish(out, bias, gelu)
    alone = x.numel() == x.shape[-1] == len(weight)  # a single vector
    if alone and weight.dtype == torch.float32 == x.dtype and weight.is_contiguous():
        out = sum_rows(x.flatten(), weight)
    elif alone and weight.dtype != x.dtype and weight.T.is_contiguous():
        out = dot_columns(x.flatten(), weight)
    else:
        return matmul(x, weight, bias, gelu)
    return _finish(out.view(*x.shape[:-1], -1), bias, gelu)


def rounds_to_bfloat16(x: Tensor, weight: Tensor) -> bool:
    """Return whether to multiply in bfloat16, where that is faster than float32.

    The vectors and the products are rounded to it; sums are accumulated in float32.
    """
    is_bfloat16 = weight.dtype == torch.bfloat16 and x.dtype == torch.float32
    return is_bfloat16 and x.device.type == "cpu" and bfloat16_pays()


def multiply_codes(x: Tensor, weight: Packed) -> Tensor:
    """Multiply by a matrix of 16, 8 or 4 bits: [..., n_in] → [..., n_out]."""
    if x.dim() == 2:
        return weight.multiply(x)
    return weight.multiply(x.reshape(-1, x.shape[-1])).view(*x.shape[:-1], -1)


def _finish(out: Tensor, bias: Tensor | None, gelu: bool) -> Tensor:
    out = out if bias is None else out + bias
    return F.gelu(out, approximate="tanh") if gelu else out


def sum_rows(x: Tensor, weight: Tensor) -> Tensor:
    """Multiply a vector by a matrix that lies in memory row by row.

    ``x @ weight`` is the sum of the matrix's rows, each times one number of the vector.
    Each core sums a band of rows, if they can be cut into bands of one height.
    x: [n_in]; weight: [n_in, n_out]. Returns [n_out].
    """
    n_in, n_out = weight.shape
    cores = torch.get_num_threads()
    n = next((n for n in range(cores, 2 * cores) if n_in % n == 0), 1)
    sums = torch.bmm(x.view(n, 1, -1), weight.view(n, -1, n_out))
    return sums.sum(dim=(0, 1))


def dot_columns(x: Tensor, weight: Tensor) -> Tensor:
    """Multiply a vector by a matrix of half the precision that lies column by column.

    Each output is the dot product of the vector, rounded to the matrix's dtype, with a
    column. The products are accumulated in float32, and the sums rounded.
    x: [n_in]; weight: [n_in, n_out]. Returns [n_out], of x's dtype.
    """
    return torch.mv(weight.T, x.to(weight.dtype)).to(x.dtype)


def pack_weight(name: str, weight: Tensor) -> Tensor:
    """Store a block's half-precision matrix column-major.

    That is how `dot_columns` reads it. The numbers and their indices stay as they are,
    and so does every other weight.
    """
    if is_matrix(name, weight) and weight.dtype != compute_dtype(weight.dtype):
        return weight.T.contiguous().T
    return weight


def is_matrix(name: str, weight: Tensor) -> bool:
    """Return whether a weight is one of a block's matrices.

    >>> is_matrix("h.0.attn.c_attn.bias", torch.ones(3))
    False
    """
    return name.startswith("h.") and weight.dim() == 2


def matmul(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, gelu: bool = False
) -> Tensor:
    """Matrix product with fused bias and GELU (oneDNN), in x's precision.

    x: [..., n_in]; weight: [n_in, n_out]. Returns [..., n_out], of x's dtype.
    """
    weight = weight.to(x.dtype)
    bias = None if bias is None else bias.to(x.dtype)
    if uses_onednn(x) and not _is_learning(x, weight, bias):
        product = torch.ops.mkldnn._linear_pointwise
        then = "gelu" if gelu else "none"
        fused: Tensor = product(x, weight.T, bias, then, [], "tanh")
        return fused
    out = F.linear(x, weight.T, bias)
    return F.gelu(out, approximate="tanh") if gelu else out


def uses_onednn(x: Tensor) -> bool:
    """Return whether oneDNN handles x: float32, on a CPU."""
    return HAS_ONEDNN and x.dtype == torch.float32 and x.device.type == "cpu"


def _is_learning(*tensors: Tensor | None) -> bool:
    """Return whether any tensor needs a gradient, which oneDNN's product lacks."""
    return torch.is_grad_enabled() and any(
        tensor.requires_grad for tensor in tensors if tensor is not None
    )


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, epsilon: float) -> Tensor:
    """Like `hardway.block.layer_norm`, in one kernel."""
    return F.layer_norm(x, x.shape[-1:], weight.to(x.dtype), bias.to(x.dtype), epsilon)
