"""The model in the browser computes what the library does, on its 8-bit weights."""

import json
import random
import unicodedata
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from playwright.sync_api import Page, sync_playwright

import browser as chromium
import figures_page
from hardway import GPT2, Tokenizer, generate
from hardway.attention import softmax
from hardway.block import transformer_block
from hardway.embeddings import embed
from theme import browser as figures
from theme import recorded

pytestmark = pytest.mark.browser

CLOSE = 1e-3
SENTENCE = "Once upon a time, there was a little girl named Lily."
BEGINNINGS = """\
Once upon a time | The cat saw the dog and | One day, a boy named Tim | In the garden
She said, "I am | The sun was | A big red ball | Tom and Sue went to the | 3 + 4 =
import | Es war einmal | L'ours et | Ένα μικρό | Жил-был | むかし | 🐉 and 🐈
Hello, world | THE END | It was a dark and stormy night, and | What is
He did not like | They all lived happily ever | Mother told the children that
The old king | My dear | On the hill stood | Nobody knew | "Yes," said the fox
At last | Far away in | the | . | I | and then | ' | \t | snow white | A frog jumped
up and down | No, no, no | Where are you | Thank you | Every morning | Once
The ship sailed | under the bed | He ran and ran and ran | Winter came | a b c d e f g
Please help me | The moon"""
LOGITS = """async (prompt) => {
  const reader = new FileReader(), logits = await hardway.logits(prompt);
  const read = new Promise((resolve) => reader.onload = () => resolve(reader.result));
  reader.readAsDataURL(new Blob([logits]));
  return read;
}"""
PROMPTS = [
    text.strip(" ") for line in BEGINNINGS.split("\n") for text in line.split(" | ")
]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """Open a page whose console has the model, and nothing recorded."""
    folder = tmp_path_factory.mktemp("figures")
    figures_page.write(folder, recorded=False)
    with sync_playwright() as playwright, chromium.serving(folder) as home:
        launched = chromium.launch(playwright)
        opened = launched.new_page()
        opened.goto(f"{home}console.html")
        yield opened
        launched.close()


@pytest.fixture(scope="module")
def model() -> GPT2:
    return figures.pocket()[1]


def ask(page: Page, method: str, question: Any) -> Any:
    asked = [method, question]
    return page.evaluate("([method, question]) => hardway.ask(method, question)", asked)


def is_old(character: str) -> bool:
    """Tell whether Python's Unicode has a character; newer ones, a browser may lack."""
    return unicodedata.category(character) not in ("Cn", "Cs")


def fuzzed(n: int) -> Iterator[str]:
    """Yield texts of all kinds of characters, words and white space."""
    chance = random.Random(0)
    ranges = [
        (0, 128), (0, 128), (128, 0x250), (0x370, 0x600), (0x900, 0x980),
        (0x2000, 0x2070), (0x3040, 0x30FF), (0x4E00, 0x9FFF), (0x1F300, 0x1F650),
    ]  # fmt: skip
    spaces = ["\x1c", "\x1f", "\x85", "\xa0", "\u2028", "\u3000", "\ufeff", "\u200b"]
    words = [" the", "'s", "'ll", "  ", "\n\n", " \n", "22", "don't", "<|endoftext|>"]
    for _ in range(n):
        text = ""
        for _ in range(chance.randint(1, 12)):
            low, high = chance.choice(ranges)
            kinds = [chr(chance.randrange(low, high)), chance.choice(spaces + words)]
            text += chance.choice(kinds) * chance.choice((1, 1, 1, 3))
        if all(map(is_old, text)):
            yield text


def test_ids_are_the_library_s(page: Page, tokenizer: Tokenizer) -> None:
    texts = [*PROMPTS, *fuzzed(5000)]
    found = page.evaluate("texts => Promise.all(texts.map(hardway.encode))", texts)
    wrong = [
        text
        for text, ids in zip(texts, found, strict=True)
        if ids != tokenizer.encode(text)
    ]
    assert wrong == []


