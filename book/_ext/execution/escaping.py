"""Escape control characters and the marks of writing direction; neither can be seen."""

import re

ACTING = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)


def escaped(text: str) -> str:
    """Spell them out: a right-to-left override becomes ``\\u202e``."""
    return ACTING.sub(lambda found: ascii(found[0])[1:-1], text)
