"""From a request's tokens to the text that its client may see, piece by piece."""

import codecs
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from hardway.generation import n_held_back
from hardway.tokenizer import Tokenizer

LOWEST = -9999.0  # stands for minus infinity, which JSON doesn't have


@dataclass
class Logprob:
    """A token's bytes and log-probability, and those of the likeliest in its place."""

    token: bytes
    logprob: float
    top: list[tuple[bytes, float]]


@dataclass
class Piece:
    """New text, the log-probabilities of the tokens behind it, and whether it ends."""

    text: str = ""
    logprobs: list[Logprob] = field(default_factory=list)
    finish_reason: str | None = None


class TextStream:
    """Decode tokens as they come, up to a stop string.

    What may be the beginning of a stop string, or is half of a character, is held back:
    `hardway.generation.stream_text`, turned inside out.
    """

    def __init__(self, tokenizer: Tokenizer, stop: Collection[str]) -> None:
        """Start without any text."""
        self.tokenizer, self.stop = tokenizer, stop
        self.decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self.held = ""  # decoded, but not passed on
        self.logprobs: list[Logprob] = []  # of the tokens not passed on
        self.stopped = False

    def push(self, id: int, logprobs: Mapping[int, float] | None) -> str:
        """Add a token, and return the text that is certain now."""
        token = self.tokenizer.decode_bytes([id])
        if logprobs is not None:
            self.logprobs.append(self.logprob(id, logprobs))
        return self.take(self.decoder.decode(token))

    def take(self, text: str) -> str:
        """Add decoded text, and return what cannot belong to a stop string."""
        for character in text:
            self.held += character
            if ends := [end for end in self.stop if self.held.endswith(end)]:
                self.stopped = True
                before, self.held = self.held.removesuffix(max(ends, key=len)), ""
                return before
        n = len(self.held) - n_held_back(self.held, self.stop)
        certain, self.held = self.held[:n], self.held[n:]
        return certain

    def end(self) -> str:
        """Return what was held back, now that nothing will follow."""
        if self.stopped:
            return ""
        text = self.take(self.decoder.decode(b"", final=True))
        return text + self.held

    def logprob(self, id: int, logprobs: Mapping[int, float]) -> Logprob:
        """Spell a token's log-probabilities by bytes, the likeliest first."""
        ordered = sorted(logprobs.items(), key=lambda item: -item[1])
        top = [
            (self.tokenizer.decode_bytes([other]), max(value, LOWEST))
            for other, value in ordered
        ]
        token = self.tokenizer.decode_bytes([id])
        return Logprob(token, max(logprobs[id], LOWEST), top)
