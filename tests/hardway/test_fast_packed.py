"""Packed matrices against what their codes stand for, with and without the products."""

import copy
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, quants
from torch import Tensor

import hardway.fast.packed as fast
from hardway.fast.linear import linear
from hardway.fast.packed import Bfloat16Matrix, Int4Matrix, Int8Matrix
from hardway.quantization import (
    Quantized,
    asymmetric,
    dequantize,
    quantize,
    symmetric,
)
from tensors import assert_close, randn

KINDS = pytest.mark.parametrize("kind", ["int8", "int4"])
PROBES = (
    fast.onednn_pays, fast.int8_pays, fast.int4_pays, fast.bfloat16_pays,
    fast.half_block,
)  # fmt: skip
ROUNDING = 2**-8  # of vectors and of products, to bfloat16


def has_bfloat16() -> bool:
    try:
        Bfloat16Matrix(torch.ones(64, 64)).multiply(torch.ones(1, 64))
    except (AttributeError, RuntimeError):
        return False
    return True


needs_onednn = pytest.mark.skipif(
    not has_bfloat16(), reason="this torch, or processor, lacks oneDNN's product"
)
needs_int4 = pytest.mark.skipif(
    not fast.half_block(), reason="this machine packs 4-bit codes in another order"
)


@pytest.fixture
def fresh_probes() -> Iterator[None]:
    """Let the probes ask again, before a test and after it."""
    for probe in PROBES:
        probe.cache_clear()
    yield
    for probe in PROBES:
        probe.cache_clear()


@pytest.fixture
def nothing_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("onednn_pays", "int8_pays", "int4_pays", "bfloat16_pays"):
        monkeypatch.setattr(fast, name, lambda: False)


def codes(kind: str, n_out: int, n_in: int, group: int = 32) -> Quantized:
    matrix = randn(n_out, n_in) + 0.1
    if kind == "int8":
        return quantize(matrix, 8, None, symmetric, torch.bfloat16)
    return quantize(matrix, 4, group, asymmetric, torch.bfloat16)


def packed(quantized: Quantized, mean: Tensor | None = None) -> fast.Rows:
    whole = quantized.scales.shape[1] == 1
    return (Int8Matrix if whole else Int4Matrix)(quantized, mean)


def assert_product(found: Tensor, x: Tensor, weight: Tensor) -> None:
    """Within the rounding of vectors and products: weight is [n_out, n_in]."""
    exact = x.double() @ weight.double().T
    assert found.shape == exact.shape
    scale = x.double().norm(dim=-1, keepdim=True) * weight.double().norm(dim=1)
    assert ((found - exact).abs() <= ROUNDING * (scale / 4 + exact.abs())).all()


# --- the matrices ---


@needs_int4
@KINDS
@pytest.mark.parametrize("gemm", [True, False], ids=["bfloat16", "float32"])
@pytest.mark.parametrize("n", [1, 4, 16, 17, 96, 97, 200])
@pytest.mark.parametrize(
    ("n_out", "n_in"), [(64, 128), (192, 256), (50, 128), (257, 384)]
)
def test_products(
    n_out: int,
    n_in: int,
    n: int,
    gemm: bool,
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fast, "bfloat16_pays", lambda: gemm)
    quantized, x = codes(kind, n_out, n_in), randn(n, n_in, seed=1)
    assert_product(packed(quantized).multiply(x).float(), x, dequantize(quantized))


@needs_int4
@pytest.mark.parametrize("group", fast.GROUPS)
@pytest.mark.parametrize("n", [1, 97])
def test_groups_of_each_size(group: int, n: int) -> None:
    quantized, x = codes("int4", 96, 256, group), randn(n, 256, seed=1)
    matrix = Int4Matrix(quantized)
    assert_product(matrix.multiply(x).float(), x, dequantize(quantized))
    assert torch.equal(matrix.dequantize(), dequantize(quantized).T)


@needs_int4
@KINDS
@pytest.mark.parametrize("with_mean", [False, True])
@pytest.mark.parametrize("n_out", [64, 50, 200])
def test_codes_are_kept(n_out: int, with_mean: bool, kind: str) -> None:
    quantized = codes(kind, n_out, 128)
    mean = randn(128, seed=2) if with_mean else None
    expected = dequantize(quantized)
    if kind == "int8" and mean is not None:
        expected = expected + mean
    matrix = packed(quantized, mean)
    assert torch.equal(matrix.dequantize(), expected.T)
    for rows in (
        torch.tensor([0]),
        torch.arange(n_out),
        torch.tensor([[3, 49], [33, 3]]),
    ):
        assert torch.equal(matrix[rows], expected[rows])


