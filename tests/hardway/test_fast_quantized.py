"""The quantized model against the taught one with the same numbers, and its quality."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import hardway
import hardway.fast.packed as fast
from hardway import GPT2, Config, Tokenizer, generate
from hardway.fast.gpt2 import FastGPT2, QuantizedGPT2
from references import random_model, random_tokens, relative_error, save_model
from refusals import refuses

KINDS = pytest.mark.parametrize("kind", fast.KINDS)
MEDIUM = Config(n_vocab=97, n_ctx=96, n_embd=64, n_head=4, n_layer=2)

STORIES = Path(__file__).parents[2] / "benchmarks" / "stories.txt"  # kept from training


@pytest.fixture(params=["packed", "floats"])
def products(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run a test with the packed products, where they pay, and with the fallback."""
    if request.param == "floats":
        for name in ("onednn_pays", "int8_pays", "int4_pays", "bfloat16_pays"):
            monkeypatch.setattr(fast, name, lambda: False)
    return str(request.param)


def quantized(kind: str, config: Config = MEDIUM) -> QuantizedGPT2:
    return QuantizedGPT2(config, random_model(config).weights, kind)


@pytest.mark.usefixtures("products")
@KINDS
@pytest.mark.parametrize("shape", [(1,), (7,), (96,), (3, 1), (2, 50)], ids=str)
def test_the_model_equals_the_taught_one_with_its_numbers(
    shape: tuple[int, ...], kind: str
) -> None:
    model = quantized(kind)
    tokens = random_tokens(MEDIUM, *shape)
    found, expected = model(tokens), model.dequantize()(tokens)
    assert found.shape == expected.shape
    assert relative_error(found, expected) < 0.03


@pytest.mark.usefixtures("products")
@KINDS
def test_one_token_at_a_time_and_in_chunks(kind: str) -> None:
    model = quantized(kind)
    tokens = random_tokens(MEDIUM, 2, 40)
    expected, cache = model.dequantize()(tokens), model.new_cache(2)
    assert cache.keys.dtype == torch.float32
    parts = [model(part, cache) for part in tokens.split([20, 1, 1, 17, 1], dim=1)]
    assert relative_error(torch.cat(parts, dim=1), expected) < 0.03
    last = model(tokens, last_only=True)
    assert relative_error(last, expected[:, -1:]) < 0.03


@KINDS
def test_padding(kind: str) -> None:
    model, n_pad = quantized(kind), torch.tensor([0, 5, 2])
    tokens = random_tokens(MEDIUM, 3, 9)
    found = model(tokens, n_pad=n_pad)
    for row, pad in zip(range(3), n_pad.tolist(), strict=True):
        expected = model.dequantize()(tokens[row, pad:])
        assert relative_error(found[row, pad:], expected) < 0.03


@pytest.mark.usefixtures("products")
@KINDS
def test_a_trace_is_that_of_the_numbers(kind: str) -> None:
    model, tokens = quantized(kind), random_tokens(MEDIUM, 9)
    trace, taught = model.trace(tokens), model.dequantize()
    for name, tensor in vars(taught.trace(tokens)).items():
        assert torch.equal(getattr(trace, name), tensor)
    assert relative_error(model(tokens), trace.logits) < 0.03
    logits = model.logits(trace.residual[-1])
    assert relative_error(logits, taught.logits(trace.residual[-1])) < 0.01


@KINDS
def test_where_each_tensor_is(kind: str) -> None:
    given = random_model(MEDIUM).weights
    model = QuantizedGPT2(MEDIUM, given, kind)
    matrices = {n for n in given if n.startswith("h.") and given[n].dim() == 2}
    assert model.packed.keys() == matrices | {"wte.weight"}
    assert model.weights.keys() == given.keys() - model.packed.keys()
    for name, weight in model.weights.items():
        assert torch.equal(weight, given[name])
    exact = model.dequantize()
    assert type(exact) is GPT2
    for name in model.packed:
        away = (exact.weights[name] - given[name]).norm() / given[name].norm()
        assert 0 < away < {"bfloat16": 0.003, "int8": 0.01, "int4": 0.1}[kind]
    assert model.to("cpu") is model
    with refuses("device"):
        model.to("meta")


