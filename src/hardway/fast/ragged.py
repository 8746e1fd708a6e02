"""Models in few large steps, built around one ragged forward pass.

Ragged: tokens of any sequences stand in one row, without padding. Only ``attend`` knows
which of them see each other; matrices are read once for all.
"""

from abc import abstractmethod
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from hardway import inputs
from hardway.kv_cache import KVCache
from hardway.model import Decoder, positions_and_mask

Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]  # layer, q, k, v → mixed


class Ragged(Decoder):
    """A model whose call is a ragged forward pass over the rows of a batch."""

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
        positions, mask = torch.arange(past, past + n, device=self.device), None
        if n_pad is not None or (past > 0 and n > 1):
            positions, mask = positions_and_mask(past, n, n_pad, self.device)
        # Else the kernel masks a whole text itself, and a single token sees all of it.
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

    @abstractmethod
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

    q: [B · T, n_head, d_head]; k, v: [B · T, n_kv_head, d_head]; mask: bool, broadcast
    to [B, n_head, T, S], or None: then the T queries are a whole text, or one token
    that sees all before it. A lone token's queries are stacked by the key head they
    share, as in `hardway.llama.grouped_attention`, so that no key is copied. Returns
    [B · T, n_head, d_head]. Torch's fused attention never holds a row of attention
    weights in memory whole (Dao et al. 2022).
    """
    if len(q) == batch_size:  # a single token of each sequence
        stacked = q.view(batch_size, k.shape[1], -1, q.shape[-1])
        k, v = k[:, :, None], v[:, :, None]  # [B, n_kv_head, 1, d_head]
        if cache is not None:
            k, v = cache.append(layer, k, v)  # [B, n_kv_head, S, d_head]
        return F.scaled_dot_product_attention(stacked, k, v, mask).view(q.shape)
    q, k, v = (x.view(batch_size, -1, *x.shape[1:]).transpose(1, 2) for x in (q, k, v))
    if cache is not None:
        k, v = cache.append(layer, k, v)
    mixed = F.scaled_dot_product_attention(
        q, k, v, mask, is_causal=mask is None, enable_gqa=k.shape[1] < q.shape[1]
    )
    return mixed.transpose(1, 2).flatten(0, 1)