@needs_int4
@KINDS
@pytest.mark.parametrize("n", [1, 3, 17, 100])
def test_what_products_have_in_common_is_not_rounded(n: int, kind: str) -> None:
    """Logits far from 0 keep their differences, of which bfloat16 would leave none."""
    x = randn(n, 128, seed=1) + 8  # times 1: some 1000 in common
    matrix = fast.quantize_table(randn(200, 128) / 10 + 1, kind)
    assert not isinstance(matrix, Tensor)
    found, exact = matrix.multiply(x), x @ matrix.dequantize()
    assert found.dtype == torch.float32
    away = (found - exact).abs().max()
    rounded = (exact.to(torch.bfloat16) - exact).abs().max()
    assert away < rounded / 2
    assert exact.mean() > 900


@needs_onednn
@pytest.mark.parametrize("n", [1, 3, 32, 200])
@pytest.mark.parametrize(("n_out", "n_in"), [(50, 128), (97, 64), (256, 95)])
def test_bfloat16_in_the_order_of_its_product(n_out: int, n_in: int, n: int) -> None:
    exact, x = randn(n_out, n_in), randn(n, n_in, seed=1)
    matrix, rounded = Bfloat16Matrix(exact), exact.to(torch.bfloat16).float()
    assert_product(matrix.multiply(x).float(), x, rounded)
    assert torch.equal(matrix.dequantize(), rounded.T)
    for vectors in (x.T.clone().T, randn(2 * n, 2 * n_in)[::2, ::2]):
        assert torch.equal(matrix.multiply(vectors), matrix.multiply(vectors.clone()))


@needs_onednn
def test_a_bfloat16_head_does_not_round_what_logits_have_in_common() -> None:
    table, x = randn(200, 128) / 10 + 1, randn(5, 128, seed=1) + 8
    head = Bfloat16Matrix(table - table.mean(dim=0), table.mean(dim=0))
    assert (head.dequantize() - table.T).abs().max() < 2**-9
    found, exact = head.multiply(x), x @ head.dequantize()
    assert found.dtype == torch.float32
    assert (found - exact).abs().max() < (exact.bfloat16() - exact).abs().max() / 2


@needs_onednn
def test_a_copy_of_bfloat16_is_ordered_anew() -> None:
    matrix, x = Bfloat16Matrix(randn(50, 64), randn(64, seed=1)), randn(3, 64, seed=2)
    for other in (copy.deepcopy(matrix), pickle.loads(pickle.dumps(matrix))):
        assert torch.equal(other.multiply(x), matrix.multiply(x))
        assert torch.equal(other.dequantize(), matrix.dequantize())


def test_a_table_and_its_head() -> None:
    """One object, except in oneDNN's order, where no row can be looked up."""
    table = randn(70, 64) + 0.5
    for kind in fast.KINDS:
        rows = fast.quantize_table(table, kind)
        head = fast.quantize_head(table, rows, kind)
        if not isinstance(head, Tensor):
            assert (head is rows) == (kind != "bfloat16")
        found = rows[torch.arange(70)].float()
        away = {"bfloat16": 2**-8, "int8": 0.02, "int4": 0.25}[kind]
        assert (found - table).abs().max() < away * table.abs().max()
        apart = (fast.as_float(head).T - found).abs().max()
        assert apart <= (2**-7 if kind == "bfloat16" else 0) * table.abs().max()


@KINDS
@needs_int4
def test_linear_takes_packed_matrices(kind: str) -> None:
    quantized, bias = codes(kind, 96, 128), randn(96, seed=3)
    matrix, weight = packed(quantized), dequantize(quantized).T
    for shape in ((128,), (1, 128), (3, 128), (2, 5, 128), (2, 40, 128)):
        x = randn(*shape, seed=1)
        found = linear(x, matrix, bias)
        assert found.dtype == torch.float32
        expected = x @ weight + bias
        assert found.shape == expected.shape
        assert (found - expected).abs().max() < 0.01 * expected.abs().max()
        bare = linear(x, matrix)  # as the product rounds it
        assert bare.dtype == torch.bfloat16
        assert_close(bare.float(), found - bias, factor=10)
        gelu = torch.nn.functional.gelu(found, approximate="tanh")
        assert_close(linear(x, matrix, bias, gelu=True), gelu)


