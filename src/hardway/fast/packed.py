"""Matrices of 16, 8 and 4 bits, packed as torch's products for few vectors read them.

The products have private names in torch, take only bfloat16, and are fast only on some
processors. So `pack` first asks whether they exist, are right, and beat float32. If
not, it returns the same numbers as a float32 tensor.
"""

from collections.abc import Callable, Sequence
from functools import cache
from time import perf_counter
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hardway.gguf import BLOCKS, dequantize_f16, nibbles
from hardway.quantization import (
    Quantized,
    asymmetric,
    dequantize,
    least_squares,
    quantize,
)

WIDTH = 16  # the 8-bit product reads this many codes at a time, even past a row
BLOCK = 64  # rows that are packed together, or a multiple of them
BAND = 64 * BLOCK  # rows packed at once: meanwhile each code takes four bytes
GROUPS = (32, 64, 128)  # sizes of a group that the product of 4 bits takes
CACHED = 2**18  # numbers quantized at once: they and what is made of them stay cached


class Bfloat16Matrix:
    """A matrix [n_in, n_out] of bfloat16, in the order in which oneDNN reads it.

    The order depends on the processor, so a copy, or a pickle, is ordered anew.
    ``mean``: as in an `Int8Matrix`.
    """

    def __init__(self, matrix: Tensor, mean: Tensor | None = None) -> None:
        """Take a matrix [n_out, n_in], and round it to bfloat16."""
        rounded = matrix.to(torch.bfloat16)
        self.ordered: Tensor = torch.ops.mkldnn._reorder_linear_weight(rounded)
        self.mean = mean

    def multiply(self, x: Tensor) -> Tensor:
        """Multiply vectors, rounded to bfloat16: [n, n_in] → [n, n_out].

        The products are rounded to bfloat16, what they have in common isn't.
        """
        product, rounded = torch.ops.mkldnn._linear_pointwise, x.to(torch.bfloat16)
        out: Tensor = product(rounded, self.ordered, None, "none", [], "")
        return out if self.mean is None else out + (x @ self.mean)[:, None]

    def dequantize(self) -> Tensor:
        """Return its numbers, float32 [n_in, n_out]."""
        numbers = self.ordered.to_dense().float()
        return (numbers if self.mean is None else numbers + self.mean).T

    def __reduce__(self) -> tuple[Any, ...]:
        return Bfloat16Matrix, (self.ordered.to_dense(), self.mean)


class Int8Matrix:
    """A matrix [n_in, n_out] of 8-bit codes, with one scale for each output.

    ``mean`` [n_in] is added to what each row of codes stands for. Its product, which
    all outputs have in common, is computed apart, because theirs are rounded.
    """

    few = 16  # vectors; more are worth converting the codes for bfloat16's product

    def __init__(self, quantized: Quantized, mean: Tensor | None = None) -> None:
        """Take codes whose scales span whole rows, and whose zeros are 0.

        n_in must be a multiple of ``WIDTH``. The codes are copied to where torch aligns
        its tensors, and so are vectors: the product crashes on others.
        """
        self.codes, self.mean = quantized.codes.clone(), mean
        self.scales = quantized.scales[:, 0].to(torch.bfloat16)

    def __getitem__(self, rows: Tensor) -> Tensor:
        """Return what some rows of codes stand for: [...] → float32 [..., n_in]."""
        found = self.codes[rows] * self.scales[rows].float()[..., None]
        return found if self.mean is None else found + self.mean

    def multiply(self, x: Tensor) -> Tensor:
        """Multiply vectors, rounded to bfloat16: [n, n_in] → [n, n_out].

        The products are rounded to bfloat16.
        """
        rounded = x.to(torch.bfloat16, copy=True).contiguous()
        if len(x) <= self.few:
            out = torch._weight_int8pack_mm(rounded, self.codes, self.scales)
        else:
            out = matmul(rounded, self.codes.T) * self.scales
        return out if self.mean is None else out + (x @ self.mean)[:, None]

    def dequantize(self) -> Tensor:
        """Return what the codes stand for, float32 [n_in, n_out]."""
        return self[torch.arange(len(self.codes))].T


