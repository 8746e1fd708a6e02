"""LLM inference the hard way: models from raw bytes to generated text.

    >>> import hardway
    >>> tokenizer = hardway.load_tokenizer("pocket")
    >>> tokenizer.encode("Hello")
    [15496]
    >>> model = hardway.load("pocket")
    >>> hardway.generate(model, tokenizer.encode("Once upon a"), 1)
    [640]

`load` and `load_tokenizer` return the fast versions, ``from_pretrained`` the ones that
the book teaches; the two agree. Importing the package is cheap: torch is imported by
the first name that needs it (PEP 562).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hardway import (
        attention,
        block,
        chat,
        checkpoint,
        checks,
        config,
        conversation,
        corpus,
        decoding,
        embeddings,
        evaluation,
        export,
        fast,
        generation,
        gguf,
        hub,
        inputs,
        kv_cache,
        layout,
        llama,
        miniature,
        model,
        parallel,
        quantization,
        questions,
        ranks,
        recipe,
        safetensors,
        sampling,
        serving,
        tokenizer,
        training,
        untrusted,
        untrusted_gguf,
        vocabulary,
    )
    from hardway import plots as plots
    from hardway.chat import Chat
    from hardway.config import Config
    from hardway.decoding import beam_search, speculative_generate
    from hardway.fast import load, load_tokenizer
    from hardway.generation import generate, generate_batch, stream, stream_text
    from hardway.kv_cache import KVCache
    from hardway.llama import Llama
    from hardway.model import GPT2
    from hardway.sampling import Sampler
    from hardway.tokenizer import Tokenizer

__version__ = "0.2.0"

__all__ = [
    "GPT2",
    "Chat",
    "Config",
    "KVCache",
    "Llama",
    "Sampler",
    "Tokenizer",
    "attention",
    "beam_search",
    "block",
    "chat",
    "checkpoint",
    "checks",
    "config",
    "conversation",
    "corpus",
    "decoding",
    "embeddings",
    "evaluation",
    "export",
    "fast",
    "generate",
    "generate_batch",
    "generation",
    "gguf",
    "hub",
    "inputs",
    "kv_cache",
    "layout",
    "llama",
    "load",
    "load_tokenizer",
    "miniature",
    "model",
    "parallel",
    "quantization",
    "questions",
    "ranks",
    "recipe",
    "safetensors",
    "sampling",
    "serving",
    "speculative_generate",
    "stream",
    "stream_text",
    "tokenizer",
    "training",
    "untrusted",
    "untrusted_gguf",
    "vocabulary",
]

_DEFINED_IN = {
    "GPT2": "model",
    "Chat": "chat",
    "Config": "config",
    "KVCache": "kv_cache",
    "Llama": "llama",
    "Sampler": "sampling",
    "Tokenizer": "tokenizer",
    "beam_search": "decoding",
    "generate": "generation",
    "generate_batch": "generation",
    "load": "fast",
    "load_tokenizer": "fast",
    "speculative_generate": "decoding",
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