@KINDS
@needs_int4
@pytest.mark.parametrize("n", [1, 100])
def test_vectors_of_another_length_are_refused(n: int, kind: str) -> None:
    matrix = packed(codes(kind, 96, 128))
    for length in (64, 127, 256):
        with pytest.raises(RuntimeError):
            matrix.multiply(randn(n, length))


@KINDS
@needs_int4
def test_vectors_that_lie_apart(kind: str) -> None:
    matrix, x = packed(codes(kind, 96, 128)), randn(128, 3, seed=1)
    for vectors in (x.T, x.T.to(torch.bfloat16), randn(6, 256)[::2, ::2]):
        expected = matrix.multiply(vectors.clone(memory_format=torch.contiguous_format))
        assert torch.equal(matrix.multiply(vectors), expected)


@needs_int4
def test_tensors_that_are_not_aligned() -> None:
    """Products load whole registers; torch aligns its own tensors, but not slices."""
    for kind, matrix in (("int8", Int8Matrix), ("int4", Int4Matrix)):
        exact = codes(kind, 65, 128)
        shifted = torch.empty(65 * 128 + 1, dtype=torch.int8)[1:].view(65, 128)
        shifted.copy_(exact.codes)
        assert shifted.data_ptr() % 16
        odd = matrix(Quantized(shifted, exact.scales, exact.zeros))
        for dtype in (torch.float32, torch.bfloat16):
            x = torch.empty(3 * 128 + 1, dtype=dtype)[1:].view(3, 128)
            x.copy_(randn(3, 128))
            assert torch.equal(odd.multiply(x), matrix(exact).multiply(x.clone()))


@needs_int4
def test_packing_in_bands_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    small = codes("int4", 256, 64).codes
    whole = fast.pack_codes(small)
    monkeypatch.setattr(fast, "BAND", fast.BLOCK)
    assert torch.equal(fast.pack_codes(small), whole)


def test_quantizing_in_bands_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = randn(40, 64)
    for kind in ("int8", "int4"):
        whole = fast.quantize_codes(matrix, kind)
        monkeypatch.setattr(fast, "CACHED", 3 * 64)
        for a, b in zip(
            *(vars(q).values() for q in (whole, fast.quantize_codes(matrix, kind))),
            strict=True,
        ):
            assert torch.equal(a, b)
        monkeypatch.undo()


# --- a GGUF's blocks ---


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q8_0"])
def test_codes_of_a_file(kind: str) -> None:
    raw = quants.quantize(randn(64, 96).numpy(), GGMLQuantizationType[kind])
    exact = torch.from_numpy(quants.dequantize(raw, GGMLQuantizationType[kind]))
    blocks = torch.from_numpy(np.array(raw)).view(64 * 3, -1)
    found = fast.read_codes(kind, blocks, (64, 96))
    assert_close(dequantize(found), exact)
    if kind == "Q8_0":
        assert isinstance(fast.pack(found), Tensor)  # no product has such groups
    elif fast.int4_pays():
        matrix = fast.pack(found)
        assert isinstance(matrix, Int4Matrix)
        away = (matrix.dequantize() - exact.T).abs().max()
        assert away < 2**-8 * exact.abs().max()  # scales and zeros are rounded


@needs_int4
def test_joined_matrices_give_each_its_outputs() -> None:
    parts = [codes("int4", n, 64) for n in (64, 10, 20)]
    joined = fast.join(parts)
    assert torch.equal(dequantize(joined), torch.cat([dequantize(p) for p in parts]))


# --- choosing a product ---


def other_groups() -> Quantized:
    return quantize(randn(64, 128), 4, 16)


def eight_bits_with_zeros() -> Quantized:
    return quantize(randn(64, 128), 8, None, asymmetric)


@pytest.mark.usefixtures("nothing_pays")
@KINDS
def test_where_no_product_pays_there_are_floats(kind: str) -> None:
    quantized = codes(kind, 50, 128)
    found = fast.pack(quantized)
    assert isinstance(found, Tensor)
    assert torch.equal(found, dequantize(quantized).T)
    table = randn(50, 128)
    numbers = fast.quantize_table(table, kind)
    assert isinstance(numbers, Tensor)
    assert (numbers - table).abs().max() < (0.03 if kind == "int8" else 0.25)


def rows_that_the_product_would_overrun() -> Quantized:
    return quantize(randn(64, 24), 8)


