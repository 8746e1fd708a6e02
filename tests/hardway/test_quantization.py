"""Codes and scales against torch's fake quantization and llama.cpp's own blocks."""

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, quants
from torch import Tensor

from hardway.gguf import dequantize_f16, nibbles
from hardway.quantization import (
    Fit,
    Quantized,
    asymmetric,
    dequantize,
    least_squares,
    quantize,
    split_groups,
    symmetric,
)
from refusals import refuses
from tensors import randn

FITS = pytest.mark.parametrize("fit", [symmetric, asymmetric, least_squares])
GROUPS = pytest.mark.parametrize("group", [32, 64, 128, None])


def squared_error(matrix: Tensor, quantized: Quantized) -> float:
    return float((dequantize(quantized) - matrix).square().sum())


def blocks_of(matrix: Tensor, kind: str) -> Tensor:
    """The reference's blocks, [n_blocks, bytes per block]."""
    raw = quants.quantize(matrix.numpy(), GGMLQuantizationType[kind])
    n_bytes = {"Q8_0": 34, "Q4_1": 20}[kind]
    return torch.from_numpy(np.array(raw)).view(-1, n_bytes)


# --- against references ---


@pytest.mark.parametrize("bits", [2, 4, 8])
@GROUPS
def test_symmetric_codes_are_those_of_torch(group: int | None, bits: int) -> None:
    matrix = randn(6, 256)
    found = quantize(matrix, bits, group)
    groups = matrix.view(-1, group or 256)
    largest = 2 ** (bits - 1) - 1
    scales = groups.abs().amax(dim=1) / largest
    expected = torch.fake_quantize_per_channel_affine(
        groups, scales, torch.zeros(len(groups), dtype=torch.int32), 0, -largest - 1,
        largest,
    )  # fmt: skip
    torch.testing.assert_close(dequantize(found), expected.view(6, 256))
    assert not found.zeros.any()


@pytest.mark.parametrize("bits", [2, 4, 8])
@GROUPS
def test_asymmetric_codes_are_those_of_torch(group: int | None, bits: int) -> None:
    """Its zero is a code, a whole number: so let the least number be such a step."""
    groups = randn(6, 256).view(-1, group or 256)
    low, high = groups.min(dim=1)[0], groups.max(dim=1)[0]
    scales = (high - low) / (2**bits - 1)
    whole = (-low / scales).round()
    matrix = groups + (-whole * scales - low)[:, None]
    expected = torch.fake_quantize_per_channel_affine(
        matrix, scales, whole.int(), 0, 0, 2**bits - 1
    )
    found = quantize(matrix.view(6, 256), bits, group, asymmetric)
    away = (dequantize(found) - expected.view(6, 256)).abs()
    near_a_tie = away > 1e-5  # where rounding differs by one code
    assert near_a_tie.float().mean() < 0.002
    assert away.max() <= scales.max() * 1.001


def test_eight_bits_in_groups_are_a_file_s_q8_0() -> None:
    matrix = randn(5, 96)
    blocks = blocks_of(matrix, "Q8_0")
    found = quantize(matrix, 8, 32)
    assert torch.equal(found.codes.view(-1, 32), blocks[:, 2:].view(torch.int8))
    scales = dequantize_f16(blocks[:, :2])
    torch.testing.assert_close(found.scales.view(-1, 1).half().float(), scales)


def test_four_bits_from_least_to_largest_are_a_file_s_q4_1() -> None:
    matrix = randn(5, 96)
    blocks = blocks_of(matrix, "Q4_1")
    found = quantize(matrix, 4, 32, asymmetric)
    expected = nibbles(blocks[:, 4:]).to(torch.int8) - 8
    away = (found.codes.view(-1, 32) - expected).abs()
    assert away.max() <= 1
    assert away.float().mean() < 0.01  # halfway between two codes, by rounding
    d, m = dequantize_f16(blocks[:, :2]), dequantize_f16(blocks[:, 2:4])
    torch.testing.assert_close(found.scales.view(-1, 1), d, rtol=1e-3, atol=0)
    torch.testing.assert_close(found.zeros.view(-1, 1), m + 8 * d, rtol=0, atol=2e-3)


