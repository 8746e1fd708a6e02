"""Training: the formulas against torch's, and a run that nothing changes."""

import gzip
import json
import math
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from hardway import GPT2, Config, Tokenizer, cli, generate
from hardway.checkpoint import expected_shapes
from hardway.corpus import Corpus, byte_tokenizer, read_corpus
from hardway.recipe import Recipe, read_recipe
from hardway.safetensors import load_file
from hardway.training import (
    Trainer,
    adamw,
    clip_gradients,
    cross_entropy,
    cross_entropy_gradient,
    draw_batch,
    draw_candidates,
    dropout,
    hide_unseen,
    initial_weights,
    last_vectors,
    muon,
    orthogonalize,
    schedule,
)
from references import random_model, random_tokens
from tensors import assert_close, randn

TINY = Config(n_vocab=31, n_ctx=8, n_embd=8, n_head=2, n_layer=2)
RECIPE = Recipe(
    n_steps=10, batch_size=3, learning_rate=1e-2, n_warmup=2, n_decay=4, dropout=0.1,
    seed=5,
)  # fmt: skip
MUON = replace(RECIPE, muon_rate=0.02, n_common=4, n_sampled=3, full_from=7)
POCKET_RECIPE = Path(cli.__file__).parent / "models" / "pocket" / "recipe.toml"


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def tiny_corpus(n_vocab: int = 29) -> Corpus:
    texts = {name: random_tokens(replace(TINY, n_vocab=n_vocab), 90, seed=seed)
             for seed, name in enumerate("ab")}  # fmt: skip
    return Corpus(texts, random_tokens(replace(TINY, n_vocab=n_vocab), 60, seed=9))


# --- loss and gradient ---


def test_cross_entropy_is_torchs() -> None:
    logits, targets = 5 * randn(7, 11), random_tokens(TINY, 7) % 11
    assert_close(cross_entropy(logits, targets), F.cross_entropy(logits, targets))
    assert cross_entropy(1000 * logits, targets).isfinite()


def test_the_gradient_by_hand_is_autograds() -> None:
    targets = random_tokens(TINY, 7) % 11
    logits = randn(7, 11, dtype=torch.float64).requires_grad_()
    (by_autograd,) = torch.autograd.grad(cross_entropy(logits, targets), logits)
    by_hand = cross_entropy_gradient(logits.detach(), targets)
    assert_close(by_hand, by_autograd)
    assert_close(by_hand.sum(dim=-1), torch.zeros(7, dtype=torch.float64))


# --- the model that is trained ---


def test_initial_weights() -> None:
    config = Config(n_vocab=997, n_ctx=64, n_embd=64, n_head=2, n_layer=8)
    weights = initial_weights(config)
    assert {name: tuple(w.shape) for name, w in weights.items()} == expected_shapes(
        config
    )
    for name, w in weights.items():
        if w.dim() == 1:
            expected = float("ln_" in name and name.endswith("weight"))
            assert (w == expected).all()
        else:
            expected = 0.02 / 4 if name.endswith("c_proj.weight") else 0.02
            assert w.std().item() == pytest.approx(expected, rel=0.05)
    assert torch.equal(initial_weights(config)["wte.weight"], weights["wte.weight"])
    other = initial_weights(config, seed=1)
    assert not torch.equal(other["wte.weight"], weights["wte.weight"])


def test_the_last_vectors_are_the_models() -> None:
    model = random_model(TINY)
    tokens = random_tokens(TINY, 2, 8)
    logits = last_vectors(model, tokens) @ model.wte.T
    assert_close(logits, model(tokens), factor=10)
    dropped = last_vectors(model, tokens, 0.5, seeded()) @ model.wte.T
    assert (dropped - logits).abs().max() > 0.1


def test_dropout() -> None:
    x = torch.ones(1000, 100)
    dropped = dropout(x, 0.2, seeded())
    assert {*dropped.unique().tolist()} == {0.0, 1.25}
    assert (dropped == 0).float().mean().item() == pytest.approx(0.2, abs=0.01)
    assert dropped.mean().item() == pytest.approx(1, abs=0.01)
    assert torch.equal(dropout(x, 0.2, seeded()), dropped)
    assert dropout(x, 0.0, None) is x


# --- batches and candidates ---