@pytest.mark.parametrize(
    "make", [other_groups, eight_bits_with_zeros, rows_that_the_product_would_overrun]
)
def test_codes_that_no_product_takes_become_floats(
    make: Callable[[], Quantized],
) -> None:
    quantized = make()
    assert torch.equal(fast.pack(quantized), dequantize(quantized).T)  # type: ignore


@KINDS
def test_the_same_numbers_whatever_pays(
    kind: str, request: pytest.FixtureRequest
) -> None:
    table, matrix = randn(70, 64) + 0.5, randn(70, 64)
    numbers = [fast.quantize_table(table, kind), fast.quantize_matrix(matrix, kind)]
    request.getfixturevalue("nothing_pays")
    floats = [fast.quantize_table(table, kind), fast.quantize_matrix(matrix, kind)]
    for found, expected, turned in zip(numbers, floats, (True, False), strict=True):
        assert isinstance(expected, Tensor)
        if not isinstance(found, Tensor):
            found = found.dequantize().T if turned else found.dequantize()
        assert_close(found, expected)


@pytest.mark.usefixtures("fresh_probes")
@pytest.mark.parametrize(
    ("name", "probe"),
    [("_weight_int8pack_mm", "int8_pays"), ("_weight_int4pack_mm_for_cpu", "int4_pays"),
     ("_convert_weight_to_int4pack_for_cpu", "int4_pays")],
)  # fmt: skip
def test_a_torch_without_the_product(
    name: str, probe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(torch, name)
    assert not getattr(fast, probe)()


@pytest.mark.usefixtures("fresh_probes")
def test_a_torch_without_onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.ops, "mkldnn", object())
    assert not fast.onednn_pays()
    matrix = fast.quantize_matrix(randn(8, 64), "bfloat16")
    assert torch.equal(fast.as_float(matrix), randn(8, 64).bfloat16().float().T)
    rows = fast.quantize_table(randn(9, 64), "bfloat16")
    head = fast.quantize_head(randn(9, 64), rows, "bfloat16")
    assert isinstance(head, Tensor)
    assert isinstance(rows, Tensor)
    assert torch.equal(head.T, rows.float())


@pytest.mark.usefixtures("fresh_probes")
@pytest.mark.parametrize("probe", ["onednn_pays", "int8_pays", "int4_pays"])
def test_a_product_that_is_wrong(probe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(x: Tensor, weight: Tensor, *_: Any) -> Tensor:
        return x.new_ones(len(x), len(weight))

    monkeypatch.setattr(Bfloat16Matrix, "multiply", lambda self, x: x[:, :1] + 1)
    monkeypatch.setattr(torch, "_weight_int8pack_mm", wrong)
    monkeypatch.setattr(torch, "_weight_int4pack_mm_for_cpu", wrong)
    assert not getattr(fast, probe)()


@pytest.mark.usefixtures("fresh_probes")
@pytest.mark.parametrize("probe", [probe.__name__ for probe in PROBES[:-1]])
def test_a_product_that_is_slower_than_float32(
    probe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fast, "is_faster", lambda run, other: False)
    assert not getattr(fast, probe)()


@pytest.mark.usefixtures("fresh_probes")
def test_an_unknown_order_of_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    original = fast.pack_codes
    monkeypatch.setattr(fast, "pack_codes", lambda codes: original(codes).flip(0))
    assert fast.half_block() == 0
    assert not fast.int4_pays()


@pytest.mark.usefixtures("fresh_probes")
def test_probes_ask_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(fast, "is_faster", lambda run, other: bool(asked.append(run)))
    for _ in range(3):
        fast.int8_pays(), fast.bfloat16_pays()
    assert len(asked) == 2


def test_the_faster_call_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(fast, "perf_counter", lambda: clock[0])

    def taking(*seconds: float) -> Callable[[], Tensor]:
        left = list(seconds)

        def call() -> Tensor:
            assert torch.get_num_threads() == 1
            clock[0] += left.pop(0) if len(left) > 1 else left[0]
            return torch.ones(1)

        return call

    threads = torch.get_num_threads()
    assert fast.is_faster(taking(1), taking(2))
    assert not fast.is_faster(taking(2), taking(1))
    assert not fast.is_faster(taking(1), taking(1))
    assert fast.is_faster(taking(*[9] * 20, 1), taking(2))  # others were running
    assert torch.get_num_threads() == threads
