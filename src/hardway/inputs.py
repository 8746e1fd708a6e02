"""Check what a model is called with: tokens, padding, caches, dtypes, memory."""

from collections.abc import Collection, Iterable
from typing import Any, Protocol

import torch
from torch import Tensor

from hardway.checks import ids, integer, safe_repr

MAX_BYTES = 2**33  # 8 GiB: more than this for one tensor is a mistake, not a wish


class ModelConfig(Protocol):
    """The sizes that every model's config has, whatever else is in it."""

    @property
    def n_vocab(self) -> int: ...  # noqa: D102
    @property
    def n_ctx(self) -> int: ...  # noqa: D102
    @property
    def n_layer(self) -> int: ...  # noqa: D102
    @property
    def n_head(self) -> int: ...  # noqa: D102
    @property
    def n_kv_head(self) -> int: ...  # noqa: D102
    @property
    def d_head(self) -> int: ...  # noqa: D102


class Cache(Protocol):
    """What the checks read of a KV cache; ``keys`` is [n_layer, B, n_kv_head, S, d]."""

    batch_size: int
    max_len: int
    length: int
    keys: Tensor


def prompt(
    prompt_ids: Iterable[Any], max_new_tokens: int, config: ModelConfig
) -> list[int]:
    """Return a prompt as a list of ids that leaves room for ``max_new_tokens``.

    Raises `ValueError` for an empty prompt, an id outside the vocabulary, and a text
    that would outgrow ``n_ctx``.
    """
    found = ids("prompt_ids", prompt_ids, config.n_vocab)
    if not found:
        raise ValueError(
            "prompt_ids must hold at least one id (the end-of-text id will do), got []"
        )
    if len(found) + max_new_tokens > config.n_ctx:
        raise ValueError(
            f"prompt_ids and max_new_tokens must fit in n_ctx = {config.n_ctx} "
            f"positions, got {len(found)} + {max_new_tokens}"
        )
    return found


def is_usable(dtype: object) -> bool:
    """Say whether torch computes with a dtype: the float8 types only store numbers.

    >>> is_usable(torch.bfloat16), is_usable(torch.float8_e4m3fn)
    (True, False)
    """
    if not isinstance(dtype, torch.dtype):
        return False
    return dtype.is_floating_point and dtype.itemsize > 1


def dtype(name: str, value: Any) -> torch.dtype:
    """Return a floating-point dtype; raise `ValueError` for anything else."""
    if not is_usable(value):
        raise ValueError(
            f"{name} must be a floating-point type such as torch.float32, "
            f"got {safe_repr(value)}"
        )
    found: torch.dtype = value
    return found


def size(what: str, n_bytes: int) -> None:
    """Raise `ValueError` where a tensor would take more than ``MAX_BYTES``.

    Called before the memory is asked for, so that nothing else has to make room.
    """
    if n_bytes > MAX_BYTES:
        raise ValueError(
            f"{what} must take at most hardway.inputs.MAX_BYTES = {MAX_BYTES:,} bytes, "
            f"got {n_bytes:,}: use fewer or shorter sequences, or raise MAX_BYTES"
        )


def tokens(tokens: Tensor, n_vocab: int) -> None:
    """Check the tokens that a model is called with: int64 [T] or [B, T], known ids.

    Raises `TypeError` for anything but a tensor, `ValueError` for the rest.
    """
    if not isinstance(tokens, Tensor):
        raise TypeError(
            "tokens must be a tensor: call model(torch.tensor(ids)), "
            f"got {type(tokens).__name__}"
        )
    if tokens.dim() not in (1, 2) or tokens.dtype != torch.int64 or not tokens.numel():
        raise ValueError(
            "tokens must be int64 of shape [T], or [B, T] for a batch, with at least "
            f"one id, got {tokens.dtype} of shape {list(tokens.shape)}"
        )
    ids("tokens", (tokens.min(), tokens.max()), n_vocab)


def forward(
    config: ModelConfig,
    new: Tensor,
    cache: Cache | None = None,
    n_pad: Tensor | None = None,
    last_only: bool = False,
) -> None:
    """Check all that a model is called with, the memory it would take included.

    new: the tokens, [T] or [B, T]. Raises `TypeError` for tokens that are not a tensor,
    `ValueError` for ids, padding, a cache or sizes that do not fit the model.
    """
    tokens(new, config.n_vocab)
    batch_size, total = (new.shape[0] if new.dim() == 2 else 1), new.shape[-1]
    total += cache.length if cache is not None else 0
    if total > config.n_ctx:
        raise ValueError(
            f"tokens must fit in n_ctx = {config.n_ctx} positions (those in the cache "
            f"included), got {total}"
        )
    if cache is not None:
        kv_cache(config, cache, batch_size, total)
    if n_pad is not None:
        padding(n_pad, batch_size, total if cache is None else cache.max_len)
    scores = batch_size * config.n_head * new.shape[-1] * total
    size("the attention weights of a layer", scores * 4)  # float32
    rows = batch_size * (1 if last_only else new.shape[-1])
    size("the logits", rows * config.n_vocab * 4)


def padding(n_pad: Tensor, batch_size: int, room: int) -> None:
    """Check how many tokens at the left of each sequence are padding: int64 [B]."""
    if not isinstance(n_pad, Tensor) or n_pad.dtype != torch.int64:
        raise ValueError(f"n_pad must be an int64 tensor, got {safe_repr(n_pad)}")
    if n_pad.shape != (batch_size,):
        raise ValueError(
            f"n_pad must have one number per sequence, shape [{batch_size}], "
            f"got shape {list(n_pad.shape)}"
        )
    for pad in (n_pad.min(), n_pad.max()):
        integer("n_pad", pad, 0, room - 1, ", to leave room for a token")


def kv_cache(config: ModelConfig, cache: Cache, batch_size: int, total: int) -> None:
    """Refuse a cache of another model or batch, or one without room for ``total``."""
    if cache.batch_size != batch_size:
        raise ValueError(
            f"cache must have the tokens' batch_size = {batch_size}, "
            f"got {cache.batch_size}: make a new one with model.new_cache"
        )
    if total > cache.max_len:
        raise ValueError(
            f"cache must have room for {total} positions, got max_len = "
            f"{cache.max_len}: make a new one with model.new_cache"
        )
    n_layer, _, n_kv_head, _, d_head = cache.keys.shape
    wanted = (config.n_layer, config.n_kv_head, config.d_head)
    if (n_layer, n_kv_head, d_head) != wanted:
        raise ValueError(
            f"cache must have the model's (n_layer, n_kv_head, d_head) = {wanted}, "
            f"got {(n_layer, n_kv_head, d_head)}: make a new one with model.new_cache"
        )


def finite_logits(logits: Tensor, step: int, live: Collection[int] = (0,)) -> None:
    """Raise `ValueError` for NaN or infinite logits: argmax would choose the NaN.

    logits: [n_vocab] or [B, n_vocab]; step: how many tokens are chosen already; live:
    the sequences that still write. The message says which token of which prompt.
    """
    finite = torch.isfinite(logits).all(dim=-1).view(-1).tolist()
    for sequence in live:
        if not finite[sequence]:
            where = f" of prompts[{sequence}]" if len(finite) > 1 else ""
            raise ValueError(
                f"the logits for new token {step + 1}{where} hold NaN or infinity; "
                "look for them in the model's weights"
            )
