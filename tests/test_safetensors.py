"""Chapter 1: the file format, rule by rule, against the reference package."""

import contextlib
import json
import random
import re
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import safetensors as reference
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hardway.safetensors import (
    DTYPE_BITS,
    TORCH_DTYPES,
    Header,
    SafetensorsError,
    TensorInfo,
    load_file,
    read_header,
)

A = b'"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}'
EIGHT = bytes(range(8))


def sealed(header: bytes, data: bytes = b"") -> bytes:
    return len(header).to_bytes(8, "little") + header + data


def tensor(dtype: str, shape: str, offsets: str, data: bytes = b"") -> bytes:
    entry = f'{{"a":{{"dtype":{dtype},"shape":{shape},"data_offsets":{offsets}}}}}'
    return sealed(entry.encode(), data)


def two(first: str, second: str, data: bytes) -> bytes:
    """Tensors a and b of type U8, each given as its shape and its offsets."""
    entries = [f'"dtype":"U8","shape":{place}' for place in (first, second)]
    header = f'{{"a":{{{entries[0]}}},"b":{{{entries[1]}}}}}'
    return sealed(header.encode(), data)


def place(shape: str, offsets: str) -> str:
    return f'{shape},"data_offsets":{offsets}'


JSON = "is not valid JSON in UTF-8"
FIELDS = "must have exactly dtype, shape and data_offsets"
SHAPE = "is not a list of whole numbers below 2^63"
OFFSETS = "are not two whole numbers below 2^63"
DTYPE = "is not one the format knows"
DTYPE_NAMES = [f'"{name}"'.encode() for name in DTYPE_BITS]
DEEP = b"[" * 200 + b"]" * 200

