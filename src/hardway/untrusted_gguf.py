"""Check what GGUF files from strangers say, before anything relies on it.

`hardway.gguf` parses; this module says which rules of the format a file breaks. Each
function raises `ValueError` with the rule, and with the entry where there is one; the
caller adds the file's name.
"""

import math
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BufferedReader
from typing import Any

from hardway.checks import safe_repr
from hardway.untrusted import MAX_HEADER_BYTES, prefix_errors, tensor_error

VERSIONS = (2, 3)  # laid out alike; version 3 only allows big-endian files, too
MAX_NAME_BYTES = 65_535
MAX_RANK = 4
MAX_DEPTH = 4  # of arrays inside arrays
MAX_ALIGNMENT = 65_536  # the largest page of memory that machines use
MIN_KEY_BYTES = 13  # a name's length, a type, and a value of one byte
MIN_TENSOR_BYTES = 24  # a name's length, a rank of 0, a type, and an offset
# What a value of each type takes at least: a text its length, an array type and length.
VALUE_BYTES = {
    0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 8: 8, 9: 12, 10: 8, 11: 8, 12: 8,
}  # fmt: skip
BOOL = 7

# Every tensor type that the format knows: its name, values and bytes per block.
TYPES = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22), 7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 9: ("Q8_1", 32, 40),
    10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110), 12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74), 18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50), 20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82), 23: ("IQ4_XS", 256, 136), 24: ("I8", 1, 1),
    25: ("I16", 1, 2), 26: ("I32", 1, 4), 27: ("I64", 1, 8), 28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56), 30: ("BF16", 1, 2), 34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66), 39: ("MXFP4", 32, 17), 40: ("NVFP4", 64, 36),
    41: ("Q1_0", 128, 18),
}  # fmt: skip


class BoundedFile:
    """A file's header, read from its start; no read can pass the file's end.

    A length that a file states can be anything up to 2^64. Compare it with what's left
    before memory is allocated, or a loop is entered, for it.
    """

    def __init__(self, file: BufferedReader) -> None:
        self.file = file
        self.size = os.fstat(file.fileno()).st_size
        self.position = 0

    def read(self, n_bytes: int) -> bytes:
        """Read exactly so many bytes, or raise `ValueError`."""
        end = self.position + n_bytes
        if end > self.size:
            raise ValueError(
                f"the file is {self.size:,} bytes long, too short for {n_bytes:,} at "
                f"byte {self.position:,}: it is cut off, or not a GGUF file"
            )
        if end > MAX_HEADER_BYTES:
            raise ValueError(
                f"the header takes more than the {MAX_HEADER_BYTES:,} bytes allowed"
            )
        raw = self.file.read(n_bytes)
        if len(raw) != n_bytes:
            raise ValueError("the file ended while its header was being read")
        self.position = end
        return raw

    def check_count(self, what: str, count: int, min_bytes: int) -> None:
        """Check that so many of something, of so many bytes at least, can follow."""
        left = self.size - self.position
        if count > left // min_bytes:
            raise ValueError(
                f"it claims {count:,} {what}, of at least {min_bytes} bytes each, but "
                f"{left:,} bytes follow"
            )


def check_preamble(magic: bytes, version: int) -> None:
    """Check what tells a GGUF file from another: its first four bytes, its version."""
    if magic != b"GGUF":
        raise ValueError(
            f"it begins with {safe_repr(magic)}, not b'GGUF': is it a web page, a Git "
            "LFS pointer (then run git lfs pull), or weights in another format?"
        )
    if int.from_bytes(version.to_bytes(4, "little"), "big") in VERSIONS:
        raise ValueError("it is big-endian; convert it to little-endian")
    if version not in VERSIONS:
        raise ValueError(
            f"its version is {version}; versions 2 and 3 can be read: convert the "
            "model again with a newer tool"
        )


@contextmanager
def entry(kind: str, name: str, seen: Collection[str]) -> Iterator[None]:
    """Prefix errors with an entry's name, which must be new and not too long.

    kind: ``"key"`` or ``"tensor"``.
    """
    with prefix_errors(f"{kind} {safe_repr(name)}"):
        if name in seen:
            raise ValueError("it appears twice")
        if len(name.encode()) > MAX_NAME_BYTES:
            raise ValueError(f"its name takes more than {MAX_NAME_BYTES:,} bytes")
        yield


