"""Llamas in 8 or 4 bits, and in a file's own codes, against the taught model."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import hardway
import hardway.fast.packed as packed
from gguf_llamas import write_llama
from hardway import Llama, generate, generate_batch, gguf
from hardway.config import LlamaConfig
from hardway.fast.packed import BlockTable, Int4Matrix, Int8Matrix
from hardway.fast.quantized_llama import QuantizedLlama, join_rows
from hardway.llama import checkpoint_name
from hardway.quantization import Quantized, dequantize
from llamas import SMALL, random_llama, save_llama
from references import random_tokens
from refusals import refuses, refuses_file
from tensors import assert_close

KINDS = pytest.mark.parametrize("kind", packed.KINDS)
WIDE = LlamaConfig(  # every matrix's n_in is a multiple of 32
    n_vocab=97, n_ctx=40, n_embd=64, n_head=4, n_kv_head=2, d_head=16, n_layer=3,
    n_inner=96, tied=True,
)  # fmt: skip
DEEP = LlamaConfig(**asdict(WIDE) | {"n_layer": 11})  # block 10 is stored before 2
UNTIED = LlamaConfig(**asdict(WIDE) | {"tied": False, "n_layer": 2})


@pytest.fixture(params=[True, False], ids=["packed", "plain"])
def products(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Run with the packed products, where this machine has them, and without."""
    if request.param and not (packed.int8_pays() and packed.int4_pays()):
        pytest.skip("this machine's products don't pay")
    if not request.param:
        for name in ("onednn_pays", "int8_pays", "int4_pays", "bfloat16_pays"):
            monkeypatch.setattr(packed, name, lambda: False)
    return bool(request.param)


def assert_close_logits(found: Tensor, expected: Tensor, bound: float = 0.05) -> None:
    """Within 5 % of the spread, typically: products are rounded to bfloat16."""
    assert found.shape == expected.shape
    assert (found - expected).square().mean().sqrt() < bound * expected.std()


@KINDS
@pytest.mark.parametrize("config", [WIDE, UNTIED], ids=["tied", "untied"])
@pytest.mark.usefixtures("products")
def test_quantized_equals_what_the_codes_stand_for(
    config: LlamaConfig, kind: str
) -> None:
    model = QuantizedLlama.from_weights(config, random_llama(config).weights, kind)
    exact = model.dequantize()
    for shape in [(1,), (9,), (3, 30)]:
        tokens = random_tokens(config, *shape)
        assert_close_logits(model(tokens), exact(tokens))
    tokens = random_tokens(config, 2, 20)
    cache = model.new_cache(2)
    parts = [model(part, cache) for part in tokens.split([7, 1, 1, 11], dim=1)]
    assert_close_logits(torch.cat(parts, dim=1), exact(tokens))


@KINDS
def test_quantized_weights_are_close_to_the_model(kind: str) -> None:
    taught = random_llama(WIDE)
    model = QuantizedLlama.from_weights(WIDE, taught.weights, kind)
    steps = {"bfloat16": 0.003, "int8": 0.01, "int4": 0.1}[kind]
    for name, weight in model.dequantize().weights.items():
        original = taught.weights.get(name, taught.weights["embed_tokens.weight"])
        error = (weight - original).square().mean().sqrt() / original.std().clamp(1e-3)
        assert error < steps, name


@pytest.mark.usefixtures("products")
def test_a_file_runs_in_its_own_codes(tmp_path: Path) -> None:
    kinds = {"token_embd": "Q8_0", "ffn_down": "Q4_0", "blk": "Q4_1"}
    path = write_llama(tmp_path / "model.gguf", random_llama(DEEP), kinds)
    model = hardway.load(path)
    assert isinstance(model, QuantizedLlama)
    assert isinstance(hardway.load(path, device="cpu:0"), QuantizedLlama)
    assert not isinstance(hardway.load(path, device="meta"), QuantizedLlama)
    taught = Llama.from_pretrained(path)
    exact = model.dequantize()
    for name, weight in taught.weights.items():
        if name == "embed_tokens.weight":
            assert torch.equal(exact.weights[name], weight)
        else:
            step = weight.abs().max() * 2**-7  # bfloat16 scales and zeros
            assert (exact.weights[name] - weight).abs().max() < step, name
    tokens = random_tokens(DEEP, 3, 30)
    assert_close_logits(model(tokens), taught(tokens), 0.1)
    assert [*generate(model, tokens[0].tolist()[:5], 3)]
    prompts = [tokens[0].tolist()[:5], tokens[1].tolist()[:9]]
    assert generate_batch(model, prompts, 4) == [generate(model, p, 4) for p in prompts]


def test_the_codes_of_a_file_are_kept(tmp_path: Path) -> None:
    if not packed.int4_pays():
        pytest.skip("this machine's products don't pay")
    path = write_llama(tmp_path / "model.gguf", random_llama(DEEP), {"blk": "Q4_1"})
    model = QuantizedLlama.from_gguf(path)
    info = gguf.read_header(path).tensors["blk.10.ffn_down.weight"]
    blocks = gguf.read_blocks(path, info)
    codes = gguf.nibbles(blocks[:, 4:]).reshape(info.shape)
    down = model.packed["layers.10.mlp.down_proj.weight"]
    assert isinstance(down, Int4Matrix)
    assert torch.equal(down.packed, packed.pack_codes(
        torch.nn.functional.pad(codes.view(torch.int8) - 8, (0, 0, 0, 0))
    ))  # fmt: skip