def test_batches_come_from_the_sources() -> None:
    sources = {"a": torch.arange(20), "b": torch.arange(100, 140)}
    rows = draw_batch(sources, 600, 5, seeded())
    assert rows.shape == (600, 5)
    assert (rows.diff(dim=1) == 1).all()
    assert {*rows[:, 0].tolist()} == {*range(16), *range(100, 136)}  # ends included
    share = (rows[:, 0] >= 100).float().mean().item()
    assert share == pytest.approx(2 / 3, abs=0.06)
    mixed = draw_batch(sources, 600, 5, seeded(), {"b": 1, "a": 3})
    assert (mixed[:, 0] >= 100).float().mean().item() == pytest.approx(1 / 4, abs=0.06)
    assert torch.equal(draw_batch(sources, 600, 5, seeded()), rows)


def test_candidates() -> None:
    by_frequency = torch.tensor([7, 3, 9, 1, 8, 2, 4])
    targets = torch.tensor([[9, 3], [8, 9]])
    ids, added = draw_candidates(targets, by_frequency, 2, 2, seeded())
    certain = {7, 3, 9, 8}
    assert ids.tolist() == sorted(ids.tolist())
    assert certain <= {*ids.tolist()} <= {*by_frequency.tolist()}
    assert len(ids) == 6
    for id, plus in zip(ids.tolist(), added.tolist(), strict=True):
        assert plus == (0 if id in certain else pytest.approx(math.log(3 / 2)))
    everything, nothing = draw_candidates(targets, by_frequency, 2, 99, seeded())
    assert everything.tolist() == sorted(by_frequency.tolist())
    assert (nothing == 0).all()
    only, _ = draw_candidates(targets, by_frequency, 2, 0, seeded())
    assert {*only.tolist()} == certain


def test_the_sampled_softmax_is_right_on_average() -> None:
    """The sum of exponentials, over many draws; and of a full sample, the loss."""
    logits, targets = randn(50), torch.tensor([[3, 4]])
    sums = []
    for seed in range(4000):
        ids, added = draw_candidates(targets, torch.arange(50), 5, 10, seeded(seed))
        sums.append((logits[ids] + added).exp().sum())
    error = torch.stack(sums).std() / math.sqrt(4000)
    assert abs(torch.stack(sums).mean() - logits.exp().sum()) < 4 * error


def test_the_loss_over_all_candidates_is_the_models() -> None:
    trainer = Trainer(TINY, RECIPE, tiny_corpus(31))
    rows = draw_batch(trainer.corpus.train, 4, 9, seeded())
    assert len(trainer.by_frequency) == 31
    logits = trainer.model(rows[:, :-1]).flatten(0, 1)
    expected = F.cross_entropy(logits, rows[:, 1:].flatten())
    assert_close(trainer.loss(rows, trainer.candidates(rows)), expected)


# --- schedule, clipping, optimizers ---


def test_schedule() -> None:
    recipe = Recipe(n_steps=100, n_warmup=10, n_decay=20, final_rate=0.1)
    rates = [schedule(step, recipe) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * n for n in range(1, 11)])
    assert rates[10:80] == [1.0] * 70
    assert rates[79] - rates[80] == pytest.approx(0.9 / 20)
    assert rates[-1] == pytest.approx(0.1)
    assert {schedule(step, Recipe(n_steps=9)) for step in range(9)} == {1.0}


def test_clipping_is_torchs() -> None:
    one, two = torch.tensor([3.0]), torch.tensor([[4.0]])
    assert clip_gradients([one, two], 1.0) == 5
    assert_close(torch.stack([one[0], two[0, 0]]), torch.tensor([0.6, 0.8]))
    gradients = [randn(3, 4), randn(5, seed=1)]
    parameters = [torch.nn.Parameter(g) for g in gradients]
    for parameter, g in zip(parameters, gradients, strict=True):
        parameter.grad = g.clone()
    norm = torch.nn.utils.clip_grad_norm_(parameters, 0.5)
    assert_close(clip_gradients(gradients, 0.5), norm)
    for parameter, g in zip(parameters, gradients, strict=True):
        assert parameter.grad is not None
        assert_close(g, parameter.grad)
    before = one.clone()
    clip_gradients([one], 100.0)
    assert torch.equal(one, before)


def test_adamw_by_hand() -> None:
    w, mean, square = torch.tensor([1.0, -2.0]), torch.zeros(2), torch.zeros(2)
    expected = [[0.89, -1.88], [0.7998472, -1.8179587], [0.7567977, -1.7659214]]
    for step, g in enumerate([[0.5, -1.0], [0.1, 0.3], [-0.2, 0.0]], start=1):
        adamw(w, torch.tensor(g), mean, square, step, 0.1, decay=0.1)
        assert_close(w, torch.tensor(expected[step - 1]))


