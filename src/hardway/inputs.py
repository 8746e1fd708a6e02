"""Check the arguments of a model: tokens, padding, caches, dtypes, memory."""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from copy import copy
from typing import Any, Protocol

import torch
from torch import Tensor

from hardway.checks import integer, items, number, safe_repr, token_ids

MAX_BYTES = 2**33  # 8 GiB: a larger tensor is almost certainly a mistake
MAX_PADDING = 1024  # sizes of vocabularies are multiples of at most that


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
    """What the checks read of a KV cache.

    keys: [n_layer, B, n_kv_head, S, d_head].
    """

    batch_size: int
    max_len: int
    length: int
    keys: Tensor


class Model(Protocol):
    """What the checks read of a model."""

    config: Any
    device: torch.device
    compute_dtype: torch.dtype


def check_prompt(
    prompt_ids: Iterable[Any], max_new_tokens: int, config: ModelConfig
) -> list[int]:
    """Return a prompt as a list of ids that leaves room for ``max_new_tokens``.

    Raises `ValueError` for an empty prompt, an id outside the vocabulary, and a text
    that would outgrow ``n_ctx``.
    """
    found = token_ids("prompt_ids", prompt_ids, config.n_vocab)
    if not found:
        raise ValueError(
            "prompt_ids must have at least one id (the end-of-text id will do), got []"
        )
    if len(found) + max_new_tokens > config.n_ctx:
        raise ValueError(
            f"prompt_ids and max_new_tokens must fit in n_ctx = {config.n_ctx} "
            f"positions, got {len(found)} + {max_new_tokens}"
        )
    return found


def check_vocabularies(model_size: int, tokenizer_size: int) -> None:
    """Raise `ValueError` for a tokenizer that is not the model's.

    A model may have some more rows than there are tokens, because sizes that are
    multiples of a power of two are faster, or because tokens were to be added.
    """
    if not 0 <= model_size - tokenizer_size < MAX_PADDING:
        raise ValueError(
            f"tokenizer must have the model's n_vocab = {model_size}, or up to "
            f"{MAX_PADDING - 1} tokens fewer, got {tokenizer_size}: load both from the "
            "same place"
        )


class Unpadded:
    """A model without the logits of ids that have no token: they cannot be drawn."""

    def __init__(self, model: Any, n_vocab: int) -> None:
        """Take a model of more than ``n_vocab`` ids; nothing is copied."""
        self.model = model
        self.config = copy(model.config)
        object.__setattr__(self.config, "n_vocab", n_vocab)  # it may be frozen

    def __call__(self, *args: Any, **options: Any) -> Tensor:
        """Return the logits [..., n_vocab]."""
        logits: Tensor = self.model(*args, **options)[..., : self.config.n_vocab]
        return logits

    @property
    def forward(self) -> Callable[..., Tensor]:
        """The ragged forward pass of a fast model."""
        whole = self.model.forward
        return lambda *args: whole(*args)[..., : self.config.n_vocab]

    def __getattr__(self, name: str) -> Any:
        """Return what else the model has: its device, for example."""
        return getattr(self.model, name)


def fit_vocabulary(model: Any, n_vocab: int) -> Any:
    """Return a model of exactly ``n_vocab`` ids, which a tokenizer has tokens for.

    Raises what `check_vocabularies` does.
    """
    check_vocabularies(model.config.n_vocab, n_vocab)
    return model if model.config.n_vocab == n_vocab else Unpadded(model, n_vocab)


def check_bias(logit_bias: Any) -> dict[int, float]:
    """Return a logit bias as plain numbers by plain ids; None is no bias.

    Raises `ValueError` for what doesn't map ids to numbers from -100 to 100.
    """
    if logit_bias is None:
        return {}
    if not isinstance(logit_bias, Mapping):
        raise ValueError(
            "logit_bias must map token ids to numbers, or be None, "
            f"got {safe_repr(logit_bias)}"
        )
    return {
        integer("logit_bias: each id", id): number(f"logit_bias[{id}]", x, -100, 100)
        for id, x in logit_bias.items()
    }


def check_constraint(constraint: Any) -> None:
    """Raise `ValueError` for a constraint without what sampling needs of one."""
    names = ("n_vocab", "eot_id", "allowed", "within")
    if constraint is not None and not all(hasattr(constraint, name) for name in names):
        raise ValueError(
            "constraint must be made with hardway.decoding.Regex or JsonSchema, or be "
            f"None, got {safe_repr(constraint)}"
        )


