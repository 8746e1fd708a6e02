"""Random tensors, and when two of them are close enough."""

import torch
from torch import Tensor

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}


def randn(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=dtype)


def assert_close(found: Tensor, expected: Tensor, factor: float = 1) -> None:
    """Assert equal dtypes and shapes, and values up to the dtype's rounding."""
    assert found.dtype == expected.dtype
    tolerance = factor * TOLERANCE[expected.dtype]
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=tolerance)