def test_adamw_is_torchs() -> None:
    parameter = torch.nn.Parameter(randn(4, 5, dtype=torch.float64))
    w = parameter.detach().clone()
    mean, square = torch.zeros_like(w), torch.zeros_like(w)
    settings: dict[str, Any] = {"betas": (0.8, 0.98), "eps": 1e-6}
    theirs = torch.optim.AdamW([parameter], lr=0.03, weight_decay=0.2, **settings)
    for step in range(1, 9):
        g = randn(4, 5, dtype=torch.float64, seed=step)
        parameter.grad = g
        theirs.step()
        adamw(w, g, mean, square, step, 0.03, (0.8, 0.98), 0.2, 1e-6)
        assert_close(w, parameter.detach())


def test_orthogonalize() -> None:
    g = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    expected = torch.tensor([[-0.680661, 0.825539], [0.741295, 0.259440]])
    assert_close(orthogonalize(g), expected)
    for shape in ((6, 20), (20, 6), (8, 8)):
        x = orthogonalize(randn(*shape, seed=3))
        assert x.shape == shape
        singular = torch.linalg.svdvals(x)
        assert singular.min() > 0.3
        assert singular.max() < 1.3
    same = orthogonalize(1000 * randn(6, 20))
    assert_close(same, orthogonalize(randn(6, 20)), factor=10)


@pytest.mark.parametrize("shape", [(6, 20), (20, 6)])
def test_muon_is_torchs(shape: tuple[int, int]) -> None:
    """Torch's matrices are [n_out, n_in], and it multiplies them in bfloat16."""
    parameter = torch.nn.Parameter(randn(*shape).T.contiguous())
    w, mean = randn(*shape), torch.zeros(shape)
    theirs = torch.optim.Muon([parameter], lr=0.1, weight_decay=0.2, momentum=0.9)
    for step in range(4):
        g = randn(*shape, seed=10 + step)
        parameter.grad = g.T.contiguous()
        theirs.step()
        muon(w, g, mean, 0.1, 0.9, 0.2)
        torch.testing.assert_close(w.T, parameter.detach(), atol=0.01, rtol=0.01)


# --- the run ---


def test_muon_moves_the_matrices_in_the_blocks() -> None:
    trainer = Trainer(TINY, MUON, tiny_corpus())
    moved = {name for name in trainer.model.weights if trainer.uses_muon(name)}
    parts = ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"]
    assert moved == {f"h.{i}.{part}.weight" for i in range(2) for part in parts}
    assert trainer.squares.keys() == trainer.model.weights.keys() - moved
    before = trainer.model.weights["h.0.attn.c_attn.weight"].detach().clone()
    trainer.step()
    change = trainer.model.weights["h.0.attn.c_attn.weight"].detach() - before
    for third in change.chunk(3, dim=1):  # Q, K and V each for itself
        singular = torch.linalg.svdvals(third / (0.02 * 0.5))
        assert singular.max() < 1.3
        assert singular.median() > 0.3
    assert not Trainer(TINY, RECIPE, tiny_corpus()).uses_muon("h.0.mlp.c_fc.weight")


