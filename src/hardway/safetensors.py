"""Read and write a safetensors file by hand.

A file has three parts: eight bytes that give the header's length, a JSON header that
says where each tensor is, and the tensors' bytes. Format:
https://github.com/huggingface/safetensors
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BufferedReader

import torch
from torch import Tensor

from hardway import untrusted
from hardway.loading import in_own_thread

DTYPES = {
    "F64": torch.float64, "F32": torch.float32,
    "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8,
    "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip


class SafetensorsError(ValueError):
    """A file breaks a rule of the format; the message names the file and the rule."""


@dataclass(frozen=True)
class TensorInfo:
    """Where one tensor is: from ``start`` to ``end`` in the data."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True)
class Header:
    """A table of contents; the data starts at byte ``data_start``."""

    tensors: dict[str, TensorInfo]
    metadata: dict[str, str]
    data_start: int


def read_header(path: str | os.PathLike[str]) -> Header:
    """Read and check the header of the file at ``path``; the tensors stay unread.

    Tensors are listed in the header's order. Time and memory are proportional to the
    size of the header, whatever it claims. Raises `SafetensorsError` for a file that
    breaks the format, `OSError` for one that cannot be read.
    """
    with open(path, "rb") as file, untrusted.prefix_errors(path, SafetensorsError):
        return parse_header(file)


@in_own_thread
def load_file(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Read every tensor of the file at ``path`` into memory of its own, in file order.

    Raises `SafetensorsError` for a file that breaks the format or has a dtype that is
    not in ``DTYPES`` (8-bit floats, for example), `OSError` for one that cannot be
    read.
    """
    with open(path, "rb") as file, untrusted.prefix_errors(path, SafetensorsError):
        header = parse_header(file)
        file.seek(header.data_start)
        in_file_order = sorted(header.tensors.items(), key=lambda item: item[1].start)
        return {name: read_tensor(file, name, info) for name, info in in_file_order}


def parse_header(file: BufferedReader) -> Header:
    """Parse the length, then the JSON; each is checked before it is relied on."""
    file_size = os.fstat(file.fileno()).st_size
    first = file.read(8)
    length = int.from_bytes(first, "little")  # unsigned, lowest byte first
    untrusted.check_header_length(length, first, file_size)
    listing = untrusted.parse_strict_json(file.read(length))
    untrusted.check_listing(listing, data_size=file_size - 8 - length)
    metadata = listing.pop("__metadata__", None) or {}
    tensors = {
        name: TensorInfo(entry["dtype"], tuple(entry["shape"]), *entry["data_offsets"])
        for name, entry in listing.items()
    }
    return Header(tensors, metadata, data_start=8 + length)


def read_tensor(file: BufferedReader, name: str, info: TensorInfo) -> Tensor:
    """Read the next tensor's bytes into memory that only this tensor owns.

    The bytes could be used in place, without a copy, but a file's data need not start
    at a multiple of 4 (GPT-2's does not): torch computes on such misaligned data, but
    some views refuse it. And a tensor must outlive the file it came from.
    """
    untrusted.check_loadable(name, info.dtype, info.shape, DTYPES)
    # Touching new memory for the first time can take longer than reading the file;
    # torch.zeros does it on all cores at once.
    tensor = torch.zeros(info.shape, dtype=DTYPES[info.dtype])
    if info.start < info.end:
        memory = tensor.flatten().view(torch.uint8).numpy().data
        n_read = file.readinto(memory)
        untrusted.check_read(name, n_read, info.end - info.start)
    return tensor


def save_file(
    tensors: Mapping[str, Tensor],
    path: str | os.PathLike[str],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write tensors to a file at ``path``, which appears whole or not at all.

    The bytes go to a file beside it, which takes its name once they are on the disk.
    Raises `ValueError` for a dtype that is not in ``DTYPES``, `OSError` if the file
    cannot be written.
    """
    # Large elements first, so that each tensor starts at a multiple of its element's.
    ordered = sorted(tensors.items(), key=lambda item: (-item[1].itemsize, item[0]))
    header = format_header(ordered, metadata)
    part = f"{os.fspath(path)}.part"
    with open(part, "wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for _, tensor in ordered:
            raw = tensor.detach().cpu().flatten().view(torch.uint8)
            file.write(raw.numpy().data)
        file.flush()
        os.fsync(file.fileno())  # or a power cut could leave the new name without data
    os.replace(part, path)


def format_header(
    tensors: Sequence[tuple[str, Tensor]], metadata: Mapping[str, str] | None = None
) -> bytes:
    """Return the JSON header of a file that holds these tensors, in this order.

    Spaces at its end make the data start at a multiple of 8. Raises `ValueError` for a
    dtype that is not in ``DTYPES``, and for a tensor called ``__metadata__``.
    """
    kinds = {dtype: kind for kind, dtype in DTYPES.items()}
    listing: dict[str, object] = {"__metadata__": {**metadata}} if metadata else {}
    end = 0
    for name, tensor in tensors:
        untrusted.check_savable(name, tensor.dtype, kinds)
        start, end = end, end + tensor.nbytes
        listing[name] = {
            "dtype": kinds[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(listing, ensure_ascii=False, separators=(",", ":")).encode()
    return text + b" " * (-len(text) % 8)
