"""Speculation: the same text, the same law, and fewer passes."""

from collections import defaultdict
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from hardway import GPT2, Tokenizer, generate, speculative_generate
from hardway.config import Config
from hardway.decoding import JsonSchema, Regex, first_layers
from hardway.decoding.speculative import (
    LookUp,
    Round,
    SmallModel,
    rounds,
    verify,
)
from hardway.generation import new_sampler
from hardway.sampling import Sampler
from llamas import random_llama
from references import SMALL, random_model, with_sizes
from refusals import BAD_OPTIONS, refuses

TINY = Config(n_vocab=3, n_ctx=16, n_embd=12, n_head=2, n_layer=3)
PROMPT = [5, 17, 42]
GREEDY_OPTIONS: list[dict[str, Any]] = [
    {}, {"repetition_penalty": 1.5},
    {"frequency_penalty": 1.0, "presence_penalty": 0.5},
    {"logit_bias": {3: 4.0}}, {"stop_ids": [42, 7]},
]  # fmt: skip


@pytest.fixture(scope="module")
def model() -> GPT2:
    return random_model(dtype=torch.float64)


def drafts(model: GPT2) -> list[GPT2 | None]:
    """None, the model itself, its first layer, and one that knows nothing."""
    stranger = random_model(SMALL, seed=9, dtype=torch.float64)
    return [None, model, first_layers(model, 1), stranger]


@pytest.mark.parametrize("options", GREEDY_OPTIONS, ids=str)
@pytest.mark.parametrize(
    "n_draft",
    [pytest.param(1, marks=pytest.mark.slow), 4,
     pytest.param(30, marks=pytest.mark.slow)],
)  # fmt: skip
def test_greedy_text_is_the_same(
    model: GPT2, n_draft: int, options: dict[str, Any]
) -> None:
    for prompt in (PROMPT, [1], [4, 8, 4, 8, 4, 8, 4]):
        for n in (0, 1, 2, 20):
            expected = generate(model, prompt, n, **options)
            for draft in drafts(model):
                found = speculative_generate(
                    model, draft, prompt, n, n_draft, **options
                )
                assert found == expected


# --- the law of a sampled text, by enumeration ---


class Scripted(Sampler):
    """Follow a script of choices, and multiply what each had of probability."""

    script: list[int]

    def draw(self, probabilities: Tensor) -> int:
        shares = (probabilities / probabilities.sum()).double().tolist()
        if len(self.taken) == len(self.script):
            possible = [i for i, share in enumerate(shares) if share > 0]
            self.script.append(possible[0])
            self.others.append(possible[1:])
        choice = self.script[len(self.taken)]
        self.taken.append(choice)
        self.weight *= shares[choice]
        return choice

    def start(self) -> None:
        self.taken: list[int] = []
        self.weight = 1.0

    others: list[list[int]]


def law_with_guesses(
    model: GPT2, draft: GPT2 | None, prompt: list[int], n: int, n_draft: int,
    options: dict[str, Any],
) -> dict[tuple[int, ...], float]:  # fmt: skip
    """Run the program along every path of its draws, and add up by text."""
    law: dict[tuple[int, ...], float] = defaultdict(float)
    sampler = Scripted(**options)
    sampler.script, sampler.others = [], []
    while True:
        sampler.start()
        guesser: Any = LookUp(model.config.n_vocab, least=1)
        if draft is not None:
            guesser = SmallModel(draft, sampler, len(prompt) + n)
        steps = rounds(model, guesser, prompt, n, n_draft, sampler, {2})
        law[tuple(id for step in steps for id in step.ids)] += sampler.weight
        while sampler.others and not sampler.others[-1]:
            sampler.others.pop()
            sampler.script.pop()
        if not sampler.others:
            return law
        sampler.script[-1] = sampler.others[-1].pop(0)


def law_alone(
    model: GPT2, prompt: list[int], n: int, options: dict[str, Any]
) -> dict[tuple[int, ...], float]:
    """Multiply the model's own probabilities along every text."""
    law: dict[tuple[int, ...], float] = {(): 1.0}
    sampler, finished = Sampler(**options), dict[tuple[int, ...], float]()
    for _ in range(n):
        longer: dict[tuple[int, ...], float] = {}
        for ids, weight in law.items():
            logits = model(torch.tensor([*prompt, *ids]))[-1]
            shares = sampler.probabilities(logits, prompt, ids).double().tolist()
            for id, share in enumerate(shares):
                if id == 2:  # the stop id
                    finished[ids] = finished.get(ids, 0) + weight * share
                elif share > 0:
                    longer[(*ids, id)] = weight * share
        law = longer
    return finished | law


