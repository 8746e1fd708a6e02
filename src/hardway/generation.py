"""Write: choose the next token, append it, go on (chapters 7 and 8).

Paper for top-p: Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration".
"""

import codecs
import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hardway.attention import softmax
from hardway.fast import computing_dtype
from hardway.kv_cache import KVCache
from hardway.model import GPT2
from hardway.tokenizer import Tokenizer


def apply_temperature(logits: Tensor, temperature: float) -> Tensor:
    """Divide the logits: below 1 sharpens the distribution, above 1 flattens it.

    logits: [..., n_vocab] → [..., n_vocab]; temperature above 0. The largest logit is
    subtracted first, so that a tiny temperature cannot overflow. Chapter 7.
    """
    # A smaller number could be taken for 0, and 0 / 0 is NaN.
    temperature = max(temperature, torch.finfo(logits.dtype).tiny)
    return (logits - logits.amax(dim=-1, keepdim=True)) / temperature


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """Set all but the ``k`` highest logits [..., n_vocab] to minus infinity.

    Tokens that tie with the k-th are kept, as Hugging Face does. Chapter 7; Fan et al.
    2018.
    """
    kth = logits.topk(min(k, logits.shape[-1])).values[..., -1:]
    return logits.masked_fill(logits < kth, -torch.inf)


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """Keep the most probable tokens, as few as together hold at least ``p``.

    A token stays while the tokens above it hold less than ``p``: the one that crosses
    the line is kept. The other logits [..., n_vocab] become minus infinity. Chapter 7;
    Holtzman et al. 2020.
    """
    ordered, order = logits.sort()  # ascending: small numbers add up best
    held = softmax(ordered).cumsum(dim=-1)  # by each token and those below it
    remove = held <= 1 - p
    remove[..., -1] = False  # the most probable token stays, whatever rounding says
    return logits.masked_fill(remove.scatter(-1, order, remove), -torch.inf)


