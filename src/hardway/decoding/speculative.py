"""Speculative decoding: guess several tokens, and verify them in one pass.

The text follows the same distribution as without guesses, exactly. Papers: Leviathan et
al. 2023, Chen et al. 2023.
"""

import copy
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol, Unpack

import torch
from torch import Tensor

from hardway import checks, inputs
from hardway.generation import LanguageModel, Sampling, infer, new_sampler
from hardway.llama import Llama
from hardway.model import GPT2
from hardway.sampling import Ids, Sampler


class Round(NamedTuple):
    """What one pass of the model brought: new ids, and how the guesses fared."""

    ids: list[int]
    n_guesses: int
    n_accepted: int


class Draft(Protocol):
    """Where guesses come from."""

    def propose(
        self, prompt_ids: Ids, new_ids: Ids, n: int
    ) -> tuple[list[int], Tensor]:
        """Return up to ``n`` guesses, and what each was drawn from: [n, n_vocab]."""
        ...


def speculative_generate(
    model: LanguageModel,
    draft: LanguageModel | None,
    prompt_ids: Iterable[int],
    max_new_tokens: int,
    n_draft: int = 4,
    *,
    stop_ids: Collection[int] = (),
    **sampling: Unpack[Sampling],
) -> list[int]:
    """Continue a prompt as `hardway.generation.generate` does, by verified guesses.

    draft: a smaller model of the same vocabulary, or None to look up how the text went
    on before; n_draft: guesses per pass. Greedy text is the same as without guesses, up
    to near-ties; sampled text follows the same distribution, though another seed's
    draw. Raises `ValueError`, before any work, for an argument out of range.
    """
    max_new_tokens = checks.integer("max_new_tokens", max_new_tokens)
    n_draft = checks.integer("n_draft", n_draft, 1)
    prompt = inputs.check_prompt(prompt_ids, max_new_tokens, model.config)
    stops = set(checks.token_ids("stop_ids", stop_ids, model.config.n_vocab))
    sampler = new_sampler(model.config, max_new_tokens, **sampling)
    guesser: Draft = LookUp(model.config.n_vocab)
    if draft is not None:
        inputs.check_draft(draft.config, prompt, max_new_tokens, model.config)
        guesser = SmallModel(draft, sampler, len(prompt) + max_new_tokens)
    steps = rounds(
        model, guesser, prompt, max_new_tokens, n_draft, sampler,
        stops | sampler.stop_ids,
    )  # fmt: skip
    return [id for step in steps for id in step.ids]


def rounds(
    model: LanguageModel, draft: Draft, prompt: Sequence[int], max_new_tokens: int,
    n_draft: int, sampler: Sampler, stops: Collection[int],
) -> Iterator[Round]:  # fmt: skip
    """Guess, verify, roll the cache back to what was accepted; and again."""
    new_ids: list[int] = []
    cache = model.new_cache(1, len(prompt) + max_new_tokens)
    if len(prompt) > 1:
        infer(model, torch.tensor(prompt[:-1], device="cpu"), cache, last_only=True)
    while (n_left := max_new_tokens - len(new_ids)) > 0:
        guesses, q = draft.propose(prompt, new_ids, min(n_draft, n_left - 1))
        text = [*prompt, *new_ids]
        tokens = torch.tensor([*text[cache.length :], *guesses], device="cpu")
        logits = infer(model, tokens, cache)[-1 - len(guesses) :]
        inputs.check_finite_logits(logits.flatten(), len(new_ids))
        ids = verify(logits, guesses, q, sampler, prompt, new_ids)
        end = next((i for i, id in enumerate(ids) if id in stops), None)
        yield Round(ids[:end], len(guesses), len(ids) - 1)
        if end is not None:
            return
        new_ids += ids
        cache.truncate(len(prompt) + len(new_ids) - 1)


def verify(
    logits: Tensor, guesses: Ids, q: Tensor, sampler: Sampler, prompt: Ids, new_ids: Ids
) -> list[int]:
    """Return the guesses up to the first that is rejected, and one more token.

    A guess x, drawn with probability q(x), is accepted with probability
    min(1, p(x) / q(x)). In place of one that is rejected comes a draw from what p has
    more than q; after the last comes a draw from p. logits: [n + 1, n_vocab], the
    model's after the text and after each guess; q: [n, n_vocab].
    """
    ids: list[int] = []
    for row, guess, guessed in zip(logits[:-1], guesses, q, strict=True):
        p = sampler.probabilities(row, prompt, [*new_ids, *ids])
        chance = (p[guess] / guessed[guess]).clamp(max=1)
        if sampler.draw(torch.stack([1 - chance, chance])) == 0:
            more = (p - guessed).clamp(min=0)
            return [*ids, sampler.draw(more if more.any() else p)]
        ids.append(guess)
    return [*ids, sampler.choose(logits[-1], prompt, [*new_ids, *ids])]


class LookUp:
    """Guess that the text goes on as it did after the same tokens before.

    Source: Saxena 2023.
    """

    def __init__(self, n_vocab: int, longest: int = 3, least: int = 2) -> None:
        """Look for the last ``longest`` tokens, then for fewer, down to ``least``."""
        self.n_vocab, self.sizes = n_vocab, range(longest, least - 1, -1)

    def propose(
        self, prompt_ids: Ids, new_ids: Ids, n: int
    ) -> tuple[list[int], Tensor]:
        """Return what followed the latest occurrence: each guess is certain."""
        guesses = self.look_up([*prompt_ids, *new_ids])[:n]
        q = torch.zeros(len(guesses), self.n_vocab, device="cpu")
        q[range(len(guesses)), guesses] = 1.0
        return guesses, q

    def look_up(self, text: list[int]) -> list[int]:
        """Return the text after the latest occurrence of its last tokens."""
        for size in self.sizes:
            for end in range(len(text) - 1, size - 1, -1):
                if text[end - size : end] == text[-size:]:
                    return text[end:]
        return []


class SmallModel:
    """Guess with a smaller model, whose options are those of the large one."""

    def __init__(self, model: LanguageModel, sampler: Sampler, max_len: int) -> None:
        """Make a cache for a text of up to ``max_len`` tokens."""
        self.model, self.sampler = model, sampler
        self.cache = model.new_cache(1, max_len)

    def propose(
        self, prompt_ids: Ids, new_ids: Ids, n: int
    ) -> tuple[list[int], Tensor]:
        """Draw ``n`` guesses, after forgetting those that were rejected."""
        text, guesses = [*prompt_ids, *new_ids], list[int]()
        self.cache.truncate(min(self.cache.length, len(text) - 1))
        rows = []
        for _ in range(n):
            tokens = torch.tensor([*text, *guesses][self.cache.length :], device="cpu")
            logits = infer(self.model, tokens, self.cache, last_only=True)[-1]
            q = self.sampler.probabilities(logits, prompt_ids, [*new_ids, *guesses])
            guesses.append(self.sampler.draw(q))
            rows.append(q)
        return guesses, torch.stack(rows) if rows else torch.empty(0, device="cpu")


def first_layers(model: GPT2 | Llama, n_layer: int) -> GPT2 | Llama:
    """Return a draft for a model: its own first blocks, under its own head.

    Nothing is copied. Raises `ValueError` for more blocks than the model has.
    """
    n_layer = checks.integer("n_layer", n_layer, 1, model.config.n_layer)
    draft = copy.copy(model)
    draft.config = replace(model.config, n_layer=n_layer)
    draft.blocks = model.blocks[:n_layer]
    return draft
