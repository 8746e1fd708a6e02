"""The command line: the library's words, in a terminal and in a pipe."""

import contextlib
import functools
import io
import itertools
import json
import os
import re
import runpy
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gguf
import jsonschema
import numpy as np
import pexpect
import pytest
import torch
from prompt_toolkit.application import create_app_session
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput
from torch import Tensor

import hardway.__main__
from chats import TEMPLATE, Saying, chat_tokenizer
from hardway import GPT2, Chat, Tokenizer, generate, hub
from hardway.cli import main, visible
from hardway.fast.gpt2 import FastGPT2
from hardway.fast.tokenizer import FastTokenizer
from hub_server import FILES, HubServer, status
from references import SMALL, random_model, save_model, with_sizes
from smollm2 import SMOLLM2, needs_smollm2

Capture = pytest.CaptureFixture[str]
LABELS = [
    "Input token indices:",
    "Input tokens:",
    "Embeddings:",
    "Q:",
    "K:",
    "V:",
    "--- Decoding next token ---",
    "[Decode] Embedding for last token:",
    "[Decode] Q for last token:",
    "[Decode] Attention scores:",
    "[Decode] Attention weights:",
    "[Decode] Attention output:",
    "[Decode] Logits:",
    "[Decode] Probabilities:",
    "Predicted next token:",
]
HELLO = "hello how are you?"
COMMANDS = [
    "demo", "download", "inspect", "tokenize", "generate", "chat", "train", "export",
    "eval", "serve",
]  # fmt: skip


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let the command read this from its standard input."""

    def feed(text: str, terminal: bool = False) -> None:
        stream = io.StringIO(text)
        stream.isatty = lambda: terminal  # type: ignore[method-assign]
        monkeypatch.setattr(sys, "stdin", stream)

    return feed


@pytest.fixture(autouse=True, scope="module")
def loaded_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for kind in (FastTokenizer, FastGPT2):
            once = functools.cache(kind.from_pretrained)
            patch.setattr(kind, "from_pretrained", once)
        yield


# Two threads that wait for each other make a model slow where another test runs.
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}


def ran(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, **options
    )


def labels(output: str) -> list[str]:
    """Everything in front of a colon, and the line between the two phases."""
    return re.findall(r"^[A-Z\[][^:\d]*:|^---.*---$", output, re.MULTILINE)


def test_demo(capsys: Capture) -> None:
    main(["demo", HELLO])
    out, err = capsys.readouterr()
    assert labels(out) == LABELS
    lines = out.splitlines()
    assert lines[0] == "Input token indices: [31373, 703, 389, 345, 30]"
    assert lines[1] == "Input tokens: ['hello', ' how', ' are', ' you', '?']"
    assert [len(re.findall(r"-?\d+\.\d{3}", line)) for line in lines[3:8]] == [8] * 5
    assert re.fullmatch(r"Predicted next token: '.*' \(token \d{1,5}\)", lines[-1])
    assert err == ""


@pytest.mark.slow
def test_demo_seed(capsys: Capture) -> None:
    outputs = []
    for seed in ("0", "0", "1"):
        main(["demo", HELLO, "--seed", seed])
        outputs.append(capsys.readouterr().out)
    main(["demo", HELLO])
    assert outputs[0] == outputs[1] == capsys.readouterr().out != outputs[2]


@pytest.mark.parametrize("terminal", [True, False])
def test_demo_asks(terminal: bool, stdin: Any, capsys: Capture) -> None:
    main(["demo", HELLO])
    expected = capsys.readouterr().out
    stdin(f"{HELLO}\n", terminal)
    main(["demo"])
    enter = "" if terminal else "\n"
    asked = f"Any English sentence: {enter}{expected}"
    assert capsys.readouterr() == (asked, "")


@pytest.mark.slow
def test_dash_is_standard_input(stdin: Any, capsys: Capture) -> None:
    commands: list[list[str]] = [
        ["demo"],
        ["tokenize"],
        ["generate", "--max-new-tokens", "3"],
    ]
    for command in commands:
        main([*command, HELLO])
        expected = capsys.readouterr()
        stdin(HELLO)
        main([*command, "-"])
        assert capsys.readouterr() == expected


def test_download(remote: HubServer, tmp_path: Path, capsys: Capture) -> None:
    main(["download", "gpt2"])
    assert capsys.readouterr() == (f"{tmp_path / 'home' / 'gpt2'}\n", "")
    main(["download", "gpt2", "--directory", str(tmp_path / "x")])
    assert capsys.readouterr() == (f"{tmp_path / 'x'}\n", "")
    assert {path.name for path in (tmp_path / "x").iterdir()} == set(FILES)


def test_inspect(capsys: Capture) -> None:
    main(["inspect", "pocket"])
    out, err = capsys.readouterr()
    heading, *rows, total = out.splitlines()
    assert heading.split() == ["name", "dtype", "shape", "bytes", "parameters"]
    assert len(rows) == 76
    assert total == "76 tensors, 7,688,320 parameters, 15,376,640 bytes"
    wte = "wte.weight F16 50257 × 128 12,865,792 6,432,896"
    assert wte in [" ".join(row.split()).removeprefix("transformer.") for row in rows]
    assert err == ""
    main(["inspect", str(hub.POCKET)])
    assert capsys.readouterr().out == out
    main(["inspect", str(hub.POCKET / "model.safetensors")])
    assert capsys.readouterr().out == out


STRANGE = b"""{"a\\u001b[2J\\n:smile:[red]":{"dtype":"I8","shape":[],\
"data_offsets":[0,1]},"%s":{"dtype":"F8_E4M3","shape":[0,3],"data_offsets":[1,1]}}"""


def test_inspect_a_stranger_s_file(tmp_path: Path, capsys: Capture) -> None:
    header = STRANGE % (b"n" * 99)
    path = tmp_path / "x.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"x")
    main(["inspect", str(path)])
    rows = capsys.readouterr().out.splitlines()
    assert rows[1].split() == ["a\\x1b[2J\\n:smile:[red]", "I8", "scalar", "1", "1"]
    assert rows[2].split() == ["n" * 99, "F8_E4M3", "0", "×", "3", "0", "0"]
    assert rows[3] == "2 tensors, 1 parameters, 1 bytes"


def test_inspect_a_gguf_file(tmp_path: Path, capsys: Capture) -> None:
    writer = gguf.GGUFWriter(tmp_path / "x.gguf", "llama\x1b[2J")
    writer.add_string("a\x1b", "b c\nd" * 30)
    writer.add_array("many", list(range(1000)))
    writer.add_array("few", ["\x9b", "x"])
    writer.add_float32("epsilon", 0.5)
    writer.add_tensor("t\x1b[2J", np.zeros((3, 2), np.float32))
    blocks = np.zeros((2, 40), np.uint8)
    writer.add_tensor("q", blocks, raw_dtype=gguf.GGMLQuantizationType.Q4_1)
    for step in ("header", "kv_data", "tensors"):
        getattr(writer, f"write_{step}_to_file")()
    writer.close()
    main(["inspect", str(tmp_path / "x.gguf")])
    out, err = capsys.readouterr()
    assert err == ""
    rows = [" ".join(line.split()) for line in out.splitlines()]
    assert rows[:4] == [
        "name kind shape bytes parameters",
        "t\\x1b[2J F32 3 × 2 24 6",
        "q Q4_1 2 × 64 80 128",
        "2 tensors, 134 parameters, 104 bytes",
    ]
    assert rows[4:6] == ["", "key value"]
    assert "general.architecture 'llama\\x1b[2J'" in rows
    [long] = [row for row in rows if row.startswith("a\\x1b 'b c\\nd")]
    assert "..." in long
    assert len(long) < 150
    assert "many 1,000 values: [0, 1, 2, 3, 4, 5, 6, 7, ...]" in rows
    assert "few 2 values: ['\\x9b', 'x']" in rows
    assert "epsilon 0.5" in rows
    main(["inspect", str(tmp_path)])
    assert capsys.readouterr().out == out


def test_inspect_smollm2(capsys: Capture) -> None:
    try:
        hub.find("smollm2")
    except FileNotFoundError as error:
        pytest.skip(str(error))
    main(["inspect", "smollm2"])
    out = capsys.readouterr().out
    assert "272 tensors, 134,515,008 parameters, " in out
    assert re.search(r"^general.architecture +'llama' *$", out, re.MULTILINE)


def test_inspect_in_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERM", "xterm")
    main(["inspect", "pocket"])
    plain = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    assert max(map(len, plain.splitlines()[:-1])) <= 40


def test_tokenize(capsys: Capture) -> None:
    main(["tokenize", "Hello tokenization\n👋"])
    assert capsys.readouterr() == (
        " 15496  Hello\n"
        " 11241  ␣token\n"
        "  1634  ization\n"
        "   198  \\n\n"
        " 41840  \\xf0\\x9f\\x91\n"
        "   233  \\x8b\n",
        "",
    )
    main(["tokenize", ""])
    assert capsys.readouterr() == ("", "")


ONCE = "Once upon a time"


@pytest.mark.parametrize(
    ("options", "arguments"),
    [
        ([], {}),
        (["--no-cache"], {"use_cache": False}),
        (
            ["--temperature", "0.9", "--top-k", "40", "--seed", "7"],
            {"temperature": 0.9, "top_k": 40, "seed": 7},
        ),
        (
            ["--temperature", "1.5", "--top-p", "0.8", "--seed", "8", "--no-cache"],
            {"temperature": 1.5, "top_p": 0.8, "seed": 8},
        ),
        (
            ["--min-p", "0.1", "--temperature", "2", "--seed", "3",
             "--repetition-penalty", "1.5"],
            {"min_p": 0.1, "temperature": 2.0, "seed": 3, "repetition_penalty": 1.5},
        ),
        (
            ["--frequency-penalty", "0.5", "--presence-penalty", "1.5"],
            {"frequency_penalty": 0.5, "presence_penalty": 1.5},
        ),
    ],
)  # fmt: skip
def test_generate(
    options: list[str],
    arguments: dict[str, Any],
    pocket: GPT2,
    tokenizer: Tokenizer,
    capsys: Capture,
) -> None:
    main(["generate", ONCE, "--max-new-tokens", "12", *options])
    stop = (tokenizer.eot_id,)
    ids = generate(pocket, tokenizer.encode(ONCE), 12, stop_ids=stop, **arguments)
    assert capsys.readouterr() == (f"{tokenizer.decode(ids)}\n", "")


def test_generate_ends_before_a_stop_string(
    pocket: GPT2, tokenizer: Tokenizer, capsys: Capture
) -> None:
    text = tokenizer.decode(generate(pocket, tokenizer.encode(ONCE), 12))
    stops = ["--stop", text[20:25], "--stop", text[9:12]]
    main(["generate", ONCE, "--max-new-tokens", "12", *stops])
    expected = text[: min(text.index(text[9:12]), text.index(text[20:25]))]
    assert capsys.readouterr() == (f"{expected}\n", "")


def test_generate_keeps_to_a_pattern_or_a_schema(
    tmp_path: Path, capsys: Capture
) -> None:
    many = ["generate", ONCE, "--temperature", "2", "--max-new-tokens", "30"]
    main([*many, "--regex", "[a-f]{3,9}!"])
    assert re.fullmatch("[a-f]{3,9}!\n", capsys.readouterr().out)
    path = tmp_path / "form.json"
    schema = {"type": "object", "properties": {"ä": {"type": "integer"}}}
    path.write_text(json.dumps(schema, ensure_ascii=False), encoding="utf-8")
    main([*many, "--json-schema", str(path)])
    jsonschema.validate(json.loads(capsys.readouterr().out), schema)
    for text in ("{", "[" * 5000, '{"type": "date"}', "[]"):
        path.write_text(text)
        with pytest.raises(SystemExit):
            main([*many, "--json-schema", str(path)])
        assert f"hardway: {path}: " in capsys.readouterr().err


def test_generate_with_a_directory(capsys: Capture) -> None:
    outputs = []
    for model in ("pocket", str(hub.POCKET)):
        main(["generate", ONCE, "--max-new-tokens", "5", "--model", model])
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1]


def test_generate_refuses_the_vocabulary_of_another_model(
    tmp_path: Path, capsys: Capture
) -> None:
    save_model(tmp_path, random_model().weights)
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / name).write_bytes((hub.POCKET / name).read_bytes())
    with pytest.raises(SystemExit):
        main(["generate", "!", "--model", str(tmp_path)])  # id 0 is in both
    assert capsys.readouterr().err.startswith("hardway: tokenizer must have the")


def test_generate_stops_at_the_end_of_text(
    monkeypatch: pytest.MonkeyPatch,
    pocket: GPT2,
    tokenizer: Tokenizer,
    capsys: Capture,
) -> None:
    ids = iter([*tokenizer.encode(" the end"), tokenizer.eot_id])

    class Saying(FastGPT2):
        def __call__(self, tokens: Tensor, *_: Any, **__: Any) -> Tensor:
            said = torch.tensor([[next(ids)]])
            return torch.nn.functional.one_hot(said, tokenizer.n_vocab).float()

    saying = Saying(pocket.config, pocket.weights)
    monkeypatch.setattr("hardway.fast.load", lambda _: saying)
    main(["generate", ONCE])
    assert capsys.readouterr().out == " the end\n"


@pytest.mark.parametrize(
    ("count", "stats"),
    [
        ("0", "0 new tokens\n"),
        ("1", "1 new token; the first after 2.000 s\n"),
        ("4", "4 new tokens; the first after 2.000 s, then 4.0 tokens/s\n"),
    ],
)
def test_generate_stats(
    count: str, stats: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    command = ["generate", ONCE, "--max-new-tokens", count]
    main(command)
    expected = capsys.readouterr().out
    seconds = iter([10.0, 12.0, 12.25, 12.5, 12.75])
    clock = SimpleNamespace(perf_counter=seconds.__next__)
    monkeypatch.setattr("hardway.cli.time", clock)
    main([*command, "--stats"])
    assert capsys.readouterr() == (expected, stats)


def test_generate_in_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    main(["generate", ONCE, "--max-new-tokens", "2"])
    out, _ = capsys.readouterr()
    assert out.startswith(f"\x1b[2m{ONCE}\x1b[0m")


# ESC and both of its one-byte kin, a carriage return, and a reversed direction.
HOSTILE = "\x1b[31mred\x1b]0;title\x07 \x9b2J\x85\r\u202egnp.\u2066\t\n\x7f\x00é\u200f"
HARMLESS = "[31mred]0;title 2Jgnp.\t\né\u200f"


def test_case_50_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    assert visible(HOSTILE) == HOSTILE
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert visible(HOSTILE) == HARMLESS
    every = "".join(map(chr, range(0x11000)))
    gone = {*every} - {*visible(every)}
    assert {unicodedata.category(c) for c in gone} == {"Cc", "Cf"}
    assert len(gone) == 65 - 2 + 5 + 4


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("command", ["generate", "chat"])
def test_case_50_what_a_model_writes_cannot_command_a_terminal(
    command: str, terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: Capture,
    stdin: Any,
) -> None:  # fmt: skip
    """Nor what a file that is continued does."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    say(monkeypatch, HOSTILE)
    stdin(f"a{HOSTILE}" if command == "generate" else "Hi")
    main([command, *(["-"] if command == "generate" else [])])
    out, err = capsys.readouterr()
    prompt = f"\x1b[2ma{HARMLESS}\x1b[0m" if terminal and command == "generate" else ""
    assert out == f"{prompt}{HARMLESS if terminal else HOSTILE}\n"
    assert err == ""


