"""Read and check a recipe: the sizes of a model, and how to train it.

A recipe is a TOML file with a table ``[model]``, the sizes, a table ``[training]``, the
fields of `Recipe`, and ``vocabulary``: ``"bytes"``, or where to find a tokenizer.
"""

import math
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from hardway import checks, untrusted
from hardway.checks import safe_repr, some
from hardway.config import SIZES

Mix = Mapping[str, float]  # how often a sequence comes from each source


@dataclass(frozen=True)
class Recipe:
    """How to train: the steps, the optimizers, the schedule.

    learning_rate: AdamW's, at its peak; muon_rate: Muon's, or None for AdamW
    everywhere; max_norm: where gradients are clipped; final_rate: the last learning
    rate, relative to the peak; n_common and n_sampled: how many of the common and of
    the other tokens a sampled softmax has (0: a full softmax); full_from: the step from
    which the softmax is full all the same; mixes: (first step, mix) pairs; bfloat16:
    multiply matrices in that dtype.
    """

    n_steps: int
    batch_size: int = 16
    learning_rate: float = 1e-3
    muon_rate: float | None = None
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.1
    muon_decay: float = 0.1
    n_warmup: int = 0
    n_decay: int = 0
    final_rate: float = 0.1
    max_norm: float = 1.0
    dropout: float = 0.0
    seed: int = 0
    n_common: int = 0
    n_sampled: int = 0
    full_from: int | None = None
    mixes: tuple[tuple[int, Mix], ...] = ()
    bfloat16: bool = False
    n_validation: int = field(default=64, kw_only=True)

    def __post_init__(self) -> None:
        """Check every field; raise `ValueError` naming the first that is wrong."""
        least = {"n_steps": 1, "batch_size": 1, "n_validation": 1}
        for name in (
            "n_steps", "batch_size", "n_warmup", "n_decay", "seed", "n_common",
            "n_sampled", "n_validation",
        ):  # fmt: skip
            checks.integer(name, getattr(self, name), least.get(name, 0))
        if self.full_from is not None:
            checks.integer("full_from", self.full_from)
        for name, high in {"final_rate": 1, "weight_decay": 1, "muon_decay": 1}.items():
            checks.number(name, getattr(self, name), 0, high)
        for name in ("learning_rate", "max_norm"):
            checks.number(name, getattr(self, name), 0, above=True)
        if self.muon_rate is not None:
            checks.number("muon_rate", self.muon_rate, 0, above=True)
        for name in ("betas", "dropout"):
            values = getattr(self, name)
            for value in values if name == "betas" else [values]:
                if checks.number(name, value, 0) >= 1:
                    raise ValueError(f"{name} must be below 1, got {safe_repr(value)}")
        if self.n_warmup + self.n_decay > self.n_steps:
            raise ValueError(
                f"n_warmup and n_decay must fit in n_steps = {self.n_steps}, "
                f"got {self.n_warmup} + {self.n_decay}"
            )

    @classmethod
    def from_table(cls, table: Mapping[str, Any]) -> Self:
        """Take the fields from a table; raise `ValueError` for an unknown one."""
        known = {field.name for field in fields(cls)}
        if unknown := sorted(table.keys() - known):
            raise ValueError(
                f"[training] must have no {some(unknown)}: the settings are "
                + ", ".join(sorted(known))
            )
        if "n_steps" not in table:
            raise ValueError("[training] must set n_steps")
        found = dict(table)
        if "betas" in found:
            found["betas"] = tuple(checks.items("betas", found["betas"]))
        if "mixes" in found:
            found["mixes"] = tuple(map(read_mix, checks.items("mixes", found["mixes"])))
        return cls(**found)

    def mix(self, step: int) -> Mix:
        """Return the mix of sources at a step; empty for one by their sizes."""
        found: Mix = {}
        for first, mix in self.mixes:
            if first <= step:
                found = mix
        return found

    def seed_of(self, step: int) -> int:
        """Return a step's own seed; torch uses the lowest 32 bits of one."""
        return (self.seed * 1_000_003 + step) % 2**32

    def samples_softmax(self, step: int) -> bool:
        """Return whether the softmax of a step runs over a sample of the tokens."""
        return self.n_sampled > 0 and (self.full_from is None or step < self.full_from)

    def check_loss(self, step: int, loss: float) -> float:
        """Return a loss; raise `ValueError` for NaN or infinity, which only spread."""
        if not math.isfinite(loss):
            raise ValueError(
                f"the loss of step {step + 1} is {loss}: use a lower learning_rate "
                "or muon_rate, or a longer n_warmup"
            )
        return loss


def read_mix(entry: Any) -> tuple[int, Mix]:
    """Return the first step and the shares of one of the ``mixes``."""
    match entry:
        case {"from": first, "shares": dict(shares), **rest} if shares and not rest:
            for source, share in shares.items():
                checks.number(f"the share of {safe_repr(source)}", share, 0)
            checks.number("the sum of shares", sum(shares.values()), 0, above=True)
            return checks.integer("from", first), shares
    raise ValueError(
        "each of mixes must have a step (from) and the shares of sources (shares), "
        f"got {safe_repr(entry)}"
    )


def read_recipe(path: str | os.PathLike[str]) -> tuple[str, dict[str, int], Recipe]:
    """Read a recipe: the vocabulary, the sizes of the model, and how to train it.

    The sizes are n_ctx, n_embd, n_head and n_layer; the vocabulary has its own. Raises
    `ValueError` naming the file and what is missing, unknown or out of range.
    """
    with untrusted.prefix_errors(path):
        try:
            found = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"it is not TOML: {error}") from error
        vocabulary, model = found.pop("vocabulary", "bytes"), found.pop("model", None)
        training = found.pop("training", None)
        wanted = {*SIZES} - {"n_vocab"}
        if found or not isinstance(training, dict) or not isinstance(model, dict):
            raise ValueError(
                "it must have the tables [model] and [training], and may set "
                f"vocabulary, got {safe_repr([*found, 'model', 'training'])}"
            )
        if model.keys() != wanted or not isinstance(vocabulary, str):
            raise ValueError(
                f"[model] must set {', '.join(sorted(wanted))}, got "
                f"{safe_repr(sorted(model))}; vocabulary must be a string"
            )
        sizes = {name: checks.integer(name, model[name], 1) for name in wanted}
        return vocabulary, sizes, Recipe.from_table(training)


def check_resumable(
    path: str | os.PathLike[str], saved: Mapping[str, str], wanted: Mapping[str, str]
) -> None:
    """Raise `ValueError` if a run cannot go on from what another one saved.

    saved, wanted: config, recipe and corpus of the two.
    """
    for name, fact in wanted.items():
        if saved.get(name) != fact:
            raise ValueError(
                f"{os.fspath(path)}: it was saved by a run with another {name}: name "
                "another directory, or delete the file to begin anew"
            )
