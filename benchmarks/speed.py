"""Decode, prefill, batches and the growth of the text, beside other programs.

Every function returns runs: what is measured, by name, as calls that return a number.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import ctranslate2
import torch
import transformers
from ctranslate2.converters import TransformersConverter
from torch import Tensor

import hardway
from hardway import GPT2, hub
from hardway.fast import FastGPT2, gpt2, linear
from hardway.generation import LanguageModel, infer
from llama_cpp_peer import LlamaCpp, write_gpt2
from measure import clock

Runs = dict[str, Callable[[], float]]
NEW = 64
PROMPT = 32
GGUF_KINDS = ("F16", "Q8_0", "Q4_0")


@contextmanager
def only_matmul(onednn: bool) -> Iterator[None]:
    """Use one product for all matrices, whatever their layout suggests."""
    with (
        patch.object(gpt2, "linear", linear.matmul),
        patch.object(linear, "HAS_ONEDNN", onednn),
    ):
        yield


def steps(run: Callable[[LanguageModel], float], peers: "Peers") -> Runs:
    """Measure what each step from the taught model to the fast one brings."""

    def with_matmul(onednn: bool) -> float:
        with only_matmul(onednn):
            return run(peers.float32)

    return {
        "hardway, taught block": lambda: run(peers.taught),
        "hardway, large steps": lambda: with_matmul(onednn=False),
        "hardway, oneDNN": lambda: with_matmul(onednn=True),
        "hardway float32": lambda: run(peers.float32),
        "hardway float16": lambda: run(peers.float16),
        "hardway bfloat16": lambda: run(peers.bfloat16),
        "hardway int8": lambda: run(peers.int8),
        "hardway int4": lambda: run(peers.int4),
    }


class Peers:
    """The same weights in four programs."""

    def __init__(self, directory: Path) -> None:
        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        self.float32 = FastGPT2.from_pretrained(directory)
        self.float16 = FastGPT2.from_pretrained(directory, torch.float16)
        self.taught = GPT2(self.float32.config, self.float32.weights)
        self.bfloat16 = hardway.load(directory, quantize="bfloat16")
        self.int8 = hardway.load(directory, quantize="int8")
        self.int4 = hardway.load(directory, quantize="int4")
        load = transformers.GPT2LMHeadModel.from_pretrained
        self.transformers: dict[str, Any] = {
            "float32": load(directory).eval(),
            "bfloat16": load(directory, dtype=torch.bfloat16).eval(),
        }
        self.gguf = {kind: write_gpt2(directory, kind) for kind in GGUF_KINDS}
        self.smollm2 = hardway.load("smollm2")
        converted = directory / "ctranslate2"
        if not converted.exists():
            half_written = directory / "half-written-ctranslate2"
            TransformersConverter(str(directory)).convert(str(half_written), force=True)
            half_written.rename(converted)
        self.converted = converted
        source = torch.Generator().manual_seed(0)
        self.text = torch.randint(0, 50_000, (1024,), generator=source)

    def hugging_face(self, prompts: Tensor, n_new: int, kind: str) -> Tensor:
        """Continue prompts [B, T] greedily with transformers."""
        with torch.inference_mode():
            ids: Tensor = self.transformers[kind].generate(
                prompts,
                attention_mask=torch.ones_like(prompts),
                max_new_tokens=n_new,
                min_new_tokens=n_new,
                do_sample=False,
                pad_token_id=50256,
            )
        return ids


class CTranslate2:
    """A CTranslate2 model that takes ids, made for its turn and gone after it.

    Its threads are OpenMP's, as torch's are. While both exist there are more than
    cores, and then OpenMP's threads fall asleep between any two steps of either.
    """

    def __init__(self, directory: Path, kind: str) -> None:
        threads = torch.get_num_threads()
        self.model = ctranslate2.Generator(
            str(directory), compute_type=kind, inter_threads=1, intra_threads=threads
        )
        self.spelled = json.loads((directory / "vocabulary.json").read_text())
        self([0], 8)  # its first steps do not count

    def __call__(self, ids: Sequence[int], n_new: int) -> list[int]:
        """Continue a prompt greedily by exactly ``n_new`` ids."""
        (result,) = self.model.generate_batch(
            [[self.spelled[id] for id in ids]],
            max_length=n_new,
            min_length=n_new,
            sampling_topk=1,
            include_prompt_in_result=False,
            end_token=self.spelled[50256],
        )
        new_ids: list[int] = result.sequences_ids[0]
        return new_ids


def rate(write: Callable[[int], object], n_new: int, n_sequences: int = 1) -> float:
    """Return the tokens per second of those after the first, which needs prefill."""
    first = clock(lambda: write(1))
    return n_new * n_sequences / (clock(lambda: write(1 + n_new)) - first)


def decode(peers: Peers) -> Runs:
    """One sequence, one token at a time; tokens per second."""
    ids = peers.text[:PROMPT].tolist()
    prompt = torch.tensor([ids])

    def ours(model: LanguageModel) -> float:
        return rate(lambda n: hardway.generate(model, ids, n), NEW)

    def hugging_face(kind: str) -> float:
        return rate(lambda n: peers.hugging_face(prompt, n, kind), NEW)

    runs = steps(ours, peers)
    for kind in peers.transformers:
        runs[f"transformers {kind}"] = partial(hugging_face, kind)

    def theirs(kind: str) -> float:
        model = CTranslate2(peers.converted, kind)
        return rate(lambda n: model(ids, n), NEW)

    for kind in ("float32", "int8_float32"):
        name = f"ctranslate2 {kind.removesuffix('_float32')}"
        runs[name] = partial(theirs, kind)
    for kind, path in peers.gguf.items():
        runs[f"llama.cpp {kind}"] = partial(llama_cpp_decode, path, ids)
    return runs


def llama_cpp_decode(path: Path, ids: Sequence[int]) -> float:
    """Return the tokens per second of llama.cpp, one sequence."""
    model = LlamaCpp(path)
    return rate(lambda n: model(ids, n), NEW)


def smollm2(peers: Peers) -> Runs:
    """SmolLM2 from its own file, one token at a time; tokens per second."""
    ids = (peers.text[:PROMPT] % peers.smollm2.config.n_vocab).tolist()
    return {
        "hardway": lambda: rate(lambda n: hardway.generate(peers.smollm2, ids, n), NEW),
        "llama.cpp": partial(llama_cpp_decode, hub.weights("smollm2"), ids),
    }


def load_smollm2() -> LanguageModel:
    """Load SmolLM2 from its own file."""
    return hardway.load("smollm2")


def smollm2_prefill(peers: Peers, length: int = 512) -> Runs:
    """Run a prompt through SmolLM2, up to the logits after it; seconds."""
    text = peers.text[:length] % peers.smollm2.config.n_vocab

    def ours() -> float:
        cache = peers.smollm2.new_cache(max_len=length)
        return clock(lambda: infer(peers.smollm2, text, cache, last_only=True))

    def theirs() -> float:
        model = LlamaCpp(hub.weights("smollm2"))
        model.prefill(text.tolist())
        return clock(lambda: model.prefill(text.tolist()))

    return {"hardway": ours, "llama.cpp": theirs}


def prefill(peers: Peers, length: int = 512) -> Runs:
    """Run a prompt, up to the logits of its first new token; seconds."""
    text = peers.text[:length]

    def ours(model: LanguageModel) -> float:
        cache = model.new_cache(max_len=length)
        return clock(lambda: infer(model, text, cache, last_only=True))

    def hugging_face(kind: str) -> float:
        model = peers.transformers[kind]
        with torch.inference_mode():
            return clock(lambda: model(text[None], use_cache=True, logits_to_keep=1))

    def theirs() -> float:
        model = CTranslate2(peers.converted, "float32")
        model(text.tolist(), 1)
        return clock(lambda: model(text.tolist(), 1))

    runs = steps(ours, peers)
    for kind in peers.transformers:
        runs[f"transformers {kind}"] = partial(hugging_face, kind)
    return runs | {"ctranslate2 float32": theirs}


def batched(peers: Peers, n_sequences: int, n_new: int = 16) -> Runs:
    """Several sequences at once, one token of each at a time; tokens per second."""
    prompts = peers.text.view(-1, PROMPT)[:n_sequences]
    ours: dict[str, LanguageModel] = {
        "float32": peers.float32, "bfloat16": peers.bfloat16,
        "int8": peers.int8, "int4": peers.int4,
    }  # fmt: skip

    def write(kind: str, n: int) -> object:
        return hardway.generate_batch(ours[kind], prompts.tolist(), n)

    def hugging_face(kind: str, n: int) -> object:
        return peers.hugging_face(prompts, n, kind)

    writers = {f"hardway {kind}": partial(write, kind) for kind in ours}
    for kind in peers.transformers:
        writers[f"transformers {kind}"] = partial(hugging_face, kind)
    return {
        name: partial(rate, write, n_new, n_sequences)
        for name, write in writers.items()
    }


def growth(peers: Peers, lengths: Sequence[int], n_steps: int = 8) -> Runs:
    """One more token behind texts of several lengths; seconds."""

    def cached(model: GPT2, length: int) -> Callable[[], float]:
        cache = model.new_cache()
        infer(model, peers.text[: length - n_steps], cache, last_only=True)

        def steps() -> None:
            cache.truncate(length - n_steps)
            for token in peers.text[length - n_steps : length].split(1):
                infer(model, token, cache, last_only=True)

        return lambda: clock(steps) / n_steps

    runs: Runs = {}
    for length in lengths:
        runs[f"float32 {length}"] = cached(peers.float32, length)
        runs[f"float16 {length}"] = cached(peers.float16, length)
        whole = partial(infer, peers.float32, peers.text[:length], last_only=True)
        runs[f"no cache {length}"] = partial(clock, whole)
    return runs
