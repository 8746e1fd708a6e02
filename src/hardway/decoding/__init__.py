"""Decoding methods beyond one token at a time.

Constraints keep a text within what an expression or a schema allows; beam search looks
for the most probable text; speculation writes the same text in fewer passes.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hardway.decoding.beam import beam_search
    from hardway.decoding.constrained import JsonSchema, Regex
    from hardway.decoding.speculative import first_layers, speculative_generate

__all__ = [
    "JsonSchema",
    "Regex",
    "beam_search",
    "first_layers",
    "speculative_generate",
]

_DEFINED_IN = {
    "JsonSchema": "constrained",
    "Regex": "constrained",
    "beam_search": "beam",
    "first_layers": "speculative",
    "speculative_generate": "speculative",
}


def __getattr__(name: str) -> Any:
    """Import a module when what it defines is first asked for."""
    if name in _DEFINED_IN:
        return getattr(import_module(f"hardway.decoding.{_DEFINED_IN[name]}"), name)
    raise AttributeError(f"module 'hardway.decoding' has no attribute {name!r}")
