"""What GGUF files from strangers say: each rule, in a file that breaks it."""

import struct
import time
import tracemalloc
from pathlib import Path
from typing import Any

import gguf as reference
import pytest
from gguf import GGUFValueType as ValueType
from hypothesis import given
from hypothesis import strategies as st

import gguf_files as files
from hardway import untrusted_gguf
from hardway.gguf import GGUFError, load_file, read_header
from refusals import refuses

HUGE = [2**31, 2**32, 2**63, 2**64 - 1]
FOUR = bytes(4)


def key(kind: int, packed: bytes, name: str = "k") -> bytes:
    return files.gguf([files.key(name, kind, packed)])


def aligned(number: int, kind: ValueType = ValueType.UINT32) -> bytes:
    packed = struct.pack(files.PACKED[kind], number)
    return key(kind, packed, "general.alignment")


def nested(depth: int) -> bytes:
    packed = files.array(ValueType.UINT8, b"\1")
    for _ in range(depth - 1):
        packed = files.array(ValueType.ARRAY, packed)
    return key(ValueType.ARRAY, packed)


def table(*tensors: bytes, data: bytes = bytes(4)) -> bytes:
    return files.gguf(tensors=tensors, data=data)


def one(sizes: list[int], kind: int = 0, offset: int = 0, data: bytes = FOUR) -> bytes:
    return table(files.tensor("t", sizes, kind, offset), data=data)


def two(first: int, second: int, data: bytes) -> bytes:
    """Tensors a and b of 40 bytes each, at these offsets."""
    places = zip("ab", (first, second), strict=True)
    return table(*(files.tensor(n, [10], 0, at) for n, at in places), data=data)


def array_of(kind: int, count: int, raw: bytes = b"") -> bytes:
    return key(ValueType.ARRAY, struct.pack("<IQ", kind, count) + raw)


KEY, TENSOR = "key 'k': ", "tensor 't': "
LENGTH = struct.Struct("<Q").pack
NAN32, NAN64 = b"\0\0\xc0\x7f", bytes(6) + b"\xf8\x7f"
UINT8, UINT32, STRING, ARRAY = (
    ValueType.UINT8, ValueType.UINT32, ValueType.STRING, ValueType.ARRAY,
)  # fmt: skip

