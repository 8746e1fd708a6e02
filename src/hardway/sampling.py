"""Turn logits into the next token: processors, softmax, and a draw.

Papers: Fan et al. 2018 (top-k), Holtzman et al. 2020 (top-p), Keskar et al. 2019 (the
repetition penalty), Nguyen et al. 2024 (min-p).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol, TypedDict, Unpack

import torch
from torch import Tensor

from hardway import checks, inputs
from hardway.attention import softmax

Ids = Sequence[int]
Processor = Callable[[Tensor, Ids, Ids], Tensor]  # logits, prompt, new ids → logits


class Constraint(Protocol):
    """What may be generated; those of `hardway.decoding.constrained` are two.

    n_vocab: that of the model; eot_id: the token that ends a text which is complete.
    """

    n_vocab: int
    eot_id: int

    def allowed(self, new_ids: Ids) -> Tensor:
        """Return which tokens may follow the ids generated so far: bool [n_vocab]."""
        ...

    def within(self, max_new_tokens: int) -> "Constraint":
        """Return the same constraint, for a text of at most so many tokens."""
        ...


class Adjustments(TypedDict, total=False):
    """The options that change logits by what they stand for; none is on by default.

    ``logit_bias`` maps ids to what is added to their logits, from -100 to 100;
    ``constraint`` forbids tokens, and ends a text that is complete. The penalties lower
    the logits of tokens that occur already, the first in prompt or output, the other
    two in the output alone.
    """

    logit_bias: Mapping[int, float] | None
    constraint: Constraint | None
    repetition_penalty: float
    frequency_penalty: float
    presence_penalty: float


def apply_temperature(logits: Tensor, temperature: float) -> Tensor:
    """Divide the logits: below 1 sharpens the distribution, above 1 flattens it.

    logits: [..., n_vocab] → [..., n_vocab]; temperature above 0. The largest logit is
    subtracted first, so that a tiny temperature cannot overflow.
    """
    temperature = checks.number("temperature", temperature, 0, above=True)
    # A smaller number could be taken for 0, and 0 / 0 is NaN.
    temperature = max(temperature, torch.finfo(logits.dtype).tiny)
    return (logits - logits.amax(dim=-1, keepdim=True)) / temperature


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """Top-k: set all but the ``k`` highest logits to minus infinity.

    logits: [..., n_vocab]. Tokens that tie with the k-th are kept, as Hugging Face
    does. Source: Fan et al. 2018.
    """
    k = checks.integer("k", k, 1)
    kth = logits.topk(min(k, logits.shape[-1])).values[..., -1:]
    return logits.masked_fill(logits < kth, -torch.inf)


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """Top-p: keep the most probable tokens, as few as together hold at least ``p``.

    A token stays while the tokens above it hold less than ``p``: the one that crosses
    the line is kept. The other logits [..., n_vocab] become minus infinity. Source:
    Holtzman et al. 2020.
    """
    p = checks.number("p", p, 0, 1, above=True)
    ordered, order = logits.sort()  # ascending: small numbers add up best
    held = softmax(ordered).cumsum(dim=-1)  # by each token and those below it
    remove = held <= 1 - p
    remove[..., -1] = False  # the most probable token stays, whatever rounding says
    return logits.masked_fill(remove.scatter(-1, order, remove), -torch.inf)


def keep_top_p_of_few(logits: Tensor, p: float) -> Tensor:
    """Like `keep_top_p`, but sort only the tokens that could stay.

    Tokens below (1 - p) / (2 · n_vocab) hold less than 1 - p even all together, so each
    of them goes. Of what the others hold, ``p`` is a larger part. Which of several
    equal tokens stays is up to the sort, so where that matters all are sorted.
    """
    if logits.dim() > 1:
        return torch.stack([keep_top_p_of_few(row, p) for row in logits])
    probabilities = softmax(logits)
    is_small = probabilities <= (1 - p) / (2 * len(logits))
    held = 1 - float(probabilities[is_small].sum())  # by the others
    few = logits[~is_small]
    few_kept = keep_top_p(few, p / held)
    lowest = few[few_kept.isfinite()].min()
    if (few == lowest).sum() > (few_kept == lowest).sum():
        return keep_top_p(logits, p)
    return torch.full_like(logits, -torch.inf).masked_scatter(~is_small, few_kept)


def keep_min_p(logits: Tensor, p: float) -> Tensor:
    """Min-p: keep the tokens at least ``p`` times as probable as the most probable one.

    The other logits [..., n_vocab] become minus infinity. Source: Nguyen et al. 2024.
    """
    p = checks.number("p", p, 0, 1)
    probabilities = softmax(logits)
    threshold = p * probabilities.amax(dim=-1, keepdim=True)
    return logits.masked_fill(probabilities < threshold, -torch.inf)


def add_bias(logits: Tensor, bias: Mapping[int, float]) -> Tensor:
    """Add a number to the logits [..., n_vocab] of some tokens."""
    ids = torch.tensor([*bias], device=logits.device)
    values = logits.new_tensor([*bias.values()])
    return logits.index_add(-1, ids, values.expand(*logits.shape[:-1], -1))


def keep_allowed(logits: Tensor, allowed: Tensor) -> Tensor:
    """Set the logits [..., n_vocab] of tokens that aren't allowed to minus infinity.

    allowed: bool [n_vocab].
    """
    return logits.masked_fill(~allowed.to(logits.device), -torch.inf)


def penalize_repetition(logits: Tensor, ids: Ids, penalty: float) -> Tensor:
    """Repetition penalty: make each token that occurs in ``ids`` less probable.

    A positive logit is divided by the penalty, a negative one multiplied, once, however
    often the token occurs. logits: [..., n_vocab]. Source: Keskar et al. 2019.
    """
    seen = torch.tensor(sorted({*ids}), dtype=torch.int64, device=logits.device)
    found = logits[..., seen]
    lowered = torch.where(found < 0, found * penalty, found / penalty)
    return logits.index_copy(-1, seen, lowered)


def penalize_count(
    logits: Tensor, new_ids: Ids, frequency: float, presence: float
) -> Tensor:
    """Frequency and presence penalty: subtract from the tokens generated already.

    ``frequency`` is subtracted once for each time a token occurs in ``new_ids``,
    ``presence`` once if it does. logits: [..., n_vocab]. Source: OpenAI's API.
    """
    ids = torch.tensor(new_ids, dtype=torch.int64, device=logits.device)
    counts = torch.bincount(ids, minlength=logits.shape[-1])
    return logits - (counts * frequency + (counts > 0) * presence).to(logits.dtype)


def sample(probabilities: Tensor, u: float) -> int:
    """Inverse-CDF sampling: return the token whose interval contains ``u``.

    probabilities: [n_vocab]; u: from 0 to below 1. A token of probability 0 is never
    returned. The sum runs in float64, which not every device has, so on the CPU.
    """
    ends = probabilities.cpu().double().cumsum(dim=-1)
    return int(torch.searchsorted(ends, u * ends[-1], right=True))


def logits_processors(
    temperature: float, top_k: int | None, top_p: float | None, min_p: float | None
) -> Iterator[Processor]:
    """Yield the processors that the options ask for: temperature, top-k, top-p, min-p.

    Their order is fixed here, and nowhere else. Raises `ValueError` for an option out
    of range.
    """
    if t := checks.number("temperature", temperature, 0):
        yield lambda logits, *_: apply_temperature(logits, t)
    if top_k is not None:
        k = checks.integer("top_k", top_k, 1, note=" or None")
        yield lambda logits, *_: keep_top_k(logits, k)
    if top_p is not None:
        p = checks.number("top_p", top_p, 0, 1, above=True, note=" or None")
        yield lambda logits, *_: keep_top_p_of_few(logits, p)
    if min_p is not None:
        m = checks.number("min_p", min_p, 0, 1, note=" or None")
        yield lambda logits, *_: keep_min_p(logits, m)


def adjustments(
    logit_bias: Mapping[int, float] | None = None,
    constraint: Constraint | None = None,
    repetition_penalty: float = 1.0,
    frequency_penalty: float = 0.0,
    presence_penalty: float = 0.0,
) -> Iterator[Processor]:
    """Yield the processors of `Adjustments`, which run before all others.

    Raises `ValueError` for an option out of range.
    """
    inputs.check_constraint(constraint)
    if constraint is not None:
        allowed = constraint.allowed
        yield lambda logits, prompt_ids, new_ids: keep_allowed(logits, allowed(new_ids))
    if bias := inputs.check_bias(logit_bias):
        yield lambda logits, *_: add_bias(logits, bias)
    # Beyond this range, a logit could become infinite, or 0 / 0.
    r = checks.number("repetition_penalty", repetition_penalty, 0.01, 100)
    if r != 1:
        yield lambda logits, prompt_ids, new_ids: penalize_repetition(
            logits, [*prompt_ids, *new_ids], r
        )
    f = checks.number("frequency_penalty", frequency_penalty, -2, 2)
    p = checks.number("presence_penalty", presence_penalty, -2, 2)
    if f or p:
        yield lambda logits, prompt_ids, new_ids: penalize_count(logits, new_ids, f, p)


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
        min_p: float | None = None,
        **others: Unpack[Adjustments],
    ) -> None:
        """Compose the processors; ``seed`` makes the draws repeatable."""
        self.processors = list(adjustments(**others))
        constraint = others.get("constraint")
        self.stop_ids = {constraint.eot_id} if constraint is not None else set[int]()
        keep_the_highest = list(logits_processors(temperature, top_k, top_p, min_p))
        self.is_greedy = float(temperature) == 0
        if not self.is_greedy:
            self.processors += keep_the_highest
        self.generator = torch.Generator("cpu")
        if seed is None:
            self.generator.seed()
        else:
            seed = checks.integer("seed", seed, 0, 2**63 - 1, " or None")
            self.generator.manual_seed(seed)

    def process(
        self,
        logits: Tensor,
        prompt_ids: Sequence[int] = (),
        new_ids: Ids = (),
    ) -> Tensor:
        """Run the logits [..., n_vocab] through every processor, in order.

        prompt_ids, new_ids: the prompt, and the tokens generated since.
        """
        for processor in self.processors:
            logits = processor(logits, prompt_ids, new_ids)
        return logits

    def probabilities(
        self,
        logits: Tensor,
        prompt_ids: Sequence[int] = (),
        new_ids: Ids = (),
    ) -> Tensor:
        """Return the distribution that the next token is drawn from.

        logits: [..., n_vocab] → [..., n_vocab]; greedy has all in one place.
        """
        logits = self.process(logits, prompt_ids, new_ids)
        if self.is_greedy:
            highest = logits.argmax(dim=-1, keepdim=True)
            return torch.zeros_like(logits).scatter(-1, highest, 1.0)
        return softmax(logits)

    def choose(self, logits: Tensor, prompt_ids: Ids = (), new_ids: Ids = ()) -> int:
        """Choose a token by its logits [n_vocab]; greedy takes the first of equals."""
        if self.is_greedy:
            return int(self.process(logits, prompt_ids, new_ids).argmax())
        return self.draw(self.probabilities(logits, prompt_ids, new_ids))

    def draw(self, probabilities: Tensor) -> int:
        """Draw an index by its probability [n], with the next random number."""
        u = torch.rand((), generator=self.generator, dtype=torch.float64, device="cpu")
        return sample(probabilities, u.item())
