"""The command line: ``hardway demo | download | inspect | tokenize | generate``.

Each command is a thin wrapper around the library's own functions, imported only when it
runs. A usage error prints one line that says what to do, and exits with 2.
"""

import os
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NoReturn

import click

from hardway import __version__


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit: 0 for success, 2 for a usage error.

    Exit with 1 if the reader of a pipe is gone.
    """
    try:
        hardway(arguments, prog_name="hardway", standalone_mode=False)
        sys.stdout.flush()  # while a closed pipe can still be caught
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "hardway"
        _fail(f"{error.format_message()} See `{command} --help`.")
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


@click.group(
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__)
@click.pass_context
def hardway(context: click.Context) -> None:
    """LLM inference the hard way: GPT-2 from raw bytes to generated text.

    For TEXT or PROMPT, - reads from standard input.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


model_option = click.option(
    "--model",
    default="pocket",
    show_default=True,
    help="Name of a known model, or a directory.",
)


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

    FILE_OR_MODEL is a safetensors file, a known model's name, or a directory with a
    model.safetensors. Each tensor has a name, dtype, shape, bytes and parameters.
    """
    import math

    from rich.console import Console
    from rich.table import Table

    from hardway import hub, safetensors
    from hardway.tokenizer import display

    path = Path(file_or_model)
    if not path.is_file():
        path = hub.find(file_or_model) / "model.safetensors"
    tensors = safetensors.read_header(path).tensors
    table = Table("name", "dtype", "shape", box=None, pad_edge=False)
    for column in ("bytes", "parameters"):
        table.add_column(column, justify="right")
    for name, info in tensors.items():
        shape = " × ".join(map(str, info.shape)) or "scalar"
        size, count = info.end - info.start, math.prod(info.shape)
        shown = display(name.encode())  # an untrusted name may contain escape codes
        table.add_row(shown, info.dtype, shape, f"{size:,}", f"{count:,}")
    console = Console(markup=False, emoji=False, highlight=False)
    if not console.is_terminal:
        console.width = 160  # a pipe has no width; do not wrap names at 80 columns
    console.print(table)
    parameters = sum(math.prod(info.shape) for info in tensors.values())
    size = sum(info.end - info.start for info in tensors.values())
    console.print(
        f"{len(tensors):,} tensors, {parameters:,} parameters, {size:,} bytes"
    )


@hardway.command()
@click.argument("text")
@model_option
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
@model_option
@click.option(
    "--max-new-tokens",
    type=int,
    default=100,
    show_default=True,
    help="Maximum number of new tokens.",
)
@click.option(
    "--temperature",
    type=float,
    default=0.0,
    show_default=True,
    help="0 always takes the likeliest token, and soon repeats itself.",
)
@click.option("--top-k", type=int, help="Sample from the k likeliest tokens only.")
@click.option(
    "--top-p",
    type=float,
    help="Sample from the likeliest tokens whose probabilities add up to p.",
)
@click.option("--seed", type=int, help="Makes sampling reproducible.")
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
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    seed: int | None,
    no_cache: bool,
    stats: bool,
) -> None:
    """Continue PROMPT.

    Each piece is printed as it is chosen.
    """
    from hardway import checks, load, load_tokenizer
    from hardway.generation import decode_stream, stream

    prompt = checks.not_empty("prompt", _read(prompt))
    tokenizer, network = load_tokenizer(model), load(model)
    ids = stream(
        network, tokenizer.encode(prompt), max_new_tokens, temperature=temperature,
        top_k=top_k, top_p=top_p, seed=seed, use_cache=not no_cache,
        stop_ids=(tokenizer.eot_id,),
    )  # fmt: skip
    if sys.stdout.isatty():
        click.secho(prompt, dim=True, nl=False)
    ticks = [time.perf_counter()]
    for piece in decode_stream(tokenizer, _clocked(ids, ticks)):
        click.echo(piece, nl=False)
        sys.stdout.flush()
    click.echo()
    if stats:
        _print_stats(ticks)


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


def _ask(question: str) -> str:
    answer: str = click.prompt(question)
    if not sys.stdin.isatty():
        click.echo()  # nobody pressed Enter, so the cursor is still after the prompt
    return answer


def _read(text: str) -> str:
    return sys.stdin.read() if text == "-" else text


def _fail(message: str) -> NoReturn:
    click.echo(f"hardway: {' '.join(message.split())}", err=True)
    sys.exit(2)
