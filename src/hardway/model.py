"""GPT-2 whole: embeddings, a stack of blocks, and a logit for every token.

Paper: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners".
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Self

import torch
from torch import Tensor

from hardway import checkpoint, hub, inputs, layout
from hardway.attention import causal_mask
from hardway.block import layer_norm, transformer_block
from hardway.config import Config, LlamaConfig
from hardway.embeddings import embed
from hardway.kv_cache import KVCache
from hardway.loading import in_own_thread


@dataclass(frozen=True)
class Trace:
    """Everything a forward pass computed on the way, for one sequence.

    residual: [n_layer + 1, T, n_embd], the residual stream after the embeddings and
    after each block; attention: [n_layer, n_head, T, T], each head's attention weights;
    logits: [T, n_vocab].
    """

    residual: Tensor
    attention: Tensor
    logits: Tensor


class Decoder(ABC):
    """What decoder-only models share: from token ids to logits, through any blocks.

    ``weights`` holds the tensors by the checkpoint's names, ``config`` the sizes. A
    model adds how it is loaded, its blocks and its output head.
    """

    def __init__(
        self, config: Config | LlamaConfig, weights: Mapping[str, Tensor]
    ) -> None:
        """Check the weights that `hardway.checkpoint.expected_shapes` lists.

        Raises `ValueError` naming tensors that are missing, unknown or of the wrong
        shape, and for several dtypes or devices.
        """
        self.config: Config | LlamaConfig = config
        self.weights = checkpoint.check_weights(config, weights)
        first = next(iter(self.weights.values()))
        self.device = first.device
        self.compute_dtype = checkpoint.compute_dtype(first.dtype)

    def to(self, device: torch.device | str) -> Self:
        """Return the model on another device; weights already there are shared."""
        device = inputs.check_device(device)
        moved = {name: weight.to(device) for name, weight in self.weights.items()}
        return type(self)(self.config, moved)

    def __call__(
        self,
        tokens: Tensor,
        cache: KVCache | None = None,
        last_only: bool = False,
        n_pad: Tensor | None = None,
    ) -> Tensor:
        """Return the logits of the next token, after each position.

        tokens: int64 [T] or [B, T]. With a ``cache`` they continue the positions it
        holds, and theirs are added to it. ``last_only`` computes the logits of the last
        position alone. n_pad: int64 [B], how many tokens at the left of each sequence
        are padding. Returns float32 [T, n_vocab] or [B, T, n_vocab]; T is 1 with
        ``last_only``. Raises `TypeError` for tokens that are not a tensor, `ValueError`
        for ids outside the vocabulary, more than n_ctx positions, and a cache, padding
        or sizes that do not fit.
        """
        inputs.check_call(self, tokens, cache, n_pad, last_only)
        batch = tokens if tokens.dim() == 2 else tokens[None]
        for x, _ in self.residual_stream(batch, cache, n_pad):
            pass  # only the stream after the last block counts
        logits = self.logits(x[:, -1:] if last_only else x)
        return logits if tokens.dim() == 2 else logits[0]

    def trace(self, tokens: Tensor) -> Trace:
        """Run one sequence, int64 [T], and keep every intermediate.

        Raises what a call of the model does.
        """
        inputs.check_trace(self, tokens)
        steps = list(self.residual_stream(tokens[None]))
        residual = torch.stack([x[0] for x, _ in steps])
        attention = torch.stack([w[0] for _, w in steps if w is not None])
        return Trace(residual, attention, self.logits(residual[-1]))

    def new_cache(self, batch_size: int = 1, max_len: int | None = None) -> KVCache:
        """Return an empty KV cache on the model's device, in the dtype it computes in.

        max_len: n_ctx by default. Raises what `hardway.kv_cache.KVCache` does.
        """
        return KVCache(
            self.config, batch_size, max_len, self.compute_dtype, self.device
        )

    @abstractmethod
    def residual_stream(
        self,
        tokens: Tensor,
        cache: KVCache | None = None,
        n_pad: Tensor | None = None,
    ) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Yield the stream [B, T, n_embd] after the embeddings and after each block.

        A block's attention weights, [B, n_head, T, S], come along.
        """

    @abstractmethod
    def logits(self, x: Tensor) -> Tensor:
        """Return the logits after vectors of the stream.

        x: [..., n_embd] → float32 [..., n_vocab].
        """