def check_options(n_vocab: int, logit_bias: Any, constraint: Any) -> None:
    """Raise `ValueError` for a bias or a constraint of another vocabulary."""
    token_ids("logit_bias", check_bias(logit_bias), n_vocab)
    check_constraint(constraint)
    if constraint is not None and constraint.n_vocab != n_vocab:
        raise ValueError(
            f"constraint must be made with the model's tokenizer, of {n_vocab} tokens, "
            f"got one of {constraint.n_vocab}"
        )


def check_draft(
    draft: ModelConfig, prompt: Sequence[int], max_new_tokens: int, model: ModelConfig
) -> None:
    """Raise `ValueError` for a draft of another vocabulary, or of a shorter context."""
    if draft.n_vocab != model.n_vocab:
        raise ValueError(
            f"draft must have the model's n_vocab = {model.n_vocab}, "
            f"got {draft.n_vocab}"
        )
    if len(prompt) + max_new_tokens > draft.n_ctx:
        raise ValueError(
            f"draft must have a context of {len(prompt) + max_new_tokens} positions, "
            f"for prompt_ids and max_new_tokens, got n_ctx = {draft.n_ctx}"
        )


def check_stop(stop: Any) -> tuple[str, ...]:
    """Return stop strings as a tuple; a single one may stand alone.

    Raises `ValueError` for anything that isn't text, and for an empty string.
    """
    found = (stop,) if isinstance(stop, str) else tuple(items("stop", stop))
    for text in found:
        if not isinstance(text, str) or not text:
            raise ValueError(
                f"stop must hold strings of at least one character, got "
                f"{safe_repr(text)}"
            )
    return found


def is_usable(dtype: object) -> bool:
    """Return whether torch computes with a dtype: the float8 types only store numbers.

    >>> is_usable(torch.bfloat16), is_usable(torch.float8_e4m3fn)
    (True, False)
    """
    if not isinstance(dtype, torch.dtype):
        return False
    return dtype.is_floating_point and dtype.itemsize > 1


def check_dtype(name: str, value: Any) -> torch.dtype:
    """Return a floating-point dtype; raise `ValueError` for anything else."""
    if not is_usable(value):
        raise ValueError(
            f"{name} must be a floating-point dtype such as torch.float32, "
            f"got {safe_repr(value)}"
        )
    found: torch.dtype = value
    return found


def check_device(device: Any) -> torch.device:
    """Return a device that tensors can be created on.

    Raises `ValueError` for anything else, a device that is not available included.
    """
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, TypeError, AssertionError, ImportError) as error:
        raise ValueError(
            "device must be one that torch can use here, such as 'cpu', "
            f"got {safe_repr(device)}"
        ) from error
    return found


def check_cpu(device: Any) -> None:
    """Raise `ValueError` for another device than the CPU, where packed codes run."""
    if check_device(device).type != "cpu":
        raise ValueError(
            f"device must be 'cpu' for a quantized model, got {safe_repr(str(device))}"
        )


def check_size(what: str, n_bytes: int) -> None:
    """Raise `ValueError` if a tensor would take more than ``MAX_BYTES``.

    Called before the memory is allocated.
    """
    if n_bytes > MAX_BYTES:
        raise ValueError(
            f"{what} must take at most hardway.inputs.MAX_BYTES = {MAX_BYTES:,} bytes, "
            f"got {n_bytes:,}: use fewer or shorter sequences, or raise MAX_BYTES"
        )


def check_call(
    model: Model,
    tokens: Tensor,
    cache: Cache | None = None,
    n_pad: Tensor | None = None,
    last_only: bool = False,
) -> None:
    """Check the arguments of a model call, and the memory it would take.

    tokens: [T] or [B, T]. Raises `TypeError` for tokens that are not a tensor,
    `ValueError` for ids, padding, a cache or sizes that do not fit the model.
    """
    config = model.config
    check_tokens(tokens, config.n_vocab)
    for name, tensor in (("tokens", tokens), ("n_pad", n_pad)):
        is_meta = isinstance(tensor, Tensor) and tensor.is_meta
        if is_meta and model.device.type != "meta":
            raise ValueError(f"{name} must have values, got a tensor on device meta")
    batch_size, n = (tokens.shape[0] if tokens.dim() == 2 else 1), tokens.shape[-1]
    total = n + (cache.length if cache is not None else 0)
    if total > config.n_ctx:
        raise ValueError(
            f"tokens must fit in n_ctx = {config.n_ctx} positions (those in the cache "
            f"included), got {total}"
        )
    if cache is not None:
        check_cache(model, cache, batch_size, total)
    if n_pad is not None:
        check_padding(n_pad, batch_size, total if cache is None else cache.max_len)
    scores = batch_size * config.n_head * n * total
    itemsize = model.compute_dtype.itemsize
    check_size("the attention weights of a layer", scores * itemsize)
    logits = batch_size * (1 if last_only else n) * config.n_vocab
    check_size("the logits", logits * itemsize)


