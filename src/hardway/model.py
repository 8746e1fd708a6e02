"""GPT-2 whole: embeddings, a stack of blocks, a score for every token (chapter 6).

Paper: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners".
"""

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from hardway import fast, hub, safetensors
from hardway.attention import causal_mask
from hardway.block import transformer_block
from hardway.embeddings import embed
from hardway.kv_cache import KVCache, check_size, is_usable
from hardway.safetensors import show

MAX_LAYERS = 1000  # ten times those of any GPT: a damaged number would fill the memory

# Switches of later GPT-2 variants that change the arithmetic; the book's GPT-2 has none
# of them.
ARITHMETIC = {
    "activation_function": "gelu_new",
    "add_cross_attention": False,
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "tie_word_embeddings": True,
}
NOT_HERE = "so this model cannot be run here"
SPELLINGS = {"n_vocab": "n_vocab (vocab_size)", "n_ctx": "n_ctx (n_positions)"}


@dataclass(frozen=True)
class Config:
    """The sizes that make one GPT-2 different from another. Chapter 6."""

    n_vocab: int
    n_ctx: int
    n_embd: int
    n_head: int
    n_layer: int
    layer_norm_epsilon: float = 1e-5

    def __post_init__(self) -> None:
        """Check the sizes, and that the heads share n_embd evenly."""
        for name in ("n_vocab", "n_ctx", "n_embd", "n_head", "n_layer"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                spelled = SPELLINGS.get(name, name)
                raise ValueError(
                    f"{spelled} must be a whole number from 1 on, not {show(value)}"
                )
        if self.n_layer > MAX_LAYERS:
            raise ValueError(
                f"n_layer must be at most {MAX_LAYERS:,}, not {show(self.n_layer)}"
            )
        if self.n_embd % self.n_head:
            n_embd, n_head = show(self.n_embd), show(self.n_head)
            raise ValueError(
                f"n_embd = {n_embd} is not a multiple of n_head = {n_head}"
            )
        epsilon = self.layer_norm_epsilon
        if not (isinstance(epsilon, float) and 0 < epsilon < math.inf):
            raise ValueError(
                "layer_norm_epsilon must be a finite float above 0, not "
                f"{show(epsilon)}"
            )

    @property
    def d_head(self) -> int:
        """The length of one head's queries, keys and values. Chapter 6."""
        return self.n_embd // self.n_head

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Self:
        """Read ``config.json``.

        It may use Hugging Face's names (vocab_size, n_positions) or GPT-2's own. Raises
        `ValueError` naming the file and what is missing, out of range, or not GPT-2.
        Chapter 6.
        """
        try:
            raw = json.loads(Path(path).read_text(encoding="utf-8"))
            if not isinstance(raw, dict):
                raise ValueError("it is not a JSON object")
            for name, expected in ARITHMETIC.items():
                if raw.get(name, expected) != expected:
                    raise ValueError(
                        f"{name} is {show(raw[name])}; GPT-2 computes with "
                        f"{expected!r}, {NOT_HERE}"
                    )
            config = cls(
                n_vocab=_first(raw, "vocab_size", "n_vocab"),
                n_ctx=_first(raw, "n_positions", "n_ctx"),
                n_embd=_first(raw, "n_embd"),
                n_head=_first(raw, "n_head"),
                n_layer=_first(raw, "n_layer"),
                layer_norm_epsilon=raw.get(
                    "layer_norm_epsilon", cls.layer_norm_epsilon
                ),
            )
            if raw.get("n_inner") not in (None, wide := 4 * config.n_embd):
                found = show(raw["n_inner"])
                raise ValueError(f"n_inner must be 4 · n_embd = {wide}, not {found}")
        except RecursionError as error:
            raise ValueError(f"{path}: it nests too deeply") from error
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{path}: it is not JSON in UTF-8: {error}") from error
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}: {error}") from error
        return config


def _first(raw: Mapping[str, Any], *names: str) -> Any:
    for name in names:
        if name in raw:
            return raw[name]
    raise ValueError(f"{names[0]} is missing")


