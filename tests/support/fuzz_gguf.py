"""Break GGUF files in every way that chance finds, and compare two readers.

    python tests/support/fuzz_gguf.py --files 100000 --seed 0

Each file is either read, to the metadata and tensors that gguf-py reads, or refused
with `GGUFError`. Another exception, another value, a second of work, or memory out of
proportion to the file is a failure, which prints the seed that makes the file again.
gguf-py trusts a file more than hardway does: `LAXER` lists every rule by which hardway
may refuse what gguf-py reads, each with a check that the file does break it, and
`stricter` yields the reasons for the opposite. `make fuzz` runs it.
"""

import math
import random
import struct
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import gguf as reference
import numpy as np
import torch
from gguf import GGUFEndian
from gguf import GGUFValueType as ValueType

import gguf_files as files
from fuzz_run import break_files, measured, run
from hardway.gguf import BLOCKS, GGUFError, Header, load_file, read_header

BLOCK = 500  # files that one process makes from one seed

# --- files ---

NAMES = ["a", "b", "blk.0.attn_q.weight", "", "é", "😀", "a\u202eb", "\0", "x" * 99]
SIZES = [1, 2, 3, 32, 64, 256]
NUMBERS = [
    0, 1, 2, 3, 4, 5, 7, 8, 9, 12, 13, 16, 24, 32, 33, 64, 99, 255, 256, 65_535,
    65_536, 2**24, 2**31, 2**32 - 1, 2**32, 2**33, 2**59, 2**60, 2**61, 2**62, 2**63,
    2**63 + 1, 2**64 - 32, 2**64 - 1,
]  # fmt: skip
KINDS = [kind.value for kind in reference.GGMLQuantizationType]
READ = [reference.GGMLQuantizationType[kind].value for kind in BLOCKS]


def some_value(dice: random.Random, depth: int = 0) -> tuple[int, bytes]:
    """A value's type, and its bytes."""
    kind = dice.choice([*ValueType])
    if kind == ValueType.ARRAY and depth < 5:
        inner, packed = some_value(dice, depth + 1)
        return kind, files.array(ValueType(inner), *[packed] * dice.randint(0, 3))
    if kind in (ValueType.ARRAY, ValueType.STRING):
        return ValueType.STRING, files.text(dice.choice(NAMES))
    if kind == ValueType.BOOL:
        return kind, dice.choice([b"\0", b"\1"])
    width = struct.calcsize(files.PACKED[kind])
    if kind in (ValueType.FLOAT32, ValueType.FLOAT64) and dice.random() < 0.2:
        return kind, dice.choice([b"\xff", b"\x7f"]) * width  # NaN
    return kind, dice.randbytes(width)


def sound(dice: random.Random) -> bytes:
    """Make a file without a fault, now and then with a NaN in its metadata."""
    return assembled(dice, faults=0)


