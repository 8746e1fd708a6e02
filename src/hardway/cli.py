"""The command line: ``hardway``, and a command for each thing to do.

Each command is a thin wrapper around the library's own functions, imported only when it
runs. A usage error prints one line that says what to do, and exits with 2.
"""

import codecs
import io
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO, TypeVar

import click

from hardway import __version__

if TYPE_CHECKING:
    from rich.console import Console

    from hardway.chat import Chat
    from hardway.sampling import Constraint
    from hardway.tokenizer import Tokenizer
    from hardway.training import Progress, Trainer

Decorated = TypeVar("Decorated", bound=Callable[..., Any])
# C0 and C1 but \t and \n, and what embeds, overrides or isolates a text direction.
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit: 0 for success, 2 for a usage error.

    Exit with 1 if the reader of a pipe is gone.
    """
    try:
        _open_streams()
        hardway(arguments, prog_name="hardway", standalone_mode=False)
        sys.stdout.flush()  # while a closed pipe can still be caught
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "hardway"
        _fail(f"{error.format_message()}{_dash_hint(error)} See `{command} --help`.")
    except BrokenPipeError:  # `head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (click.Abort, KeyboardInterrupt):
        click.echo(err=True)
        sys.exit(130)
    except (click.ClickException, ValueError, OSError) as error:
        path, reason = (
            getattr(error, "filename", None),
            getattr(error, "strerror", None),
        )
        _fail(f"{path}: {reason}" if path and reason else str(error))


def _open_streams() -> None:
    """Make standard streams that can be read, and print any character.

    Python leaves a stream out if it was closed. A character that the terminal's
    encoding lacks is printed as its escape.
    """
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115
    if sys.stdout is None:
        raise ValueError("standard output is closed: there is nowhere to print")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _dash_hint(error: click.UsageError) -> str:
    """Return how to write a text that begins with a dash, if that may be the error."""
    command = error.ctx.command if error.ctx else None
    has_text = any(
        isinstance(p, click.Argument) for p in getattr(command, "params", ())
    )
    if isinstance(error, click.NoSuchOption) and has_text:
        return " If a text begins with a dash, write -- before it."
    return ""


@click.group(
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__)
@click.pass_context
def hardway(context: click.Context) -> None:
    """LLM inference the hard way: models from raw bytes to generated text.

    For TEXT or PROMPT, - reads from standard input, without its last line break. Put --
    before a text that begins with a dash.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def model_option(default: str) -> Callable[[Decorated], Decorated]:
    """Return the option that names the model."""
    return click.option(
        "--model", default=default, show_default=True,
        help="Name of a known model, a directory, or a file of weights.",
    )  # fmt: skip


def generation_options(max_new_tokens: int) -> Callable[[Decorated], Decorated]:
    """Return what `generate` and `chat` have in common: how tokens are chosen.

    The options are named as in `hardway.generation.Options`.
    """
    options = (
        click.option(
            "--max-new-tokens", type=int, default=max_new_tokens, show_default=True,
            help="Maximum number of new tokens.",
        ),
        click.option(
            "--temperature", type=float, default=0.0, show_default=True,
            help="0 always takes the likeliest token, and soon repeats itself.",
        ),
        click.option(
            "--top-k", type=int, help="Sample from the k likeliest tokens only."
        ),
        click.option(
            "--top-p", type=float,
            help="Sample from the likeliest tokens whose probabilities add up to p.",
        ),
        click.option(
            "--min-p", type=float,
            help="Sample from tokens at least p times as likely as the likeliest.",
        ),
        click.option("--seed", type=int, help="Makes sampling reproducible."),
        click.option(
            "--repetition-penalty", type=float, default=1.0, show_default=True,
            help="Above 1 makes every token likelier that is not in the text yet.",
        ),
        click.option(
            "--frequency-penalty", type=float, default=0.0, show_default=True,
            help="Subtracted from a token's logit for each time it was generated.",
        ),
        click.option(
            "--presence-penalty", type=float, default=0.0, show_default=True,
            help="Subtracted from a token's logit once it was generated.",
        ),
        click.option(
            "--stop", multiple=True, metavar="TEXT",
            help="End before this text. May be given several times.",
        ),
        click.option(
            "--regex", metavar="PATTERN", help="Write only what this pattern matches."
        ),
        click.option(
            "--json-schema", type=click.Path(path_type=Path), metavar="FILE",
            help="Write only JSON that the schema in FILE describes.",
        ),
    )  # fmt: skip

    def decorate(command: Decorated) -> Decorated:
        for option in reversed(options):  # the help lists the last one applied first
            command = option(command)
        return command

    return decorate