# --- chat ---


def say(
    monkeypatch: pytest.MonkeyPatch, *replies: str, template: str | None = TEMPLATE
) -> tuple[Saying, list[str]]:
    """Let any name be a model that gives just these replies; list what is loaded."""
    tokenizer, loaded = chat_tokenizer(template), []
    config = with_sizes(SMALL, n_vocab=tokenizer.n_vocab, n_ctx=500)
    ids = [[*tokenizer.encode(reply), tokenizer.eot_id] for reply in replies]
    saying = Saying(random_model(config), itertools.chain.from_iterable(ids))

    def load(name: str) -> Saying:
        loaded.append(name)
        return saying

    monkeypatch.setattr("hardway.fast.load", load)
    monkeypatch.setattr("hardway.fast.load_tokenizer", lambda _: tokenizer)
    return saying, loaded


def test_chat_in_a_pipe(
    monkeypatch: pytest.MonkeyPatch, stdin: Any, capsys: Capture
) -> None:
    """A line is a message, and an empty one is none."""
    say(monkeypatch, "Hello\nthere", "4")
    stdin("Hi\n\n  \nWhat is 2+2?")
    main(["chat"])
    assert capsys.readouterr() == ("Hello\nthere\n4\n", "")
    stdin("")
    main(["chat"])
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("options", "system", "arguments"),
    [
        ([], None, {}),
        (["--system", "Be brief."], "Be brief.", {}),
        (["--system", ""], "", {}),
        (
            ["--temperature", "0.9", "--top-k", "40", "--top-p", "0.9", "--seed", "7"],
            None,
            {"temperature": 0.9, "top_k": 40, "top_p": 0.9, "seed": 7},
        ),
        (
            ["--repetition-penalty", "1.5", "--stop", "a", "--stop", "b"],
            None,
            {"repetition_penalty": 1.5, "stop": ["a", "b"]},
        ),
    ],
)
def test_chat_passes_its_options_on(
    options: list[str], system: str | None, arguments: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch, stdin: Any, capsys: Capture,
) -> None:  # fmt: skip
    saying, _ = say(monkeypatch)
    monkeypatch.setattr("hardway.fast.load", lambda name: saying.model)
    stdin("Hi\nthen?\n")
    main(["chat", "--max-new-tokens", "9", *options])
    chat = Chat(saying.model, chat_tokenizer(), system)
    written = ["".join(chat.send(text, 9, **arguments)) for text in ("Hi", "then?")]
    assert capsys.readouterr() == ("\n".join([*written, ""]), "")


