"""Where models live, and how those of the hub get there."""

import hashlib
import re
from pathlib import Path
from typing import Any

import platformdirs
import pytest

from hardway import GPT2, Tokenizer, hub
from hub_server import FILES, HubServer
from refusals import refuses

PINS = """
gpt2 607a30d783dfa663caf39e06633721c8d4cfcd7e
665 0daed7749b4f02b8f76240d5444551d7b08712dab4d0adb8239c56ba823bb7b4
548105171 248dfc3911869ec493c76e65bf2fcf7f615828b0254c12b473182f0f81d3a707
distilgpt2 2290a62682d06624634c1f46a6ad5be0f47f38aa
762 4ec5947c1d59fee6212cdf3b0ec1a53eac02092554c5ff0a733488cbd2c64f3a
352824413 e1ff18884359fe8beb795a5f414feb85a6ce3d929ad019c0d958c039d2b94a1b
gpt2-medium 6dcaa7a952f72f9298047fd5137cd6e4f05f41da
718 ef1a44d889ad1a0acc7731c78134f1b87d2d222f110e97dd10fd4117331caf22
1519984962 fc5a354a19255ad494f3d71549390baca1ccf61d1d822b9408971705c687c9cd
"""
VOCAB = "1042301 196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783"
MERGES = "456318 1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5"
REPOSITORIES = {
    "gpt2": "openai-community/gpt2",
    "distilgpt2": "distilbert/distilgpt2",
    "gpt2-medium": "openai-community/gpt2-medium",
}


def pin(size_and_hash: str) -> tuple[int, str]:
    size, sha256 = size_and_hash.split()
    return int(size), sha256


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_pins() -> None:
    lines = PINS.split("\n")[1:-1]
    expected = {}
    for heading, config, weights in zip(*[iter(lines)] * 3, strict=True):
        name, revision = heading.split()
        files = {"config.json": pin(config), "model.safetensors": pin(weights)}
        files |= {"vocab.json": pin(VOCAB), "merges.txt": pin(MERGES)}
        expected[name] = (REPOSITORIES[name], revision, files)
    assert expected == {
        name: (
            checkpoint.repository,
            checkpoint.revision,
            {file.name: (file.size, file.sha256) for file in checkpoint.files},
        )
        for name, checkpoint in hub.CHECKPOINTS.items()
        if isinstance(checkpoint, hub.Checkpoint)  # test_wheel.py has the other one
    }


def test_the_bundled_vocabulary_is_gpt2_s() -> None:
    for file in hub.VOCABULARY:
        bundled = (hub.POCKET / file.name).read_bytes()
        assert len(bundled) == file.size
        assert hashlib.sha256(bundled).hexdigest() == file.sha256