@hardway.command()
@click.argument("text", required=False)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**63 - 1),
    default=0,
    help="Seed of the random weights.",
)
def demo(text: str | None, seed: int) -> None:
    """Run the smallest language model on TEXT, step by step.

    Its weights are random.
    """
    from hardway import miniature

    miniature.demo(_ask("Any English sentence") if text is None else _read(text), seed)


@hardway.command()
@click.argument("name")
@click.option(
    "--directory", type=click.Path(path_type=Path), help="Where to put the files."
)
@click.option(
    "--verify",
    is_flag=True,
    help="Only check the files already there; download nothing.",
)
def download(name: str, directory: Path | None, verify: bool) -> None:
    """Download the model NAME.

    The files are verified against pinned hashes; the directory is printed. An
    interrupted download resumes where it stopped.

    NAME is gpt2, distilgpt2, gpt2-medium or smollm2.
    """
    from hardway import hub

    click.echo((hub.verify if verify else hub.download)(name, directory))


@hardway.command()
@click.argument("file_or_model")
def inspect(file_or_model: str) -> None:
    """List the tensors of a file or model.

    FILE_OR_MODEL is a safetensors or GGUF file, an index of shards, a known model's
    name, or a directory with weights. Each tensor has a name, dtype, shape, bytes and
    parameters. A GGUF file's metadata follows.
    """
    from rich.console import Console

    from hardway import gguf, hub, layout, safetensors

    path = Path(os.path.expanduser(file_or_model))
    if not path.is_file():
        path = hub.weights(file_or_model)
    console = Console(markup=False, emoji=False, highlight=False)
    if not console.is_terminal:
        console.width = 160  # a pipe has no width; do not wrap names at 80 columns
    if not layout.is_gguf(path):
        rows = [
            (name, t.dtype, t.shape, t.end - t.start)
            for file in layout.shards(path)
            for name, t in safetensors.read_header(file).tensors.items()
        ]
        _print_tensors(console, "dtype", rows)
        return
    header = gguf.read_header(path)
    blocks = header.tensors.items()
    rows = [(name, t.kind, t.shape, t.end - t.start) for name, t in blocks]
    _print_tensors(console, "kind", rows)
    _print_metadata(console, header.metadata)


def _print_tensors(
    console: "Console", column: str, rows: Sequence[tuple[str, str, Sequence[int], int]]
) -> None:
    """Print a table of tensors, and their totals.

    column: what the second column is called; rows: name, type, shape, size in bytes.
    """
    import math

    from rich.table import Table

    from hardway.tokenizer import display

    table = Table(box=None, pad_edge=False)
    for heading in ("name", column, "shape"):
        table.add_column(heading, overflow="fold")  # never cut on a narrow terminal
    for heading in ("bytes", "parameters"):
        table.add_column(heading, justify="right", overflow="fold")
    for name, kind, shape, size in rows:
        shown = display(name.encode())  # an untrusted name may contain escape codes
        sides = " × ".join(map(str, shape)) or "scalar"
        table.add_row(shown, kind, sides, f"{size:,}", f"{math.prod(shape):,}")
    console.print(table)
    parameters = sum(math.prod(shape) for _, _, shape, _ in rows)
    size = sum(size for *_, size in rows)
    console.print(f"{len(rows):,} tensors, {parameters:,} parameters, {size:,} bytes")


