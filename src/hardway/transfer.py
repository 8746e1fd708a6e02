"""Download one file over an unreliable network, with resume and verification.

A download ends in one of two ways: with the right file, complete, under its name; or
with an error that says what to do, and whatever had that name unchanged. The right file
is the one with the pinned size and SHA-256, whatever a server says.
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
WINDOW_SECONDS = 60  # the interval over which throughput is measured
LEAST_BYTES = 1 << 16  # per window, or the server is too slow
TRIES = 5  # in a row that receive fewer than LEAST_BYTES
PAUSE_SECONDS = 0.5  # between tries; doubled after each such failure
LONGEST_PAUSE_SECONDS = 60  # whatever Retry-After says
BUSY = (408, 429, *range(500, 600))  # worth retrying later
RETRYABLE = (requests.RequestException, HTTPError, ValueError)
MISDIRECTED = (TooManyRedirects, ValueError)  # ValueError: an invalid URL
FATAL = (RetryError, *MISDIRECTED)
PLAIN_WORDS = {
    r"^\w+\(.*?\): ": "",  # the repr of a library's object
    r"^IncompleteRead\(.*": "the connection dropped",
    r"^Read timed out.*": "the server stopped responding",
    r"^Failed to establish a new connection: (\[.*?\] )?": "",
    r"^too many 429 error responses": "the server is rate-limiting requests (429)",
    r"^too many (\d+) error responses": r"the server is still busy (\1)",
    r"^Exceeded \d+ redirects": "redirect loop",
    r"^No connection adapters .* for (.*)": r"the server redirects to \1, "
    "but only https is followed (and http, if HF_ENDPOINT uses it)",
}
ELSEWHERE = "download to another directory (HARDWAY_HOME, --directory)"
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
LONGEST_MESSAGE = 600  # characters, because a server wrote part of it


@dataclass(frozen=True)
class RemoteFile:
    """A file on the hub, pinned by its size and SHA-256."""

    name: str
    size: int
    sha256: str


class DownloadError(OSError):
    """A download failed; whatever had the file's name is unchanged."""


class _WrongFileError(DownloadError):
    """The server sent a different file; none of it is worth keeping."""


def has_size(path: Path, file: RemoteFile) -> bool:
    """Return whether ``path`` has the size of ``file``, without reading it."""
    return path.is_file() and path.stat().st_size == file.size


