"""Llama: GPT-2's machine with five parts exchanged.

Papers: Touvron et al. 2023 (Llama), Zhang & Sennrich 2019 (RMSNorm), Su et al. 2021
(RoPE), Ainslie et al. 2023 (grouped-query attention), Shazeer 2020 (SwiGLU).
"""

import os
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from hardway import checkpoint, gguf, hub, layout, untrusted
from hardway.attention import (
    CacheUpdate,
    Weights,
    attention,
    merge_heads,
    split_heads,
)
from hardway.config import LlamaConfig
from hardway.kv_cache import KVCache
from hardway.loading import in_own_thread
from hardway.model import Decoder, positions_and_mask


def rms_norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """RMSNorm: divide each vector by its root mean square, then scale it.

    x: [..., n_embd]; weight: [n_embd]; ``epsilon`` keeps the division safe where the
    vector is 0. Returns [..., n_embd].
    """
    mean_square = (x * x).mean(dim=-1, keepdim=True)
    return x / torch.sqrt(mean_square + epsilon) * weight


def rope_angles(positions: Tensor, d_head: int, theta: float) -> Tensor:
    """Return the angle by which RoPE rotates each pair of numbers, per position.

    Pair i turns by theta^(-2i / d_head) per position: the first the fastest.
    positions: int64 [T] or [B, T] → float32 [T, d_head / 2] or [B, 1, T, d_head / 2].
    """
    pairs = torch.arange(0, d_head, 2, device=positions.device).float()
    angles = positions[..., None] * theta ** (-pairs / d_head)
    return angles if positions.dim() == 1 else angles[:, None]


def rope(x: Tensor, angles: Tensor) -> Tensor:
    """Rotary position embedding: rotate number i together with number i + d_head / 2.

    x: [..., T, d_head], queries or keys; angles: broadcast to [..., T, d_head / 2].
    Returns [..., T, d_head].
    """
    first, second = x.chunk(2, dim=-1)
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    rotated = first * cos - second * sin, second * cos + first * sin
    return torch.cat(rotated, dim=-1)


def grouped_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor]:
    """Grouped-query attention: several heads of queries share a head of keys.

    The queries of a group are stacked, as if they were one longer sequence of queries;
    keys and values are not copied. q: [..., n_head, T, d_head]; k, v: [..., n_kv_head,
    S, d_head]; mask: bool, [T, S] or [B, 1, T, S].
    Returns [..., n_head, T, d_head] and the attention weights [..., n_head, T, S].
    """
    group = q.shape[-3] // k.shape[-3]
    stacked = q.unflatten(-3, (-1, group)).flatten(-3, -2)  # [..., group · T, d_head]
    mixed, attn_weights = attention(stacked, k, v, torch.cat([mask] * group, dim=-2))
    by_head = [
        x.unflatten(-2, (group, -1)).flatten(-4, -3) for x in (mixed, attn_weights)
    ]
    return by_head[0], by_head[1]


def self_attention(
    x: Tensor,
    attn: Weights,
    config: LlamaConfig,
    angles: Tensor,
    mask: Tensor,
    update_cache: CacheUpdate | None = None,
) -> tuple[Tensor, Tensor]:
    """Project, rotate queries and keys, attend per group of heads, project back.

    The cache gets keys that are rotated already.

    x: [..., T, n_embd]; attn: the block's ``self_attn`` weights; angles: see `rope`;
    mask and update_cache: see `hardway.attention.self_attention`. Returns
    [..., T, n_embd] and the attention weights [..., n_head, T, S].
    """
    q = rope(split_heads(x @ attn["q_proj"]["weight"], config.n_head), angles)
    k = rope(split_heads(x @ attn["k_proj"]["weight"], config.n_kv_head), angles)
    v = split_heads(x @ attn["v_proj"]["weight"], config.n_kv_head)
    if update_cache is not None:
        k, v = update_cache(k, v)
    mixed, attn_weights = grouped_attention(q, k, v, mask)
    out: Tensor = merge_heads(mixed) @ attn["o_proj"]["weight"]
    return out, attn_weights


def silu(x: Tensor) -> Tensor:
    """SiLU activation, also called swish: x · sigmoid(x). x: any shape, kept."""
    return x / (1 + torch.exp(-x))


def swiglu(x: Tensor, mlp: Weights) -> Tensor:
    """Gated MLP: one projection, through SiLU, scales another; then project back.

    x: [..., n_embd] → [..., n_embd]; mlp: the block's ``mlp`` weights.
    """
    gate = silu(x @ mlp["gate_proj"]["weight"])  # [..., n_inner]
    hidden = gate * (x @ mlp["up_proj"]["weight"])
    out: Tensor = hidden @ mlp["down_proj"]["weight"]
    return out


def llama_block(
    x: Tensor,
    block: Weights,
    config: LlamaConfig,
    angles: Tensor,
    mask: Tensor,
    update_cache: CacheUpdate | None = None,
) -> tuple[Tensor, Tensor]:
    """Llama's block: attention, then the MLP, each added to the residual stream.

    x: [..., T, n_embd]; block: the weights of one block, nested; the rest: see
    `self_attention`. Returns what `hardway.block.transformer_block` does.
    """
    epsilon = config.rms_norm_eps
    normed = rms_norm(x, **block["input_layernorm"], epsilon=epsilon)
    attended, attn_weights = self_attention(
        normed, block["self_attn"], config, angles, mask, update_cache
    )
    x = x + attended
    normed = rms_norm(x, **block["post_attention_layernorm"], epsilon=epsilon)
    return x + swiglu(normed, block["mlp"]), attn_weights