def test_the_bundled_weights_are_the_card_s() -> None:
    weights = (hub.POCKET / "model.safetensors").read_bytes()
    card = (hub.POCKET / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert hashlib.sha256(weights).hexdigest() in card
    assert f"{len(weights):,} bytes" in card


def test_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HARDWAY_HOME", str(tmp_path))
    assert hub.home() == tmp_path
    cache = Path(platformdirs.user_cache_dir("hardway"))
    monkeypatch.setenv("HARDWAY_HOME", "")
    assert hub.home() == cache
    monkeypatch.delenv("HARDWAY_HOME")
    assert hub.home() == cache


def test_find(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HARDWAY_HOME", str(tmp_path))
    assert hub.find("pocket") == hub.POCKET
    assert hub.find(tmp_path) == tmp_path
    assert hub.find(str(tmp_path)) == tmp_path
    (tmp_path / "gpt2").mkdir()
    with pytest.raises(FileNotFoundError, match="run `hardway download gpt2`") as e:
        hub.find("gpt2")
    assert str(tmp_path / "gpt2") in str(e.value)
    (tmp_path / "gpt2" / "model.safetensors").touch()
    assert hub.find("gpt2") == tmp_path / "gpt2"


@pytest.mark.parametrize("name", ["gpt2-large", "no/such/directory"])
def test_find_nothing(name: str) -> None:
    with refuses(repr(name), FileNotFoundError) as caught:
        hub.find(name)
    for known in ("pocket", *hub.CHECKPOINTS):
        assert known in str(caught.value)


def test_a_file_of_weights_is_a_model(tmp_path: Path) -> None:
    for name in ("model.safetensors", "My.Safetensors", "model.safetensors.index.json"):
        file = tmp_path / name
        with refuses(repr(str(file)), FileNotFoundError):
            hub.find(file)
        file.touch()
        assert hub.find(file) == hub.weights(file) == file
    for name in ("pytorch_model.bin", "config.json"):
        file = tmp_path / name
        file.touch()
        with refuses(repr(str(file)), FileNotFoundError):
            hub.find(file)


def test_a_gguf_file_is_a_model(tmp_path: Path) -> None:
    for name in ("some.gguf", "other.GGUF"):
        file = tmp_path / name
        with refuses(repr(str(file)), FileNotFoundError):
            hub.find(file)
        file.touch()
        assert hub.find(file) == hub.find(str(file)) == hub.weights(file) == file


def test_smollm2_is_the_directory_of_its_gguf(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HARDWAY_HOME", str(tmp_path))
    for ask in (hub.find, hub.weights):
        with pytest.raises(FileNotFoundError, match="run `hardway download smollm2`"):
            ask("smollm2")
    file = tmp_path / "smollm2" / "SmolLM2-135M-Instruct.Q4_1.gguf"
    file.parent.mkdir()
    file.touch()
    assert hub.find("smollm2") == file.parent
    assert hub.weights("smollm2") == hub.weights(file.parent) == file


def test_weights_of_a_directory(tmp_path: Path) -> None:
    assert hub.weights("pocket") == hub.POCKET / "model.safetensors"
    (tmp_path / "folder.gguf").mkdir()
    with refuses(str(tmp_path), FileNotFoundError) as caught:
        hub.weights(tmp_path)
    assert "model.safetensors" in str(caught.value)
    assert ".gguf" in str(caught.value)
    (tmp_path / "b.gguf").touch()
    assert hub.weights(tmp_path) == tmp_path / "b.gguf"
    (tmp_path / "a.gguf").touch()
    with refuses(str(tmp_path)) as refused:
        hub.weights(tmp_path)
    assert "a.gguf, b.gguf" in str(refused.value)
    (tmp_path / "model.safetensors").touch()
    assert hub.weights(tmp_path) == tmp_path / "model.safetensors"


@pytest.mark.parametrize("chosen", [None, "", "auto"])
def test_auto_is_gpt2_where_it_is_there_else_pocket(
    chosen: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HARDWAY_HOME", str(tmp_path))
    monkeypatch.delenv("HARDWAY_MODEL", raising=False)
    if chosen is not None:
        monkeypatch.setenv("HARDWAY_MODEL", chosen)
    assert hub.find("auto") == hub.POCKET
    (tmp_path / "gpt2").mkdir()
    assert hub.find("auto") == hub.POCKET
    (tmp_path / "gpt2" / "model.safetensors").touch()
    assert hub.find("auto") == tmp_path / "gpt2"


def test_auto_is_what_the_environment_names(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HARDWAY_HOME", str(tmp_path))
    (tmp_path / "gpt2").mkdir()
    (tmp_path / "gpt2" / "model.safetensors").touch()
    monkeypatch.setenv("HARDWAY_MODEL", "pocket")
    assert hub.find("auto") == hub.POCKET
    monkeypatch.setenv("HARDWAY_MODEL", str(tmp_path))
    assert hub.find("auto") == tmp_path
    for missing in ("distilgpt2", str(tmp_path / "no")):
        monkeypatch.setenv("HARDWAY_MODEL", missing)
        with pytest.raises(FileNotFoundError, match=re.escape(missing)):
            hub.find("auto")
    assert hub.find("pocket") == hub.POCKET  # only `auto` asks the environment


def test_auto_names_a_model_and_a_tokenizer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARDWAY_MODEL", "pocket")
    assert GPT2.from_pretrained("auto").config.n_ctx == 512
    assert Tokenizer.from_pretrained("auto").encode("Hello") == [15496]


def test_download(
    remote: HubServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = hub.download("gpt2")
    assert directory == tmp_path / "home" / "gpt2" == hub.find("gpt2")
    assert contents(directory) == FILES
    assert remote.asked == list(FILES)
    assert {path.stat().st_mode & 0o777 for path in directory.iterdir()} == {0o644}
    assert capsys.readouterr() == ("", "")


def test_only_what_is_missing_is_fetched(remote: HubServer) -> None:
    directory = hub.download("gpt2")
    remote.asked.clear()
    assert hub.download("gpt2") == directory
    assert remote.asked == []
    (directory / "vocab.json").unlink()
    (directory / "model.safetensors").write_bytes(b"half of it")
    hub.download("gpt2")
    assert remote.asked == ["vocab.json", "model.safetensors"]
    assert contents(directory) == FILES


@pytest.mark.parametrize("kind", [str, Path])
def test_another_directory(kind: Any, remote: HubServer, tmp_path: Path) -> None:
    chosen = tmp_path / "a" / "b"
    assert hub.download("gpt2", kind(chosen)) == chosen
    assert contents(chosen) == FILES
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    ("endpoint", "base"),
    [
        (None, "https://huggingface.co"),
        ("", "https://huggingface.co"),
        ("https://mirror.example/hub/", "https://mirror.example/hub"),
        ("HTTPS://mirror.example", "HTTPS://mirror.example"),
    ],
)
def test_endpoint(
    endpoint: str | None, base: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    if endpoint is not None:
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
    urls: list[str] = []
    monkeypatch.setattr(hub, "fetch", lambda url, *_: urls.append(url))
    hub.download("distilgpt2", tmp_path)
    revision = "distilbert/distilgpt2/resolve/2290a62682d06624634c1f46a6ad5be0f47f38aa"
    assert urls == [f"{base}/{revision}/{name}" for name in FILES]


@pytest.mark.parametrize("name", ["pocket", "gpt2-large", "../gpt2", ""])
def test_unknown_name(name: str, remote: HubServer, tmp_path: Path) -> None:
    with refuses("name") as caught:
        hub.download(name)
    assert all(known in str(caught.value) for known in hub.CHECKPOINTS)
    assert remote.asked == []
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("endpoint", ["hub.example", "ftp://hub.example", "file:///"])
def test_a_mirror_has_an_address_of_the_web(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, endpoint: str
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    with refuses("HF_ENDPOINT"):
        hub.download("gpt2", tmp_path)
