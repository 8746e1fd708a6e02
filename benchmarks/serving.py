"""The engine on SmolLM2: many requests at once, a shared beginning, the overhead."""

import time
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import transformers

import hardway
from hardway.export import export
from hardway.serving import Engine
from measure import clock

LENGTHS = [24 + 13 * i for i in range(16)]  # of the prompts
NEW = [48 - 2 * i for i in range(16)]  # of the texts, short ones after long prompts
SHARED = 512


class Load:
    """The models, and sixteen ragged requests; all in float32 and greedy."""

    def __init__(self, directory: Path) -> None:
        """Write SmolLM2 for transformers, unless it is there from the last time."""
        self.model = hardway.load("smollm2", dtype=torch.float32)
        theirs = directory / "smollm2"
        if not (theirs / "config.json").exists():
            export(self.model, hardway.load_tokenizer("smollm2"), theirs)
        self.transformers: Any = transformers.LlamaForCausalLM.from_pretrained(theirs)
        source = torch.Generator().manual_seed(0)
        n_vocab = self.model.config.n_vocab
        self.prompts = [
            torch.randint(1000, n_vocab, (n,), generator=source).tolist()
            for n in LENGTHS
        ]

    def at_once(self, max_batch: int) -> float:
        """Return the tokens per second of all requests together."""
        engine = Engine(self.model, max_batch, n_pages=512)
        for prompt, n in zip(self.prompts, NEW, strict=True):
            engine.submit(prompt, n)
        return sum(NEW) / clock(engine.run)

    def one_at_a_time(self) -> float:
        """Return the tokens per second of `hardway.generate`, text by text."""

        def run() -> None:
            for prompt, n in zip(self.prompts, NEW, strict=True):
                hardway.generate(self.model, prompt, n)

        return sum(NEW) / clock(run)

    def padded(self) -> float:
        """Return the tokens per second that transformers' padded batch writes for us.

        It runs until the longest text has ended; what goes beyond a request isn't
        counted.
        """
        widest = max(LENGTHS)
        ids = torch.tensor([[0] * (widest - len(p)) + p for p in self.prompts])
        seen = torch.tensor([[0] * (widest - n) + [1] * n for n in LENGTHS])
        with torch.inference_mode():
            run = partial(
                self.transformers.generate, ids, attention_mask=seen, do_sample=False,
                max_new_tokens=max(NEW), min_new_tokens=max(NEW), pad_token_id=0,
            )  # fmt: skip
            return sum(NEW) / clock(run)

    def first_token(self, found: bool) -> float:
        """Return the seconds to a first token behind a long beginning, seen or not."""
        engine, beginning = Engine(self.model), self.prompts[0] * (SHARED // 24 + 1)
        waits = []
        for end in (5, 6):
            engine.submit([*beginning[:SHARED], end], 1)
            waits.append(clock(engine.run))
        return waits[found]

    def overhead(self) -> float:
        """Return the part of a step, in percent, that isn't the model's."""
        engine, forward, inside = Engine(self.model, 16), self.model.forward, [0.0]

        def timed(*arguments: Any) -> torch.Tensor:
            start = time.perf_counter()
            logits = forward(*arguments)
            inside[0] += time.perf_counter() - start
            return logits

        for prompt, n in zip(self.prompts, NEW, strict=True):
            engine.submit(prompt, n)
        with patch.object(self.model, "forward", timed):
            seconds = clock(engine.run)
        return 100 * (1 - inside[0] / seconds)
