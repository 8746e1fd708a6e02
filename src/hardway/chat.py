"""A conversation as a text that a model continues: ChatML, turn by turn.

Two special tokens mark where a message starts and where it ends; everything else is
ordinary text. SmolLM2 was trained on conversations in this format.
"""

from collections.abc import Collection, Generator, Iterable, Iterator, Mapping
from itertools import chain
from typing import Unpack

from hardway import checks, conversation, inputs
from hardway.generation import (
    LanguageModel,
    Sampling,
    cached_steps,
    decode_stream,
    new_sampler,
    stop_at,
)
from hardway.sampling import Sampler
from hardway.tokenizer import Tokenizer

START, END = "<|im_start|>", "<|im_end|>"
DEFAULT_SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"

Message = Mapping[str, str]  # a "role" and a "content"


def template(
    messages: Iterable[Message], add_generation_prompt: bool = True
) -> Iterator[tuple[str, str]]:
    """Yield each marker of a conversation with the text that follows it.

    The generation prompt begins the assistant's next message. Raises `ValueError` for
    what isn't a conversation.
    """
    messages = conversation.check_messages(messages)
    if messages[0]["role"] != "system":
        messages.insert(0, {"role": "system", "content": DEFAULT_SYSTEM})
    for message in messages:
        yield START, f"{message['role']}\n{message['content']}"
        yield END, "\n"
    if add_generation_prompt:
        yield START, "assistant\n"


def render(messages: Iterable[Message], add_generation_prompt: bool = True) -> str:
    """Return a conversation as one text, just as the model's own template does.

    In a text, a marker and the same characters typed by a user look alike; `encode`
    tells them apart. Raises what `template` does.
    """
    parts = template(messages, add_generation_prompt)
    return "".join(marker + text for marker, text in parts)


def encode(
    tokenizer: Tokenizer,
    messages: Iterable[Message],
    add_generation_prompt: bool = True,
) -> list[int]:
    """Return a conversation as ids, in which only the template's markers are special.

    A marker that a message spells out stays plain text, so that no user can speak as
    the system. Raises what `template` does, and `ValueError` for a tokenizer without
    the markers.
    """
    conversation.check_markers(tokenizer.special_ids, (START, END))
    messages = conversation.check_messages(messages, tokenizer.missing)
    ids: list[int] = []
    for marker, text in template(messages, add_generation_prompt):
        ids += [tokenizer.special_ids[marker], *tokenizer.encode(text)]
    return ids


class Chat:
    """A conversation with a model, whose KV cache is kept from turn to turn.

    Only what is new since the last reply is processed. ``system`` and ``turns`` hold
    the ids of the system message and of each turn, a user's message and its reply;
    ``n_dropped`` counts the oldest turns that had to make room for newer ones.
    """

    def __init__(
        self, model: LanguageModel, tokenizer: Tokenizer, system: str | None = None
    ) -> None:
        """Start a conversation; ``system`` None takes the template's own message.

        Raises `ValueError` where tokenizer and model don't belong together, and for a
        model whose chat template isn't ChatML.
        """
        model = inputs.fit_vocabulary(model, tokenizer.n_vocab)
        conversation.check_chat(tokenizer, system, DEFAULT_SYSTEM)
        self.model, self.tokenizer, self.cache = model, tokenizer, model.new_cache()
        content = DEFAULT_SYSTEM if system is None else system
        self.first = {"role": "system", "content": content}
        self.system = encode(tokenizer, [self.first], add_generation_prompt=False)
        self.turns: list[list[int]] = []
        self.n_dropped = 0
        self.reply: Generator[str] | None = None

    @property
    def ids(self) -> list[int]:
        """The whole conversation; the cache holds its beginning."""
        return [*self.system, *chain.from_iterable(self.turns)]

    def send(
        self, text: str, max_new_tokens: int = 256, *, stop: str | Iterable[str] = (),
        **options: Unpack[Sampling],
    ) -> Generator[str]:  # fmt: skip
        """Send a message, and yield the text of the reply as it is generated.

        It ends before the first of the strings in ``stop``, whose tokens the
        conversation still holds. A reply that isn't read to its end stops where its
        reader did, at the latest when the next message is sent. Where the context is
        full, the oldest turns are dropped, and what is left is processed again. Raises
        `ValueError`, before any work, for an argument out of range and a message too
        long for the context.
        """
        checks.check_text(text, self.tokenizer.missing)
        max_new_tokens = checks.integer("max_new_tokens", max_new_tokens)
        sampler = new_sampler(self.model.config, max_new_tokens, **options)
        stop = inputs.check_stop(stop)
        messages = [self.first, {"role": "user", "content": text}]
        turn = encode(self.tokenizer, messages)[len(self.system) :]
        n_new, n_ctx = len(turn) + max_new_tokens, self.model.config.n_ctx
        conversation.check_room(len(self.system), n_new, n_ctx)
        if self.reply:
            self.reply.close()
        if len(self.ids) + n_new > n_ctx:
            self._make_room(n_new)
        self.reply = self._reply(turn, max_new_tokens, sampler, stop)
        return self.reply

    def _make_room(self, n_new: int) -> None:
        """Drop the oldest turns, until half the context holds ``n_new`` more ids.

        With less room, the context would soon be full again, and each time, what is
        left has to be processed once more.
        """
        while self.turns and len(self.ids) + n_new > self.model.config.n_ctx // 2:
            self.turns.pop(0)
            self.n_dropped += 1
        # The other turns have moved to new positions, so their keys are wrong.
        self.cache.truncate(min(self.cache.length, len(self.system)))

    def _reply(
        self, turn: list[int], max_new_tokens: int, sampler: Sampler,
        stop: Collection[str],
    ) -> Generator[str]:  # fmt: skip
        """Generate the reply to a turn, and end it with the marker, however it ends."""
        self.turns.append(turn)
        end = self.tokenizer.special_ids[END]
        stops = {end, self.tokenizer.eot_id} | sampler.stop_ids
        steps = cached_steps(
            self.model, [self.ids], max_new_tokens, [sampler], stops, self.cache
        )
        try:
            yield from stop_at(
                decode_stream(self.tokenizer, _record(steps, turn)), stop
            )
        finally:
            turn += [end, *self.tokenizer.encode("\n")]


def _record(steps: Iterable[tuple[int, int]], ids: list[int]) -> Iterator[int]:
    """Pass each new id on, and append it to ``ids``."""
    for _, id in steps:
        ids.append(id)
        yield id
