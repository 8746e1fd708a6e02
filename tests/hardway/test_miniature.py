"""The machine in miniature against plain Python; its print-out against its numbers."""

import math
import re
from dataclasses import fields

import pytest
import torch
from torch import Tensor

from hardway import Tokenizer, miniature
from hardway.miniature import N_EMBD, N_HIDDEN, Weights, decode, prefill, random_weights
from refusals import refuses

N_VOCAB = 50257
TEXT = "hello how are you?"
TOKENS = [31373, 703, 389, 345, 30]
PREFILL_LABELS = ["Embeddings", "Q", "K", "V"]
DECODE_LABELS = {
    "Embedding for last token": "embedding",
    "Q for last token": "q",
    "Attention scores": "scores",
    "Attention weights": "attn_weights",
    "Attention output": "output",
    "Logits": "logits",
    "Probabilities": "probabilities",
}


@pytest.fixture(scope="module")
def weights() -> Weights:
    return random_weights(N_VOCAB, seed=3)


def shapes(record: object) -> dict[str, tuple[int, ...]]:
    tensors = {field.name: getattr(record, field.name) for field in fields(record)}  # type: ignore[arg-type]
    return {
        name: tuple(x.shape) for name, x in tensors.items() if isinstance(x, Tensor)
    }


def equal(one: object, other: object) -> bool:
    return all(
        torch.equal(
            torch.as_tensor(getattr(one, field.name)), getattr(other, field.name)
        )
        for field in fields(one)  # type: ignore[arg-type]
        if isinstance(getattr(one, field.name), Tensor)
    )


def times(vector: list[float], matrix: list[list[float]]) -> list[float]:
    """vector @ matrix, in plain Python."""
    columns = zip(*matrix, strict=True)
    return [sum(a * b for a, b in zip(vector, c, strict=True)) for c in columns]


def exponentials(scores: list[float]) -> list[float]:
    powers = [math.exp(score) for score in scores]
    return [power / sum(powers) for power in powers]


def test_the_sizes_are_eight_and_sixteen(weights: Weights) -> None:
    assert (N_EMBD, N_HIDDEN) == (8, 16)
    assert shapes(weights) == {
        "embedding": (N_VOCAB, 8),
        "w_q": (8, 8),
        "w_k": (8, 8),
        "w_v": (8, 8),
        "w_up": (8, 16),
        "w_down": (16, 8),
        "w_out": (8, N_VOCAB),
    }
    read = prefill(weights, TOKENS)
    assert shapes(read) == dict.fromkeys(["embeddings", "q", "k", "v"], (5, 8))
    assert shapes(decode(weights, 30, read.k, read.v)) == {
        "embedding": (8,),
        "q": (8,),
        "scores": (5,),
        "attn_weights": (5,),
        "output": (8,),
        "logits": (N_VOCAB,),
        "probabilities": (N_VOCAB,),
    }


def test_the_seed_decides_the_weights_and_nothing_else_does() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = random_weights(100, seed=5)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert equal(first, random_weights(100, seed=5))
    assert not equal(first, random_weights(100, seed=6))


def test_the_seed_decides_the_draw(weights: Weights) -> None:
    read = prefill(weights, TOKENS)
    drawn = [decode(weights, 30, read.k, read.v, seed).token for seed in range(8)]
    assert drawn == [
        decode(weights, 30, read.k, read.v, seed).token for seed in range(8)
    ]
    assert len(set(drawn)) > 1


def test_prefill_and_decode_equal_plain_python() -> None:
    weights = random_weights(60, seed=1)
    tokens = [7, 0, 59, 7]
    embedding, w_q, w_k, w_v, w_up, w_down, w_out = (
        getattr(weights, field.name).tolist() for field in fields(weights)
    )
    q, k, v = ([times(embedding[t], w) for t in tokens] for w in (w_q, w_k, w_v))
    read = prefill(weights, tokens)
    for found, expected in zip((read.q, read.k, read.v), (q, k, v), strict=True):
        torch.testing.assert_close(found, torch.tensor(expected))
    assert read.embeddings.tolist() == [embedding[t] for t in tokens]

    scores = [sum(a * b for a, b in zip(q[-1], key, strict=True)) / 8**0.5 for key in k]
    attn_weights = exponentials(scores)
    output = times(attn_weights, v)
    hidden = [max(0.0, x) for x in times(output, w_up)]
    logits = times(times(hidden, w_down), w_out)
    step = decode(weights, tokens[-1], read.k, read.v)
    expected_step = {
        "embedding": embedding[7],
        "q": q[-1],
        "scores": scores,
        "attn_weights": attn_weights,
        "output": output,
        "logits": logits,
        "probabilities": exponentials(logits),
    }
    for name, values in expected_step.items():
        found = getattr(step, name)
        torch.testing.assert_close(found, torch.tensor(values), atol=1e-5, rtol=1e-4)


