"""Evaluation: equal to lm-evaluation-harness 0.4.13 on the same requests."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from hardway import GPT2, Config, Tokenizer, cli
from hardway.corpus import byte_tokenizer
from hardway.evaluation import (
    Answered,
    Score,
    answer,
    bits_per_byte,
    calibration_error,
    encode_pair,
    log_likelihood,
    score_text,
    token_log_probabilities,
    windows,
)
from hardway.questions import Question, read_questions
from references import as_transformers, random_model

TALES = Path(__file__).parents[2] / "book" / "tales.jsonl"
TALE = json.loads(TALES.read_text(encoding="utf-8").splitlines()[11])["text"][:2400]
BYTES = Config(n_vocab=257, n_ctx=16, n_embd=24, n_head=3, n_layer=2)
# What lm-evaluation-harness 0.4.13 (HFLM, max_length=128) says of pocket.
REQUESTS = [
    ("Once upon a time there was a", " king", -6.029202, False),
    ("Once upon a time there was a ", "king", -6.029202, False),
    ("", "Once upon a time", -0.681545, True),
    ("The cat", "  sat on the mat.", -41.258739, False),
    (TALE, " and they lived happily ever after.", -33.724861, False),
    ("Dogs bark and cats", " meow.", -20.107925, False),
    ("a\n", "b", -23.266941, False),
]
ROLLING = -2150.472916


@pytest.fixture(scope="module")
def short(pocket: GPT2) -> GPT2:
    """Pocket with a window of 128 tokens."""
    weights = pocket.weights | {"wpe.weight": pocket.wpe[:128]}
    return GPT2(replace(pocket.config, n_ctx=128), weights)


# --- texts ---


@pytest.mark.parametrize(("context", "continuation", "total", "is_greedy"), REQUESTS)
def test_log_likelihoods_are_the_harnesss(
    context: str, continuation: str, total: float, is_greedy: bool, short: GPT2,
    tokenizer: Tokenizer,
) -> None:  # fmt: skip
    found = log_likelihood(short, tokenizer, context, continuation)
    assert found == (pytest.approx(total, abs=1e-3), is_greedy)


def test_bits_per_byte_are_the_harnesss(short: GPT2, tokenizer: Tokenizer) -> None:
    score = score_text(short, tokenizer, TALE)
    assert score.total == pytest.approx(-ROLLING, rel=1e-5)
    assert (score.n_bytes, score.n_words) == (2400, 464)
    expected = -ROLLING / (2400 * math.log(2))
    assert bits_per_byte(short, tokenizer, TALE) == pytest.approx(expected, rel=1e-5)
    assert score.bits_per_byte == pytest.approx(expected, rel=1e-5)
    assert score.word_perplexity == pytest.approx(math.exp(-ROLLING / 464), rel=1e-4)


def test_scores_by_hand() -> None:
    score = Score(total=3000, n_tokens=1000, n_bytes=4500, n_words=780)
    assert score.perplexity == pytest.approx(20.0855, rel=1e-5)
    assert score.word_perplexity == pytest.approx(46.8127, rel=1e-5)
    assert score.bits_per_byte == pytest.approx(0.961797, rel=1e-5)


def harness_windows(n: int, max_len: int) -> list[tuple[list[int], list[int]]]:
    """Their get_rolling_token_windows, with a context of 1 (MIT, EleutherAI)."""
    tokens, found = list(range(n)), []
    first = min(max_len, n)
    found.append(([-1, *tokens[: first - 1]], tokens[:first]))
    predicted = first
    while predicted < n:
        length = min(n - predicted, max_len)
        end = predicted + length
        found.append((tokens[end - max_len - 1 : end - 1], tokens[end - length : end]))
        predicted += length
    return found


@given(st.integers(1, 60), st.integers(1, 20))
def test_windows_are_the_harnesss(n: int, n_ctx: int) -> None:
    text = [-1, *range(n)]
    ours = [
        (text[start:end], text[first + 1 : end + 1])
        for start, first, end in windows(n, n_ctx)
    ]
    assert ours == harness_windows(n, n_ctx)


@given(st.integers(0, 60), st.integers(1, 20), st.data())
def test_every_token_is_scored_once(n: int, n_ctx: int, data: st.DataObject) -> None:
    stride = data.draw(st.integers(1, n_ctx))
    cut = [*windows(n, n_ctx, stride)]
    scored = [i for _, first, end in cut for i in range(first, end)]
    assert scored == [*range(n)]
    for index, (start, first, end) in enumerate(cut):
        assert 0 <= start <= first < end <= start + n_ctx
        assert end - first <= (stride if index else n_ctx)
        if index:
            assert end - start == n_ctx  # as much context as fits


def test_a_stride_of_one_gives_the_most_context() -> None:
    model, tokenizer = random_model(BYTES), byte_tokenizer()
    ids = tokenizer.encode("In a dark forest there lived a fox.")
    reference = as_transformers(model)
    expected = []
    text = torch.tensor([256, *ids])
    for i in range(len(ids)):
        with torch.no_grad():
            logits = reference(text[max(0, i - 15) : i + 1][None]).logits[0, -1]
        expected.append(F.log_softmax(logits, dim=-1)[text[i + 1]])
    found = token_log_probabilities(model, ids, 256, stride=1)
    torch.testing.assert_close(found.float(), torch.stack(expected), atol=1e-4, rtol=0)


@pytest.mark.slow
def test_more_context_helps(short: GPT2, tokenizer: Tokenizer) -> None:
    by_stride = {s: score_text(short, tokenizer, TALE, s) for s in (32, 128)}
    assert by_stride[32].bits_per_byte < by_stride[128].bits_per_byte
    assert by_stride[32].n_tokens == by_stride[128].n_tokens


# --- questions ---


def test_pairs_are_cut_where_the_context_ends(tokenizer: Tokenizer) -> None:
    for context, continuation in [("a cat", " sat"), ("a cat  ", "sat"), ("", "a")]:
        before, after = encode_pair(tokenizer, context, continuation)
        assert (
            tokenizer.decode(after) == context[len(context.rstrip()) :] + continuation
        )
        expected = tokenizer.encode(context.rstrip()) or [tokenizer.eot_id]
        assert before == expected


def test_answers(pocket: GPT2, tokenizer: Tokenizer) -> None:
    questions = [
        Question("Once upon a", ("time", "banana tree"), 0),
        Question("Once upon a", ("xylophone", "time"), 1),
    ]
    found = answer(pocket, tokenizer, questions)
    for question, one in zip(questions, found, strict=True):
        assert one.is_right
        for choice, total in zip(question.choices, one.log_likelihoods, strict=True):
            expected = log_likelihood(pocket, tokenizer, question.context, f" {choice}")
            assert total == expected[0]
        assert one.lengths == tuple(map(len, question.choices))
        assert one.confidence > 0.9


def test_normalized_by_length() -> None:
    one = Answered((-4.0, -6.0), (2, 6), 1)
    assert not one.is_right
    assert one.is_right_normalized
    assert one.confidence == pytest.approx(1 / (1 + math.exp(-2)))
    tie = Answered((-1.0, -1.0), (1, 1), 0)
    assert tie.is_right  # the first of equals, as argmax has it
    assert not replace(tie, answer=1).is_right


# --- calibration ---


def test_calibration_by_hand() -> None:
    confidences = torch.tensor([0.05, 0.55, 0.58, 0.95, 1.0])
    is_right = torch.tensor([False, True, False, True, True])
    error, bins = calibration_error(confidences, is_right)
    assert [n for *_, n in bins] == [1, 2, 2]
    assert [accuracy for _, accuracy, _ in bins] == [0.0, 0.5, 1.0]
    expected = (0.05 + 2 * abs(0.5 - 0.565) + 2 * (1 - 0.975)) / 5
    assert error == pytest.approx(expected)
    assert calibration_error(torch.ones(3), torch.ones(3).bool())[0] == 0
    assert calibration_error(torch.zeros(3), torch.ones(3).bool())[0] == 1
    one_bin, _ = calibration_error(confidences, is_right, n_bins=1)
    assert one_bin == pytest.approx(abs(0.6 - 0.626))


def test_a_calibrated_model_has_no_error() -> None:
    generator = torch.Generator().manual_seed(0)
    confidences = torch.rand(40_000, generator=generator)
    is_right = torch.rand(40_000, generator=generator) < confidences
    assert calibration_error(confidences, is_right)[0] < 0.02
    assert calibration_error(confidences**3, is_right)[0] > 0.1


# --- what is refused ---


@pytest.mark.parametrize("stride", [0, 17, 1.5])
def test_strides(stride: Any) -> None:
    with pytest.raises(ValueError, match=r"stride .* 1 to 16 \(n_ctx\)"):
        token_log_probabilities(random_model(BYTES), [1], 256, stride)


def test_bad_requests(tokenizer: Tokenizer) -> None:
    model, bytes_ = random_model(BYTES), byte_tokenizer()
    with pytest.raises(ValueError, match=r"continuation .* 1 to n_ctx = 16 .* 17"):
        log_likelihood(model, bytes_, "a", 17 * "b")
    with pytest.raises(ValueError, match=r"continuation .* got 0"):
        log_likelihood(model, bytes_, "a", "")
    assert log_likelihood(model, bytes_, "a" * 40, 16 * "b")[0] < 0
    calls: list[Callable[[], object]] = [
        lambda: log_likelihood(model, tokenizer, "a", "b"),
        lambda: bits_per_byte(model, tokenizer, "a"),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="n_vocab = 257"):
            call()
    with pytest.raises(ValueError, match="text must hold"):
        bits_per_byte(model, bytes_, "")
    with pytest.raises(ValueError, match="each of ids"):
        token_log_probabilities(model, [257], 256)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", "not JSON"),
        ('{"context": "a"}', "context"),
        ('{"context": 1, "choices": ["a", "b"], "answer": 0}', "context"),
        ('{"context": "a", "choices": ["a"], "answer": 0}', "at least two"),
        ('{"context": "a", "choices": ["a", ""], "answer": 0}', "each of choices"),
        ('{"context": "a", "choices": ["a", "b"], "answer": 2}', "answer"),
    ],
)
def test_bad_questions(line: str, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "questions.jsonl"
    good = '{"context": "", "choices": ["a", "b"], "answer": 1}'
    path.write_text(f"{good}\n{line}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=rf"questions\.jsonl: line 2: .*{problem}"):
        read_questions(path)


def test_files_without_questions(tmp_path: Path) -> None:
    path = tmp_path / "questions.jsonl"
    for raw, problem in {b"": "empty", b"\xff": "not UTF-8"}.items():
        path.write_bytes(raw)
        with pytest.raises(ValueError, match=rf"questions\.jsonl: .*{problem}"):
            read_questions(path)


# --- the command ---


@pytest.mark.slow
def test_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], pocket: GPT2,
    tokenizer: Tokenizer,
) -> None:  # fmt: skip
    path = tmp_path / "text.txt"
    path.write_text(TALE, encoding="utf-8")
    cli.main(["eval", str(path), "--stride", "256"])
    score = score_text(pocket, tokenizer, TALE, 256)
    out = capsys.readouterr().out
    assert f"bits per byte    {score.bits_per_byte:.4f}\n" in out
    assert f"perplexity       {score.perplexity:.4f} per token\n" in out
    assert out.endswith("windows of 512, 256 scored in each\n")
    questions = tmp_path / "questions.jsonl"
    lines = [
        {"context": "Once upon a", "choices": ["time", "dog"], "answer": answer}
        for answer in (0, 0, 0, 1)
    ]
    questions.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    cli.main(["eval", str(questions)])
    expected = "questions        4\nacc              0.7500\nacc_norm         0.7500\n"
    assert capsys.readouterr().out == expected
    with pytest.raises(SystemExit):
        cli.main(["eval", str(path), "--stride", "0"])
    assert "stride" in capsys.readouterr().err
