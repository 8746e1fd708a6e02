"""Autoregressive decoding: choose the next token, append it, go on."""

import codecs
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import partial
from typing import Protocol, Unpack

import torch
from torch import Tensor

from hardway import checks, inputs
from hardway.inputs import ModelConfig
from hardway.kv_cache import KVCache
from hardway.sampling import Adjustments, Sampler
from hardway.tokenizer import Tokenizer


class LanguageModel(Protocol):
    """The model interface that generation relies on; `hardway.model.GPT2` has it.

    Generation calls it in torch's inference mode: a tensor that the model makes there,
    and keeps, can't be changed in place, or learned through, outside of it.
    """

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


class Sampling(Adjustments, total=False):
    """How each token is chosen: the arguments of `hardway.sampling.Sampler`."""

    temperature: float
    top_k: int | None
    top_p: float | None
    min_p: float | None
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
    """Like `generate`, one id at a time; the arguments are checked at the call."""
    steps = decode_steps(model, [prompt_ids], max_new_tokens, **options)
    return (id for _, id in steps)


def stream_text(
    model: LanguageModel,
    tokenizer: Tokenizer,
    prompt: str,
    max_new_tokens: int,
    *,
    stop: str | Iterable[str] = (),
    **options: Unpack[Options],
) -> Iterator[str]:
    """Like `stream`, but yield text: complete characters, never half of one.

    The text ends before the first of the strings in ``stop``. Raises `ValueError` for
    an empty prompt or stop string, and for a tokenizer that is not the model's.
    """
    stop = inputs.check_stop(stop)
    model = inputs.fit_vocabulary(model, tokenizer.n_vocab)
    prompt_ids = tokenizer.encode(checks.not_empty("prompt", prompt))
    ids = stream(model, prompt_ids, max_new_tokens, **options)
    return stop_at(decode_stream(tokenizer, ids), stop)


def generate_batch(
    model: LanguageModel,
    prompts: Iterable[Iterable[int]],
    max_new_tokens: int,
    **options: Unpack[Options],
) -> list[list[int]]:
    """Continue prompts of any lengths at once, each as `generate` would alone.

    In half precision, a lone sequence may be rounded differently from a batch, so that
    near-ties can diverge. With ``use_cache=False`` the prompts run one after another.
    Raises `ValueError` as `generate` does, and where a tensor would take more than
    ``hardway.inputs.MAX_BYTES``.
    """
    prompts = list(checks.items("prompts", prompts))
    written: list[list[int]] = [[] for _ in prompts]
    for i, id in decode_steps(model, prompts, max_new_tokens, **options):
        written[i].append(id)
    return written


def decode_steps(
    model: LanguageModel,
    prompts: Iterable[Iterable[int]],
    max_new_tokens: int,
    *,
    use_cache: bool = True,
    stop_ids: Collection[int] = (),
    **sampling: Unpack[Sampling],
) -> Iterator[tuple[int, int]]:
    """Check the arguments, then yield each new id with the index of its prompt."""
    max_new_tokens = checks.integer("max_new_tokens", max_new_tokens)
    stops = set(checks.token_ids("stop_ids", stop_ids, model.config.n_vocab))
    sequences = [
        inputs.check_prompt(ids, max_new_tokens, model.config)
        for ids in checks.items("prompts", prompts)
    ]
    make = partial(new_sampler, model.config, max_new_tokens, **sampling)
    stops |= make().stop_ids  # checks the options, even where there is no prompt
    samplers = [make() for _ in sequences]  # with one seed, all the same
    if use_cache:
        return cached_steps(model, sequences, max_new_tokens, samplers, stops)
    return (
        (i, id)
        for i, (ids, sampler) in enumerate(zip(sequences, samplers, strict=True))
        for id in uncached_steps(model, ids, max_new_tokens, sampler, stops)
    )


def new_sampler(
    config: ModelConfig, max_new_tokens: int, **sampling: Unpack[Sampling]
) -> Sampler:
    """Make the sampler of one text, of at most ``max_new_tokens``.

    Raises `ValueError` for an option out of range, or of another vocabulary.
    """
    constraint = sampling.get("constraint")
    inputs.check_options(config.n_vocab, sampling.get("logit_bias"), constraint)
    if constraint is not None:
        sampling["constraint"] = constraint.within(max_new_tokens)
    return Sampler(**sampling)


