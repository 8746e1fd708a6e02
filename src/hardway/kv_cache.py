"""Keep the keys and values of the past: no position is computed twice (chapter 8)."""

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from hardway.model import Config


MAX_BYTES = 2**33  # 8 GiB: more than this for one thing is a mistake, not a wish


def check_size(what: str, n_bytes: int) -> None:
    """Raise `ValueError` where ``n_bytes`` of memory are more than ``MAX_BYTES``.

    It is called before the memory is asked for, so that nothing else has to make room.
    Chapter 8.
    """
    if n_bytes > MAX_BYTES:
        raise ValueError(
            f"{what} would take {n_bytes:,} bytes, more than MAX_BYTES = "
            f"{MAX_BYTES:,}; fewer or shorter sequences take less, and "
            "hardway.kv_cache.MAX_BYTES may be raised"
        )


def is_usable(dtype: object) -> bool:
    """Say whether torch computes with it: the float8 types are for storage. Chapter 8.

    >>> is_usable(torch.bfloat16), is_usable(torch.float8_e4m3fn)
    (True, False)
    """
    if not isinstance(dtype, torch.dtype):
        return False
    return dtype.is_floating_point and dtype.itemsize > 1


class KVCache:
    """Room for the keys and values of every layer, allocated once.

    ``length`` positions are filled, of ``max_len``. It takes exactly
    2 · n_layer · batch_size · max_len · n_embd · itemsize bytes. Chapter 8.
    """

    def __init__(
        self,
        config: "Config",
        batch_size: int = 1,
        max_len: int | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Allocate for ``batch_size`` sequences of up to ``max_len`` positions.

        max_len: n_ctx by default. Raises `ValueError` for a size out of range, and for
        more than ``MAX_BYTES`` in all.
        """
        max_len = config.n_ctx if max_len is None else max_len
        if type(max_len) is not int or not 1 <= max_len <= config.n_ctx:
            raise ValueError(
                f"max_len must be a whole number from 1 to n_ctx = {config.n_ctx}, "
                f"not {max_len!r}"
            )
        if type(batch_size) is not int or batch_size < 1:
            raise ValueError(
                f"batch_size must be a whole number from 1 on, not {batch_size!r}"
            )
        if not is_usable(dtype):
            raise ValueError(
                "dtype must be a floating-point type such as torch.float32, not "
                f"{dtype!r}"
            )
        self.batch_size, self.max_len, self.length = batch_size, max_len, 0
        shape = (config.n_layer, batch_size, config.n_head, max_len, config.d_head)
        check_size("the cache", 2 * math.prod(shape) * dtype.itemsize)
        self.keys = torch.zeros(shape, dtype=dtype)
        self.values = torch.zeros(shape, dtype=dtype)

    def append(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Write one layer's new keys and values, and return them behind the past ones.

        k, v: [B, n_head, T, d_head] → [B, n_head, length + T, d_head], views of the
        cache. Every layer writes at the same place; `advance` moves it when all have.
        Raises `ValueError` where the cache is full. Chapter 8.
        """
        end = self.length + k.shape[-2]
        if end > self.max_len:
            raise ValueError(
                f"the cache holds {self.max_len} positions; {end} were asked for"
            )
        self.keys[layer, :, :, self.length : end] = k
        self.values[layer, :, :, self.length : end] = v
        keys, values = self.keys[layer, :, :, :end], self.values[layer, :, :, :end]
        return keys.to(k.dtype), values.to(v.dtype)

    def advance(self, n: int) -> None:
        """Count ``n`` more positions as filled: every layer has written. Chapter 8."""
        self.length += n

    def reset(self) -> None:
        """Forget everything; the memory is kept. Chapter 8."""
        self.length = 0
