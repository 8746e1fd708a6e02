"""Read and check the sizes of a model: what ``config.json``, or a GGUF's header, says.

`Config` is GPT-2's and `LlamaConfig` Llama's.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from hardway import checks, layout, untrusted
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
SYNONYMS = {  # one function by several names
    "gelu_pytorch_tanh": "gelu_new",
    "gelu_python_tanh": "gelu_new",
    "gelu_fast": "gelu_new",
    "gelu_accurate": "gelu_new",
    "swish": "silu",
}
# The same for Llama: our name, Hugging Face's and, behind "llama.", that in a GGUF.
LLAMA_SIZES = (
    ("n_vocab", "vocab_size", "vocab_size"),
    ("n_ctx", "max_position_embeddings", "context_length"),
    ("n_embd", "hidden_size", "embedding_length"),
    ("n_head", "num_attention_heads", "attention.head_count"),
    ("n_kv_head", "num_key_value_heads", "attention.head_count_kv"),
    ("d_head", "head_dim", "attention.key_length"),
    ("n_layer", "num_hidden_layers", "block_count"),
    ("n_inner", "intermediate_size", "feed_forward_length"),
    ("rms_norm_eps", "rms_norm_eps", "attention.layer_norm_rms_epsilon"),
    ("rope_theta", "rope_theta", "rope.freq_base"),
)
LLAMA_ARITHMETIC = {
    "model_type": "llama",
    "hidden_act": "silu",
    "attention_bias": False,
    "mlp_bias": False,
    "partial_rotary_factor": 1.0,
    "rope_type": "default",
    "sliding_window": None,
    "quantization_config": None,
}
GGUF_ARITHMETIC = {
    "general.architecture": "llama",
    "llama.rope.scaling.type": "none",
    "llama.rope.scaling.factor": 1.0,
    "llama.rope.scale_linear": 1.0,  # the same in older files
    "llama.expert_count": 0,
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
            check_arithmetic(raw, ARITHMETIC, "GPT-2")
            epsilon = raw.get("layer_norm_epsilon", cls.layer_norm_epsilon)
            sizes = {name: _size(raw, name, spelled) for name, spelled in SIZES.items()}
            config = cls(**sizes, layer_norm_epsilon=epsilon)
            if raw.get("n_inner") not in (None, 4 * config.n_embd):
                raise ValueError(
                    f"n_inner must be 4 · n_embd = {4 * config.n_embd}, "
                    f"got {safe_repr(raw['n_inner'])}"
                )
        return config


@dataclass(frozen=True)
class LlamaConfig:
    """The sizes that make one Llama different from another.

    n_kv_head: heads with keys and values of their own; n_inner: the width of the MLP;
    tied: whether the output head is the embedding matrix again.
    """

    n_vocab: int
    n_ctx: int
    n_embd: int
    n_head: int
    n_kv_head: int
    d_head: int
    n_layer: int
    n_inner: int
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10000.0
    tied: bool = False

    def __post_init__(self) -> None:
        """Check the sizes, and that each key head serves equally many query heads."""
        for name in (
            "n_vocab", "n_ctx", "n_embd", "n_head", "n_kv_head", "d_head", "n_layer",
            "n_inner",
        ):  # fmt: skip
            high = MAX_LAYERS if name == "n_layer" else None
            size = checks.integer(name, getattr(self, name), 1, high)
            object.__setattr__(self, name, size)  # a plain int, whatever was given
        for name in ("rms_norm_eps", "rope_theta"):
            number = checks.number(name, getattr(self, name), 0, above=True)
            object.__setattr__(self, name, number)
        for name, value, divisor in (
            ("n_head", self.n_head, self.n_kv_head),  # equal groups
            ("d_head", self.d_head, 2),  # rotated in pairs
        ):
            if value % divisor:
                raise ValueError(f"{name} must be a multiple of {divisor}, got {value}")

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Self:
        """Read ``config.json`` of a LlamaForCausalLM in Hugging Face layout.

        Raises `ValueError` naming the file and what is missing, out of range, or not
        implemented here.
        """
        with untrusted.prefix_errors(path):
            raw = untrusted.read_json_object(Path(path))
            rope = raw.get("rope_parameters") or raw.get("rope_scaling") or {}
            if not isinstance(rope, dict):
                problem = f"rope_parameters must be an object, got {safe_repr(rope)}"
                raise ValueError(problem)
            kind = rope.get("rope_type", rope.get("type", "default"))
            raw = rope | raw | {"rope_type": kind}  # newer files nest what older do not
            check_arithmetic(raw, LLAMA_ARITHMETIC, "Llama")
            names = {ours: theirs for ours, theirs, _ in LLAMA_SIZES}
            return cls._from_names(raw, names, raw.get("tie_word_embeddings", False))

    @classmethod
    def from_gguf(cls, metadata: Mapping[str, Any], tied: bool) -> Self:
        """Take the sizes from a GGUF's metadata.

        Raises `ValueError` naming what is missing, out of range, or not implemented.
        """
        check_arithmetic(metadata, GGUF_ARITHMETIC, "Llama")
        names = {ours: f"llama.{theirs}" for ours, _, theirs in LLAMA_SIZES}
        tokens = metadata.get("tokenizer.ggml.tokens")
        counted = {"llama.vocab_size": len(tokens)} if isinstance(tokens, list) else {}
        config = cls._from_names(counted | dict(metadata), names, tied)
        rotated = {"llama.rope.dimension_count": config.d_head}
        check_arithmetic(metadata, rotated, "Llama")
        return config

    @classmethod
    def _from_names(
        cls, raw: Mapping[str, Any], names: Mapping[str, str], tied: Any
    ) -> Self:
        """Take the sizes by a file's names, with defaults for what it may omit."""
        found = {n: raw[spelled] for n, spelled in names.items() if spelled in raw}
        found = {name: value for name, value in found.items() if value is not None}
        for name in ("n_vocab", "n_ctx", "n_embd", "n_head", "n_layer", "n_inner"):
            if name not in found:
                raise ValueError(f"{names[name]} is missing")
        n_embd = checks.integer(names["n_embd"], found["n_embd"], 1)
        n_head = checks.integer(names["n_head"], found["n_head"], 1)
        if not isinstance(tied, bool):
            problem = f"tie_word_embeddings must be a bool, got {safe_repr(tied)}"
            raise ValueError(problem)
        derived = {"n_kv_head": n_head, "d_head": n_embd // n_head, "tied": tied}
        if "d_head" not in found and n_embd % n_head:
            label = names["n_embd"]
            problem = f"{label} must be a multiple of {n_head}, got {n_embd}"
            raise ValueError(problem)
        return cls(**(derived | found))


def model_type(weights: Path) -> str:
    """Return ``"gpt2"`` or ``"llama"``: which of the two a file of weights belongs to.

    A GGUF is a Llama's, or refused when it is loaded; ``config.json`` beside other
    weights says what they are, and a GPT-2's may leave it out. Raises `ValueError` for
    any other type.
    """
    if layout.is_gguf(weights):
        return "llama"
    path = layout.config_of(weights)
    with untrusted.prefix_errors(path):
        found = untrusted.read_json_object(path).get("model_type", "gpt2")
        if found not in ("gpt2", "llama"):
            raise ValueError(
                f"model_type must be 'gpt2' or 'llama', got {safe_repr(found)}: "
                "this model cannot be run here"
            )
    return str(found)


def check_arithmetic(
    raw: Mapping[str, Any], arithmetic: Mapping[str, Any], family: str
) -> None:
    """Raise `ValueError` for a variant of a model with different arithmetic."""
    for name, expected in arithmetic.items():
        found = raw.get(name, expected)
        if isinstance(found, str):
            found = SYNONYMS.get(found, found)
        if found != expected:
            raise ValueError(
                f"{name} must be {expected!r}, as {family} computes, "
                f"got {safe_repr(raw[name])}: this model cannot be run here"
            )


def _size(raw: Mapping[str, Any], name: str, spelled: str) -> Any:
    if spelled not in raw and name not in raw:
        raise ValueError(f"{spelled} is missing")
    return raw.get(spelled, raw.get(name))
