"""Three ways in which people get a model, each by the library that writes it."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import GPT2LMHeadModel, GPT2TokenizerFast

import hardway
from hardway import GPT2, Config, Tokenizer, generate, stream_text
from hardway.cli import main
from hardway.hub import POCKET
from references import hugging_face_names, write_config
from refusals import refuses_file

END, USER = "<|im_end|>", "<|user|>"


# --- fine-tuned and saved by today's transformers ---


@pytest.fixture(scope="module")
def finetuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pocket, taught in a few steps to answer ``hi`` and stop."""
    directory = tmp_path_factory.mktemp("finetuned")
    tokenizer = GPT2TokenizerFast.from_pretrained(POCKET)
    tokenizer.add_special_tokens({"eos_token": END})
    tokenizer.add_tokens([USER])
    model = GPT2LMHeadModel.from_pretrained(POCKET).float()
    torch.manual_seed(0)
    model.resize_token_embeddings(len(tokenizer), pad_to_multiple_of=64)
    ids = tokenizer(f"{USER}hi{USER} Hello there{END}", return_tensors="pt").input_ids
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(25):
        model(ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


@pytest.mark.slow
def test_finetuned_and_resized(
    finetuned: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = GPT2LMHeadModel.from_pretrained(finetuned)
    their_tokenizer = GPT2TokenizerFast.from_pretrained(finetuned)
    tokenizer = hardway.load_tokenizer(finetuned)
    assert (tokenizer.n_vocab, tokenizer.eot_id) == (50259, 50257)
    text = f"{USER}hi{USER}"
    ids = tokenizer.encode(text, "all")
    assert ids == their_tokenizer(text)["input_ids"]
    with torch.no_grad():
        expected = theirs(torch.tensor([ids])).logits[0]
    for model in (GPT2.from_pretrained(finetuned), hardway.load(finetuned)):
        assert model.config.n_vocab == 50304
        logits = model(torch.tensor(ids))
        torch.testing.assert_close(logits, expected, atol=2e-3, rtol=1e-3)
        stop = [tokenizer.eot_id]
        assert tokenizer.decode(generate(model, ids, 20, stop_ids=stop)) == (
            " Hello there"
        )
    hot = stream_text(model, tokenizer, "hi", 40, temperature=9.0, seed=1)
    assert "".join(hot)  # none of the rows that only pad was drawn
    capsys.readouterr()
    main(["generate", f"{USER}hi", "--model", str(finetuned), "--temperature", "9",
          "--seed", "1", "--max-new-tokens", "20"])  # fmt: skip
    assert capsys.readouterr().err == ""


# --- nanoGPT: its names, and linear layers as torch stores them ---


class Block(nn.Module):
    def __init__(self, n: int, n_head: int, bias: bool) -> None:
        super().__init__()
        self.n_head = n_head
        self.ln_1, self.ln_2 = (nn.LayerNorm(n, bias=bias) for _ in range(2))
        self.attn, self.mlp = nn.Module(), nn.Module()
        self.attn.c_attn = nn.Linear(n, 3 * n, bias=bias)
        self.attn.c_proj = nn.Linear(n, n, bias=bias)
        self.mlp.c_fc = nn.Linear(n, 4 * n, bias=bias)
        self.mlp.c_proj = nn.Linear(4 * n, n, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            part.unflatten(-1, (self.n_head, -1)).transpose(-2, -3)
            for part in self.attn.c_attn(self.ln_1(x)).chunk(3, dim=-1)
        )
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.attn.c_proj(mixed.transpose(-2, -3).flatten(-2))
        hidden = F.gelu(self.mlp.c_fc(self.ln_2(x)), approximate="tanh")
        return x + self.mlp.c_proj(hidden)


class NanoGPT(nn.Module):
    """A model with nanoGPT's modules, and so its names and orientation."""

    def __init__(self, config: Config, bias: bool) -> None:
        super().__init__()
        n = config.n_embd
        blocks = (Block(n, config.n_head, bias) for _ in range(config.n_layer))
        self.transformer = nn.ModuleDict({
            "wte": nn.Embedding(config.n_vocab, n),
            "wpe": nn.Embedding(config.n_ctx, n),
            "h": nn.ModuleList(blocks),
            "ln_f": nn.LayerNorm(n, bias=bias),
        })  # fmt: skip
        self.lm_head = nn.Linear(n, config.n_vocab, bias=False)
        self.lm_head.weight = self.transformer["wte"].weight

    def forward(self, ids: Tensor) -> Tensor:
        parts = self.transformer
        x = parts["wte"](ids) + parts["wpe"](torch.arange(ids.shape[-1]))
        for block in parts["h"]:
            x = block(x)
        logits: Tensor = self.lm_head(parts["ln_f"](x))
        return logits


NANO = Config(n_vocab=80, n_ctx=16, n_embd=24, n_head=3, n_layer=2)


def nano(directory: Path, bias: bool = True, prefix: str = "_orig_mod.") -> Any:
    """Write a random one as its training script leaves it, but as safetensors."""
    torch.manual_seed(0)
    model = NanoGPT(NANO, bias).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    tensors = {f"{prefix}{n}": t.clone() for n, t in model.state_dict().items()}
    safetensors.torch.save_file(tensors, directory / "model.safetensors")
    write_config(directory, hugging_face_names(NANO))
    return model


@pytest.mark.parametrize("bias", [True, False])
def test_nanogpt(bias: bool, tmp_path: Path) -> None:
    """The square matrix is turned with the others, which show which way they lie."""
    theirs, ids = nano(tmp_path, bias), torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6]])
    with torch.no_grad():
        expected = theirs(ids)
    for load in (GPT2.from_pretrained, hardway.load):
        found = load(tmp_path)(ids)
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "turned", ["h.0.attn.c_attn", "h.1.mlp.c_fc", "h.1.mlp.c_proj"]
)
def test_matrices_that_disagree_are_refused(turned: str, tmp_path: Path) -> None:
    nano(tmp_path, prefix="")
    path = tmp_path / "model.safetensors"
    tensors = safetensors.torch.load_file(path)
    name = f"transformer.{turned}.weight"
    tensors[name] = tensors[name].T.contiguous()
    safetensors.torch.save_file(tensors, path)
    with refuses_file(path, "must have shape"):
        GPT2.from_pretrained(tmp_path)