def test_every_character_is_split_as_in_the_library(
    page: Page, tokenizer: Tokenizer
) -> None:
    """Of letters, numbers, white space, and others, in all that Unicode assigns."""
    every = [*filter(is_old, map(chr, range(0x20000)))]
    texts = [
        "x".join(every[start : start + 512]) for start in range(0, len(every), 512)
    ]
    found = page.evaluate("texts => Promise.all(texts.map(hardway.encode))", texts)
    for text, ids in zip(texts, found, strict=True):
        assert ids == tokenizer.encode(text), ascii(text[:2])


def test_text_comes_back(page: Page, tokenizer: Tokenizer) -> None:
    for text in ["\ufeffa cat 🐉\x00", *fuzzed(50)]:
        assert ask(page, "decode", {"ids": tokenizer.encode(text)}) == text
    cut = tokenizer.encode("🐉")[:-1]
    assert ask(page, "decode", {"ids": cut}) == tokenizer.decode(cut)


@pytest.mark.parametrize(
    ("program", "problem"),
    [
        ("hardway.encode('\\ud800')", "surrogate"),
        ("hardway.logits('')", "at least one token"),
        ("hardway.generate([])", "at least one token"),
        ("hardway.logits('a '.repeat(600))", "too long: at most 512 tokens"),
        ("hardway.generate('a', 600)", "too long: at most 512 tokens"),
        ("hardway.logits([1, 50257])", "ids must be from 0 to 50256"),
        ("hardway.logits([0.5])", "ids must be from 0 to 50256"),
    ],
)
def test_what_cannot_be_done_is_said(page: Page, program: str, problem: str) -> None:
    said = page.evaluate(f"{program}.catch((error) => error.message)")
    assert problem in said


def test_after_a_refusal_the_model_answers_as_before(
    page: Page, model: GPT2, tokenizer: Tokenizer
) -> None:
    ids = tokenizer.encode(SENTENCE)
    for refused in ([*ids, -1], [*ids, *ids * 50]):
        asked = "(ids) => hardway.logits(ids).catch(() => 'refused')"
        assert page.evaluate(asked, refused) == "refused"
        ((id, _, _), *_) = ask(page, "next", {"ids": ids})
        assert id == int(model(torch.tensor(ids), last_only=True)[-1].argmax())
    assert page.evaluate("hardway.encode('')") == []


def test_logits_agree(page: Page, model: GPT2, tokenizer: Tokenizer) -> None:
    assert len(PROMPTS) >= 50
    for prompt in PROMPTS:
        found = b64decode(page.evaluate(LOGITS, prompt).partition(",")[2])
        right = model(torch.tensor(tokenizer.encode(prompt)), last_only=True)[-1]
        off = torch.frombuffer(bytearray(found), dtype=torch.float32) - right
        assert off.abs().max() < CLOSE, prompt


def weights_of(answer: dict[str, Any], masked: bool = True) -> torch.Tensor:
    """Return the attention weights that a figure makes of the scores."""
    n = len(answer["pieces"])
    scores = torch.tensor(answer["scores"]).reshape(6, 4, n, n)
    scores = scores / answer["d_head"] ** 0.5
    if masked:
        scores = scores.masked_fill(torch.ones(n, n).triu(1).bool(), -torch.inf)
    return softmax(scores)


def test_attention_agrees(page: Page, model: GPT2, tokenizer: Tokenizer) -> None:
    for prompt in PROMPTS:
        trace = model.trace(torch.tensor(tokenizer.encode(prompt)))
        answer = ask(page, "attention", {"text": prompt, "limit": 100})
        assert (weights_of(answer) - trace.attention).abs().max() < CLOSE
        probabilities = softmax(trace.logits[-1])
        for id, piece, p in answer["rivals"]:
            assert abs(p - probabilities[id].item()) < CLOSE


