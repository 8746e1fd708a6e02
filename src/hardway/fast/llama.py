"""Llama in few large steps."""

from collections.abc import Callable, Mapping
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from hardway import checkpoint
from hardway.attention import Weights
from hardway.config import LlamaConfig
from hardway.fast.linear import linear
from hardway.fast.ragged import Attend, Ragged
from hardway.llama import Llama, rope, rope_angles

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
        joined = dict(weights)
        fused: dict[str, Tensor] = {}
        for layer in range(config.n_layer):
            for whole, parts in FUSED.items():
                names = [f"layers.{layer}.{part}.weight" for part in parts]
                columns = torch.cat([weights[name].T for name in names]).T
                fused[f"layers.{layer}.{whole}.weight"] = columns
                widths = [weights[name].shape[1] for name in names]
                joined |= zip(names, columns.split(widths, dim=1), strict=True)
        super().__init__(config, joined)  # whose parts are views of the whole
        self.blocks = list(checkpoint.nest(joined | fused)["layers"].values())

    def forward(
        self,
        tokens: Tensor,
        positions: Tensor,
        attend: Attend,
        rows: Tensor | None = None,
    ) -> Tensor:
        """Run N tokens of any sequences; see `hardway.fast.ragged.Ragged.forward`."""
        config = self.config
        angles = rope_angles(positions, config.d_head, config.rope_theta)[:, None]
        x = F.embedding(tokens, self.embed_tokens).to(self.compute_dtype)
        for layer, block in enumerate(self.blocks):
            wanted = rows if layer == config.n_layer - 1 else None
            x = llama_block(x, block, config, angles, partial(attend, layer), wanted)
        x = rms_norm(x, self.norm, config.rms_norm_eps)
        return linear(x, self.lm_head.T).float()


def llama_block(
    x: Tensor,
    block: Weights,
    config: LlamaConfig,
    angles: Tensor,
    attend: Callable[[Tensor, Tensor, Tensor], Tensor],
    rows: Tensor | None = None,
) -> Tensor:
    """Like `hardway.llama.llama_block`, for the tokens in ``rows``.

    x: [N, n_embd] → [len(rows), n_embd]; angles: [N, 1, d_head / 2]; attend: q
    [N, n_head, d_head], k, v [N, n_kv_head, d_head] → the shape of q. Every token's key
    and value are computed, whatever ``rows`` says.
    """
    attn, mlp, epsilon = block["self_attn"], block["mlp"], config.rms_norm_eps
    normed = rms_norm(x, **block["input_layernorm"], epsilon=epsilon)
    qkv = linear(normed, **attn["qkv"]).view(len(x), -1, config.d_head)
    q, k, v = qkv.split([config.n_head, config.n_kv_head, config.n_kv_head], dim=1)
    mixed = attend(rope(q, angles), rope(k, angles), v).flatten(1)
    if rows is not None:
        x, mixed = x[rows], mixed[rows]
    x = x + linear(mixed, **attn["o_proj"])
    normed = rms_norm(x, **block["post_attention_layernorm"], epsilon=epsilon)
    gate, up = linear(normed, **mlp["gate_up"]).chunk(2, dim=-1)
    return x + linear(F.silu(gate) * up, **mlp["down_proj"])


def rms_norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """Like `hardway.llama.rms_norm`, in one kernel."""
    return F.rms_norm(x, x.shape[-1:], weight.to(x.dtype), epsilon)