def _print_metadata(console: "Console", metadata: Mapping[str, Any]) -> None:
    """Print a table of keys and values, the long ones cut."""
    from rich.table import Table

    from hardway.checks import safe_repr
    from hardway.tokenizer import display

    table = Table(box=None, pad_edge=False)
    for heading in ("key", "value"):
        table.add_column(heading, overflow="fold")
    for key, value in metadata.items():
        several = isinstance(value, list) and len(value) > 1
        count = f"{len(value):,} values: " if several else ""
        table.add_row(display(key.encode()), count + safe_repr(value))
    console.print()
    console.print(table)


@hardway.command()
@click.argument("text")
@model_option("pocket")
def tokenize(text: str, model: str) -> None:
    """Show the tokens of TEXT.

    Each line shows an id and the bytes it stands for.
    """
    from hardway import load_tokenizer
    from hardway.tokenizer import display

    tokenizer = load_tokenizer(model)
    for id in tokenizer.encode(_read(text)):
        click.echo(f"{id:>6}  {display(tokenizer.decode_bytes([id]))}")


@hardway.command()
@click.argument("prompt")
@model_option("pocket")
@generation_options(max_new_tokens=100)
@click.option(
    "--no-cache", is_flag=True, help="Recompute the whole text for each token."
)
@click.option(
    "--stats", is_flag=True, help="Print the speed to standard error at the end."
)
def generate(
    prompt: str,
    model: str,
    max_new_tokens: int,
    no_cache: bool,
    stats: bool,
    stop: Sequence[str],
    regex: str | None,
    json_schema: Path | None,
    **sampling: Any,
) -> None:
    """Continue PROMPT.

    Each piece is printed as it is chosen.
    """
    from hardway import checks, inputs, load, load_tokenizer
    from hardway.generation import decode_stream, stop_at, stream

    stop = inputs.check_stop(stop)
    prompt = checks.not_empty("prompt", _read(prompt))
    tokenizer = load_tokenizer(model)
    sampling["constraint"] = _constraint(regex, json_schema, tokenizer)
    network = inputs.fit_vocabulary(load(model), tokenizer.n_vocab)
    ids = stream(
        network, tokenizer.encode(prompt), max_new_tokens, use_cache=not no_cache,
        stop_ids=(tokenizer.eot_id,), **sampling,
    )  # fmt: skip
    _note_unused(sampling)  # which are sound
    if sys.stdout.isatty():
        color = None if _has_styles() else False
        click.secho(visible(prompt), dim=True, nl=False, color=color)
    ticks = [time.perf_counter()]
    for piece in stop_at(decode_stream(tokenizer, _clocked(ids, ticks)), stop):
        _write(piece)
    _write("\n")
    if stats:
        _print_stats(ticks)


@hardway.command()
@model_option("smollm2")
@click.option("--system", help="The system message, instead of the model's own.")
@generation_options(max_new_tokens=256)
def chat(
    model: str, system: str | None, max_new_tokens: int, stop: Sequence[str],
    regex: str | None, json_schema: Path | None, **sampling: Any,
) -> None:  # fmt: skip
    """Talk with a model.

    In a terminal, Ctrl-C stops a reply and Ctrl-D leaves. In a pipe, each line of
    standard input is a message.
    """
    from hardway import Chat, Sampler, checks, inputs, load, load_tokenizer
    from hardway.chat import DEFAULT_SYSTEM
    from hardway.conversation import check_chat
    from hardway.untrusted import prefix_errors

    checks.integer("max_new_tokens", max_new_tokens)
    Sampler(**sampling)  # checks the options before anything is loaded
    _note_unused(sampling)
    stop = inputs.check_stop(stop)
    options = sampling | {"max_new_tokens": max_new_tokens, "stop": stop}
    tokenizer = load_tokenizer(model)
    with prefix_errors(model):
        check_chat(tokenizer, system, DEFAULT_SYSTEM)
    options["constraint"] = _constraint(regex, json_schema, tokenizer)
    conversation = Chat(load(model), tokenizer, system)
    if sys.stdin.isatty() and sys.stdout.isatty():
        _converse(conversation, options)
        return
    with _stdin() as lines:
        for line in lines:
            _reply(conversation, line.strip(), options)


