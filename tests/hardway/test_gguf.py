"""GGUF files and blocks, against gguf-py and values worked out by hand."""

import gguf as reference
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType
from torch import Tensor

from hardway.gguf import BLOCKS


def equal_bits(found: Tensor, expected: Tensor) -> bool:
    """Whether two float32 tensors agree bit for bit; one NaN is like another."""
    assert found.dtype == expected.dtype == torch.float32
    numbers = ~expected.isnan()
    same = [t[numbers].view(torch.int32) for t in (found, expected)]
    return torch.equal(found.isnan(), ~numbers) and torch.equal(*same)


@pytest.mark.parametrize("kind", BLOCKS)
def test_random_blocks_are_dequantized_as_by_the_reference(kind: str) -> None:
    """Any bytes: scales are any float16, infinities and NaN included."""
    generator = torch.Generator().manual_seed(0)
    shape = 2000, BLOCKS[kind].n_bytes
    blocks = torch.randint(256, shape, dtype=torch.uint8, generator=generator)
    with np.errstate(all="ignore"):
        expected = reference.dequantize(blocks.numpy(), GGMLQuantizationType[kind])
    found = BLOCKS[kind].dequantize(blocks)
    assert found.shape == (2000, BLOCKS[kind].n_values)
    assert equal_bits(found, torch.from_numpy(expected.copy()))
