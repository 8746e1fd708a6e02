"""Random Llamas of any size, here and in transformers."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import LlamaConfig as TheirConfig
from transformers import LlamaForCausalLM

from hardway import Llama
from hardway.checkpoint import expected_shapes
from hardway.config import LlamaConfig
from hardway.llama import checkpoint_name
from tensors import randn

SMALL = LlamaConfig(
    n_vocab=97, n_ctx=32, n_embd=24, n_head=6, n_kv_head=2, d_head=4, n_layer=2,
    n_inner=40, tied=True,
)  # fmt: skip
CONFIGS = [
    SMALL,
    LlamaConfig(**asdict(SMALL) | {"n_kv_head": 6, "tied": False}),  # no groups
    LlamaConfig(**asdict(SMALL) | {"n_kv_head": 1, "rope_theta": 500.0}),
    LlamaConfig(  # heads wider together than the stream; one layer
        n_vocab=11, n_ctx=50, n_embd=12, n_head=4, n_kv_head=2, d_head=6, n_layer=1,
        n_inner=7, rms_norm_eps=1e-3, rope_theta=1e5,
    ),
]  # fmt: skip


def random_llama(
    config: LlamaConfig = SMALL, seed: int = 0, dtype: torch.dtype = torch.float32
) -> Llama:
    """Make every tensor random, and no norm 1: as after training."""
    weights = {}
    for index, (name, shape) in enumerate(expected_shapes(config).items()):
        noise = 0.2 * randn(*shape, seed=1000 * seed + index)
        weights[name] = (1 + noise if "norm" in name else noise).to(dtype)
    return Llama(config, weights)


def hugging_face_weights(model: Llama) -> dict[str, Tensor]:
    """Spell the weights as Hugging Face's files do: [n_out, n_in], prefixed."""
    return {
        name if name == "lm_head.weight" else f"model.{name}": (
            tensor.T if name.startswith("layers.") and tensor.dim() == 2 else tensor
        ).contiguous()
        for name, tensor in model.weights.items()
    }


def hugging_face_config(config: LlamaConfig) -> dict[str, Any]:
    return {
        "model_type": "llama",
        "vocab_size": config.n_vocab,
        "max_position_embeddings": config.n_ctx,
        "hidden_size": config.n_embd,
        "num_attention_heads": config.n_head,
        "num_key_value_heads": config.n_kv_head,
        "head_dim": config.d_head,
        "num_hidden_layers": config.n_layer,
        "intermediate_size": config.n_inner,
        "rms_norm_eps": config.rms_norm_eps,
        "rope_theta": config.rope_theta,
        "tie_word_embeddings": config.tied,
    }


def save_llama(directory: Path, model: Llama, **changes: Any) -> Path:
    """Write a checkpoint in Hugging Face layout; return the path of the weights."""
    raw = hugging_face_config(model.config) | changes
    (directory / "config.json").write_text(json.dumps(raw), encoding="utf-8")
    path = directory / "model.safetensors"
    save_file(hugging_face_weights(model), path)
    return path


def as_transformers(model: Llama) -> LlamaForCausalLM:
    """Return the same model in transformers, with attention written out (eager)."""
    raw = hugging_face_config(model.config)
    theta = {"rope_theta": raw.pop("rope_theta"), "rope_type": "default"}
    del raw["model_type"]
    config = TheirConfig(
        **raw, rope_parameters=theta, bos_token_id=None, eos_token_id=None,
        attn_implementation="eager",
    )  # fmt: skip
    dtype = model.weights["norm.weight"].dtype
    reference = LlamaForCausalLM(config).eval().to(dtype)
    weights = hugging_face_weights(model)
    weights.setdefault("lm_head.weight", weights["model.embed_tokens.weight"])
    reference.load_state_dict(weights)
    return reference


def as_gguf(model: Llama) -> dict[str, Tensor]:
    """Name and order the tensors as llama.cpp's converter does (its `permute`)."""
    names = {checkpoint_name(f"blk.0.{part}.weight"): part for part in (
        "attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_norm",
        "ffn_gate", "ffn_up", "ffn_down",
    )}  # fmt: skip
    found = {}
    for name, tensor in hugging_face_weights(model).items():
        short = name.removeprefix("model.")
        if short.startswith("layers."):
            _, layer, rest = short.split(".", 2)
            part = names[f"layers.0.{rest}"]
            n_head = {
                "attn_q": model.config.n_head,
                "attn_k": model.config.n_kv_head,
            }.get(part)
            if n_head:
                tensor = (
                    tensor.view(n_head, 2, len(tensor) // n_head // 2, -1)
                    .swapaxes(1, 2)
                    .reshape(tensor.shape)
                )
            found[f"blk.{layer}.{part}.weight"] = tensor
        else:
            outer = {"embed_tokens": "token_embd", "norm": "output_norm"}
            found[f"{outer.get(short.split('.')[0], 'output')}.weight"] = tensor
    return found
