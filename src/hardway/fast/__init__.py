"""The same models and tokenizer in few, large steps; equal to the taught ones.

Everything here stands above the taught modules and overrides them: nothing they do
depends on it. `load` and `load_tokenizer` return the fast ones.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from hardway.checks import safe_repr
from hardway.loading import in_own_thread

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


@in_own_thread
def load(
    name_or_path: str | os.PathLike[str] = "pocket",
    dtype: "torch.dtype | None" = None,
    quantize: str | None = None,
    device: "torch.device | str" = "cpu",
) -> "FastGPT2 | FastLlama":
    """Load a known model, or one from a directory or a GGUF file, as its fast version.

    dtype: that of the weights; by default float32, or for a GGUF the file's own codes,
    which run on a CPU alone. quantize: ``"bfloat16"``, ``"int8"`` or ``"int4"`` packs
    the matrices for products that run on a CPU alone, too; a dtype of bfloat16 keeps
    them as tensors, whose numbers can be read and exported.
    Raises `ValueError` for it with a dtype, and what the ``from_pretrained`` of
    `hardway.model.GPT2` and of `hardway.llama.Llama` do.
    """
    import torch

    from hardway.config import model_type
    from hardway.fast.gpt2 import FastGPT2, QuantizedGPT2
    from hardway.fast.llama import FastLlama
    from hardway.fast.quantized_llama import QuantizedLlama
    from hardway.hub import weights
    from hardway.inputs import check_device
    from hardway.layout import is_gguf

    device = check_device(device)
    path = weights(name_or_path)
    is_llama = model_type(path) == "llama"
    if quantize is not None:
        _check_quantize(quantize, dtype, device.type)
        if is_llama:
            exact = FastLlama.from_pretrained(name_or_path)
            return QuantizedLlama.from_weights(exact.config, exact.weights, quantize)
        gpt2 = FastGPT2.from_pretrained(name_or_path)
        return QuantizedGPT2(gpt2.config, gpt2.weights, quantize)
    if is_gguf(path) and dtype is None and device.type == "cpu":
        return QuantizedLlama.from_gguf(path)
    family = FastLlama if is_llama else FastGPT2
    dtype = torch.float32 if dtype is None else dtype
    return family.from_pretrained(name_or_path, dtype, device)


def _check_quantize(quantize: object, dtype: object, device: str) -> None:
    """Raise `ValueError` for bits there are none of, a dtype, or another device."""
    from hardway.fast.packed import KINDS

    if quantize not in KINDS:
        raise ValueError(
            "quantize must be None, 'bfloat16', 'int8' or 'int4', "
            f"got {safe_repr(quantize)}"
        )
    if dtype is not None:
        raise ValueError(
            f"dtype must be None with quantize = {quantize!r}, got {safe_repr(dtype)}"
        )
    if device != "cpu":
        raise ValueError(
            f"device must be 'cpu' with quantize = {quantize!r}, got {device!r}"
        )


def load_tokenizer(
    name_or_path: str | os.PathLike[str] = "pocket",
) -> "FastTokenizer":
    """Load the tokenizer of a known model, or of a directory or a GGUF file.

    It is the fast version. Raises what `hardway.tokenizer.Tokenizer.from_pretrained`
    does.
    """
    from hardway.fast.tokenizer import FastTokenizer

    return FastTokenizer.from_pretrained(name_or_path)
