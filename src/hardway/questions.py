"""Read and check what an evaluation asks: questions with choices, strides."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hardway import checks, untrusted
from hardway.checks import safe_repr


@dataclass(frozen=True)
class Question:
    """A context, the choices that may continue it, and the index of the right one."""

    context: str
    choices: tuple[str, ...]
    answer: int

    def __post_init__(self) -> None:
        """Raise `ValueError` for a question that nobody could answer."""
        checks.check_text(self.context)
        choices = tuple(checks.items("choices", self.choices))
        object.__setattr__(self, "choices", choices)
        for choice in choices:
            checks.not_empty("each of choices", choice)
        if len(choices) < 2:
            raise ValueError(f"choices must be at least two, got {safe_repr(choices)}")
        checks.integer("answer", self.answer, 0, len(choices) - 1)


def read_questions(path: str | os.PathLike[str]) -> list[Question]:
    """Read questions from JSON lines, each with a context, choices and an answer.

    Raises `ValueError` naming the file and the line that is wrong.
    """
    questions = []
    with untrusted.prefix_errors(path):
        try:
            lines = Path(path).read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError as error:
            raise ValueError(f"it is not UTF-8: {error}") from error
        for number, line in enumerate(lines, start=1):
            with untrusted.prefix_errors(f"line {number}"):
                questions.append(read_question(line))
        if not questions:
            raise ValueError("there must be at least one question, got an empty file")
    return questions


def read_question(line: str) -> Question:
    """Read one question."""
    try:
        found: Any = json.loads(line)
    except ValueError as error:
        raise ValueError(f"it is not JSON: {error}") from error
    match found:
        case {"context": str(context), "choices": [*choices], "answer": answer}:
            return Question(context, tuple(choices), answer)
    raise ValueError(
        "it must have a context (a string), choices (a list of strings) and an answer "
        f"(the index of one), got {safe_repr(found)}"
    )


def check_stride(stride: int | None, n_ctx: int) -> int:
    """Return how many tokens a window scores: from 1 to n_ctx, its default."""
    if stride is None:
        return n_ctx
    return checks.integer("stride", stride, 1, n_ctx, " (n_ctx) or None")


def check_continuation(ids: list[int], n_ctx: int) -> None:
    """Raise `ValueError` for a continuation that is empty, or too long to be scored."""
    if not 1 <= len(ids) <= n_ctx:
        raise ValueError(
            f"continuation must have from 1 to n_ctx = {n_ctx} tokens, got {len(ids)}"
        )
