"""Read a GGUF file by hand, and turn its blocks back into numbers.

A file is four things in a row: 24 bytes with two counts, the metadata as keys and
values, a table of tensors, and the tensors' bytes, which most types store in blocks: a
few codes of 4 to 8 bits that share a scale. Format:
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import math
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hardway import untrusted, untrusted_gguf
from hardway.loading import in_own_thread
from hardway.untrusted_gguf import BoundedFile

# The types of metadata values; numbers as the module struct spells them.
NUMBERS = {
    0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 10: "Q", 11: "q",
    6: "f", 12: "d", 7: "B",  # 7 is a boolean: 0 or 1
}  # fmt: skip
STRING, ARRAY = 8, 9


class GGUFError(ValueError):
    """A file breaks a rule of the format; the message names the file and the rule."""


@dataclass(frozen=True)
class TensorInfo:
    """Where one tensor lies: from byte ``start`` to ``end`` of the file.

    kind: how its numbers are stored, ``"Q4_1"`` for example. shape: torch's, so a
    matrix's is [out, in]. A kind without a name, newer than this reader, is
    ``"type 99"``; nobody here knows its size, so it ends where it starts.
    """

    kind: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True)
class Header:
    """A table of contents, and what the file says about its model."""

    tensors: dict[str, TensorInfo]
    metadata: dict[str, Any]


def read_header(path: str | os.PathLike[str]) -> Header:
    """Read and check the header of the file at ``path``; the tensors stay unread.

    Keys and tensors are listed in the file's order. Time and memory are proportional
    to the header, whatever it says. Raises `GGUFError` for a file that breaks the
    format, `OSError` for one that cannot be read.
    """
    with open(path, "rb") as file, untrusted.prefix_errors(path, GGUFError):
        return parse_header(BoundedFile(file))


@in_own_thread
def load_file(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Read every tensor of the file at ``path`` as float32, in the header's order.

    Raises `GGUFError` for a file that breaks the format or holds a kind of tensor that
    is not in ``BLOCKS``, `OSError` for one that cannot be read.
    """
    tensors = read_header(path).tensors
    with untrusted.prefix_errors(path, GGUFError):
        kinds = {name: info.kind for name, info in tensors.items()}
        untrusted_gguf.check_kinds(kinds, known=BLOCKS)
    return {name: read_tensor(path, info) for name, info in tensors.items()}


def read_tensor(path: str | os.PathLike[str], info: TensorInfo) -> Tensor:
    """Read one tensor of the file at ``path``, dequantized to float32."""
    blocks = read_blocks(path, info)
    return BLOCKS[info.kind].dequantize(blocks).reshape(info.shape)


def read_blocks(path: str | os.PathLike[str], info: TensorInfo) -> Tensor:
    """Read one tensor's bytes as they are stored: [n_blocks, bytes per block], uint8.

    They own their memory. Raises `GGUFError` for a kind that is not in ``BLOCKS``.
    """
    with open(path, "rb") as file, untrusted.prefix_errors(path, GGUFError):
        untrusted_gguf.check_kind(info.kind, known=BLOCKS)
        raw = torch.zeros(info.end - info.start, dtype=torch.uint8)
        file.seek(info.start)
        n_read = file.readinto(raw.numpy().data)
        untrusted_gguf.check_read(n_read, len(raw))
    return raw.view(-1, BLOCKS[info.kind].n_bytes)


# --- the header ---


