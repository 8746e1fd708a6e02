"""A small tokenizer with a chat template, and models to chat with."""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from hardway import GPT2, KVCache, Tokenizer
from hardway.chat import END, START
from hardway.tokenizer import byte_alphabet

# As it stands in the metadata of SmolLM2's GGUF file.
TEMPLATE = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system'"
    " %}{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained "
    "by Hugging Face<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + "
    "'\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def chat_tokenizer(
    chat_template: str | None = TEMPLATE, without: bytes = b""
) -> Tokenizer:
    """Every byte but some, and three merges, behind three special tokens."""
    alphabet = {byte: c for byte, c in byte_alphabet().items() if byte not in without}
    merges = [("a", "s"), ("as", "s"), ("Ġ", "t")]
    spellings = ["<|endoftext|>", START, END, *alphabet.values()]
    spellings += [left + right for left, right in merges]
    vocab = {spelling: id for id, spelling in enumerate(spellings)}
    return Tokenizer(
        vocab, merges, ["<|endoftext|>", START], END, chat_template=chat_template
    )


class Counting:
    """A model that counts the tokens it processes."""

    def __init__(self, model: GPT2) -> None:
        self.model, self.config = model, model.config
        self.fed: list[int] = []

    def __call__(self, tokens: Tensor, *others: Any, **options: Any) -> Tensor:
        self.fed.append(tokens.numel())
        return self.model(tokens, *others, **options)

    def new_cache(self, batch_size: int = 1, max_len: int | None = None) -> KVCache:
        return self.model.new_cache(batch_size, max_len)


class Saying(Counting):
    """A model that says just these ids, one reply after the other."""

    def __init__(self, model: GPT2, ids: Iterable[int]) -> None:
        super().__init__(model)
        self.said: Iterator[int] = iter(ids)

    def __call__(self, tokens: Tensor, *others: Any, **options: Any) -> Tensor:
        logits = super().__call__(tokens, *others, **options)
        said = torch.full_like(logits, -1.0)
        said[..., next(self.said)] = 1.0
        return said
