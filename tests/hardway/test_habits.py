"""What people type, pipe and pass: iterators, arrays, encodings, terminals.

The cases, and where they come from, are listed in tests/support/field_cases.md.
"""

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pexpect
import pytest
import torch

import hardway
from hardway import GPT2, Tokenizer, cli, generate, sampling
from hardway.cli import main
from hardway.safetensors import load_file
from hub_server import CHECKPOINT, HubServer, status
from references import random_model
from refusals import refuses

Capture = pytest.CaptureFixture[str]
IDS = [5, 7, 1]


def run(*arguments: str, stdin: bytes = b"", **environment: str) -> Any:
    """Run the command line in a process of its own, without a terminal."""
    return subprocess.run(
        [sys.executable, "-m", "hardway", *arguments], input=stdin,
        capture_output=True, env=os.environ | environment, check=False,
    )  # fmt: skip


# --- read once ---


@pytest.fixture(scope="module")
def model() -> GPT2:
    return random_model()


def test_iterators_are_read_once(model: GPT2) -> None:
    whole = generate(model, IDS, 6)
    stop, n = str(whole[3]), whole.index(whole[3])
    assert generate(model, IDS, 6, stop_ids=map(int, [stop])) == whole[:n]
    batch = hardway.generate_batch(
        model, iter([iter(IDS), iter(IDS)]), 6, stop_ids=iter([whole[3]])
    )
    assert batch == [whole[:n]] * 2
    found = hardway.speculative_generate(
        model, None, iter(IDS), 6, stop_ids=iter([whole[3]])
    )
    assert found == whole[:n]
    beams = hardway.beam_search(model, iter(IDS), 6, 1, stop_ids=iter([whole[3]]))
    assert beams[0] == whole[:n]


def test_iterators_of_text(tokenizer: Tokenizer, pocket: GPT2) -> None:
    end = "<|endoftext|>"
    assert tokenizer.encode(f"a{end}", allowed_special=iter([end])) == [64, 50256]
    whole = "".join(hardway.stream_text(pocket, tokenizer, "Once", 8))
    stop = iter([whole[4:6], "\u2603"])
    assert (
        "".join(hardway.stream_text(pocket, tokenizer, "Once", 8, stop=stop))
        == (whole[: whole.index(whole[4:6])])
    )
    assert tokenizer.decode(iter([64, 50256])) == f"a{end}"


# --- arrays and tensors ---


@pytest.mark.parametrize(
    "convert",
    [torch.tensor, np.array, lambda ids: np.array(ids, dtype=np.uint16),
     lambda ids: torch.tensor(ids, dtype=torch.int32), tuple, iter,
     lambda ids: [np.int64(id) for id in ids], lambda ids: [*torch.tensor(ids)]],
)  # fmt: skip
def test_ids_of_any_kind(convert: Any, model: GPT2, tokenizer: Tokenizer) -> None:
    assert generate(model, convert(IDS), 4) == generate(model, IDS, 4)
    assert tokenizer.decode(convert([15496, 612])) == "Hello there"
    assert generate(model, IDS, 4, stop_ids=convert(IDS)) == (
        generate(model, IDS, 4, stop_ids=IDS)
    )


@pytest.mark.parametrize("make", [torch.tensor, np.array])
def test_a_batch_is_not_a_sequence(
    make: Any, model: GPT2, tokenizer: Tokenizer
) -> None:
    """As transformers' tokenizers return it with ``return_tensors``."""
    with refuses("prompt_ids") as caught:
        generate(model, make([IDS]), 4)
    assert "shape [1, 3]" in str(caught.value)
    assert "prompt_ids[0]" in str(caught.value)
    with refuses("ids") as caught:
        tokenizer.decode(make([[1, 2]]))
    assert hardway.generate_batch(model, make([IDS, IDS]), 2)[0] == (
        generate(model, IDS, 2)
    )


