"""LLM inference the hard way: GPT-2 from raw bytes to generated text.

Every module is one chapter of the book, and a chapter shows every line of its module:

    >>> import hardway
    >>> tokenizer = hardway.Tokenizer.from_pretrained("pocket")
    >>> tokenizer.encode("Hello")
    [15496]

Importing the package is cheap: torch is imported by the first name that needs it (PEP
562).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hardway import (
        attention,
        block,
        embeddings,
        generation,
        hub,
        kv_cache,
        miniature,
        model,
        safetensors,
        tokenizer,
    )
    from hardway import plots as plots
    from hardway.generation import generate, generate_batch, stream, stream_text
    from hardway.kv_cache import KVCache
    from hardway.model import GPT2, Config
    from hardway.tokenizer import Tokenizer

__version__ = "0.1.0"

__all__ = [
    "GPT2",
    "Config",
    "KVCache",
    "Tokenizer",
    "attention",
    "block",
    "embeddings",
    "generate",
    "generate_batch",
    "generation",
    "hub",
    "kv_cache",
    "miniature",
    "model",
    "safetensors",
    "stream",
    "stream_text",
    "tokenizer",
]

_DEFINED_IN = {
    "GPT2": "model",
    "Config": "model",
    "KVCache": "kv_cache",
    "Tokenizer": "tokenizer",
    "generate": "generation",
    "generate_batch": "generation",
    "stream": "generation",
    "stream_text": "generation",
}


def __getattr__(name: str) -> Any:
    """Import a module, or what defines a name, when it is first asked for."""
    if name in _DEFINED_IN:
        return getattr(import_module(f"hardway.{_DEFINED_IN[name]}"), name)
    if name in __all__ or name == "plots":  # which needs matplotlib, so `*` omits it
        return import_module(f"hardway.{name}")
    raise AttributeError(f"module 'hardway' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