# The file, the entry that the message names, the rule.
MALFORMED = {
    # --- the first 24 bytes ---
    "empty": (b"", "", "the file is 0 bytes long"),
    "only a magic": (b"GGUF", "", "the file is 4 bytes long"),
    "no counts": (files.gguf()[:-1], "", "the file is 23 bytes long"),
    "a web page": (b"<!DOCTYPE html>" + bytes(99), "", "it begins with b'<!DO'"),
    "an LFS pointer": (b"version https://git-lfs.github", "", "git lfs pull"),
    "the older format": (files.gguf(magic=b"ggjt"), "", "it begins with b'ggjt'"),
    "magic backwards": (files.gguf(magic=b"FUGG"), "", "it begins with b'FUGG'"),
    **{
        f"version {n}": (files.gguf(version=n), "", f"version is {n};")
        for n in (0, 1, 4, 2**32 - 1)
    },
    **{
        f"big-endian version {n}": (files.gguf(version=n << 24), "", "big-endian")
        for n in (2, 3)
    },
    # --- counts ---
    **{
        f"{n} keys": (files.gguf(counts=(0, n)), "", f"it claims {n:,} keys")
        for n in (1, *HUGE)
    },
    **{
        f"{n} tensors": (files.gguf(counts=(n, 0)), "", f"it claims {n:,} tensors")
        for n in (1, *HUGE)
    },
    "one key too many": (
        files.gguf([files.key("k", UINT8, b"\1")], counts=(0, 2)), "", "claims 2 keys",
    ),
    # --- keys ---
    "a key without end": (
        files.gguf([LENGTH(2**64 - 1) + b"abcdefgh"]), "", "too short",
    ),
    "a key not in UTF-8": (
        files.gguf([files.key(b"\xff", UINT8, b"\1")]), "", "is not UTF-8",
    ),
    "a key with half a surrogate pair": (
        files.gguf([files.key(b"\xed\xa0\x80", UINT8, b"\1")]), "", "is not UTF-8",
    ),
    "a key twice": (
        files.gguf([files.key("k", UINT8, b"\1"), files.key("k", UINT32, b"\1" * 4)]),
        KEY, "it appears twice",
    ),
    "a long key": (
        files.gguf([files.key("k" * 65_536, UINT8, b"\1")]),
        "key 'kkk", "more than 65,535 bytes",
    ),
    "a long key of few characters": (
        files.gguf([files.key("é" * 32_768, UINT8, b"\1")]),
        "key 'ééé", "more than 65,535 bytes",
    ),
    # --- values ---
    **{
        f"value type {n}": (key(n, bytes(8)), KEY, f"value's type {n} is not one")
        for n in (13, 255, 2**32 - 1)
    },
    **{
        f"no value of type {kind.name}": (
            files.gguf([files.key("key", kind, b"")]), "key 'key': ", "1 values",
        )
        for kind in files.PACKED
        if kind not in (ValueType.UINT8, ValueType.INT8, ValueType.BOOL)
    },
    "a text without end": (key(STRING, LENGTH(2**64 - 1)), KEY, "too short"),
    "a text one byte too long": (key(STRING, LENGTH(3) + b"ab"), KEY, "too short"),
    "a text not in UTF-8": (key(STRING, files.text(b"a\xc3")), KEY, "UTF-8 at byte 1"),
    "a boolean of 2": (key(ValueType.BOOL, b"\2"), KEY, "its boolean is 2"),
    "a boolean of 255 in an array": (
        key(ARRAY, files.array(ValueType.BOOL, b"\1", b"\xff")), KEY, "boolean is 255",
    ),
    "NaN": (key(ValueType.FLOAT32, NAN32), KEY, "it is NaN"),
    "NaN of 64 bits": (key(ValueType.FLOAT64, NAN64), KEY, "it is NaN"),
    "NaN in an array": (
        key(ARRAY, files.array(ValueType.FLOAT32, FOUR, NAN32)), KEY, "or holds one",
    ),
    # --- arrays ---
    **{
        f"an array of {n} of type {kind}": (
            array_of(kind, n), KEY, f"it claims {n:,} values",
        )
        for kind in range(13)
        for n in (1, *HUGE)
    },
    "an array of an unknown type": (array_of(13, 0), KEY, "type 13 is not one"),
    "an array in an array, without end": (
        key(ARRAY, files.array(ARRAY, struct.pack("<IQ", UINT8, 2**60))),
        KEY, "values, of at least 1 bytes each, but 0 bytes follow",
    ),
    "arrays five deep": (nested(5), KEY, "its arrays nest more than 4 deep"),
    "arrays 100,000 deep": (
        key(ARRAY, struct.pack("<IQ", ARRAY, 1) * 100_000), KEY, "more than 4 deep",
    ),
    # --- alignment ---
    **{
        f"alignment {n}": (aligned(n), "key 'general.alignment': ", f"got {n}")
        for n in (0, 3, 33, 131_072, 2**32 - 1)
    },
    "negative alignment": (
        aligned(-8, ValueType.INT32), "key 'general.alignment': ", "got -8",
    ),
    "alignment as a float": (
        aligned(32, ValueType.FLOAT32), "key 'general.alignment': ", "got 32.0",
    ),
    "alignment as a boolean": (
        aligned(1, ValueType.BOOL), "key 'general.alignment': ", "got True",
    ),
    "alignment as a text": (
        key(STRING, files.text("32"), "general.alignment"),
        "key 'general.alignment': ", "got '32'",
    ),
    # --- the table ---
    "a tensor's name without end": (
        table(LENGTH(2**64 - 1) + bytes(16), data=b""), "", "too short",
    ),
    "a tensor's name not in UTF-8": (
        table(files.tensor(b"\xff", [1])), "", "is not UTF-8",
    ),
    "a tensor twice": (
        table(files.tensor("t", [1]), files.tensor("t", [1], 0, 32), data=bytes(36)),
        TENSOR, "it appears twice",
    ),
    "a long name": (
        table(files.tensor("t" * 65_536, [1])), "tensor 'ttt", "more than 65,535",
    ),
    **{
        f"rank {n}": (
            table(files.text("t") + struct.pack("<I", n) + bytes(99)),
            TENSOR, f"its rank is {n:,}",
        )
        for n in (5, 2**31, 2**32 - 1)
    },
    "a table cut off": (
        files.gguf(tensors=[files.tensor("t" * 9, [1, 1, 1, 1])[:-1]]),
        "tensor 'ttttttttt': ", "too short",
    ),
    "a dimension of 0": (one([0]), TENSOR, "its shape [0] holds nothing"),
    "0 beside a dimension of 64 bits": (
        one([2**64 - 1, 0]), TENSOR, "holds nothing",
    ),
    **{
        f"2^{31 * n} and more elements": (
            one([2**31] * n + [2**63]), TENSOR, "more elements than 63 bits",
        )
        for n in (0, 1, 3)
    },
    "a product that 64 bits wrap to 0": (
        one([2**32, 2**32]), TENSOR, "more elements than 63 bits",
    ),
    "a product that 64 bits wrap to 1": (
        one([2**63 + 1, 2**63 + 1]), TENSOR, "more elements than 63 bits",
    ),
    "a size in bytes that 64 bits wrap to 4": (
        one([2**62 + 1]), TENSOR, "the file is cut off",
    ),
    "a row of half a block": (
        one([16, 2], 3, data=bytes(20)), TENSOR, "rows of 16 values, but Q4_1",
    ),
    "a row of a block and a half": (
        one([48, 2], 3, data=bytes(60)), TENSOR, "rows of 48 values, but Q4_1",
    ),
    "a scalar in blocks": (one([], 3, data=bytes(20)), TENSOR, "rows of 1 values"),
    "a row of 32 where blocks hold 256": (
        one([32, 8], 12, data=bytes(144)), TENSOR, "stores blocks of 256",
    ),
    # --- the layout ---
    "misaligned": (one([1], 0, 4, bytes(8)), TENSOR, "not at a multiple of 32"),
    "misaligned by one": (one([1], 0, 33, bytes(40)), TENSOR, "a multiple of 32"),
    "a hole before": (one([1], 0, 32, bytes(36)), TENSOR, "it leaves a hole"),
    "a hole between": (two(0, 96, bytes(136)), "tensor 'b': ", "it leaves a hole"),
    "one range twice": (two(0, 0, bytes(40)), "tensor 'b': ", "it overlaps"),
    "an overlap": (two(0, 32, bytes(72)), "tensor 'b': ", "it overlaps"),
    "an overlap in the other order": (two(32, 0, bytes(72)), "tensor 'a': ", "overla"),
    "one byte missing": (one([1], data=bytes(3)), TENSOR, "the file is cut off"),
    "no data": (table(files.tensor("t", [1]), data=b""), TENSOR, "the file is cut off"),
    "data past the end": (one([2**40]), TENSOR, "the file is cut off"),
    "the second past the end": (two(0, 64, bytes(103)), "tensor 'b': ", "cut off"),
    **{
        f"offset {n}": (one([1], 0, n), TENSOR, "it leaves a hole")
        for n in (2**31, 2**63, 2**64 - 32)
    },
    "a new kind past the end": (
        table(files.tensor("t", [1], 99), data=b""), TENSOR, "the file is cut off",
    ),
    "a tail": (one([1], data=bytes(36)), "", "more than padding follows"),
    "another file behind it": (one([1]) + b"PK\3\4" * 50, "", "more than padding"),
    "a tail and no tensors": (files.gguf() + bytes(40), "", "more than padding"),
}  # fmt: skip