# The row of the table of malformed files, the file, the tensor at fault, the rule.
MALFORMED = [
    (1, b"", None, "it is 0 bytes long"),
    (1, bytes(7), None, "it is 7 bytes long"),
    (2, b"\xff" * 8, None, "header of 18,446,744,073,709,551,615 bytes; at most"),
    (2, (100_000_001).to_bytes(8, "little"), None, "header of 100,000,001 bytes"),
    (3, (3).to_bytes(8, "little") + b"{}", None, "10 bytes long"),
    (3, (100_000_000).to_bytes(8, "little") + b"{}", None, "10 bytes long"),
    (4, sealed(b'{"\xff":{}}'), None, JSON),
    (5, sealed(b""), None, JSON),
    (5, sealed(b"   "), None, JSON),
    (5, sealed(b"{"), None, JSON),
    (5, sealed(b"\v{}"), None, JSON),
    (5, sealed("\u00a0{}".encode()), None, JSON),
    (5, sealed(b"[]"), None, JSON),
    (5, sealed(b"null"), None, JSON),
    (5, sealed(b"{}\0"), None, JSON),
    (5, sealed(b"{}x"), None, JSON),
    (5, sealed(b"{}{}"), None, JSON),
    (5, sealed(b"{" + A + b",}", EIGHT), None, JSON),
    (5, sealed(b"{/**/}"), None, JSON),
    (5, sealed(b'{"a":NaN}'), None, "NaN is not JSON"),
    (5, sealed(b'{"a":-Infinity}'), None, "-Infinity is not JSON"),
    (5, sealed(b'{"__metadata__":{"a":"\n"}}'), None, JSON),
    (5, sealed(b'{"__metadata__":{"a":' + DEEP + b"}}"), None, "for 'a' is not a"),
    (5, sealed(b'{"a":' + b"[" * 100_000 + b"}"), None, JSON),
    (5, sealed(b'{"\\ud800":{}}'), None, JSON),
    (5, sealed(b'{"__metadata__":{"\\ud800":""}}'), None, JSON),
    (5, sealed(b'{"__metadata__":{"":"\\udc00"}}'), None, JSON),
    (5, sealed(b"\xef\xbb\xbf{}"), None, JSON),
    (5, sealed("{}".encode("utf-16")), None, JSON),
    (5, sealed("{}".encode("utf-16-le")), None, JSON),
    (9, tensor('"F32","dtype":"F32"', "[2]", "[0,8]", EIGHT), None, "'dtype' appears"),
    (9, tensor('"F32"', '[2],"shape":[2]', "[0,8]", EIGHT), None, "'shape' appears"),
    (
        9,
        tensor('"F32"', "[2]", '[0,8],"data_offsets":[0,8]', EIGHT),
        None,
        "'data_offsets' appears twice",
    ),
    (
        9,
        sealed(b'{"__metadata__":{},"__metadata__":{}}'),
        None,
        "'__metadata__' appears",
    ),
    (11, sealed(b'{"__metadata__":{"a":1}}'), None, "value for 'a' is not a string"),
    (11, sealed(b'{"__metadata__":{"a":null}}'), None, "value for 'a' is not a string"),
    (11, sealed(b'{"__metadata__":{"a":{}}}'), None, "value for 'a' is not a string"),
    (11, sealed(b'{"__metadata__":["a"]}'), None, "__metadata__ is not an object"),
    (11, sealed(b'{"__metadata__":""}'), None, "__metadata__ is not an object"),
    (12, sealed(b'{"a":{"dtype":"F32","shape":[2]}}', EIGHT), "a", FIELDS),
    (12, sealed(b'{"a":{"dtype":"F32","data_offsets":[0,8]}}', EIGHT), "a", FIELDS),
    (12, sealed(b'{"a":{"shape":[2],"data_offsets":[0,8]}}', EIGHT), "a", FIELDS),
    (12, sealed(b'{"a":{}}'), "a", FIELDS),
    (12, sealed(b'{"a":null}'), "a", FIELDS),
    (12, sealed(b'{"a":"F32"}'), "a", FIELDS),
    (15, tensor('"F33"', "[2]", "[0,8]", EIGHT), "a", f"its dtype 'F33' {DTYPE}"),
    (15, tensor('"f32"', "[2]", "[0,8]", EIGHT), "a", f"its dtype 'f32' {DTYPE}"),
    (15, tensor("32", "[2]", "[0,8]", EIGHT), "a", f"its dtype 32 {DTYPE}"),
    (15, tensor("null", "[2]", "[0,8]", EIGHT), "a", f"its dtype None {DTYPE}"),
    (15, tensor("[]", "[2]", "[0,8]", EIGHT), "a", f"its dtype [] {DTYPE}"),
    (16, tensor('"F32"', "[2]", "[-1,8]", EIGHT), None, "-1 is negative"),
    (16, tensor('"F32"', "[2]", "[-0,8]", EIGHT), None, "-0 is negative"),
    (16, tensor('"F32"', "[2]", "[00,8]", EIGHT), None, JSON),
    (16, tensor('"F32"', "[2]", "[0,8.0]", EIGHT), "a", OFFSETS),
    (16, tensor('"F32"', "[2]", "[0,8e0]", EIGHT), "a", OFFSETS),
    (16, tensor('"F32"', "[2]", '[0,"8"]', EIGHT), "a", OFFSETS),
    (16, tensor('"U8"', "[1]", "[false,true]", b"x"), "a", OFFSETS),
    (16, tensor('"F32"', "[2]", f"[0,{2**64}]", EIGHT), "a", OFFSETS),
    (16, tensor('"F32"', "[2]", "[8]", EIGHT), "a", OFFSETS),
    (16, tensor('"F32"', "[2]", "[0,8,8]", EIGHT), "a", OFFSETS),
    (16, tensor('"F32"', "[2]", "null", EIGHT), "a", OFFSETS),
    (16, tensor('"F32"', "[2]", '{"0":8}', EIGHT), "a", OFFSETS),
    (16, tensor('"F32"', "[-2]", "[0,8]", EIGHT), None, "-2 is negative"),
    (16, tensor('"F32"', "[2.0]", "[0,8]", EIGHT), "a", SHAPE),
    (16, tensor('"F32"', "[2e0]", "[0,8]", EIGHT), "a", SHAPE),
    (16, tensor('"F32"', '["2"]', "[0,8]", EIGHT), "a", SHAPE),
    (16, tensor('"F32"', "[true,2]", "[0,8]", EIGHT), "a", SHAPE),
    (16, tensor('"F32"', "[[2]]", "[0,8]", EIGHT), "a", SHAPE),
    (16, tensor('"F32"', f"[0,{2**64}]", "[0,0]"), "a", SHAPE),
    (16, tensor('"F32"', "9" * 5000, "[0,0]"), None, JSON),
    (16, tensor('"F32"', "2", "[0,8]", EIGHT), "a", SHAPE),
    (16, tensor('"F32"', "{}", "[0,4]", EIGHT), "a", SHAPE),
    (18, tensor('"U8"', "[1]", "[1,2]", b"xy"), "a", "byte 1, not 0: it leaves a hole"),
    (18, two(place("[1]", "[0,1]"), place("[1]", "[2,3]"), b"xyz"), "b", "a hole"),
    (18, two(place("[2]", "[0,2]"), place("[2]", "[1,3]"), b"xyz"), "b", "overlaps"),
    (18, two(place("[1]", "[0,1]"), place("[1]", "[0,1]"), b"x"), "b", "overlaps"),
    (18, two(place("[3]", "[0,3]"), place("[0]", "[1,1]"), b"xyz"), "b", "overlaps"),
    (18, two(place("[0]", "[4,4]"), place("[3]", "[0,3]"), b"xyz"), "a", "a hole"),
    (19, tensor('"U8"', "[1]", "[2,1]", b"xy"), "a", "byte 2, after its end at 1"),
    (19, tensor('"U8"', "[0]", "[1,0]", b"x"), "a", "byte 1, after its end at 0"),
    (
        20,
        tensor('"F32"', f"[{2**32},{2**32},0]", "[0,0]"),
        "a",
        "more elements than 64 bits",
    ),
    (20, tensor('"U8"', f"[2,{2**63 - 1}]", "[0,0]"), "a", "more bits than 64 bits"),
    (20, tensor('"F64"', f"[{2**58}]", "[0,0]"), "a", "more bits than 64 bits"),
    (21, tensor('"F4"', "[3]", "[0,2]", b"xy"), "a", "12 bits do not fill whole bytes"),
    (21, tensor('"F6_E2M3"', "[2]", "[0,2]", b"xy"), "a", "12 bits do not fill"),
    (22, tensor('"F32"', "[2]", "[0,4]", b"abcd"), "a", "takes 8 bytes, but its data_"),
    (22, tensor('"F32"', "[]", "[0,8]", EIGHT), "a", "takes 4 bytes, but its data_off"),
    (
        22,
        tensor('"F32"', "[0]", "[0,8]", EIGHT),
        "a",
        "takes 0 bytes, but its data_off",
    ),
    (23, sealed(b"{" + A + b"}", EIGHT[:6]), None, "8 bytes, but 6 follow the header"),
    (23, sealed(b"{" + A + b"}", EIGHT + b"%PDF"), None, "8 bytes, but 12 follow the"),
    (23, sealed(b"{}", b"x"), None, "0 bytes, but 1 follow the header"),
]

