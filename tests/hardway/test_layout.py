"""Directories as people have them: what is read, and what a refusal says to do.

The cases, and where they come from, are listed in tests/support/field_cases.md.
"""

import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import GPT2TokenizerFast

import hardway
from hardway import GPT2, Config, Llama, Tokenizer, hub, layout
from hardway.checkpoint import load_files
from hardway.cli import main
from hardway.tokenizer import BYTE_OF
from llamas import random_llama, save_llama
from references import (
    SMALL,
    as_transformers,
    hugging_face_names,
    own_names,
    random_model,
    random_tokens,
    write_config,
)
from refusals import refuses, refuses_file

POCKET = hub.POCKET
Weights = Mapping[str, Tensor]
INDEX = "model.safetensors.index.json"


def save(directory: Path, weights: Weights, name: str = "model.safetensors") -> Path:
    """Write weights as they are, and the sizes of the small model beside them."""
    directory.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in weights.items()},
              directory / name)  # fmt: skip
    write_config(directory, hugging_face_names(SMALL))
    return directory / name


def assert_is(path: Path, model: GPT2) -> None:
    """Assert that both versions of what is loaded compute what the model does."""
    tokens = random_tokens(model.config, 9)
    expected = model(tokens)
    torch.testing.assert_close(GPT2.from_pretrained(path)(tokens), expected)
    found = hardway.load(path)(tokens)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def saved_in_shards(directory: Path) -> GPT2:
    model = random_model()
    as_transformers(model).save_pretrained(directory, max_shard_size="10KB")
    assert len([*directory.glob("*.safetensors")]) > 2
    return model


# --- weights that are read ---


def test_shards(tmp_path: Path) -> None:
    model = saved_in_shards(tmp_path)
    assert hub.weights(tmp_path) == tmp_path / INDEX
    assert_is(tmp_path, model)
    assert_is(tmp_path / INDEX, model)


