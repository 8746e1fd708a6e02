"""Tensor parallelism: one model on several processes, each with a part of each matrix.

A process is called a rank. Paper: Shoeybi et al. 2019 (Megatron-LM).
"""

import os
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Self

import torch
import torch.distributed as dist
from torch import Tensor

from hardway import checkpoint, hub, inputs, llama, ranks
from hardway.attention import CacheUpdate, Weights, self_attention
from hardway.block import layer_norm, mlp
from hardway.config import Config, LlamaConfig, model_type
from hardway.kv_cache import KVCache
from hardway.llama import Llama, rms_norm, rope_angles, swiglu
from hardway.model import GPT2, Decoder, positions_and_mask

Cut = Callable[[Tensor, int, int], Tensor]  # a weight, rank, n_ranks → the rank's part


def columns(weight: Tensor, rank: int, n_ranks: int) -> Tensor:
    """Column parallel: every rank computes some of a product's outputs.

    weight: [..., n_out] → [..., n_out / n_ranks]; a bias is cut like its matrix.
    """
    return weight.chunk(n_ranks, dim=-1)[rank]


def rows(weight: Tensor, rank: int, n_ranks: int) -> Tensor:
    """Row parallel: every rank multiplies some of the inputs; the sum is the product.

    weight: [n_in, n_out] → [n_in / n_ranks, n_out].
    """
    return weight.chunk(n_ranks, dim=0)[rank]


def fused_columns(weight: Tensor, rank: int, n_ranks: int) -> Tensor:
    """Cut queries, keys and values each by columns, and join the rank's three parts.

    weight: [..., 3 · n_embd] → [..., 3 · n_embd / n_ranks].
    """
    parts = [columns(part, rank, n_ranks) for part in weight.chunk(3, dim=-1)]
    return torch.cat(parts, dim=-1)


def once(bias: Tensor, rank: int, n_ranks: int) -> Tensor:
    """Keep a row-parallel bias on rank 0, or the sum would add it n_ranks times."""
    return bias if rank == 0 else torch.zeros_like(bias)