class GPT2(Decoder):
    """A GPT-2 of any size, as a function from token ids to logits.

    `hardway.fast.load` returns the same model in fewer, larger steps.
    """

    config: Config

    def __init__(self, config: Config, weights: Mapping[str, Tensor]) -> None:
        """Check and nest the weights; raises what `Decoder` does."""
        super().__init__(config, weights)
        nested = checkpoint.nest(self.weights)
        self.wte: Tensor = nested["wte"]["weight"]
        self.wpe: Tensor = nested["wpe"]["weight"]
        self.blocks = list(nested["h"].values())
        self.ln_f = nested["ln_f"]

    @classmethod
    @in_own_thread
    def from_pretrained(
        cls,
        name_or_directory: str | os.PathLike[str] = "pocket",
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> Self:
        """Load a known model, or one from a directory.

        It needs ``config.json`` and ``model.safetensors``, or what `hardway.layout`
        finds instead. Raises `FileNotFoundError`
        where they are missing, `ValueError` where they are not a GPT-2, or contain NaN
        or infinity, and for a dtype or device that cannot be used.
        """
        path = hub.weights(name_or_directory)
        config = Config.from_file(layout.config_of(path))
        return cls(config, checkpoint.load(path, config, dtype, device))

    def residual_stream(
        self,
        tokens: Tensor,
        cache: KVCache | None = None,
        n_pad: Tensor | None = None,
    ) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Embed the tokens and run the blocks, yielding the stream after each."""
        past, n = (cache.length if cache is not None else 0), tokens.shape[1]
        positions, mask = positions_and_mask(past, n, n_pad, self.device)
        x = embed(tokens.to(self.device), positions, self.wte, self.wpe)
        x = x.to(self.compute_dtype)
        yield x, None
        for layer, stored in enumerate(self.blocks):
            block = checkpoint.cast(stored, x.dtype)
            update_cache = partial(cache.append, layer) if cache is not None else None
            x, attn_weights = transformer_block(
                x, block, self.config.n_head, self.config.layer_norm_epsilon, mask,
                update_cache,
            )  # fmt: skip
            yield x, attn_weights
        if cache is not None:
            cache.advance(n)

    def logits(self, x: Tensor) -> Tensor:
        """Apply the final layer norm, then one dot product with each row of ``wte``.

        x: [..., n_embd] → float32 [..., n_vocab]. Source: Press & Wolf 2017, for the
        output matrix that is the embedding matrix again.
        """
        ln_f = checkpoint.cast(self.ln_f, x.dtype)
        x = layer_norm(x, **ln_f, epsilon=self.config.layer_norm_epsilon)
        return (x @ self.wte.to(x.dtype).T).float()


def positions_and_mask(
    past: int, n: int, n_pad: Tensor | None, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return the positions of ``n`` new tokens after ``past`` ones, and their mask.

    Positions: int64 [n], or [B, n] with padding; mask: bool [n, past + n], or
    [B, 1, n, past + n] with padding.
    """
    positions = torch.arange(past, past + n, device=device)
    mask = causal_mask(n, past + n, device)
    if n_pad is None:
        return positions, mask
    return skip_padding(positions, mask, n_pad.to(device))


def skip_padding(
    positions: Tensor, mask: Tensor, n_pad: Tensor
) -> tuple[Tensor, Tensor]:
    """Mask left padding, and number positions from the first real token.

    positions: int64 [T]; mask: bool [T, S], the causal mask; n_pad: int64 [B].
    Returns positions [B, T] and mask [B, 1, T, S]. A padding token may see itself,
    because a softmax over nothing is NaN; nothing ever reads what comes of it.
    """
    keys = torch.arange(mask.shape[-1], device=mask.device)
    is_token = keys >= n_pad[:, None, None]  # [B, 1, S]
    is_itself = keys == positions[:, None]  # [T, S]
    shifted = (positions - n_pad[:, None]).clamp(min=0)
    return shifted, ((mask & is_token) | is_itself)[:, None]
