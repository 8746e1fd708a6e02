"""Autoregressive decoding: choose the next token, append it, go on."""

import codecs
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Protocol, TypedDict, Unpack

import torch
from torch import Tensor

from hardway import checks, inputs
from hardway.inputs import ModelConfig
from hardway.kv_cache import KVCache
from hardway.sampling import Sampler
from hardway.tokenizer import Tokenizer


class LanguageModel(Protocol):
    """What generation needs of a model; `hardway.model.GPT2` is one."""

    @property
    def config(self) -> ModelConfig: ...  # noqa: D102

    def __call__(
        self, tokens: Tensor, cache: KVCache | None = None,
        last_only: bool = False, n_pad: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """Return the logits of the next token, after each position."""
        ...

    def new_cache(self, batch_size: int = 1, max_len: int | None = None) -> KVCache:
        """Return an empty KV cache, on the model's device, in its dtype."""
        ...


class Sampling(TypedDict, total=False):
    """How each token is chosen: the arguments of `hardway.sampling.Sampler`."""

    temperature: float
    top_k: int | None
    top_p: float | None
    seed: int | None


class Options(Sampling, total=False):
    """The options of generation: how to choose, with or without cache, where to stop.

    ``use_cache=False`` recomputes the whole text for every token. The first of
    ``stop_ids`` ends a sequence and is left out.
    """

    use_cache: bool
    stop_ids: Collection[int]


def generate(
    model: LanguageModel,
    prompt_ids: Iterable[int],
    max_new_tokens: int,
    **options: Unpack[Options],
) -> list[int]:
    """Continue a prompt: return up to ``max_new_tokens`` new ids.

    The options are those of `Options`; temperature 0, the default, is greedy. Raises
    `ValueError`, before any work, for an argument out of range.
    """
    return list(stream(model, prompt_ids, max_new_tokens, **options))


def stream(
    model: LanguageModel,
    prompt_ids: Iterable[int],
    max_new_tokens: int,
    **options: Unpack[Options],
) -> Iterator[int]:
    """Do what `generate` does, one id at a time; arguments are checked at the call."""
    steps = decode(model, [prompt_ids], max_new_tokens, **options)
    return (id for _, id in steps)


def stream_text(
    model: LanguageModel,
    tokenizer: Tokenizer,
    prompt: str,
    max_new_tokens: int,
    **options: Unpack[Options],
) -> Iterator[str]:
    """Do what `stream` does, in text: pieces of whole characters, never half of one."""
    ids = stream(model, tokenizer.encode(prompt), max_new_tokens, **options)
    return decode_stream(tokenizer, ids)


def generate_batch(
    model: LanguageModel,
    prompts: Iterable[Iterable[int]],
    max_new_tokens: int,
    **options: Unpack[Options],
) -> list[list[int]]:
    """Continue prompts of any lengths at once, each as `generate` would alone.

    (With weights of half the precision a text alone is rounded more often than in a
    batch, and where two tokens are nearly tied the two may part.) Raises `ValueError`
    as `generate` does, and where a tensor would take more than
    ``hardway.inputs.MAX_BYTES``.
    """
    prompts = [list(prompt) for prompt in prompts]
    written: list[list[int]] = [[] for _ in prompts]
    for sequence, id in decode(model, prompts, max_new_tokens, **options):
        written[sequence].append(id)
    return written


def decode(
    model: LanguageModel,
    prompts: Iterable[Iterable[int]],
    max_new_tokens: int,
    *,
    use_cache: bool = True,
    stop_ids: Collection[int] = (),
    **sampling: Unpack[Sampling],
) -> Iterator[tuple[int, int]]:
    """Check the arguments, then yield each new id with the number of its prompt."""
    max_new_tokens = checks.integer("max_new_tokens", max_new_tokens)
    stops = set(checks.ids("stop_ids", stop_ids, model.config.n_vocab))
    texts = [inputs.prompt(ids, max_new_tokens, model.config) for ids in prompts]
    Sampler(**sampling)  # checks the options, even where there is no prompt
    samplers = [Sampler(**sampling) for _ in texts]  # with one seed, all the same
    if use_cache:
        return cached_steps(model, texts, max_new_tokens, samplers, stops)
    return (
        (sequence, id)
        for sequence, (ids, sampler) in enumerate(zip(texts, samplers, strict=True))
        for id in uncached_steps(model, ids, max_new_tokens, sampler, stops)
    )


def uncached_steps(
    model: LanguageModel,
    ids: list[int],
    max_new_tokens: int,
    sampler: Sampler,
    stops: Collection[int],
) -> Iterator[int]:
    """Plain loop: every token runs the whole text through the model again."""
    for step in range(max_new_tokens):
        logits = model(torch.tensor(ids), last_only=True)[-1]
        inputs.finite_logits(logits, step)
        id = sampler.choose(logits, ids)
        if id in stops:
            return
        ids.append(id)
        yield id


def cached_steps(
    model: LanguageModel,
    texts: Sequence[list[int]],
    max_new_tokens: int,
    samplers: Sequence[Sampler],
    stops: Collection[int],
) -> Iterator[tuple[int, int]]:
    """Loop with a KV cache: the prompts once, then one token per sequence and step."""
    if not texts:
        return
    tokens, n_pad = pad_left(texts)
    cache = model.new_cache(len(texts), tokens.shape[1] + max_new_tokens)
    writing = set(range(len(texts)))
    for step in range(max_new_tokens):
        logits = model(tokens, cache, last_only=True, n_pad=n_pad)[:, -1]
        inputs.finite_logits(logits, step, writing)
        for sequence in sorted(writing):
            ids = texts[sequence]
            ids.append(samplers[sequence].choose(logits[sequence], ids))
            if ids[-1] in stops:
                writing.remove(sequence)
            else:
                yield sequence, ids[-1]
        if not writing:
            return
        tokens = torch.tensor([ids[-1:] for ids in texts])


def pad_left(texts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor | None]:
    """Pad sequences at the left, so that all end, and grow, at the same place.

    Returns tokens [B, T] and how many of each row are padding [B], or None where no
    row has any.
    """
    longest = max(map(len, texts))
    n_pad = [longest - len(ids) for ids in texts]
    tokens = [[0] * pad + [*ids] for pad, ids in zip(n_pad, texts, strict=True)]
    return torch.tensor(tokens), torch.tensor(n_pad) if any(n_pad) else None


def decode_stream(tokenizer: Tokenizer, ids: Iterable[int]) -> Iterator[str]:
    """Decode ids one by one, holding back bytes until a character is whole.

    A character can be spread over several tokens.
    """
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    for id in ids:
        if text := decoder.decode(tokenizer.decode_bytes([id])):
            yield text
    if text := decoder.decode(b"", final=True):
        yield text