def vocabulary(table: Tensor, rank: int, n_ranks: int) -> Tensor:
    """Vocabulary parallel: every rank has the rows of some tokens.

    table: [n_vocab, n_embd] → [⌈n_vocab / n_ranks⌉, n_embd]; rows of zeros fill up the
    last ones.
    """
    n_rows = -(-len(table) // n_ranks)
    part = table[rank * n_rows : (rank + 1) * n_rows]
    return torch.cat([part, part.new_zeros(n_rows - len(part), part.shape[1])])


CUTS: dict[str, Cut] = {  # by how the names of GPT-2 and Llama end; the rest is whole
    "wte.weight": vocabulary,
    "attn.c_attn.weight": fused_columns,
    "attn.c_attn.bias": fused_columns,
    "attn.c_proj.weight": rows,
    "attn.c_proj.bias": once,
    "mlp.c_fc.weight": columns,
    "mlp.c_fc.bias": columns,
    "mlp.c_proj.weight": rows,
    "mlp.c_proj.bias": once,
    "embed_tokens.weight": vocabulary,
    "lm_head.weight": vocabulary,
    "q_proj.weight": columns,
    "k_proj.weight": columns,
    "v_proj.weight": columns,
    "o_proj.weight": rows,
    "gate_proj.weight": columns,
    "up_proj.weight": columns,
    "down_proj.weight": rows,
}


def shard(weights: Mapping[str, Tensor], rank: int, n_ranks: int) -> dict[str, Tensor]:
    """Return one rank's part of the weights, copied so that the rest can be freed."""
    parts = dict(weights)
    for name, weight in weights.items():
        for ending, cut in CUTS.items():
            if name.endswith(ending):
                part = cut(weight, rank, n_ranks)
                parts[name] = part.clone(memory_format=torch.contiguous_format)
    return parts


def all_reduce(x: Tensor) -> Tensor:
    """Add up a tensor over all ranks, and give each of them the sum.

    x: any shape, kept. Raises `hardway.ranks.LostRankError` if a rank is missing.
    """
    total = x.contiguous()
    with ranks.noticing_loss():
        dist.all_reduce(total)
    return total


def all_gather(x: Tensor) -> Tensor:
    """Join the tensors of all ranks along the last axis, and give each the result.

    x: [..., n] → [..., n_ranks · n]. Raises what `all_reduce` does.
    """
    parts = [torch.empty_like(x) for _ in range(dist.get_world_size())]
    with ranks.noticing_loss():
        dist.all_gather(parts, x.contiguous())
    return torch.cat(parts, dim=-1)


def look_up(tokens: Tensor, table: Tensor, rank: int) -> Tensor:
    """Vocabulary-parallel embedding: one rank has a token's row, the others add 0.

    tokens: int64 [...]; table: this rank's rows, [n_rows, n_embd] → [..., n_embd].
    """
    index = tokens - rank * len(table)
    is_here = (index >= 0) & (index < len(table))
    found = table[index.where(is_here, 0)]
    return all_reduce(found * is_here[..., None])


@dataclass(frozen=True)
class ShardConfig(Config):
    """GPT-2's sizes, of whose heads a rank has ``n_kv_head``."""

    n_ranks: int = 1

    @property
    def n_kv_head(self) -> int:
        """The number of heads with keys and values on this rank."""
        return self.n_head // self.n_ranks


def local_config(config: Config | LlamaConfig, n_ranks: int) -> Config | LlamaConfig:
    """Return the sizes of one rank's part; raise `ValueError` for unequal parts."""
    if not isinstance(config, LlamaConfig):
        ranks.check_divides(config, 4 * config.n_embd, n_ranks)
        return ShardConfig(**vars(config), n_ranks=n_ranks)
    ranks.check_divides(config, config.n_inner, n_ranks)
    return replace(
        config,
        n_head=config.n_head // n_ranks,
        n_kv_head=config.n_kv_head // n_ranks,
        n_inner=config.n_inner // n_ranks,
    )


class Parallel(Decoder):
    """What tensor-parallel models share: two all-reduces a layer, a gathered head.

    Every rank makes the same calls with the same arguments, and gets the same logits.
    Sampling needs a seed, because each rank draws for itself. ``weights`` and the KV
    cache hold the rank's own part, and a trace has its own heads.
    """

    blocks: list[Any]

    def __init__(
        self, config: Config | LlamaConfig, weights: Mapping[str, Tensor]
    ) -> None:
        """Take the whole model on every rank, and keep this rank's part.

        Raises what the family's own class does, and `ValueError` for heads that the
        ranks cannot share equally.
        """
        super().__init__(config, weights)  # the family's: it checks the whole
        self.rank, self.n_ranks = dist.get_rank(), dist.get_world_size()
        self.config = local_config(config, self.n_ranks)
        self.hold(shard(self.weights, self.rank, self.n_ranks))

    @abstractmethod
    def hold(self, weights: dict[str, Tensor]) -> None:
        """Use these parts from now on."""

    def to(self, device: torch.device | str) -> Self:
        """Return the rank's part on another device."""
        moved = copy(self)
        moved.device = inputs.check_device(device)
        moved.hold({name: part.to(device) for name, part in self.weights.items()})
        return moved

    @abstractmethod
    def embed(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """Return the stream before the first block: [B, T, n_embd]."""

    @abstractmethod
    def attended(
        self, x: Tensor, block: Weights, positions: Tensor, mask: Tensor,
        update_cache: CacheUpdate | None,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Return what this rank's heads add to the stream, and their weights."""

    @abstractmethod
    def transformed(self, x: Tensor, block: Weights) -> Tensor:
        """Return what this rank's part of the MLP adds to the stream."""

    def residual_stream(
        self,
        tokens: Tensor,
        cache: KVCache | None = None,
        n_pad: Tensor | None = None,
    ) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Run the blocks, adding up over the ranks what each part contributes."""
        past, n = (cache.length if cache is not None else 0), tokens.shape[1]
        positions, mask = positions_and_mask(past, n, n_pad, self.device)
        x = self.embed(tokens.to(self.device), positions).to(self.compute_dtype)
        yield x, None
        for layer, stored in enumerate(self.blocks):
            block = checkpoint.cast(stored, x.dtype)
            update_cache = partial(cache.append, layer) if cache is not None else None
            part, weights = self.attended(x, block, positions, mask, update_cache)
            x = x + all_reduce(part)
            x = x + all_reduce(self.transformed(x, block))
            yield x, weights
        if cache is not None:
            cache.advance(n)


class ParallelGPT2(Parallel, GPT2):
    """GPT-2 on several processes."""

    def hold(self, weights: dict[str, Tensor]) -> None:
        """Nest these parts and use them from now on."""
        nested, self.weights = checkpoint.nest(weights), weights
        self.wte, self.wpe = nested["wte"]["weight"], nested["wpe"]["weight"]
        self.blocks, self.ln_f = list(nested["h"].values()), nested["ln_f"]

    def embed(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """Add the embeddings of tokens and positions."""
        return look_up(tokens, self.wte, self.rank) + self.wpe[positions]

    def attended(
        self, x: Tensor, block: Weights, positions: Tensor, mask: Tensor,
        update_cache: CacheUpdate | None,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Run the taught attention with this rank's heads."""
        x = layer_norm(x, **block["ln_1"], epsilon=self.config.layer_norm_epsilon)
        n_head = self.config.n_kv_head
        return self_attention(x, block["attn"], n_head, mask, update_cache)

    def transformed(self, x: Tensor, block: Weights) -> Tensor:
        """Run the taught MLP with this rank's part of the hidden numbers."""
        x = layer_norm(x, **block["ln_2"], epsilon=self.config.layer_norm_epsilon)
        return mlp(x, block["mlp"])

    def logits(self, x: Tensor) -> Tensor:
        """Score this rank's tokens, and gather the scores of the others."""
        return all_gather(super().logits(x))[..., : self.config.n_vocab]


class ParallelLlama(Parallel, Llama):
    """Llama on several processes."""

    def hold(self, weights: dict[str, Tensor]) -> None:
        """Nest these parts and use them from now on."""
        nested, self.weights = checkpoint.nest(weights), weights
        self.embed_tokens = nested["embed_tokens"]["weight"]
        self.lm_head = weights.get("lm_head.weight", self.embed_tokens)
        self.blocks = list(nested["layers"].values())
        self.norm = nested["norm"]["weight"]

    def embed(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """Look up the embeddings of tokens; positions enter in attention."""
        return look_up(tokens, self.embed_tokens, self.rank)

    def attended(
        self, x: Tensor, block: Weights, positions: Tensor, mask: Tensor,
        update_cache: CacheUpdate | None,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Run the taught attention with this rank's heads."""
        config = self.config
        x = rms_norm(x, **block["input_layernorm"], epsilon=config.rms_norm_eps)
        angles = rope_angles(positions, config.d_head, config.rope_theta)
        return llama.self_attention(
            x, block["self_attn"], config, angles, mask, update_cache
        )

    def transformed(self, x: Tensor, block: Weights) -> Tensor:
        """Run the taught MLP with this rank's part of the hidden numbers."""
        normed = rms_norm(
            x, **block["post_attention_layernorm"], epsilon=self.config.rms_norm_eps
        )
        return swiglu(normed, block["mlp"])

    def logits(self, x: Tensor) -> Tensor:
        """Score this rank's tokens, and gather the scores of the others."""
        return all_gather(super().logits(x))[..., : self.config.n_vocab]


def load(
    name_or_path: str | os.PathLike[str], dtype: torch.dtype = torch.float32
) -> ParallelGPT2 | ParallelLlama:
    """Load this rank's part of a known model, or of one from a directory or a GGUF.

    Raises what the ``from_pretrained`` of its class does.
    """
    is_llama = model_type(hub.weights(name_or_path)) == "llama"
    family = ParallelLlama if is_llama else ParallelGPT2
    return family.from_pretrained(name_or_path, dtype)
