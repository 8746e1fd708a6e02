"""The same models and tokenizer in few, large steps; equal to the taught ones.

Everything here stands above the taught modules and overrides them: nothing they do
depends on it. `load` and `load_tokenizer` return the fast ones.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from hardway.fast.gpt2 import FastGPT2
    from hardway.fast.llama import FastLlama
    from hardway.fast.tokenizer import FastTokenizer

__all__ = ["FastGPT2", "FastLlama", "FastTokenizer", "load", "load_tokenizer"]

_DEFINED_IN = {"FastGPT2": "gpt2", "FastLlama": "llama", "FastTokenizer": "tokenizer"}


def __getattr__(name: str) -> Any:
    """Import a class when it is first asked for, and torch only with the model's."""
    if name in _DEFINED_IN:
        return getattr(import_module(f"hardway.fast.{_DEFINED_IN[name]}"), name)
    raise AttributeError(f"module 'hardway.fast' has no attribute {name!r}")


def load(
    name_or_path: str | os.PathLike[str] = "pocket",
    dtype: "torch.dtype | None" = None,
    quantize: None = None,
    device: "torch.device | str" = "cpu",
) -> "FastGPT2 | FastLlama":
    """Load a known model, or one from a directory or a GGUF file, as its fast version.

    dtype: that of the weights, float32 by default. ``quantize`` may only be None so
    far. Raises what the ``from_pretrained`` of `hardway.model.GPT2` and of
    `hardway.llama.Llama` do.
    """
    import torch

    from hardway.config import model_type
    from hardway.fast.gpt2 import FastGPT2
    from hardway.fast.llama import FastLlama
    from hardway.hub import weights

    if quantize is not None:
        raise ValueError(f"quantize must be None, got {quantize!r}")
    dtype = torch.float32 if dtype is None else dtype
    is_llama = model_type(weights(name_or_path)) == "llama"
    family = FastLlama if is_llama else FastGPT2
    return family.from_pretrained(name_or_path, dtype, device)


def load_tokenizer(
    name_or_path: str | os.PathLike[str] = "pocket",
) -> "FastTokenizer":
    """Load the tokenizer of a known model, or of a directory, as its fast version.

    Raises what `hardway.tokenizer.Tokenizer.from_pretrained` does.
    """
    from hardway.fast.tokenizer import FastTokenizer

    return FastTokenizer.from_pretrained(name_or_path)
