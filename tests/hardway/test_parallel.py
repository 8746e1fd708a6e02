"""Tensor parallelism in threads: the whole model's logits from its parts."""

import signal
import socket
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.distributed import HashStore

from hardway import GPT2, Config, Llama, generate, generate_batch, parallel, ranks
from hardway.config import LlamaConfig
from hardway.parallel import (
    ParallelGPT2,
    ParallelLlama,
    columns,
    fused_columns,
    once,
    rows,
    shard,
    vocabulary,
)
from llamas import SMALL as SMALL_LLAMA
from llamas import random_llama, save_llama
from references import random_model, random_tokens
from tensors import assert_close, randn
from threads import Threads

FOUR_HEADS = Config(n_vocab=97, n_ctx=32, n_embd=24, n_head=4, n_layer=2)
THREE_GROUPS = replace(SMALL_LLAMA, n_head=9, n_kv_head=3, n_inner=42)


@pytest.fixture
def threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Threads:
    found = Threads(request.param)
    monkeypatch.setattr(parallel, "dist", found)
    return found


def whole(n_ranks: int, tied: bool = True) -> GPT2 | Llama:
    return random_llama(replace(THREE_GROUPS, tied=tied)) if n_ranks == 3 else (
        random_model(FOUR_HEADS)
    )  # fmt: skip


def part_of(model: GPT2 | Llama) -> ParallelGPT2 | ParallelLlama:
    if isinstance(model, Llama):
        return ParallelLlama(model.config, model.weights)
    return ParallelGPT2(model.config, model.weights)


# --- cuts ---


@pytest.mark.parametrize("n_ranks", [1, 2, 3])
def test_columns_join_and_rows_add_up(n_ranks: int) -> None:
    x, weight = randn(5, 12), randn(12, 6, seed=1)
    parts = [x @ columns(weight, rank, n_ranks) for rank in range(n_ranks)]
    assert_close(torch.cat(parts, dim=-1), x @ weight)
    inputs = [columns(x, rank, n_ranks) for rank in range(n_ranks)]
    sums = [inputs[rank] @ rows(weight, rank, n_ranks) for rank in range(n_ranks)]
    assert_close(torch.stack(sums).sum(dim=0), x @ weight, 10)


def test_queries_keys_and_values_are_cut_each() -> None:
    weight = torch.arange(12)[None]  # q 0 to 3, k 4 to 7, v 8 to 11
    assert fused_columns(weight, 0, 2).tolist() == [[0, 1, 4, 5, 8, 9]]
    assert fused_columns(weight, 1, 2).tolist() == [[2, 3, 6, 7, 10, 11]]


def test_a_bias_counts_once() -> None:
    bias = randn(4)
    assert torch.equal(sum(once(bias, rank, 3) for rank in range(3)), bias)


@pytest.mark.parametrize(("n_vocab", "n_ranks"), [(7, 2), (7, 3), (6, 3), (5, 4)])
def test_the_vocabulary_is_padded(n_vocab: int, n_ranks: int) -> None:
    table = randn(n_vocab, 3)
    parts = [vocabulary(table, rank, n_ranks) for rank in range(n_ranks)]
    assert len({part.shape for part in parts}) == 1
    joined = torch.cat(parts)
    assert torch.equal(joined[:n_vocab], table)
    assert not joined[n_vocab:].any()


@pytest.mark.parametrize("n_ranks", [2, 3])
def test_parts_are_small_copies(n_ranks: int) -> None:
    model = whole(n_ranks, tied=False)
    parts = [shard(model.weights, rank, n_ranks) for rank in range(n_ranks)]
    for name, weight in model.weights.items():
        sizes = {part[name].numel() for part in parts}
        assert len(sizes) == 1
        if "norm" in name or "ln_" in name or name == "wpe.weight":
            assert sizes == {weight.numel()}
        elif not name.endswith("c_proj.bias"):
            assert sizes.pop() < weight.numel() * 0.52
        for part in parts:
            held = part[name].untyped_storage().nbytes()
            assert part[name] is weight or held == part[name].nbytes


# --- models ---


@pytest.mark.parametrize("threads", [1, 2, 3, 4], indirect=True)
def test_logits_and_text(threads: Threads) -> None:
    model = whole(threads.n_ranks)
    tokens = random_tokens(model.config, 2, 9)
    expected = model(tokens)
    text = generate(model, [3, 1, 4], 12)
    ragged = generate_batch(model, [[3, 1, 4], [2]], 5)

    def work() -> tuple[Tensor, list[int], list[list[int]], int]:
        part = part_of(model)
        n_kv = part.new_cache().keys.shape[2]
        batch = generate_batch(part, [[3, 1, 4], [2]], 5)
        return part(tokens), generate(part, [3, 1, 4], 12), batch, n_kv

    results = threads.run(work)
    for logits, ids, batch, n_kv in results:
        torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)
        assert torch.equal(logits, results[0][0])  # to the last bit: all choose alike
        assert (ids, batch) == (text, ragged)
        assert n_kv == model.config.n_kv_head // threads.n_ranks