def test_shards_are_inspected(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = saved_in_shards(tmp_path)
    main(["inspect", str(tmp_path)])
    last = capsys.readouterr().out.splitlines()[-1]
    count = sum(tensor.numel() for tensor in model.weights.values())
    assert f"{len(model.weights)} tensors, {count:,} parameters" in last


def test_shards_of_a_llama(tmp_path: Path) -> None:
    model = random_llama()
    path = save_llama(tmp_path, model)
    tensors = load_file(path)
    path.unlink()
    listed = {}
    for number, name in enumerate(tensors):
        listed[name] = f"model-{number % 2}-of-2.safetensors"
    for shard in {*listed.values()}:
        part = {name: tensors[name] for name in tensors if listed[name] == shard}
        save_file(part, tmp_path / shard)
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": listed}), encoding="utf-8")
    tokens = random_tokens(model.config, 9)  # type: ignore[arg-type]
    for loaded in (Llama.from_pretrained(tmp_path), hardway.load(tmp_path)):
        torch.testing.assert_close(loaded(tokens), model(tokens), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "listing",
    [
        {}, {"weight_map": {}}, {"weight_map": ["a.safetensors"]},
        {"weight_map": {"a": 1}}, {"weight_map": {"a": "../b.safetensors"}},
        {"weight_map": {"a": "/b.safetensors"}}, {"weight_map": {"a": "b.bin"}},
        {"weight_map": {"a": "c:b.safetensors"}},
        {"weight_map": {"a": "d\\b.safetensors"}},
    ],
)  # fmt: skip
def test_an_index_that_is_none_or_leads_elsewhere(listing: Any, tmp_path: Path) -> None:
    saved_in_shards(tmp_path)
    (tmp_path / INDEX).write_text(json.dumps(listing), encoding="utf-8")
    with refuses_file(tmp_path / INDEX, "weight_map"):
        hardway.load(tmp_path)


def test_a_shard_or_the_index_is_missing(tmp_path: Path) -> None:
    saved_in_shards(tmp_path)
    first = sorted(tmp_path.glob("*.safetensors"))[0]
    first.rename(tmp_path / "elsewhere")
    with refuses_file(tmp_path / INDEX, first.name, FileNotFoundError):
        hardway.load(tmp_path)
    (tmp_path / "elsewhere").rename(first)
    (tmp_path / INDEX).unlink()
    with refuses_file(tmp_path, INDEX, FileNotFoundError):
        hardway.load(tmp_path)


def test_two_shards_with_one_tensor(tmp_path: Path) -> None:
    saved_in_shards(tmp_path)
    listing = json.loads((tmp_path / INDEX).read_text(encoding="utf-8"))
    name = next(iter(listing["weight_map"]))
    save_file({name: torch.ones(1)}, tmp_path / "more.safetensors")
    listing["weight_map"]["other"] = "more.safetensors"
    (tmp_path / INDEX).write_text(json.dumps(listing), encoding="utf-8")
    with pytest.raises(ValueError, match=f"another shard has '{name}'"):
        load_files(tmp_path / INDEX)


def test_a_file_of_weights_by_its_path_or_its_own_name(tmp_path: Path) -> None:
    model = random_model()
    path = save(tmp_path, model.weights, "my-finetune.safetensors")
    assert_is(tmp_path, model)
    assert_is(path, model)


def test_a_model_in_the_hub_s_cache(tmp_path: Path) -> None:
    """The snapshot's files are links into ``blobs``; ``refs/main`` names it."""
    model, other = random_model(), random_model(seed=1)
    cache = tmp_path / "models--someone--gpt2"
    save(cache / "snapshots" / "abc", model.weights)
    assert_is(cache, model)
    save(cache / "snapshots" / "abd", other.weights)
    with refuses(str(cache)) as caught:
        hardway.load(cache)
    assert "'abc', 'abd'" in str(caught.value)
    (cache / "refs").mkdir()
    for revision, expected in (("abd\n", other), ("abc", model)):
        (cache / "refs" / "main").write_text(revision, encoding="utf-8")
        assert_is(cache, expected)
    for revision in ("../abc", ""):
        (cache / "refs" / "main").write_text(revision, encoding="utf-8")
        with refuses(str(cache)):
            hub.find(cache)
    with refuses_file(tmp_path, cache.name, FileNotFoundError):
        hardway.load(tmp_path)


def test_the_directories_below_are_named(tmp_path: Path) -> None:
    """A trainer writes its model into a directory for each time it saves."""
    for step in (500, 1000):
        save(tmp_path / f"checkpoint-{step}", random_model().weights)
    (tmp_path / "runs").mkdir()
    (tmp_path / "training_args.bin").touch()
    with refuses_file(tmp_path, "'checkpoint-500'", FileNotFoundError) as caught:
        hardway.load(tmp_path)
    assert "checkpoint-1000" in str(caught.value)
    assert "runs" not in str(caught.value)


def test_openai_s_names(tmp_path: Path) -> None:
    """The sizes and the vocabulary are read; the weights are for TensorFlow."""
    model = random_model()
    save(tmp_path, model.weights)
    (tmp_path / "config.json").unlink()
    names = json.dumps(own_names(SMALL))
    (tmp_path / "hparams.json").write_text(names, encoding="utf-8")
    shutil.copy(POCKET / "vocab.json", tmp_path / "encoder.json")
    shutil.copy(POCKET / "merges.txt", tmp_path / "vocab.bpe")
    assert_is(tmp_path, model)
    assert Tokenizer.from_pretrained(tmp_path).encode("Hello there") == [15496, 612]
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "model.ckpt.index").touch()
    with refuses_file(tmp_path, "model.ckpt.index", FileNotFoundError) as caught:
        hardway.load(tmp_path)
    assert "convert_gpt2_original_tf_checkpoint" in str(caught.value)