class Int4Matrix:
    """A matrix [n_in, n_out] of 4-bit codes, with scales and zeros for each group.

    The product with ``mean`` [n_in], which all outputs have in common, is computed
    apart, because theirs are rounded: one more group of inputs takes it off them.
    """

    few = 96  # vectors; more are worth unpacking the codes for bfloat16's product

    def __init__(self, quantized: Quantized, mean: Tensor | None = None) -> None:
        """Pack codes from -8 to 7 as they are; scales and zeros become bfloat16."""
        codes, self.mean = quantized.codes, mean
        self.n_out, self.n_in = codes.shape
        steps = torch.stack([quantized.scales.T, quantized.zeros.T], dim=-1)
        self.group = self.n_in // len(steps)
        if mean is not None:
            codes = F.pad(codes, (0, self.group))
            steps = F.pad(steps, (0, 0, 0, 0, 0, 1))
            steps[-1, :, 1] = -1  # for codes of 0, what each of them stands for
        rows = -self.n_out % BLOCK
        self.packed = pack_codes(F.pad(codes, (0, 0, 0, rows)))
        self.steps = F.pad(steps, (0, 0, 0, rows)).to(torch.bfloat16)

    def __getitem__(self, rows: Tensor) -> Tensor:
        """Return what some rows of codes stand for: [...] → float32 [..., n_in]."""
        half = half_block()
        block, row = rows // (2 * half), rows % (2 * half)
        pairs = self.packed.view(-1, len(self.steps) * self.group, half)
        shift = (4 * (row // half)).to(torch.uint8)[..., None]
        codes = ((pairs[block, :, row % half] >> shift) & 15).float() - 8
        steps = self.steps.transpose(0, 1)[rows].float()[..., None]
        groups = codes.unflatten(-1, (-1, self.group))
        groups = groups * steps[..., 0, :] + steps[..., 1, :]
        values: Tensor = groups.flatten(-2)
        return values[..., : self.n_in]

    def multiply(self, x: Tensor) -> Tensor:
        """Multiply vectors, rounded to bfloat16: [n, n_in] → [n, n_out].

        The products are rounded to bfloat16.
        """
        rounded = x.to(torch.bfloat16).contiguous()
        if self.mean is None:
            return self._multiply(rounded)
        common = (x @ self.mean).to(torch.bfloat16)[:, None]
        padded = F.pad(common, (0, self.group - 1))
        return self._multiply(torch.cat([rounded, padded], dim=1)) + common.float()

    def _multiply(self, x: Tensor) -> Tensor:
        if len(x) <= self.few:
            out = torch._weight_int4pack_mm_for_cpu(
                x, self.packed, self.group, self.steps
            )
        else:
            out = matmul(x, self.unpack())
        return out if out.shape[1] == self.n_out else out[:, : self.n_out]

    def unpack(self, dtype: torch.dtype = torch.bfloat16) -> Tensor:
        """Return what the codes stand for, with all padding: a few passes over memory.

        The codes are exact, what they stand for is rounded to ``dtype``.
        """
        half, n_groups = half_block(), len(self.steps)
        pairs = self.packed.view(torch.int8) ^ -0x78  # each half byte: signed, code - 8
        pairs = pairs.view(-1, n_groups * self.group, half).transpose(0, 1)
        codes = torch.empty(*pairs.shape[:2], 2, half, dtype=dtype)
        codes[:, :, 0] = pairs << 4 >> 4
        codes[:, :, 1] = pairs >> 4
        scales, zeros = self.steps.to(dtype).permute(2, 0, 1).contiguous()[:, :, None]
        return (
            codes.view(n_groups, self.group, -1).mul_(scales).add_(zeros).flatten(0, 1)
        )

    def dequantize(self) -> Tensor:
        """Return what the codes stand for, float32 [n_in, n_out]."""
        return self.unpack(torch.float32)[: self.n_in, : self.n_out]


class BlockTable:
    """Embeddings [n_vocab, n_embd] as a GGUF stores them; rows are read one by one."""

    def __init__(self, kind: str, blocks: Tensor, shape: Sequence[int]) -> None:
        """Take a tensor's kind, its blocks [n_blocks, bytes], and its shape."""
        self.kind, self.blocks = kind, blocks.view(shape[0], -1, blocks.shape[1])

    def __getitem__(self, rows: Tensor) -> Tensor:
        """Return some rows, exactly: [...] → float32 [..., n_embd]."""
        blocks = self.blocks[rows]
        values = BLOCKS[self.kind].dequantize(blocks.flatten(0, -2))
        return values.view(*rows.shape, -1)


KINDS = ("bfloat16", "int8", "int4")
Rows = Int8Matrix | Int4Matrix
Packed = Bfloat16Matrix | Rows


def pack(quantized: Quantized | Tensor) -> Packed | Tensor:
    """Lay codes out for the product that reads them, without changing any.

    Codes with one scale a row and zeros of 0 make an `Int8Matrix`, those from -8 to 7
    in groups that the product takes an `Int4Matrix`, and a tensor [n_out, n_in] of
    bfloat16 a `Bfloat16Matrix`. For others, and where the product doesn't pay, return
    what they stand for, float32 [n_in, n_out].
    """
    if isinstance(quantized, Tensor):
        pays = quantized.dtype == torch.bfloat16 and onednn_pays()
        return Bfloat16Matrix(quantized) if pays else quantized.float().T
    n_groups = quantized.scales.shape[1]
    low, high = quantized.codes.aminmax()
    if quantized.codes.shape[1] // n_groups in GROUPS and low >= -8 and high <= 7:
        if int4_pays():
            return Int4Matrix(quantized)
    elif n_groups == 1 and not quantized.zeros.any() and fits_int8(quantized):
        return Int8Matrix(quantized)
    return dequantize(quantized).T


def read_codes(kind: str, blocks: Tensor, shape: Sequence[int]) -> Quantized:
    """Take a GGUF's codes as they are, not one changed.

    kind: ``"Q4_0"``, ``"Q4_1"`` or ``"Q8_0"``; blocks: uint8 [n_blocks, bytes per
    block]; shape: [n_out, n_in]. Codes of 4 bits are stored from 0 to 15 there, and
    from -8 to 7 here. The scales are float32, so exact, too.
    """
    scales = dequantize_f16(blocks[:, :2])
    zeros = torch.zeros_like(scales)
    if kind == "Q8_0":
        codes = blocks[:, 2:].view(torch.int8)
    else:
        first = 4 if kind == "Q4_1" else 2
        codes = nibbles(blocks[:, first:]).view(torch.int8) - 8
        if kind == "Q4_1":
            zeros = dequantize_f16(blocks[:, 2:4]) + 8 * scales  # a minimum there
    n_out = shape[0]
    return Quantized(
        codes.reshape(n_out, -1), scales.view(n_out, -1), zeros.view(n_out, -1)
    )


def as_float(matrix: Tensor | Packed) -> Tensor:
    """Return what a matrix's codes stand for, float32 [n_in, n_out]."""
    return matrix.float() if isinstance(matrix, Tensor) else matrix.dequantize()


def join(parts: Sequence[Quantized]) -> Quantized:
    """Stack matrices that multiply the same vectors: one after the other's outputs."""
    return Quantized(
        torch.cat([part.codes for part in parts]),
        torch.cat([part.scales for part in parts]),
        torch.cat([part.zeros for part in parts]),
    )


def quantize_matrix(matrix: Tensor, kind: str) -> Packed | Tensor:
    """Round a matrix [n_out, n_in] to one of the ``KINDS``, and pack it.

    8 bits: by rows, symmetric. 4 bits: by groups of 32, by least squares.
    """
    return pack(fewer_bits(matrix, kind))


def fewer_bits(matrix: Tensor, kind: str) -> Quantized | Tensor:
    """Return a matrix's codes, or for ``"bfloat16"`` its numbers, rounded."""
    if kind == "bfloat16":
        return matrix.to(torch.bfloat16)
    return quantize_codes(matrix, kind)


def quantize_head(table: Tensor, rows: Rows | Tensor, kind: str) -> Packed | Tensor:
    """Return embeddings [n_vocab, n_embd] as an output matrix [n_embd, n_vocab].

    rows: what `quantize_table` made of them, which is the output matrix, too, except
    for ``"bfloat16"``: there is nothing to look up in oneDNN's order, and the numbers
    of the output matrix are rounded after their mean is taken off.
    """
    if kind == "bfloat16" and onednn_pays():
        mean = table.mean(dim=0)
        return Bfloat16Matrix(table - mean, mean)
    return rows.float().T if isinstance(rows, Tensor) else rows


def quantize_table(table: Tensor, kind: str) -> Rows | Tensor:
    """Quantize embeddings [n_vocab, n_embd], of which rows will be looked up.

    Logits may all lie far from 0, where bfloat16 has no digits left to tell them apart.
    So what they have in common, the product with the mean embedding, is kept out. In 4
    bits the embeddings themselves stay as they are: those of frequent tokens lie away
    from the mean, and lose more when it is taken off. Where no product pays, return
    what the codes stand for, float32 [n_vocab, n_embd].
    """
    if kind == "bfloat16":
        return table.to(torch.bfloat16)
    mean = table.mean(dim=0)
    if kind == "int4":
        quantized = quantize_codes(table, kind)
        return Int4Matrix(quantized, mean) if int4_pays() else dequantize(quantized)
    quantized = quantize_codes(table - mean, kind)
    if fits_int8(quantized):
        return Int8Matrix(quantized, mean)
    return dequantize(quantized) + mean


def quantize_codes(matrix: Tensor, kind: str) -> Quantized:
    """Quantize a few rows at a time, which the processor's cache can hold."""
    bands = matrix.split(max(1, CACHED // matrix.shape[1]))
    if kind == "int8":
        parts = [quantize(band, 8, dtype=torch.bfloat16) for band in bands]
    else:
        parts = [quantize(band, 4, 32, least_squares, torch.bfloat16) for band in bands]
    return join(parts)


def pack_codes(codes: Tensor) -> Tensor:
    """Pack codes from -8 to 7, two a byte: int8 [n_out, n_in] → uint8.

    n_out must be a multiple of ``BLOCK``.
    """
    bands = (codes.int() + 8 for codes in codes.split(BAND))
    return torch.cat([torch._convert_weight_to_int4pack_for_cpu(b, 1) for b in bands])


def matmul(x: Tensor, weight: Tensor) -> Tensor:
    """Multiply many bfloat16 vectors, in float32 where bfloat16 isn't faster.

    x: [n, n_in]; weight: [n_in, n_out], of any dtype. Returns [n, n_out].
    """
    dtype = torch.bfloat16 if bfloat16_pays() else torch.float32
    return x.to(dtype) @ weight.to(dtype)


@cache
def half_block() -> int:
    """Ask torch how it packs 4-bit codes, which differs between processors.

    A byte holds a code of one row, and one of the row this many further on. Bytes of
    neighboring rows follow, then those of the next column, then the next block of rows.
    Returns 0 where the order is another one.
    """
    codes = torch.arange(2 * BLOCK * 32).remainder(13).view(-1, 32).to(torch.int8) - 8
    packed = pack_codes(codes).flatten()
    for half in (32, 16):
        low, high = (codes + 8).view(-1, 2, half, 32).unbind(1)  # [blocks, half, 32]
        pairs = (low | high << 4).transpose(1, 2).to(torch.uint8)
        if torch.equal(pairs.flatten(), packed):
            return half
    return 0


def fits_int8(quantized: Quantized) -> bool:
    """Return whether to use the product of 8 bits, for codes of this length."""
    return quantized.codes.shape[1] % WIDTH == 0 and int8_pays()


@cache
def onednn_pays() -> bool:
    """Return whether oneDNN multiplies by ordered bfloat16 faster than by float32."""
    return _pays(lambda: Bfloat16Matrix(_sample()), _sample())


@cache
def int8_pays() -> bool:
    """Return whether torch multiplies by 8-bit codes here, faster than by float32."""
    exact = quantize(_sample(), 8)
    return _pays(lambda: Int8Matrix(exact), dequantize(exact))


@cache
def int4_pays() -> bool:
    """Return whether torch multiplies by 4-bit codes here, faster than by float32."""
    exact = quantize(_sample(), 4, 32, asymmetric)
    return _pays(lambda: Int4Matrix(exact), dequantize(exact)) and half_block() > 0


@cache
def bfloat16_pays() -> bool:
    """Return whether products of many vectors are faster in bfloat16 than float32."""
    weight = _sample()[:1024]
    x, rounded = weight[:64], weight.to(torch.bfloat16)
    return is_faster(lambda: rounded[:64] @ rounded.T, lambda: F.linear(x, weight))


def is_faster(run: Callable[[], Tensor], other: Callable[[], Tensor]) -> bool:
    """Return whether one call's best time beats another's, within a few rounds.

    Other programs can make any call slow, but none fast; least of all one that needs a
    single core. So both have one thread.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        best = [float("inf"), float("inf")]
        for round in range(50):
            for i, call in enumerate((run, other)):
                start = perf_counter()
                call()
                best[i] = min(best[i], perf_counter() - start)
            if round >= 4 and best[0] < best[1]:
                return True
        return False
    finally:
        torch.set_num_threads(threads)


def _sample() -> Tensor:
    """Return a matrix that no processor's caches close to its cores can hold."""
    return torch.arange(4096 * 1024).sin().view(4096, 1024)


def _pays(build: Callable[[], Packed], weight: Tensor) -> bool:
    x = _sample()[:1]
    expected = F.linear(x, weight)
    try:
        matrix = build()
        found = matrix.multiply(x).float()
    except (AttributeError, RuntimeError):  # no such product, or none for this machine
        return False
    is_right = (found - expected).abs().max() < 0.02 * expected.abs().max()
    return bool(is_right) and is_faster(
        lambda: matrix.multiply(x), lambda: F.linear(x, weight)
    )