@pytest.mark.parametrize("threads", [2, 3], indirect=True)
def test_two_all_reduces_a_layer(threads: Threads) -> None:
    """And one for the embeddings, and a gathering for the logits."""
    model = whole(threads.n_ranks)
    threads.run(lambda: part_of(model)(torch.tensor([1, 2])))
    assert threads.calls == 2 * model.config.n_layer + 2


@pytest.mark.parametrize("threads", [3], indirect=True)
def test_an_untied_head(threads: Threads) -> None:
    model, tokens = whole(3, tied=False), torch.tensor([5, 96, 0])
    for logits in threads.run(lambda: part_of(model)(tokens)):
        torch.testing.assert_close(logits, model(tokens), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("threads", [2, 3], indirect=True)
def test_trace_and_sampling(threads: Threads) -> None:
    model, tokens = whole(threads.n_ranks), torch.tensor([7, 8, 9])
    sampled = generate(model, [7], 9, temperature=1.0, seed=4)
    stream = model.trace(tokens).residual

    def work() -> tuple[Tensor, list[int]]:
        part = part_of(model)
        ids = generate(part, [7], 9, temperature=1.0, seed=4)
        return part.trace(tokens).residual, ids

    for residual, ids in threads.run(work):
        torch.testing.assert_close(residual, stream, rtol=1e-4, atol=1e-5)
        assert ids == sampled


@pytest.mark.parametrize("threads", [2], indirect=True)
def test_moving(threads: Threads) -> None:
    part = threads.run(lambda: part_of(whole(2)))[0]
    moved = part.to("meta")
    assert {tensor.device.type for tensor in moved.weights.values()} == {"meta"}
    assert moved.new_cache().keys.is_meta
    assert {tensor.device.type for tensor in part.weights.values()} == {"cpu"}


@pytest.mark.parametrize("threads", [2], indirect=True)
@pytest.mark.parametrize(
    ("config", "problem"),
    [
        (replace(FOUR_HEADS, n_head=3), "n_kv_head .* = 2, got 3"),
        (THREE_GROUPS, "n_kv_head .* = 2, got 3"),
        (replace(SMALL_LLAMA, n_inner=41), "n_inner .* = 2, got 41"),
    ],
)
def test_unequal_parts(
    threads: Threads, config: Config | LlamaConfig, problem: str
) -> None:
    model = (
        random_llama(config)
        if isinstance(config, LlamaConfig)
        else random_model(config)
    )
    with pytest.raises(ValueError, match=problem):
        threads.run(lambda: part_of(model))


@pytest.mark.parametrize("threads", [1], indirect=True)
def test_load(threads: Threads, tmp_path: Path) -> None:
    save_llama(tmp_path, random_llama())
    found = threads.run(lambda: (parallel.load("pocket"), parallel.load(tmp_path)))
    assert [type(part) for part in found[0]] == [ParallelGPT2, ParallelLlama]
    with pytest.raises(FileNotFoundError):
        threads.run(lambda: parallel.load(tmp_path / "nowhere"))


# --- ranks ---


def test_outside_of_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    with pytest.raises(ValueError, match="torchrun --standalone"), ranks.joined():
        pass


def test_a_rank_has_its_own_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert ranks.local_device("cpu") == torch.device("cpu")
    assert ranks.local_device("meta") == torch.device("meta", 1)
    with pytest.raises(ValueError, match="device"):
        ranks.local_device("abacus")


@pytest.fixture
def one_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    """What torchrun would say to a single process."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    variables = {
        "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "none",
    }  # fmt: skip
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(ranks, "GRACE_SECONDS", 0)


@pytest.mark.usefixtures("one_rank")
def test_a_single_rank(pocket: GPT2, capsys: pytest.CaptureFixture[str]) -> None:
    with ranks.joined():
        part = parallel.load("pocket")
        assert generate(part, [7454, 2402], 3) == generate(pocket, [7454, 2402], 3)
    assert capsys.readouterr() == ("", "")


@pytest.mark.usefixtures("one_rank")
def test_an_error_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit, ranks.joined():
        generate(parallel.load("pocket"), [], 1)
    assert exit.value.code == 1
    printed = capsys.readouterr().err
    assert printed.startswith("hardway.parallel: prompt_ids must")
    assert printed.count("\n") == 1


@pytest.mark.usefixtures("one_rank")
def test_a_lost_rank(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit), ranks.joined(), ranks.noticing_loss():
        raise RuntimeError("Connection closed by peer")
    printed = capsys.readouterr().err
    assert printed.startswith("hardway.parallel: rank 0 of 1 lost another rank")
    assert "Connection closed by peer" in printed
    assert printed.count("\n") == 1


@pytest.mark.usefixtures("one_rank")
def test_torchrun_ends_a_rank(capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit), ranks.joined():
        signal.raise_signal(signal.SIGTERM)
    assert "lost another rank" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.usefixtures("one_rank")
def test_one_line_for_all_ranks(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another rank has printed already."""
    store = HashStore()
    store.add("errors", 1)
    monkeypatch.setattr(ranks, "rendezvous", lambda *_, **__: iter([(store, 0, 1)]))
    with pytest.raises(SystemExit), ranks.joined():
        raise OSError("the disk is full")
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("one_rank")
def test_a_bug_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError), ranks.joined():
        1 / 0  # noqa: B018
