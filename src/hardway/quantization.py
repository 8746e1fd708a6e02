"""Store a matrix in 8 or 4 bits a number: small integers, and a scale for each group.

Papers: Jacob et al. 2018 (scales and zero points), Dettmers et al. 2022 (outliers).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from hardway import checks

Scales = tuple[Tensor, Tensor]  # what a step from code to code is worth; what 0 is
Fit = Callable[[Tensor, int], Scales]


@dataclass(frozen=True)
class Quantized:
    """A matrix in small integers: each number is about ``code · scale + zero``.

    codes: int8 [n_out, n_in], from -2^(bits-1) to 2^(bits-1) - 1. scales, zeros:
    [n_out, n_groups], one for each group of neighbors within a row; ``zeros`` is what
    code 0 stands for.
    """

    codes: Tensor
    scales: Tensor
    zeros: Tensor


def split_groups(matrix: Tensor, group: int | None = None) -> Tensor:
    """Cut each row into groups of neighbors, by default one.

    [n_out, n_in] → [n_out, n_in / group, group]. Raises `ValueError` for a group that
    does not divide n_in.
    """
    n_in = matrix.shape[1]
    group = n_in if group is None else checks.integer("group", group, 1, n_in)
    if n_in % group:
        raise ValueError(f"group must divide the {n_in} numbers of a row, got {group}")
    return matrix.reshape(len(matrix), -1, group)


def nearest_codes(groups: Tensor, scales: Scales, bits: int) -> Tensor:
    """Round each number to the nearest code there is.

    groups: [..., group]; scales: both [..., 1]. Returns whole numbers [..., group].
    """
    scale, zero = scales
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    return ((groups - zero) / scale).round().clamp(low, high)


def symmetric(groups: Tensor, bits: int) -> Scales:
    """Absmax: the largest magnitude gets the largest code, and 0 stands for 0.

    groups: [..., group]. Returns scales and zeros, [..., 1].
    """
    largest = groups.abs().amax(dim=-1, keepdim=True)
    return _never_zero(largest / (2 ** (bits - 1) - 1)), torch.zeros_like(largest)


def asymmetric(groups: Tensor, bits: int) -> Scales:
    """Min-max: the smallest number gets the lowest code, the largest the highest.

    groups: [..., group]. Returns scales and zeros, [..., 1].
    """
    low, high = groups.aminmax(dim=-1, keepdim=True)
    scale = _never_zero((high - low) / (2**bits - 1))
    return scale, low + 2 ** (bits - 1) * scale


def least_squares(groups: Tensor, bits: int, rounds: int = 4) -> Scales:
    """Min-max, then improved: round to codes, fit a line through them, and repeat.

    Each step lowers the squared error or leaves it: the nearest codes for the line, and
    the regression line for the codes. groups: [..., group]. Returns scales and zeros,
    [..., 1].
    """
    scale, zero = asymmetric(groups, bits)
    mean = groups.mean(dim=-1, keepdim=True)
    for _ in range(rounds):
        codes = nearest_codes(groups, (scale, zero), bits)
        middle = codes.mean(dim=-1, keepdim=True)
        codes -= middle
        slope = (codes * groups).sum(-1, True) / (codes * codes).sum(-1, True)
        scale = torch.where(slope > 0, slope, scale)  # no slope: all codes are equal
        zero = mean - scale * middle
    return scale, zero


def quantize(
    matrix: Tensor,
    bits: int,
    group: int | None = None,
    fit: Fit = symmetric,
    dtype: torch.dtype = torch.float32,
) -> Quantized:
    """Round a matrix to integers of ``bits`` bits, each group on a scale of its own.

    matrix: float [n_out, n_in]; group: how many neighbors in a row share a scale, by
    default all. fit: how a group's scale is found, by default absmax. dtype: that
    of the scales; codes are chosen for the scales as they are stored. Raises
    `ValueError` for bits out of range, and a group that does not divide n_in.
    """
    checks.integer("bits", bits, 2, 8)
    groups = split_groups(matrix, group)  # [n_out, n_groups, group]
    scales, zeros = fit(groups, bits)
    scales, zeros = scales.to(dtype), zeros.to(dtype)
    codes = nearest_codes(groups, (scales.to(groups.dtype), zeros), bits)
    return Quantized(codes.to(torch.int8).flatten(1), scales[..., 0], zeros[..., 0])


def dequantize(quantized: Quantized) -> Tensor:
    """Return what the codes stand for, float32 [n_out, n_in]."""
    scales, zeros = quantized.scales.float(), quantized.zeros.float()
    group = quantized.codes.shape[1] // scales.shape[1]
    groups = split_groups(quantized.codes.float(), group)
    return (groups * scales[..., None] + zeros[..., None]).flatten(1)


def _never_zero(scale: Tensor) -> Tensor:
    """Replace the scale of a group whose numbers are all equal: nothing to divide."""
    return torch.where(scale > 0, scale, 1)