def uncached_steps(
    model: LanguageModel,
    prompt_ids: Sequence[int],
    max_new_tokens: int,
    sampler: Sampler,
    stops: Collection[int],
) -> Iterator[int]:
    """Plain loop: every token runs the whole text through the model again."""
    new_ids: list[int] = []
    for step in range(max_new_tokens):
        tokens = torch.tensor([*prompt_ids, *new_ids], device="cpu")
        logits = infer(model, tokens, last_only=True)[-1]
        inputs.check_finite_logits(logits, step)
        id = sampler.choose(logits, prompt_ids, new_ids)
        if id in stops:
            return
        new_ids.append(id)
        yield id


def infer(
    model: LanguageModel, tokens: Tensor, cache: KVCache | None = None,
    last_only: bool = False, n_pad: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Call the model without keeping anything for gradients.

    The logits are copied, because a tensor made in inference mode can't be changed in
    place outside of it, as a sampler's processor may.
    """
    with torch.inference_mode():
        logits = model(tokens, cache, last_only=last_only, n_pad=n_pad)
    return logits.clone()


def cached_steps(
    model: LanguageModel, prompts: Sequence[Sequence[int]], max_new_tokens: int,
    samplers: Sequence[Sampler], stops: Collection[int], cache: KVCache | None = None,
) -> Iterator[tuple[int, int]]:  # fmt: skip
    """Loop with a KV cache: the prompts once, then one token per sequence and step.

    A ``cache`` that already holds the beginning of the prompts saves processing it.
    """
    new_ids: list[list[int]] = [[] for _ in prompts]
    active = set(range(len(prompts)) if max_new_tokens else ())
    if not active:
        return
    tokens, n_pad = pad_left(prompts)
    cache = cache or model.new_cache(len(prompts), tokens.shape[1] + max_new_tokens)
    tokens = tokens[:, cache.length :]
    for step in range(max_new_tokens):
        logits = infer(model, tokens, cache, last_only=True, n_pad=n_pad)[:, -1]
        inputs.check_finite_logits(logits, step, active)
        for i in sorted(active):
            new_ids[i].append(samplers[i].choose(logits[i], prompts[i], new_ids[i]))
            if new_ids[i][-1] in stops:
                active.remove(i)
            else:
                yield i, new_ids[i][-1]
        if not active:
            return
        tokens = torch.tensor([ids[-1:] for ids in new_ids], device="cpu")


def pad_left(sequences: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor | None]:
    """Left-pad sequences to equal length, so that all end, and grow, at one place.

    Returns tokens [B, T] and how many of each row are padding [B], or None where no
    row has any.
    """
    longest = max(map(len, sequences))
    n_pad = [longest - len(ids) for ids in sequences]
    tokens = [[0] * pad + [*ids] for pad, ids in zip(n_pad, sequences, strict=True)]
    padding = torch.tensor(n_pad, device="cpu") if any(n_pad) else None
    return torch.tensor(tokens, device="cpu"), padding


def decode_stream(tokenizer: Tokenizer, ids: Iterable[int]) -> Iterator[str]:
    """Decode ids one by one, holding back bytes until a character is complete.

    A character can be spread over several tokens.
    """
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    for id in ids:
        if text := decoder.decode(tokenizer.decode_bytes([id])):
            yield text
    if text := decoder.decode(b"", final=True):
        yield text


def stop_at(pieces: Iterable[str], stop: Collection[str]) -> Iterator[str]:
    """Pass a text on until one of the ``stop`` strings is complete in it.

    What may be the beginning of one is held back, so that no part of it is ever
    yielded. Where one piece of the text ends and the next begins makes no difference.
    """
    text = ""  # not yielded yet
    for piece in pieces:
        for character in piece:
            text += character
            if found := [end for end in stop if text.endswith(end)]:
                if before := text.removesuffix(max(found, key=len)):
                    yield before
                return
        n = len(text) - n_held_back(text, stop)
        if n:
            yield text[:n]
        text = text[n:]
    if text:
        yield text


def n_held_back(text: str, stop: Iterable[str]) -> int:
    """Return how many of the last characters may be the beginning of a stop string.

    >>> n_held_back("to be or", ["orange", "be"])
    2
    """
    beginnings = (end[:n] for end in stop for n in range(len(end)))
    return max((len(start) for start in beginnings if text.endswith(start)), default=0)