# --- properties ---


@FITS
@GROUPS
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_codes_fit_their_bits(bits: int, group: int | None, fit: Fit) -> None:
    matrix = randn(7, 256) + 0.5
    found = quantize(matrix, bits, group, fit)
    assert found.codes.dtype == torch.int8
    assert found.codes.shape == (7, 256)
    assert found.scales.shape == found.zeros.shape == (7, 256 // (group or 256))
    assert found.codes.min() >= -(2 ** (bits - 1))
    assert found.codes.max() <= 2 ** (bits - 1) - 1
    steps = found.scales.repeat_interleave(group or 256, dim=1)
    if fit is not least_squares:  # which may cut off the ends
        assert ((dequantize(found) - matrix).abs() <= 0.5001 * steps).all()


@GROUPS
def test_each_step_of_the_ladder_has_a_smaller_error(group: int | None) -> None:
    matrix = randn(64, 256) + 0.1
    errors = [
        squared_error(matrix, quantize(matrix, 4, group, fit))
        for fit in (symmetric, asymmetric, least_squares)
    ]
    assert errors[0] > errors[1] > errors[2]


def test_each_round_of_least_squares_lowers_the_error() -> None:
    matrix = randn(64, 128)
    errors = []
    for rounds in range(6):
        found = quantize(matrix, 4, 64, lambda g, b, n=rounds: least_squares(g, b, n))
        errors.append(squared_error(matrix, found))
    assert errors == sorted(errors, reverse=True)
    assert errors[4] < 0.9 * errors[0]


def test_least_squares_finds_the_line_through_the_codes() -> None:
    matrix = randn(1, 64)
    scale, zero = least_squares(matrix, 4, rounds=1)
    start = quantize(matrix, 4, None, asymmetric)
    slope, offset = np.polyfit(start.codes[0].numpy(), matrix[0].numpy(), 1)
    assert scale.item() == pytest.approx(slope, rel=1e-5)
    assert zero.item() == pytest.approx(offset, rel=1e-4)


def test_smaller_groups_have_a_smaller_error() -> None:
    matrix = randn(32, 256)
    errors = [
        squared_error(matrix, quantize(matrix, 4, group)) for group in (32, 64, 128)
    ]
    assert errors == sorted(errors)


def test_an_outlier_spoils_its_own_group_alone() -> None:
    matrix = randn(2, 64)
    matrix[0, 3] = 100
    away = (dequantize(quantize(matrix, 8, 32)) - matrix).abs()
    assert away[0, :32].max() > 10 * away[0, 32:].max()
    tensor = dequantize(quantize(matrix.flatten()[None], 8)).view(2, 64)
    assert (tensor - matrix)[1].abs().max() > 10 * away[1].max()


@FITS
@pytest.mark.parametrize("value", [0.0, 0.75, -3.0])
def test_equal_numbers_are_kept(value: float, fit: Fit) -> None:
    matrix = torch.full((2, 32), value)
    found = dequantize(quantize(matrix, 4, 32, fit))
    assert torch.isfinite(found).all()
    torch.testing.assert_close(found, matrix)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@FITS
def test_codes_make_up_for_the_rounding_of_scales(fit: Fit, dtype: torch.dtype) -> None:
    matrix = randn(64, 64)
    exact = quantize(matrix, 8, None, fit)
    found = quantize(matrix, 8, None, fit, dtype)
    assert found.scales.dtype == found.zeros.dtype == dtype
    rounded = Quantized(exact.codes, exact.scales.to(dtype), exact.zeros.to(dtype))
    assert squared_error(matrix, found) < squared_error(matrix, rounded)
    assert dequantize(found).dtype == torch.float32


# --- refusals ---


@pytest.mark.parametrize("bits", [1, 9, 0, 4.5, True])
def test_bits_out_of_range(bits: int) -> None:
    with refuses("bits"):
        quantize(randn(2, 4), bits)


@pytest.mark.parametrize("group", [0, 3, 5, 1.5])
def test_groups_that_do_not_divide_a_row(group: int) -> None:
    with refuses("group"):
        split_groups(randn(2, 4), group)