def test_some_biases_are_not_none(tmp_path: Path) -> None:
    nano(tmp_path, prefix="")
    path = tmp_path / "model.safetensors"
    tensors = safetensors.torch.load_file(path)
    for name in [name for name in tensors if re.search(r"attn.*bias", name)]:
        del tensors[name]
    safetensors.torch.save_file(tensors, path)
    with refuses_file(path, "lacks 'h.0.attn.c_attn.bias'"):
        GPT2.from_pretrained(tmp_path)


def test_a_claimed_size_is_not_allocated(tmp_path: Path) -> None:
    """Without biases, but of another model: they are not made up first."""
    nano(tmp_path, bias=False)
    huge = hugging_face_names(NANO) | {"n_embd": 3 * 10**12}
    write_config(tmp_path, huge)
    with refuses_file(tmp_path / "model.safetensors", "lacks"):
        GPT2.from_pretrained(tmp_path)


# --- saved by safetensors.torch.save_model ---


@pytest.mark.parametrize("wrapped", [False, True])
def test_save_model(wrapped: bool, tmp_path: Path) -> None:
    """It stores a shared tensor once, under the name that sorts first."""
    theirs = GPT2LMHeadModel.from_pretrained(POCKET)
    module: nn.Module = nn.ModuleDict({"model": theirs}) if wrapped else theirs
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_model(module, str(path))
    (tmp_path / "config.json").write_text(
        json.dumps(theirs.config.to_dict()), encoding="utf-8"
    )
    stored = safetensors.torch.load_file(path)
    assert not any(name.endswith("wte.weight") for name in stored)
    ids = torch.tensor([7454, 2402, 257, 640])
    expected = GPT2.from_pretrained(POCKET)(ids)
    for load in (GPT2.from_pretrained, hardway.load):
        torch.testing.assert_close(load(tmp_path)(ids), expected, atol=1e-3, rtol=1e-3)
    with pytest.raises(FileNotFoundError, match=r"vocab\.json"):
        Tokenizer.from_pretrained(tmp_path)
