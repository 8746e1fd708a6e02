"""What float16 costs: judged by weights that it cannot represent."""

import math
import statistics
from collections.abc import Sequence

import torch
from torch import Tensor

from hardway import GPT2


def logits_of(model: GPT2, ids: Sequence[int], start: int) -> Tensor:
    """Score as decode does: the first ``start`` ids at once, then one at a time."""
    cache = model.new_cache(max_len=len(ids))
    rows = [model(torch.tensor(ids[:start]), cache, last_only=True)]
    rows += [model(torch.tensor([id]), cache) for id in ids[start:-1]]
    return torch.cat(rows)  # [len(ids) - start, n_vocab]


def write(model: GPT2, prompt: Sequence[int], n_new: int) -> Tensor:
    """Continue a prompt greedily; return the scores that each new token had."""
    cache = model.new_cache(max_len=len(prompt) + n_new)
    rows = [model(torch.tensor(prompt), cache, last_only=True)]
    while len(rows) < n_new:
        rows.append(model(rows[-1].argmax(dim=-1), cache))
    return torch.cat(rows)  # [n_new, n_vocab]


def agreement(
    exact: GPT2, rounded: GPT2, prompts: Sequence[list[int]], n_new: int
) -> dict[str, float]:
    """Compare the two on the greedy texts of the exact one.

    The first token on which they disagree is also where greedy texts would part.
    """
    same, wholly, error, spreads = 0, 0, 0.0, []
    for prompt in prompts:
        expected = write(exact, prompt, n_new)
        chosen = expected.argmax(dim=-1)
        found = logits_of(rounded, prompt + chosen.tolist(), len(prompt))
        agree = found.argmax(dim=-1) == chosen
        same += int(agree.sum())
        wholly += bool(agree.all())
        error = max(error, float((found - expected).abs().max()))
        spreads.append(float(expected.std()))
    return {
        "prompts": len(prompts),
        "tokens": n_new,
        "agreeing tokens": same / (len(prompts) * n_new),
        "equal texts": wholly / len(prompts),
        "largest logit error": error,
        "spread of the logits": statistics.mean(spreads),
    }


def bits_per_byte(model: GPT2, ids: Sequence[int], n_bytes: int) -> float:
    """Return the mean surprise, in bits, at each byte of a text, by decoding it."""
    total, window = 0.0, model.config.n_ctx
    for start in range(0, len(ids) - 1, window - 1):
        part = ids[start : start + window]
        logits = logits_of(model, part, 1)
        total -= float(
            logits.log_softmax(dim=-1)
            .gather(1, torch.tensor(part[1:])[:, None])
            .double()
            .sum()
        )
    return total / math.log(2) / n_bytes