def _constraint(
    regex: str | None, json_schema: Path | None, tokenizer: "Tokenizer"
) -> "Constraint | None":
    """Make the constraint that the options ask for; they exclude each other."""
    if regex is None and json_schema is None:
        return None
    from hardway.decoding import JsonSchema, Regex

    if json_schema is None:
        return Regex(regex or "", tokenizer)
    if regex is not None:
        raise click.UsageError("--regex and --json-schema exclude each other.")
    import json

    from hardway.untrusted import prefix_errors

    with prefix_errors(json_schema):
        try:
            schema = json.loads(json_schema.read_bytes())
        except (ValueError, RecursionError) as error:
            raise ValueError(f"the file must be JSON: {error}") from None
        return JsonSchema(schema, tokenizer)


@hardway.command()
@click.argument("corpus", type=click.Path(path_type=Path))
@click.option(
    "--config",
    "recipe_file",
    required=True,
    type=click.Path(path_type=Path),
    help="A recipe: the sizes of the model and how to train it, in TOML.",
)
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    help="The directory for the model, and for the state of the training.",
)
@click.option(
    "--save-every",
    type=click.IntRange(1),
    default=200,
    show_default=True,
    help="Save the state after so many steps.",
)
@click.option(
    "--validate-every", type=click.IntRange(1), default=100, show_default=True,
    help="Compute the loss on held-out text after so many steps.",
)  # fmt: skip
def train(
    corpus: Path, recipe_file: Path, out: Path, save_every: int, validate_every: int
) -> None:
    """Train a GPT-2 on CORPUS, from random weights.

    CORPUS is a text file, or JSON lines with a text, perhaps a source and perhaps
    heldout; either may be compressed with gzip. The same command again resumes a run
    that was interrupted.
    """
    from hardway import Config, load_tokenizer
    from hardway.corpus import byte_tokenizer, read_corpus
    from hardway.export import export
    from hardway.recipe import read_recipe
    from hardway.training import Trainer

    vocabulary, sizes, recipe = read_recipe(recipe_file)
    is_bytes = vocabulary == "bytes"
    tokenizer = byte_tokenizer() if is_bytes else load_tokenizer(vocabulary)
    config = Config(n_vocab=tokenizer.n_vocab, **sizes)
    trainer = Trainer(config, recipe, read_corpus(corpus, tokenizer))
    out.mkdir(parents=True, exist_ok=True)
    state = out / "training.safetensors"
    if state.is_file():
        trainer.resume(state)
        click.echo(f"resuming after step {len(trainer.losses)}", err=True)
    _show_progress(trainer, trainer.run(state, save_every, validate_every))
    click.echo(export(trainer.trained(), tokenizer, out))


def _show_progress(trainer: "Trainer", steps: "Iterator[Progress]") -> None:
    """Draw a bar with the loss and the learning rate; print each validation."""
    from tqdm import tqdm

    done, total = len(trainer.losses), trainer.recipe.n_steps
    with tqdm(total=total, initial=done, unit="step", disable=None) as bar:
        for now in steps:
            bar.set_postfix(loss=f"{now.loss:.3f}", rate=f"{now.rate:.2g}")
            bar.update()
            if now.validation is not None:
                text = f"loss {now.loss:.4f}, held out {now.validation:.4f}"
                bar.write(f"step {now.step}: {text}", file=sys.stderr)


@hardway.command()
@click.argument("directory", type=click.Path(path_type=Path))
@model_option("pocket")
@click.option(
    "--dtype", type=click.Choice(["F32", "F16", "BF16"]), default="F32",
    show_default=True, help="The dtype of the weights, as the file names it.",
)  # fmt: skip
def export(directory: Path, model: str, dtype: str) -> None:
    """Write a model into DIRECTORY in Hugging Face layout.

    Quantized weights are dequantized. Other programs load it: transformers, vLLM.
    """
    from hardway import load, load_tokenizer
    from hardway.export import export
    from hardway.safetensors import DTYPES

    found = load(model, dtype=DTYPES[dtype])
    click.echo(export(found, load_tokenizer(model), directory))


