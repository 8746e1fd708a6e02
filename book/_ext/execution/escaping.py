"""Escape control characters and bidirectional marks, which are invisible."""

import re

ACTING = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)


def escaped(text: str) -> str:
    """Replace them by escapes: a right-to-left override becomes ``\\u202e``."""
    return ACTING.sub(lambda found: ascii(found[0])[1:-1], text)