# What is refused here and read by the reference, some of it as nonsense.
STRICTER = {
    "a boolean of 2", "a boolean of 255 in an array", "NaN", "NaN of 64 bits",
    "NaN in an array", "arrays five deep", "alignment 131072", "a long key", "a tail",
    "a long key of few characters", "a long name", "a hole before", "a hole between",
    "one range twice", "an overlap", "an overlap in the other order", "misaligned",
    "misaligned by one", "another file behind it", "a tail and no tensors", "rank 5",
    "big-endian version 2", "big-endian version 3", "a dimension of 0",
}  # fmt: skip


def written(directory: Path, content: bytes) -> Path:
    path = directory / "x.gguf"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("content", "entry", "rule"), MALFORMED.values(), ids=MALFORMED
)
def test_each_rule(content: bytes, entry: str, rule: str, tmp_path: Path) -> None:
    path = written(tmp_path, content)
    for read in (read_header, load_file):
        with pytest.raises(GGUFError) as caught:
            read(path)
        message = str(caught.value)
        assert message.startswith(f"{path}: {entry}")
        assert message.count(str(path)) == 1
        assert rule in message
        assert message.isprintable()
        assert len(message) < len(str(path)) + 350


@pytest.mark.parametrize("what", sorted(STRICTER))
def test_the_reference_is_laxer(what: str, tmp_path: Path) -> None:
    assert reference.GGUFReader(written(tmp_path, MALFORMED[what][0]))


SOUND = {
    "nothing": files.gguf(),
    "arrays four deep": nested(4),
    "no values": key(STRING, files.text("")),
    "the longest key": key(UINT8, b"\1", "k" * 65_535),
    "a key without a name": key(UINT8, b"\1", ""),
    "strange names": files.gguf(
        [files.key("\0\x1b[2J", UINT8, b"\1")],
        [files.tensor("../../etc/passwd", [1])],
        FOUR,
    ),
    "infinity": key(ValueType.FLOAT32, b"\0\0\x80\xff"),
    "a NaN among the weights": one([1], data=NAN32),
    "the largest alignment": aligned(65_536),
    "rank 4": one([1, 1, 1, 1]),
    "the second one first": two(64, 0, bytes(104)),
}


