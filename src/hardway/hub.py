"""Find a model's directory by name, and download GPT-2 (chapter 1).

A model is a directory in Hugging Face layout: ``config.json``, ``model.safetensors``,
``vocab.json`` and ``merges.txt``. This module alone turns a name into such a directory,
and it never downloads unless `download` is called.
"""

import hashlib
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import platformdirs
import requests
from requests.adapters import HTTPAdapter
from tqdm import tqdm
from urllib3.util import Retry

POCKET = Path(__file__).parent / "models" / "pocket"  # the bundled model
CHUNK_BYTES = 1 << 20
TIMEOUT_SECONDS = (10, 30)  # to connect, and between two packets


@dataclass(frozen=True)
class RemoteFile:
    """One file on the hub, and what proves that it arrived whole. Chapter 1."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Checkpoint:
    """A published model, pinned to one revision of its repository. Chapter 1."""

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
CHECKPOINTS = {
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
}


class DownloadError(OSError):
    """A file could not be fetched whole, and is not there in part. Chapter 1."""


def home() -> Path:
    """Return where downloads live: $HARDWAY_HOME or the user's cache. Chapter 1."""
    return Path(
        os.environ.get("HARDWAY_HOME") or platformdirs.user_cache_dir("hardway")
    )


def find(name_or_directory: str | os.PathLike[str]) -> Path:
    """Return the directory of a model: a known name, or a directory as it is.

    Raises `FileNotFoundError` where there is none; for a model that can be downloaded
    the message gives the command. Nothing is downloaded. Chapter 1.
    """
    name = os.fspath(name_or_directory)
    if name == "pocket":
        return POCKET
    if name in CHECKPOINTS:
        directory = home() / name
        if not (directory / "model.safetensors").is_file():
            raise FileNotFoundError(
                f"no model {name!r} in {directory.absolute()}: run "
                f"`hardway download {name}`, "
                "or set HARDWAY_HOME to the directory that holds it"
            )
        return directory
    directory = Path(name)
    if not directory.is_dir():
        known = ", ".join(["pocket", *CHECKPOINTS])
        raise FileNotFoundError(
            f"{name!r} is neither a directory nor a known model ({known})"
        )
    return directory


def book_model() -> str:
    """Return the model that the book runs on: ``$HARDWAY_MODEL``, by default ``auto``.

    ``auto`` is GPT-2 where it has been downloaded, else the bundled pocket model.
    Chapter 1.
    """
    name = os.environ.get("HARDWAY_MODEL") or "auto"
    if name != "auto":
        return name
    return "gpt2" if (home() / "gpt2" / "model.safetensors").is_file() else "pocket"


def download(name: str, directory: str | os.PathLike[str] | None = None) -> Path:
    """Fetch a model into ``directory``, and return that.

    It is ``home() / name`` by default. A file that is already there with the right size
    stays. Every other one goes to a temporary file first and takes its name only when
    its size and SHA-256 are the pinned ones. The hub's address can be changed with
    ``$HF_ENDPOINT``. Raises `ValueError` for an unknown name, `DownloadError` for a
    file that cannot be fetched whole. Chapter 1.
    """
    if name not in CHECKPOINTS:
        known = ", ".join(CHECKPOINTS)
        raise ValueError(f"name must be one of {known}, not {name!r}")
    checkpoint = CHECKPOINTS[name]
    target = Path(directory) if directory is not None else home() / name
    target.mkdir(parents=True, exist_ok=True)
    endpoint = (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
    base = f"{endpoint}/{checkpoint.repository}/resolve/{checkpoint.revision}"
    with _session() as session:
        for file in checkpoint.files:
            path = target / file.name
            if not (path.is_file() and path.stat().st_size == file.size):
                _fetch(session, f"{base}/{file.name}", file, path)
    return target


def _session() -> requests.Session:
    """Return a session that retries when the server is busy, and takes raw bytes."""
    session = requests.Session()
    retry = Retry(
        total=5, backoff_factor=0.5, status_forcelist=(429, 500, 502, 503, 504)
    )
    session.mount("https://", HTTPAdapter(max_retries=retry))
    session.mount("http://", HTTPAdapter(max_retries=retry))
    session.headers["Accept-Encoding"] = "identity"
    return session


def _fetch(session: requests.Session, url: str, file: RemoteFile, path: Path) -> None:
    """Stream ``url`` into a temporary file, check it, then name it ``path``."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(descriptor, "wb") as output:
            size, sha256 = _stream(session, url, file, output.write)
        if size != file.size:
            raise DownloadError(
                f"{url}: {size:,} bytes arrived instead of {file.size:,}; try again"
            )
        if sha256 != file.sha256:
            raise DownloadError(
                f"{url}: its SHA-256 is {sha256}, not the pinned {file.sha256}"
            )
        os.chmod(temporary, 0o644)  # a temporary file is its owner's alone
        os.replace(temporary, path)
    except requests.RequestException as error:
        raise DownloadError(
            f"{url}: {error}; check the connection and try again"
        ) from error
    finally:
        Path(temporary).unlink(missing_ok=True)


def _stream(
    session: requests.Session,
    url: str,
    file: RemoteFile,
    write: Callable[[bytes], object],
) -> tuple[int, str]:
    """Pass the body of ``url`` to ``write`` by chunks; return its size and SHA-256."""
    size, digest = 0, hashlib.sha256()
    with session.get(url, stream=True, timeout=TIMEOUT_SECONDS) as response:
        response.raise_for_status()
        with tqdm(
            total=file.size, desc=file.name, unit="B", unit_scale=True, disable=None
        ) as progress:
            for chunk in response.iter_content(CHUNK_BYTES):
                write(chunk)
                digest.update(chunk)
                size += len(chunk)
                progress.update(len(chunk))
    return size, digest.hexdigest()