@pytest.mark.parametrize(
    "value", [np.int64(4), np.int8(4), torch.tensor(4), np.array(4)]
)
def test_numbers_of_any_kind(value: Any, model: GPT2) -> None:
    assert generate(model, IDS, value) == generate(model, IDS, 4)
    options: dict[str, Any] = {"temperature": value / 4, "top_k": value, "seed": value}
    plain: dict[str, Any] = {"temperature": 1.0, "top_k": 4, "seed": 4}
    assert generate(model, IDS, value, **options) == generate(model, IDS, 4, **plain)
    assert model.new_cache(value, value).max_len == 4


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda x: sampling.keep_top_k(x, 0), "k"),
        (lambda x: sampling.keep_top_k(x, 1.5), "k"),
        (lambda x: sampling.keep_top_p(x, 0), "p"),
        (lambda x: sampling.keep_top_p(x, float("nan")), "p"),
        (lambda x: sampling.keep_min_p(x, 1.1), "p"),
        (lambda x: sampling.apply_temperature(x, 0), "temperature"),
        (lambda x: sampling.apply_temperature(x, "1"), "temperature"),
    ],
)
def test_the_sampling_functions_name_their_argument(call: Any, named: str) -> None:
    with refuses(named):
        call(torch.zeros(5))


@pytest.mark.parametrize("text", [b"a", None, 5, ["a"], Path("a")])
def test_text_of_another_type(text: Any, tokenizer: Tokenizer) -> None:
    with refuses("text"):
        tokenizer.encode(text)


def test_a_path_of_any_kind(tmp_path: Path) -> None:
    assert GPT2.from_pretrained(str(hardway.hub.POCKET)).config.n_layer == 6
    for bad in (None, 5):
        with pytest.raises(TypeError):
            GPT2.from_pretrained(bad)  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError):
        load_file(tmp_path / "gone")


# --- standard input ---


def piped(
    monkeypatch: pytest.MonkeyPatch, data: bytes, encoding: str = "utf-8"
) -> None:
    raw = io.BufferedReader(io.BytesIO(data))  # type: ignore[arg-type]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(raw, encoding, newline="\n"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "data",
    [b"hi", b"hi\n", b"hi\r\n", b"\xef\xbb\xbfhi\n", b"\xff\xfeh\0i\0\n\0",
     b"\xfe\xff\0h\0i"],
)  # fmt: skip
def test_a_shell_s_newline_and_marks_are_not_text(
    data: bytes, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    piped(monkeypatch, data)
    main(["tokenize", "-"])
    assert capsys.readouterr().out.split() == ["5303", "hi"]


def test_only_the_last_line_break_is_the_shell_s(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    piped(monkeypatch, b"\nhi\n\n")
    main(["tokenize", "-"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["198", "5303", "198"]


def test_other_encodings_are_named_or_chosen(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    piped(monkeypatch, b"caf\xe9")
    with pytest.raises(SystemExit):
        main(["tokenize", "-"])
    error = capsys.readouterr().err
    assert "UTF-8" in error
    assert "0xe9 at 3" in error
    monkeypatch.setenv("PYTHONIOENCODING", "latin-1")
    piped(monkeypatch, b"\xe9", "latin-1")
    main(["tokenize", "-"])
    assert capsys.readouterr().out.split()[0] == "2634"


def test_a_pipe_from_the_shell() -> None:
    done = run("tokenize", "-", stdin=b"\xef\xbb\xbfhi\r\n")
    assert done.stdout.split() == [b"5303", b"hi"]


def test_the_c_locale() -> None:
    done = run("tokenize", "-", stdin="é".encode(), LC_ALL="C", PYTHONUTF8="0",
               PYTHONCOERCECLOCALE="0")  # fmt: skip
    assert done.stdout.split()[0] == b"2634"


# --- options ---


@pytest.mark.slow
def test_options_without_effect_are_noted(capsys: Capture) -> None:
    arguments = ["generate", "x", "--max-new-tokens", "1"]
    main([*arguments, "--top-k", "40", "--seed", "1"])
    found = capsys.readouterr()
    assert "--top-k, --seed" in found.err
    assert "--temperature" in found.err
    main([*arguments, "--top-p", "0.5", "--temperature", "1", "--seed", "1"])
    main(arguments)
    assert capsys.readouterr().err == ""


@pytest.mark.slow
@pytest.mark.parametrize("command", ["tokenize", "generate", "demo"])
def test_a_dash_at_the_start_of_a_text(command: str, capsys: Capture) -> None:
    with pytest.raises(SystemExit):
        main([command, "-hello"])
    assert "write -- before it" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["serve", "--modle", "x"])  # takes no text
    assert "--" in (found := capsys.readouterr().err)
    assert "before it" not in found
    main(["tokenize", "--", "-hello"])
    assert "hello" in capsys.readouterr().out


# --- streams and terminals ---


def test_streams_that_python_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("stdin", "stderr"):
        monkeypatch.setattr(sys, name, None)
    cli._open_streams()
    assert sys.stdin.read() == ""
    print("nowhere", file=sys.stderr)
    opened = sys.stdin, sys.stderr
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, "cp1252"))
    cli._open_streams()
    cli._write("\u2588é")
    assert raw.getvalue() == b"\\u2588\xe9"
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(ValueError, match="standard output is closed"):
        cli._open_streams()
    for stream in opened:
        stream.close()


@pytest.mark.parametrize(
    ("term", "no_color", "expected"),
    [("xterm", "", True), ("dumb", "", False), ("xterm", "1", False)],
)
def test_whether_a_terminal_has_styles(
    term: str, no_color: str, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", term)
    monkeypatch.setenv("NO_COLOR", no_color)
    assert cli._has_styles() == expected


@pytest.mark.slow
def test_a_character_that_the_console_lacks() -> None:
    done = run("generate", "x", "--max-new-tokens", "1", PYTHONIOENCODING="cp1252")
    assert done.returncode == 0
    code = "from hardway import cli; cli._open_streams(); cli._write('\\u2588é')"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True,
        env=os.environ | {"PYTHONIOENCODING": "cp1252"},
    )  # fmt: skip
    assert done.stdout == b"\\u2588\xe9"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="its shell closes no stream")
def test_closed_streams() -> None:
    command = f"{sys.executable} -m hardway"
    for arguments, code, out, err in (
        ("tokenize hi >&-", 2, "", "standard output is closed"),
        ("tokenize hi 2>&-", 0, "5303", ""),
        ("generate - <&-", 2, "", "prompt must hold at least one character"),
        ("tokenize hi >&- 2>&-", 2, "", ""),
    ):
        done = subprocess.run(f"{command} {arguments}", shell=True, text=True,
                              capture_output=True, check=False)  # fmt: skip
        assert done.returncode == code, arguments
        assert out in done.stdout
        assert err in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="pexpect needs a POSIX terminal")