class Llama(Decoder):
    """A Llama of any size, such as SmolLM2, from token ids to logits.

    Weights have Hugging Face's names, whatever the file. `hardway.fast.load` returns
    the same model in fewer, larger steps.
    """

    config: LlamaConfig

    def __init__(self, config: LlamaConfig, weights: Mapping[str, Tensor]) -> None:
        """Check and nest the weights; raises what `hardway.model.Decoder` does."""
        super().__init__(config, weights)
        nested = checkpoint.nest(self.weights)
        self.embed_tokens: Tensor = nested["embed_tokens"]["weight"]
        self.blocks = list(nested["layers"].values())
        self.norm: Tensor = nested["norm"]["weight"]
        self.lm_head: Tensor = self.weights.get("lm_head.weight", self.embed_tokens)

    @classmethod
    @in_own_thread
    def from_pretrained(
        cls,
        name_or_path: str | os.PathLike[str] = "smollm2",
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> Self:
        """Load a known model, or one from a directory or a GGUF file.

        A directory needs ``config.json`` and ``model.safetensors``. Raises
        `FileNotFoundError` where they are missing, `ValueError` where they are not a
        Llama that is implemented here, or contain NaN or infinity, and for a dtype or
        device that cannot be used.
        """
        path = hub.weights(name_or_path)
        config = read_config(path)
        clean = partial(from_gguf if layout.is_gguf(path) else clean_names, config)
        return cls(config, checkpoint.load(path, config, dtype, device, clean))

    def residual_stream(
        self,
        tokens: Tensor,
        cache: KVCache | None = None,
        n_pad: Tensor | None = None,
    ) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Embed the tokens and run the blocks, yielding the stream after each."""
        config, past = self.config, cache.length if cache is not None else 0
        n = tokens.shape[1]
        positions, mask = positions_and_mask(past, n, n_pad, self.device)
        angles = rope_angles(positions, config.d_head, config.rope_theta)
        x = self.embed_tokens[tokens.to(self.device)].to(self.compute_dtype)
        yield x, None
        for layer, stored in enumerate(self.blocks):
            block = checkpoint.cast(stored, x.dtype)
            update_cache = partial(cache.append, layer) if cache is not None else None
            x, attn_weights = llama_block(x, block, config, angles, mask, update_cache)
            yield x, attn_weights
        if cache is not None:
            cache.advance(n)

    def logits(self, x: Tensor) -> Tensor:
        """Apply the final RMSNorm, then one dot product with each row of the head.

        x: [..., n_embd] → float32 [..., n_vocab].
        """
        x = rms_norm(x, self.norm.to(x.dtype), self.config.rms_norm_eps)
        return (x @ self.lm_head.to(x.dtype).T).float()


def read_config(path: Path) -> LlamaConfig:
    """Read the sizes from a GGUF's header, or from ``config.json`` beside the weights.

    Raises `ValueError` naming the file and what is wrong with it.
    """
    if not layout.is_gguf(path):
        return LlamaConfig.from_file(layout.config_of(path))
    header = gguf.read_header(path)
    with untrusted.prefix_errors(path):
        tied = "output.weight" not in header.tensors
        return LlamaConfig.from_gguf(header.metadata, tied)


GGUF_NAMES = {  # ours are Hugging Face's
    "token_embd": "embed_tokens",
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "output_norm": "norm",
    "output": "lm_head",
}


def clean_names(
    config: LlamaConfig, tensors: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Bring a Hugging Face checkpoint's names and matrices to the program's.

    Most names begin with ``model.``; a tied head may be stored as ``lm_head.weight``
    again, and RoPE's constant frequencies as ``inv_freq``.
    """
    clean = checkpoint.unwrap(tensors, ("embed_tokens.weight", "norm.weight"))
    if config.tied:
        clean = checkpoint.merge_head(clean, "embed_tokens.weight")
    constants = [name for name in clean if name.endswith("rotary_emb.inv_freq")]
    for name in constants:
        del clean[name]
    return transpose_matrices(clean)


def from_gguf(config: LlamaConfig, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Bring a GGUF's names, row order and matrices to the program's."""
    clean = {checkpoint_name(name): tensor for name, tensor in tensors.items()}
    for part, n_head in (("q_proj", config.n_head), ("k_proj", config.n_kv_head)):
        for layer in range(config.n_layer):
            name = f"layers.{layer}.self_attn.{part}.weight"
            if name in clean and len(clean[name]) == n_head * config.d_head:
                clean[name] = unpermute(clean[name], n_head)
    return transpose_matrices(clean)


def checkpoint_name(name: str) -> str:
    """Translate a tensor's name in a GGUF; a name that is unknown stays as it is.

    >>> checkpoint_name("blk.3.attn_q.weight")
    'layers.3.self_attn.q_proj.weight'
    """
    *layer, part, last = ["", *name.split(".")]
    prefix = f"layers.{layer[-1]}." if layer[1:2] == ["blk"] else ""
    return f"{prefix}{GGUF_NAMES[part]}.{last}" if part in GGUF_NAMES else name


def unpermute(weight: Tensor, n_head: int) -> Tensor:
    """Put the rows of a query or key matrix back into the order that `rope` expects.

    llama.cpp rotates neighbors, numbers 2i and 2i + 1 of a head, so its files have row
    i and row i + d_head / 2 next to each other. weight: [n_head · d_head, n_embd].
    """
    pairs = weight.unflatten(0, (n_head, -1, 2))  # [n_head, d_head / 2, 2, n_embd]
    rows: Tensor = pairs.transpose(1, 2).reshape(weight.shape)
    return rows


def transpose_matrices(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Turn a block's matrices around: files store [n_out, n_in], we use [n_in, n_out].

    The result is a view; nothing is copied.
    """
    return {
        name: tensor.T if name.startswith("layers.") and tensor.dim() == 2 else tensor
        for name, tensor in weights.items()
    }
