"""The stand-in has the shape of GPT-2's own file; test_model shows what it computes."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

import fullsize as stand_in
from hardway import GPT2, Tokenizer, safetensors

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("fullsize")]


def test_the_file_is_laid_out_as_gpt2s(fullsize: Path) -> None:
    path = fullsize / "model.safetensors"
    header = safetensors.read_header(path)
    assert path.stat().st_size == 548_105_171
    assert header.data_start == 14_291
    assert header.data_start % 4 == 3
    assert header.metadata == {"format": "pt"}
    assert len(header.tensors) == 160
    assert {info.dtype for info in header.tensors.values()} == {"F32"}
    assert not any(name.startswith("transformer.") for name in header.tensors)
    masks = [name for name in header.tensors if name.endswith(".attn.bias")]
    assert masks == sorted(f"h.{layer}.attn.bias" for layer in range(12))
    parameters = sum(
        torch.Size(info.shape).numel()
        for name, info in header.tensors.items()
        if name not in masks
    )
    assert parameters == 124_439_808


def test_safetensors_itself_reads_it(fullsize: Path) -> None:
    """The library that the format comes from finds the values that were written."""
    with safe_open(fullsize / "model.safetensors", "pt") as file:
        mask = file.get_tensor("h.11.attn.bias")
        wte, wpe = file.get_tensor("wte.weight"), file.get_tensor("wpe.weight")
        idle = [
            file.get_tensor(f"h.{layer}.mlp.c_proj.weight") for layer in (2, 3, 8, 9)
        ]
    assert mask.shape == (1, 1, 1024, 1024)
    assert torch.equal(mask[0, 0], torch.ones(1024, 1024).tril())
    assert torch.equal(wte[:, :128], wte[:, 640:])
    assert wpe[512:].std() == pytest.approx(0.02, rel=0.01)
    assert [bool(weight.any()) for weight in idle] == [True, False, False, True]


def test_config_and_vocabulary_are_gpt2s(fullsize: Path) -> None:
    config = json.loads((fullsize / "config.json").read_text(encoding="utf-8"))
    assert config["vocab_size"] == 50257
    assert config["n_positions"] == config["n_ctx"] == 1024
    assert Tokenizer.from_pretrained(fullsize).encode("Hello") == [15496]


def test_it_attends_as_pocket_does(fullsize: Path, pocket: GPT2) -> None:
    """Real layers and heads first and last, in between layers that add nothing."""
    tokens = torch.tensor([7454, 2402, 257, 640])
    large, small = GPT2.from_pretrained(fullsize).trace(tokens), pocket.trace(tokens)
    real = [0, 1, 2, 9, 10, 11]
    torch.testing.assert_close(
        large.attention[real, :4], small.attention, atol=1e-4, rtol=0
    )
    residual = large.residual.unflatten(-1, (6, 128))
    for copy in range(6):
        torch.testing.assert_close(
            residual[[0, *(layer + 1 for layer in real)], :, copy],
            small.residual,
            atol=1e-3,
            rtol=1e-4,
        )
    for layer in stand_in.IDLE:
        assert torch.equal(large.residual[layer], large.residual[layer + 1])
