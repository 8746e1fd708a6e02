"""Every page ran on the model and the library that this build names and prints."""

import hashlib
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from execution import provenance
from execution.facts import tree_hash
from hardway import hub, safetensors
from hardway.transfer import RemoteFile
from lint.provenance import differences
from paths import LIBRARY
from tools import preflight


def test_the_library_s_hash_changes_with_any_of_its_files(
    tmp_path: Path,
) -> None:
    hashes = set()
    for name, text in [
        ("a.py", ""),
        ("a.py", "x"),
        ("b.py", ""),
        ("c/d.py", "y"),
        ("e.json", "{}"),
    ]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
        hashes.add(tree_hash(tmp_path))
    assert len(hashes) == 5
    before = tree_hash(tmp_path, "*")
    (tmp_path / "a.css").touch()
    assert tree_hash(tmp_path) in hashes
    assert tree_hash(tmp_path, "*") != before


def test_the_facts_of_a_build(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARDWAY_MODEL", "pocket")
    known = provenance.known_facts()
    card = (LIBRARY / "models" / "pocket" / "MODEL_CARD.md").read_text("utf-8")
    assert known["model"] == "pocket"
    assert known["parameters"] == "7,688,320"
    assert known["weights"] in card
    footer = provenance.footer(known | {"model": "<script>"})
    assert known["weights"] in footer
    assert "&lt;script&gt;" in footer


def test_the_facts_change_with_every_file_of_the_model(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Another n_head is another model, though its weights have the same shapes."""
    model = tmp_path / "a model"
    shutil.copytree(LIBRARY / "models" / "pocket", model)
    monkeypatch.setenv("HARDWAY_MODEL", str(model))
    before = provenance.known_facts()
    assert before["model"] == "a model"
    for name in ("config.json", "vocab.json", "merges.txt", "model.safetensors"):
        content = (model / name).read_bytes()
        (model / name).write_bytes(content + b"\n")
        assert provenance.known_facts() != before
        (model / name).unlink()
        with pytest.raises(provenance.ConfigError, match=re.escape(name)):
            provenance.known_facts()
        (model / name).write_bytes(content)
    assert provenance.known_facts() == before


def test_parameters_are_counted_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A file may hold the tied output matrix, and causal masks, as well."""
    model = tmp_path / "tied"
    shutil.copytree(LIBRARY / "models" / "pocket", model)
    tensors = safetensors.load_file(model / "model.safetensors")
    (wte,) = [t for name, t in tensors.items() if name.endswith("wte.weight")]
    masks = {f"h.{i}.attn.masked_bias": torch.tensor(-1e4) for i in range(6)}
    more = tensors | masks | {"lm_head.weight": wte.clone()}
    save_file(more, model / "model.safetensors")
    monkeypatch.setenv("HARDWAY_MODEL", str(model))
    assert provenance.known_facts()["parameters"] == "7,688,320"


def test_a_missing_model_stops_the_build(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARDWAY_MODEL", "nowhere")
    with pytest.raises(provenance.ConfigError, match="nowhere"):
        provenance.known_facts()


def test_another_library_than_the_printed_one_stops_the_build(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(provenance, "LIBRARY", tmp_path)
    with pytest.raises(provenance.ConfigError, match="finds another library"):
        provenance.known_facts()


def page(ran_on: dict[str, str] | None) -> SimpleNamespace:
    """The metadata that Sphinx keeps of one page with cells, and one without."""
    language = {} if ran_on is None else {"language_info": {"ran_on": ran_on}}
    run = {"kernelspec": {"name": "python3"}} | language
    return SimpleNamespace(metadata={"run": run, "prose": {}})


def test_a_page_that_ran_on_something_else_is_named() -> None:
    known = {"library": "new", "torch": "2"}
    fresh = provenance.ran_on(page(known), "run")
    assert list(differences(fresh, known)) == []
    stale = provenance.ran_on(page({"library": "old", "torch": "2"}), "run")
    (problem,) = differences(stale, known)
    assert problem.startswith("the page ran on library old, this build has new;")
    unknown = provenance.ran_on(page(None), "run")
    assert len(list(differences(unknown, known))) == 2
    assert list(differences(provenance.ran_on(page(known), "prose"), known)) == []


def test_the_footer_says_what_the_page_itself_ran_on() -> None:
    known = provenance.known_facts()
    env = page(known | {"torch": "1.0"})
    env.found_docs = {"run", "prose"}
    app = SimpleNamespace(env=env, config=SimpleNamespace(provenance=known))
    for name, torch_version in (("run", "1.0"), ("search", known["torch"])):
        context: dict[str, str] = {}
        provenance.add_footer(app, name, "page.html", context, None)
        assert f"torch {torch_version}." in context["theme_extra_footer"]


def test_the_cache_is_another_when_what_a_page_reads_changes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HARDWAY_MODEL", "pocket")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # configure sets both
    monkeypatch.setattr(provenance, "BOOK", tmp_path)
    app = SimpleNamespace(outdir=tmp_path / "html")
    caches = []
    for text in ("1", "2", "1"):
        (tmp_path / "record.json").write_text(text)
        config = SimpleNamespace()
        provenance.configure(app, config)
        assert Path(config.nb_execution_cache_path).is_dir()
        caches.append((config.nb_execution_cache_path, config.page_making))
    assert caches[0] == caches[2]
    assert caches[0][0] != caches[1][0]
    assert caches[0][1] != caches[1][1]


def test_a_build_says_first_what_it_runs_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    body = b"some weights"
    weights = RemoteFile("some.gguf", len(body), hashlib.sha256(body).hexdigest())
    pinned = SimpleNamespace(files=(weights,))
    monkeypatch.setitem(hub.CHECKPOINTS, "smollm2", pinned)
    monkeypatch.setenv("HARDWAY_HOME", str(tmp_path))
    monkeypatch.setenv("HARDWAY_MODEL", "pocket")
    assert preflight.main() == 2
    told = capsys.readouterr().err
    assert told.startswith("HARDWAY_HOME: no model 'smollm2'")
    assert "run `hardway download smollm2`" in told
    (tmp_path / "smollm2").mkdir()
    path = tmp_path / "smollm2" / "some.gguf"
    path.write_bytes(body[::-1])
    assert preflight.main() == 2
    assert capsys.readouterr().err.startswith(f"HARDWAY_HOME: {path} has the SHA-256")
    path.write_bytes(body)
    assert preflight.main() == 0
    assert "runs on the model pocket (7,688,320 parameters)" in capsys.readouterr().out
    monkeypatch.setenv("HARDWAY_MODEL", "gpt-2")
    assert preflight.main() == 2
    assert capsys.readouterr().err.startswith("HARDWAY_MODEL: 'gpt-2' is neither")
