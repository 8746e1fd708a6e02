"""Fetch one file over a network that may fail at any point.

A download ends in one of two ways: the right file, complete, under its name; or an
error that says what to do, with whatever had that name before. The right file is the
one with the pinned size and SHA-256, whatever a server says.
"""

import errno
import hashlib
import os
import re
import shutil
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import requests
from filelock import FileLock, Timeout
from requests.adapters import HTTPAdapter
from requests.exceptions import RetryError, TooManyRedirects
from tqdm import tqdm
from urllib3.exceptions import HTTPError, ProxyError
from urllib3.util import Retry

CHUNK_BYTES = 1 << 20
TIMEOUT_SECONDS = (10, 30)  # to connect, and between two packets
WINDOW_SECONDS = 60  # in each of these, at least
LEAST_BYTES = 1 << 16  # have to come: a server that drips is as good as silent
TRIES = 5  # so many in a row may bring less than that
PAUSE_SECONDS = 0.5  # after a try; twice as long for each one that brought too little
LONGEST_PAUSE_SECONDS = 60  # whatever a server asks for
BUSY = (408, 429, *range(500, 600))  # answers that may be better a little later
RETRYABLE = (requests.RequestException, HTTPError, ValueError)
ASTRAY = (TooManyRedirects, ValueError)  # the last is a bad address
FATAL = (RetryError, *ASTRAY)
PLAINLY = {
    r"^\w+\(.*?\): ": "",  # which object of a library noticed
    r"^IncompleteRead\(.*": "the answer broke off",
    r"^Read timed out.*": "the server fell silent",
    r"^Failed to establish a new connection: (\[.*?\] )?": "",
    r"^too many 429 error responses": "the server wants fewer requests (429)",
    r"^too many (\d+) error responses": r"the server stays busy (\1)",
    r"^Exceeded \d+ redirects": "the server redirects in circles",
    r"^No connection adapters .* for (.*)": r"the server redirects to \1, "
    "and only https is followed (http too, if HF_ENDPOINT is http)",
}
ELSEWHERE = "download to another directory (HARDWAY_HOME, --directory)"
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
LONGEST_MESSAGE = 600  # characters: what a stranger wrote is part of it


@dataclass(frozen=True)
class RemoteFile:
    """One file on the hub, and what proves that it arrived complete."""

    name: str
    size: int
    sha256: str


class DownloadError(OSError):
    """A download failed; the file's name is as it was."""


class _WrongFileError(DownloadError):
    """A server sends another file: no byte of it is worth keeping."""


def is_there(path: Path, file: RemoteFile) -> bool:
    """Say whether ``path`` has the size of ``file``, without reading it."""
    return path.is_file() and path.stat().st_size == file.size


def fault(path: Path, file: RemoteFile) -> str | None:
    """Read all of ``path`` and say how it differs from ``file``, if so."""
    if not path.is_file():
        return "is missing"
    if (size := path.stat().st_size) != file.size:
        return f"has {size:,} bytes instead of {file.size:,}"
    with open(path, "rb") as whole:
        sha256 = hashlib.file_digest(whole, "sha256").hexdigest()
    if sha256 != file.sha256:
        return f"has the SHA-256 {sha256} instead of {file.sha256}"
    return None


def fetch(url: str, file: RemoteFile, path: Path) -> None:
    """Download ``url`` to ``path``, provided that it is exactly ``file``.

    On failure ``path`` is as it was, and the bytes that arrived stay beside it for the
    next call to resume from. Raises `DownloadError`, which says what to do, or another
    `OSError` where the directory cannot be written.
    """
    if path.is_dir():
        raise DownloadError(f"{path}: a directory is in the way: give it another name")
    with _alone(path):
        if is_there(path, file):
            return  # another process fetched it while we waited
        part = _claim(path)
        try:
            _check_room(part, file)
            _complete(url, file, part)
            os.replace(part, path)
        except DownloadError as error:
            # Its causes stay out: they may hold a password or control characters.
            raise DownloadError(_told(url, error)) from None
        except OSError as error:
            if error.errno not in DISK_FULL:
                raise
            part.unlink(missing_ok=True)
            raise DownloadError(
                f"{path.parent}: the disk became full, and what had come is deleted: "
                f"make room for {file.size:,} bytes, or {ELSEWHERE}"
            ) from error


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold a lock on this file, waiting for any other process that fetches it.

    Some network file systems grant every lock, and then two processes get in. That may
    cost a second transfer, but nothing below relies on being alone.
    """
    name = path.with_name(f".{path.name}.lock")
    lock = FileLock(name)
    try:
        held = lock.acquire(timeout=0)
    except Timeout:
        print(f"{path}: waiting for another process to fetch it", file=sys.stderr)
        held = lock.acquire()
    with held:
        try:
            yield
        finally:
            with suppress(PermissionError):  # Windows does not remove an open file
                name.unlink(missing_ok=True)


def _claim(path: Path) -> Path:
    """Return a name for the partial file that no other process writes to.

    A partial file of an earlier run gets this name; of several, the longest.
    """
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    for left in sorted(path.parent.glob(f".{path.name}.*.part"), key=_size):
        os.replace(left, part)
    return part


def _size(path: Path) -> int:
    """Return a file's size in bytes, 0 where there is none."""
    return path.stat().st_size if path.exists() else 0


