"""The living figures' files: their sizes and names, and what stands where none runs."""

import gzip
import json
import re
from types import SimpleNamespace

import pytest
import torch
from bs4 import BeautifulSoup

from hardway import GPT2, Tokenizer, safetensors
from paths import FIGURES
from theme import browser, figures, still
from theme.recorded import tokenizer as recorded_tokenizer

pytestmark = pytest.mark.slow  # the model is quantized first

MOST = 40_000  # bytes of program and style, compressed
MOST_RECORDED = 30_000  # bytes of what a figure shows at first


def compressed(suffix: str) -> int:
    return len(gzip.compress(browser.files()[browser.named("figures", suffix)]))


def test_the_program_is_small() -> None:
    assert compressed(".js") + compressed(".css") <= MOST


@pytest.mark.parametrize("figure", browser.defaults())
def test_what_a_figure_shows_at_first_is_small(figure: str) -> None:
    name = browser.named(f"recorded-{figure}", ".js")
    assert 100 < len(browser.files()[name]) <= MOST_RECORDED


def test_every_script_is_part_of_the_program() -> None:
    found = {
        path.relative_to(FIGURES).with_suffix("").as_posix()
        for path in FIGURES.rglob("*.js")
    }
    assert {*browser.PROGRAM} == found


def test_a_name_tells_the_contents() -> None:
    assert browser.hashed("a", b"1") == browser.hashed("a", b"1")
    assert browser.hashed("a", b"1") != browser.hashed("a", b"2")
    for name in browser.files():
        assert re.fullmatch(r"[\w-]+-[0-9a-f]{12}\.(bin|js|css)", name)


def test_the_weights_are_a_safetensors_file(tmp_path, pocket: GPT2) -> None:
    path = tmp_path / "weights"
    path.write_bytes(browser.files()[browser.named("weights", ".bin")])
    tensors = safetensors.load_file(path)
    for name, weight in pocket.weights.items():
        if weight.dim() == 1:
            assert torch.equal(tensors[name], weight)
            continue
        rows = weight if name in ("wte.weight", "wpe.weight") else weight.T
        scales = tensors[f"{name}.scales"]
        found = tensors[name].float() * scales[:, None]
        assert tensors[name].dtype == torch.int8
        assert ((found - rows).abs() <= scales[:, None] * 0.5001).all()


def test_the_vocabulary_is_ids_alone(tokenizer: Tokenizer) -> None:
    made = browser.vocabulary()
    pieces = [bytes([byte]) for byte in made["bytes"].tolist()]
    for left, right in made["merges"].tolist():
        pieces.append(pieces[left] + pieces[right])
    assert pieces == [tokenizer.pieces[id] for id in range(tokenizer.eot_id)]


def test_another_numbering_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    known = recorded_tokenizer()
    ids = known.ids | {b"a": known.ids[b"b"], b"b": known.ids[b"a"]}
    ids |= {b" the": 0}
    changed = SimpleNamespace(
        ids=ids, ranks=known.ranks, pieces=known.pieces, eot_id=known.eot_id
    )
    loaded = SimpleNamespace(from_pretrained=lambda name: changed)
    monkeypatch.setattr(browser, "Tokenizer", loaded)
    with pytest.raises(ValueError, match="vocab: ids must be"):
        browser.vocabulary.__wrapped__()


@pytest.mark.parametrize("figure", browser.defaults())
def test_without_a_script_there_is_a_table(figure: str) -> None:
    table = BeautifulSoup(still.table(figure), "html.parser")
    rows = [len(row.select("td, th")) for row in table.select("thead tr, tbody tr")]
    assert len(rows) > 4
    assert table.caption.get_text()
    shades = [float(shade) for shade in re.findall(r"--shade: ([\d.]+)%", str(table))]
    assert all(0 <= shade <= 100 for shade in shades)


def test_a_still_attention_sums_to_one() -> None:
    table = BeautifulSoup(still.table("attention"), "html.parser")
    for row in table.select("tbody tr"):
        numbers = [cell.get_text() for cell in row.select("td")]
        total = sum(float(number) for number in numbers if number != "–")
        assert total == pytest.approx(1, abs=0.06)


def test_a_page_loads_only_what_its_figures_need() -> None:
    scripts: list[str] = []
    styles: list[str] = []
    app = SimpleNamespace(
        add_js_file=lambda name, defer: scripts.append(name), add_css_file=styles.append
    )
    figures.load(app, "book/x", "", {"body": "<p>no figure</p>"}, None)
    assert scripts == styles == []
    figures.load(app, "book/x", "", {"body": '<div data-figure="tokenizer">'}, None)
    kinds = [name.rpartition("-")[0] for name in scripts + styles]
    assert kinds == ["figures/figures", "figures/recorded-tokenizer", "figures/figures"]


def test_recorded_answers_are_json_that_a_script_hands_over() -> None:
    content = browser.files()[browser.named("recorded-kv-cache", ".js")].decode()
    text = content.removeprefix('hardway.receive("recorded",').removesuffix(");\n")
    ((method, question, answer),) = json.loads(text)
    assert method == "encode"
    assert question == browser.defaults()["kv-cache"]
    assert len(answer["ids"]) == len(answer["pieces"])


def test_files_are_written_for_pages_alone(tmp_path) -> None:
    (tmp_path / "_static").mkdir()
    app = SimpleNamespace(outdir=tmp_path, builder=SimpleNamespace(name="html"))
    figures.write(app, RuntimeError())
    assert [*(tmp_path / "_static").iterdir()] == []
    figures.write(app, None)
    written = {path.name for path in (tmp_path / "_static" / "figures").iterdir()}
    assert written == {*browser.files()}
