"""Check what untrusted files claim, before anything relies on it.

`hardway.safetensors` parses; this module checks the rules of the format. Each function
raises `ValueError` with the rule that a file breaks, and with the entry if there is
one; the caller adds the file's name.
"""

import json
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from hardway.checks import safe_repr

MAX_HEADER_BYTES = 100_000_000
MAX_DIGITS = 20  # of the largest number that 64 bits can hold
JSON_WHITESPACE = " \t\n\r"
SURROGATE = re.compile("[\ud800-\udfff]")  # half of a UTF-16 pair

# Bits per element of every dtype that safetensors knows.
DTYPE_BITS = {
    "F64": 64, "F32": 32, "F16": 16, "BF16": 16,
    "I64": 64, "I32": 32, "I16": 16, "I8": 8, "U8": 8, "BOOL": 8,
    "U64": 64, "U32": 32, "U16": 16, "C64": 64,
    "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4,
}  # fmt: skip


@contextmanager
def prefix_errors(
    what: str | os.PathLike[str], kind: type[ValueError] = ValueError
) -> Iterator[None]:
    """Prefix the message of any `ValueError` raised inside, for example with a path."""
    try:
        yield
    except ValueError as error:
        raise kind(f"{os.fspath(what)}: {error}") from error


def check_header_length(length: int, first: bytes, file_size: int) -> None:
    """Check the header length a file claims: it must fit in the file and in memory.

    first: the bytes that spell it, for the message.
    """
    if file_size < 8:
        problem = f"it is {file_size} bytes long"
        raise ValueError(f"{problem}; the header's length alone takes 8")
    if length > MAX_HEADER_BYTES:
        raise ValueError(
            f"it claims a header of {length:,} bytes; at most {MAX_HEADER_BYTES:,} are "
            f"allowed. It begins with {safe_repr(first)}: is it a web page, or a Git "
            "LFS pointer (then run git lfs pull)?"
        )
    if 8 + length > file_size:
        raise ValueError(
            f"it claims a header of {length:,} bytes after the first 8, but is "
            f"{file_size:,} bytes long: it is truncated, or not a safetensors file"
        )