def test_chat_says_what_it_forgets(
    monkeypatch: pytest.MonkeyPatch, stdin: Any, capsys: Capture
) -> None:
    say(monkeypatch, *"abcd")
    stdin("\n".join(["x" * 100, "y" * 100, "z" * 110, "w" * 250]))
    main(["chat", "--max-new-tokens", "60"])
    out, err = capsys.readouterr()
    assert out == "a\nb\nc\nd\n"
    assert re.findall("oldest (.*) forgotten", err) == ["2 turns were", "turn was"]


@pytest.mark.parametrize("template", [None, "[INST] {{ messages[0] }} [/INST]"])
def test_chat_needs_a_template(
    template: str | None, monkeypatch: pytest.MonkeyPatch, stdin: Any, capsys: Capture
) -> None:
    _, loaded = say(monkeypatch, template=template)
    stdin("Hi\n")
    with pytest.raises(SystemExit) as caught:
        main(["chat", "--model", "parrot"])
    out, err = capsys.readouterr()
    assert (caught.value.code, out, loaded) == (2, "", [])
    assert re.fullmatch(
        r"hardway: parrot: [^\n]*chat template[^\n]*smollm2[^\n]*\n", err
    )


def test_chat_ends_at_a_mistake_in_a_pipe(
    monkeypatch: pytest.MonkeyPatch, stdin: Any, capsys: Capture
) -> None:
    say(monkeypatch, "Hello", "never said")
    stdin(f"Hi\n{'x' * 500}\nHi\n")
    with pytest.raises(SystemExit) as caught:
        main(["chat", "--max-new-tokens", "50"])
    out, err = capsys.readouterr()
    assert (caught.value.code, out) == (2, "Hello\n")
    assert re.fullmatch(r"hardway: text and max_new_tokens must [^\n]*\n", err)


