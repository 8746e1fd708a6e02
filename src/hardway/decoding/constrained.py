"""Constrained decoding: forbid every token after which no valid text is left.

An automaton on bytes says what may follow; a walk over the vocabulary's prefix tree
says it for all tokens at once. Papers: Willard & Louf 2023, Koo et al. 2024.
"""

import copy
import threading
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Self

import torch
from torch import Tensor

from hardway.decoding import refusals
from hardway.decoding.expressions import (
    NOTHING,
    Expression,
    byte_sets,
    derivative,
    restrict,
    shortest,
)
from hardway.decoding.json_schema import document
from hardway.decoding.pattern import parse
from hardway.tokenizer import Tokenizer

FAR = 2**15 - 1  # more bytes than any text has left; fits in int16


class Automaton:
    """A deterministic automaton on bytes, whose states are made when first needed.

    States are numbered expressions: 0 is ``NOTHING``, where no text leads back from, 1
    the whole. ``table`` [n_states, 256] says where each byte leads, once `complete` has
    filled a state's row; ``left`` how many bytes the shortest rest of a text has.
    """

    def __init__(self, expression: Expression) -> None:
        """Start with one state, and find which bytes no expression tells apart."""
        self.states: list[Expression] = []
        self.numbers: dict[Expression, int] = {}
        self.left: list[int] = []
        self.is_complete = [True]
        self.table = torch.zeros(16, 256, dtype=torch.int64, device="cpu")
        sets = [*byte_sets(expression)]
        alike: dict[tuple[bool, ...], list[int]] = {}
        for byte in range(256):
            alike.setdefault(tuple(byte in one for one in sets), []).append(byte)
        self.groups = [*alike.values()]
        for state in (NOTHING, expression):
            self.number(state)

    def number(self, expression: Expression) -> int:
        """Return the number of a state, a new one for a new state."""
        if expression not in self.numbers:
            self.numbers[expression] = len(self.states)
            self.states.append(expression)
            is_dead = expression == NOTHING
            self.left.append(FAR if is_dead else min(shortest(expression), FAR - 1))
            self.is_complete.append(False)
            if len(self.states) > len(self.table):
                self.table = torch.cat([self.table, torch.zeros_like(self.table)])
        return self.numbers[expression]

    def complete(self, state: int) -> None:
        """Fill the row of a state: one derivative for each group of bytes."""
        if not self.is_complete[state]:
            for group in self.groups:
                target = self.number(derivative(self.states[state], group[0]))
                self.table[state, group] = target
            self.is_complete[state] = True

    def step(self, state: int, data: bytes) -> int:
        """Return the state that some bytes lead to."""
        for byte in data:
            self.complete(state)
            state = int(self.table[state, byte])
        return state


class Trie:
    """The prefix tree of a vocabulary: tokens that begin alike share a path.

    Level by level, ``parents`` and ``bytes`` hold for each node its parent's place in
    the level before, and the byte that leads to it. ``nodes`` [n_tokens] says at which
    node, counted over all levels, each of the ``tokens`` ends.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Build the tree of every token but the special ones."""
        pieces = sorted(tokenizer.ids.items(), key=lambda item: len(item[0]))
        self.tokens = torch.tensor([id for _, id in pieces], device="cpu")
        nodes = torch.empty(len(pieces), dtype=torch.int64, device="cpu")
        self.levels: list[tuple[Tensor, Tensor]] = []
        above, n_above, done = {b"": 0}, 0, 0
        while done < len(pieces):
            depth = len(self.levels) + 1
            level: dict[bytes, int] = {}
            for piece, _ in pieces[done:]:
                level.setdefault(piece[:depth], len(level))
            edges = [(above[prefix[:-1]], prefix[-1]) for prefix in level]
            parents, values = torch.tensor(edges, device="cpu").T
            self.levels.append((parents, values))
            while done < len(pieces) and len(pieces[done][0]) == depth:
                nodes[done] = n_above + level[pieces[done][0]]
                done += 1
            n_above += len(level)
            above = level
        self.nodes, self.n_nodes = nodes, n_above

    def walk(self, automaton: Automaton, state: int) -> Tensor:
        """Return the state that each of the ``tokens`` leads to, from one state.

        Where every path has ended, so has the walk. Returns int64 [n_tokens].
        """
        reached = torch.zeros(self.n_nodes, dtype=torch.int64, device="cpu")
        above, end = torch.tensor([state], device="cpu"), 0
        for parents, values in self.levels:
            for number in above.bincount().nonzero().flatten().tolist():
                automaton.complete(number)
            above = automaton.table[above[parents], values]
            if not above.any():
                break
            reached[end : end + len(above)] = above
            end += len(above)
        return reached[self.nodes]


