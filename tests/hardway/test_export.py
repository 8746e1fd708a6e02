"""Export: what the library writes, others read, and compute the same."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file as their_load_file
from safetensors.torch import save_file as their_save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

import hardway
from hardway import GPT2, Config, Tokenizer, chat, cli, generate
from hardway.chat import Chat
from hardway.config import LlamaConfig
from hardway.corpus import byte_tokenizer
from hardway.export import export, hugging_face_config
from hardway.model import Decoder
from hardway.safetensors import DTYPES, load_file, save_file
from hardway.training import initial_weights
from llamas import CONFIGS, random_llama
from references import assert_same_logits, random_model, random_tokens
from smollm2 import SMOLLM2, needs_smollm2
from tensors import randn

TEXT = "Once upon a time 22 cats, <|endoftext|> naïve 🙂  x\n"
BYTES = Config(n_vocab=257, n_ctx=32, n_embd=24, n_head=3, n_layer=2)


def theirs(directory: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()


def their_logits(directory: Path, tokens: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = theirs(directory)(tokens[None]).logits[0]
    return logits


# --- the file format ---


def test_the_same_bytes_as_the_library(tmp_path: Path) -> None:
    tensors = {
        "b": randn(3, 5),
        "a": randn(2),
        "é\n": torch.zeros(0, 3),
        "scalar": torch.tensor(2.0),
        "grown": randn(4).requires_grad_(),
    }
    for metadata in (None, {"format": "ü"}):
        save_file(tensors, tmp_path / "ours", metadata)
        their_save_file(tensors, tmp_path / "theirs", metadata)
        assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ours", "theirs"]


def test_every_dtype_comes_back(tmp_path: Path) -> None:
    tensors = {
        kind: (100 * randn(3, 2).abs()).to(dtype) for kind, dtype in DTYPES.items()
    }
    tensors["transposed"] = randn(3, 4).T
    save_file(tensors, tmp_path / "file")
    for found in (load_file(tmp_path / "file"), their_load_file(tmp_path / "file")):
        assert found.keys() == tensors.keys()
        for name, tensor in tensors.items():
            assert found[name].dtype == tensor.dtype
            assert torch.equal(found[name], tensor)


def test_what_cannot_be_saved(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with pytest.raises(ValueError, match=r"'z'.*complex64"):
        save_file({"z": torch.zeros(1, dtype=torch.complex64)}, path)
    with pytest.raises(ValueError, match="__metadata__"):
        save_file({"__metadata__": torch.zeros(1)}, path)
    assert not path.exists()


def test_a_failed_save_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    save_file({"a": torch.ones(2)}, path)
    with pytest.raises(NotImplementedError):
        save_file({"a": torch.ones(2), "b": torch.ones(2, device="meta")}, path)
    assert torch.equal(load_file(path)["a"], torch.ones(2))


# --- models ---


@pytest.mark.slow
def test_pocket(pocket: GPT2, tokenizer: Tokenizer, tmp_path: Path) -> None:
    directory = export(pocket, tokenizer, tmp_path / "new" / "directory")
    ids = tokenizer.encode(TEXT)
    found = GPT2.from_pretrained(directory)
    assert found.config == pocket.config
    assert torch.equal(found(torch.tensor(ids)), pocket(torch.tensor(ids)))
    assert_same_logits(
        their_logits(directory, torch.tensor(ids)), pocket(torch.tensor(ids))
    )
    again = Tokenizer.from_pretrained(directory)
    assert again.ids == tokenizer.ids
    assert again.ranks == tokenizer.ranks
    assert again.encode(TEXT) == ids
    assert again.eot_id == tokenizer.eot_id
    reference = AutoTokenizer.from_pretrained(directory)
    assert reference.encode(TEXT) == tokenizer.encode(TEXT, "all")
    assert reference.eos_token_id == tokenizer.eot_id
    assert reference.decode(ids) == TEXT


def test_greedy_text_is_the_same(
    pocket: GPT2, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    directory = export(pocket, tokenizer, tmp_path)
    prompt = torch.tensor([tokenizer.encode("Once upon a time")])
    new = theirs(directory).generate(
        prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=30,
        do_sample=False, pad_token_id=0, eos_token_id=None,
    )  # fmt: skip
    assert new[0, prompt.shape[1] :].tolist() == generate(pocket, prompt[0], 30)


@pytest.mark.parametrize("config", CONFIGS)
def test_llamas(config: LlamaConfig, tmp_path: Path) -> None:
    config = LlamaConfig(**vars(config) | {"n_vocab": 257})
    model = random_llama(config)
    export(model, byte_tokenizer(), tmp_path)
    tokens = random_tokens(BYTES, 12)
    assert_same_logits(their_logits(tmp_path, tokens), model(tokens))
    found = hardway.Llama.from_pretrained(tmp_path)
    assert found.config == config
    assert_same_logits(found(tokens), model(tokens))  # whose matrices lie otherwise


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_dtypes(dtype: torch.dtype, tmp_path: Path) -> None:
    model = random_model(BYTES, dtype=dtype)
    export(model, byte_tokenizer(), tmp_path)
    assert load_file(tmp_path / "model.safetensors")[
        "transformer.wte.weight"
    ].dtype == dtype  # fmt: skip
    found = GPT2.from_pretrained(tmp_path, dtype)
    assert torch.equal(found.wte, model.wte)


def test_a_new_model_of_bytes(tmp_path: Path) -> None:
    model = GPT2(BYTES, initial_weights(BYTES))
    export(model, byte_tokenizer(), tmp_path)
    tokens = random_tokens(BYTES, 12)
    assert_same_logits(their_logits(tmp_path, tokens), model(tokens))
    assert Tokenizer.from_pretrained(tmp_path).encode("é") == list("é".encode())
    assert AutoTokenizer.from_pretrained(tmp_path).encode("é") == list("é".encode())


def test_what_vllm_asserts(tmp_path: Path, pocket: GPT2, tokenizer: Tokenizer) -> None:
    export(pocket, tokenizer, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    for name in (
        "add_cross_attention", "scale_attn_by_inverse_layer_idx",
        "reorder_and_upcast_attn",
    ):  # fmt: skip
        assert config[name] is False
    assert config["architectures"] == ["GPT2LMHeadModel"]
    assert config["activation_function"] == "gelu_new"
    assert config["eos_token_id"] == 50256
    assert config["torch_dtype"] == "float32"
    names = load_file(tmp_path / "model.safetensors")
    assert "lm_head.weight" not in names  # it is wte.weight
    assert names["transformer.h.0.mlp.c_fc.weight"].shape == (128, 512)  # [in, out]


def test_another_models_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="n_vocab = 97"):
        export(random_model(), byte_tokenizer(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_quantized_weights(tokenizer: Tokenizer, tmp_path: Path) -> None:
    model = hardway.load("pocket", quantize="int8")
    with pytest.raises(ValueError, match=r"quantized.*dtype=torch\.float32"):
        export(model, tokenizer, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_config_names_every_size() -> None:
    for model in (random_model(), random_llama()):
        decoder: Decoder = model
        assert len(hugging_face_config(decoder)) > 8


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["export", str(tmp_path / "out"), "--dtype", "F16"])
    assert capsys.readouterr().out == f"{tmp_path / 'out'}\n"
    with_pocket = hardway.hub.find("pocket") / "model.safetensors"
    found, kept = load_file(tmp_path / "out/model.safetensors"), load_file(with_pocket)
    assert {
        k.removeprefix("transformer."): v.dtype for k, v in found.items()
    } == dict.fromkeys(kept, torch.float16)
    for name, tensor in kept.items():
        assert torch.equal(found[f"transformer.{name}"], tensor)


@needs_smollm2
@pytest.mark.slow
def test_smollm2(tmp_path: Path) -> None:
    model = hardway.Llama.from_pretrained(SMOLLM2)
    tokenizer = Tokenizer.from_pretrained(SMOLLM2)
    export(model, tokenizer, tmp_path)
    ids = torch.tensor(tokenizer.encode(TEXT))
    assert_same_logits(their_logits(tmp_path, ids), model(ids))
    messages = [{"role": "user", "content": "Hi!"}]
    reference = AutoTokenizer.from_pretrained(tmp_path)
    assert reference.encode(TEXT) == tokenizer.encode(TEXT, "all")
    rendered = reference.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=True
    )
    assert rendered == chat.render(messages)
    loaded = hardway.load(tmp_path), hardway.load_tokenizer(tmp_path)
    reply = "".join(Chat(*loaded).send("Say hello.", max_new_tokens=5))
    assert reply == "".join(Chat(model, tokenizer).send("Say hello.", max_new_tokens=5))