class Keys(contextlib.ExitStack):
    """A terminal, as far as prompt_toolkit and `isatty` can tell, and what is typed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, stdin: Any, typed: str) -> None:
        super().__init__()
        stdin("", terminal=True)
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        keys = self.enter_context(create_pipe_input())
        self.enter_context(create_app_session(input=keys, output=DummyOutput()))
        keys.send_text(typed)


ENTER, CONTROL_C, CONTROL_D = "\r", "\x03", "\x04"


def test_chat_in_a_terminal(
    monkeypatch: pytest.MonkeyPatch, stdin: Any, capsys: Capture
) -> None:
    """A blank line is no message, and neither is one that is given up."""
    say(monkeypatch, "Hello", "Again")
    sent = []
    real = Chat.send

    def send(chat: Chat, text: str, **options: Any) -> Any:
        sent.append(text)
        return real(chat, text, **options)

    monkeypatch.setattr(Chat, "send", send)
    typed = f"Hi{ENTER}  {ENTER}never{CONTROL_C}more{ENTER}{CONTROL_D}"
    with Keys(monkeypatch, stdin, typed):
        main(["chat"])
    out, err = capsys.readouterr()
    assert sent == ["Hi", "more"]
    assert out.replace("\n\n", "\n") == "Hello\nAgain\n"
    assert "Ctrl-D" in err


def test_an_interrupt_stops_a_reply_alone(
    monkeypatch: pytest.MonkeyPatch, stdin: Any, capsys: Capture
) -> None:
    saying, _ = say(monkeypatch, "Hello", "Bye")
    sample = saying.said

    def interrupted() -> Iterator[int]:
        yield from itertools.islice(sample, 3)
        raise KeyboardInterrupt

    def rest() -> Iterator[int]:
        yield from itertools.islice(sample, 3, None)  # "lo" and the end are never said

    calls = iter([interrupted(), rest()])
    real = Chat.send

    def send(chat: Chat, text: str, **options: Any) -> Any:
        saying.said = next(calls)
        return real(chat, text, **options)

    monkeypatch.setattr(Chat, "send", send)
    with Keys(monkeypatch, stdin, f"Hi{ENTER}more{ENTER}{CONTROL_D}"):
        main(["chat"])
    assert capsys.readouterr().out == "Hel\nBye\n"


def test_a_mistake_in_a_terminal_is_no_end(
    monkeypatch: pytest.MonkeyPatch, stdin: Any, capsys: Capture
) -> None:
    say(monkeypatch, "Hello")
    typed = f"{'x' * 500}{ENTER}Hi{ENTER}{CONTROL_D}"
    with Keys(monkeypatch, stdin, typed):
        main(["chat"])
    out, err = capsys.readouterr()
    assert out == "Hello\n"
    assert re.search(r"^hardway: text and max_new_tokens must", err, re.MULTILINE)


@needs_smollm2
@pytest.mark.slow
def test_chat_in_a_real_terminal() -> None:
    """Ctrl-C stops the reply, the arrow brings back a message, Ctrl-D leaves."""
    arguments = ["-m", "hardway", "chat", "--model", str(SMOLLM2)]
    environment = {**ONE_THREAD, "PROMPT_TOOLKIT_NO_CPR": "1", "TERM": "xterm"}
    terminal = pexpect.spawn(
        sys.executable, arguments, env=environment, encoding="utf-8", timeout=60
    )
    ready = "\x1b[?2004h"  # a prompt: what is pasted would be marked
    with terminal:
        terminal.expect_exact(ready)
        terminal.sendline("What is 2+2?")
        terminal.expect_exact("The answer to this classic math problem is 4.")
        terminal.expect_exact(ready)
        terminal.sendline("Tell me a long story about a dragon.")
        terminal.expect(r"\n\w+ \w+ \w+ \w+ ")  # the reply
        terminal.sendintr()
        terminal.expect_exact(ready)
        terminal.send("\x1b[A")
        terminal.expect_exact("Tell me a long story about a dragon.")
        terminal.sendintr()
        terminal.expect_exact(ready)
        terminal.sendeof()
        terminal.expect(pexpect.EOF)
    assert terminal.exitstatus == 0


@needs_smollm2
@pytest.mark.slow
def test_chat_in_a_real_pipe() -> None:
    command = ["-m", "hardway", "chat", "--model", str(SMOLLM2)]
    done = ran(*command, input="What is 2+2?\n", env=ONE_THREAD)
    assert done.stderr == ""
    assert (done.returncode, done.stdout) == (
        0,
        "The answer to this classic math problem is 4.\n",
    )


@pytest.mark.parametrize("arguments", [[], ["-h"], ["--help"]])
def test_help(arguments: list[str], capsys: Capture) -> None:
    main(arguments)
    out, err = capsys.readouterr()
    assert out.startswith("Usage: hardway [OPTIONS] ")
    assert re.findall(r"^  ([a-z]+)  ", out, re.MULTILINE) == sorted(COMMANDS)
    assert err == ""


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command(command: str, capsys: Capture) -> None:
    main([command, "--help"])
    out, _ = capsys.readouterr()
    assert out.startswith(f"Usage: hardway {command} ")
    assert not re.search("chapter", out, re.IGNORECASE)


def test_version(capsys: Capture) -> None:
    main(["--version"])
    assert capsys.readouterr().out == f"hardway, version {hardway.__version__}\n"


MISTAKES = [
    (["wrong"], "No such command 'wrong'. See `hardway --help`."),
    (["--wrong"], "--wrong"),
    (["tokenize"], "Missing argument 'TEXT'. See `hardway tokenize --help`."),
    (["demo", "hi", "--seed", "x"], "Invalid value for '--seed'"),
    (["demo", "hi", "--seed", str(2**63)], "is not in the range"),
    (["demo", "hi", "--seed", "-1"], "Invalid value for '--seed': -1 is not in the ra"),
    (["demo", ""], "hardway: text must"),
    (["demo", "a", "b"], "Got unexpected extra argument (b)"),
    (["download", "gpt3"], "hardway: name must"),
    (["inspect", "gpt2"], "run `hardway download gpt2`"),
    (["inspect", "no/such"], "hardway: 'no/such'"),
    (["inspect", "."], ".: no model.safetensors and no .gguf file is there"),
    (["inspect", "two\nlines"], "hardway: two lines: it is 0 bytes long"),
    (["inspect", "x" * 5000], "File name too long"),
    (["tokenize", "hi", "--model", "gpt2"], "run `hardway download gpt2`"),
    (["tokenize", "\udcff"], "hardway: text must"),
    (["generate", ""], "hardway: prompt must hold at least one character, got ''"),
    (["generate", "hi", "--top-p", "0"], "hardway: top_p must"),
    (["generate", "hi", "--top-k", "0"], "hardway: top_k must"),
    (["generate", "hi", "--temperature", "nan"], "hardway: temperature must"),
    (["generate", "hi", "--seed", "-1"], "hardway: seed must"),
    (["generate", "hi", "--max-new-tokens", "-1"], "hardway: max_new_tokens must"),
    (["generate", "hi", "--max-new-tokens", "512"], "n_ctx = 512"),
    (["generate", "hi", "--top-k", "many"], "Invalid value for '--top-k'"),
    (["generate", "hi", "--regex", "a(?=b)"], "hardway: pattern must"),
    (["generate", "hi", "--regex", "a", "--json-schema", "b"], "exclude each other"),
    (["generate", "hi", "--json-schema", "no/such"], "no/such"),
    (["generate", "hi", "--min-p", "2"], "hardway: min_p must"),
    (["generate", "hi", "--stop", ""], "hardway: stop must"),
    (["chat", "--top-p", "0"], "hardway: top_p must"),
    (["chat", "--presence-penalty", "3"], "hardway: presence_penalty must"),
    (["chat", "--stop", ""], "hardway: stop must"),
    (["chat", "--max-new-tokens", "-1"], "hardway: max_new_tokens must"),
    (["chat", "--model", "pocket"], "hardway: pocket: the model has no chat template"),
    (["chat", "--model", "gpt2"], "run `hardway download gpt2`"),
    (["chat"], "smollm2"),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES)
def test_a_mistake(
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: Capture,
) -> None:
    monkeypatch.setenv("HARDWAY_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "two\nlines").touch()
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    out, err = capsys.readouterr()
    assert (caught.value.code, out) == (2, "")
    assert re.fullmatch(r"hardway: [^\n]+\n", err)
    assert message in err


def test_a_failed_download(remote: HubServer, capsys: Capture) -> None:
    remote.plan["config.json"] = [status(404)]
    with pytest.raises(SystemExit) as caught:
        main(["download", "gpt2"])
    assert caught.value.code == 2
    assert re.fullmatch(r"hardway: http://[^\n]* 404 [^\n]*\n", capsys.readouterr().err)


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, EOFError])
def test_an_interrupt(
    interrupt: type[BaseException], monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    def stopped(*_: object) -> None:
        raise interrupt

    monkeypatch.setattr(hub, "download", stopped)
    with pytest.raises(SystemExit) as caught:
        main(["download", "gpt2"])
    out, err = capsys.readouterr()
    assert (caught.value.code, out, err.strip()) == (130, "", "")


def test_a_question_without_an_answer(stdin: Any, capsys: Capture) -> None:
    stdin("")
    with pytest.raises(SystemExit) as caught:
        main(["demo"])
    out, err = capsys.readouterr()
    assert (caught.value.code, out, err.strip()) == (130, "Any English sentence: ", "")


def test_a_reader_that_left(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        with pytest.raises(SystemExit) as caught:
            main(["demo", "hi"])
    assert caught.value.code == 1
    assert capsys.readouterr().err == ""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "lines"),
    [(["demo", "hi"], 0), (["inspect", "pocket"], 0), (["inspect", "pocket"], 1)],
)
def test_a_closed_pipe(command: list[str], lines: int) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    process = subprocess.Popen(
        [sys.executable, "-m", "hardway", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        text=True,
    )
    with process:
        assert process.stdout
        assert process.stderr
        for _ in range(lines):
            assert process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode in (0, 1)


def test_python_m_hardway(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    assert hardway.__main__.main is main
    monkeypatch.setattr(sys, "argv", ["python -m hardway", "tokenize", "Hello"])
    monkeypatch.delitem(sys.modules, "hardway.__main__")
    runpy.run_module("hardway", run_name="__main__")
    assert capsys.readouterr() == (" 15496  Hello\n", "")


@pytest.mark.slow
def test_both_programs() -> None:
    installed = Path(sys.executable).with_name("hardway")
    expected = (0, " 15496  Hello\n", "")
    for program in (["-m", "hardway"], [str(installed)]):
        done = ran(*program, "tokenize", "Hello")
        assert (done.returncode, done.stdout, done.stderr) == expected
        done = ran(*program, "tokenize", "Hello", "--model", "gpt5")
        assert (done.returncode, done.stdout) == (2, "")
        assert re.fullmatch(r"hardway: 'gpt5' is neither [^\n]*\n", done.stderr)


HEAVY = (
    "{'torch', 'numpy', 'matplotlib', 'requests', 'regex', 'rich', 'prompt_toolkit'}"
)


@pytest.mark.parametrize(
    "code",
    [
        "import hardway",
        "from hardway.cli import main; main(['--help'])",
        "from hardway.cli import main; main(['generate', '--help'])",
    ],
)
def test_what_is_light_imports_nothing_heavy(code: str) -> None:
    done = ran(
        "-c", f"{code}; import sys; print('loaded:', {HEAVY} & {{*sys.modules}})"
    )
    assert done.stdout.splitlines()[-1] == "loaded: set()"
    assert (done.returncode, done.stderr) == (0, "")