def parse_strict_json(raw: bytes) -> dict[str, Any]:
    """Parse strictly: ``json`` accepts duplicate keys, NaN, -0; the format does not."""
    try:
        text = raw.decode("utf-8").lstrip(JSON_WHITESPACE)
        if not text.startswith("{"):
            raise ValueError("it does not begin with '{'")
        listing: dict[str, Any] = json.loads(
            text, object_pairs_hook=_unique, parse_int=_whole, parse_constant=_refuse
        )
    except RecursionError:
        raise ValueError("its header is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"its header is not strict JSON: {error}") from error
    return listing


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    listing: dict[str, Any] = {}
    for key, value in pairs:
        for item in (key, value):
            if isinstance(item, str) and (half := SURROGATE.search(item)):
                raise ValueError(f"it contains half a surrogate pair, {half[0]!a}")
        if key in listing:
            raise ValueError(f"the key {safe_repr(key)} appears twice")
        listing[key] = value
    return listing


def _whole(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(
            f"a size must have at most {MAX_DIGITS} digits, got {len(digits):,}"
        )
    if digits.startswith("-"):
        raise ValueError(f"the size {digits} is negative")
    return int(digits)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def check_listing(listing: Mapping[str, Any], data_size: int) -> None:
    """Check a parsed header: the metadata, each tensor's entry, and the layout."""
    spans = []
    for name, entry in listing.items():
        if name == "__metadata__":
            check_metadata(entry)
        else:
            check_tensor_entry(name, entry)
            spans.append((*entry["data_offsets"], name))
    check_layout(spans, data_size)


def check_metadata(found: Any) -> None:
    """Raise `ValueError` unless this is None or an object whose values are strings."""
    if found is not None and not isinstance(found, dict):
        raise ValueError("its __metadata__ is not an object")
    for key, value in (found or {}).items():
        if not isinstance(value, str):
            problem = f"for {safe_repr(key)} is not a string"
            raise ValueError(f"its __metadata__ value {problem}")


def check_tensor_entry(name: str, entry: Any) -> None:
    """Check one entry alone: its fields, its dtype, its bytes against its shape."""
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        fields = "the fields dtype, shape and data_offsets"
        tensor_error(name, f"its entry must have exactly {fields}")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPE_BITS:
        problem = "is not in the format (F32, F16, BF16, …)"
        tensor_error(name, f"its dtype {safe_repr(dtype)} {problem}")
    if not _are_sizes(shape):
        problem = "is not a list of whole numbers below 2^63"
        tensor_error(name, f"its shape {safe_repr(shape)} {problem}")
    if not _are_sizes(offsets) or len(offsets) != 2:
        problem = "are not two whole numbers below 2^63"
        tensor_error(name, f"its data_offsets {safe_repr(offsets)} {problem}")
    start, end = offsets
    if start > end:
        tensor_error(name, f"it starts at byte {start:,}, after its end at {end:,}")
    size = _size_in_bytes(name, dtype, shape)
    if size != end - start:
        problem = f"its shape {safe_repr(shape)} of {dtype} takes {size:,} bytes"
        tensor_error(name, f"{problem}, but its data_offsets span {end - start:,}")


def _are_sizes(values: Any) -> bool:
    """Return whether this is a list of whole numbers (not true, not 8.0) of 63 bits."""
    return isinstance(values, list) and all(
        type(v) is int and v < 2**63 for v in values
    )


def _size_in_bytes(name: str, dtype: str, shape: list[int]) -> int:
    """Multiply left to right, as a 64-bit program would, and refuse an overflow."""
    elements = 1
    for dimension in shape:
        elements *= dimension
        if elements >= 2**64:
            problem = "overflows 64 bits when multiplied from the left"
            tensor_error(name, f"its shape {safe_repr(shape)} {problem}")
    bits = elements * DTYPE_BITS[dtype]
    if bits >= 2**64:
        problem = f"of {dtype} has more bits than 64 bits can count"
        tensor_error(name, f"its shape {safe_repr(shape)} {problem}")
    if bits % 8:
        tensor_error(name, f"its {bits} bits do not fill whole bytes")
    return bits // 8


def check_layout(spans: Iterable[tuple[int, int, str]], data_size: int) -> None:
    """Check that tensors cover the data end to end: no gap, no overlap.

    spans: each tensor's start, end and name.
    """
    position = 0
    for start, end, name in sorted(spans):
        if start != position:
            overlaps = start < position
            problem = "overlaps the tensor before it" if overlaps else "leaves a gap"
            place = f"byte {start:,} of the data, not {position:,}"
            tensor_error(name, f"it starts at {place}: it {problem}")
        position = end
    if position != data_size:
        problem = "it is truncated" if position > data_size else "bytes are left over"
        raise ValueError(
            f"its tensors take {position:,} bytes, but {data_size:,} follow the "
            f"header: {problem}"
        )


def check_loadable(
    name: str, dtype: str, shape: Sequence[int], known: Collection[str]
) -> None:
    """Raise `ValueError` for a valid tensor that torch cannot represent."""
    if dtype not in known:
        problem = f"its dtype {dtype} is valid but not supported here"
        tensor_error(name, f"{problem}; convert it to F32")
    width = 1
    for dimension in shape:  # torch counts even an empty tensor's strides in 63 bits
        width *= max(dimension, 1)
        if width >= 2**63:
            problem = f"its shape {safe_repr(list(shape))} is empty but too wide"
            tensor_error(name, f"{problem} to index")


def check_savable(name: str, dtype: object, known: Collection[object]) -> None:
    """Raise `ValueError` for a tensor that the file format has no place for."""
    if name == "__metadata__":
        raise ValueError("a tensor must not be called __metadata__: rename it")
    if dtype not in known:
        tensor_error(name, f"its dtype {dtype} cannot be written; convert it first")


def check_read(name: str, n_read: int, n_bytes: int) -> None:
    """Raise `ValueError` if the file ended before the tensor did."""
    if n_read != n_bytes:
        tensor_error(name, "the file ended while its bytes were being read")


def tensor_error(tensor: str, problem: str) -> NoReturn:
    """Raise `ValueError` naming the tensor."""
    raise ValueError(f"tensor {safe_repr(tensor)}: {problem}")


def read_json_object(path: Path) -> dict[str, Any]:
    """Read a JSON object in UTF-8."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except ValueError as error:
        raise ValueError(f"it is not JSON in UTF-8: {error}") from error
    if not isinstance(found, dict):
        raise ValueError("it is not a JSON object")
    return found
