"""Measure how good a model is: bits per byte, multiple choice, calibration.

Every number comes from the same source: the log-probability of tokens that came, given
those before them. Conventions as in EleutherAI's lm-evaluation-harness.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hardway import checks, inputs, questions
from hardway.attention import softmax
from hardway.generation import LanguageModel
from hardway.questions import Question
from hardway.tokenizer import Tokenizer


@dataclass(frozen=True)
class Score:
    """What a text costs a model: surprisals in nats, summed, and what they are of.

    n_tokens counts the tokens that were scored; n_bytes and n_words are the text's.
    """

    total: float
    n_tokens: int
    n_bytes: int
    n_words: int

    @property
    def bits_per_byte(self) -> float:
        """Bits per byte: the total in bits, per byte; comparable between tokenizers."""
        return self.total / math.log(2) / self.n_bytes

    @property
    def perplexity(self) -> float:
        """Perplexity per token; comparable only where the tokenizer is the same."""
        return math.exp(self.total / self.n_tokens)

    @property
    def word_perplexity(self) -> float:
        """Perplexity per word: the total is spread over words instead of tokens."""
        return math.exp(self.total / self.n_words)


def windows(
    n_tokens: int, n_ctx: int, stride: int | None = None
) -> Iterator[tuple[int, int, int]]:
    """Cut a text into windows, so that every token is scored exactly once.

    Yields (start, first, end): the model reads from ``start``, and tokens ``first`` to
    ``end`` are scored. Each window but the first scores ``stride`` tokens, by default
    n_ctx, the most that fit; a smaller stride leaves more context for each, and costs
    more. The last window is moved left to be full.
    """
    stride = n_ctx if stride is None else stride
    first = 0
    while first < n_tokens:
        end = min(first + (stride if first else n_ctx), n_tokens)
        yield max(0, end - n_ctx), first, end
        first = end


def token_log_probabilities(
    model: LanguageModel, ids: Sequence[int], start_id: int, stride: int | None = None
) -> Tensor:
    """Return the log-probability of each token, in nats: float64 [len(ids)].

    ``start_id``, the end-of-text token, stands before the first token, so that it can
    be scored, too. Raises `ValueError` for ids outside the vocabulary, and a ``stride``
    that is not from 1 to n_ctx.
    """
    n_ctx = model.config.n_ctx
    stride = questions.check_stride(stride, n_ctx)
    ids = checks.token_ids("ids", ids, model.config.n_vocab)
    text = torch.tensor([start_id, *ids], device="cpu")
    found = torch.empty(len(text) - 1, dtype=torch.float64, device="cpu")
    for start, first, end in windows(len(found), n_ctx, stride):
        logits = model(text[start:end])[first - start :]  # the one at i predicts i + 1
        surprisals = logits.logsumexp(dim=-1) - pick(logits, text[first + 1 : end + 1])
        found[first:end] = -surprisals.double()
    return found


def pick(logits: Tensor, targets: Tensor) -> Tensor:
    """Return each row's entry for its target. logits: [N, n_vocab]; targets: [N]."""
    return logits.gather(-1, targets.to(logits.device)[:, None])[:, 0]


def score_text(
    model: LanguageModel, tokenizer: Tokenizer, text: str, stride: int | None = None
) -> Score:
    """Score a text of any length.

    Raises `ValueError` for an empty text, a tokenizer that isn't the model's, and a
    ``stride`` out of range.
    """
    inputs.check_vocabularies(model.config.n_vocab, tokenizer.n_vocab)
    ids = tokenizer.encode(checks.not_empty("text", text))
    found = token_log_probabilities(model, ids, tokenizer.eot_id, stride)
    n_bytes, n_words = len(text.encode("utf-8")), max(1, len(text.split()))
    return Score(-float(found.sum()), len(ids), n_bytes, n_words)


def bits_per_byte(model: LanguageModel, tokenizer: Tokenizer, text: str) -> float:
    """Return the bits that a model needs for each byte of a text, on average.

    Each token is scored once, in windows of n_ctx. Raises what `score_text` does.
    """
    return score_text(model, tokenizer, text).bits_per_byte


