"""Decoding methods beyond one token at a time.

Constraints keep a text within what an expression or a schema allows.
"""

from hardway.decoding.constrained import JsonSchema, Regex

__all__ = ["JsonSchema", "Regex"]