def test_a_step_is_torchs() -> None:
    """Loss, gradients, clipping and update, by torch.nn.functional and torch.optim."""
    recipe = replace(RECIPE, dropout=0.0)
    trainer = Trainer(TINY, recipe, tiny_corpus(31))
    start = {name: w.detach().clone() for name, w in trainer.model.weights.items()}
    twin = {name: torch.nn.Parameter(w) for name, w in start.items()}
    groups: list[dict[str, Any]] = [
        {"params": [w for w in twin.values() if (w.dim() == 2) == decays],
         "weight_decay": 0.1 if decays else 0.0}
        for decays in (True, False)
    ]  # fmt: skip
    optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.95))
    for step in range(3):
        rows = draw_batch(trainer.corpus.train, 3, 9, seeded(recipe.seed_of(step)))
        logits = GPT2(TINY, {**twin})(rows[:, :-1]).flatten(0, 1)
        loss = F.cross_entropy(logits, rows[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(twin.values(), recipe.max_norm)
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * schedule(step, recipe)
        optimizer.step()
        assert trainer.step() == pytest.approx(loss.item(), rel=1e-5)
    for name, w in twin.items():
        if not name.endswith("c_attn.bias"):  # a key's bias changes nothing: g is noise
            assert_close(trainer.model.weights[name].detach(), w.detach(), factor=30)


@pytest.mark.parametrize("recipe", [RECIPE, MUON], ids=["adamw", "muon"])
def test_a_resumed_run_is_the_same(recipe: Recipe, tmp_path: Path) -> None:
    whole = Trainer(TINY, recipe, tiny_corpus())
    progress = [*whole.run(tmp_path / "whole", save_every=3, validate_every=2)]
    first = Trainer(TINY, recipe, tiny_corpus())
    for _, _now in zip(range(5), first.run(tmp_path / "part"), strict=False):
        pass
    first.save(tmp_path / "part")
    second = Trainer(TINY, recipe, tiny_corpus())
    second.resume(tmp_path / "part")
    assert second.losses == whole.losses[: len(second.losses)]
    rest = [*second.run(tmp_path / "part", save_every=1, validate_every=1)]
    assert second.losses == whole.losses
    assert [now.step for now in rest] == [6, 7, 8, 9, 10]
    assert [now.loss for now in progress] == whole.losses
    given = {now.step: now.validation for now in progress if now.validation is not None}
    assert [*given] == [2, 4, 6, 8, 10]
    assert given[10] == rest[-1].validation == whole.validate()
    for name, tensor in whole.tensors().items():
        assert torch.equal(second.tensors()[name], tensor)
    assert (tmp_path / "whole").read_bytes() == (tmp_path / "part").read_bytes()


def test_a_run_learns() -> None:
    corpus = Corpus({"text": torch.arange(29).repeat(9)}, torch.arange(29).repeat(3))
    trainer = Trainer(TINY, replace(MUON, n_steps=200, dropout=0.0), corpus)
    before = trainer.validate()
    for _ in range(200):
        trainer.step()
    assert before == pytest.approx(math.log(29), abs=0.1)
    assert trainer.validate() < 1
    model = trainer.trained()
    assert generate(model, [3, 4, 5], 4) == [6, 7, 8, 9]
    assert not any(w.requires_grad for w in model.weights.values())
    with torch.no_grad():  # tokens 29 and 30 never occurred
        unseen = model(torch.arange(8)).softmax(dim=-1)[:, 29:]
    assert unseen.sum(dim=-1).max() < 0.02


def test_validation_knows_no_dropout_and_no_sample() -> None:
    trainer = Trainer(TINY, replace(MUON, dropout=0.9, n_validation=2), tiny_corpus(31))
    windows = trainer.corpus.held_out[:17].unfold(0, 9, 8)
    with torch.no_grad():
        logits = trainer.model(windows[:, :-1]).flatten(0, 1)
    expected = F.cross_entropy(logits, windows[:, 1:].flatten())
    assert trainer.validate() == pytest.approx(expected.item(), rel=1e-5)


def test_bfloat16_comes_close() -> None:
    losses = []
    for bfloat16 in (False, True):
        recipe = replace(RECIPE, bfloat16=bfloat16)
        losses.append(Trainer(TINY, recipe, tiny_corpus()).step())
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.01)


def test_seeds() -> None:
    losses = []
    for seed in (5, 5, 6):
        trainer = Trainer(TINY, replace(RECIPE, seed=seed), tiny_corpus())
        losses.append([trainer.step(), trainer.step()])
    assert losses[0] == losses[1] != losses[2]
    assert len({RECIPE.seed_of(step) for step in range(1000)}) == 1000


def test_unseen_tokens_are_hidden() -> None:
    wte, vectors = randn(40, 8), randn(30, 8, seed=1) + 1
    is_unseen = torch.arange(40) >= 15
    seen = wte[:15].clone()
    hide_unseen(wte, is_unseen, vectors)
    assert torch.equal(wte[:15], seen)
    probability = (vectors @ wte.T).softmax(dim=-1)[:, 15:].sum(dim=-1)
    assert probability.mean() < 0.01


# --- what is refused ---


def test_a_run_of_another_kind_is_not_resumed(tmp_path: Path) -> None:
    path = tmp_path / "state"
    Trainer(TINY, RECIPE, tiny_corpus()).save(path)
    for name, trainer in {
        "recipe": Trainer(TINY, replace(RECIPE, seed=6), tiny_corpus()),
        "corpus": Trainer(TINY, RECIPE, tiny_corpus(28)),
        "config": Trainer(replace(TINY, n_head=4), RECIPE, tiny_corpus()),
    }.items():
        with pytest.raises(ValueError, match=rf"state.* another {name}"):
            trainer.resume(path)


def test_a_loss_that_is_no_number() -> None:
    trainer = Trainer(TINY, RECIPE, tiny_corpus())
    with torch.no_grad():
        trainer.model.wte.fill_(torch.nan)
    with pytest.raises(ValueError, match=r"step 1 is nan.*learning_rate"):
        trainer.step()


def test_a_corpus_that_does_not_fit() -> None:
    with pytest.raises(ValueError, match=r"n_ctx = 8 .* got 8 of 'b'"):
        Trainer(TINY, RECIPE, Corpus({"b": torch.arange(8)}, torch.arange(20)))
    with pytest.raises(ValueError, match="got 3 of 'held out'"):
        Trainer(TINY, RECIPE, Corpus({"b": torch.arange(20)}, torch.arange(3)))
    recipe = replace(RECIPE, mixes=((0, {"c": 1.0}),))
    with pytest.raises(ValueError, match=r"mixes .*'a', 'b'.* got 'c'"):
        Trainer(TINY, recipe, tiny_corpus())


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"n_steps": 0}, "n_steps"),
        ({"batch_size": 1.5}, "batch_size"),
        ({"seed": -1}, "seed"),
        ({"full_from": "no"}, "full_from"),
        ({"learning_rate": 0}, "learning_rate"),
        ({"muon_rate": -1}, "muon_rate"),
        ({"max_norm": math.inf}, "max_norm"),
        ({"weight_decay": 2}, "weight_decay"),
        ({"final_rate": 1.1}, "final_rate"),
        ({"betas": (0.9, 1.0)}, "betas"),
        ({"dropout": 1}, "dropout"),
        ({"n_warmup": 7, "n_decay": 4}, "n_warmup and n_decay"),
    ],
)
def test_recipes_are_checked(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=rf"^{named} must"):
        replace(RECIPE, **changes)


