"""Matrix products of every layout and precision against torch's own."""

from unittest.mock import patch

import pytest
import torch
from torch.nn import functional as F

import hardway.fast.linear as fast
from hardway import block
from tensors import assert_close, randn

FLOATS = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
HALVES = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
ROUNDING = {torch.float16: 1e-3, torch.bfloat16: 1e-2}


@pytest.fixture(params=[True, False], ids=["onednn", "without"])
def onednn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Run a test with oneDNN's product, where torch has it, and without."""
    if request.param and not fast.HAS_ONEDNN:
        pytest.skip("this torch was built without oneDNN")
    monkeypatch.setattr(fast, "HAS_ONEDNN", request.param)
    return bool(request.param)


@pytest.mark.usefixtures("onednn")
@FLOATS
@pytest.mark.parametrize("by", ["rows", "columns"])
@pytest.mark.parametrize("leading", [(), (1,), (1, 1), (3,), (2, 5)], ids=str)
@pytest.mark.parametrize(("n_in", "n_out"), [(1, 1), (7, 3), (48, 144), (3, 500)])
def test_linear_equals_torch(
    n_in: int, n_out: int, leading: tuple[int, ...], by: str, dtype: torch.dtype
) -> None:
    weight, bias = randn(n_in, n_out, dtype=dtype), randn(n_out, dtype=dtype, seed=1)
    if by == "columns":
        weight = weight.T.contiguous().T
    x = randn(*leading, n_in, dtype=dtype, seed=2)
    expected = F.linear(x, weight.T, bias)
    assert_close(fast.linear(x, weight, bias), expected)
    assert_close(fast.linear(x, weight), F.linear(x, weight.T))
    bent = F.gelu(expected, approximate="tanh")
    assert_close(fast.linear(x, weight, bias, gelu=True), bent, factor=10)


@pytest.mark.usefixtures("onednn")
@HALVES
@pytest.mark.parametrize("by", ["rows", "columns"])
@pytest.mark.parametrize("leading", [(1,), (1, 1), (3,), (2, 5)], ids=str)
def test_weights_of_half_the_precision_meet_vectors_of_the_whole(
    leading: tuple[int, ...], by: str, dtype: torch.dtype
) -> None:
    weight, bias = randn(48, 144, dtype=dtype), randn(144, dtype=dtype, seed=1)
    if by == "columns":
        weight = weight.T.contiguous().T
    x = randn(*leading, 48, seed=2)
    found = fast.linear(x, weight, bias)
    assert found.dtype == torch.float32
    assert torch.equal(found, fast.linear(x, weight, bias.float()))
    exact = F.linear(x.double(), weight.T.double(), bias.double())
    error = (found - exact).abs().max() / exact.abs().max()
    in_float32 = dtype == torch.float16 and (x.numel() > 48 or by == "rows")
    assert error < (2e-6 if in_float32 else ROUNDING[dtype])


@pytest.mark.parametrize(
    ("n_in", "n_threads", "n_bands"),
    [(48, 1, 1), (48, 2, 2), (48, 5, 6), (48, 9, 12), (7, 2, 1), (1, 2, 1), (2, 2, 2)],
)
def test_the_cores_add_up_the_same_rows_in_bands(
    n_in: int, n_threads: int, n_bands: int
) -> None:
    x, weight = randn(n_in), randn(n_in, 5, seed=1)
    with (
        patch.object(torch, "get_num_threads", return_value=n_threads),
        patch.object(torch, "bmm", wraps=torch.bmm) as bmm,
    ):
        assert_close(fast.sum_rows(x, weight), x @ weight)
    assert len(bmm.call_args.args[0]) == len(bmm.call_args.args[1]) == n_bands


@HALVES
@pytest.mark.parametrize("by", ["rows", "columns"])
def test_vectors_of_another_length_are_refused(by: str, dtype: torch.dtype) -> None:
    """Even where together they have as many numbers as one that fits."""
    for weight in (randn(48, 10), randn(48, 10, dtype=dtype)):
        turned = weight.T.contiguous().T if by == "columns" else weight
        for x in (randn(2, 24), randn(24), randn(1, 49)):
            with pytest.raises(RuntimeError):
                fast.linear(x, turned)


@FLOATS
def test_layer_norm_equals_the_taught_one(dtype: torch.dtype) -> None:
    x, norm = randn(2, 6, 24, dtype=dtype), randn(2, 24, dtype=dtype, seed=1)
    arguments = (x, norm[0], norm[1], 1e-5)
    assert_close(fast.layer_norm(*arguments), block.layer_norm(*arguments), factor=10)


@HALVES
def test_layer_norm_takes_weights_of_half_the_precision(dtype: torch.dtype) -> None:
    x, norm = randn(2, 6, 24), randn(2, 24, seed=1).to(dtype)
    expected = block.layer_norm(x, norm[0].float(), norm[1].float(), 1e-5)
    assert_close(fast.layer_norm(x, norm[0], norm[1], 1e-5), expected, factor=10)


@pytest.mark.parametrize(
    ("name", "shape", "by_columns"),
    [("h.0.mlp.c_fc.weight", (6, 4), True), ("h.0.mlp.c_fc.bias", (6,), False),
     ("wte.weight", (6, 4), False)],
)  # fmt: skip
@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str
)
def test_a_packed_weight_has_the_same_numbers(
    name: str, shape: tuple[int, ...], by_columns: bool, dtype: torch.dtype
) -> None:
    weight = randn(*shape).to(dtype)
    packed = fast.pack_weight(name, weight)
    assert torch.equal(packed, weight)
    assert packed.dtype == dtype
    if by_columns and dtype.itemsize == 2:
        assert packed.T.is_contiguous()
        assert weight.is_contiguous()  # the caller's is left alone
    else:
        assert packed is weight


def test_onednn_multiplies_float32_on_a_cpu_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fast, "HAS_ONEDNN", True)
    assert fast.uses_onednn(torch.ones(1))
    assert not fast.uses_onednn(torch.ones(1, dtype=torch.float64))
    assert not fast.uses_onednn(torch.ones(1, device="meta"))
    monkeypatch.setattr(fast, "HAS_ONEDNN", False)
    assert not fast.uses_onednn(torch.ones(1))