def parse_header(file: BoundedFile) -> Header:
    """Parse the counts, the metadata and the table, then place the tensors."""
    magic, version, n_tensors, n_keys = unpack(file, "4sIQQ")
    untrusted_gguf.check_preamble(magic, version)
    metadata = read_metadata(file, n_keys)
    table = read_table(file, n_tensors)
    alignment = untrusted_gguf.alignment_of(metadata)
    data_start = -(-file.position // alignment) * alignment  # rounded up
    tensors = {
        name: replace(info, start=data_start + info.start, end=data_start + info.end)
        for name, info in table.items()
    }
    spans = [(info.start, info.end, name) for name, info in tensors.items()]
    untrusted_gguf.check_layout(spans, data_start, alignment, file.size)
    return Header(tensors, metadata)


def read_metadata(file: BoundedFile, n_keys: int) -> dict[str, Any]:
    """Read each key, its value's type, and its value."""
    file.check_count("keys", n_keys, untrusted_gguf.MIN_KEY_BYTES)
    metadata: dict[str, Any] = {}
    for _ in range(n_keys):
        key = read_string(file)
        with untrusted_gguf.entry("key", key, seen=metadata):
            (kind,) = unpack(file, "I")
            (metadata[key],) = read_values(file, kind, count=1)
    return metadata


def read_values(file: BoundedFile, kind: int, count: int, depth: int = 0) -> list[Any]:
    """Read values of one type: numbers, strings, or arrays, which hold values again."""
    untrusted_gguf.check_values(file, kind, count, depth)
    if kind == STRING:
        return [read_string(file) for _ in range(count)]
    if kind == ARRAY:
        return [read_array(file, depth + 1) for _ in range(count)]
    numbers = unpack(file, f"{count}{NUMBERS[kind]}")
    return untrusted_gguf.parse_numbers(kind, numbers)


def read_array(file: BoundedFile, depth: int) -> list[Any]:
    """Read what type its values are, how many follow, and the values."""
    kind, count = unpack(file, "IQ")
    return read_values(file, kind, count, depth)


def read_string(file: BoundedFile) -> str:
    """Read a length of 8 bytes, then so many bytes of UTF-8."""
    (n_bytes,) = unpack(file, "Q")
    return untrusted_gguf.parse_utf8(file.read(n_bytes))


def unpack(file: BoundedFile, layout: str) -> tuple[Any, ...]:
    """Read values, lowest byte first, in a layout as the module struct spells it."""
    layout = f"<{layout}"
    return struct.unpack(layout, file.read(struct.calcsize(layout)))


def read_table(file: BoundedFile, n_tensors: int) -> dict[str, TensorInfo]:
    """Read each tensor's name, sizes, kind, and offset from the start of the data."""
    file.check_count("tensors", n_tensors, untrusted_gguf.MIN_TENSOR_BYTES)
    table: dict[str, TensorInfo] = {}
    for _ in range(n_tensors):
        name = read_string(file)
        with untrusted_gguf.entry("tensor", name, seen=table):
            (rank,) = unpack(file, "I")
            untrusted_gguf.check_rank(rank)
            *sizes, number, offset = unpack(file, f"{rank}QIQ")
            kind, n_values, n_bytes = untrusted_gguf.tensor_type(number)
            untrusted_gguf.check_dimensions(kind, sizes, n_values)
            shape = tuple(reversed(sizes))  # the file says a row's length first
            size = math.prod(shape) // n_values * n_bytes
            table[name] = TensorInfo(kind, shape, offset, offset + size)
    return table


# --- the blocks ---


def dequantize_f32(blocks: Tensor) -> Tensor:
    """Read 4 bytes as one float32; nothing is quantized. [n, 4] → [n, 1]."""
    return blocks.view(torch.float32)


def dequantize_f16(blocks: Tensor) -> Tensor:
    """Widen float16, exactly. [n, 2] → [n, 1]."""
    return blocks.view(torch.float16).float()


def dequantize_bf16(blocks: Tensor) -> Tensor:
    """Widen bfloat16, exactly. [n, 2] → [n, 1]."""
    return blocks.view(torch.bfloat16).float()


def dequantize_q8_0(blocks: Tensor) -> Tensor:
    """Return code × scale, codes from -128 to 127. [n, 34] → [n, 32]."""
    scale = dequantize_f16(blocks[:, 0:2])  # [n, 1], for the block's 32 values
    codes = blocks[:, 2:].view(torch.int8)
    return codes * scale


def dequantize_q4_0(blocks: Tensor) -> Tensor:
    """Return (code - 8) × scale, codes from 0 to 15. [n, 18] → [n, 32]."""
    scale = dequantize_f16(blocks[:, 0:2])
    codes = nibbles(blocks[:, 2:])
    return (codes.float() - 8) * scale


def dequantize_q4_1(blocks: Tensor) -> Tensor:
    """Return code × scale + minimum, codes from 0 to 15. [n, 20] → [n, 32]."""
    scale = dequantize_f16(blocks[:, 0:2])
    minimum = dequantize_f16(blocks[:, 2:4])
    codes = nibbles(blocks[:, 4:])
    return codes * scale + minimum


def dequantize_q5_0(blocks: Tensor) -> Tensor:
    """Return (code - 16) × scale, codes from 0 to 31. [n, 22] → [n, 32]."""
    scale = dequantize_f16(blocks[:, 0:2])
    codes = nibbles(blocks[:, 6:]) | bits(blocks[:, 2:6]) << 4
    return (codes.float() - 16) * scale


def dequantize_q5_1(blocks: Tensor) -> Tensor:
    """Return code × scale + minimum, codes from 0 to 31. [n, 24] → [n, 32]."""
    scale = dequantize_f16(blocks[:, 0:2])
    minimum = dequantize_f16(blocks[:, 2:4])
    codes = nibbles(blocks[:, 8:]) | bits(blocks[:, 4:8]) << 4
    return codes * scale + minimum


def dequantize_q4_k(blocks: Tensor) -> Tensor:
    """Return code × scale - minimum for 8 groups of 32. [n, 144] → [n, 256].

    A group's scale and minimum are 6-bit codes themselves, with a scale per block.
    """
    scale_codes, minimum_codes = six_bits(blocks[:, 4:16])
    scales = dequantize_f16(blocks[:, 0:2]) * scale_codes  # [n, 8]
    minimums = dequantize_f16(blocks[:, 2:4]) * minimum_codes
    codes = nibbles(blocks[:, 16:].unflatten(1, (4, 32))).reshape(-1, 8, 32)
    return (codes * scales[:, :, None] - minimums[:, :, None]).flatten(1)


def dequantize_q6_k(blocks: Tensor) -> Tensor:
    """Return (code - 32) × scale for 16 groups of 16. [n, 210] → [n, 256].

    A group's scale is an 8-bit code itself, with a scale per block.
    """
    low = nibbles(blocks[:, :128].unflatten(1, (2, 64)))  # [n, 2, 128]
    pairs = blocks[:, 128:192].unflatten(1, (2, 32))
    high = torch.cat([pairs >> shift & 3 for shift in (0, 2, 4, 6)], dim=-1)
    codes = (low | high << 4).reshape(-1, 16, 16)
    scales = dequantize_f16(blocks[:, 208:]) * blocks[:, 192:208].view(torch.int8)
    return ((codes.float() - 32) * scales[:, :, None]).flatten(1)


def nibbles(packed: Tensor) -> Tensor:
    """Unpack 4-bit codes: every byte's low half, then every byte's high half.

    packed: uint8 [..., n] → uint8 [..., 2n].
    """
    return torch.cat([packed & 15, packed >> 4], dim=-1)


def bits(packed: Tensor) -> Tensor:
    """Unpack bits, each byte's lowest first: uint8 [n, k] → uint8 [n, 8k]."""
    shifts = torch.arange(8, dtype=torch.uint8, device=packed.device)
    return (packed[:, :, None] >> shifts & 1).flatten(1)


def six_bits(packed: Tensor) -> tuple[Tensor, Tensor]:
    """Unpack Q4_K's eight scale codes and eight minimum codes: [n, 12] → [n, 8] each.

    Bytes 0 to 3 hold the first four scales, bytes 4 to 7 the first four minimums; their
    two high bits are those of the other four, whose low bits share bytes 8 to 11.
    """
    a, b, c = packed[:, 0:4], packed[:, 4:8], packed[:, 8:12]
    scales = torch.cat([a & 63, c & 15 | a >> 6 << 4], dim=1)
    minimums = torch.cat([b & 63, c >> 4 | b >> 6 << 4], dim=1)
    return scales, minimums


class BlockType(NamedTuple):
    """How a kind of tensor is stored: values and bytes per block, and its reading.

    dequantize: uint8 [n_blocks, n_bytes] → float32 [n_blocks, n_values].
    """

    n_values: int
    n_bytes: int
    dequantize: Callable[[Tensor], Tensor]


BLOCKS = {
    "F32": BlockType(1, 4, dequantize_f32),
    "F16": BlockType(1, 2, dequantize_f16),
    "BF16": BlockType(1, 2, dequantize_bf16),
    "Q8_0": BlockType(32, 34, dequantize_q8_0),
    "Q4_0": BlockType(32, 18, dequantize_q4_0),
    "Q4_1": BlockType(32, 20, dequantize_q4_1),
    "Q5_0": BlockType(32, 22, dequantize_q5_0),
    "Q5_1": BlockType(32, 24, dequantize_q5_1),
    "Q4_K": BlockType(256, 144, dequantize_q4_k),
    "Q6_K": BlockType(256, 210, dequantize_q6_k),
}