# --- files ---


def write_recipe(path: Path, text: str = "", n_steps: int = 40) -> Path:
    path.write_text(
        "[model]\nn_ctx = 8\nn_embd = 8\nn_head = 2\nn_layer = 1\n"
        f"[training]\nn_steps = {n_steps}\nbatch_size = 2\n{text}",
        encoding="utf-8",
    )
    return path


def test_the_recipe_of_pocket(pocket: GPT2) -> None:
    vocabulary, sizes, recipe = read_recipe(POCKET_RECIPE)
    assert vocabulary == "pocket"
    assert Config(n_vocab=pocket.config.n_vocab, **sizes) == pocket.config
    assert recipe.mix(5999) == {"Project Gutenberg": 0.6, "Standard Ebooks": 0.4}
    assert len(recipe.mix(6000)) == 3
    assert schedule(5999, recipe) == pytest.approx(0.6, abs=0.001)
    assert schedule(8949, recipe) == pytest.approx(0.02)
    assert recipe.samples_softmax(7159)
    assert not recipe.samples_softmax(7160)
    assert recipe.betas == (0.9, 0.98)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("nonsense", "not TOML"),
        ("speed = 3", "no 'speed'"),
        ("betas = 3", "betas"),
        ("mixes = 3", "mixes"),
        ("mixes = [{from = 0}]", "each of mixes"),
        ("mixes = [{from = 0, shares = {a = -1}}]", "share of 'a'"),
        ("mixes = [{from = 0, shares = {a = 0}}]", "sum of shares"),
        ("mixes = [{from = -1, shares = {a = 1}}]", "from must"),
        ("[other]", "'other'"),
    ],
)
def test_bad_recipes(text: str, problem: str, tmp_path: Path) -> None:
    path = write_recipe(tmp_path / "recipe.toml", text)
    with pytest.raises(ValueError, match=rf"recipe\.toml: .*{problem}"):
        read_recipe(path)