def log_likelihood(
    model: LanguageModel, tokenizer: Tokenizer, context: str, continuation: str
) -> tuple[float, bool]:
    """Return the log-probability of a continuation, and whether greedy would write it.

    Spaces at the end of the context belong to the continuation, whose first token they
    are part of. Without a context, the end-of-text token stands in for it. If the two
    are too long for the model, the beginning is cut off. Raises `ValueError` for a
    continuation that is empty or too long by itself.
    """
    inputs.check_vocabularies(model.config.n_vocab, tokenizer.n_vocab)
    before, after = encode_pair(tokenizer, context, continuation)
    questions.check_continuation(after, model.config.n_ctx)
    ids = torch.tensor([*before, *after][-(model.config.n_ctx + 1) :], device="cpu")
    logits = model(ids[:-1])[-len(after) :]  # [len(after), n_vocab]
    targets = ids[-len(after) :]
    total = (pick(logits, targets) - logits.logsumexp(dim=-1)).double().sum()
    return float(total), torch.equal(logits.argmax(dim=-1).cpu(), targets)


def encode_pair(
    tokenizer: Tokenizer, context: str, continuation: str
) -> tuple[list[int], list[int]]:
    """Return the ids of a context and of its continuation.

    The two are encoded together, as they would be in a text, and then cut where the
    context alone ends.
    """
    stripped = context.rstrip()
    continuation = context[len(stripped) :] + continuation
    if not stripped:
        return [tokenizer.eot_id], tokenizer.encode(continuation)
    n_before = len(tokenizer.encode(stripped))
    whole = tokenizer.encode(stripped + continuation)
    return whole[:n_before], whole[n_before:]


@dataclass(frozen=True)
class Answered:
    """How a model answered a question: the log-probability of each choice.

    lengths: those of the choices in characters, by which acc_norm divides.
    """

    log_likelihoods: tuple[float, ...]
    lengths: tuple[int, ...]
    answer: int

    @property
    def is_right(self) -> bool:
        """Whether the likeliest choice is the answer."""
        return argmax(self.log_likelihoods) == self.answer

    @property
    def is_right_normalized(self) -> bool:
        """Whether it is, per character: long choices are less likely as such."""
        pairs = zip(self.log_likelihoods, self.lengths, strict=True)
        return argmax([total / length for total, length in pairs]) == self.answer

    @property
    def confidence(self) -> float:
        """The probability of the likeliest choice, if it has to be one of them."""
        return float(softmax(torch.tensor(self.log_likelihoods, device="cpu")).max())


def argmax(values: Sequence[float]) -> int:
    """Return the index of the first largest value."""
    return max(range(len(values)), key=values.__getitem__)


def answer(
    model: LanguageModel, tokenizer: Tokenizer, asked: Iterable[Question]
) -> list[Answered]:
    """Answer multiple-choice questions by the likelihood of each choice.

    A space separates a question from its choice. Raises what `log_likelihood` does.
    """
    found = []
    for question in asked:
        totals = [
            log_likelihood(model, tokenizer, question.context, f" {choice}")[0]
            for choice in question.choices
        ]
        lengths = tuple(map(len, question.choices))
        found.append(Answered(tuple(totals), lengths, question.answer))
    return found


def calibration_error(
    confidences: Tensor, is_right: Tensor, n_bins: int = 10
) -> tuple[float, list[tuple[float, float, int]]]:
    """Return the expected calibration error, and its bins.

    Predictions are put into bins by their confidence; in each, the mean confidence is
    compared with how many are right. confidences: [N], from 0 to 1; is_right: bool [N].
    A bin that is not empty is (mean confidence, accuracy, count). Source: Guo et
    al. 2017.
    """
    bins = []
    places = (confidences * n_bins).ceil().clamp(min=1)  # a bin includes its upper end
    for place in places.unique():
        inside = places == place
        confidence, accuracy = (
            confidences[inside].mean(),
            is_right[inside].double().mean(),
        )
        bins.append((float(confidence), float(accuracy), int(inside.sum())))
    gaps = [n * abs(accuracy - confidence) for confidence, accuracy, n in bins]
    return sum(gaps) / len(confidences), bins
