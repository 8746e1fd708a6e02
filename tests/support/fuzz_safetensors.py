"""Break safetensors files in every way that chance finds, and compare two readers.

    python tests/support/fuzz_safetensors.py --files 200000 --seed 0

Each file is either read, to the tensors that the reference package reads, or refused
with `SafetensorsError`. Another exception, other tensors, a second of work, or memory
out of proportion to the file is a failure, which prints the seed that makes the file
again. Where hardway is stricter than the reference, `laxer` and `unloadable` say how;
nothing else may be refused that the reference reads. `make fuzz` runs it.
"""

import json
import math
import random
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import safetensors as reference
import safetensors.torch
import torch

from fuzz_run import break_files, measured, run
from hardway.safetensors import (
    DTYPES,
    Header,
    SafetensorsError,
    load_file,
    read_header,
)
from hardway.untrusted import DTYPE_BITS

BLOCK = 1_000  # files that one process makes from one seed

# --- files ---

NAMES = [
    "a",
    "b",
    "wte.weight",
    "",
    "é",
    "😀",
    "a\u202eb",
    "__metadata",
    "\0",
    "x" * 99,
]
NUMBERS = [0, 1, 2, 3, 4, 7, 8, 12, 16, 2**31, 2**32, 2**53, 2**63 - 1]
STRANGE = [
    -1, 2**63, 2**64 - 1, 2**64, 10**30, 10**5000, 1.0, 1e400, True, False, None, "8",
    "", [], {}, [8], [0, 8, 8], "F32", "f32", {"F32": None}, [[0]],
]  # fmt: skip
STRAY = [
    b"", b"0", b"1", b"8", b"-1", b"-0", b"00", b"1.0", b"1e0", b"[]", b"null", b"{}",
    b",", b":", b"\xff", b" ", b"\0", b"NaN", b"//", b'"', b'"\\ud800"', b"[" * 2000,
    b"\xef\xbb\xbf", b"\n",
]  # fmt: skip
LENGTHS = [0, 1, 7, 8, 100_000_000, 100_000_001, 2**32, 2**63, 2**64 - 1]
TOKENS = re.compile(rb'"(?:[^"\\]|\\.)*"|\d+|.', re.DOTALL)
DTYPE_NAMES = [json.dumps(name).encode() for name in DTYPE_BITS]


def sealed(header: bytes, data: bytes = b"") -> bytes:
    return len(header).to_bytes(8, "little") + header + data


def opened(file: bytes) -> tuple[bytes, bytes]:
    """Cut a file, which may be broken, into what would be its header and its data."""
    length = int.from_bytes(file[:8], "little")
    return file[8 : 8 + length], file[8 + length :]