@hardway.command("eval")
@click.argument("file", type=click.Path(path_type=Path))
@model_option("pocket")
@click.option(
    "--stride", type=int,
    help="Tokens that a window scores; fewer leave more context. Default: n_ctx.",
)  # fmt: skip
def evaluate(file: Path, model: str, stride: int | None) -> None:
    """Measure how good a model is on FILE.

    A text is scored token by token. A file of JSON lines (.jsonl) holds multiple-choice
    questions, each with a context, choices and the index of the answer.
    """
    from hardway import evaluation, load, load_tokenizer
    from hardway.corpus import decoded
    from hardway.questions import check_stride, read_questions
    from hardway.untrusted import prefix_errors

    if file.suffix == ".jsonl":
        questions = read_questions(file)
        found = evaluation.answer(load(model), load_tokenizer(model), questions)
        shares = {
            "acc": [one.is_right for one in found],
            "acc_norm": [one.is_right_normalized for one in found],
        }
        click.echo(f"questions        {len(found)}")
        for name, right in shares.items():
            click.echo(f"{name:16} {sum(right) / len(right):.4f}")
        return
    with prefix_errors(file):
        text = decoded(file.read_bytes())
    network = load(model)
    stride = check_stride(stride, network.config.n_ctx)
    score = evaluation.score_text(network, load_tokenizer(model), text, stride)
    click.echo(f"tokens           {score.n_tokens}")
    click.echo(f"bytes            {score.n_bytes}")
    click.echo(f"bits per byte    {score.bits_per_byte:.4f}")
    click.echo(f"perplexity       {score.perplexity:.4f} per token")
    click.echo(f"word perplexity  {score.word_perplexity:.4f}")
    click.echo(f"windows of {network.config.n_ctx}, {stride} scored in each")


@hardway.command()
@click.option(
    "--model",
    default="smollm2",
    show_default=True,
    help="Name of a known model, or a path; clients ask for it by this name.",
)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on; others than this machine can reach 0.0.0.0.",
)
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True)
@click.option(
    "--max-batch",
    type=int,
    default=16,
    show_default=True,
    help="Requests that run at the same time.",
)
@click.option(
    "--api-key",
    envvar="HARDWAY_API_KEY",
    help="What clients have to know; better as HARDWAY_API_KEY.",
)
def serve(
    model: str, host: str, port: int, max_batch: int, api_key: str | None
) -> None:
    """Serve a model over HTTP, with OpenAI's endpoints.

    Many requests run at once. A page at / chats with the model. Ctrl-C finishes the
    running requests and stops.
    """
    import logging
    import socket

    from hardway import inputs, load, load_tokenizer

    try:
        from hardway.serving.server import Server, Uvicorn
    except ModuleNotFoundError as error:
        _fail(f'{error.name} is missing: pip install "hardway[serve]"')
    from hardway.serving.api import Served
    from hardway.serving.engine import Engine

    logging.basicConfig(format="%(asctime)s %(message)s")
    logging.getLogger("hardway.serving").setLevel(logging.INFO)
    tokenizer = load_tokenizer(model)
    network = inputs.fit_vocabulary(load(model), tokenizer.n_vocab)
    served = Served(model, Engine(network, max_batch), tokenizer)
    server = Server(served, host, api_key)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family, backlog=1024) as listener:
        shown = f"[{host}]" if ":" in host else host
        address = f"http://{shown}:{listener.getsockname()[1]}"
        click.echo(f"Serving {visible(model)} at {address} (Ctrl-C stops)", err=True)
        Uvicorn(server).run(sockets=[listener])


def _reply(conversation: "Chat", text: str, options: dict[str, Any]) -> None:
    """Send a message, unless it is blank, and print the reply as it is generated."""
    if not text:
        return
    n_dropped = conversation.n_dropped
    pieces = conversation.send(text, **options)
    if n := conversation.n_dropped - n_dropped:
        turns = "turn was" if n == 1 else f"{n} turns were"
        click.echo(f"(The context is full: the oldest {turns} forgotten.)", err=True)
    for piece in pieces:
        _write(piece)
    _write("\n")


