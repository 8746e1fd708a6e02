"""Check patterns and schemas, and refuse by name what isn't supported."""

import json
import re
from collections.abc import Collection, Mapping
from typing import Any

from hardway.checks import check_text, integer, safe_repr

MAX_PATTERN = 4_000  # characters
MAX_SCHEMA = 10_000  # characters, as compact JSON
MAX_DEPTH = 30
ANNOTATIONS = {
    "title", "description", "default", "examples", "deprecated", "readOnly",
    "writeOnly", "$schema", "$id", "$comment",
}  # fmt: skip
KEYWORDS: dict[str, set[str]] = {
    "object": {"properties", "required", "additionalProperties"},
    "array": {"items", "minItems", "maxItems"},
    "string": {"minLength", "maxLength"},
    "number": set(),
    "integer": set(),
    "boolean": set(),
    "null": set(),
}


def unsupported(name: str, what: str) -> ValueError:
    """Return the error for a construct that isn't supported."""
    return ValueError(
        f"{name} must describe a set of texts, without lookaround, references, flags "
        f"or inner anchors, got {safe_repr(what)}"
    )


def check_pattern(pattern: Any) -> str:
    """Return a pattern that Python's ``re`` compiles, without special groups."""
    if not isinstance(pattern, str) or len(pattern) > MAX_PATTERN:
        raise ValueError(
            f"pattern must be a str of at most {MAX_PATTERN:,} characters, "
            f"got {safe_repr(pattern)}"
        )
    try:
        pattern.encode()
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError, UnicodeEncodeError) as error:
        raise ValueError(
            f"pattern must be a regular expression, got {safe_repr(pattern)}: {error}"
        ) from None
    return pattern


def check_size(schema: Any) -> None:
    """Check that a schema is JSON, and neither too long nor nested too deeply."""
    try:
        size = len(json.dumps(schema, separators=(",", ":"), ensure_ascii=False))
        level, depth = [schema], 0
        while level := [part for value in level for part in _parts(value)]:
            depth += 1
    except (TypeError, ValueError, RecursionError):
        raise ValueError(f"schema must be JSON, got {safe_repr(schema)}") from None
    if size > MAX_SCHEMA or depth > 2 * MAX_DEPTH + 1:
        raise ValueError(
            f"schema must have at most {MAX_SCHEMA:,} characters and {MAX_DEPTH} "
            f"levels, got {size:,} and {depth // 2}"
        )


def _parts(value: Any) -> list[Any]:
    """Return what a list or dict holds; nothing else holds anything."""
    if isinstance(value, dict):
        return [*value.values()]
    return value if isinstance(value, list) else []


def check_schema(name: str, schema: Any) -> None:
    """Check that each keyword of a schema is one that is supported for its type.

    name: where in the whole schema it is. Raises `ValueError` naming it and the
    keyword; what only describes, such as a title, is ignored.
    """
    if not isinstance(schema, dict):
        raise ValueError(f"{name} must be a dict, got {safe_repr(schema)}")
    kind = schema.get("type")
    known: Collection[str] = {"enum"}
    if "enum" not in schema:
        if not isinstance(kind, str) or kind not in KEYWORDS:
            raise ValueError(
                f"{name}['type'] must be one of {', '.join(KEYWORDS)}, "
                f"got {safe_repr(kind)}"
            )
        known = KEYWORDS[kind]
    for keyword in schema:
        if keyword not in {"type", *known, *ANNOTATIONS}:
            raise ValueError(
                f"{name} must use supported keywords only ({', '.join(sorted(known))} "
                f"beside type), got {safe_repr(keyword)}"
            )
    if "enum" in schema:
        _check_enum(name, schema)
    elif kind == "object":
        _check_object(name, schema)
    elif kind == "array" and not {"items", "maxItems"} <= schema.keys():
        raise ValueError(f"{name} must have items and maxItems, got an open array")


def _check_enum(name: str, schema: dict[str, Any]) -> None:
    """Check that a schema lists scalars, each of its type if it has one."""
    kinds = {str: "string", bool: "boolean", int: "integer", float: "number"}
    kind, values = schema.get("type"), schema["enum"]
    if not isinstance(values, list) or not values:
        raise ValueError(f"{name}['enum'] must be a list, got {safe_repr(values)}")
    for value in values:
        found = "null" if value is None else kinds.get(type(value))
        fits = kind in (None, found) or (kind, found) == ("number", "integer")
        is_finite = value == value and value not in (float("inf"), -float("inf"))
        if found is None or not fits or not is_finite:
            raise ValueError(
                f"{name}['enum'] must hold finite scalars of the schema's type, "
                f"got {safe_repr(value)}"
            )
        if isinstance(value, str):
            check_text(value)


def _check_object(name: str, schema: dict[str, Any]) -> None:
    """Check that an object has properties, and requires no other."""
    properties = schema.get("properties")
    if not isinstance(properties, dict):
        raise ValueError(
            f"{name}['properties'] must be a dict, got {safe_repr(properties)}"
        )
    for key in properties:
        check_text(key)
    required = schema.get("required", [])
    if not isinstance(required, list) or not all(key in properties for key in required):
        raise ValueError(
            f"{name}['required'] must list keys of properties, got "
            f"{safe_repr(required)}"
        )


def check_bounds(
    schema: Mapping[str, Any], name: str, low: str, high: str
) -> tuple[int, int | None]:
    """Return the two bounds of a length, where the second may be missing."""
    least = integer(f"{name}[{low!r}]", schema.get(low, 0))
    if high not in schema:
        return least, None
    return least, integer(f"{name}[{high!r}]", schema[high], least)


def check_matches(is_empty: bool) -> None:
    """Raise `ValueError` for a constraint that no text of the vocabulary fulfills."""
    if is_empty:
        raise ValueError(
            "the constraint must match at least one text that the tokenizer can spell"
        )


def check_spelled(id: int, is_live: bool) -> None:
    """Raise `ValueError` for an id that the constraint did not allow."""
    if not is_live:
        raise ValueError(f"new_ids must hold what the constraint allowed, got {id}")