@pytest.mark.parametrize(
    ("name", "value", "is_styled"),
    [("TERM", "xterm", True), ("TERM", "dumb", False), ("NO_COLOR", "1", False)],
)
def test_styles(name: str, value: str, is_styled: bool) -> None:
    environment = os.environ | {"TERM": "xterm", name: value}
    if name != "NO_COLOR":
        environment.pop("NO_COLOR", None)
    child = pexpect.spawn(
        sys.executable, ["-m", "hardway", "generate", "Once", "--max-new-tokens", "1"],
        env=environment, encoding="utf-8",
    )  # fmt: skip
    child.expect(pexpect.EOF, timeout=120)
    assert ("\x1b[" in child.before) == is_styled


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="pexpect needs a POSIX terminal")
def test_a_narrow_terminal_cuts_no_name() -> None:
    child = pexpect.spawn(
        sys.executable, ["-m", "hardway", "inspect", "pocket"], encoding="utf-8",
        dimensions=(24, 30), env=os.environ | {"NO_COLOR": "1", "TERM": "dumb"},
    )  # fmt: skip
    child.expect(pexpect.EOF, timeout=120)
    assert "…" not in child.before
    assert "7,688,320" in child.before.replace("\r\n", "")


# --- a stale password ---


def test_a_stale_netrc_is_named(
    remote: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password old\n", encoding="utf-8")
    monkeypatch.setenv("NETRC", str(netrc))
    name = CHECKPOINT.files[0].name
    remote.plan[name] = [status(401)]
    with pytest.raises(hardway.hub.DownloadError, match=r"401.*netrc"):
        hardway.hub.download("gpt2")
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    remote.plan[name] = [status(401)]
    with pytest.raises(hardway.hub.DownloadError) as caught:
        hardway.hub.download("gpt2")
    assert "netrc" not in str(caught.value)
