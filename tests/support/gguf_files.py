"""GGUF files put together byte by byte, sound ones and broken ones."""

import struct
from collections.abc import Mapping, Sequence

from gguf import GGUFValueType as ValueType
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

PACKED = {
    ValueType.UINT8: "<B", ValueType.INT8: "<b", ValueType.UINT16: "<H",
    ValueType.INT16: "<h", ValueType.UINT32: "<I", ValueType.INT32: "<i",
    ValueType.UINT64: "<Q", ValueType.INT64: "<q", ValueType.FLOAT32: "<f",
    ValueType.FLOAT64: "<d", ValueType.BOOL: "<?",
}  # fmt: skip


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw)) + raw


def array(kind: ValueType, *values: bytes) -> bytes:
    """Values that are packed already, all of one type."""
    return struct.pack("<IQ", kind, len(values)) + b"".join(values)


def key(name: str | bytes, kind: int, packed: bytes) -> bytes:
    return text(name) + struct.pack("<I", kind) + packed


def tensor(
    name: str | bytes, sizes: Sequence[int], kind: int = 0, offset: int = 0
) -> bytes:
    """One entry of the table; sizes are in the file's order, the row's length first."""
    return text(name) + struct.pack(
        f"<I{len(sizes)}QIQ", len(sizes), *sizes, kind, offset
    )


def padded(raw: bytes, alignment: int) -> bytes:
    return raw + bytes(-len(raw) % alignment)


def gguf(
    keys: Sequence[bytes] = (),
    tensors: Sequence[bytes] = (),
    data: bytes = b"",
    *,
    magic: bytes = b"GGUF",
    version: int = 3,
    counts: tuple[int, int] | None = None,
    alignment: int = 32,
) -> bytes:
    """A whole file of entries that are packed already."""
    n_tensors, n_keys = counts or (len(tensors), len(keys))
    header = magic + struct.pack("<IQQ", version, n_tensors, n_keys)
    header += b"".join([*keys, *tensors])
    return padded(header, alignment) + data if data else header


def gguf_of(
    tensors: Mapping[str, tuple[str, tuple[int, ...], bytes]],
    keys: Sequence[bytes] = (),
    alignment: int | None = None,
) -> bytes:
    """A sound file: for each tensor its kind, torch's shape and its bytes."""
    if alignment is not None:
        packed = struct.pack("<I", alignment)
        keys = [*keys, key("general.alignment", ValueType.UINT32, packed)]
    step, data, table = alignment or 32, b"", []
    for name, (kind, shape, raw) in tensors.items():
        data = padded(data, step)
        number = GGMLQuantizationType[kind]
        table.append(tensor(name, shape[::-1], number, len(data)))
        data += raw
    return gguf(keys, table, data, alignment=step)


def size_in_bytes(kind: str, n_values: int) -> int:
    per_block, n_bytes = GGML_QUANT_SIZES[GGMLQuantizationType[kind]]
    assert n_values % per_block == 0
    return n_values // per_block * n_bytes