@KINDS
def test_memory(kind: str) -> None:
    """Bytes of the matrices: codes and scales, for 4 bits also zeros, both bfloat16."""
    probes = {"bfloat16": fast.onednn_pays, "int8": fast.int8_pays}
    if not probes.get(kind, fast.int4_pays)():
        pytest.skip("this machine keeps float32")
    config = Config(n_vocab=640, n_ctx=8, n_embd=128, n_head=4, n_layer=1)
    model = QuantizedGPT2(config, random_model(config).weights, kind)
    matrix = model.packed["h.0.mlp.c_fc.weight"]
    held = sum(t.nbytes for t in vars(matrix).values() if isinstance(t, Tensor))
    numbers = 128 * 512
    expected = {
        "bfloat16": 2 * numbers,
        "int8": numbers + 2 * 512,
        "int4": numbers * (4 + 1) // 8,
    }
    assert held == expected[kind]


def test_four_bits_need_groups() -> None:
    config = Config(n_vocab=9, n_ctx=8, n_embd=24, n_head=3, n_layer=1)
    with refuses("group"):
        quantized("int4", config)
    assert quantized("int8", config)(torch.tensor([1, 2])).shape == (2, 9)


# --- loading ---


@KINDS
def test_load(kind: str, tmp_path: Path) -> None:
    save_model(tmp_path, random_model(MEDIUM).weights, MEDIUM)
    model = hardway.load(tmp_path, quantize=kind)
    assert type(model) is QuantizedGPT2
    tokens = random_tokens(MEDIUM, 9)
    assert torch.equal(model(tokens), quantized(kind)(tokens))


@pytest.mark.parametrize("quantize", ["int2", "", 8, True, b"int8", ["int8"]], ids=repr)
def test_load_refuses_other_bits(quantize: Any) -> None:
    with refuses("quantize"):
        hardway.load("pocket", quantize=quantize)


@KINDS
def test_load_refuses_a_dtype_or_a_device_with_bits(kind: str) -> None:
    with refuses("dtype"):
        hardway.load("pocket", dtype=torch.float32, quantize=kind)
    with refuses("device"):
        hardway.load("pocket", quantize=kind, device="meta")
    assert hardway.load("pocket", quantize=kind, device=torch.device("cpu", 0))


# --- quality ---


def bits_per_byte(model: GPT2 | FastGPT2, stories: list[str]) -> float:
    """Score each story's beginning: its surprisal in bits, for each byte of text."""
    tokenizer = hardway.load_tokenizer("pocket")
    bits = n_bytes = 0.0
    for story in stories:
        ids = [tokenizer.eot_id, *tokenizer.encode(story)[:400]]
        logits = model(torch.tensor(ids[:-1])).log_softmax(dim=-1)
        bits -= float(logits.gather(1, torch.tensor(ids[1:])[:, None]).sum())
        n_bytes += len(tokenizer.decode_bytes(ids[1:]))
    return bits / math.log(2) / n_bytes


@pytest.fixture(scope="module")
def stories() -> list[str]:
    text = STORIES.read_text(encoding="utf-8")
    return [story.strip() for story in text.split("<|endoftext|>")]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "most"), [("bfloat16", 0.001), ("int8", 0.005), ("int4", 0.03)]
)
def test_few_bits_cost_little(
    kind: str, most: float, stories: list[str], pocket: GPT2
) -> None:
    exact = bits_per_byte(pocket, stories)
    found = bits_per_byte(hardway.load("pocket", quantize=kind), stories)
    assert exact * 0.99 < found < exact * (1 + most)


@pytest.mark.slow
@KINDS
def test_the_products_choose_the_token_that_exact_ones_would(
    kind: str, stories: list[str]
) -> None:
    model, tokenizer = (
        hardway.load("pocket", quantize=kind),
        Tokenizer.from_pretrained(),
    )
    assert isinstance(model, QuantizedGPT2)
    tokens = torch.tensor(tokenizer.encode(stories[0])[:400])
    found, expected = model(tokens), model.dequantize()(tokens)
    same = found.argmax(dim=-1) == expected.argmax(dim=-1)
    assert same.float().mean() > 0.9
    assert (found - expected).square().mean().sqrt() < 0.05 * expected.std()


@pytest.mark.slow
@KINDS
def test_pocket_goes_on(kind: str) -> None:
    model = hardway.load("pocket", quantize=kind)
    ids = hardway.load_tokenizer("pocket").encode("Once upon a")
    assert generate(model, ids, 1) == [640]