def sound(dice: random.Random) -> bytes:
    """Make a file without a fault."""
    listing: dict[str, Any] = {}
    data = b""
    for name in dice.sample(NAMES, dice.randint(0, 4)):
        dtype = dice.choice([*DTYPES, *DTYPES, *DTYPE_BITS])
        shape = [dice.choice([0, 1, 2, 3, 4, 8]) for _ in range(dice.randint(0, 3))]
        bits = DTYPE_BITS[dtype] * torch.Size(shape).numel()
        if bits % 8:
            shape, bits = [*shape, 4], 4 * bits
        offsets = [len(data), len(data) + bits // 8]
        data += dice.randbytes(bits // 8)
        listing[name] = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
    if dice.random() < 0.3:
        listing["__metadata__"] = dict.fromkeys(dice.sample(NAMES, 2), "pt")
    entries = list(listing.items())
    dice.shuffle(entries)
    header = json.dumps(dict(entries), ensure_ascii=dice.random() < 0.5)
    return sealed(header.encode() + b" " * dice.choice([0, 0, 1, 7]), data)


# --- mutations: each takes a file and the dice, and returns another file ---


def flip_bits(file: bytes, dice: random.Random) -> bytes:
    changed = bytearray(file)
    for _ in range(dice.randint(1, 4) if file else 0):
        changed[dice.randrange(len(file))] ^= 1 << dice.randrange(8)
    return bytes(changed)


def cut_or_insert(file: bytes, dice: random.Random) -> bytes:
    start, length = dice.randint(0, len(file)), dice.randint(0, 8)
    kind = dice.choice(["cut", "insert", "repeat", "end"])
    if kind == "cut":
        return file[:start] + file[start + length :]
    if kind == "insert":
        return file[:start] + dice.randbytes(length) + file[start:]
    if kind == "repeat":
        return file[: start + length] + file[start:]
    return file[:start]


def change_length(file: bytes, dice: random.Random) -> bytes:
    length = int.from_bytes(file[:8], "little")
    near = [max(0, length + step) for step in (-8, -2, -1, 1, 2, 8, len(file))]
    changed = min(dice.choice(LENGTHS + near), 2**64 - 1)
    return changed.to_bytes(8, "little") + file[8:]


def change_tokens(file: bytes, dice: random.Random) -> bytes:
    """Swap strings or numbers of the header, or put something stray among them."""
    header, data = opened(file)
    tokens = TOKENS.findall(header)
    kind = dice.choice([b'"', b"0123456789", b""])
    places = [i for i, token in enumerate(tokens) if not kind or token[:1] in kind]
    for at in dice.sample(places, min(len(places), dice.randint(1, 2))):
        alike = [tokens[i] for i in places] if kind else STRAY
        tokens[at] = dice.choice([*alike, *DTYPE_NAMES] if kind == b'"' else alike)
    return sealed(b"".join(tokens), data)


def change_listing(file: bytes, dice: random.Random) -> bytes:
    """Parse the header, change one thing in what it says, and write it again."""
    header, data = opened(file)
    if header.count(b"[") + header.count(b"{") > 200:
        return file  # how deep json can read depends on how deep the caller stands
    try:
        listing = json.loads(header)
        name = dice.choice(list(listing))
        field = dice.choice(list(listing[name].keys()))
    except (ValueError, TypeError, AttributeError, IndexError, RecursionError):
        return file  # there is no listing, or no entry, to be changed
    changed = dice.choice([rename, retype, resize, replace, unfield, as_list])
    changed(listing, name, field, dice)
    try:
        return sealed(json.dumps(listing).encode(), data)
    except ValueError:  # some of its numbers are longer than Python writes
        return file


def rename(listing: Any, name: str, field: Any, dice: random.Random) -> None:
    listing[dice.choice(NAMES)] = listing.pop(name)


def retype(listing: Any, name: str, field: Any, dice: random.Random) -> None:
    listing[name]["dtype"] = dice.choice([*DTYPE_BITS, "F33", "bf16"])


def resize(listing: Any, name: str, field: Any, dice: random.Random) -> None:
    """Change one number, by a little or to another one, or add one."""
    numbers = listing[name].get(dice.choice(["shape", "data_offsets"]))
    if not isinstance(numbers, list) or not numbers or dice.random() < 0.2:
        numbers = listing[name]["shape"] = [dice.choice(NUMBERS)]
    at = dice.randrange(len(numbers))
    near = [numbers[at] + step for step in (-1, 1) if type(numbers[at]) is int]
    numbers[at] = dice.choice([*near, *NUMBERS, dice.choice(STRANGE)])
    if dice.random() < 0.2:
        numbers.insert(at, dice.choice(NUMBERS))


def replace(listing: Any, name: str, field: Any, dice: random.Random) -> None:
    listing[name][field] = dice.choice(STRANGE)


def unfield(listing: Any, name: str, field: Any, dice: random.Random) -> None:
    if dice.random() < 0.5:
        del listing[name][field]
    else:
        listing[name]["stride"] = dice.choice(STRANGE)


def as_list(listing: Any, name: str, field: Any, dice: random.Random) -> None:
    listing[name] = list(listing[name].values())


def double(file: bytes, dice: random.Random) -> bytes:
    """Say something twice: an entry, a field, or a piece of metadata."""
    header, data = opened(file)
    found = re.findall(rb'"[^"]*": (?:\{[^}]*\}|\[[^\]]*\]|"[^"]*")', header)
    if not found:
        return file
    one = dice.choice(found)
    other = one if dice.random() < 0.7 else TOKENS.sub(_other_digit, one)
    return sealed(header.replace(one, other + b", " + one, 1), data)


def _other_digit(token: re.Match[bytes]) -> bytes:
    return b"1" if token[0].isdigit() else token[0]


def splice(file: bytes, dice: random.Random) -> bytes:
    """Join parts of two files: header and data, both listings, or any two halves."""
    other = sound(dice)
    (header, data), (other_header, other_data) = opened(file), opened(other)
    kind = dice.choice(["data", "listings", "halves"])
    if kind == "data":
        return sealed(header, other_data)
    if kind == "listings":
        joined = header.rstrip()[:-1] + b", " + other_header.lstrip()[1:]
        return sealed(joined, data + other_data)
    return file[: dice.randint(0, len(file))] + other[dice.randint(0, len(other)) :]


Mutation = Callable[[bytes, random.Random], bytes]
MUTATIONS: list[Mutation] = [
    flip_bits, cut_or_insert, change_length, change_tokens, change_listing,
    change_listing, double, splice,
]  # fmt: skip


def mutated(file: bytes, dice: random.Random) -> bytes:
    for mutation in dice.choices(MUTATIONS, k=dice.choice([1, 1, 1, 2, 3])):
        file = mutation(file, dice)
    return file


# --- what must come of them ---

# The rules by which hardway refuses, as its messages tell them.
RULES = [
    "bytes long; the header's length", "are allowed", "it is truncated, or not",
    "appears twice", "nested too deeply", "a size must have at most", "is negative",
    "does not begin with", "is not JSON", "is not strict JSON",
    "is not an object", "is not a string", "must have exactly", "its dtype",
    "than 64 bits can count", "overflows 64 bits", "but its data_offsets span",
    "its shape", "its data_offsets", "after its end", "do not fill whole bytes",
    "overlaps", "leaves a gap", "it is truncated", "bytes are left over",
]  # fmt: skip


class Pairs(list):  # type: ignore[type-arg]
    """A JSON object as its names and values, those said twice included."""


def laxer(file: bytes) -> Iterator[str]:
    """Yield how the reference is laxer about this header: every reason there is."""
    listing = json.loads(
        opened(file)[0], object_pairs_hook=Pairs, parse_int=float, strict=False
    )
    if twice(listing):
        yield "a tensor's name twice"
    for name, entry in listing:
        if name == "__metadata__":
            if isinstance(entry, Pairs) and twice(entry):
                yield "a name twice in the metadata"
        elif not isinstance(entry, Pairs):
            yield "a tensor as an array"
        else:
            yield from laxer_entry(dict(entry))


def laxer_entry(entry: dict[str, Any]) -> Iterator[str]:
    if not entry.keys() <= {"dtype", "shape", "data_offsets"}:
        yield "a field that the format does not know"
    if isinstance(entry["dtype"], Pairs):
        yield "a dtype as an object"
    if any(dimension >= 2**63 for dimension in entry["shape"]):
        yield "a dimension of 64 bits beside one of 0"


def twice(pairs: Pairs) -> bool:
    return len({name for name, _ in pairs}) < len(pairs)


def unloadable(header: Header) -> Iterator[str]:
    """Yield why tensors that the header describes well cannot be had from torch."""
    for info in header.tensors.values():
        if info.dtype not in DTYPES:
            yield "a dtype that is valid and not loaded"
        if math.prod(max(dimension, 1) for dimension in info.shape) >= 2**63:
            yield "an empty tensor too wide for torch"


def outcome(file: bytes, path: Path) -> str:
    """Read a file both ways; return what came of it, or raise `AssertionError`."""
    path.write_bytes(file)
    header, header_refusal = measured(
        partial(read_header, path), len(file), SafetensorsError
    )
    tensors, refusal = measured(partial(load_file, path), len(file), SafetensorsError)
    try:
        theirs = dict(reference.deserialize(file))
    except reference.SafetensorError:
        assert header is tensors is None, "read, and the reference refuses it"
        assert header_refusal == refusal
        return f"refused, as by the reference: {rule(refusal)}"
    if header is None:
        reasons = set(laxer(file))
    else:
        assert_same_header(header, theirs)
        reasons = set(unloadable(header))
    if tensors is None:
        assert reasons, f"refused, and the reference reads it: {refusal}"
        return f"refused, unlike by the reference: {' and '.join(sorted(reasons))}"
    assert_same_tensors(tensors, reference.torch.load(file))
    return "read, as by the reference"


def rule(refusal: str) -> str:
    return next(rule for rule in RULES if rule in refusal)


def assert_same_header(ours: Header, theirs: dict[str, Any]) -> None:
    assert ours.tensors.keys() == theirs.keys()
    for name, info in ours.tensors.items():
        assert info.dtype == theirs[name]["dtype"]
        assert list(info.shape) == theirs[name]["shape"]
        assert info.end - info.start == len(theirs[name]["data"])


def assert_same_tensors(ours: Any, theirs: Any) -> None:
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert ours[name].dtype == tensor.dtype
        assert ours[name].shape == tensor.shape
        as_bytes = [t.reshape(-1).view(torch.uint8) for t in (ours[name], tensor)]
        assert torch.equal(*as_bytes)


# --- the run ---


def broken(dice: random.Random) -> bytes:
    """Make a sound file, and break it."""
    return mutated(sound(dice), dice)


def fuzz(seed: int, files: int = BLOCK) -> Counter[str]:
    """Break so many files, the same ones for a seed, and count what came of them."""
    return break_files(broken, outcome, seed, files)


def main(arguments: list[str] | None = None) -> int:
    return run(fuzz, BLOCK, files=200_000, arguments=arguments)


if __name__ == "__main__":
    sys.exit(main())