def _check_room(part: Path, file: RemoteFile) -> None:
    """Raise where the disk has no room for the missing bytes."""
    missing, free = file.size - _size(part), shutil.disk_usage(part.parent).free
    if free < missing:
        raise DownloadError(
            f"{missing:,} bytes are to come, and the disk of {part.parent} has room "
            f"for {free:,}: make room, or {ELSEWHERE}"
        )


def _complete(url: str, file: RemoteFile, part: Path, again: bool = False) -> None:
    """Download into ``part`` and verify it; start over once if it is wrong."""
    try:
        _fill(url, file, part)
        if difference := fault(part, file):
            raise _WrongFileError(f"what came {difference}")
    except _WrongFileError as error:
        part.unlink(missing_ok=True)
        if again:
            raise DownloadError(
                f"{error}, twice; nothing of it was kept. The server or a proxy has "
                "another file: try another network, or a mirror in HF_ENDPOINT"
            ) from error
        return _complete(url, file, part, again=True)
    with open(part, "rb+") as whole:
        os.fsync(whole.fileno())


def _fill(url: str, file: RemoteFile, part: Path) -> None:
    """Append to ``part`` what it lacks, retrying wherever a response breaks off."""
    longest, failures = _size(part), 0
    bar = tqdm(total=file.size, desc=file.name, unit="B", unit_scale=True, disable=None)
    with bar, _session(url) as session:
        while _size(part) < file.size:
            try:
                _ask(session, url, file, part, bar)
            except RETRYABLE as error:
                size = _size(part)
                failures = 0 if size >= longest + LEAST_BYTES else failures + 1
                longest = max(longest, size)
                if failures == TRIES or isinstance(error, FATAL):
                    raise DownloadError(_ending(error, file, size)) from error
                time.sleep(PAUSE_SECONDS * 2**failures)


def _session(url: str) -> requests.Session:
    """Return a session that waits for a busy server and asks for unencoded bytes.

    It follows no redirect from https to anything else.
    """
    retry = Retry(
        total=None, connect=0, read=0, other=0, status=TRIES, status_forcelist=BUSY,
        backoff_factor=PAUSE_SECONDS, retry_after_max=LONGEST_PAUSE_SECONDS,
    )  # fmt: skip
    session = requests.Session()
    session.adapters.clear()
    session.mount("https://", HTTPAdapter(max_retries=retry))
    if url.lower().startswith("http:"):
        session.mount("http://", HTTPAdapter(max_retries=retry))
    session.headers["Accept-Encoding"] = "identity"
    return session


def _ask(
    session: requests.Session,
    url: str,
    file: RemoteFile,
    part: Path,
    bar: "tqdm[NoReturn]",
) -> None:
    """Request once what ``part`` lacks, and append what arrives."""
    start = _size(part)
    wish = {"Range": f"bytes={start}-"} if start else {}
    with _answer(session, url, wish) as answer:
        start = _first_byte(answer, file, start)
        with open(part, "ab" if start else "wb") as output:
            bar.n = start  # back at zero, where the server begins anew
            bar.refresh()
            for piece in _pieces(answer, file.size - start):
                if not part.exists():
                    raise requests.ConnectionError(
                        "another process has taken the part over"
                    )
                output.write(piece)
                output.flush()  # nothing is left to write when the part is taken
                bar.update(len(piece))