def _some(names: Sequence[str]) -> str:
    """Name the first few of what may be many, spelled by a stranger."""
    rest = f" and {len(names) - 4:,} more" if len(names) > 4 else ""
    return ", ".join(map(show, names[:4])) + rest


def _converted(dtype: torch.dtype, name: str, tensor: Tensor) -> Tensor:
    """Convert a weight; refuse what no arithmetic on fractions can use."""
    if not is_usable(tensor.dtype):
        problem = (
            f"holds {tensor.dtype}, not a floating-point type such as torch.float32"
        )
        raise ValueError(f"{show(name)} {problem}")
    _check_finite(name, tensor)
    if dtype == tensor.dtype:
        return tensor
    converted = tensor.to(dtype)
    if not _is_finite(converted):
        problem = f"holds a number too large for {dtype}: take another dtype"
        raise ValueError(f"{show(name)} {problem}")
    return converted


def _check_finite(name: str, tensor: Tensor) -> None:
    """Refuse a weight that is no number, or no finite one."""
    if not _is_finite(tensor):
        raise ValueError(f"{show(name)} holds NaN or infinity: the file is damaged")


def _is_finite(tensor: Tensor) -> bool:
    """Look at the ends alone: one pass without copies, through which NaN is carried."""
    return not tensor.numel() or all(map(math.isfinite, tensor.aminmax()))


def _check_tied(head: Tensor, wte: Tensor | None) -> None:
    """Refuse an output matrix that is not ``wte`` once more."""
    if wte is None:
        raise ValueError("the checkpoint holds lm_head.weight, but no wte.weight")
    for name, tensor in (("wte.weight", wte), ("lm_head.weight", head)):
        _check_finite(name, tensor)  # before they are compared: NaN equals nothing
    if not torch.equal(head, wte):
        raise ValueError(
            "lm_head.weight differs from wte.weight; in GPT-2 the two are one, "
            f"{NOT_HERE}"
        )


def _check_shapes(config: Config, weights: Mapping[str, Tensor]) -> None:
    """Refuse a set of tensors in which one is missing, unknown or misshapen."""
    shapes, doubt = expected_shapes(config), "do the two files belong together?"
    layers = f"for n_layer = {config.n_layer} in config.json: {doubt}"
    if missing := sorted(shapes.keys() - weights.keys()):
        raise ValueError(f"the checkpoint lacks {_some(missing)} {layers}")
    if unknown := sorted(weights.keys() - shapes.keys()):
        raise ValueError(f"the checkpoint holds {_some(unknown)}, unknown {layers}")
    for name, shape in shapes.items():
        if weights[name].shape != shape:
            found, wanted = show(list(weights[name].shape)), show(list(shape))
            raise ValueError(
                f"{name} has shape {found}; config.json demands {wanted}: {doubt}"
            )


def expected_shapes(config: Config) -> dict[str, tuple[int, ...]]:
    """List every tensor of a GPT-2 and its shape: 12 · n_layer + 4. Chapter 6."""
    n = config.n_embd
    block = {
        "ln_1.weight": (n,), "ln_1.bias": (n,),
        "attn.c_attn.weight": (n, 3 * n), "attn.c_attn.bias": (3 * n,),
        "attn.c_proj.weight": (n, n), "attn.c_proj.bias": (n,),
        "ln_2.weight": (n,), "ln_2.bias": (n,),
        "mlp.c_fc.weight": (n, 4 * n), "mlp.c_fc.bias": (4 * n,),
        "mlp.c_proj.weight": (4 * n, n), "mlp.c_proj.bias": (n,),
    }  # fmt: skip
    shapes: dict[str, tuple[int, ...]] = {"wte.weight": (config.n_vocab, n)}
    shapes["wpe.weight"] = (config.n_ctx, n)
    for layer in range(config.n_layer):
        shapes |= {f"h.{layer}.{name}": shape for name, shape in block.items()}
    return shapes | {"ln_f.weight": (n,), "ln_f.bias": (n,)}


