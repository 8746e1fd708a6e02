"""Keep the keys and values of past positions, so that none is computed twice."""

from collections.abc import Sequence

import torch
from torch import Tensor

from hardway import checks, inputs
from hardway.inputs import ModelConfig


class KVCache:
    """Room for the keys and values of every layer, allocated once.

    ``length`` of ``max_len`` positions are filled. It takes exactly
    2 · n_layer · batch_size · max_len · n_kv_head · d_head · itemsize bytes.
    """

    def __init__(
        self,
        config: ModelConfig,
        batch_size: int = 1,
        max_len: int | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        """Allocate for ``batch_size`` sequences of up to ``max_len`` positions.

        max_len: n_ctx by default. Raises `ValueError` for a size out of range, and for
        more than ``hardway.inputs.MAX_BYTES`` in all.
        """
        max_len = config.n_ctx if max_len is None else max_len
        shape = config.n_layer, batch_size, config.n_kv_head, max_len, config.d_head
        inputs.check_new_cache(config, shape, dtype, device)
        self.keys = torch.zeros(shape, dtype=dtype, device=device)
        self.values = torch.zeros(shape, dtype=dtype, device=device)
        _, self.batch_size, _, self.max_len, _ = self.keys.shape
        self.length = 0

    def append(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Write one layer's new keys and values; return them after all past ones.

        k, v: [B, n_kv_head, T, d_head] → [B, n_kv_head, length + T, d_head], views of
        the cache (copies, where its dtype is not theirs). Every layer writes at the
        same place; `advance` moves it when all have. Raises `ValueError` where the
        cache is full.
        """
        end = self.length + k.shape[-2]
        checks.integer("the cache's new length", end, 0, self.max_len, " (max_len)")
        keys, values = self.keys[layer], self.values[layer]  # [B, n_kv_head, S, d_head]
        keys[:, :, self.length : end] = k
        values[:, :, self.length : end] = v
        return keys[:, :, :end].to(k.dtype), values[:, :, :end].to(v.dtype)

    def advance(self, n: int) -> None:
        """Count ``n`` more positions as filled: every layer has written.

        Raises `ValueError` for more than are free.
        """
        self.length += checks.integer("n", n, 0, self.max_len - self.length)

    def copy_rows(self, other: "KVCache", rows: Sequence[int]) -> None:
        """Hold, in each row, what a row of another cache holds, or of this one.

        rows: one for each of the batch_size rows here.
        """
        n = other.length
        self.keys[..., :n, :] = other.keys[:, rows, :, :n]
        self.values[..., :n, :] = other.values[:, rows, :, :n]
        self.length = n

    def truncate(self, length: int) -> None:
        """Keep only the first ``length`` positions; the memory stays.

        Raises `ValueError` for more than are filled.
        """
        self.length = checks.integer("length", length, 0, self.length)

    def reset(self) -> None:
        """Forget everything; the memory stays."""
        self.truncate(0)