@pytest.mark.parametrize(
    ("body", "head"),
    [
        ("model.", "model."), ("_orig_mod.transformer.", "_orig_mod."),
        ("module.transformer.", "module."), ("transformer.", ""),
        ("base_model.model.transformer.", "base_model.model."), ("gpt2.", "gpt2."),
    ],
)  # fmt: skip
def test_wrappers(body: str, head: str, tmp_path: Path) -> None:
    """Training wrappers put a prefix before every name; the head may lack a part."""
    model = random_model()
    weights = {f"{body}{name}": tensor for name, tensor in model.weights.items()}
    save(tmp_path, weights)
    assert_is(tmp_path, model)
    weights[f"{head}lm_head.weight"] = model.weights["wte.weight"].clone()
    save(tmp_path, weights)
    assert_is(tmp_path, model)
    del weights[f"{body}wte.weight"]  # the same matrix, by its other name
    save(tmp_path, weights)
    assert_is(tmp_path, model)


def test_matrices_stored_the_other_way_round(tmp_path: Path) -> None:
    """As nanoGPT saves them; square ones don't show it, so all or none are turned."""
    model = random_model()
    turned = {
        name: w.T.contiguous() if name.startswith("h.") and w.dim() == 2 else w
        for name, w in model.weights.items()
    }
    save(tmp_path, turned)
    found = GPT2.from_pretrained(tmp_path)
    for name, weight in model.weights.items():
        assert torch.equal(found.weights[name], weight), name
    one = "h.1.mlp.c_fc.weight"
    save(tmp_path, turned | {one: model.weights[one]})
    with refuses_file(tmp_path / "model.safetensors", "must have shape"):
        GPT2.from_pretrained(tmp_path)


def test_a_model_trained_without_biases(tmp_path: Path) -> None:
    model = random_model()
    without = {n: w for n, w in model.weights.items() if not n.endswith(".bias")}
    save(tmp_path, without)
    found = GPT2.from_pretrained(tmp_path)
    for name, weight in found.weights.items():
        assert torch.equal(weight, without.get(name, torch.zeros_like(weight))), name
    save(tmp_path, without | {"ln_f.bias": model.weights["ln_f.bias"]})
    with refuses_file(tmp_path / "model.safetensors", "lacks 'h.0.attn.c_attn.bias'"):
        GPT2.from_pretrained(tmp_path)


def test_two_heads(tmp_path: Path) -> None:
    model = random_model()
    named = {f"a.b.{name}": w for name, w in model.weights.items()}
    for name in ("a.lm_head.weight", "a.b.lm_head.weight"):
        named[name] = model.weights["wte.weight"].clone()
    path = save(tmp_path, named)
    with refuses_file(path, "has lm_head.weight and a.lm_head.weight"):
        GPT2.from_pretrained(tmp_path)


def test_two_models_in_one_file(tmp_path: Path) -> None:
    weights = random_model().weights
    both = {f"{who}.{n}": w.clone() for n, w in weights.items() for who in ("a", "bb")}
    path = save(tmp_path, both)
    with refuses_file(path, "'a.h.0.attn.c_attn.bias'"):
        hardway.load(tmp_path)


@pytest.mark.parametrize("prefix", ["model.", "module.model.", ""])
def test_wrappers_of_a_llama(prefix: str, tmp_path: Path) -> None:
    model = random_llama()
    path = save_llama(tmp_path, model)
    tensors = {
        prefix + name.removeprefix("model."): tensor
        for name, tensor in load_file(path).items()
    }
    save_file(tensors, path)
    tokens = random_tokens(model.config, 9)  # type: ignore[arg-type]
    torch.testing.assert_close(Llama.from_pretrained(tmp_path)(tokens), model(tokens))


def test_the_sizes_are_missing(tmp_path: Path) -> None:
    save(tmp_path, random_model().weights)
    (tmp_path / "config.json").unlink()
    for load in (hardway.load, GPT2.from_pretrained):
        with pytest.raises(FileNotFoundError, match=r"config\.json"):
            load(tmp_path)


# --- weights that are not ---

FOREIGN = {
    "pytorch_model.bin": "save_file",
    "ckpt.pt": "save_file",
    "model.pth": "save_file",
    "adapter_model.safetensors": "merge_and_unload",
    "pytorch_model-00001-of-00002.bin": "save_pretrained",
    "pytorch_model.bin.index.json": "",
    "tf_model.h5": "from_tf",
    "flax_model.msgpack": "from_flax",
    "model-1000.meta": "convert_gpt2_original_tf_checkpoint",
    "decoder_model.onnx": "safetensors",
    "weights.npz": "safetensors",
}