def difference(path: Path, file: RemoteFile) -> str | None:
    """Return how ``path`` differs from ``file``, or None."""
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
    """Download ``url`` to ``path`` and verify that it is exactly ``file``.

    On failure ``path`` is unchanged, and the bytes that arrived stay beside it for the
    next call to resume from. Raises `DownloadError`, which says what to do, or another
    `OSError` if the directory is not writable.
    """
    if path.is_dir():
        raise DownloadError(f"{path}: is a directory: rename or remove it")
    with locked(path):
        if has_size(path, file):
            return  # another process fetched it while we waited
        part = _adopt_partial(path)
        try:
            check_room(path.parent, file.size - _size(part))
            _download_verified(url, file, part)
            os.replace(part, path)
        except DownloadError as error:
            # Its causes are dropped: they may contain a password or control characters.
            raise DownloadError(_error_message(url, error)) from None
        except OSError as error:
            if error.errno not in DISK_FULL:
                raise
            part.unlink(missing_ok=True)
            raise DownloadError(
                f"{path.parent}: the disk is full, and the partial file was deleted: "
                f"free {file.size:,} bytes, or {ELSEWHERE}"
            ) from error


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an inter-process lock on ``path``, waiting while another process has it.

    Correctness doesn't depend on it: some network file systems grant every lock, which
    at worst costs a second transfer.
    """
    name = path.with_name(f".{path.name}.lock")
    lock = FileLock(name)
    try:
        held = lock.acquire(timeout=0)
    except Timeout:
        print(f"{path}: waiting for another process to download it", file=sys.stderr)
        held = lock.acquire()
    with held:
        try:
            yield
        finally:
            with suppress(PermissionError):  # Windows does not remove an open file
                name.unlink(missing_ok=True)


def _adopt_partial(path: Path) -> Path:
    """Return a unique path for the partial file, adopting one from an earlier run.

    If there are several, the longest is kept.
    """
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    for left in sorted(path.parent.glob(f".{path.name}.*.part"), key=_size):
        os.replace(left, part)
    return part


def _size(path: Path) -> int:
    """Return a file's size in bytes, or 0 if it doesn't exist."""
    return path.stat().st_size if path.exists() else 0


def check_room(directory: Path, n_bytes: int) -> None:
    """Raise `DownloadError` if the missing bytes do not fit on the disk."""
    free = shutil.disk_usage(directory).free
    if free < n_bytes:
        raise DownloadError(
            f"{directory}: {n_bytes:,} bytes are still needed, but the disk has only "
            f"{free:,} free: make room, or {ELSEWHERE}"
        )


def _download_verified(
    url: str, file: RemoteFile, part: Path, again: bool = False
) -> None:
    """Download into ``part`` and verify it, starting over once if it is wrong."""
    try:
        _download(url, file, part)
        if found := difference(part, file):
            raise _WrongFileError(f"the downloaded file {found}")
    except _WrongFileError as error:
        part.unlink(missing_ok=True)
        if again:
            raise DownloadError(
                f"{error}, twice; it was deleted. The server or a proxy has another "
                "file: try another network, or set HF_ENDPOINT to a mirror"
            ) from error
        return _download_verified(url, file, part, again=True)
    with open(part, "rb+") as whole:
        os.fsync(whole.fileno())


def _download(url: str, file: RemoteFile, part: Path) -> None:
    """Append the missing bytes to ``part``, retrying when the connection breaks."""
    longest, failures = _size(part), 0
    bar = tqdm(total=file.size, desc=file.name, unit="B", unit_scale=True, disable=None)
    with bar, _session(url) as session:
        while _size(part) < file.size:
            try:
                _request(session, url, file, part, bar)
            except RETRYABLE as error:
                size = _size(part)
                failures = 0 if size >= longest + LEAST_BYTES else failures + 1
                longest = max(longest, size)
                if failures == TRIES or isinstance(error, FATAL):
                    raise DownloadError(_failure_hint(error, file, size)) from error
                time.sleep(PAUSE_SECONDS * 2**failures)


def _session(url: str) -> requests.Session:
    """Return a session that retries busy servers and requests unencoded bytes.

    It follows no redirect from https to another scheme.
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


def _request(
    session: requests.Session,
    url: str,
    file: RemoteFile,
    part: Path,
    bar: "tqdm[NoReturn]",
) -> None:
    """Request the missing bytes once, and append those that arrive to ``part``."""
    start = _size(part)
    headers = {"Range": f"bytes={start}-"} if start else {}
    with _send(session, url, headers) as response:
        start = _first_byte(response, file, start)
        with open(part, "ab" if start else "wb") as output:
            bar.n = start  # 0 if the server ignored the range
            bar.refresh()
            for chunk in _chunks(response, file.size - start):
                if not part.exists():
                    raise requests.ConnectionError(
                        "another process took over the partial file"
                    )
                output.write(chunk)
                output.flush()  # nothing may stay buffered if another process adopts it
                bar.update(len(chunk))


def _send(
    session: requests.Session, url: str, headers: dict[str, str]
) -> requests.Response:
    """Send one request and return the response, its body unread."""
    try:
        return session.get(url, headers=headers, stream=True, timeout=TIMEOUT_SECONDS)
    except RETRYABLE:
        raise
    except OSError as error:  # the CA bundle is missing
        raise DownloadError(
            f"{error}. Check REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE, then try again"
        ) from error


