"""The models that are measured: random weights of GPT-2 124M's shapes, and pocket's.

Float16 can represent none of them exactly, as it can the numbers of pocket's file.
"""

import json
import math
import shutil
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from hardway import Config
from hardway.checkpoint import expected_shapes
from hardway.fast.gpt2 import FastGPT2

POCKET = Path(__file__).parents[1] / "src" / "hardway" / "models" / "pocket"
GPT2_124M = Config(n_vocab=50257, n_ctx=1024, n_embd=768, n_head=12, n_layer=12)
HUGGING_FACE = {
    "model_type": "gpt2",
    "architectures": ["GPT2LMHeadModel"],
    "activation_function": "gelu_new",
    "vocab_size": GPT2_124M.n_vocab,
    "n_positions": GPT2_124M.n_ctx,
    "n_embd": GPT2_124M.n_embd,
    "n_head": GPT2_124M.n_head,
    "n_layer": GPT2_124M.n_layer,
    "bos_token_id": 50256,
    "eos_token_id": 50256,
}


def random_weight(name: str, shape: tuple[int, ...], source: torch.Generator) -> Tensor:
    """Draw a weight as spread out as a trained one would be."""
    numbers = torch.randn(shape, generator=source)
    if "ln_" in name:
        return 0.1 * numbers + (1 if name.endswith("weight") else 0)
    if name == "wte.weight":
        return 0.14 * numbers
    return numbers / math.sqrt(shape[0]) if len(shape) == 2 else 0.02 * numbers


def write_random(directory: Path) -> Path:
    """Write a checkpoint of GPT-2 124M's shapes that any of the peers can read."""
    if (directory / "model.safetensors").exists():
        return directory
    directory.mkdir(parents=True, exist_ok=True)
    source = torch.Generator().manual_seed(0)
    weights = {
        name: random_weight(name, shape, source)
        for name, shape in expected_shapes(GPT2_124M).items()
    }
    for file in ("vocab.json", "merges.txt"):
        shutil.copy(POCKET / file, directory)
    (directory / "config.json").write_text(json.dumps(HUGGING_FACE))
    half_written = directory / "half-written"
    safetensors.torch.save_file(weights, half_written, metadata={"format": "pt"})
    half_written.rename(directory / "model.safetensors")
    return directory


def perturbed_pocket() -> FastGPT2:
    """Return pocket, each weight moved by less than float16 could follow."""
    source = torch.Generator().manual_seed(0)
    exact = FastGPT2.from_pretrained("pocket")
    return FastGPT2(
        exact.config,
        {
            name: weight
            * (1 + (torch.rand(weight.shape, generator=source) - 0.5) / 1024)
            for name, weight in exact.weights.items()
        },
    )


def rounded(model: FastGPT2, dtype: torch.dtype) -> FastGPT2:
    """Return the model with its weights rounded to fewer bits."""
    return FastGPT2(
        model.config, {name: weight.to(dtype) for name, weight in model.weights.items()}
    )