def test_attention_without_a_mask_or_a_scale_agrees(
    page: Page, model: GPT2, tokenizer: Tokenizer
) -> None:
    ids = torch.tensor(tokenizer.encode(SENTENCE))
    n, epsilon = len(ids), model.config.layer_norm_epsilon
    asked = {"text": SENTENCE, "limit": 100}
    x = embed(ids, torch.arange(n), model.wte, model.wpe)
    found = []
    for block in model.blocks:
        x, weights = transformer_block(x, block, 4, epsilon, torch.ones(n, n).bool())
        found.append(weights)
    answer = ask(page, "attention", asked | {"unmasked": True})
    assert (weights_of(answer, masked=False) - torch.stack(found)).abs().max() < CLOSE

    unscaled = {name: weight.clone() for name, weight in model.weights.items()}
    for layer in range(6):  # queries larger by √d_head undo the division
        for part in ("weight", "bias"):
            unscaled[f"h.{layer}.attn.c_attn.{part}"][..., :128] *= 32**0.5
    right = softmax(GPT2(model.config, unscaled)(ids)[-1])
    answer = ask(page, "attention", asked | {"unscaled": True})
    for id, _, p in answer["rivals"]:
        assert abs(p - right[id].item()) < CLOSE


def test_a_silenced_head_adds_nothing(
    page: Page, model: GPT2, tokenizer: Tokenizer
) -> None:
    silent = {name: weight.clone() for name, weight in model.weights.items()}
    silent["h.3.attn.c_proj.weight"][32:64] = 0  # the rows that head 1 goes through
    silent["h.0.attn.c_proj.weight"][96:] = 0
    right = GPT2(model.config, silent)(torch.tensor(tokenizer.encode(SENTENCE)))[-1]
    asked = {"text": SENTENCE, "limit": 100, "silenced": ["0.3", "3.1"]}
    for id, _, p in ask(page, "attention", asked)["rivals"]:
        assert abs(p - softmax(right)[id].item()) < CLOSE


@pytest.mark.parametrize(
    ("options", "python"),
    [
        ({}, {}),
        ({"temperature": 0.8, "topK": 40}, {"temperature": 0.8, "top_k": 40}),
        ({"temperature": 1.3, "topP": 0.9}, {"temperature": 1.3, "top_p": 0.9}),
        ({"temperature": 1.0, "minP": 0.05}, {"temperature": 1.0, "min_p": 0.05}),
    ],
)
def test_the_same_seed_gives_the_same_text(
    page: Page, model: GPT2, tokenizer: Tokenizer, options: Any, python: Any
) -> None:
    for seed in (0, 7, 4294967295):
        ids = tokenizer.encode(SENTENCE)
        right = tokenizer.decode(generate(model, ids, 40, seed=seed, **python))
        found = page.evaluate(
            "([prompt, options]) => hardway.generate(prompt, 40, options)",
            [SENTENCE, options | {"seed": seed}],
        )
        assert found == right


def test_the_lens_reads_every_layer(
    page: Page, model: GPT2, tokenizer: Tokenizer
) -> None:
    ids = torch.tensor(tokenizer.encode(SENTENCE))
    logits = model.logits(model.trace(ids).residual)
    answer = ask(page, "lens", {"text": SENTENCE, "limit": 100})
    for layer, cells in enumerate(answer["cells"]):
        for t, rivals in enumerate(cells):
            right = softmax(logits[layer, t])
            for id, _, p in rivals:
                assert abs(p - right[id].item()) < CLOSE
            final = int(logits[-1, t].argmax())
            above = int((logits[layer, t] > logits[layer, t, final]).sum())
            assert answer["ranks"][layer][t] == 1 + above
    loss = -softmax(logits[-1, :-1])[range(len(ids) - 1), ids[1:]].log2()
    assert (torch.tensor(answer["surprisal"]) - loss).abs().max() < CLOSE


