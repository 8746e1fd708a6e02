"""Beam search: keep several texts at once, and look for the most probable one."""

from collections.abc import Collection, Iterable

import torch
from torch import Tensor

from hardway import checks, inputs
from hardway.generation import LanguageModel, infer
from hardway.kv_cache import KVCache

Scored = tuple[float, list[int]]


def beam_search(
    model: LanguageModel,
    prompt_ids: Iterable[int],
    max_new_tokens: int,
    num_beams: int,
    length_penalty: float = 1.0,
    stop_ids: Collection[int] = (),
) -> list[list[int]]:
    """Return up to ``num_beams`` continuations, best first, new ids only.

    A continuation's score is the sum of its tokens' log-probabilities, its stop id's
    included, divided by its length to the power of ``length_penalty``: 0 doesn't
    divide, above 0 longer ones gain. The search ends, as Hugging Face's, when the best
    running text scores no better than the last of ``num_beams`` finished ones. Raises
    `ValueError`, before any work, for an argument out of range.
    """
    max_new_tokens = checks.integer("max_new_tokens", max_new_tokens)
    prompt = inputs.check_prompt(prompt_ids, max_new_tokens, model.config)
    num_beams = checks.integer("num_beams", num_beams, 1)
    power = checks.number("length_penalty", length_penalty, -10, 10)
    stops = checks.token_ids("stop_ids", stop_ids, model.config.n_vocab)
    beams = Beams(num_beams, power, set(stops))
    logits, cache = prefill(model, prompt, max_new_tokens, num_beams)
    for n_left in reversed(range(max_new_tokens)):
        rows = beams.advance(logits, is_last=n_left == 0)
        if not rows:
            break
        cache.copy_rows(cache, rows)
        last = [ids[-1:] for _, ids in beams.running]
        logits = infer(model, torch.tensor(last, device="cpu"), cache)[:, -1]
    return [ids for _, ids in beams.finished]


def prefill(
    model: LanguageModel, prompt: list[int], max_new_tokens: int, num_beams: int
) -> tuple[Tensor, KVCache]:
    """Process the prompt once; return logits and a cache with a row for each beam."""
    narrow = model.new_cache(1, len(prompt))
    tokens = torch.tensor([prompt], device="cpu")
    logits = infer(model, tokens, narrow, last_only=True)[:, -1]
    cache = model.new_cache(num_beams, len(prompt) + max_new_tokens)
    cache.copy_rows(narrow, [0] * num_beams)
    return logits.expand(num_beams, -1), cache


class Beams:
    """The texts of a search, those that run on and those that are finished.

    A running text has the sum of its log-probabilities, a finished one its score.
    """

    def __init__(self, num_beams: int, power: float, stops: set[int]) -> None:
        """Begin with an empty text, and copies of it that cannot win."""
        copies = [(-torch.inf, list[int]())] * (num_beams - 1)
        self.running: list[Scored] = [(0.0, []), *copies]
        self.finished: list[Scored] = []
        self.num_beams, self.power, self.stops = num_beams, power, stops
        self.length = 0

    def advance(self, logits: Tensor, is_last: bool) -> list[int]:
        """Continue the running texts by their best tokens; none is left at the end.

        A text that ends counts only among the best ``num_beams``; more are looked at so
        that as many can run on. logits: [num_beams, n_vocab]. Returns which text each
        new one continues.
        """
        inputs.check_finite_logits(logits.flatten(), self.length)
        self.length += 1
        best = self.continuations(logits)
        ends = [is_last or id in self.stops for _, _, id in best]
        texts = [[*self.running[beam][1], id] for _, beam, id in best]
        for i, (sum_, _, id) in enumerate(best[: self.num_beams]):
            if ends[i] and sum_ > -torch.inf:
                ids = texts[i][:-1] if id in self.stops else texts[i]
                self.finished.append((sum_ / self.length**self.power, ids))
        self.finished = sorted(self.finished, key=lambda one: -one[0])[: self.num_beams]
        going = [i for i, end in enumerate(ends) if not end][: self.num_beams]
        self.running = [(best[i][0], texts[i]) for i in going]
        return [] if self.is_over() else [best[i][1] for i in going]

    def continuations(self, logits: Tensor) -> list[tuple[float, int, int]]:
        """Return the best continuations: sum of log-probabilities, beam, token."""
        n_best = (1 + max(1, len(self.stops))) * self.num_beams
        sums = torch.tensor([sum_ for sum_, _ in self.running], device=logits.device)
        log_p = logits - logits.logsumexp(dim=-1, keepdim=True)
        totals = (sums[:, None] + log_p).flatten()  # [num_beams · n_vocab]
        best = totals.topk(min(n_best, len(totals)))
        places = [divmod(place, logits.shape[-1]) for place in best.indices.tolist()]
        return [
            (total, beam, id)
            for total, (beam, id) in zip(best.values.tolist(), places, strict=True)
        ]

    def is_over(self) -> bool:
        """Return whether no text runs, or the best that does is worse than the rest."""
        if not self.running:
            return True
        best = self.running[0][0] / self.length**self.power
        return len(self.finished) == self.num_beams and best <= self.finished[-1][0]
