"""Check arguments before any work: each error names the argument, its value, its range.

Numbers may be Python's, numpy's or 0-d tensors; the checks return them as plain ``int``
and ``float``. `safe_repr` spells foreign values for messages.
"""

import math
import operator
from collections.abc import Callable, Collection, Iterable, Sequence
from reprlib import Repr
from typing import Any


def integer(
    name: str,
    value: Any,
    low: int = 0,
    high: int | None = None,
    note: str = "",
    prefix: str = "",
) -> int:
    """Return an integer from ``low`` to ``high``, both included.

    Raises `ValueError` for anything else, bool and float included. ``note`` says where
    a bound comes from, ``prefix`` what else is allowed.
    """
    try:
        number = None if is_bool(value) else operator.index(value)
    except (TypeError, ValueError, RuntimeError):
        number = None
    if number is None or number < low or (high is not None and number > high):
        top = f"of at least {low}" if high is None else f"from {low} to {high}"
        shown = safe_repr(value if number is None else number)
        raise ValueError(f"{name} must be {prefix}an integer {top}{note}, got {shown}")
    return number


def number(
    name: str,
    value: Any,
    low: float,
    high: float = math.inf,
    *,
    above: bool = False,
    prefix: str = "",
) -> float:
    """Return a finite number of at least (or, with ``above``, above) ``low``.

    Raises `ValueError` for anything else, NaN and bool included.
    """
    try:
        no_number = is_bool(value) or isinstance(value, str | bytes)
        found = math.nan if no_number else float(value)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        found = math.nan
    inside = low < found if above else low <= found
    if not (inside and found <= high and math.isfinite(found)):
        bottom = f"above {low:g}" if above else f"of at least {low:g}"
        top = "" if math.isinf(high) else f" and at most {high:g}"
        allowed = f"{prefix}a finite number {bottom}{top}"
        raise ValueError(f"{name} must be {allowed}, got {safe_repr(value)}")
    return found


def optional(
    check: Callable[..., Any], name: str, value: Any, *range: float, **bounds: bool
) -> Any:
    """Return None as it is, and anything else as ``check`` does."""
    if value is None:
        return None
    return check(name, value, *range, prefix="None or ", **bounds)


def is_bool(value: object) -> bool:
    """Say whether this is True or False, Python's, numpy's or a tensor."""
    return isinstance(value, bool) or str(getattr(value, "dtype", "")).endswith("bool")


def ids(name: str, ids: Iterable[Any], n_vocab: int) -> list[int]:
    """Return ids as a list of plain integers, each inside the vocabulary.

    An iterator is read once. Raises `ValueError` naming the first id that is not.
    """
    return [integer(f"each of {name}", id, 0, n_vocab - 1) for id in ids]


def text(text: str) -> None:
    """Refuse a lone surrogate (half of a UTF-16 pair), which no UTF-8 spells."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(
            "text must not hold a lone surrogate, got "
            f"{text[error.start]!r} at position {error.start}"
        ) from None


def special_tokens(allowed: Collection[str], known: Collection[str]) -> set[str]:
    """Return the special tokens that a text may spell: ``"all"``, or some by name."""
    if allowed == "all":
        return set(known)
    if isinstance(allowed, str) or not set(allowed) <= set(known):
        raise ValueError(
            f"allowed_special must be 'all' or some of {sorted(known)}, "
            f"got {safe_repr(allowed)}"
        )
    return set(allowed)


def safe_repr(value: object) -> str:
    """Spell a foreign value for a message: short, and nothing in it that acts.

    Line ends, what moves a cursor, and what turns the order of writing are escaped.

    >>> safe_repr("a\\n\\u202eb"), safe_repr(list(range(99)))
    ("'a\\\\n\\\\u202eb'", '[0, 1, 2, 3, 4, 5, 6, 7, ...]')
    """
    spelling = Repr()  # which cuts before it spells, and escapes as repr does
    spelling.maxstring, spelling.maxlist, spelling.maxlevel = 100, 8, 2
    spelling.maxother = 100
    return spelling.repr(value)


def some(names: Sequence[str]) -> str:
    """Name the first few of what may be many, spelled by a stranger."""
    rest = f" and {len(names) - 4:,} more" if len(names) > 4 else ""
    return ", ".join(map(safe_repr, names[:4])) + rest