def _converse(conversation: "Chat", options: dict[str, Any]) -> None:
    """Read messages from a terminal, with line editing and a history."""
    from prompt_toolkit import PromptSession

    click.echo("Ctrl-C stops a reply, Ctrl-D leaves.", err=True)
    session: PromptSession[str] = PromptSession()
    while True:
        try:
            _reply(conversation, session.prompt("> ").strip(), options)
        except EOFError:
            return
        except KeyboardInterrupt:
            click.echo()  # the reply, or the line, ends here
        except ValueError as error:
            click.echo(f"hardway: {error}", err=True)


def _clocked(ids: Iterable[int], ticks: list[float]) -> Iterator[int]:
    """Pass the ids on, recording when each one arrived."""
    for id in ids:
        ticks.append(time.perf_counter())
        yield id


def _print_stats(ticks: list[float]) -> None:
    """Print the speed; the first token is timed apart, since it includes the prompt."""
    line = f"{len(ticks) - 1} new token{'s' if len(ticks) != 2 else ''}"
    if len(ticks) > 1:
        line += f"; the first after {ticks[1] - ticks[0]:.3f} s"
    if len(ticks) > 2:
        line += f", then {(len(ticks) - 2) / (ticks[-1] - ticks[1]):.1f} tokens/s"
    click.echo(line, err=True)


def visible(text: str) -> str:
    """Strip what could command a terminal, if standard output is one.

    That is every control character but newline and tab, and those that reorder the
    text around them. A pipe gets the text as it is.
    """
    return CONTROL.sub("", text) if sys.stdout.isatty() else text


def _write(text: str) -> None:
    """Print a piece of what a model wrote, at once."""
    sys.stdout.write(visible(text))
    sys.stdout.flush()


def _ask(question: str) -> str:
    answer: str = click.prompt(question)
    if not sys.stdin.isatty():
        click.echo()  # nobody pressed Enter, so the cursor is still after the prompt
    return answer


def _read(text: str) -> str:
    """Return the text, or for - standard input without its last line break."""
    if text != "-":
        return text
    with _stdin() as file:
        return re.sub(r"\r?\n\Z", "", file.read())


@contextmanager
def _stdin() -> Iterator[TextIO]:
    """Read standard input as UTF-8, or in the encoding that its byte order mark names.

    The mark isn't part of the text. $PYTHONIOENCODING may name another encoding. Raises
    `ValueError` for anything else.
    """
    file: TextIO = sys.stdin
    if isinstance(file, io.TextIOWrapper) and "PYTHONIOENCODING" not in os.environ:
        start = file.buffer.peek(2)[:2]
        marked = start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
        file.reconfigure(encoding="utf-16" if marked else "utf-8-sig", errors="strict")
    try:
        yield file
    except UnicodeDecodeError as error:
        raise ValueError(
            "standard input must be UTF-8, or UTF-16 with a byte order mark, got the "
            f"byte 0x{error.object[error.start]:02x} at {error.start}: convert it, or "
            "name its encoding in PYTHONIOENCODING"
        ) from error


def _has_styles() -> bool:
    """Return whether the terminal shows styles, and its user wants them."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _note_unused(sampling: Mapping[str, Any]) -> None:
    """Print a note if options of sampling were given without a temperature."""
    names = [
        f"--{name.replace('_', '-')}"
        for name in ("top_k", "top_p", "min_p", "seed")
        if sampling[name] is not None
    ]
    if names and sampling["temperature"] == 0:
        click.echo(
            f"hardway: {', '.join(names)} can't change anything at temperature 0, "
            "where the likeliest token is always taken: give --temperature, too",
            err=True,
        )


def _fail(message: str) -> NoReturn:
    click.echo(f"hardway: {' '.join(message.split())}", err=True)
    sys.exit(2)
