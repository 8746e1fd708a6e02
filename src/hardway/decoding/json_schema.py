"""Turn a JSON schema into an expression for the documents that it describes.

Documents are compact but for a space that may follow a comma or a colon, and have their
keys in the schema's order. Numbers have a bounded number of digits, so that a model
cannot write one forever.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from hardway.decoding.expressions import (
    EMPTY,
    Expression,
    either,
    literal,
    repeat,
    then,
)
from hardway.decoding.pattern import parse
from hardway.decoding.refusals import check_bounds, check_schema

# No control character, no bare quote or backslash, and no half of a surrogate pair.
CHARACTER = (
    r'[^\x00-\x1f"\\]|\\(?:["\\/bfnrt]|u(?:[0-9A-Ca-cE-Fe-f][0-9A-Fa-f]|[Dd][0-7])'
    r"[0-9A-Fa-f]{2})"
)
INTEGER = "-?(?:0|[1-9][0-9]{0,14})"
NUMBER = INTEGER + r"(?:\.[0-9]{1,15})?(?:[eE][+-]?[0-9]{1,2})?"


def document(schema: Any, name: str = "schema") -> Expression:
    """Match the documents that a schema describes.

    name: where in the whole schema this part is. Raises `ValueError` naming it, and the
    keyword or value that isn't supported.
    """
    check_schema(name, schema)
    if "enum" in schema:
        values = (json.dumps(value, ensure_ascii=False) for value in schema["enum"])
        return either(*map(literal, values))
    return DOCUMENTS[schema["type"]](schema, name)


def _string(schema: Mapping[str, Any], name: str) -> Expression:
    low, high = check_bounds(schema, name, "minLength", "maxLength")
    quote = literal('"')
    return then(quote, repeat(parse(CHARACTER), low, high), quote)


def _object(schema: Mapping[str, Any], name: str) -> Expression:
    """Match every property, in the schema's order."""
    parts = [
        then(literal(f"{json.dumps(key, ensure_ascii=False)}:"), parse(" ?"), value)
        for key, value in (
            (key, document(part, f"{name}['properties'][{key!r}]"))
            for key, part in schema["properties"].items()
        )
    ]
    return then(literal("{"), _separated(parts), literal("}"))


def _array(schema: Mapping[str, Any], name: str) -> Expression:
    low, high = check_bounds(schema, name, "minItems", "maxItems")
    item = document(schema["items"], f"{name}['items']")
    more = None if high is None else max(high - 1, 0)
    items = then(item, repeat(then(parse(", ?"), item), max(low - 1, 0), more))
    some = EMPTY if high == 0 else items if low else either(EMPTY, items)
    return then(literal("["), some, literal("]"))


def _separated(parts: list[Expression]) -> Expression:
    """Match the parts, with commas between them."""
    separated = [then(parse(", ?"), part) for part in parts[1:]]
    return then(*parts[:1], *separated)


DOCUMENTS: dict[str, Callable[[Mapping[str, Any], str], Expression]] = {
    "object": _object,
    "array": _array,
    "string": _string,
    "number": lambda schema, name: parse(NUMBER),
    "integer": lambda schema, name: parse(INTEGER),
    "boolean": lambda schema, name: parse("true|false"),
    "null": lambda schema, name: parse("null"),
}