def test_a_recipe_without_sizes_or_steps(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    for text, problem in {
        "": "tables",
        "model = 3\n[training]": "tables",
        "[model]\nn_ctx = 3\n[training]": r"\[model\] must set",
        "[model]\nn_ctx=1\nn_embd=1\nn_head=1\nn_layer=1\n[training]": "n_steps",
        "vocabulary=3\n[model]\nn_ctx=1\nn_embd=1\nn_head=1\nn_layer=1\n[training]":
        "vocabulary",
    }.items():  # fmt: skip
        path.write_text(text, encoding="utf-8")
        with pytest.raises(ValueError, match=problem):
            read_recipe(path)


def test_reading_a_corpus(tmp_path: Path) -> None:
    tokenizer = byte_tokenizer()
    assert (tokenizer.n_vocab, tokenizer.eot_id) == (257, 256)
    text = tmp_path / "corpus.txt"
    text.write_text("0123456789" * 10, encoding="utf-8")
    corpus = read_corpus(text, tokenizer)
    assert tokenizer.decode(corpus.train["text"].tolist()) == "0123456789" * 9 + "0"
    assert tokenizer.decode(corpus.held_out.tolist()) == "123456789<|endoftext|>"
    lines = [
        {"text": "ab", "source": "one"},
        {"text": "xy", "heldout": True},
        {"text": "c", "source": "two", "heldout": False},
    ]
    path = tmp_path / "corpus.jsonl.gz"
    raw = "".join(json.dumps(line) + "\n" for line in lines)
    path.write_bytes(gzip.compress(raw.encode()))
    corpus = read_corpus(path, tokenizer)
    found = {name: ids.tolist() for name, ids in corpus.train.items()}
    assert found == {"one": [97, 98, 256], "two": [99, 256]}
    assert corpus.held_out.tolist() == [120, 121, 256]
    assert corpus.by_frequency(257).tolist() == [256, 97, 98, 99, 120, 121]
    again = read_corpus(path, tokenizer)
    assert again.fingerprint() == corpus.fingerprint()


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", "not JSON"),
        ("[]", "a text"),
        ('{"text": 3}', "a text"),
        ('{"text": "a", "heldout": 1}', "heldout"),
        ('{"text": "a", "source": 1}', "source"),
        ('{"text": "\\ud800"}', "surrogate"),
        ("\udcff", "UTF-8"),
    ],
)
def test_bad_corpora(line: str, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "corpus.jsonl"
    raw = f'{{"text": "good"}}\n{line}\n'
    path.write_bytes(raw.encode("utf-8", "surrogateescape"))
    with pytest.raises(ValueError, match=rf"corpus\.jsonl: line 2: .*{problem}"):
        read_corpus(path, byte_tokenizer())


def test_an_empty_corpus(tmp_path: Path) -> None:
    path = tmp_path / "corpus.jsonl"
    path.write_text('{"text": "a", "heldout": true}', encoding="utf-8")
    with pytest.raises(ValueError, match="no text to train on"):
        read_corpus(path, byte_tokenizer())


# --- the command ---


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpus, recipe = tmp_path / "corpus.txt", write_recipe(tmp_path / "r.toml")
    corpus.write_text("once upon a time " * 20, encoding="utf-8")
    out = tmp_path / "out"
    command = ["train", str(corpus), "--config", str(recipe), "--out", str(out)]
    cli.main([*command, "--validate-every", "20"])
    found = capsys.readouterr()
    assert found.out == f"{out}\n"
    assert "step 20: loss" in found.err
    assert "step 40: loss" in found.err
    model, tokenizer = GPT2.from_pretrained(out), Tokenizer.from_pretrained(out)
    assert len(tokenizer.decode(generate(model, tokenizer.encode("on"), 5))) >= 1
    cli.main(command)
    assert "resuming after step 40" in capsys.readouterr().err
    write_recipe(recipe, n_steps=41)
    with pytest.raises(SystemExit):
        cli.main(command)
    assert "another recipe" in capsys.readouterr().err


@pytest.mark.slow
def test_a_killed_run_goes_on_as_if_it_never_stopped(tmp_path: Path) -> None:
    corpus, recipe = tmp_path / "corpus.txt", tmp_path / "r.toml"
    corpus.write_text("once upon a time " * 20, encoding="utf-8")
    write_recipe(recipe, "dropout = 0.1\nmuon_rate = 0.02\n", n_steps=400)

    def command(out: Path) -> list[str]:
        options = ["--config", str(recipe), "--out", str(out), "--save-every", "7"]
        return [sys.executable, "-m", "hardway", "train", str(corpus), *options]

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run(command(whole), check=True, capture_output=True, timeout=120)
    process = subprocess.Popen(command(killed), stderr=subprocess.DEVNULL)
    state = killed / "training.safetensors"
    for _ in range(6000):
        if state.is_file() and len(load_file(state)["losses"]) > 20:
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert 20 < len(load_file(state)["losses"]) < 400
    done = subprocess.run(command(killed), capture_output=True, text=True, timeout=120)
    assert "resuming after step" in done.stderr
    for name, tensor in load_file(whole / "training.safetensors").items():
        assert torch.equal(load_file(state)[name], tensor), name
    for path in whole.iterdir():
        assert (killed / path.name).read_bytes() == path.read_bytes()