def _answer(
    session: requests.Session, url: str, wish: dict[str, str]
) -> requests.Response:
    """Send one request; return the response with its body still unread."""
    try:
        return session.get(url, headers=wish, stream=True, timeout=TIMEOUT_SECONDS)
    except RETRYABLE:
        raise
    except OSError as error:  # no certificates are where `requests` was told to look
        raise DownloadError(
            f"{error}. Check REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE, then download again"
        ) from error


def _first_byte(answer: requests.Response, file: RemoteFile, start: int) -> int:
    """Return the file offset where the response's body begins: 0 or ``start``.

    Raises where the body cannot be the file from there on.
    """
    code, headers = answer.status_code, answer.headers
    if headers.get("Content-Type", "").startswith("text/html"):
        raise DownloadError(
            f"answered {code} with a web page (text/html): a proxy or login page? Open "
            "the address in a browser, log in or change the network, download again"
        )
    if code not in (200, 206, 416):
        raise DownloadError(
            f"answered {code} {answer.reason}. The hub has the file, for everybody: "
            "check HF_ENDPOINT, if you have set it, and the proxy"
        )
    if code == 416:
        raise _WrongFileError(f"answered 416 when asked for bytes {start:,} and on")
    span, rest = headers.get("Content-Range"), f"{start}-{file.size - 1}/{file.size}"
    if code == 206 and span != f"bytes {rest}":
        raise _WrongFileError(f"sent the range {span!r} instead of 'bytes {rest}'")
    start = start if code == 206 else 0
    size, length = file.size - start, answer.raw.length_remaining
    if length not in (None, size):
        raise _WrongFileError(f"announced {length:,} bytes instead of {size:,}")
    return start


def _pieces(answer: requests.Response, size: int) -> Iterator[bytes]:
    """Yield the body as it arrives; refuse a crawling server and any byte too many."""
    came, enough, end = 0, LEAST_BYTES, time.monotonic() + WINDOW_SECONDS
    while piece := answer.raw.read1(CHUNK_BYTES):  # never waits for a whole chunk
        came += len(piece)
        if came > size:
            raise _WrongFileError(f"sent more than {size:,} bytes")
        yield piece
        if time.monotonic() > end:
            if came < enough:
                raise requests.Timeout(
                    "the server is too slow: fewer than "
                    f"{LEAST_BYTES:,} bytes in {WINDOW_SECONDS} seconds"
                )
            enough, end = came + LEAST_BYTES, time.monotonic() + WINDOW_SECONDS
    if came < size:
        raise requests.ConnectionError("the answer broke off")


def _ending(error: Exception, file: RemoteFile, size: int) -> str:
    """Explain why only ``size`` bytes arrived, and what may help."""
    if isinstance(error, ASTRAY):
        return f"{_reason(error)}. Check the proxy and HF_ENDPOINT"
    first = (
        "Wait a while"
        if isinstance(error, RetryError)
        else "Check the network, the proxy and HF_ENDPOINT"
    )
    rest = ": it goes on from there" if size else ""
    came = f"{size:,} of {file.size:,} bytes have come"
    return f"{_reason(error)}; {came}. {first}, then download again{rest}"


def _reason(error: BaseException) -> str:
    """Return the innermost of nested library errors, in plain words."""
    for cause in (getattr(error, "reason", None), *error.args):
        if isinstance(cause, Exception):
            where = "the proxy: " if isinstance(error, ProxyError) else ""
            return where + _reason(cause)
    message = str(error).removesuffix(".")
    for pattern, plainly in PLAINLY.items():
        message = re.sub(pattern, plainly, message)
    return message


def _told(url: str, error: DownloadError) -> str:
    """Say what failed where, without passwords or control characters.

    Some of the words are the server's. If they are many, the middle is cut: the address
    comes first, and the advice last.
    """
    address = _without_password(url)
    words = f"{address}: {error}".replace(url, address).split(" ")
    message = "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode()
        for c in " ".join(map(_without_password, words))
    )
    if len(message) > LONGEST_MESSAGE:
        half = LONGEST_MESSAGE // 2
        message = f"{message[:half]} … {message[-half:]}"
    return message


def _without_password(address: str) -> str:
    """Hide the user info of a URL, even in a malformed one."""
    scheme, _, rest = address.partition("//")
    _, at, host = rest.rpartition("@")
    return f"{scheme}//…@{host}" if at else address