def _first_byte(response: requests.Response, file: RemoteFile, start: int) -> int:
    """Return the file offset where the response's body begins: 0 or ``start``.

    Raises `DownloadError` if the body cannot be the file from there on.
    """
    code, headers = response.status_code, response.headers
    if headers.get("Content-Type", "").startswith("text/html"):
        raise DownloadError(
            f"answered {code} with a web page (text/html): a proxy or login page? Open "
            "the URL in a browser, log in or switch networks, then try again"
        )
    if code not in (200, 206, 416):
        netrc = "Authorization" in response.request.headers  # which requests has read
        sent = "remove the password for this host from ~/.netrc, or " if netrc else ""
        raise DownloadError(
            f"answered {code} {response.reason}. The file is public on the hub: {sent}"
            "check the proxy, and HF_ENDPOINT if it is set"
        )
    if code == 416:
        raise _WrongFileError(f"answered 416 to a request for bytes from {start:,} on")
    span, rest = headers.get("Content-Range"), f"{start}-{file.size - 1}/{file.size}"
    if code == 206 and span != f"bytes {rest}":
        raise _WrongFileError(f"sent the range {span!r} instead of 'bytes {rest}'")
    start = start if code == 206 else 0
    size, length = file.size - start, response.raw.length_remaining
    if length not in (None, size):
        raise _WrongFileError(f"announced {length:,} bytes instead of {size:,}")
    return start


def _chunks(response: requests.Response, size: int) -> Iterator[bytes]:
    """Yield the body as it arrives; raise if it is too slow or exceeds ``size``."""
    came, enough, end = 0, LEAST_BYTES, time.monotonic() + WINDOW_SECONDS
    while chunk := response.raw.read1(CHUNK_BYTES):  # never waits for a whole chunk
        came += len(chunk)
        if came > size:
            raise _WrongFileError(f"sent more than {size:,} bytes")
        yield chunk
        if time.monotonic() > end:
            if came < enough:
                raise requests.Timeout(
                    "the server is too slow: fewer than "
                    f"{LEAST_BYTES:,} bytes in {WINDOW_SECONDS} seconds"
                )
            enough, end = came + LEAST_BYTES, time.monotonic() + WINDOW_SECONDS
    if came < size:
        raise requests.ConnectionError("the connection dropped")


def _failure_hint(error: Exception, file: RemoteFile, size: int) -> str:
    """Return why only ``size`` bytes arrived, and what may help."""
    if isinstance(error, MISDIRECTED):
        return f"{_reason(error)}. Check the proxy and HF_ENDPOINT"
    first = (
        "Wait a while"
        if isinstance(error, RetryError)
        else "Check the network, the proxy and HF_ENDPOINT"
    )
    rest = ": it will resume from there" if size else ""
    received = f"{size:,} of {file.size:,} bytes received"
    return f"{_reason(error)}; {received}. {first}, then try again{rest}"


def _reason(error: BaseException) -> str:
    """Return the message of the innermost exception, in plain words."""
    for cause in (getattr(error, "reason", None), *error.args):
        if isinstance(cause, Exception):
            where = "the proxy: " if isinstance(error, ProxyError) else ""
            return where + _reason(cause)
    message = str(error).removesuffix(".")
    for pattern, plain in PLAIN_WORDS.items():
        message = re.sub(pattern, plain, message)
    return message


def _error_message(url: str, error: DownloadError) -> str:
    """Return the message with its URL, fit to be read."""
    address = _without_password(url)
    return readable(f"{address}: {error}".replace(url, address))


def readable(message: str) -> str:
    """Return a message without passwords, line breaks or control characters.

    A long message is cut in the middle: the URL comes first and the advice last.
    """
    message = "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode()
        for c in " ".join(map(_without_password, message.split(" ")))
    )
    if len(message) > LONGEST_MESSAGE:
        half = LONGEST_MESSAGE // 2
        message = f"{message[:half]} … {message[-half:]}"
    return message


def _without_password(address: str) -> str:
    """Redact the user info of a URL, even of a malformed one."""
    scheme, _, rest = address.partition("//")
    _, at, host = rest.rpartition("@")
    return f"{scheme}//…@{host}" if at else address
