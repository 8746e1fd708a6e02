"""Random GPT-2s of any size, here and in transformers, and when their logits agree."""

from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from hardway import GPT2, Config
from hardway.checkpoint import expected_shapes
from tensors import randn

SMALL = Config(n_vocab=97, n_ctx=32, n_embd=24, n_head=3, n_layer=2)


def random_model(
    config: Config = SMALL, seed: int = 0, dtype: torch.dtype = torch.float32
) -> GPT2:
    """Make every tensor random, and no bias 0, no norm 1: as after training."""
    weights = {}
    for index, (name, shape) in enumerate(expected_shapes(config).items()):
        noise = 0.2 * randn(*shape, seed=1000 * seed + index)
        scale = "ln_" in name and name.endswith("weight")
        weights[name] = (1 + noise if scale else noise).to(dtype)
    return GPT2(config, weights)


def as_transformers(model: GPT2) -> GPT2LMHeadModel:
    """Return the same model in transformers, with attention written out (eager)."""
    sizes: dict[str, Any] = asdict(model.config)
    config = GPT2Config(
        vocab_size=sizes.pop("n_vocab"),
        n_positions=sizes.pop("n_ctx"),
        bos_token_id=None,
        eos_token_id=None,
        attn_implementation="eager",
        **sizes,
    )
    reference = GPT2LMHeadModel(config).eval().to(model.weights["wte.weight"].dtype)
    reference.transformer.load_state_dict(model.weights)
    assert reference.lm_head.weight is reference.transformer.wte.weight
    return reference


def relative_error(found: Tensor, expected: Tensor) -> float:
    """Return the largest difference in units of the largest expected value."""
    assert found.shape == expected.shape
    return float((found - expected).abs().max() / expected.abs().max())


def assert_same_logits(
    found: Tensor, expected: Tensor, tolerance: float = 1e-4
) -> None:
    """Assert that logits agree within ``tolerance`` of their scale (false for NaN)."""
    assert found.dtype == torch.float32
    assert relative_error(found, expected) <= tolerance