@pytest.mark.parametrize(
    ("kinds", "head"),
    [
        ({"blk": "Q8_0", "token_embd": "Q8_0"}, Int8Matrix),
        ({"attn_v": "Q5_1", "blk": "Q4_1", "token_embd": "Q4_0"}, Int8Matrix),
        ({"ffn_up": "F16", "blk": "Q4_0"}, Tensor),
        ({}, Tensor),
    ],
    ids=["8 bits", "mixed", "one float", "all float"],
)
def test_files_of_other_kinds(
    tmp_path: Path, kinds: dict[str, str], head: type
) -> None:
    path = write_llama(tmp_path / "model.gguf", random_llama(UNTIED), kinds)
    model, taught = hardway.load(path), Llama.from_pretrained(path)
    assert isinstance(model, QuantizedLlama)
    tokens = random_tokens(UNTIED, 2, 20)
    assert_close_logits(model(tokens), taught(tokens))
    dtype = hardway.load(path, dtype=torch.float32)
    assert not isinstance(dtype, QuantizedLlama)
    assert_close(dtype(tokens), taught(tokens), factor=100)


def test_rows_of_an_embedding_are_exact(tmp_path: Path) -> None:
    path = write_llama(
        tmp_path / "model.gguf", random_llama(WIDE), {"token_embd": "Q4_1"}
    )
    info = gguf.read_header(path).tensors["token_embd.weight"]
    table = BlockTable("Q4_1", gguf.read_blocks(path, info), info.shape)
    whole = gguf.read_tensor(path, info)
    assert torch.equal(table[torch.arange(97)], whole)
    rows = torch.tensor([[3, 96], [0, 3]])
    assert torch.equal(table[rows], whole[rows])


@KINDS
def test_load_quantizes(tmp_path: Path, kind: str) -> None:
    taught = random_llama(WIDE)
    save_llama(tmp_path, taught)
    model = hardway.load(tmp_path, quantize=kind)
    assert isinstance(model, QuantizedLlama)
    tokens = random_tokens(WIDE, 12)
    assert_close_logits(model(tokens), model.dequantize()(tokens))
    assert model.to("cpu") is model
    trace = model.trace(tokens)
    assert_close_logits(trace.logits, model(tokens))
    assert_close_logits(model.logits(trace.residual[-1]), trace.logits)
    with refuses("device"):
        model.to("meta")
    with refuses("dtype"):
        hardway.load(tmp_path, dtype=torch.float32, quantize=kind)


def test_odd_widths_have_no_groups_of_4_bits() -> None:
    with refuses("group"):
        QuantizedLlama.from_weights(SMALL, random_llama().weights, "int4")
    model = QuantizedLlama.from_weights(SMALL, random_llama().weights, "int8")
    tokens = random_tokens(SMALL, 9)
    assert_close_logits(model(tokens), model.dequantize()(tokens))


def test_joined_rows_of_several_kinds() -> None:
    a = Quantized(
        torch.ones(2, 4, dtype=torch.int8), torch.ones(2, 1), torch.zeros(2, 1)
    )
    b = Quantized(
        torch.ones(3, 4, dtype=torch.int8), torch.ones(3, 2), torch.zeros(3, 2)
    )
    both = join_rows([a, a])
    assert isinstance(both, Quantized)
    assert both.codes.shape == (4, 4)
    for parts in ([a, b], [a, dequantize(b)]):
        mixed = join_rows(parts)
        assert isinstance(mixed, Tensor)
        assert torch.equal(mixed, torch.ones(5, 4))


def test_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    model = random_llama(WIDE)
    path = write_llama(tmp_path / "a.gguf", model, block_count=2)
    with refuses_file(path, "layers.2"):
        hardway.load(path)
    path = write_llama(tmp_path / "b.gguf", model, feed_forward_length=95)
    with refuses_file(path, "layers.0.mlp"):
        hardway.load(path)
    broken = Llama(WIDE, model.weights | {"norm.weight": torch.full((64,), torch.nan)})
    path = write_llama(tmp_path / "c.gguf", broken)
    with refuses_file(path, "norm.weight"):
        hardway.load(path)
    weight = model.weights["layers.0.mlp.up_proj.weight"].clone()
    weight[0, 0] = 1e30  # more than a float16 scale can be
    broken = Llama(WIDE, model.weights | {"layers.0.mlp.up_proj.weight": weight})
    with np.errstate(over="ignore"):
        path = write_llama(tmp_path / "d.gguf", broken, {"blk": "Q4_1"})
    with refuses_file(path, "layers.0.mlp.up_proj.weight"):
        hardway.load(path)
    assert checkpoint_name("blk.0.ffn_up.weight") == "layers.0.mlp.up_proj.weight"