def parse_utf8(raw: bytes) -> str:
    """Decode a text strictly."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        problem = f"{safe_repr(raw)} is not UTF-8 at byte {error.start:,}"
        raise ValueError(f"its text {problem}") from None


def check_values(file: BoundedFile, kind: int, count: int, depth: int) -> None:
    """Check that values of a known type can follow, nested within reason."""
    if kind not in VALUE_BYTES:
        known = f"one the format knows (0 to {max(VALUE_BYTES)})"
        raise ValueError(f"its value's type {kind} is not {known}")
    if depth > MAX_DEPTH:
        raise ValueError(f"its arrays nest more than {MAX_DEPTH} deep")
    file.check_count("values", count, VALUE_BYTES[kind])


def parse_numbers(kind: int, numbers: Sequence[Any]) -> list[Any]:
    """Return numbers of which none is NaN; a boolean's must be 0 or 1."""
    if any(number != number for number in numbers):
        raise ValueError("it is NaN, or holds one")
    if kind == BOOL:
        if strange := [number for number in numbers if number > 1]:
            raise ValueError(f"its boolean is {strange[0]}, neither 0 nor 1")
        return [*map(bool, numbers)]
    return [*numbers]


def tensor_type(number: int) -> tuple[str, int, int]:
    """Return a tensor type's name, values and bytes per block; 0 bytes if unknown."""
    return TYPES.get(number, (f"type {number}", 1, 0))


def check_rank(rank: int) -> None:
    """Check a rank before so many dimensions are read."""
    if rank > MAX_RANK:
        raise ValueError(f"its rank is {rank:,}; at most {MAX_RANK} are allowed")


def check_dimensions(kind: str, dimensions: Sequence[int], n_values: int) -> None:
    """Check a tensor's sizes, the row's first: whole blocks, countable in 63 bits."""
    shape = f"its shape {safe_repr([*reversed(dimensions)])}"
    if 0 in dimensions:
        raise ValueError(f"{shape} holds nothing; every dimension must be at least 1")
    if math.prod(dimensions) >= 2**63:
        raise ValueError(f"{shape} has more elements than 63 bits can count")
    row = dimensions[0] if dimensions else 1
    if row % n_values:
        problem = f"has rows of {row:,} values, but {kind} stores blocks of {n_values}"
        raise ValueError(f"{shape} {problem}")


def alignment_of(metadata: Mapping[str, Any]) -> int:
    """Return what every tensor's offset is a multiple of; the file may say."""
    found = metadata.get("general.alignment", 32)
    if (
        type(found) is not int
        or not 1 <= found <= MAX_ALIGNMENT
        or found.bit_count() != 1
    ):
        raise ValueError(
            "key 'general.alignment': it must be a power of two, at most "
            f"{MAX_ALIGNMENT:,}, got {safe_repr(found)}"
        )
    return found


def check_layout(
    spans: Iterable[tuple[int, int, str]],
    data_start: int,
    alignment: int,
    file_size: int,
) -> None:
    """Check that tensors cover the data end to end, each padded to the alignment.

    spans: each tensor's start, end and name. A tensor of unknown size ends where it
    starts; how much follows it cannot be checked. After the last tensor there may be
    padding, but not as much as another tensor would be moved by.
    """
    position, sized = data_start, True
    for start, end, name in sorted(spans):
        padded = -(-position // alignment) * alignment
        place = f"it starts at byte {start:,}"
        if start % alignment:
            tensor_error(name, f"{place}, not at a multiple of {alignment:,}")
        if start < padded:
            tensor_error(name, f"{place}: it overlaps the tensor before it")
        if start > padded and sized:
            tensor_error(name, f"{place}, not {padded:,}: it leaves a hole")
        if end > file_size or start > file_size:
            problem = f"it takes bytes {start:,} to {end:,}, but the file ends at"
            tensor_error(name, f"{problem} {file_size:,}: the file is cut off")
        position, sized = end, start < end
    if sized and file_size - position >= alignment:
        raise ValueError(
            f"its tensors end at byte {position:,}, but it goes on to {file_size:,}: "
            "more than padding follows them"
        )


def check_kind(kind: str, known: Collection[str]) -> None:
    """Raise `ValueError` for a tensor type that cannot be dequantized here."""
    if kind not in known:
        raise ValueError(
            f"{kind} cannot be dequantized here, only {', '.join(known)}; "
            "convert the model to one of these"
        )


def check_kinds(kinds: Mapping[str, str], known: Collection[str]) -> None:
    """Check every tensor's type, before any of them is read."""
    for name, kind in kinds.items():
        with prefix_errors(f"tensor {safe_repr(name)}"):
            check_kind(kind, known)


def check_read(n_read: int, n_bytes: int) -> None:
    """Raise `ValueError` where the file ended before the tensor did."""
    if n_read != n_bytes:
        raise ValueError("the file ended while a tensor's bytes were being read")
