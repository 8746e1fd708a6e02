"""Many requests at once: a paged KV cache, continuous batching, and a server."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hardway.serving.engine import Engine
    from hardway.serving.request import Request

__all__ = ["Engine", "Request"]

_DEFINED_IN = {"Engine": "engine", "Request": "request"}


def __getattr__(name: str) -> Any:
    """Import a class when it is first asked for, and torch with it."""
    if name in _DEFINED_IN:
        return getattr(import_module(f"hardway.serving.{_DEFINED_IN[name]}"), name)
    raise AttributeError(f"module 'hardway.serving' has no attribute {name!r}")