def test_a_step_at_the_wrong_position_agrees(
    page: Page, model: GPT2, tokenizer: Tokenizer
) -> None:
    ids = tokenizer.encode(SENTENCE)
    right = model(torch.tensor(ids))[-1]
    answer = ask(page, "step", {"ids": ids, "prompt": 4, "misplaced": False})
    assert answer["rivals"][0][0] == int(right.argmax())
    assert answer["cached"] > 0 < answer["uncached"]

    positions = torch.tensor([*range(4), *[0] * (len(ids) - 4)])
    x = embed(torch.tensor(ids), positions, model.wte, model.wpe)
    mask = torch.ones(len(ids), len(ids)).tril().bool()
    for block in model.blocks:
        x, _ = transformer_block(x, block, 4, model.config.layer_norm_epsilon, mask)
    wrong = softmax(model.logits(x[-1]))
    answer = ask(page, "step", {"ids": ids, "prompt": 4, "misplaced": True})
    for id, _, p in answer["rivals"]:
        assert abs(p - wrong[id].item()) < CLOSE


def close(found: Any, right: Any) -> bool:
    """Compare answers, their numbers nearly."""
    match found, right:
        case ({}, {}) if isinstance(found, dict):
            return found.keys() == right.keys() and all(
                close(found[key], right[key]) for key in right
            )
        case ([*some], [*others]):
            return len(some) == len(others) and all(map(close, some, others))
        case (int() | float(), int() | float()):
            return abs(found - right) < CLOSE + 2e-3 * abs(right)
    return found == right


@pytest.mark.parametrize("figure", figures.defaults())
def test_what_was_recorded_is_what_the_browser_computes(
    page: Page, figure: str
) -> None:
    for method, question, answer in figures.recordings()[figure]:
        right = json.loads(json.dumps(answer))
        if figure == "attention":  # recorded to two decimals
            found = ask(page, method, question)
            assert (weights_of(found) - weights_of(right)).abs().max() < 0.01
            assert close(found["rivals"], right["rivals"])
        else:
            assert close(ask(page, method, question), right), question


def test_the_scheduler_does_what_the_library_s_does(page: Page) -> None:
    chance = random.Random(1)
    seen = {"hits": 0, "preemptions": 0}
    asked = figures.defaults()["scheduler"]
    for _ in range(60):
        events = "".join(chance.choice("sl....") for _ in range(60))
        _, question, right = recorded.schedule(**(asked | {"events": events}))
        assert ask(page, "schedule", question) == right, events
        seen = {name: seen[name] + right[name] for name in seen}
    assert min(seen.values()) > 0


def test_a_token_takes_ten_milliseconds(page: Page) -> None:
    """At its best of a few, because others use the processor, too."""
    program = """async () => {
      const before = performance.now();
      await hardway.generate("Once upon a time", 25);
      return (performance.now() - before) / 25;
    }"""
    page.evaluate(program)
    assert min(page.evaluate(program) for _ in range(8)) <= 10


def test_the_model_is_kept_by_the_browser(tmp_path: Path, page: Page) -> None:
    folder = tmp_path
    figures_page.write(folder)
    with chromium.serving(folder) as home:
        context = page.context.browser.new_context()
        asked: list[str] = []
        context.on("request", lambda request: asked.append(request.url))
        for _ in range(2):
            opened = context.new_page()
            opened.goto(f"{home}console.html")
            opened.evaluate("hardway.logits('a')")
        context.close()
    assert len([url for url in asked if "weights" in url]) == 1


def test_a_model_that_is_missing_is_asked_for_again(tmp_path: Path, page: Page) -> None:
    figures_page.write(tmp_path)
    weights = next(tmp_path.glob("weights-*.bin"))
    away = weights.rename(tmp_path / "away")
    with chromium.serving(tmp_path) as home:
        opened = page.context.browser.new_page()
        opened.goto(f"{home}console.html")
        program = "hardway.logits('a').then(() => 'done', (error) => error.message)"
        assert "can't be loaded (404)" in opened.evaluate(program)
        away.rename(weights)
        assert opened.evaluate(program) == "done"
        opened.close()