def check_trace(model: Model, tokens: Tensor) -> None:
    """Check the argument of a trace: one sequence, whose attention fits in memory."""
    check_call(model, tokens)
    if tokens.dim() != 1:
        raise ValueError(
            f"tokens must be one sequence [T], got shape {list(tokens.shape)}"
        )
    scores = model.config.n_layer * model.config.n_head * len(tokens) ** 2
    n_bytes = scores * model.compute_dtype.itemsize
    check_size("the attention weights of all layers", n_bytes)


def check_tokens(tokens: Tensor, n_vocab: int) -> None:
    """Check the tokens of a model call: int64 [T] or [B, T], ids in the vocabulary.

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
    if not tokens.is_meta:  # a meta tensor has a shape but no values
        token_ids("tokens", (tokens.min().item(), tokens.max().item()), n_vocab)


def check_padding(n_pad: Tensor, batch_size: int, room: int) -> None:
    """Check the number of padding tokens at the left of each sequence: int64 [B]."""
    if not isinstance(n_pad, Tensor) or n_pad.dtype != torch.int64:
        raise ValueError(f"n_pad must be an int64 tensor, got {safe_repr(n_pad)}")
    if n_pad.shape != (batch_size,):
        raise ValueError(
            f"n_pad must have one number per sequence, shape [{batch_size}], "
            f"got shape {list(n_pad.shape)}"
        )
    for pad in () if n_pad.is_meta else (n_pad.min(), n_pad.max()):
        integer("n_pad", pad, 0, room - 1, ", to leave room for a token")


def check_cache(model: Model, cache: Cache, batch_size: int, total: int) -> None:
    """Raise `ValueError` for a cache that is too short or of another model or batch."""
    config, advice = model.config, "make a new one with model.new_cache"
    n_layer, _, n_kv_head, _, d_head = cache.keys.shape
    facts = {
        "batch_size": (batch_size, cache.batch_size),
        "n_layer": (config.n_layer, n_layer),
        "n_kv_head": (config.n_kv_head, n_kv_head),
        "d_head": (config.d_head, d_head),
        "device": (model.device, cache.keys.device),
    }
    for name, (wanted, found) in facts.items():
        if wanted != found:
            raise ValueError(
                f"cache must have {name} = {wanted}, got {found}: {advice}"
            )
    if total > cache.max_len:
        raise ValueError(
            f"cache must have room for {total} positions, got max_len = "
            f"{cache.max_len}: {advice}"
        )


def check_new_cache(
    config: ModelConfig, shape: Sequence[Any], dtype: Any, device: Any
) -> None:
    """Check the arguments of a new KV cache, before its memory is allocated.

    shape: [n_layer, batch_size, n_kv_head, max_len, d_head].
    """
    batch_size = integer("batch_size", shape[1], 1)
    max_len = integer("max_len", shape[3], 1, config.n_ctx, " (n_ctx)")
    per_position = 2 * config.n_layer * config.n_kv_head * config.d_head
    itemsize = check_dtype("dtype", dtype).itemsize
    check_size("the KV cache", batch_size * max_len * per_position * itemsize)
    check_device(device)


def check_finite_logits(
    logits: Tensor, step: int, active: Collection[int] = (0,)
) -> None:
    """Raise `ValueError` for NaN or infinite logits: argmax would choose the NaN.

    logits: [n_vocab] or [B, n_vocab]; step: how many tokens have been chosen; active:
    the sequences still growing. The message says which token of which prompt.
    """
    if all(math.isfinite(bound) for bound in logits.aminmax()):  # NaN propagates
        return
    finite = torch.isfinite(logits).all(dim=-1).view(-1).tolist()
    for i in active:
        if not finite[i]:
            where = f" of prompts[{i}]" if len(finite) > 1 else ""
            raise ValueError(
                f"the logits for new token {step + 1}{where} contain NaN or infinity: "
                "check the model's weights"
            )


def check_ragged(model: Any) -> None:
    """Raise `ValueError` for a model without a ragged forward pass."""
    if not callable(getattr(model, "forward", None)):
        raise ValueError(
            "model must be a fast one, as hardway.load returns, "
            f"got {type(model).__name__}"
        )


def check_pool(n_prompt: int, max_new_tokens: int, room: int) -> None:
    """Raise `ValueError` for a text that wouldn't fit in all of an engine's pages.

    room: how many tokens fit in them.
    """
    if n_prompt + max_new_tokens > room:
        raise ValueError(
            "prompt_ids and max_new_tokens must fit in the engine's pages, "
            f"{room} positions, got {n_prompt} + {max_new_tokens}: raise n_pages"
        )
