"""Read a safetensors file by hand (chapter 1).

A file is three things in a row: eight bytes that give the header's length, a JSON
header that says where each tensor lies, and the tensors' bytes. Format:
https://github.com/huggingface/safetensors
"""

import json
import os
import re
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from reprlib import Repr
from typing import Any, NoReturn

import torch
from torch import Tensor

MAX_HEADER_BYTES = 100_000_000
MAX_DIGITS = 20  # of the largest number that 64 bits can hold
JSON_WHITESPACE = " \t\n\r"
SURROGATE = re.compile("[\ud800-\udfff]")  # half of a UTF-16 pair, which is not text

# Bits per element of every dtype the format knows, and the torch dtype of those we can
# load.
DTYPE_BITS = {
    "F64": 64, "F32": 32, "F16": 16, "BF16": 16,
    "I64": 64, "I32": 32, "I16": 16, "I8": 8, "U8": 8, "BOOL": 8,
    "U64": 64, "U32": 32, "U16": 16, "C64": 64,
    "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4,
}  # fmt: skip
TORCH_DTYPES = {
    "F64": torch.float64, "F32": torch.float32,
    "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8,
    "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip


class SafetensorsError(ValueError):
    """A file breaks a rule of the format.

    The message names the file, the tensor and the rule. Chapter 1.
    """


@dataclass(frozen=True)
class TensorInfo:
    """Where one tensor lies: from ``start`` to ``end`` in the data. Chapter 1."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True)
class Header:
    """A table of contents; the data starts at byte ``data_start``. Chapter 1."""

    tensors: dict[str, TensorInfo]
    metadata: dict[str, str]
    data_start: int


def read_header(path: str | os.PathLike[str]) -> Header:
    """Read and check the header of the file at ``path``.

    The tensors' own bytes stay unread. Returns the tensors in the order of the listing.
    It takes time and memory in proportion to the header, whatever that says. Raises
    `SafetensorsError` for a file that breaks the format, `OSError` for one that cannot
    be read. Chapter 1.
    """
    with open(path, "rb") as file:
        return _read_header(file, Path(path))


def load_file(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Read every tensor of the file at ``path`` into memory of its own, in file order.

    Raises `SafetensorsError` for a file that breaks the format or holds a dtype that
    torch arithmetic here does not use (8-bit floats and the like), `OSError` for one
    that cannot be read. Chapter 1.
    """
    path = Path(path)
    with open(path, "rb") as file:
        header = _read_header(file, path)
        file.seek(header.data_start)
        in_file_order = sorted(header.tensors.items(), key=lambda item: item[1].start)
        return {
            name: _read_tensor(file, path, name, info) for name, info in in_file_order
        }


def _read_header(file: BufferedReader, path: Path) -> Header:
    """Length, JSON, tensors: each step checks what the next one relies on."""
    file_size = os.fstat(file.fileno()).st_size
    if file_size < 8:
        _fail(path, f"it is {file_size} bytes long; the header's length alone takes 8")
    first = file.read(8)
    length = int.from_bytes(first, "little")  # unsigned, lowest byte first
    if length > MAX_HEADER_BYTES:
        _fail(
            path,
            f"it claims a header of {length:,} bytes; at most {MAX_HEADER_BYTES:,} are "
            f"allowed. It begins with {show(first)}: is it a web page, or a Git LFS "
            "pointer (then run git lfs pull)?",
        )
    if 8 + length > file_size:
        _fail(
            path,
            f"it claims a header of {length:,} bytes after the first 8, but is "
            f"{file_size:,} bytes long, so it is cut off, or not a safetensors file",
        )
    listing = _parse_json(file.read(length), path)
    metadata = _check_metadata(listing.pop("__metadata__", None), path)
    tensors = {
        name: _check_tensor(path, name, entry) for name, entry in listing.items()
    }
    _check_layout(path, tensors, data_size=file_size - 8 - length)
    return Header(tensors, metadata, data_start=8 + length)


def _parse_json(raw: bytes, path: Path) -> dict[str, Any]:
    """Parse strictly: ``json`` takes duplicate keys, NaN, -0; the format does not."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        listing: dict[str, Any] = {}
        for key, value in pairs:
            for item in (key, value):
                if isinstance(item, str) and (half := SURROGATE.search(item)):
                    raise ValueError(f"it holds half a surrogate pair, {half[0]!a}")
            if key in listing:
                raise ValueError(f"the key {show(key)} appears twice")
            listing[key] = value
        return listing

    def whole(digits: str) -> int:
        if len(digits) > MAX_DIGITS:
            raise ValueError(f"a number of {len(digits):,} digits is no size")
        if digits.startswith("-"):
            raise ValueError(f"the size {digits} is negative")
        return int(digits)

    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is not JSON")

    try:
        text = raw.decode("utf-8").lstrip(JSON_WHITESPACE)
        if not text.startswith("{"):
            raise ValueError("it does not begin with '{'")
        listing: dict[str, Any] = json.loads(
            text, object_pairs_hook=unique, parse_int=whole, parse_constant=refuse
        )
    except RecursionError:
        _fail(path, "its header nests too deeply to be a list of tensors")
    except ValueError as error:
        _fail(path, f"its header is not the strict JSON it must be: {error}")
    return listing


def _check_metadata(metadata: Any, path: Path) -> dict[str, str]:
    """``__metadata__`` maps strings to strings, or is absent."""
    if metadata is None:
        return {}
    if not isinstance(metadata, dict):
        _fail(path, "its __metadata__ is not an object")
    for key, value in metadata.items():
        if not isinstance(value, str):
            problem = f"its __metadata__ value for {show(key)} is not a string"
            _fail(path, problem)
    return metadata


def _check_tensor(path: Path, name: str, entry: Any) -> TensorInfo:
    """Check one entry alone: its fields, its dtype, its bytes against its shape."""
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        fields = "the fields dtype, shape and data_offsets"
        _fail(path, f"its entry must have exactly {fields}", name)
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPE_BITS:
        problem = "is not one the format knows (F32, F16, BF16, …)"
        _fail(path, f"its dtype {show(dtype)} {problem}", name)
    if not _are_sizes(shape):
        problem = "is not a list of whole numbers below 2^63"
        _fail(path, f"its shape {show(shape)} {problem}", name)
    if not _are_sizes(offsets) or len(offsets) != 2:
        problem = "are not two whole numbers below 2^63"
        _fail(path, f"its data_offsets {show(offsets)} {problem}", name)
    start, end = offsets
    if start > end:
        _fail(path, f"it starts at byte {start:,}, after its end at {end:,}", name)
    size = _size_in_bytes(path, name, dtype, shape)
    if size != end - start:
        problem = f"its shape {show(shape)} of {dtype} takes {size:,} bytes"
        _fail(path, f"{problem}, but its data_offsets span {end - start:,}", name)
    return TensorInfo(dtype, tuple(shape), start, end)


def _size_in_bytes(path: Path, name: str, dtype: str, shape: list[int]) -> int:
    """Multiply left to right, as a 64-bit program would, and refuse an overflow."""
    elements = 1
    for dimension in shape:
        elements *= dimension
        if elements >= 2**64:
            problem = "multiplied from the left, passes 64 bits"
            _fail(path, f"its shape {show(shape)}, {problem}", name)
    bits = elements * DTYPE_BITS[dtype]
    if bits >= 2**64:
        problem = f"of {dtype} has more bits than 64 bits can count"
        _fail(path, f"its shape {show(shape)} {problem}", name)
    if bits % 8:
        _fail(path, f"its {bits} bits do not fill whole bytes", name)
    return bits // 8


def _are_sizes(values: Any) -> bool:
    """Say whether this is a list of whole numbers (not true, not 8.0) of 63 bits."""
    return isinstance(values, list) and all(
        type(v) is int and v < 2**63 for v in values
    )


def _check_layout(path: Path, tensors: dict[str, TensorInfo], data_size: int) -> None:
    """Check that the tensors cover the data end to end: no hole, no overlap."""
    position = 0
    for name, info in sorted(
        tensors.items(), key=lambda item: (item[1].start, item[1].end)
    ):
        if info.start != position:
            problem = (
                "overlaps the tensor before it"
                if info.start < position
                else "leaves a hole"
            )
            place = f"byte {info.start:,} of the data, not {position:,}"
            _fail(path, f"it starts at {place}: it {problem}", name)
        position = info.end
    if position != data_size:
        fate = "the file is cut off" if position > data_size else "more follows them"
        problem = f"its tensors take {position:,} bytes, but {data_size:,} follow the"
        _fail(path, f"{problem} header: {fate}")


def _read_tensor(
    file: BufferedReader, path: Path, name: str, info: TensorInfo
) -> Tensor:
    """Read the next tensor's bytes into memory that only this tensor owns.

    The bytes could instead be used where they lie, but a file's data need not start at
    a multiple of 4 (GPT-2's does not), and a tensor must outlive the file it came from.
    """
    if info.dtype not in TORCH_DTYPES:
        _fail(
            path,
            f"its dtype {info.dtype} is valid but not one that can be loaded here; "
            "convert it to F32",
            name,
        )
    dtype = TORCH_DTYPES[info.dtype]
    if info.start == info.end:
        return _empty(path, name, info.shape, dtype)
    # The first touch of new memory can take longer than reading the file; torch
    # writes zeros from all cores at once.
    tensor = torch.zeros(info.shape, dtype=dtype)
    memory = tensor.flatten().view(torch.uint8).numpy().data
    if file.readinto(memory) != info.end - info.start:
        _fail(path, "the file ended while its bytes were being read", name)
    return tensor


def _empty(path: Path, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Make a tensor without numbers; torch counts even its widths with 63 bits."""
    width = 1
    for dimension in shape:
        width *= max(dimension, 1)
        if width >= 2**63:
            problem = f"its shape {show(list(shape))} is empty but too wide"
            _fail(path, f"{problem} to index", name)
    return torch.empty(shape, dtype=dtype)


def _fail(path: Path, problem: str, tensor: str | None = None) -> NoReturn:
    where = f"{path}: tensor {show(tensor)}" if tensor is not None else f"{path}"
    raise SafetensorsError(f"{where}: {problem}")


def show(value: Any) -> str:
    """Spell what a file holds for a message: short, and nothing in it that acts.

    Line ends, what moves a cursor, and what turns the order of writing are escaped.
    Chapter 1.

    >>> show("a\\n\\u202eb"), show(list(range(99)))
    ("'a\\\\n\\\\u202eb'", '[0, 1, 2, 3, 4, 5, 6, 7, ...]')
    """
    spelling = Repr()  # which cuts before it spells, and escapes as repr does
    spelling.maxstring, spelling.maxlist, spelling.maxlevel = 100, 8, 2
    return spelling.repr(value)
