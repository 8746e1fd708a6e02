"""Check arguments before any work: each error names the argument, its value, its range.

Numbers may be Python's, numpy's or 0-d tensors; the checks return them as plain ``int``
and ``float``. `safe_repr` spells foreign values for messages.
"""

import math
import operator
from collections.abc import Collection, Iterable, Sequence
from reprlib import Repr
from typing import Any


def integer(
    name: str, value: Any, low: int = 0, high: int | None = None, note: str = ""
) -> int:
    """Return an integer from ``low`` to ``high``, both included.

    Raises `ValueError` for anything else, bool and float included. ``note`` says where
    a bound comes from, or what else is allowed.
    """
    try:
        found = None if is_bool(value) else operator.index(value)
    except (TypeError, ValueError, RuntimeError):
        found = None
    if found is None or found < low or (high is not None and found > high):
        top = f"of at least {low}" if high is None else f"from {low} to {high}"
        shown = safe_repr(value if found is None else found)
        raise ValueError(f"{name} must be an integer {top}{note}, got {shown}")
    return found


def number(
    name: str,
    value: Any,
    low: float,
    high: float = math.inf,
    *,
    above: bool = False,
    note: str = "",
) -> float:
    """Return a finite number of at least (or, with ``above``, above) ``low``.

    Raises `ValueError` for anything else, NaN and bool included. ``note`` says what
    else is allowed.
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
        raise ValueError(
            f"{name} must be a finite number {bottom}{top}{note}, "
            f"got {safe_repr(value)}"
        )
    return found


def is_bool(value: object) -> bool:
    """Return whether this is True or False, Python's, numpy's or a tensor."""
    return isinstance(value, bool) or str(getattr(value, "dtype", "")).endswith("bool")


def token_ids(name: str, ids: Iterable[Any], n_vocab: int) -> list[int]:
    """Return ids as a list of plain integers, each inside the vocabulary.

    An iterator is read once. Raises `ValueError` for text, for anything that holds no
    ids, and for the first id that is not in the vocabulary.
    """
    if isinstance(ids, str | bytes):
        raise ValueError(
            f"{name} must be token ids, got {safe_repr(ids)}: call tokenizer.encode"
        )
    shape = getattr(ids, "shape", ())  # of a tensor or an array
    if len(shape) > 1:
        raise ValueError(
            f"{name} must be one sequence of ids, got shape {[*shape]}: of a batch, "
            f"take {name}[0]"
        )
    if len(shape) == 1 and hasattr(ids, "tolist"):
        ids = ids.tolist()  # many times faster than one by one
    return [
        id
        if type(id) is int and 0 <= id < n_vocab  # the usual case, without a call
        else integer(f"each of {name}", id, 0, n_vocab - 1)
        for id in items(name, ids)
    ]


def items(name: str, values: Any) -> Iterable[Any]:
    """Return what can be iterated over; raise `ValueError` for what cannot."""
    try:
        found: Iterable[Any] = iter(values)
    except TypeError:
        problem = f"{name} must be a sequence, got {safe_repr(values)}"
        raise ValueError(problem) from None
    return found


def check_text(text: object, missing: bytes = b"") -> None:
    """Raise `ValueError` unless this is a str that UTF-8 can encode.

    It cannot encode a lone surrogate, half of a UTF-16 pair. missing: bytes that the
    text must not contain, because they have no token.
    """
    if not isinstance(text, str):
        raise ValueError(f"text must be a str, got {safe_repr(text)}")
    try:
        raw = text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(
            "text must not hold a lone surrogate, got "
            f"{text[error.start]!r} at position {error.start}"
        ) from None
    if missing and len(raw.translate(None, missing)) < len(raw):
        start = next(i for i, byte in enumerate(raw) if byte in missing)
        place = len(raw[:start].decode("utf-8", errors="ignore"))
        raise ValueError(
            "text must not contain a byte that has no token in this vocabulary, got "
            f"0x{raw[start]:02x} in {text[place]!a} at position {place}: remove that "
            "character"
        )


def not_empty(name: str, text: str) -> str:
    """Return a text; raise `ValueError` for one without a character."""
    check_text(text)
    if not text:
        raise ValueError(f"{name} must hold at least one character, got ''")
    return text


def special_tokens(allowed: Any, known: Collection[str]) -> set[str]:
    """Return the special tokens that a text may spell: ``"all"``, or some by name."""
    if allowed == "all":
        return set(known)
    wanted = [*items("allowed_special", allowed)]
    is_text = isinstance(allowed, str | bytes)
    if is_text or not all(
        isinstance(token, str) and token in known for token in wanted
    ):
        raise ValueError(
            f"allowed_special must be 'all' or some of {sorted(known)}, "
            f"got {safe_repr(wanted if not is_text else allowed)}"
        )
    return set(wanted)


def safe_repr(value: object) -> str:
    """Return a short repr of a foreign value, with control characters escaped.

    >>> safe_repr("a\\n\\u202eb"), safe_repr(list(range(99)))
    ("'a\\\\n\\\\u202eb'", '[0, 1, 2, 3, 4, 5, 6, 7, ...]')
    """
    spelling = Repr()  # which cuts before it spells
    spelling.maxstring, spelling.maxlist, spelling.maxlevel = 100, 8, 2
    spelling.maxother = 100
    return "".join(
        c if c.isprintable() else ascii(c)[1:-1] for c in spelling.repr(value)
    )


def some(names: Sequence[str]) -> str:
    """Format the first few of what may be many untrusted names."""
    rest = f" and {len(names) - 4:,} more" if len(names) > 4 else ""
    return ", ".join(map(safe_repr, names[:4])) + rest