@pytest.mark.parametrize("content", SOUND.values(), ids=SOUND)
def test_unusual_and_sound(content: bytes, tmp_path: Path) -> None:
    path = written(tmp_path, content)
    assert load_file(path).keys() == read_header(path).tensors.keys()
    theirs = reference.GGUFReader(path)
    assert [tensor.name for tensor in theirs.tensors] == [*read_header(path).tensors]


def sound() -> bytes:
    """A small file of a bit of everything."""
    keys = [
        files.key("a", STRING, files.text("é")),
        files.key("b", ARRAY, files.array(STRING, files.text("x"), files.text(""))),
        files.key("c", ARRAY, files.array(ARRAY, files.array(UINT8, b"\1"))),
        files.key("d", ValueType.FLOAT64, bytes(8)),
    ]
    tensors = {
        "t": ("Q4_1", (2, 32), bytes(range(40))),
        "u": ("F32", (3,), bytes(12)),
    }
    return files.gguf_of(tensors, keys, alignment=8)


def test_a_file_cut_off_anywhere(tmp_path: Path) -> None:
    content = sound()
    load_file(written(tmp_path, content))
    for n_bytes in range(len(content)):
        path = written(tmp_path, content[:n_bytes])
        with pytest.raises(GGUFError, match=r"the file|it claims|cut off"):
            load_file(path)


@given(content=st.binary(max_size=100))
def test_any_bytes(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "any.gguf"
    for file in (content, b"GGUF\3\0\0\0" + content):
        path.write_bytes(file)
        try:
            load_file(path)
        except GGUFError:
            continue


@pytest.mark.slow
@pytest.mark.parametrize(
    "content",
    [
        MALFORMED["arrays 100,000 deep"][0],
        files.gguf(counts=(0, 2**64 - 1)) + bytes(1_000_000),
        files.gguf(counts=(2**64 - 1, 0)) + bytes(1_000_000),
        array_of(STRING, 125_001, bytes(1_000_000) + LENGTH(2**40)),
        array_of(ARRAY, 2**40, bytes(1_000_000)),
        key(STRING, LENGTH(2**40) + bytes(1_000_000)),
    ],
    ids=["deep", "keys", "tensors", "texts", "arrays", "text"],
)
def test_time_and_memory_are_proportional_to_the_file(
    content: bytes, tmp_path: Path
) -> None:
    path = written(tmp_path, content)
    tracemalloc.start()
    start = time.process_time()
    try:
        with pytest.raises(GGUFError):
            read_header(path)
        seconds = time.process_time() - start
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert seconds < 3
    assert peak < 20 * len(content)


def test_a_header_larger_than_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(untrusted_gguf, "MAX_HEADER_BYTES", 100)
    path = written(tmp_path, key(STRING, files.text("a" * 100)))
    with pytest.raises(GGUFError, match="more than the 100 bytes allowed"):
        read_header(path)


def test_a_file_that_shrinks_while_it_is_read(tmp_path: Path) -> None:
    path = written(tmp_path, sound())
    with path.open("rb") as file:
        bounded = untrusted_gguf.BoundedFile(file)
        path.write_bytes(b"GGUF")
        with refuses("the file ended"):
            bounded.read(24)


@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=5),
    alignment=st.sampled_from([1, 8, 32]),
    data=st.data(),
)
def test_just_what_covers_the_data_is_accepted(
    sizes: list[int], alignment: int, data: st.DataObject
) -> None:
    start, spans = 64, []
    for number, size in enumerate(sizes):
        spans.append((start, start + size, f"t{number}"))
        start += -(-size // alignment) * alignment
    end = spans[-1][1]

    def check(spans: Any, file_size: int) -> None:
        untrusted_gguf.check_layout(spans, 64, alignment, file_size)

    shuffled = data.draw(st.permutations(spans))
    for padding in range(alignment):
        check(shuffled, end + padding)
    for wrong in (end - 1, end + alignment):
        with pytest.raises(ValueError, match=r"cut off|more than padding"):
            check(shuffled, wrong)
    moved = data.draw(st.integers(0, len(spans) - 1))
    first, last, name = spans[moved]
    for step in (-alignment, alignment, 1, -1):
        broken = [*spans]
        broken[moved] = first + step, last + step, name
        with pytest.raises(ValueError, match=r"^tensor 't"):
            check(broken, end + 2 * alignment)
