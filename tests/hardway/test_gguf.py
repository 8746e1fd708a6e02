"""GGUF files and blocks, against gguf-py and values worked out by hand."""

import struct
from pathlib import Path
from typing import Any

import gguf as reference
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFWriter
from gguf import GGUFValueType as ValueType
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import gguf_files as files
from hardway.gguf import (
    BLOCKS,
    GGUFError,
    TensorInfo,
    load_file,
    read_blocks,
    read_header,
    read_tensor,
)
from hardway.untrusted_gguf import TYPES, VALUE_BYTES
from refusals import refuses_file
from smollm2 import SMOLLM2, needs_smollm2


def written(directory: Path, content: bytes) -> Path:
    path = directory / "x.gguf"
    path.write_bytes(content)
    return path


def equal_bits(found: Tensor, expected: Tensor) -> bool:
    """Whether two float32 tensors agree bit for bit; one NaN is like another."""
    assert found.dtype == expected.dtype == torch.float32
    numbers = ~expected.isnan()
    same = [t[numbers].view(torch.int32) for t in (found, expected)]
    return torch.equal(found.isnan(), ~numbers) and torch.equal(*same)


def random_bytes(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, shape, dtype=torch.uint8, generator=generator)


def by_reference(blocks: Tensor, kind: str) -> Tensor:
    with np.errstate(all="ignore"):
        found = reference.dequantize(blocks.numpy(), GGMLQuantizationType[kind])
    return torch.from_numpy(np.array(found))


# --- blocks ---


@pytest.mark.parametrize("kind", BLOCKS)
def test_random_blocks_are_dequantized_as_by_the_reference(kind: str) -> None:
    """Any bytes: scales are any float16, infinities and NaN included."""
    blocks = random_bytes(2000, BLOCKS[kind].n_bytes)
    found = BLOCKS[kind].dequantize(blocks)
    assert found.shape == (2000, BLOCKS[kind].n_values)
    assert equal_bits(found, by_reference(blocks, kind))


def test_sizes_are_the_format_s() -> None:
    theirs = {
        kind.value: (kind.name, *sizes)
        for kind, sizes in reference.GGML_QUANT_SIZES.items()
    }
    assert theirs == TYPES
    ours = {kind: (block.n_values, block.n_bytes) for kind, block in BLOCKS.items()}
    known = {name: tuple(sizes) for name, *sizes in TYPES.values()}
    assert ours == {kind: known[kind] for kind in ours}
    least = {ValueType.STRING: 8, ValueType.ARRAY: 12}
    sizes = {kind: struct.calcsize(code) for kind, code in files.PACKED.items()}
    assert {**sizes, **least} == VALUE_BYTES


def block(*parts: Any) -> Tensor:
    """One block: bytes as they are, floats as float16, integers as 4 bytes."""
    raw = b"".join(
        part if isinstance(part, bytes) else struct.pack("<e", part)
        if isinstance(part, float) else struct.pack("<I", part)
        for part in parts
    )  # fmt: skip
    return torch.frombuffer(bytearray(raw), dtype=torch.uint8)[None]


def values(kind: str, *parts: Any) -> list[float]:
    found: list[float] = BLOCKS[kind].dequantize(block(*parts))[0].tolist()
    return found


UP_AND_DOWN = bytes(j | (15 - j) << 4 for j in range(16))  # each code in both halves


def test_numbers_that_are_not_quantized() -> None:
    assert values("F32", struct.pack("<f", 0.1)) == [float(np.float32(0.1))]
    assert values("F16", -1.5) == [-1.5]
    assert values("BF16", b"\xc0\x3f") == [1.5]


def test_q8_0_by_hand() -> None:
    """The known answer of tinygrad's test."""
    codes = bytes(range(1, 33))
    assert values("Q8_0", 2.0, codes) == [*range(2, 66, 2)]
    assert values("Q8_0", 0.5, b"\x80\x7f" + bytes(30))[:2] == [-64, 63.5]


def test_4_bits_by_hand() -> None:
    up, down = [*range(16)], [*range(15, -1, -1)]
    assert values("Q4_0", 0.5, UP_AND_DOWN) == [(c - 8) / 2 for c in up + down]
    assert values("Q4_1", 2.0, -1.0, UP_AND_DOWN) == [2 * c - 1 for c in up + down]