def clean_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Bring a checkpoint's names to one form.

    Some files prefix every name with ``transformer.``; GPT-2's own holds each layer's
    causal mask as ``h.N.attn.bias``, which is a constant and no weight; some hold the
    output matrix ``lm_head.weight``, which in GPT-2 is ``wte.weight`` again. Raises
    `ValueError` where it is not, because then logits = hidden @ wte.T would be wrong.
    Chapter 6.
    """
    if twice := [name for name in tensors if f"transformer.{name}" in tensors]:
        raise ValueError(
            f"the checkpoint holds {_some(twice)} both with and without 'transformer.'"
        )
    clean = {
        name.removeprefix("transformer."): tensor for name, tensor in tensors.items()
    }
    head = clean.pop("lm_head.weight", None)
    if head is not None:
        _check_tied(head, clean.get("wte.weight"))
    buffers = (".attn.bias", ".attn.masked_bias")
    return {
        name: tensor for name, tensor in clean.items() if not name.endswith(buffers)
    }


@dataclass(frozen=True)
class Trace:
    """Everything a forward pass computed on the way, for one sequence. Chapter 6.

    residual: [n_layer + 1, T, n_embd], the stream after the embeddings and after each
    block; attention: [n_layer, n_head, T, T], each head's weights; logits: [T,
    n_vocab].
    """

    residual: Tensor
    attention: Tensor
    logits: Tensor


def _taught_block(
    x: Tensor, weights: Mapping[str, Tensor], *rest: Any
) -> tuple[Tensor, Tensor]:
    """Run chapter 5's block, with weights of the precision that ``x`` has."""
    wide = {name: weight.to(x.dtype) for name, weight in weights.items()}
    return transformer_block(x, wide, *rest)


