"""Read and check the sizes of a model: what ``config.json`` says."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from hardway import checks, untrusted
from hardway.checks import safe_repr

MAX_LAYERS = 1000  # ten times those of any GPT: a damaged number would fill the memory
SIZES = {  # ours, and Hugging Face's name where it has another
    "n_vocab": "vocab_size",
    "n_ctx": "n_positions",
    "n_embd": "n_embd",
    "n_head": "n_head",
    "n_layer": "n_layer",
}
# Switches of later GPT-2 variants that change the arithmetic; the book's GPT-2 has none
# of them.
ARITHMETIC = {
    "activation_function": "gelu_new",
    "add_cross_attention": False,
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "tie_word_embeddings": True,
}


@dataclass(frozen=True)
class Config:
    """The sizes that make one GPT-2 different from another."""

    n_vocab: int
    n_ctx: int
    n_embd: int
    n_head: int
    n_layer: int
    layer_norm_epsilon: float = 1e-5

    def __post_init__(self) -> None:
        """Check the sizes, and that the heads divide ``n_embd`` evenly."""
        for name, spelled in SIZES.items():
            label = name if name == spelled else f"{name} ({spelled})"
            high = MAX_LAYERS if name == "n_layer" else None
            size = checks.integer(label, getattr(self, name), 1, high)
            object.__setattr__(self, name, size)  # a plain int, whatever was given
        if self.n_embd % self.n_head:
            n_embd, n_head = safe_repr(self.n_embd), safe_repr(self.n_head)
            raise ValueError(
                f"n_embd must be a multiple of n_head = {n_head}, got {n_embd}"
            )
        epsilon = self.layer_norm_epsilon
        epsilon = checks.number("layer_norm_epsilon", epsilon, 0, above=True)
        object.__setattr__(self, "layer_norm_epsilon", epsilon)

    @property
    def d_head(self) -> int:
        """The length of one head's queries, keys and values."""
        return self.n_embd // self.n_head

    @property
    def n_kv_head(self) -> int:
        """The number of heads with keys and values of their own: in GPT-2, all."""
        return self.n_head

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Self:
        """Read ``config.json``, with Hugging Face's names or GPT-2's own.

        Raises `ValueError` naming the file and what is missing, out of range, or not
        GPT-2.
        """
        with untrusted.prefix_errors(path):
            raw = untrusted.read_json_object(Path(path))
            check_arithmetic(raw)
            epsilon = raw.get("layer_norm_epsilon", cls.layer_norm_epsilon)
            sizes = {name: _size(raw, name, spelled) for name, spelled in SIZES.items()}
            config = cls(**sizes, layer_norm_epsilon=epsilon)
            if raw.get("n_inner") not in (None, 4 * config.n_embd):
                raise ValueError(
                    f"n_inner must be 4 · n_embd = {4 * config.n_embd}, "
                    f"got {safe_repr(raw['n_inner'])}"
                )
        return config


def check_arithmetic(raw: Mapping[str, Any]) -> None:
    """Raise `ValueError` for a GPT-2 variant with different arithmetic."""
    for name, expected in ARITHMETIC.items():
        if raw.get(name, expected) != expected:
            raise ValueError(
                f"{name} must be {expected!r}, as GPT-2 computes, "
                f"got {safe_repr(raw[name])}: this model cannot be run here"
            )


def _size(raw: Mapping[str, Any], name: str, spelled: str) -> Any:
    if spelled not in raw and name not in raw:
        raise ValueError(f"{spelled} is missing")
    return raw.get(spelled, raw.get(name))
