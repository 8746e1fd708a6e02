"""Llama in few large steps."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from hardway import checkpoint
from hardway.attention import Weights
from hardway.config import LlamaConfig
from hardway.fast.linear import linear
from hardway.fast.packed import BlockTable, Packed, Rows
from hardway.fast.ragged import Attend, Ragged
from hardway.llama import Llama, rope, rope_angles

Matrix = TypeVar("Matrix")

# Matrices that multiply the same vectors: one product instead of three, or two.
FUSED = {
    "self_attn.qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "mlp.gate_up": ("mlp.gate_proj", "mlp.up_proj"),
}


class FastLlama(Ragged, Llama):
    """`hardway.llama.Llama` with fused kernels; the same results within rounding."""

    def __init__(self, config: LlamaConfig, weights: Mapping[str, Tensor]) -> None:
        """Take the same weights, and join the matrices that share their input."""
        weights = checkpoint.check_weights(config, weights)
        matrices = {
            name: weight.T
            for name, weight in weights.items()
            if name.startswith("layers.") and weight.dim() == 2
        }
        whole = join_inputs(config, matrices, stack)
        joined = {name: matrix.T for name, matrix in whole.items()}
        views = (split_outputs(config, name, part) for name, part in joined.items())
        super().__init__(config, weights | dict(chain.from_iterable(views)))
        norms = {name: w for name, w in self.weights.items() if name not in matrices}
        self.blocks = list(checkpoint.nest(norms | joined)["layers"].values())
        self.table: Tensor | Rows | BlockTable = self.embed_tokens  # read by rows
        self.head: Tensor | Packed = self.lm_head.T  # read whole

    def forward(
        self,
        tokens: Tensor,
        positions: Tensor,
        attend: Attend,
        rows: Tensor | None = None,
    ) -> Tensor:
        """Run N tokens of any sequences; see `hardway.fast.ragged.Ragged.forward`."""
        config = self.config
        x = self.table[tokens].to(self.compute_dtype)
        rotate = self.rotation(positions)
        for layer, block in enumerate(self.blocks):
            wanted = rows if layer == config.n_layer - 1 else None
            x = llama_block(x, block, config, rotate, partial(attend, layer), wanted)
        x = rms_norm(x, self.norm, config.rms_norm_eps)
        return linear(x, self.head).float()

    def rotation(self, positions: Tensor) -> Callable[[Tensor], Tensor]:
        """Return RoPE for tokens at these positions: [N, n, d_head] → the same."""
        config = self.config
        angles = rope_angles(positions, config.d_head, config.rope_theta)
        return partial(rope, angles=angles[:, None])


def llama_block(
    x: Tensor,
    block: Weights,
    config: LlamaConfig,
    rotate: Callable[[Tensor], Tensor],
    attend: Callable[[Tensor, Tensor, Tensor], Tensor],
    rows: Tensor | None = None,
) -> Tensor:
    """Like `hardway.llama.llama_block`, for the tokens in ``rows``.

    x: [N, n_embd] → [len(rows), n_embd]; rotate: RoPE, [N, n, d_head] → the same;
    attend: q [N, n_head, d_head], k, v [N, n_kv_head, d_head] → the shape of q. Every
    token's key and value are computed, whatever ``rows`` says.
    """
    attn, mlp, epsilon = block["self_attn"], block["mlp"], config.rms_norm_eps
    normed = rms_norm(x, **block["input_layernorm"], epsilon=epsilon)
    qkv = linear(normed, **attn["qkv"]).to(x.dtype).view(len(x), -1, config.d_head)
    qk, v = qkv.tensor_split([config.n_head + config.n_kv_head], dim=1)
    q, k = rotate(qk).tensor_split([config.n_head], dim=1)
    mixed = attend(q, k, v).flatten(1)
    if rows is not None:
        x, mixed = x[rows], mixed[rows]
    x = x + linear(mixed, **attn["o_proj"])
    normed = rms_norm(x, **block["post_attention_layernorm"], epsilon=epsilon)
    gate, up = linear(normed, **mlp["gate_up"]).chunk(2, dim=-1)
    return x + linear(F.silu(gate) * up, **mlp["down_proj"])


def join_inputs(
    config: LlamaConfig,
    matrices: Mapping[str, Matrix],
    join: Callable[[Sequence[Matrix]], Matrix],
) -> dict[str, Matrix]:
    """Join a block's matrices that share their input, one's outputs after another's.

    matrices: [n_out, n_in], by their names, as are those returned; ``join`` stacks the
    rows of several.
    """
    joined = dict(matrices)
    for layer in range(config.n_layer):
        for whole, parts in FUSED.items():
            names = [f"layers.{layer}.{part}.weight" for part in parts]
            rows = [joined.pop(name) for name in names]
            joined[f"layers.{layer}.{whole}.weight"] = join(rows)
    return joined


def stack(parts: Sequence[Tensor]) -> Tensor:
    """Stack matrices [n_out, n_in], their rows one after another."""
    return torch.cat([*parts])


def split_outputs(
    config: LlamaConfig, name: str, whole: Tensor
) -> Iterator[tuple[str, Tensor]]:
    """Undo `join_inputs` for one matrix [n_in, n_out]: views, by their names."""
    layer, part = name.removesuffix(".weight").split(".", 2)[1:]
    parts = FUSED.get(part, (part,))
    names = [f"layers.{layer}.{each}.weight" for each in parts]
    shapes = checkpoint.llama_shapes(config)
    columns = whole.split([shapes[each][1] for each in names], dim=1)
    yield from zip(names, columns, strict=True)


def rms_norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """Like `hardway.llama.rms_norm`, in one kernel."""
    return F.rms_norm(x, x.shape[-1:], weight.to(x.dtype), epsilon)
