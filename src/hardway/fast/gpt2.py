"""GPT-2 in few large steps, built around one ragged forward pass.

Ragged: tokens of any sequences stand in one row, without padding. Only ``attend`` knows
which of them see each other; matrices are read once for all.
"""

from collections.abc import Callable, Mapping
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from hardway import checkpoint, inputs
from hardway.attention import Weights
from hardway.config import Config
from hardway.embeddings import embed
from hardway.fast.linear import layer_norm, linear, pack_weight
from hardway.kv_cache import KVCache
from hardway.model import GPT2, positions_and_mask

Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]  # layer, q, k, v → mixed


class FastGPT2(GPT2):
    """`hardway.model.GPT2` with fused kernels; the same results within rounding."""

    def __init__(self, config: Config, weights: Mapping[str, Tensor]) -> None:
        """Take the same weights, and lay them out as the matrix products read them."""
        checked = checkpoint.check_weights(config, weights)
        packed = {name: pack_weight(name, weight) for name, weight in checked.items()}
        super().__init__(config, packed)

    def __call__(
        self,
        tokens: Tensor,
        cache: KVCache | None = None,
        last_only: bool = False,
        n_pad: Tensor | None = None,
    ) -> Tensor:
        """Return the logits of the next token, after each position."""
        inputs.check_call(self, tokens, cache, n_pad, last_only)
        batch = (tokens if tokens.dim() == 2 else tokens[None]).to(self.device)
        n, past = batch.shape[1], cache.length if cache is not None else 0
        mask: Tensor | None
        positions, mask = positions_and_mask(past, n, n_pad, self.device)
        if n_pad is None and (past == 0 or n == 1):
            mask = None  # the kernel masks a whole text, and one token sees all of it
        rows = None
        if last_only and n > 1:
            rows = torch.arange(n - 1, batch.numel(), n, device=self.device)
        logits = self.forward(
            batch.flatten(),
            positions.expand(batch.shape).flatten(),
            partial(attend_in_rows, len(batch), mask, cache),
            rows,
        )
        if cache is not None:
            cache.advance(n)
        return logits.view(*tokens.shape[:-1], -1, self.config.n_vocab)

    def forward(
        self,
        tokens: Tensor,
        positions: Tensor,
        attend: Attend,
        rows: Tensor | None = None,
    ) -> Tensor:
        """Run N tokens of any sequences, and return the logits after some of them.

        tokens, positions: int64 [N]; rows: int64, which of the N to return logits for,
        by default all. ``attend(layer, q, k, v)`` gets q [N, n_head, d_head] and the
        new k and v [N, n_kv_head, d_head], stores the two, and returns the averaged
        values [N, n_head, d_head]. Returns float32 [len(rows), n_vocab].
        """
        x = embed(tokens, positions, self.wte, self.wpe).to(self.compute_dtype)
        n_head, epsilon = self.config.n_head, self.config.layer_norm_epsilon
        for layer, block in enumerate(self.blocks):
            wanted = rows if layer == self.config.n_layer - 1 else None
            x = transformer_block(
                x, block, n_head, epsilon, partial(attend, layer), wanted
            )
        x = layer_norm(x, **self.ln_f, epsilon=epsilon)
        return linear(x, self.wte.T).float()


def transformer_block(
    x: Tensor,
    block: Weights,
    n_head: int,
    epsilon: float,
    attend: Callable[[Tensor, Tensor, Tensor], Tensor],
    rows: Tensor | None = None,
) -> Tensor:
    """Like `hardway.block.transformer_block`, for the tokens in ``rows``.

    x: [N, n_embd] → [len(rows), n_embd]; attend: q, k, v [N, n_head, d_head] → the same
    shape. Every token's key and value are computed, whatever ``rows`` says.
    """
    qkv = linear(
        layer_norm(x, **block["ln_1"], epsilon=epsilon), **block["attn"]["c_attn"]
    )
    q, k, v = qkv.view(len(x), 3, n_head, -1).unbind(1)
    mixed = attend(q, k, v).flatten(1)  # [N, n_embd]
    if rows is not None:
        x, mixed = x[rows], mixed[rows]
    x = x + linear(mixed, **block["attn"]["c_proj"])
    normed = layer_norm(x, **block["ln_2"], epsilon=epsilon)
    hidden = linear(normed, **block["mlp"]["c_fc"], gelu=True)
    return x + linear(hidden, **block["mlp"]["c_proj"])


def attend_in_rows(
    batch_size: int,
    mask: Tensor | None,
    cache: KVCache | None,
    layer: int,
    q: Tensor,
    k: Tensor,
    v: Tensor,
) -> Tensor:
    """Attend within each of ``batch_size`` sequences of equal length, cache included.

    q, k, v: [B · T, n_head, d_head]; mask: bool, broadcast to [B, n_head, T, S], or
    None: then the T queries are a whole text, or one token that sees all before it.
    Returns [B · T, n_head, d_head]. Torch's fused attention never holds a row of
    attention weights in memory whole (Dao et al. 2022).
    """
    q, k, v = (x.view(batch_size, -1, *x.shape[1:]).transpose(1, 2) for x in (q, k, v))
    if cache is not None:
        k, v = cache.append(layer, k, v)  # [B, n_head, S, d_head]
    is_causal = mask is None and q.shape[2] > 1
    mixed = F.scaled_dot_product_attention(q, k, v, mask, is_causal=is_causal)
    return mixed.transpose(1, 2).flatten(0, 1)
