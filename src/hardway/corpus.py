"""Read a corpus for training, and set some of its texts aside for validation.

A corpus is a text file, or a file of JSON lines, each with a ``text``, perhaps a
``source`` and perhaps ``heldout``; either may be compressed with gzip.
"""

import gzip
import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hardway import checks, untrusted
from hardway.checks import safe_repr, some
from hardway.recipe import Mix
from hardway.tokenizer import END_OF_TEXT, Tokenizer, byte_alphabet

HELD_OUT = 0.1  # of a corpus that says nothing about it, the last texts


@dataclass(frozen=True)
class Corpus:
    """Texts as ids, the sources one after another, each text ended by eot_id.

    train: the ids of each source, int64 [n]; held_out: those for validation, [n].
    """

    train: dict[str, Tensor]
    held_out: Tensor

    def by_frequency(self, n_vocab: int) -> Tensor:
        """Return the ids that occur anywhere, the most common first: int64 [n]."""
        found = torch.cat([*self.train.values(), self.held_out])
        counts = torch.bincount(found, minlength=n_vocab)
        order = counts.argsort(descending=True, stable=True)
        return order[: int((counts > 0).sum())]

    def check(self, n_ctx: int, mixes: tuple[tuple[int, Mix], ...]) -> None:
        """Raise `ValueError` for a source that is too short, or not there."""
        lengths = {name: len(ids) for name, ids in self.train.items()}
        for name, n in (lengths | {"held out": len(self.held_out)}).items():
            if n <= n_ctx:
                raise ValueError(
                    f"the corpus must have more than n_ctx = {n_ctx} tokens of each "
                    f"source, got {n} of {safe_repr(name)}"
                )
        for name in (name for _, mix in mixes for name in mix):
            if name not in lengths:
                known = some(sorted(lengths))
                raise ValueError(
                    f"mixes must name sources of the corpus ({known}), "
                    f"got {safe_repr(name)}"
                )

    def fingerprint(self) -> str:
        """Return a hash of all ids, by which a resumed run knows its corpus."""
        digest = hashlib.sha256()
        for ids in (*self.train.values(), self.held_out):
            digest.update(ids.numpy().tobytes())
        return digest.hexdigest()


def byte_tokenizer() -> Tokenizer:
    """Return a tokenizer without merges: every byte is a token, 257 with the end."""
    vocab = {character: byte for byte, character in byte_alphabet().items()}
    return Tokenizer(vocab | {END_OF_TEXT: len(vocab)}, [])


def read_corpus(path: str | os.PathLike[str], tokenizer: Tokenizer) -> Corpus:
    """Read and tokenize a corpus.

    Texts marked ``heldout`` are for validation; where none is, the last tenth is.
    Raises `ValueError` naming the file and line that is wrong, `OSError` for a file
    that cannot be read.
    """
    train: dict[str, list[int]] = defaultdict(list)
    held_out: list[int] = []
    with untrusted.prefix_errors(path):
        for source, text, is_held_out in read_texts(Path(path)):
            ids = tokenizer.encode(text)
            (held_out if is_held_out else train[source]).extend(
                [*ids, tokenizer.eot_id]
            )
        if not any(train.values()):
            raise ValueError("the corpus has no text to train on")
    if not held_out:
        last = [*train][-1]
        n_kept = len(train[last]) - int(HELD_OUT * sum(map(len, train.values())))
        train[last], held_out = train[last][:n_kept], train[last][n_kept:]
    tensors = {source: torch.tensor(ids) for source, ids in train.items()}
    return Corpus(tensors, torch.tensor(held_out, dtype=torch.int64))


def read_texts(path: Path) -> Iterator[tuple[str, str, bool]]:
    """Yield the texts of a corpus: source, text, and whether it is held out."""
    with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
        if ".jsonl" not in path.suffixes:
            yield "text", decoded(file.read()), False
            return
        for number, line in enumerate(file, start=1):
            with untrusted.prefix_errors(f"line {number}"):
                yield read_line(decoded(line))


def decoded(raw: bytes) -> str:
    """Decode UTF-8; raise `ValueError` for what is not."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8: {error}") from error


def read_line(line: str) -> tuple[str, str, bool]:
    """Read one JSON line: source, text, and whether it is held out."""
    try:
        found: Any = json.loads(line)
    except ValueError as error:
        raise ValueError(f"it is not JSON: {error}") from error
    match found:
        case {"text": str(text)}:
            source, held_out = found.get("source", "text"), found.get("heldout", False)
            checks.check_text(text)
            if isinstance(source, str) and isinstance(held_out, bool):
                return source, text, held_out
    raise ValueError(
        "it must have a text (a string), and may have a source (a string) and heldout "
        f"(true or false), got {safe_repr(found)}"
    )