def test_weights_sum_to_one(weights: Weights) -> None:
    read = prefill(weights, TOKENS)
    step = decode(weights, 30, read.k, read.v)
    assert float(step.attn_weights.sum()) == pytest.approx(1, abs=1e-6)
    assert float(step.probabilities.double().sum()) == pytest.approx(1, abs=1e-5)
    assert (step.probabilities >= 0).all()
    assert 0 <= step.token < N_VOCAB
    assert step.probabilities[step.token] > 0


def test_draws_follow_the_probabilities() -> None:
    weights = random_weights(4, seed=0)
    read = prefill(weights, [1, 2])
    n = 1000
    steps = [decode(weights, 2, read.k, read.v, seed) for seed in range(n)]
    shares = steps[0].probabilities
    found = torch.tensor([step.token for step in steps]).bincount(minlength=4) / n
    assert ((found - shares).abs() < 4 * (shares * (1 - shares) / n).sqrt()).all()


# --- the print-out ---


def numbers(text: str) -> list[float]:
    """Read the numbers of every row in brackets."""
    rows = re.findall(r"\[([^]]*)\]", text)
    return [float(number) for row in rows for number in row.replace("...", " ").split()]


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> str:
    miniature.demo(TEXT, seed=3)
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def test_every_label_is_there_in_order(printed: str) -> None:
    labels = [
        "Input token indices:",
        "Input tokens:",
        *(f"{label}:" for label in PREFILL_LABELS),
        "--- Decoding next token ---",
        *(f"[Decode] {label}:" for label in DECODE_LABELS),
        "Predicted next token:",
    ]
    lines = printed.splitlines()
    places = [
        [i for i, line in enumerate(lines) if line.startswith(label)]
        for label in labels
    ]
    assert all(len(found) == 1 for found in places)
    assert places == sorted(places)


def test_the_printed_numbers_are_the_computed_ones(
    printed: str, tokenizer: Tokenizer, weights: Weights
) -> None:
    read = prefill(weights, TOKENS)
    step = decode(weights, TOKENS[-1], read.k, read.v, seed=3)
    assert f"Input token indices: {TOKENS}\n" in printed
    assert "Input tokens: ['hello', ' how', ' are', ' you', '?']\n" in printed
    before, after = printed.split("--- Decoding next token ---")
    ends = [*PREFILL_LABELS[1:], None]
    matrices = (read.embeddings, read.q, read.k, read.v)
    for label, end, matrix in zip(PREFILL_LABELS, ends, matrices, strict=True):
        part = before.split(f"\n{label}:\n")[1].split(f"\n{end}:\n")[0]
        assert part.count("[") == 5  # a row for each token
        assert numbers(part) == pytest.approx(matrix.flatten().tolist(), abs=6e-4)
    for label, name in DECODE_LABELS.items():
        (line,) = (
            line for line in after.splitlines() if line.startswith(f"[Decode] {label}:")
        )
        values = getattr(step, name)
        if len(values) == N_VOCAB:  # the first three and the last, to three digits
            assert line.endswith("(50257 numbers)")
            shown = [*values[:3].tolist(), float(values[-1])]
            assert numbers(line.split(":")[1]) == pytest.approx(shown, rel=6e-3)
        else:
            assert numbers(line.split(":")[1]) == pytest.approx(
                values.tolist(), abs=6e-4
            )
    text = repr(tokenizer.decode([step.token]))
    assert (
        after.splitlines()[-1] == f"Predicted next token: {text} (token {step.token})"
    )


@pytest.mark.slow
def test_another_seed_is_another_machine(
    printed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    miniature.demo(TEXT, seed=3)
    assert capsys.readouterr().out == printed
    miniature.demo(TEXT, seed=4)
    assert capsys.readouterr().out != printed


def test_one_token_is_enough(capsys: pytest.CaptureFixture[str]) -> None:
    miniature.demo("?")
    out = capsys.readouterr().out
    assert "Input token indices: [30]\n" in out
    assert "[Decode] Attention weights: [ 1.000]\n" in out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "problem"), [("", "at least one"), ("\ud800", "surrogate")]
)
def test_no_text_and_no_half_character(text: str, problem: str) -> None:
    with refuses("text") as caught:
        miniature.demo(text)
    assert problem in str(caught.value)