# What the reference accepts, some of it against its own README and schema.
STRICTER = [
    (8, sealed(b"{" + A + b"," + A + b"}", EIGHT), None, "the key 'a' appears twice"),
    (
        8,
        sealed(b"{" + A.replace(b"8", b"9") + b"," + A + b"}", EIGHT),
        None,
        "the key 'a' appears twice",
    ),
    (
        10,
        sealed(b'{"__metadata__":{"k":"1","k":"1"}}'),
        None,
        "the key 'k' appears twice",
    ),
    (13, tensor('"F32"', "[2]", '[0,8],"stride":[1]', EIGHT), "a", FIELDS),
    (14, sealed(b'{"a":["F32",[2],[0,8]]}', EIGHT), "a", FIELDS),
    (15, tensor('{"F32":null}', "[2]", "[0,8]", EIGHT), "a", DTYPE),
    (16, tensor('"F32"', f"[0,{2**63}]", "[0,0]"), "a", SHAPE),
]

WELL_FORMED = [
    (6, sealed(b"{" + A + b"} \t\n\r", EIGHT), ["a"]),
    (7, sealed(b" \t\n\r{" + A + b"}", EIGHT), ["a"]),
    (11, sealed(b'{"__metadata__":null,' + A + b"}", EIGHT), ["a"]),
    (11, sealed(b'{"__metadata__":{}}'), []),
    (17, two(place("[1]", "[2,3]"), place("[2]", "[0,2]"), b"xyz"), ["a", "b"]),
    (18, two(place("[3]", "[0,3]"), place("[0]", "[0,0]"), b"xyz"), ["a", "b"]),
    (18, two(place("[3]", "[0,3]"), place("[0]", "[3,3]"), b"xyz"), ["a", "b"]),
    (20, tensor('"F32"', f"[0,{2**32},{2**29}]", "[0,0]"), ["a"]),
    (24, tensor('"F32"', "[]", "[0,4]", b"abcd"), ["a"]),
    (24, tensor('"F32"', "[0,768]", "[0,0]"), ["a"]),
    (24, sealed(b"{}"), []),
    (25, tensor('"BOOL"', "[1]", "[0,1]", b"\2"), ["a"]),
    (25, tensor('"F32"', "[2]", "[0,8]", b"\0\0\xc0\x7f\0\0\x80\xff"), ["a"]),
    (25, sealed(b"{" + A.replace(b'"a"', b'""') + b"}", EIGHT), [""]),
    (25, sealed(b"{" + A.replace(b"a", b"\\u0000", 1) + b"}", EIGHT), ["\0"]),
    (
        25,
        sealed(b"{" + A.replace(b"a", b"../../etc/passwd", 1) + b"}", EIGHT),
        ["../../etc/passwd"],
    ),
    (25, sealed(b"{" + A.replace(b"a", b"\\ud83d\\ude00", 1) + b"}", EIGHT), ["😀"]),
]