@pytest.mark.parametrize(("name", "advice"), FOREIGN.items())
def test_other_weights_are_named(name: str, advice: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    write_config(tmp_path, hugging_face_names(SMALL))
    for load in (hardway.load, GPT2.from_pretrained, hub.weights):
        with refuses_file(tmp_path, "model.safetensors", FileNotFoundError) as caught:
            load(tmp_path)
        if advice:
            assert name in str(caught.value)
            assert advice in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("nested", [False, True], ids=["flat", "as nanoGPT's"])
def test_the_command_converts(nested: bool, tmp_path: Path) -> None:
    """What the message says to run works, and never runs what a pickle holds."""
    model = random_model()
    weights = {f"transformer.{n}": tensor for n, tensor in model.weights.items()}
    weights["lm_head.weight"] = weights["transformer.wte.weight"]  # one tensor
    name = "ckpt.pt" if nested else "pytorch_model.bin"
    torch.save({"model": weights, "iter_num": 3} if nested else weights,
               tmp_path / name)  # fmt: skip
    write_config(tmp_path, hugging_face_names(SMALL))
    with pytest.raises(FileNotFoundError) as caught:
        hardway.load(tmp_path)
    _, _, command = str(caught.value).partition("run in that directory: ")
    arguments = shlex.split(command)
    assert arguments[:2] == ["python", "-c"]
    subprocess.run([sys.executable, *arguments[1:]], cwd=tmp_path, check=True)
    assert_is(tmp_path, model)


def test_a_strange_name_gets_into_no_command(tmp_path: Path) -> None:
    """Who follows the advice must not run what a file's name says."""
    (tmp_path / "x');print('sprung.pt").touch()
    with pytest.raises(FileNotFoundError) as caught:
        hub.weights(tmp_path)
    _, _, command = str(caught.value).partition("run in that directory: ")
    assert "torch.load('NAME'" in command
    assert "sprung" not in command


class Trap:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("sprung"),))


@pytest.mark.slow
def test_nothing_is_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"w": Trap()}, "pytorch_model.bin")
    write_config(tmp_path, hugging_face_names(SMALL))
    with pytest.raises(FileNotFoundError) as caught:
        hardway.load(".")
    _, _, command = str(caught.value).partition("run in that directory: ")
    done = subprocess.run([sys.executable, *shlex.split(command)[1:]], check=False,
                          stderr=subprocess.DEVNULL)  # fmt: skip
    assert done.returncode != 0
    assert not Path("sprung").exists()


def test_a_gguf_whose_name_is_in_capitals(tmp_path: Path) -> None:
    (tmp_path / "MODEL.GGUF").write_bytes(b"GGUF")
    for load in (hardway.load, hardway.load_tokenizer):
        with refuses(str(tmp_path / "MODEL.GGUF")):  # read as GGUF
            load(tmp_path)
    with refuses(str(tmp_path / "MODEL.GGUF")) as caught:
        GPT2.from_pretrained(tmp_path)
    assert "hardway.load" in str(caught.value)


# --- the same sizes, by other names ---


@pytest.mark.parametrize(
    "name", ["gelu_pytorch_tanh", "gelu_fast", "gelu_python_tanh", "gelu_accurate"]
)
def test_one_activation_has_several_names(name: str, tmp_path: Path) -> None:
    x = torch.linspace(-6, 6, 500)
    known = transformers.activations.ACT2FN
    torch.testing.assert_close(known[name](x), known["gelu_new"](x))
    path = write_config(
        tmp_path, hugging_face_names(SMALL) | {"activation_function": name}
    )
    assert Config.from_file(path) == SMALL
    for other in ("gelu", "gelu_10", "quick_gelu", "relu"):
        write_config(
            tmp_path, hugging_face_names(SMALL) | {"activation_function": other}
        )
        with refuses_file(path, "activation_function"):
            Config.from_file(path)


# --- vocabularies ---