def next_token_probabilities(
    logits: Tensor,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Tensor:
    """Return the distribution that the next token is drawn from.

    The order is temperature, top-k, top-p, softmax.
    logits: [..., n_vocab] → [..., n_vocab]; temperature above 0. Chapter 7.
    """
    logits = apply_temperature(logits, temperature)
    if top_k is not None:
        logits = keep_top_k(logits, top_k)
    if top_p is not None:
        logits = keep_top_p(logits, top_p)
    return softmax(logits)


def draw(probabilities: Tensor, u: float) -> int:
    """Return the token on which ``u`` falls when the probabilities lie side by side.

    probabilities: [n_vocab]; u: from 0 to below 1. A token of probability 0 is never
    drawn. Chapter 7.
    """
    ends = probabilities.double().cumsum(dim=-1)
    return int(torch.searchsorted(ends, u * ends[-1], right=True))


@dataclass(frozen=True)
class Sampler:
    """How to choose a token from logits; temperature 0 takes the highest. Chapter 7.

    Raises `ValueError` for an argument out of range, naming it.
    """

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        t = self.temperature
        if not _is_number(t) or not 0 <= t < math.inf:
            raise ValueError(
                f"temperature must be a finite number from 0 on, not {t!r}"
            )
        if self.top_k is not None and not (_is_whole(self.top_k) and self.top_k >= 1):
            raise ValueError(
                f"top_k must be None or a whole number from 1 on, not {self.top_k!r}"
            )
        if self.top_p is not None and not (
            _is_number(self.top_p) and 0 < self.top_p <= 1
        ):
            raise ValueError(
                f"top_p must be None or above 0 and at most 1, not {self.top_p!r}"
            )
        if self.seed is not None and not (
            _is_whole(self.seed) and 0 <= self.seed < 2**63
        ):
            raise ValueError(
                f"seed must be None or from 0 to 2^63 - 1, not {self.seed!r}"
            )

    def generator(self) -> torch.Generator:
        """Return a source of random numbers, the same for one seed. Chapter 7."""
        generator = torch.Generator()
        if self.seed is None:
            generator.seed()
        else:
            generator.manual_seed(self.seed)
        return generator

    def choose(self, logits: Tensor, generator: torch.Generator) -> int:
        """Choose by logits [n_vocab]; greedy takes the first of equals. Chapter 7."""
        if self.temperature == 0:
            return int(logits.argmax())
        probabilities = next_token_probabilities(
            logits, self.temperature, self.top_k, self.top_p
        )
        return draw(
            probabilities,
            torch.rand((), generator=generator, dtype=torch.float64).item(),
        )


def generate(
    model: GPT2,
    prompt_ids: Sequence[int],
    max_new_tokens: int,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int | None = None,
    use_cache: bool = True,
    stop_ids: Collection[int] = (),
) -> list[int]:
    """Continue a prompt: return up to ``max_new_tokens`` new ids.

    The first of ``stop_ids`` ends them and is left out. Temperature 0 is greedy.
    Otherwise the order is temperature, top-k, top-p, softmax, draw. Raises
    `ValueError`, before any work, for an argument out of range. Chapter 7.
    """
    return list(
        stream(
            model,
            prompt_ids,
            max_new_tokens,
            temperature,
            top_k,
            top_p,
            seed,
            use_cache,
            stop_ids,
        )
    )


def stream(
    model: GPT2,
    prompt_ids: Sequence[int],
    max_new_tokens: int,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int | None = None,
    use_cache: bool = True,
    stop_ids: Collection[int] = (),
) -> Iterator[int]:
    """Do what `generate` does, one id at a time, checking at the call. Chapter 7."""
    sampler = Sampler(temperature, top_k, top_p, seed)
    check_lengths(model, prompt_ids, max_new_tokens)
    check_ids("stop_ids", stop_ids, model.config.n_vocab)
    steps = _cached_steps if use_cache else _uncached_steps
    return _until(
        steps(model, list(prompt_ids), max_new_tokens, sampler), set(stop_ids)
    )


def _uncached_steps(
    model: GPT2, ids: list[int], max_new_tokens: int, sampler: Sampler
) -> Iterator[int]:
    """The plain loop: every token runs the whole text through the model again."""
    generator = sampler.generator()
    for step in range(max_new_tokens):
        logits = model(torch.tensor(ids), last_only=True)[-1]
        check_finite(logits, step)
        ids.append(sampler.choose(logits, generator))
        yield ids[-1]


def _cached_steps(
    model: GPT2, ids: list[int], max_new_tokens: int, sampler: Sampler
) -> Iterator[int]:
    """The loop with a cache: the prompt once, then one token at a time."""
    generator = sampler.generator()
    if max_new_tokens == 0:
        return
    dtype = computing_dtype(model.weights["wte.weight"].dtype)
    cache = KVCache(model.config, max_len=len(ids) + max_new_tokens, dtype=dtype)
    new = ids
    for step in range(max_new_tokens):
        logits = model(torch.tensor(new), cache, last_only=True)[-1]
        check_finite(logits, step)
        new = [sampler.choose(logits, generator)]
        yield new[0]


def _until(ids: Iterator[int], stop_ids: set[int]) -> Iterator[int]:
    for id in ids:
        if id in stop_ids:
            return
        yield id


def stream_text(
    model: GPT2,
    tokenizer: Tokenizer,
    prompt: str,
    max_new_tokens: int,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int | None = None,
    use_cache: bool = True,
    stop_ids: Collection[int] = (),
) -> Iterator[str]:
    """Do what `stream` does in text: pieces of whole characters, never half of one.

    A character can be spread over several tokens; its bytes wait until it is complete.
    Chapter 7.
    """
    ids = stream(
        model,
        tokenizer.encode(prompt),
        max_new_tokens,
        temperature,
        top_k,
        top_p,
        seed,
        use_cache,
        stop_ids,
    )
    return whole_characters(tokenizer, ids)


def whole_characters(tokenizer: Tokenizer, ids: Iterable[int]) -> Iterator[str]:
    """Turn ids into text, holding back bytes until a character is whole. Chapter 7."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    for id in ids:
        if text := decoder.decode(tokenizer.decode_bytes([id])):
            yield text
    if text := decoder.decode(b"", final=True):
        yield text


def generate_batch(
    model: GPT2,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int | None = None,
    use_cache: bool = True,
    stop_ids: Collection[int] = (),
) -> list[list[int]]:
    """Continue prompts of any lengths at once, each as `generate` would alone.

    Short prompts are padded at the left, so that every sequence ends, and grows, at the
    same place. (With weights of half the precision a text alone is rounded more often
    than in a batch, and where two tokens are nearly tied the two may part.) Raises
    `ValueError` as `generate` does, and where the cache, a layer's attention weights or
    the logits would take more than 8 GiB; ``MAX_BYTES`` of `hardway.kv_cache` is that
    bound, and may be raised. Chapter 7.
    """
    sampler = Sampler(temperature, top_k, top_p, seed)
    for prompt in prompts:
        check_lengths(model, prompt, max_new_tokens)
    check_ids("stop_ids", stop_ids, model.config.n_vocab)
    if not prompts or max_new_tokens == 0:
        return [[] for _ in prompts]
    longest = max(map(len, prompts))
    n_pad = torch.tensor([longest - len(prompt) for prompt in prompts])
    tokens = torch.tensor(
        [[0] * (longest - len(prompt)) + list(prompt) for prompt in prompts]
    )
    cache = None
    if use_cache:
        dtype = computing_dtype(model.weights["wte.weight"].dtype)
        cache = KVCache(model.config, len(prompts), longest + max_new_tokens, dtype)
    generators = [sampler.generator() for _ in prompts]
    columns: list[list[int]] = []
    stopped = torch.zeros(len(prompts), dtype=torch.bool)
    ends = torch.tensor(list(stop_ids), dtype=torch.int64)
    for step in range(max_new_tokens):
        logits = model(tokens, cache, last_only=True, n_pad=n_pad)[:, -1]
        logits = logits.masked_fill(stopped[:, None], 0)  # what follows is not kept
        check_finite(logits, step)
        columns.append(
            [sampler.choose(*row) for row in zip(logits, generators, strict=True)]
        )
        new = torch.tensor(columns[-1])[:, None]
        tokens = new if use_cache else torch.cat([tokens, new], dim=1)
        stopped |= torch.isin(new[:, 0], ends)
        if stopped.all():
            break
    return [
        list(_until(iter(row), set(stop_ids))) for row in zip(*columns, strict=True)
    ]


def check_lengths(model: GPT2, prompt_ids: Sequence[int], max_new_tokens: int) -> None:
    """Raise `ValueError` unless prompt and new tokens fit the model. Chapter 7."""
    config = model.config
    if not _is_whole(max_new_tokens) or max_new_tokens < 0:
        raise ValueError(
            f"max_new_tokens must be a whole number from 0 on, not {max_new_tokens!r}"
        )
    if len(prompt_ids) == 0:
        raise ValueError(
            "prompt_ids must hold at least one id; the end-of-text id will do"
        )
    check_ids("prompt_ids", prompt_ids, config.n_vocab)
    if len(prompt_ids) + max_new_tokens > config.n_ctx:
        raise ValueError(
            f"a prompt of {len(prompt_ids)} ids and max_new_tokens = {max_new_tokens} "
            f"are more than the model's n_ctx = {config.n_ctx} positions"
        )


def check_ids(name: str, ids: Iterable[int], n_vocab: int) -> None:
    """Raise `ValueError` for an id that the vocabulary does not hold. Chapter 7."""
    for id in ids:
        if not _is_whole(id) or not 0 <= id < n_vocab:
            raise ValueError(
                f"{name} must be whole numbers from 0 to {n_vocab - 1}, not {id!r}"
            )


def check_finite(logits: Tensor, step: int) -> None:
    """Raise `ValueError` for NaN or infinite logits: argmax would choose the NaN.

    logits: [n_vocab], or [B, n_vocab] for a batch; step: how many tokens are chosen
    already. The message says which token could not be, and for which prompt. Chapter 7.
    """
    damaged = ~torch.isfinite(logits).all(dim=-1)  # [] or [B]
    if damaged.any():
        prompt = f" of prompts[{int(damaged.nonzero()[0])}]" if damaged.dim() else ""
        raise ValueError(
            f"the logits for new token {step + 1}{prompt} hold NaN or infinity; "
            "look for them in the model's weights"
        )


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
