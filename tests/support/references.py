"""Random GPT-2s of any size, here and in transformers, and when their logits agree."""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from hardway import GPT2, Config
from hardway.checkpoint import expected_shapes, nest
from tensors import randn

SMALL = Config(n_vocab=97, n_ctx=32, n_embd=24, n_head=3, n_layer=2)
CPU = torch.device("cpu")


@dataclass
class NoWeights:
    """All that the checks of a call read of a model."""

    config: Any = SMALL
    device: torch.device = CPU
    compute_dtype: torch.dtype = torch.float32


def with_sizes(config: Config, **changes: Any) -> Config:
    """Return a config with other sizes."""
    return Config(**(asdict(config) | changes))


def random_tokens(config: Config, *shape: int, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(config.n_vocab, shape, generator=generator)


def block_weights(n_embd: int, dtype: torch.dtype) -> dict[str, Any]:
    """Make one block's weights at random, nested, and as large as after training."""
    sizes = Config(n_vocab=1, n_ctx=1, n_embd=n_embd, n_head=1, n_layer=1)
    block = {
        name.removeprefix("h.0."): randn(*shape, dtype=dtype, seed=seed)
        / math.sqrt(n_embd)
        for seed, (name, shape) in enumerate(expected_shapes(sizes).items())
        if name.startswith("h.0.")
    }
    return nest(block)


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


def hugging_face_names(config: Config) -> dict[str, Any]:
    return {
        "vocab_size": config.n_vocab,
        "n_positions": config.n_ctx,
        "n_embd": config.n_embd,
        "n_head": config.n_head,
        "n_layer": config.n_layer,
        "layer_norm_epsilon": config.layer_norm_epsilon,
    }


def own_names(config: Config) -> dict[str, Any]:
    """GPT-2's own names, as in its hparams.json."""
    names = hugging_face_names(config)
    return {
        "n_vocab": names.pop("vocab_size"),
        "n_ctx": names.pop("n_positions"),
        **names,
    }


def write_config(directory: Path, raw: object) -> Path:
    path = directory / "config.json"
    path.write_text(raw if isinstance(raw, str) else json.dumps(raw), encoding="utf-8")
    return path


def save_model(
    directory: Path, weights: dict[str, Tensor], config: Config = SMALL
) -> Path:
    """Write a checkpoint's two files; return the path of the weights."""
    write_config(directory, hugging_face_names(config))
    path = directory / "model.safetensors"
    save_file(weights, path)
    return path


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
