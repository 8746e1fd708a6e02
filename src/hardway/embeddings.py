"""Turn token ids into vectors: a token embedding plus a position embedding."""

import torch
from torch import Tensor

from hardway import checks


def embed(tokens: Tensor, positions: Tensor, wte: Tensor, wpe: Tensor) -> Tensor:
    """Look up each token's embedding and add the embedding of its position.

    tokens, positions: int64 [..., T] (positions broadcast); wte: [n_vocab, n_embd];
    wpe: [n_ctx, n_embd]. Returns [..., T, n_embd]. Source: Radford et al. 2018.
    """
    return wte[tokens] + wpe[positions]


def nearest(vectors: Tensor, index: int, k: int) -> tuple[list[int], list[float]]:
    """Find the ``k`` rows with the largest cosine similarity to row ``index``.

    vectors: [n, d]. Returns their indices and cosine similarities, nearest first; the
    row itself is left out. Raises `ValueError` for a ``k`` that leaves no such rows.
    """
    checks.integer("k", k, 1, len(vectors) - 1)
    directions = vectors / vectors.norm(dim=-1, keepdim=True)
    cosines = directions @ directions[index]  # [n]
    cosines[index] = -torch.inf
    best = cosines.topk(k)
    return best.indices.tolist(), best.values.tolist()