def assembled(dice: random.Random, faults: int) -> bytes:
    """Make a file whose entries are sound, apart from so many faults."""
    names = dice.sample(NAMES, dice.randint(0, 3))
    keys = [[name, *some_value(dice)] for name in names]
    alignment = dice.choice([1, 8, 32, 32, 64])
    if alignment != 32 or dice.random() < 0.3:
        packed = struct.pack("<I", alignment)
        keys.append(["general.alignment", ValueType.UINT32.value, packed])
    tensors: list[list[Any]] = []
    data = b""
    for name in dice.sample(NAMES, dice.randint(0, 4)):
        kind = dice.choice([*READ, *READ, *KINDS])
        n_values, n_bytes = reference.GGML_QUANT_SIZES[kind]
        rows = [dice.choice([1, 2, 3]) for _ in range(dice.randint(0, 3))]
        sizes = [n_values * dice.choice([1, 2]), *rows]
        data = files.padded(data, alignment)
        tensors.append([name, sizes, kind, len(data)])
        data += dice.randbytes(math.prod(sizes) // n_values * n_bytes)
    counts = [len(tensors), len(keys)]
    for _ in range(faults):
        dice.choice(FAULTS)(keys, tensors, counts, dice)
    return files.gguf(
        [files.key(*key) for key in keys],
        [files.tensor(*tensor) for tensor in tensors],
        data + bytes(dice.choice([0, 0, alignment - 1])),
        counts=(counts[0], counts[1]),
        alignment=alignment,
    )


# --- faults: each changes one thing in what a file says ---


def recount(keys: Any, tensors: Any, counts: Any, dice: random.Random) -> None:
    which = dice.randrange(2)
    counts[which] = dice.choice([counts[which] + 1, *NUMBERS])


def revalue(keys: Any, tensors: Any, counts: Any, dice: random.Random) -> None:
    """Change a key: its type, its bytes, or its name to another's."""
    if keys:
        key = dice.choice(keys)
        key[1:] = dice.choice(
            [some_value(dice), (dice.choice(NUMBERS[:12]), key[2]), (9, deep(dice))]
        )
        if dice.random() < 0.2:
            key[0] = dice.choice(["general.alignment", dice.choice(keys)[0]])


def deep(dice: random.Random) -> bytes:
    """Arrays inside arrays, as many as it takes and more."""
    times = dice.choice([2, 3, 4, 5, 6, 2000])
    return struct.pack("<IQ", 9, 1) * times + struct.pack("<IQ", 0, 0)


def rename(keys: Any, tensors: Any, counts: Any, dice: random.Random) -> None:
    if tensors:
        names = [dice.choice(tensors)[0], dice.choice(NAMES), b"\xff", "x" * 65_536]
        dice.choice(tensors)[0] = dice.choice(names)


def resize(keys: Any, tensors: Any, counts: Any, dice: random.Random) -> None:
    """Change one dimension, or add some."""
    if tensors:
        sizes = dice.choice(tensors)[1]
        if dice.random() < 0.3:
            sizes += [dice.choice([1, dice.choice(NUMBERS)])] * dice.randint(1, 4)
        else:
            at = dice.randrange(len(sizes))
            near = [sizes[at] + 1, sizes[at] - 1, sizes[at] * 2, sizes[at] // 2]
            sizes[at] = dice.choice([*near, *NUMBERS])


def retype(keys: Any, tensors: Any, counts: Any, dice: random.Random) -> None:
    if tensors:
        dice.choice(tensors)[2] = dice.choice([*KINDS, 4, 5, 99, 2**32 - 1])


def move(keys: Any, tensors: Any, counts: Any, dice: random.Random) -> None:
    """Change where a tensor lies; or the order of the table, which is no fault."""
    if dice.random() < 0.2:
        dice.shuffle(tensors)
    elif tensors:
        tensor, other = dice.choice(tensors), dice.choice(tensors)
        step = dice.choice([-32, -8, -1, 1, 8, 32, 64])
        places = [max(0, tensor[3] + step), other[3], *NUMBERS]
        tensor[3] = dice.choice(places)


FAULTS: list[Callable[[Any, Any, Any, random.Random], None]] = [
    recount, revalue, revalue, rename, resize, resize, retype, move, move,
]  # fmt: skip

# --- mutations: each takes a file and the dice, and returns another file ---


def flip_bits(file: bytes, dice: random.Random) -> bytes:
    changed = bytearray(file)
    for _ in range(dice.randint(1, 4) if file else 0):
        changed[dice.randrange(len(file))] ^= 1 << dice.randrange(8)
    return bytes(changed)


def cut_or_insert(file: bytes, dice: random.Random) -> bytes:
    start, length = dice.randint(0, len(file)), dice.choice([1, 4, 8, 32, 40])
    kind = dice.choice(["cut", "insert", "repeat", "end", "tail"])
    if kind == "cut":
        return file[:start] + file[start + length :]
    if kind == "insert":
        return file[:start] + dice.randbytes(length) + file[start:]
    if kind == "repeat":
        return file[: start + length] + file[start:]
    return file[:start] if kind == "end" else file + bytes(length)


def change_number(file: bytes, dice: random.Random) -> bytes:
    """Put a number of 4 or 8 bytes somewhere, the start more often than the rest."""
    width = dice.choice([4, 8])
    at = dice.randrange(dice.choice([24, len(file)]) or 1)
    number = dice.choice(NUMBERS) % 2 ** (8 * width)
    return file[:at] + number.to_bytes(width, "little") + file[at + width :]


def splice(file: bytes, dice: random.Random) -> bytes:
    other = sound(dice)
    return file[: dice.randint(0, len(file))] + other[dice.randint(0, len(other)) :]


MUTATIONS: list[Callable[[bytes, random.Random], bytes]] = [
    flip_bits, flip_bits, cut_or_insert, change_number, splice,
]  # fmt: skip


def mutated(dice: random.Random) -> bytes:
    """Make a file with faults in what it says, in its bytes, or in both."""
    faults, changes = dice.choice([(1, 0), (2, 0), (0, 1), (0, 2), (1, 1)])
    file = assembled(dice, faults)
    for mutation in dice.choices(MUTATIONS, k=changes):
        file = mutation(file, dice)
    return file


# --- what must come of them ---


class BoundedReader(reference.GGUFReader):
    """The reference, made to stop at the file's end: it would go on for ever."""

    @property
    def data(self) -> Any:
        return self._data

    @data.setter
    def data(self, mapped: Any) -> None:
        self._data = np.asarray(mapped)  # of which slices are made much faster

    def _get(self, offset: Any, dtype: Any, count: Any = 1, *rest: Any, **more: Any):  # type: ignore[no-untyped-def]
        end = int(offset) + int(count) * np.dtype(dtype).itemsize
        if not 0 <= end <= len(self.data):
            raise IndexError("it ends before that")
        return super()._get(int(offset), dtype, count, *rest, **more)


def by_reference(path: Path) -> reference.GGUFReader | None:
    try:
        with np.errstate(all="ignore"):
            theirs = BoundedReader(path)
        for field in theirs.fields.values():
            field.contents()  # which decodes texts
        return theirs
    except (ValueError, KeyError, IndexError, OverflowError, RecursionError):
        return None


Found = reference.GGUFReader


def numbers_of(theirs: Found, *kinds: ValueType) -> Iterator[Any]:
    """Yield the numbers of the fields that hold some of this type, lengths included."""
    for field in theirs.fields.values():
        if {*kinds} & {*field.types}:
            yield from (n for part in field.parts for n in part.tolist())


def offsets(theirs: Found) -> list[int]:
    return [tensor.data_offset - theirs.data_offset for tensor in theirs.tensors]


def shapes(theirs: Found) -> list[list[int]]:
    return [tensor.shape.tolist() for tensor in theirs.tensors]


def covers(theirs: Found) -> bool:
    """Whether the tensors lie one after another, as llama.cpp demands, to the end."""
    step, place = int(theirs.alignment), int(theirs.data_offset)
    for tensor in sorted(theirs.tensors, key=lambda t: (t.data_offset, t.n_bytes)):
        place += -place % step
        n_values, n_bytes = reference.GGML_QUANT_SIZES[tensor.tensor_type]
        if tensor.data_offset != place:
            return False
        place += math.prod(tensor.shape.tolist()) // n_values * n_bytes
    end = max(len(theirs.data), int(theirs.data_offset))  # no data needs no padding
    return place <= end < place + step


def booleans(theirs: Found) -> list[int]:
    found = []
    for field in theirs.fields.values():
        if ValueType.BOOL in field.types:
            found += [int(part.view(np.uint8)[0]) for part in field.parts if part.size]
    return found


# The rules by which hardway refuses, as its messages tell them, and which of the files
# that break them the reference reads.
LAXER: dict[str, Callable[[Found], bool]] = {
    "is big-endian": lambda theirs: theirs.endianess == GGUFEndian.BIG,
    "its boolean is": lambda theirs: max(booleans(theirs)) > 1,
    "it is NaN": lambda theirs: any(
        n != n for n in numbers_of(theirs, ValueType.FLOAT32, ValueType.FLOAT64)
    ),
    "its arrays nest": lambda theirs: any(
        field.types[:5] == [ValueType.ARRAY] * 5 or ValueType.ARRAY in field.types[1:]
        for field in theirs.fields.values()
    ),
    "its value's type": lambda theirs: any(
        ValueType.ARRAY in field.types for field in theirs.fields.values()
    ),  # of an array without values
    "its name takes": lambda theirs: any(
        field.parts[1].size > 65_535
        for field in [*theirs.fields.values(), *(t.field for t in theirs.tensors)]
        if len(field.parts) > 1
    ),
    "its rank is": lambda theirs: max(map(len, shapes(theirs))) > 4,
    "holds nothing": lambda theirs: any(0 in shape for shape in shapes(theirs)),
    "than 63 bits": lambda theirs: max(map(math.prod, shapes(theirs))) >= 2**63,
    "must be a power of two": lambda theirs: theirs.alignment > 65_536,
    "not at a multiple": lambda theirs: any(
        offset % int(theirs.alignment) for offset in offsets(theirs)
    ),
    "it overlaps": lambda theirs: not covers(theirs),
    "it leaves a hole": lambda theirs: not covers(theirs),
    "the file is cut off": lambda theirs: not covers(theirs),
    "more than padding": lambda theirs: not covers(theirs),
}
ALIKE = [
    "too short for", "it claims", "it begins with", "its version is", "appears twice",
    "is not UTF-8", "stores blocks of", *LAXER,
]  # fmt: skip


def stricter(header: Header) -> Iterator[str]:
    """Yield why the reference refuses what is read here."""
    if any(info.kind.startswith("type ") for info in header.tensors.values()):
        yield "a type of tensor that is newer than both"
    if "general.alignment" in header.metadata:
        yield "an alignment that is not an unsigned number of 32 bits"
    if any(name.startswith("GGUF.") for name in header.metadata):
        yield "a key that the reference keeps for itself"


def outcome(file: bytes, path: Path) -> str:
    """Read a file both ways; return what came of it, or raise `AssertionError`."""
    path.write_bytes(file)
    header, header_refusal = measured(partial(read_header, path), len(file), GGUFError)
    tensors, refusal = measured(partial(load_file, path), len(file), GGUFError)
    theirs = by_reference(path)
    if header is None:
        assert tensors is None
        assert header_refusal == refusal
        why = rule(refusal)
        if theirs is None:
            return f"refused, as by the reference: {why}"
        assert why in LAXER, f"refused, and the reference reads it: {refusal}"
        assert LAXER[why](theirs), f"the file does not break this rule: {refusal}"
        return f"refused, unlike by the reference: {why}"
    if theirs is None:
        reasons = [*stricter(header)]
        assert reasons, "read, and the reference refuses it"
        return f"read, unlike by the reference: {reasons[0]}"
    assert_same_header(header, theirs)
    if tensors is None:
        assert "cannot be dequantized here" in refusal
        assert not {info.kind for info in header.tensors.values()} <= BLOCKS.keys()
        return "read, as by the reference, but for a type that is listed only"
    assert_same_tensors(tensors, theirs)
    return "read, as by the reference"


def rule(refusal: str) -> str:
    return next(rule for rule in ALIKE if rule in refusal)


def assert_same_header(ours: Header, theirs: Found) -> None:
    fields = {k: v for k, v in theirs.fields.items() if not k.startswith("GGUF.")}
    assert ours.metadata.keys() == fields.keys()
    for name, value in ours.metadata.items():
        if not (isinstance(value, list) and any(isinstance(v, list) for v in value)):
            assert value == fields[name].contents(), name
    assert [*ours.tensors] == [tensor.name for tensor in theirs.tensors]
    assert max(map(len, shapes(theirs)), default=0) <= 4  # as ggml demands
    assert covers(theirs)
    for tensor in theirs.tensors:
        info = ours.tensors[tensor.name]
        assert info.kind == tensor.tensor_type.name
        assert [*info.shape] == tensor.shape.tolist()[::-1]
        assert info.start == tensor.data_offset
        assert info.end - info.start == tensor.n_bytes


def assert_same_tensors(ours: Any, theirs: Found) -> None:
    for tensor in theirs.tensors:
        with np.errstate(all="ignore"):
            values = reference.dequantize(tensor.data, tensor.tensor_type)
        expected = torch.from_numpy(np.array(values, dtype=np.float32))
        found = ours[tensor.name]
        assert found.shape == expected.shape
        assert torch.equal(found.isnan(), expected.isnan())
        same = [t.nan_to_num(0.0, torch.inf, -torch.inf) for t in (found, expected)]
        assert torch.equal(*(t.view(torch.int32) for t in same))


# --- the run ---


def fuzz(seed: int, files: int = BLOCK) -> Counter[str]:
    """Break so many files, the same ones for a seed, and count what came of them."""
    return break_files(mutated, outcome, seed, files)


def main(arguments: list[str] | None = None) -> int:
    return run(fuzz, BLOCK, files=100_000, arguments=arguments)


if __name__ == "__main__":
    sys.exit(main())