def by_row(table: list[Any]) -> list[Any]:
    return [pytest.param(*case[1:], id=f"row {case[0]}") for case in table]


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def raw(tensor: torch.Tensor) -> bytes:
    return bytes(tensor.reshape(-1).view(torch.uint8).tolist())


def assert_same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, expected in theirs.items():
        assert ours[name].dtype == expected.dtype
        assert ours[name].shape == expected.shape
        assert raw(ours[name]) == raw(expected)


def test_the_rows_are_all_there() -> None:
    rows = {case[0] for case in [*MALFORMED, *STRICTER, *WELL_FORMED]}
    assert rows == set(range(1, 26))


@pytest.mark.parametrize("read", [read_header, load_file])
@pytest.mark.parametrize(("file", "name", "rule"), by_row(MALFORMED + STRICTER))
def test_malformed(
    file: bytes, name: str | None, rule: str, read: Any, tmp_path: Path
) -> None:
    path = written(tmp_path / "x.safetensors", file)
    with pytest.raises(SafetensorsError) as caught:
        read(path)
    message = str(caught.value)
    where = f"{path}: " if name is None else f"{path}: tensor {name!r}: "
    assert message.startswith(f"{where}it")
    assert rule in message
    assert "\n" not in message


@pytest.mark.parametrize(("file", "_name", "_rule"), by_row(MALFORMED))
def test_the_reference_rejects_it_too(file: bytes, _name: Any, _rule: str) -> None:
    with pytest.raises(reference.SafetensorError):
        reference.deserialize(file)


@pytest.mark.parametrize(("file", "_name", "_rule"), by_row(STRICTER))
def test_the_reference_is_laxer(file: bytes, _name: Any, _rule: str) -> None:
    assert reference.deserialize(file) is not None


@pytest.mark.parametrize(("file", "names"), by_row(WELL_FORMED))
def test_well_formed(file: bytes, names: list[str], tmp_path: Path) -> None:
    path = written(tmp_path / "x.safetensors", file)
    assert list(read_header(path).tensors) == names
    assert sorted(load_file(path)) == sorted(names)
    assert_same(load_file(path), reference.torch.load(file))


def test_header(tmp_path: Path) -> None:
    listing = b'{"b":{"dtype":"I8","shape":[1,2],"data_offsets":[4,6]},'
    listing += b'"__metadata__":{"format":"pt"},'
    listing += b'"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}'
    path = written(tmp_path / "x", sealed(listing, bytes(6)))
    header = read_header(str(path))
    tensors = {"b": TensorInfo("I8", (1, 2), 4, 6), "a": TensorInfo("F32", (), 0, 4)}
    assert header == Header(tensors, {"format": "pt"}, 8 + len(listing))
    assert list(header.tensors) == ["b", "a"]
    assert list(load_file(path)) == ["a", "b"]


