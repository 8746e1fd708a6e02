"""A model with more rows than its tokenizer has tokens, padded or resized."""

from typing import Any

import pytest
import torch
from torch import Tensor

import hardway
from hardway import GPT2, Chat, Config, Tokenizer, generate, inputs, stream_text
from hardway.decoding import Regex
from hardway.fast import FastGPT2
from hardway.serving import Engine
from hardway.tokenizer import BYTE_OF, END_OF_TEXT
from references import random_model
from refusals import refuses

N_TOKENS = len(BYTE_OF) + 1
SIZES = [N_TOKENS + 1, N_TOKENS + 47]


@pytest.fixture
def of_bytes() -> Tokenizer:
    return Tokenizer(BYTE_OF | {END_OF_TEXT: N_TOKENS - 1}, [])


def padded(n_vocab: int) -> Any:
    """A model that would nearly always write an id without a token."""
    config = Config(n_vocab=n_vocab, n_ctx=64, n_embd=24, n_head=3, n_layer=2)
    weights = random_model(config).weights
    weights["wte.weight"][N_TOKENS:] *= 20
    return FastGPT2(config, weights)


@pytest.mark.parametrize("n_vocab", SIZES)
@pytest.mark.parametrize("options", [{}, {"temperature": 5.0, "seed": 1, "top_k": 3}])
def test_ids_without_a_token_are_not_drawn(
    n_vocab: int, options: Any, of_bytes: Tokenizer
) -> None:
    model = padded(n_vocab)
    ids = of_bytes.encode("hi")
    assert max(generate(model, ids, 40, **options)) >= N_TOKENS  # as ids, they are
    text = "".join(stream_text(model, of_bytes, "hi", 40, **options))
    narrow = inputs.fit_vocabulary(model, of_bytes.n_vocab)
    assert text == of_bytes.decode(generate(narrow, ids, 40, **options))
    assert narrow.config.n_vocab == N_TOKENS
    assert model.config.n_vocab == n_vocab


def test_the_others_keep_their_logits(of_bytes: Tokenizer) -> None:
    model, tokens = padded(SIZES[1]), torch.tensor([[1, 2, 3]])
    narrow = inputs.fit_vocabulary(model, of_bytes.n_vocab)
    cache = narrow.new_cache(1, 8)
    assert torch.equal(narrow(tokens), model(tokens)[..., :N_TOKENS])
    last = narrow(tokens, cache, last_only=True)[0, 0]
    torch.testing.assert_close(last, model(tokens)[0, -1, :N_TOKENS])
    same = padded(N_TOKENS)
    assert inputs.fit_vocabulary(same, of_bytes.n_vocab) is same


def test_a_constraint_of_the_tokenizer_s_size(of_bytes: Tokenizer) -> None:
    constraint = Regex("[0-9]{3}", of_bytes)
    pieces = stream_text(padded(SIZES[0]), of_bytes, "a", 9, constraint=constraint)
    text = "".join(pieces)
    assert len(text) == 3
    assert text.isdigit()


def test_a_chat(of_bytes: Tokenizer) -> None:
    from hardway.chat import DEFAULT_SYSTEM, END, START

    template = (
        "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + "
        "message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}"
        f"{{{{ '<|im_start|>assistant\\n' }}}}{DEFAULT_SYSTEM}"
    )
    vocab = BYTE_OF | {END_OF_TEXT: 256, START: 257, END: 258}
    tokenizer = Tokenizer(vocab, [], [START, END], chat_template=template)
    config = Config(n_vocab=300, n_ctx=256, n_embd=24, n_head=3, n_layer=2)
    weights = random_model(config).weights
    weights["wte.weight"][259:] *= 20
    chat = Chat(FastGPT2(config, weights), tokenizer)
    assert isinstance("".join(chat.send("hi", 20, temperature=2.0, seed=0)), str)


@pytest.mark.parametrize("n_vocab", [N_TOKENS - 1, N_TOKENS + inputs.MAX_PADDING])
def test_another_model_s_tokenizer_is_refused(
    n_vocab: int, of_bytes: Tokenizer
) -> None:
    with refuses("tokenizer"):
        stream_text(padded(n_vocab), of_bytes, "hi", 4)
    with refuses("tokenizer"):
        inputs.check_vocabularies(50257, 49152)  # GPT-2's model, SmolLM2's tokenizer


def test_the_command_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    of_bytes: Tokenizer,
) -> None:
    from hardway.cli import main

    def load(name: str) -> Any:
        return padded(SIZES[1])

    monkeypatch.setattr(hardway, "load", load, raising=False)
    monkeypatch.setattr(hardway, "load_tokenizer", lambda _: of_bytes, raising=False)
    main(["generate", "hi", "--max-new-tokens", "20", "--temperature", "5"])
    assert capsys.readouterr().out.endswith("\n")


def test_an_engine(of_bytes: Tokenizer) -> None:
    model = padded(SIZES[1])
    engine = Engine(inputs.fit_vocabulary(model, of_bytes.n_vocab))
    request = engine.submit([1, 2, 3], 20)
    engine.run()
    narrow = inputs.fit_vocabulary(model, of_bytes.n_vocab)
    assert request.output_ids == generate(narrow, [1, 2, 3], 20)
    assert max(request.output_ids) < N_TOKENS
    taught = GPT2(model.config, random_model(model.config).weights)
    with refuses("model"):
        Engine(inputs.fit_vocabulary(taught, of_bytes.n_vocab))


def test_logits_are_a_tensor(of_bytes: Tokenizer) -> None:
    logits = inputs.fit_vocabulary(padded(SIZES[0]), N_TOKENS)(torch.tensor([1]))
    assert isinstance(logits, Tensor)
    assert logits.shape == (1, N_TOKENS)