def two_files(directory: Path, **others: Any) -> Path:
    """Write a vocabulary of bytes and an end of text, and other files beside it."""
    others = {"vocab": BYTE_OF | {"<|endoftext|>": 256}} | others
    for name, content in others.items():
        path = directory / f"{name}.json"
        path.write_text(json.dumps(content), encoding="utf-8")
    (directory / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    return directory


ADDED = {"<|pad|>": 257, "<|user|>": 258, "<|bot|>": 259}


@pytest.mark.parametrize("load", [Tokenizer.from_pretrained, hardway.load_tokenizer])
def test_added_tokens(load: Any, tmp_path: Path) -> None:
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(POCKET / name, tmp_path)
    for name, content in (
        ("added_tokens", {"<|pad|>": 50257, "<|user|>": 50258, "<|bot|>": 50259}),
        ("special_tokens_map", {"eos_token": "<|bot|>"}),
    ):
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(content), encoding="utf-8")
    tokenizer = load(tmp_path)
    assert tokenizer.encode("<|user|>hi", allowed_special="all") == [50258, 5303]
    assert tokenizer.encode("<|user|>hi") == [27, 91, 7220, 91, 29, 5303]
    assert (tokenizer.n_vocab, tokenizer.eot_id) == (50260, 50259)
    assert tokenizer.decode([50258, 5303]) == "<|user|>hi"


@pytest.mark.parametrize(
    ("files", "eot_id"),
    [
        ({"special_tokens_map": {"eos_token": {"content": "<|pad|>"}}}, 257),
        ({"tokenizer_config": {"eos_token": "<|user|>"},
          "special_tokens_map": {"eos_token": "<|pad|>"}}, 258),
        ({"generation_config": {"eos_token_id": [259, 256]}}, 259),
        ({"config": {"eos_token_id": 258}}, 258),
        ({}, 256),
    ],
)  # fmt: skip
def test_a_model_s_own_end(files: Any, eot_id: int, tmp_path: Path) -> None:
    two_files(tmp_path, added_tokens=ADDED, **files)
    assert Tokenizer.from_pretrained(tmp_path).eot_id == eot_id


def test_tokens_added_in_the_settings(tmp_path: Path) -> None:
    """As transformers wrote it until version 4, beside the two files."""
    settings = {
        "added_tokens_decoder": {
            "256": {"content": "<|endoftext|>", "special": True},
            "257": {"content": "[SEP]", "special": False, "lstrip": False},
        },
        "eos_token": "[SEP]",
    }
    two_files(tmp_path, tokenizer_config=settings)
    tokenizer = Tokenizer.from_pretrained(tmp_path)
    assert tokenizer.encode("a[SEP]", {"[SEP]"}) == [97, 257]
    assert tokenizer.eot_id == 257


def token(content: str = "<a>", **changes: Any) -> dict[str, Any]:
    return {"added_tokens_decoder": {"257": {"content": content} | changes}}


@pytest.mark.parametrize(
    ("name", "content", "entry"),
    [
        ("added_tokens", {"covid": 257}, "'covid' must be special"),
        ("added_tokens", {"  ": 257}, "'  ' must be special"),
        ("added_tokens", {"<a>": "257"}, "have an id and a content"),
        ("added_tokens", ["<a>"], "not a JSON object"),
        ("tokenizer_config", {"added_tokens_decoder": []}, "must be an object"),
        ("tokenizer_config", token("covid"), "'covid' must be special"),
        ("tokenizer_config", token(lstrip=True), "'<a>': lstrip must be False"),
        ("tokenizer_config", {"added_tokens_decoder": {"x": {"content": "<a>"}}},
         "have an id"),
        ("tokenizer_config", {"add_prefix_space": True}, "add_prefix_space must be"),
        ("tokenizer_config", {"add_bos_token": True}, "add_bos_token must be False"),
        ("special_tokens_map", {"eos_token": "<|gone|>"}, "eos_token must be"),
        ("config", {"eos_token_id": 98}, "eos_token_id must be a special token"),
    ],
)  # fmt: skip
def test_nothing_beside_the_vocabulary_is_ignored(
    name: str, content: Any, entry: str, tmp_path: Path
) -> None:
    two_files(tmp_path, **{name: content})
    with refuses_file(tmp_path / f"{name}.json", entry):
        Tokenizer.from_pretrained(tmp_path)