@pytest.mark.parametrize("length", [100_000_001, 2**63, 2**64 - 1])
@pytest.mark.parametrize("size", [8, 200_000_000])
def test_a_huge_header_is_never_read(length: int, size: int, tmp_path: Path) -> None:
    path = written(tmp_path / "x", length.to_bytes(8, "little"))
    with path.open("r+b") as file:
        file.truncate(size)
    tracemalloc.start()
    with pytest.raises(SafetensorsError, match="at most 100,000,000 are allowed"):
        read_header(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000


def test_the_longest_header(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("hardway.safetensors.MAX_HEADER_BYTES", 10)
    assert read_header(written(tmp_path / "x", sealed(b"{}" + b" " * 8))).tensors == {}
    with pytest.raises(SafetensorsError, match="claims a header of 11 bytes"):
        read_header(written(tmp_path / "x", sealed(b"{}" + b" " * 9)))


@pytest.mark.parametrize("read", [read_header, load_file])
def test_unreadable(read: Any, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "missing")
    with pytest.raises(IsADirectoryError):
        read(tmp_path)


def test_the_dtypes_are_the_format_s() -> None:
    assert TORCH_DTYPES.items() <= reference.torch._TYPES.items()
    for name, dtype in TORCH_DTYPES.items():
        assert DTYPE_BITS[name] == 8 * dtype.itemsize


@pytest.mark.parametrize("dtype", sorted(DTYPE_BITS.keys() - TORCH_DTYPES.keys()))
def test_valid_but_not_loaded(dtype: str, tmp_path: Path) -> None:
    size = DTYPE_BITS[dtype]  # of eight elements, in bytes
    file = tensor(f'"{dtype}"', "[8]", f"[0,{size}]", bytes(size))
    path = written(tmp_path / "x", file)
    assert read_header(path).tensors == {"a": TensorInfo(dtype, (8,), 0, size)}
    assert reference.deserialize(file)[0][1]["dtype"] == dtype
    with pytest.raises(SafetensorsError) as caught:
        load_file(path)
    rule = "is valid but not one that can be loaded here"
    assert str(caught.value) == f"{path}: tensor 'a': its dtype {dtype} {rule}"


def test_an_empty_tensor_too_wide_for_torch(tmp_path: Path) -> None:
    path = written(tmp_path / "x", tensor('"F32"', f"[0,{2**62},2]", "[0,0]"))
    assert read_header(path).tensors["a"].shape == (0, 2**62, 2)
    with pytest.raises(SafetensorsError, match=r"tensor 'a': .* too wide to index"):
        load_file(path)
    written(path, tensor('"F32"', f"[0,{2**62}]", "[0,0]"))
    assert load_file(path)["a"].shape == (0, 2**62)


def test_a_file_that_shrinks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import hardway.safetensors as module

    path = written(tmp_path / "x", tensor('"U8"', "[99999]", "[0,99999]", bytes(99999)))
    read = module._read_header

    def read_and_truncate(file: Any, path: Path) -> Header:
        header = read(file, path)
        with path.open("r+b") as shrinking:
            shrinking.truncate(50_000)
        return header

    monkeypatch.setattr(module, "_read_header", read_and_truncate)
    with pytest.raises(SafetensorsError, match="tensor 'a': the file ended while"):
        load_file(path)


@pytest.mark.parametrize("padding", range(8))
def test_misaligned(padding: int, tmp_path: Path) -> None:
    expected = {"w": torch.arange(6.0).reshape(2, 3), "n": torch.arange(3)}
    listing, data = {}, b""
    for name, value in expected.items():
        end = len(data) + value.nbytes
        dtype = {torch.float32: "F32", torch.int64: "I64"}[value.dtype]
        listing[name] = {"dtype": dtype, "shape": list(value.shape)}
        listing[name]["data_offsets"] = [len(data), end]
        data += raw(value)
    file = sealed(json.dumps(listing).encode() + b" " * padding, data)
    assert_same(load_file(written(tmp_path / "x", file)), expected)


def test_tensors_own_their_memory(tmp_path: Path) -> None:
    file = two(place("[9]", "[0,9]"), place("[9]", "[9,18]"), bytes(range(18)))
    path = written(tmp_path / "x", file.replace(b"U8", b"I8"))
    a, b = load_file(path).values()
    again = load_file(path)["a"]
    for loaded in (a, b):
        assert loaded.untyped_storage().nbytes() == 9
        assert loaded.data_ptr() % 8 == 0
        assert loaded.is_contiguous()
    written(path, bytes(len(file)))
    path.unlink()
    a += 100
    assert a.tolist() == list(range(100, 109))
    assert b.tolist() == list(range(9, 18))
    assert again.tolist() == list(range(9))


@st.composite
def files(draw: st.DrawFn) -> bytes:
    """Any tensors of the ten loadable dtypes, in any order, space around the header."""
    names = draw(st.lists(st.text(max_size=5), unique=True, max_size=4))
    entries, data = [], b""
    for name in names:
        dtype = draw(st.sampled_from(sorted(TORCH_DTYPES)))
        shape = draw(st.lists(st.integers(0, 3), max_size=3))
        size = TORCH_DTYPES[dtype].itemsize * torch.Size(shape).numel()
        offsets = [len(data), len(data) + size]
        data += draw(st.binary(min_size=size, max_size=size))
        entry = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
        entries.append((name, entry))
    texts = st.text(max_size=5)
    metadata = draw(st.none() | st.dictionaries(texts, texts, max_size=2))
    entries = draw(st.permutations([*entries, ("__metadata__", metadata)]))
    header = json.dumps(dict(entries), ensure_ascii=draw(st.booleans())).encode()
    space = st.text(" \t\n\r", max_size=5).map(str.encode)
    return sealed(draw(space) + header + draw(space), data)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("random") / "x.safetensors"


@given(file=files())
@settings(deadline=None)
def test_equals_the_reference(file: bytes, path: Path) -> None:
    written(path, file)
    assert_same(load_file(path), reference.torch.load(file))
    with reference.safe_open(path, "pt") as opened:
        assert read_header(path).metadata == (opened.metadata() or {})
        assert read_header(path).tensors.keys() == set(opened.keys())


PIECES = re.compile(rb'"[^"]*"|\d+|.', re.DOTALL)
STRAY = [
    b"",
    b"0",
    b"1",
    b"8",
    b"-1",
    b"1.0",
    b"[]",
    b"null",
    b"{}",
    b",",
    b"\xff",
    b" ",
]


def mutated(file: bytes, dice: random.Random) -> bytes:
    """Swap strings, numbers and whole entries of the header, or break it altogether."""
    length = int.from_bytes(file[:8], "little")
    pieces, data = PIECES.findall(file[8 : 8 + length]), file[8 + length :]
    kind = dice.choice([b'"', b'"', b"0123456789", b""])
    places = [i for i, piece in enumerate(pieces) if not kind or piece[:1] in kind]
    for at in dice.sample(places, min(len(places), dice.randint(0, 2))):
        alike = [pieces[i] for i in places] if kind else STRAY
        pieces[at] = dice.choice([*alike, *DTYPE_NAMES] if kind == b'"' else alike)
    header = b"".join(pieces)
    if dice.random() < 0.3 and (entry := re.search(rb'"[^"]*": {[^}]*}', header)):
        header = header.replace(entry[0], entry[0] + b"," + entry[0])
    if dice.random() < 0.2:
        data = data[: dice.randint(0, len(data))] + bytes(dice.randint(0, 2))
    if dice.random() < 0.1:
        return file[:8] + header + data
    return sealed(header, data)


@given(file=files(), dice=st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=300)
def test_agrees_with_the_reference(file: bytes, dice: Any, path: Path) -> None:
    written(path, changed := mutated(file, dice))
    ours = theirs = refusal = None
    with contextlib.suppress(reference.SafetensorError):
        theirs = dict(reference.deserialize(changed))
    try:
        ours = read_header(path)
    except SafetensorsError as error:
        refusal = str(error)
    if ours is None:
        stricter = any(rule in refusal for rule in ("appears twice", FIELDS))
        assert theirs is None or stricter, refusal
        return
    assert theirs is not None
    assert ours.tensors.keys() == theirs.keys()
    for name, info in ours.tensors.items():
        assert info.dtype == theirs[name]["dtype"]
        assert list(info.shape) == theirs[name]["shape"]
        data = changed[ours.data_start :][info.start : info.end]
        assert data == bytes(theirs[name]["data"])