LAWS: list[dict[str, Any]] = [
    {"temperature": 1.0}, {"temperature": 0.7, "top_k": 2},
    {"temperature": 1.5, "top_p": 0.8},
    {"temperature": 2.0, "min_p": 0.3, "repetition_penalty": 1.4},
    {"temperature": 1.0, "presence_penalty": 1.0, "frequency_penalty": 0.5},
]  # fmt: skip


def assert_same_law(
    draft: GPT2 | None, n: int, n_draft: int, options: dict[str, Any]
) -> None:
    """Exactly: every path of the program is run, and weighed."""
    expected = law_alone(TARGET, [0, 1, 0], n, options)
    found = law_with_guesses(TARGET, draft, [0, 1, 0], n, n_draft, options)
    assert sum(found.values()) == pytest.approx(1, abs=1e-6)
    for ids in expected.keys() | found.keys():
        assert found.get(ids, 0) == pytest.approx(expected.get(ids, 0), abs=2e-6)


TARGET = random_model(TINY, dtype=torch.float64)
STRANGER = random_model(TINY, seed=4, dtype=torch.float64)


def test_a_sampled_text_follows_the_models_own_law() -> None:
    assert_same_law(STRANGER, 3, 2, {"temperature": 1.0})
    assert_same_law(None, 3, 2, {"temperature": 1.0})
    assert_same_law(STRANGER, 2, 1, {"temperature": 0.7, "repetition_penalty": 1.4})


@pytest.mark.slow
@pytest.mark.parametrize("options", LAWS, ids=str)
def test_the_law_whatever_the_draft_and_the_options(options: dict[str, Any]) -> None:
    for draft in (STRANGER, first_layers(TARGET, 1), TARGET, None):
        for n, n_draft in ((3, 1), (4, 2)):
            assert_same_law(draft, n, n_draft, options)