def test_line_breaks_of_windows(tmp_path: Path) -> None:
    """As Git writes a text file there."""
    vocab = BYTE_OF | {"ab": 256, "<|endoftext|>": 257}
    two_files(tmp_path, vocab=vocab)
    (tmp_path / "merges.txt").write_bytes(b"#version: 0.2\r\na b\r\n")
    assert Tokenizer.from_pretrained(tmp_path).encode("ab") == [256]


def test_ids_of_added_tokens_leave_no_gap(tmp_path: Path) -> None:
    two_files(tmp_path, added_tokens={"<a>": 258})
    with refuses_file(tmp_path / "vocab.json", "none has the id 257"):
        Tokenizer.from_pretrained(tmp_path)


def test_what_today_s_transformers_saves(tmp_path: Path) -> None:
    """One file, with a post-processor that adds nothing, and an added marker."""
    theirs = GPT2TokenizerFast.from_pretrained(POCKET)
    theirs.add_special_tokens({"eos_token": "<|bot|>"})
    theirs.add_tokens(["<|user|>"])
    theirs.save_pretrained(tmp_path)
    assert not (tmp_path / "vocab.json").exists()
    tokenizer = Tokenizer.from_pretrained(tmp_path)
    assert tokenizer.eot_id == theirs.eos_token_id == 50257
    for text in ("<|user|>Once upon<|bot|>", "naïve  café\n\n"):
        assert tokenizer.encode(text, "all") == theirs(text)["input_ids"]


@pytest.mark.slow
def test_a_post_processor_that_adds_something(tmp_path: Path) -> None:
    theirs = GPT2TokenizerFast.from_pretrained(POCKET)
    theirs.save_pretrained(tmp_path)
    path = tmp_path / "tokenizer.json"
    found = json.loads(path.read_text(encoding="utf-8"))
    start = {"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}
    found["post_processor"]["single"].insert(0, start)
    path.write_text(json.dumps(found), encoding="utf-8")
    with refuses_file(path, "post_processor"):
        Tokenizer.from_pretrained(tmp_path)


@pytest.mark.parametrize("name", layout.FOREIGN_VOCABULARIES)
def test_a_vocabulary_of_another_kind_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    with refuses_file(tmp_path / "vocab.json", name, FileNotFoundError):
        Tokenizer.from_pretrained(tmp_path)


# --- names ---


def test_the_hub_s_own_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HARDWAY_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "home" / "gpt2", random_model().weights)
    assert hub.find("openai-community/gpt2") == hub.find("gpt2")
    with refuses("no model 'distilgpt2'", FileNotFoundError) as caught:
        hub.find("distilbert/distilgpt2")
    assert "hardway download distilgpt2" in str(caught.value)
    save(tmp_path / "openai-community" / "gpt2", random_model().weights)
    assert hub.find("openai-community/gpt2") == Path("openai-community/gpt2")
    for unknown in ("gpt2-xl", "someone/model"):
        with refuses("name") as refused:
            hub.download(unknown)
        assert "gpt2-medium" in str(refused.value)
        assert "directory" in str(refused.value)


def test_a_folder_of_a_known_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HARDWAY_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "gpt2", random_model().weights)
    with pytest.raises(FileNotFoundError, match=r"\./gpt2") as caught:
        hub.find("gpt2")
    assert "hardway download gpt2" in str(caught.value)
    assert hub.find("./gpt2") == Path("gpt2")


def test_the_home_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(tmp_path))
    monkeypatch.setenv("HARDWAY_HOME", "~/models")
    assert hub.home() == tmp_path / "models"
    save(tmp_path / "mine", random_model().weights)
    assert hub.find("~/mine") == tmp_path / "mine"
    with pytest.raises(hub.DownloadError, match="is missing") as caught:
        hub.verify("gpt2", "~/mine")
    assert str(tmp_path / "mine") in str(caught.value)
