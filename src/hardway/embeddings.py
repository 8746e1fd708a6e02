"""Turn token ids into vectors: what the token is, plus where it stands (chapter 3)."""

import torch
from torch import Tensor


def embed(tokens: Tensor, positions: Tensor, wte: Tensor, wpe: Tensor) -> Tensor:
    """Look up each token's vector and add the vector of its position.

    tokens, positions: int64 [..., T] (positions broadcast); wte: [n_vocab, n_embd];
    wpe: [n_ctx, n_embd]. Returns [..., T, n_embd]. Chapter 3; Radford et al. 2018.
    """
    return wte[tokens] + wpe[positions]


def nearest(vectors: Tensor, index: int, k: int) -> tuple[list[int], list[float]]:
    """Find the ``k`` rows, other than ``index``, whose direction is nearest to its own.

    vectors: [n, d]. Returns their indices and their cosines with the row, nearest
    first. Raises `ValueError` for a ``k`` that leaves no such rows. Chapter 3.
    """
    if not 1 <= k < len(vectors):
        raise ValueError(f"k must be from 1 to {len(vectors) - 1}, not {k}")
    directions = vectors / vectors.norm(dim=-1, keepdim=True)
    cosines = directions @ directions[index]  # [n]
    cosines[index] = -torch.inf
    best = cosines.topk(k)
    return best.indices.tolist(), best.values.tolist()