def test_a_wrong_rule_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing from the model again after a rejection, say, is not its law."""

    def wrong(logits: Any, guesses: Any, q: Any, sampler: Any, *ids: Any) -> list[int]:
        if not len(guesses):
            return [sampler.draw(sampler.probabilities(logits[0]))]
        p = sampler.probabilities(logits[0])
        chance = (p[guesses[0]] / q[0][guesses[0]]).clamp(max=1)
        if sampler.draw(torch.stack([1 - chance, chance])) == 0:
            return [sampler.draw(p)]
        return [guesses[0]]

    monkeypatch.setattr("hardway.decoding.speculative.verify", wrong)
    model, draft = random_model(TINY), random_model(TINY, seed=4)
    options = {"temperature": 1.0}
    expected = law_alone(model, [0], 2, options)
    found = law_with_guesses(model, draft, [0], 2, 1, options)
    assert max(abs(found[ids] - expected[ids]) for ids in expected) > 0.01


def test_golden_acceptance() -> None:
    """p (.5, .3, .2), q (.2, .5, .3): accept 1, .6, .667; the rest is all token 0."""
    p, q = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.2, 0.5, 0.3])
    logits = torch.stack([p.log(), p.log()])
    seen = []

    class Spy(Sampler):
        def draw(self, probabilities: Tensor) -> int:
            seen.append(probabilities.tolist())
            return 0

    for guess, chance in enumerate((1.0, 0.6, 2 / 3)):
        seen.clear()
        assert verify(logits, [guess], q[None], Spy(1.0), [], []) == [0]
        assert seen[0] == pytest.approx([1 - chance, chance])
        assert seen[1] == pytest.approx([0.3, 0, 0], abs=1e-6)


def test_equal_models_accept_every_guess() -> None:
    model = random_model()
    sampler = new_sampler(model.config, 20, temperature=1.0, seed=3)
    guesser = SmallModel(model, sampler, 23)
    steps = [*rounds(model, guesser, PROMPT, 20, 4, sampler, set())]
    assert [len(step.ids) for step in steps] == [5, 5, 5, 5]
    assert [step.n_guesses for step in steps] == [4, 4, 4, 4]
    assert [step.n_accepted for step in steps] == [4, 4, 4, 4]


def test_rounding_leaves_something_to_draw_from() -> None:
    """Where p is q but for rounding, a rejection finds nothing that p has more of."""
    p = torch.tensor([0.5, 0.5])

    class Rejecting(Sampler):
        def draw(self, probabilities: Tensor) -> int:
            assert probabilities.sum() > 0
            return 0

    q = p[None] * (1 + 1e-6)
    assert verify(torch.zeros(2, 2), [1], q, Rejecting(1.0), [], []) == [0]


def test_a_seed_repeats(model: GPT2) -> None:
    how = {"temperature": 1.0, "top_p": 0.9, "seed": 5}
    draft = first_layers(model, 1)
    first = speculative_generate(model, draft, PROMPT, 20, **how)
    assert speculative_generate(model, draft, PROMPT, 20, **how) == first
    assert speculative_generate(model, draft, PROMPT, 20, **how | {"seed": 6}) != first


# --- passes and caches ---


class Counting:
    """A model that counts its passes, and the tokens of each."""

    def __init__(self, model: Any) -> None:
        self.model, self.config = model, model.config
        self.fed: list[int] = []

    def __call__(self, tokens: Tensor, *others: Any, **options: Any) -> Tensor:
        self.fed.append(len(tokens))
        return self.model(tokens, *others, **options)

    def new_cache(self, *sizes: Any) -> Any:
        return self.model.new_cache(*sizes)


def test_nothing_accepted_is_computed_twice(model: GPT2) -> None:
    """With a perfect draft: prefill, then five tokens a pass, the first one old."""
    target, draft = Counting(model), Counting(model)
    speculative_generate(target, draft, PROMPT, 20)
    assert target.fed == [2, 5, 5, 5, 5]
    assert draft.fed == [3, 1, 1, 1, 2, 1, 1, 1, 2, 1, 1, 1, 2, 1, 1, 1]


def test_a_repeated_text_is_looked_up(model: GPT2) -> None:
    target = Counting(model)
    prompt = [1, 2, 3, 4, 5, 6, 7] * 2
    speculative_generate(target, None, prompt, 10, 3)
    assert target.fed[:2] == [13, 4]
    assert len(target.fed) <= 11


@given(text=st.lists(st.integers(0, 3), min_size=1, max_size=12), n=st.integers(0, 5))
def test_what_is_looked_up(text: list[int], n: int) -> None:
    """The latest place where the last three, or two, tokens stood before."""
    guesses, q = LookUp(4).propose(text, [], n)
    expected: list[int] = []
    for size in (3, 2):
        places = [
            i for i in range(size, len(text)) if text[i - size : i] == text[-size:]
        ]
        if places and len(text) > size:
            expected = text[places[-1] :][:n]
            break
    assert guesses == expected
    assert q.shape == (len(guesses), 4)
    assert [row.argmax() for row in q] == guesses
    assert q.sum() == len(guesses)


def test_a_stop_id_among_the_guesses_ends_the_text(model: GPT2) -> None:
    text = generate(model, PROMPT, 20)
    sampler = new_sampler(model.config, 20)
    for stop in (*text[:8], 96):
        expected = generate(model, PROMPT, 20, stop_ids=[stop])
        guesser = SmallModel(model, sampler, 23)
        steps = [*rounds(model, guesser, PROMPT, 20, 4, sampler, {stop})]
        assert [id for step in steps for id in step.ids] == expected
        assert all(isinstance(step, Round) for step in steps)


def test_constraints_hold_with_guesses() -> None:
    from chats import chat_tokenizer

    tokenizer: Tokenizer = chat_tokenizer()
    config = with_sizes(SMALL, n_vocab=tokenizer.n_vocab, n_ctx=99)
    model, draft = random_model(config), random_model(config, seed=1)
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    for constraint in (Regex("[ab]{3,9}c", tokenizer), JsonSchema(schema, tokenizer)):
        expected = generate(model, [1], 30, constraint=constraint)
        for guesser in (draft, None):
            found = speculative_generate(model, guesser, [1], 30, constraint=constraint)
            assert found == expected


# --- drafts ---


@pytest.mark.parametrize("make", [random_model, random_llama])
def test_first_layers(make: Any) -> None:
    model = make()
    draft = first_layers(model, 1)
    assert type(draft) is type(model)
    assert draft.config.n_layer == 1
    tokens = torch.tensor([1, 2, 3])
    stream = [x for x, _ in model.residual_stream(tokens[None])]
    torch.testing.assert_close(draft(tokens), model.logits(stream[1][0]))
    whole = first_layers(model, 2)
    assert torch.equal(whole(tokens), model(tokens))
    for n in (0, 3, 1.5):
        with refuses("n_layer"):
            first_layers(model, n)


@pytest.mark.parametrize(("name", "value"), BAD_OPTIONS)
def test_bad_options(name: str, value: Any) -> None:
    model = Counting(random_model())
    with refuses(name):
        speculative_generate(model, None, PROMPT, 5, **{name: value})
    assert not model.fed


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("n_draft", {"n_draft": 0}), ("n_draft", {"n_draft": "4"}),
        ("max_new_tokens", {"max_new_tokens": -1}),
        ("prompt_ids", {"prompt_ids": []}), ("each of stop_ids", {"stop_ids": [97]}),
        ("draft", {"draft": random_model(with_sizes(SMALL, n_vocab=96))}),
        ("draft", {"draft": random_model(with_sizes(SMALL, n_ctx=7))}),
    ],
)  # fmt: skip
def test_bad_arguments(name: str, arguments: dict[str, Any]) -> None:
    model = Counting(random_model())
    given_ = {"draft": None, "prompt_ids": PROMPT, "max_new_tokens": 5} | arguments
    with refuses(name):
        speculative_generate(model, **given_)
    assert not model.fed