trie = lru_cache(maxsize=4)(Trie)  # of one tokenizer, once


class Constrained:
    """Allow the tokens that keep a text within what an expression matches.

    The end of the text is allowed where the text matches as it is. What a state allows
    is computed once, and kept for the latest of them.
    """

    def __init__(self, expression: Expression, tokenizer: Tokenizer) -> None:
        """Prepare for one tokenizer. States are made when a text reaches them.

        Raises `ValueError` where nothing matches that the tokenizer can spell.
        """
        expression = restrict(expression, tokenizer.missing)
        refusals.check_matches(expression == NOTHING)
        self.n_vocab, self.eot_id = tokenizer.n_vocab, tokenizer.eot_id
        self.pieces, self.trie = tokenizer.pieces, trie(tokenizer)
        self.automaton = Automaton(expression)
        self.max_new_tokens: int | None = None
        self.bytes_left = lru_cache(maxsize=256)(self._bytes_left)
        self.step = lru_cache(maxsize=2**16)(self._step)
        self.lock = threading.RLock()  # one constraint may serve several threads

    def within(self, max_new_tokens: int) -> Self:
        """Return the same constraint, for a text that has to end in time."""
        bound = copy.copy(self)
        bound.max_new_tokens = max_new_tokens
        return bound

    def allowed(self, new_ids: Sequence[int]) -> Tensor:
        """Return which tokens may come next: bool [n_vocab].

        Where the number of tokens is limited, only those after which there is time to
        complete the text, even byte by byte; where there is no time at all, those that
        leave the least to write. Raises `ValueError` for ids that were not allowed.
        """
        with self.lock:
            state = 1
            for id in new_ids:
                if id == self.eot_id:
                    break
                state = self.step(state, id)
            left = self.bytes_left(state)
        if self.max_new_tokens is None:
            return left < FAR
        return left <= max(self.max_new_tokens - len(new_ids) - 1, int(left.min()))

    def _step(self, state: int, id: int) -> int:
        """Return the state after one more token."""
        state = self.automaton.step(state, self.pieces[id])
        refusals.check_spelled(id, state != 0)
        return state

    def _bytes_left(self, state: int) -> Tensor:
        """Return how many bytes each token would leave to write: int16 [n_vocab]."""
        reached = self.trie.walk(self.automaton, state)
        left = torch.full((self.n_vocab,), FAR, dtype=torch.int16, device="cpu")
        of_states = torch.tensor(self.automaton.left, device="cpu").short()
        left[self.trie.tokens] = of_states[reached]
        if self.automaton.left[state] == 0:
            left[self.eot_id] = 0
        return left


class Regex(Constrained):
    """Constrain a text to what a regular expression matches as a whole."""

    def __init__(self, pattern: str, tokenizer: Tokenizer) -> None:
        """Compile a pattern in Python's notation.

        Raises `ValueError` for what isn't a pattern, what describes more than a set of
        texts, such as lookaround, and what no text matches.
        """
        super().__init__(parse(pattern), tokenizer)


class JsonSchema(Constrained):
    """Constrain a text to the JSON documents that a schema describes.

    Supported are objects of fixed properties, arrays with ``maxItems``, strings,
    numbers, integers, booleans, null, and ``enum``.
    """

    def __init__(self, schema: dict[str, Any], tokenizer: Tokenizer) -> None:
        """Compile a schema. Raises `ValueError` naming what isn't supported."""
        refusals.check_size(schema)
        super().__init__(document(schema), tokenizer)