@pytest.mark.parametrize("bit", [0, 15, 16, 31])
def test_the_fifth_bit_by_hand(bit: int) -> None:
    codes = [*range(16), *range(15, -1, -1)]
    codes[bit] += 16
    found = values("Q5_0", -0.25, 1 << bit, UP_AND_DOWN)
    assert found == [(c - 16) * -0.25 for c in codes]
    found = values("Q5_1", 2.0, 3.0, 1 << bit, UP_AND_DOWN)
    assert found == [2 * c + 3 for c in codes]


@pytest.mark.parametrize("group", range(8))
def test_q4_k_by_hand(group: int) -> None:
    """One group's scale is 53 and its minimum 42, whose high bits are not 0."""
    scales = bytearray(12)
    if group < 4:
        scales[group], scales[group + 4] = 53, 42
    else:
        scales[group + 4] = 53 & 15 | (42 & 15) << 4
        scales[group - 4], scales[group] = 53 >> 4 << 6, 42 >> 4 << 6
    packed = bytearray(128)
    packed[group // 2 * 32 : group // 2 * 32 + 16] = UP_AND_DOWN
    codes = [*range(16)] if group % 2 == 0 else [*range(15, -1, -1)]
    expected = [0.0] * 256
    expected[group * 32 : group * 32 + 32] = [
        0.5 * 53 * c - 2 * 42 for c in codes + 16 * [0]
    ]
    assert values("Q4_K", 0.5, 2.0, bytes(scales), bytes(packed)) == expected


def test_q6_k_by_hand() -> None:
    """Code by code, as the layout's own words place them."""
    codes = [(7 * i + i // 64) % 64 for i in range(256)]
    low, high = bytearray(128), bytearray(64)
    for i, code in enumerate(codes):
        half, row, column = i // 128, i % 128 // 32, i % 32
        low[half * 64 + row % 2 * 32 + column] |= (code & 15) << row // 2 * 4
        high[half * 32 + column] |= (code >> 4) << row * 2
    scales = [*range(-8, 8)]
    found = values("Q6_K", bytes(low), bytes(high), struct.pack("16b", *scales), 0.5)
    assert found == [0.5 * scales[i // 16] * (c - 32) for i, c in enumerate(codes)]
    assert {*codes} == {*range(64)}


# --- files ---

ONE_OF_EACH: dict[ValueType, tuple[Any, bytes]] = {
    ValueType.UINT8: (255, b"\xff"),
    ValueType.INT8: (-2, b"\xfe"),
    ValueType.UINT16: (65_535, b"\xff\xff"),
    ValueType.INT16: (-2, b"\xfe\xff"),
    ValueType.UINT32: (2**32 - 1, b"\xff" * 4),
    ValueType.INT32: (-2, b"\xfe" + b"\xff" * 3),
    ValueType.FLOAT32: (1.5, b"\0\0\xc0\x3f"),
    ValueType.BOOL: (True, b"\1"),
    ValueType.STRING: ("aé😀", b"\7\0\0\0\0\0\0\0a\xc3\xa9\xf0\x9f\x98\x80"),
    ValueType.ARRAY: ([], b"\4\0\0\0" + bytes(8)),
    ValueType.UINT64: (2**64 - 1, b"\xff" * 8),
    ValueType.INT64: (-2, b"\xfe" + b"\xff" * 7),
    ValueType.FLOAT64: (float("-inf"), bytes(6) + b"\xf0\xff"),
}


@pytest.mark.parametrize("alignment", [None, 1, 2, 8, 32, 64, 65_536])
def test_a_tensor_of_each_kind_and_a_value_of_each_type(
    alignment: int | None, tmp_path: Path
) -> None:
    assert [*ONE_OF_EACH] == [*ValueType]
    keys = [files.key(k.name, k, packed) for k, (_, packed) in ONE_OF_EACH.items()]
    kinds = {kind: random_bytes(6, block.n_bytes) for kind, block in BLOCKS.items()}
    tensors = {
        f"{kind}.weight": (kind, (2, 3 * BLOCKS[kind].n_values), bytes(raw.flatten()))
        for kind, raw in kinds.items()
    }
    path = written(tmp_path, files.gguf_of(tensors, keys, alignment))
    header = read_header(path)
    stated = {} if alignment is None else {"general.alignment": alignment}
    expected = {k.name: value for k, (value, _) in ONE_OF_EACH.items()} | stated
    assert header.metadata == expected
    assert [*map(type, header.metadata.values())] == [*map(type, expected.values())]
    assert [*header.tensors] == [*tensors]
    found = load_file(path)
    assert [*found] == [*tensors]
    for (name, info), (kind, raw) in zip(
        header.tensors.items(), kinds.items(), strict=True
    ):
        assert (info.kind, info.shape) == tensors[name][:2]
        assert path.read_bytes()[info.start : info.end] == tensors[name][2]
        assert torch.equal(read_blocks(path, info), raw)
        values = by_reference(raw, kind).view(info.shape)
        assert equal_bits(found[name], values)
        assert equal_bits(read_tensor(path, info), values)


def test_arrays_of_each_type(tmp_path: Path) -> None:
    keys = [
        files.key(k.name, ValueType.ARRAY, files.array(k, packed, packed))
        for k, (_, packed) in ONE_OF_EACH.items()
    ]
    found = read_header(written(tmp_path, files.gguf(keys))).metadata
    assert found == {k.name: [value, value] for k, (value, _) in ONE_OF_EACH.items()}


def test_arrays_in_arrays(tmp_path: Path) -> None:
    """Each may have its own type."""
    texts = files.array(ValueType.STRING, files.text("a"), files.text(""))
    bools = files.array(ValueType.BOOL, b"\1", b"\0")
    inner = files.array(ValueType.ARRAY, texts, bools)
    outer = files.array(ValueType.ARRAY, inner, files.array(ValueType.INT8, b"\xff"))
    path = written(tmp_path, files.gguf([files.key("x", ValueType.ARRAY, outer)]))
    assert read_header(path).metadata == {"x": [[["a", ""], [True, False]], [-1]]}


def test_tensors_own_their_memory(tmp_path: Path) -> None:
    """And stay as they are when the file is gone."""
    raw = struct.pack("<2f", 1.5, 2.5)
    path = written(tmp_path, files.gguf_of({"a": ("F32", (2,), raw)}, alignment=1))
    found = load_file(path)["a"]
    path.write_bytes(b"")
    path.unlink()
    assert found.tolist() == [1.5, 2.5]
    found += 1


def test_shapes(tmp_path: Path) -> None:
    """A row's length comes first in the file, and last in torch."""
    raw = struct.pack("<24f", *range(24))
    tensors = {
        "scalar": ("F32", (), raw[:4]),
        "row": ("F32", (24,), raw),
        "all": ("F32", (2, 1, 3, 4), raw),
    }
    found = load_file(written(tmp_path, files.gguf_of(tensors)))
    assert found["scalar"].shape == ()
    expected = torch.arange(24.0)
    assert torch.equal(found["row"], expected)
    assert torch.equal(found["all"], expected.view(2, 1, 3, 4))


@pytest.mark.parametrize("kind", [k for k, *_ in TYPES.values() if k not in BLOCKS])
def test_kinds_that_are_listed_and_not_read(kind: str, tmp_path: Path) -> None:
    raw = bytes(files.size_in_bytes(kind, 256))
    path = written(
        tmp_path,
        files.gguf_of({"a": ("F32", (1,), bytes(4)), "b": (kind, (256,), raw)}),
    )
    info = read_header(path).tensors["b"]
    assert (info.kind, info.shape) == (kind, (256,))
    assert info.end - info.start == len(raw)
    for read in (read_tensor, read_blocks):
        with refuses_file(path, kind, GGUFError):
            read(path, info)
    with refuses_file(path, f"tensor 'b': {kind} cannot", GGUFError):
        load_file(path)


def test_a_kind_newer_than_the_reader_is_listed_and_not_read(tmp_path: Path) -> None:
    """Its size is unknown, so whatever follows it may be its own."""
    table = [files.tensor("new", [7], 99), files.tensor("a", [1], 0, 64)]
    for data, listed in ((bytes(68), table), (bytes(200), table[:1])):
        path = written(tmp_path, files.gguf((), listed, data))
        new = read_header(path).tensors["new"]
        assert new == TensorInfo("type 99", (7,), new.start, new.start)
        with refuses_file(path, "tensor 'new': type 99 cannot", GGUFError):
            load_file(path)


def test_version_2_reads_alike(tmp_path: Path) -> None:
    raw = struct.pack("<f", 1.5)
    content = bytearray(files.gguf_of({"a": ("F32", (1,), raw)}))
    content[4] = 2
    assert load_file(written(tmp_path, bytes(content)))["a"].tolist() == [1.5]


def test_padding_may_follow_the_last_tensor(tmp_path: Path) -> None:
    content = files.gguf_of({"a": ("F32", (1,), bytes(4))})
    for n_bytes in (0, 1, 28, 31):
        path = written(tmp_path, content + bytes(n_bytes))
        assert load_file(path)["a"].tolist() == [0]


@pytest.mark.parametrize("n_bytes", range(32))
def test_a_file_without_tensors(n_bytes: int, tmp_path: Path) -> None:
    path = written(tmp_path, files.gguf() + bytes(n_bytes))
    assert load_file(path) == read_header(path).metadata == {}


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    for read in (read_header, load_file):
        with pytest.raises(FileNotFoundError):
            read(tmp_path / "gone.gguf")
        with pytest.raises(IsADirectoryError):
            read(tmp_path)


def test_a_file_cut_off_after_its_header_was_read(tmp_path: Path) -> None:
    path = written(tmp_path, files.gguf_of({"a": ("F32", (1,), bytes(4))}))
    info = read_header(path).tensors["a"]
    path.write_bytes(path.read_bytes()[:-1])
    with refuses_file(path, "the file ended", GGUFError):
        read_tensor(path, info)


# --- files that the reference writes ---

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=9)
NUMBERS = {
    ValueType.UINT8: st.integers(0, 2**8 - 1),
    ValueType.INT8: st.integers(-(2**7), 2**7 - 1),
    ValueType.UINT16: st.integers(0, 2**16 - 1),
    ValueType.INT16: st.integers(-(2**15), 2**15 - 1),
    ValueType.UINT32: st.integers(0, 2**32 - 1),
    ValueType.INT32: st.integers(-(2**31), 2**31 - 1),
    ValueType.UINT64: st.integers(0, 2**64 - 1),
    ValueType.INT64: st.integers(-(2**63), 2**63 - 1),
    ValueType.FLOAT32: st.floats(width=32, allow_nan=False),
    ValueType.FLOAT64: st.floats(allow_nan=False),
    ValueType.BOOL: st.booleans(),
    ValueType.STRING: st.text(st.characters(exclude_categories=["Cs"]), max_size=9),
}


@st.composite
def entries(draw: st.DrawFn) -> tuple[Any, ValueType, ValueType | None]:
    """A value, its type, and the type of an array's values."""
    kind = draw(st.sampled_from([*NUMBERS]))
    if draw(st.booleans()):
        return draw(NUMBERS[kind]), kind, None
    many = draw(st.lists(NUMBERS[kind], min_size=1, max_size=4))
    return many, ValueType.ARRAY, kind


@st.composite
def shaped(draw: st.DrawFn) -> tuple[str, tuple[int, ...], bytes]:
    """A kind, a shape in which rows are whole blocks, and any bytes."""
    kind = draw(st.sampled_from([*BLOCKS]))
    rows = draw(st.lists(st.integers(1, 3), max_size=3))
    shape = *rows, BLOCKS[kind].n_values * draw(st.integers(1, 2))
    size = files.size_in_bytes(kind, torch.Size(shape).numel())
    return kind, shape, draw(st.randoms(use_true_random=False)).randbytes(size)


@given(
    metadata=st.dictionaries(NAMES, entries(), max_size=4),
    tensors=st.dictionaries(NAMES, shaped(), max_size=4),
    alignment=st.sampled_from([8, 32, 256]),
)
@settings(max_examples=50)
def test_what_the_reference_writes_is_read(
    metadata: dict[str, Any],
    tensors: dict[str, tuple[str, tuple[int, ...], bytes]],
    alignment: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    path = tmp_path_factory.getbasetemp() / "written.gguf"
    writer = GGUFWriter(path, "llama")
    writer.add_custom_alignment(alignment)
    for name, (value, kind, inner) in metadata.items():
        writer.add_key_value(name, value, kind, inner)
    for name, (kind, shape, raw) in tensors.items():
        row = *shape[:-1], files.size_in_bytes(kind, shape[-1])
        stored = np.frombuffer(raw, dtype=np.uint8).reshape(row)
        writer.add_tensor(name, stored, raw_dtype=GGMLQuantizationType[kind])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

    header = read_header(path)
    expected = {name: value for name, (value, _, _) in metadata.items()}
    first = {"general.architecture": "llama", "general.alignment": alignment}
    assert header.metadata == first | expected
    found = load_file(path)
    assert found.keys() == header.tensors.keys() == tensors.keys()
    for name, (kind, shape, raw) in tensors.items():
        info = header.tensors[name]
        assert (info.kind, info.shape) == (kind, shape)
        stored = torch.frombuffer(bytearray(raw), dtype=torch.uint8)
        blocks = stored.view(-1, BLOCKS[kind].n_bytes)
        assert torch.equal(read_blocks(path, info), blocks)
        assert equal_bits(found[name], by_reference(blocks, kind).view(shape))


# --- the real file ---


@needs_smollm2
def test_the_header_of_smollm2() -> None:
    header = read_header(SMOLLM2)
    assert len(header.metadata) == 33
    assert header.metadata["general.architecture"] == "llama"
    assert header.metadata["llama.rope.freq_base"] == 100_000.0
    assert header.metadata["llama.attention.head_count_kv"] == 3
    assert header.metadata["tokenizer.ggml.add_bos_token"] is False
    tokens = header.metadata["tokenizer.ggml.tokens"]
    assert (len(tokens), tokens[:3]) == (
        49_152, ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
    )  # fmt: skip
    assert len(header.metadata["tokenizer.ggml.merges"]) == 48_900
    kinds = [info.kind for info in header.tensors.values()]
    counts = {kind: kinds.count(kind) for kind in {*kinds}}
    assert counts == {"Q4_1": 210, "F32": 61, "Q8_0": 1}
    embedding = header.tensors["token_embd.weight"]
    assert (embedding.kind, embedding.shape) == ("Q8_0", (49_152, 576))
    assert header.tensors["blk.29.attn_k.weight"].shape == (192, 576)
    assert header.tensors["blk.0.ffn_down.weight"].shape == (576, 1536)
    assert "output.weight" not in header.tensors
    assert min(info.start for info in header.tensors.values()) == 1_785_664
    shapes = (torch.Size(info.shape) for info in header.tensors.values())
    assert sum(shape.numel() for shape in shapes) == 134_515_008


@needs_smollm2
def test_the_weights_of_smollm2() -> None:
    tensors = read_header(SMOLLM2).tensors
    embedding = read_tensor(SMOLLM2, tensors["token_embd.weight"])
    expected = torch.tensor([0.10960388, 0.01743698, -0.0946579, 0.08220291])
    torch.testing.assert_close(embedding[504, :4], expected, rtol=0, atol=1e-8)
    query = read_tensor(SMOLLM2, tensors["blk.0.attn_q.weight"])
    expected = torch.tensor([-0.09631348, 0.15734863, -0.09631348, -0.73046875])
    torch.testing.assert_close(query[0, :4], expected, rtol=0, atol=1e-8)
    assert query.double().mean().item() == pytest.approx(1.785e-4, abs=5e-8)
    assert query.double().std().item() == pytest.approx(0.283946, abs=1e-6)
    assert query.abs().max().item() == pytest.approx(5.251953, abs=1e-6)


@needs_smollm2
@pytest.mark.slow
def test_smollm2_is_read_as_by_the_reference() -> None:
    reader = reference.GGUFReader(SMOLLM2)
    found, header = load_file(SMOLLM2), read_header(SMOLLM2)
    theirs = {tensor.name: tensor for tensor in reader.tensors}
    assert [*found] == [*theirs]
    for name, tensor in theirs.items():
        assert header.tensors[name].start == tensor.data_offset
        values = reference.dequantize(tensor.data, tensor.tensor_type)
        assert equal_bits(found[name], torch.from_numpy(np.array(values)))
    fields = {
        name: field.contents()
        for name, field in reader.fields.items()
        if not name.startswith("GGUF.")
    }
    assert header.metadata == fields