class GPT2:
    """A GPT-2 of any size, as a function from token ids to logits. Chapter 6."""

    run_block = staticmethod(fast.transformer_block)  # chapter 5's, in larger steps

    def __init__(self, config: Config, weights: Mapping[str, Tensor]) -> None:
        """Take exactly the tensors of `expected_shapes`; all of one floating dtype.

        Raises `ValueError` naming tensors that are missing or unknown, or the first
        whose shape is wrong, or the dtypes.
        """
        _check_shapes(config, weights)
        shapes = expected_shapes(config)
        dtypes = {weights[name].dtype for name in shapes}
        if len(dtypes) > 1 or not all(map(is_usable, dtypes)):
            kinds = ", ".join(sorted(map(str, dtypes)))
            raise ValueError(
                "the weights must share one floating-point type such as torch.float32, "
                f"not {kinds}"
            )
        self.config = config
        self.weights = {name: fast.laid_out(name, weights[name]) for name in shapes}
        self.blocks = [
            {
                name.removeprefix(f"h.{layer}."): tensor
                for name, tensor in self.weights.items()
                if name.startswith(f"h.{layer}.")
            }
            for layer in range(config.n_layer)
        ]

    @classmethod
    def from_pretrained(
        cls,
        name_or_directory: str | os.PathLike[str] = "pocket",
        dtype: torch.dtype = torch.float32,
    ) -> Self:
        """Load a known model, or one from a directory.

        It needs ``config.json`` and ``model.safetensors``. Raises `FileNotFoundError`
        where they are missing, `ValueError` where they are not a GPT-2, or hold NaN or
        infinity. Chapter 6.
        """
        if not is_usable(dtype):
            raise ValueError(
                "dtype must be a floating-point type such as torch.float32, not "
                f"{dtype!r}"
            )
        directory = hub.find(name_or_directory)
        config = Config.from_file(directory / "config.json")
        path = directory / "model.safetensors"
        try:
            found = clean_names(safetensors.load_file(path))
            _check_shapes(config, found)  # first: what is unknown needs no converting
            for name, tensor in found.items():  # in place: both would fill the memory
                found[name] = _converted(dtype, name, tensor)
            return cls(config, found)
        except safetensors.SafetensorsError:
            raise  # it names the file already
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    def __call__(
        self,
        tokens: Tensor,
        cache: KVCache | None = None,
        last_only: bool = False,
        n_pad: Tensor | None = None,
    ) -> Tensor:
        """Score every token of the vocabulary as the next one, after each position.

        tokens: int64 [T] or [B, T]. With a ``cache`` they continue the positions it
        holds, and theirs are added to it (chapter 8). ``last_only`` scores the last
        position alone. n_pad: int64 [B], how many tokens at the left of each sequence
        are padding (chapter 7). Returns float32 [T, n_vocab] or [B, T, n_vocab]; T is 1
        with ``last_only``. Raises `ValueError` for ids outside the vocabulary, more
        than n_ctx positions, a cache or padding that does not fit, or logits or
        attention weights of more than ``hardway.kv_cache.MAX_BYTES``, and `TypeError`
        for tokens that are not a tensor. Chapter 6.
        """
        self._check(tokens, cache, n_pad)
        batch = tokens if tokens.dim() == 2 else tokens[None]
        self._check_sizes(batch, cache, last_only)
        for x, _ in self._stream(self.run_block, batch, cache, n_pad, last_only):
            pass  # only the stream behind the last block counts
        logits = self.logits(x[:, -1:] if last_only else x)
        return logits if tokens.dim() == 2 else logits[0]

    def trace(self, tokens: Tensor) -> Trace:
        """Run one sequence, int64 [T], and keep what a chapter draws.

        Raises what a call of the model does. Chapter 6.
        """
        self._check(tokens, None, None)
        if tokens.dim() != 1:
            raise ValueError(f"trace takes one sequence [T], not {list(tokens.shape)}")
        steps = list(self._stream(_taught_block, tokens[None]))
        residual = torch.stack([x[0] for x, _ in steps])
        attention = torch.stack(
            [weights[0] for _, weights in steps if weights is not None]
        )
        return Trace(residual, attention, self.logits(residual[-1]))

    def logits(self, x: Tensor) -> Tensor:
        """Score the vocabulary from the stream: last norm, one dot product a token.

        x: [..., n_embd] → float32 [..., n_vocab]. Chapter 6; tied weights: Press & Wolf
        2017.
        """
        w = self.weights
        x = fast.layer_norm(
            x, w["ln_f.weight"], w["ln_f.bias"], self.config.layer_norm_epsilon
        )
        return fast.linear(x, w["wte.weight"].T).float()

    def _stream(
        self,
        run_block: Callable[..., tuple[Tensor, Tensor | None]],
        tokens: Tensor,
        cache: KVCache | None = None,
        n_pad: Tensor | None = None,
        last_only: bool = False,
    ) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Yield the stream after the embeddings and, with attention, each block.

        With ``last_only`` the last block's mask has the last position's row alone; a
        block that does not mind computes the other positions in vain.
        """
        past = cache.length if cache is not None else 0
        total = past + tokens.shape[1]
        positions, visible = torch.arange(past, total), causal_mask(total - past, total)
        if n_pad is not None:
            positions, visible = skip_padding(positions, visible, n_pad)
        wte, wpe = self.weights["wte.weight"], self.weights["wpe.weight"]
        x = embed(tokens, positions, wte, wpe)
        x = x.to(fast.computing_dtype(x.dtype))
        yield x, None
        n_head, epsilon = self.config.n_head, self.config.layer_norm_epsilon
        for layer, block in enumerate(self.blocks):
            if last_only and layer == len(self.blocks) - 1:
                visible = visible[..., -1:, :]
            remember = partial(cache.append, layer) if cache is not None else None
            x, weights = run_block(x, block, n_head, epsilon, visible, remember)
            yield x, weights
        if cache is not None:
            cache.advance(total - past)

    def _check(
        self, tokens: Tensor, cache: KVCache | None, n_pad: Tensor | None
    ) -> None:
        """Refuse at the door what would fail, or silently go wrong, further in."""
        if not isinstance(tokens, Tensor):
            raise TypeError(
                "tokens must be a tensor, as torch.tensor(ids) makes it, not "
                f"{type(tokens).__name__}"
            )
        n_vocab, n_ctx = self.config.n_vocab, self.config.n_ctx
        shape, dtype = list(tokens.shape), tokens.dtype
        if len(shape) not in (1, 2) or dtype != torch.int64 or 0 in shape:
            raise ValueError(
                "tokens must be int64 of shape [T], or [B, T] for a batch, with at "
                f"least one id, not {dtype} of shape {shape}"
            )
        for id in (int(tokens.min()), int(tokens.max())):
            if not 0 <= id < n_vocab:
                raise ValueError(f"token ids must be from 0 to {n_vocab - 1}, not {id}")
        total = shape[-1] + (cache.length if cache is not None else 0)
        if total > n_ctx:
            raise ValueError(
                f"tokens (with what the cache holds) has {total} positions, more than "
                f"the model's n_ctx = {n_ctx}"
            )
        batch_size = shape[0] if len(shape) == 2 else 1
        room = total if cache is None else cache.max_len
        if n_pad is not None and (
            not isinstance(n_pad, Tensor)
            or n_pad.dtype != torch.int64
            or n_pad.shape != (batch_size,)
            or not 0 <= min(n_pad) <= max(n_pad) < room
        ):
            raise ValueError(
                f"n_pad must be an int64 tensor [{batch_size}], one number from 0 to "
                f"{room - 1} per sequence, which leaves room for a token, not {n_pad}"
            )
        if cache is not None:
            self._check_cache(cache, batch_size, total)

    def _check_sizes(
        self, batch: Tensor, cache: KVCache | None, last_only: bool
    ) -> None:
        """Refuse a batch whose largest tensors would not fit, before they are made."""
        n, new = batch.shape
        total = new + (cache.length if cache is not None else 0)
        itemsize = self.weights["wte.weight"].dtype.itemsize
        attention = n * self.config.n_head * new * total * itemsize
        check_size("a layer's attention weights", attention)
        scored = n * (1 if last_only else new)
        check_size("the logits", scored * self.config.n_vocab * 4)  # float32

    def _check_cache(self, cache: KVCache, batch_size: int, total: int) -> None:
        """Refuse a cache of another model, another batch, or without the room."""
        if cache.batch_size != batch_size:
            raise ValueError(
                f"the cache has batch_size = {cache.batch_size}, the tokens have "
                f"{batch_size}: make a new KVCache"
            )
        if total > cache.max_len:
            raise ValueError(
                f"tokens (with what the cache holds) has {total} positions, more than "
                f"the cache's max_len = {cache.max_len}"
            )
        sizes = (cache.keys.shape[0], cache.keys.shape[2], cache.keys.shape[4])
        wanted = (self.config.n_layer, self.config.n_head, self.config.d_head)
        if sizes != wanted:
            raise ValueError(
                f"the cache is for (n_layer, n_head, d_head) = {sizes}, the model has "
                f"{wanted}: make a new KVCache"
            )


def skip_padding(
    positions: Tensor, visible: Tensor, n_pad: Tensor
) -> tuple[Tensor, Tensor]:
    """Hide the padding at the left of a batch, and count positions from behind it.

    positions: int64 [T]; visible: bool [T, S], the causal mask; n_pad: int64 [B].
    Returns positions [B, T] and visible [B, 1, T, S]. A padding token may see itself,
    for a softmax over nothing is NaN; nobody ever looks at what comes of it. Chapter 7.
    """
    keys = torch.arange(visible.shape[-1])
    is_token = keys >= n_pad[:, None, None]  # [B, 1, S]
    is_itself = keys == positions[:, None]  # [T, S]
    shifted = (positions - n_pad[:, None]).clamp(min=0)
    return shifted, ((visible & is_token) | is_itself)[:, None]
