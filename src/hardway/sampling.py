"""Turn logits into the next token: processors, softmax, and a draw.

Papers: Fan et al. 2018 (top-k), Holtzman et al. 2020 (top-p).
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from hardway import checks
from hardway.attention import softmax

Processor = Callable[[Tensor, Sequence[int]], Tensor]  # logits, ids so far → logits


def apply_temperature(logits: Tensor, temperature: float) -> Tensor:
    """Divide the logits: below 1 sharpens the distribution, above 1 flattens it.

    logits: [..., n_vocab] → [..., n_vocab]; temperature above 0. The largest logit is
    subtracted first, so that a tiny temperature cannot overflow.
    """
    # A smaller number could be taken for 0, and 0 / 0 is NaN.
    temperature = max(temperature, torch.finfo(logits.dtype).tiny)
    return (logits - logits.amax(dim=-1, keepdim=True)) / temperature


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """Top-k: set all but the ``k`` highest logits to minus infinity.

    logits: [..., n_vocab]. Tokens that tie with the k-th are kept, as Hugging Face
    does. Source: Fan et al. 2018.
    """
    kth = logits.topk(min(k, logits.shape[-1])).values[..., -1:]
    return logits.masked_fill(logits < kth, -torch.inf)


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """Top-p: keep the most probable tokens, as few as together hold at least ``p``.

    A token stays while the tokens above it hold less than ``p``: the one that crosses
    the line is kept. The other logits [..., n_vocab] become minus infinity. Source:
    Holtzman et al. 2020.
    """
    ordered, order = logits.sort()  # ascending: small numbers add up best
    held = softmax(ordered).cumsum(dim=-1)  # by each token and those below it
    remove = held <= 1 - p
    remove[..., -1] = False  # the most probable token stays, whatever rounding says
    return logits.masked_fill(remove.scatter(-1, order, remove), -torch.inf)


def sample(probabilities: Tensor, u: float) -> int:
    """Inverse-CDF sampling: return the token whose interval contains ``u``.

    probabilities: [n_vocab]; u: from 0 to below 1. A token of probability 0 is never
    returned. The sum runs in float64, which not every device has, so on the CPU.
    """
    ends = probabilities.cpu().double().cumsum(dim=-1)
    return int(torch.searchsorted(ends, u * ends[-1], right=True))


def logits_processors(
    temperature: float, top_k: int | None, top_p: float | None
) -> Iterator[Processor]:
    """Yield the processors that the options ask for: temperature, top-k, top-p.

    Their order is fixed here, and nowhere else. Raises `ValueError` for an option out
    of range.
    """
    if t := checks.number("temperature", temperature, 0):
        yield lambda logits, ids: apply_temperature(logits, t)
    if top_k is not None:
        k = checks.integer("top_k", top_k, 1, note=" or None")
        yield lambda logits, ids: keep_top_k(logits, k)
    if top_p is not None:
        p = checks.number("top_p", top_p, 0, 1, above=True, note=" or None")
        yield lambda logits, ids: keep_top_p(logits, p)


class Sampler:
    """Choose the tokens of one sequence: processors, softmax, draw.

    Temperature 0 is greedy: it takes the highest logit. Raises `ValueError` for an
    option out of range.
    """

    def __init__(
        self,
        temperature: float = 0.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | None = None,
    ) -> None:
        """Compose the processors; ``seed`` makes the draws repeatable."""
        processors = list(logits_processors(temperature, top_k, top_p))
        self.is_greedy = float(temperature) == 0
        self.processors = [] if self.is_greedy else processors  # all keep the highest
        self.generator = torch.Generator()
        if seed is None:
            self.generator.seed()
        else:
            seed = checks.integer("seed", seed, 0, 2**63 - 1, " or None")
            self.generator.manual_seed(seed)

    def process(self, logits: Tensor, ids: Sequence[int] = ()) -> Tensor:
        """Run the logits [..., n_vocab] through every processor, in order.

        ids: the tokens of the sequence so far.
        """
        for processor in self.processors:
            logits = processor(logits, ids)
        return logits

    def probabilities(self, logits: Tensor, ids: Sequence[int] = ()) -> Tensor:
        """Return the distribution that the next token is drawn from.

        logits: [..., n_vocab] → [..., n_vocab]; greedy has all in one place.
        """
        logits = self.process(logits, ids)
        if self.is_greedy:
            highest = logits.argmax(dim=-1, keepdim=True)
            return torch.zeros_like(logits).scatter(-1, highest, 1.0)
        return softmax(logits)

    def choose(self, logits: Tensor, ids: Sequence[int] = ()) -> int:
        """Choose a token by its logits [n_vocab]; greedy takes the first of equals."""
        if self.is_greedy:
            return int(self.process(logits, ids).argmax())
        u = torch.rand((), generator=self.generator, dtype=torch.float64).item()
        return sample(self.probabilities(logits, ids), u)
