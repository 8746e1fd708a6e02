"""Half a gigabyte over a bad network: the right file, or none and a clear message.

The cases 19 to 32 are numbered; the others fill what is between them. Nothing is
mocked but the clock's constants: a real server on the loopback interface misbehaves.
"""

import errno
import gc
import hashlib
import io
import os
import re
import select
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tqdm import tqdm

from hardway import hub, transfer
from hardway.cli import main
from hardway.transfer import DownloadError, RemoteFile, fetch
from hub_server import (
    CHECKPOINT,
    FILES,
    PAGE,
    Answer,
    Endless,
    Handler,
    HubServer,
    begin,
    chunked,
    damaged,
    drip,
    instead,
    login_page,
    longer,
    longer_in_secret,
    part_with,
    path_of,
    redirect,
    reset,
    serving,
    shorter,
    stall,
    status,
    until,
    whole,
    write,
)

WEIGHTS = FILES["model.safetensors"]
SIZE = len(WEIGHTS)
[FILE] = [file for file in CHECKPOINT.files if file.name == "model.safetensors"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the file is to be: a directory of its own."""
    directory = tmp_path / "model"
    directory.mkdir()
    return directory / "model.safetensors"


def get(remote: HubServer, path: Path, *plan: Answer) -> None:
    """Fetch the weights from a server that first answers as planned."""
    remote.plan["model.safetensors"] = list(plan)
    fetch(remote.url + path_of("model.safetensors"), FILE, path)


def fails(remote: HubServer, path: Path, message: str, *plan: Answer) -> str:
    """Fetch with a failure that says ``message``; the destination is as it was."""
    path.write_bytes(b"an older file")
    with pytest.raises(DownloadError, match=message) as caught:
        get(remote, path, *plan)
    assert path.read_bytes() == b"an older file"
    assert remote.url + path_of("model.safetensors") in str(caught.value)
    assert not list(path.parent.glob(".*.lock"))
    return str(caught.value)


def parts(path: Path) -> list[bytes]:
    return [part.read_bytes() for part in path.parent.glob(".*.part")]


def until_there(path: Path, process: subprocess.Popen[str] | None = None) -> None:
    """Wait until a part has some bytes; fail where it takes long, or nobody writes."""
    end = time.monotonic() + 60
    while not sum(map(len, parts(path))):
        assert time.monotonic() < end
        assert process is None or process.poll() is None
        time.sleep(0.01)


def alone(path: Path) -> bool:
    """The right file is there, and nothing else."""
    return path.read_bytes() == WEIGHTS and list(path.parent.iterdir()) == [path]


BREAKS = {
    "at 30 %": until(0.3),
    "before the first byte": until(0),
    "without a length": until(0.3, length=False),
    "within a chunk": chunked(0.3),
    "by a reset": reset,
    "in silence": stall,
}


@pytest.mark.slow
@pytest.mark.parametrize("answer", BREAKS.values(), ids=BREAKS)
def test_case_19_a_body_that_breaks_off_is_resumed(
    answer: Answer, remote: HubServer, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A body that breaks off is asked for again from there on."""
    monkeypatch.setattr(transfer, "TIMEOUT_SECONDS", (5, 1))
    get(remote, path, answer)
    assert alone(path)
    assert len(remote.ranges) == 2
    first, second = remote.ranges
    assert first is None
    if answer is not BREAKS["before the first byte"]:
        assert second
        assert 0 < int(second.removeprefix("bytes=").removesuffix("-")) < SIZE


def test_case_19_the_next_run_resumes(remote: HubServer, path: Path) -> None:
    """What one run has fetched, the next one does not fetch again."""
    plan = [until(0.3), *[until(0.31)] * 9]
    message = fails(remote, path, "then try again: it will resume from there", *plan)
    assert f"{int(0.31 * SIZE):,} of {SIZE:,} bytes received" in message
    assert parts(path) == [WEIGHTS[: int(0.31 * SIZE)]]
    remote.ranges.clear()
    get(remote, path)
    assert remote.ranges == [f"bytes={int(0.31 * SIZE)}-"]
    assert alone(path)


def test_case_19_five_tries_without_progress(remote: HubServer, path: Path) -> None:
    """A try that brings something is free; five in a row that do not are the end."""
    told = fails(remote, path, "0 of 2,304,000 bytes received", *[until(0)] * 9)
    assert told.endswith("the proxy and HF_ENDPOINT, then try again")
    assert len(remote.asked) == 5
    remote.asked.clear()
    get(remote, path, *[until(tenth / 10) for tenth in range(1, 10)])
    assert len(remote.asked) == 10
    assert alone(path)


def test_case_19_forth_and_back_is_no_progress(remote: HubServer, path: Path) -> None:
    """Where every try begins anew, only what is longer than all before counts."""
    plan = [until(share, ranges=False) for share in (0.3, 0.1, 0.2)] * 9
    fails(remote, path, "bytes received", *plan)
    assert len(remote.asked) == 6


@pytest.mark.slow
@pytest.mark.parametrize("ranges", [True, False])
def test_case_19_at_real_size(ranges: bool, remote: HubServer, path: Path) -> None:
    """GPT-2's own size: dropped at 30 %, whole at the end, little in memory."""
    body = Endless(548_105_171)
    if shutil.disk_usage(path.parent).free < len(body):
        pytest.skip(f"the disk of {path.parent} has no room for {len(body):,} bytes")
    digest = hashlib.sha256()
    for start in range(0, len(body), 1 << 24):
        digest.update(body[start : start + (1 << 24)])
    file = RemoteFile("model.safetensors", len(body), digest.hexdigest())
    remote.files["/weights"] = body
    remote.plan["weights"] = [until(0.3), until(1.0 * len(body), ranges=ranges)]
    try:
        fetch(f"{remote.url}/weights", file, path)
        assert remote.ranges == [None, f"bytes={int(0.3 * len(body))}-"]
        assert transfer.difference(path, file) is None
    finally:
        shutil.rmtree(path.parent)  # pytest would keep the last three


def test_case_20_a_range_ignored_starts_over(
    remote: HubServer, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """200 instead of 206 is the whole file: it replaces the part, and the bar."""
    bars: list[list[int]] = []

    class Bar(tqdm):  # type: ignore[type-arg]
        def __init__(self, **options: Any) -> None:
            bars.append([])
            super().__init__(**options | {"disable": False, "file": io.StringIO()})

        def refresh(self, *args: Any, **options: Any) -> Any:
            bars[-1].append(self.n)
            return super().refresh(*args, **options)

    monkeypatch.setattr(transfer, "tqdm", Bar)
    get(remote, path, until(0.3), until(0.6, ranges=False), until(0.9, ranges=False))
    assert alone(path)
    drops = [int(share * SIZE) for share in (0.3, 0.6, 0.9)]
    assert remote.ranges == [None, *(f"bytes={drop}-" for drop in drops)]
    [seen] = bars
    begun = [n for n in seen if n in (0, drops[-1])]
    assert begun[-4:] == [0, 0, 0, drops[-1]]
    assert max(seen) <= SIZE


@pytest.mark.parametrize(
    "span",
    [
        f"bytes 0-{SIZE - 1}/{SIZE}",
        f"bytes {int(0.3 * SIZE)}-{SIZE - 1}/{SIZE + 1}",
        f"bytes {int(0.3 * SIZE)}-{SIZE - 2}/{SIZE}",
        f"bytes {int(0.3 * SIZE)}-{SIZE - 1}/*",
        "nonsense",
        None,
    ],
)
def test_case_20_a_wrong_content_range_starts_over(
    span: str | None, remote: HubServer, path: Path
) -> None:
    """206 with another range than the one asked for is not appended."""
    wrong = part_with(span) if span else status(206)
    get(remote, path, until(0.3), wrong)
    assert alone(path)
    assert remote.ranges == [None, f"bytes={int(0.3 * SIZE)}-", None]
    asked = f"bytes 0-{SIZE - 1}/{SIZE}"
    if span != asked:
        told = f"sent the range {re.escape(repr(span))} instead of '{asked}', twice"
        fails(remote, path, told, *[wrong] * 2)


def test_case_21_a_416_starts_over_once(remote: HubServer, path: Path) -> None:
    """416: the part is thrown away and the file fetched anew; twice is an error."""
    get(remote, path, until(0.3), status(416))
    assert alone(path)
    assert remote.ranges == [None, f"bytes={int(0.3 * SIZE)}-", None]
    remote.asked.clear()
    message = fails(remote, path, "answered 416 to a request", *[status(416)] * 9)
    assert "deleted" in message
    assert len(remote.asked) == 2


def test_case_21_a_part_that_is_whole_is_not_asked_for(
    remote: HubServer, path: Path
) -> None:
    """A part that has its full size is hashed: nothing is left to ask for."""
    path.with_name(".model.safetensors.left.part").write_bytes(WEIGHTS)
    get(remote, path)
    assert alone(path)
    assert remote.asked == []


@pytest.mark.parametrize(
    "answer", [until(0.3, length=False), chunked(0.3)], ids=["no length", "chunked"]
)
def test_case_22_short_without_a_length(
    answer: Answer, remote: HubServer, path: Path
) -> None:
    """A short body that looks like a success is a failure: retried, then an error."""
    fails(remote, path, f"691,200 of {SIZE:,} bytes received", *[answer] * 9)
    assert len(remote.asked) == 6  # the first one brought something
    assert parts(path) == [WEIGHTS[:691_200]]


WRONG = {
    "hash": (damaged, "has the SHA-256 {} instead of {}"),
    "shorter": (shorter, "announced 2,303,999 bytes instead of 2,304,000"),
    "longer": (longer, "announced 2,304,001 bytes instead of 2,304,000"),
    "longer, in secret": (longer_in_secret, "sent more than 2,304,000 bytes"),
    "gzip": (
        instead(lambda body: b"\x1f\x8b" + body[: SIZE - 2]),
        "has the SHA-256 [0-9a-f]{{64}} instead of {1}",
    ),
}


@pytest.mark.parametrize(("answer", "message"), WRONG.values(), ids=WRONG)
def test_case_23_another_file(
    answer: Answer, message: str, remote: HubServer, path: Path
) -> None:
    """Wrong bytes are deleted and asked for once more; then: file, expected, got."""
    got = hashlib.sha256(WEIGHTS[:-1] + bytes([WEIGHTS[-1] ^ 1])).hexdigest()
    told = fails(remote, path, message.format(got, FILE.sha256), *[answer] * 9)
    assert "HF_ENDPOINT" in told
    assert len(remote.asked) == 2
    assert parts(path) == []
    get(remote, path, answer)  # and one wrong answer does no harm
    assert alone(path)


def test_case_23_a_damaged_part(remote: HubServer, path: Path) -> None:
    """What an earlier run left is not trusted either: the hash decides."""
    for left in (b"?" + WEIGHTS[1:9000], WEIGHTS + b"?", bytes(SIZE)):
        path.with_name(".model.safetensors.left.part").write_bytes(left)
        get(remote, path)
        assert alone(path)
        path.unlink()


def test_case_23_a_file_that_changes_on_the_way(remote: HubServer, path: Path) -> None:
    """The first third of one file and the rest of another are no file."""

    def changed(handler: Handler, body: Any) -> None:
        whole(handler, bytes(len(body)))

    get(remote, path, until(0.3), changed)
    assert alone(path)
    assert remote.ranges == [None, f"bytes={int(0.3 * SIZE)}-", None]


@pytest.mark.parametrize(
    "page",
    [login_page, instead(lambda _: PAGE, length=False, kind="text/html"),
     instead(lambda body: PAGE.ljust(len(body)), kind="text/html"),
     status(511, Content_Type="text/html"), status(403, Content_Type="text/html")],
    ids=["short", "no length", "the right size", "511", "403"],
)  # fmt: skip
def test_case_24_a_web_page_instead(
    page: Answer, remote: HubServer, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A web page is never taken for the file, and costs nothing of what has come."""
    monkeypatch.setattr(transfer, "BUSY", (503,))
    fails(remote, path, "a proxy or login page?", until(0.3), page)
    assert len(remote.asked) == 2
    assert parts(path) == [WEIGHTS[: int(0.3 * SIZE)]]


def raw(head: bytes) -> Answer:
    """Answer with these bytes, whatever they are."""

    def answer(handler: Handler, body: Any) -> None:
        handler.wfile.write(head)

    return answer


ACTING = {
    "reason": raw(b"HTTP/1.0 404 \x1b]0;owned\x07\xe2\x80\xae evil\r\n\r\n"),
    "status line": raw(b"\x1b]0;owned\x07 nonsense\r\n\r\n"),
    "length": status(200, Content_Length="7\x1b]0;owned\x07"),
    "redirect": redirect("ftp://\x1b]0;owned\x07/"),
    "long redirect": redirect("ftp://hub.invalid/" + 60_000 * "x"),
    "long reason": raw(b"HTTP/1.0 404 " + 60_000 * b"\x1b" + b"\r\n\r\n"),
}


@pytest.mark.parametrize("answer", ACTING.values(), ids=ACTING)
def test_case_24_what_a_server_writes_does_not_act(
    answer: Answer, remote: HubServer, path: Path
) -> None:
    """Its words are one line of a message, however many, and steer no terminal."""
    message = fails(remote, path, "HF_ENDPOINT", *[answer] * 9)  # the advice is there
    assert message.isprintable()
    assert len(message) < 700


@pytest.mark.parametrize("code", [408, 429, 500, 502, 503, 504])
def test_case_25_a_busy_server_is_asked_again(
    code: int, remote: HubServer, path: Path
) -> None:
    """429 and 5xx are asked again; a server that stays busy is an error."""
    get(remote, path, status(code), status(code))
    assert alone(path)
    assert len(remote.asked) == 3
    remote.asked.clear()
    state = "is rate-limiting requests" if code == 429 else "is still busy"
    told = fails(
        remote, path, rf"the server {state} \({code}\); 0 of", *[status(code)] * 9
    )
    assert told.endswith("received. Wait a while, then try again")
    assert len(remote.asked) == 6


@pytest.mark.slow
@pytest.mark.parametrize("code", [429, 503])
def test_case_25_retry_after_is_obeyed_within_reason(
    code: int, remote: HubServer, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Retry-After is waited for, but not a day."""
    monkeypatch.setattr(transfer, "LONGEST_PAUSE_SECONDS", 0.2)
    begun = time.monotonic()
    get(remote, path, status(code, Retry_After=86_400))
    assert 0.2 <= time.monotonic() - begun < 20
    assert alone(path)


def test_case_25_no_pause_is_longer_than_a_minute() -> None:
    """The bound that the other tests shorten."""
    with transfer._session("https://hub.example") as session:
        retry = session.get_adapter("https://hub.example").max_retries  # type: ignore[attr-defined]
    assert retry.retry_after_max == 60
    assert retry.backoff_factor * 2**transfer.TRIES < 60


@pytest.mark.parametrize("code", [400, 401, 403, 404, 410, 204, 304])
def test_case_25_a_final_answer_is_final(
    code: int, remote: HubServer, path: Path
) -> None:
    """404 and its like: one request, and an error at once."""
    fails(
        remote,
        path,
        f"answered {code} .* public on the hub.* HF_ENDPOINT",
        *[status(code)] * 9,
    )
    assert len(remote.asked) == 1
    assert parts(path) == []


@pytest.mark.slow
def test_case_26_a_server_that_drips(
    remote: HubServer, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A byte now and then keeps every timeout quiet, but not the deadline."""
    monkeypatch.setattr(transfer, "WINDOW_SECONDS", 0.2)
    begun = time.monotonic()
    fails(remote, path, "is too slow: fewer than 65,536 bytes in 0.2 s", *[drip] * 9)
    assert 1 <= time.monotonic() - begun < 20
    assert len(remote.asked) == 5


@pytest.mark.slow
def test_case_26_slow_is_not_dripping(
    remote: HubServer, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that is slow, but fast enough in every window, may take its time."""

    def slow(handler: Handler, body: Any) -> None:
        begin(handler, 200, Content_Length=len(body))
        for start in range(0, len(body), 100_000):
            write(handler, body, start, min(start + 100_000, len(body)))
            time.sleep(0.03)

    monkeypatch.setattr(transfer, "WINDOW_SECONDS", 0.1)
    monkeypatch.setattr(transfer, "LEAST_BYTES", 1000)
    get(remote, path, slow)
    assert alone(path)
    assert len(remote.asked) == 1


def test_case_27_a_redirect_takes_no_secrets_along(
    remote: HubServer, path: Path
) -> None:
    """Another host is where the file often is; it must not learn the password."""
    with serving() as other:
        there = f"http://localhost:{other.server_port}{path_of('model.safetensors')}"
        remote.plan["model.safetensors"] = [redirect(there)] * 2
        other.plan["model.safetensors"] = [until(0.3)]
        own = remote.url.replace("//", "//me:secret@") + path_of("model.safetensors")
        fetch(own, FILE, path)
    assert alone(path)
    assert ["Authorization" in headers for headers in remote.headers] == [True] * 2
    assert ["Authorization" in headers for headers in other.headers] == [False] * 2
    assert other.ranges == [None, f"bytes={int(0.3 * SIZE)}-"]


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://me:secret@{host}",
        "HTTP://me:secret@{host}",
        "http://me:secret@",
        "http://me:secret@{host}:99999",
        "https://me:secret@host:99999",
        "https://me:secret@[bad",
        "https://me:pass/secret@{host}",
        "https://me:pass secret@{host}",
        "me:secret@{host}",
        "ftp://me:secret@{host}",
    ],
)
def test_case_27_no_message_tells_the_password(
    endpoint: str, remote: HubServer, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An address with a password is shown without it, in a traceback, too."""
    host = remote.url.removeprefix("http://")
    monkeypatch.setenv("HF_ENDPOINT", endpoint.format(host=host))
    remote.plan["config.json"] = [status(404)]
    with pytest.raises((DownloadError, ValueError)) as caught:
        hub.download("gpt2", path.parent)
    told = "".join(traceback.format_exception(caught.value))
    assert "HF_ENDPOINT" in str(caught.value)
    assert "secret" not in told


def test_case_27_no_message_tells_a_proxy_s_password(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same for the address of a proxy."""
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://me:secret@proxy:99999")
    with pytest.raises(DownloadError, match="proxy:99999") as caught:
        fetch("http://hub.invalid/x", FILE, path)
    assert "secret" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("address", ["http://[bad/", "http://\xff/", "http://a b:c/"])
def test_case_27_a_redirect_to_no_address(
    address: str, remote: HubServer, path: Path
) -> None:
    """A redirect that nobody can follow is an error like any other, at once."""
    fails(remote, path, "Check .* HF_ENDPOINT", *[redirect(address)] * 9)
    assert len(remote.asked) == 1
    gc.collect()  # the connection: requests leaves it open, and Python says so


MISDIRECTED = "Check the proxy and HF_ENDPOINT"  # a second try would end like the first


@pytest.mark.parametrize(
    "address", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:text/plain,x"]
)
def test_case_27_no_redirect_leaves_the_web(
    address: str, remote: HubServer, path: Path
) -> None:
    """A redirect to file:// is refused at once."""
    told = fails(
        remote,
        path,
        f"the server redirects to '{re.escape(address)}', but only https is followed",
        *[redirect(address)] * 9,
    )
    assert told.endswith("(and http, if HF_ENDPOINT uses it). " + MISDIRECTED)
    assert len(remote.asked) == 1


def test_case_27_a_redirect_in_circles(remote: HubServer, path: Path) -> None:
    """A loop ends, and is not begun again."""
    here = remote.url + path_of("model.safetensors")
    told = fails(remote, path, "redirect loop", *[redirect(here)] * 99)
    assert told.endswith(f": redirect loop. {MISDIRECTED}")
    assert len(remote.asked) == 31


@pytest.fixture
def secure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """The same server, by https, and trusted."""
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
         "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=hub",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = HubServer()
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.url = server.url.replace("http", "https")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    with serving(server):
        yield server


needs_openssl = pytest.mark.skipif(
    not shutil.which("openssl"), reason="a certificate is made with openssl"
)


@needs_openssl
def test_case_27_https_is_never_left(
    secure: HubServer, remote: HubServer, path: Path
) -> None:
    """From https no redirect leads to http; the other way is fine."""
    plain = remote.url + path_of("model.safetensors")
    fails(
        secure,
        path,
        f"the server redirects to '{plain}', but only https is followed",
        *[redirect(plain)] * 9,
    )
    assert (len(secure.asked), remote.asked) == (1, [])
    path.unlink()
    get(remote, path, redirect(secure.url + path_of("model.safetensors")))
    assert alone(path)


@needs_openssl
def test_case_27_a_stranger_s_certificate(
    secure: HubServer, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A certificate that nobody vouches for is an error, and nothing is asked."""
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    monkeypatch.setattr(transfer, "PAUSE_SECONDS", 0)
    fails(secure, path, "CERTIFICATE_VERIFY_FAILED")
    assert secure.asked == []


def test_certificates_that_are_not_there(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong REQUESTS_CA_BUNDLE is an error that names it and the path."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(path.with_name("none.pem")))
    with pytest.raises(DownloadError, match=r"none\.pem.*REQUESTS_CA_BUNDLE"):
        fetch("https://127.0.0.1:9/x", FILE, path)


def test_case_28_no_room(
    remote: HubServer, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Room is checked before anything is asked, for what is missing only."""
    path.with_name(".model.safetensors.left.part").write_bytes(WEIGHTS[:4000])
    for free in (SIZE - 4001, SIZE - 4000):
        usage = SimpleNamespace(free=free)
        monkeypatch.setattr(transfer.shutil, "disk_usage", lambda _, usage=usage: usage)
        if free < SIZE - 4000:
            fails(remote, path, "2,300,000 bytes .* 2,299,999 free")
            assert remote.asked == []
            assert parts(path) == [WEIGHTS[:4000]]
    path.unlink()
    get(remote, path)
    assert alone(path)
    assert remote.ranges == ["bytes=4000-"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is full")
def test_case_28_the_disk_fills_up(remote: HubServer, path: Path) -> None:
    """ENOSPC on the way, a real one: a clear error, and the part is gone."""
    path.with_name(".model.safetensors.left.part").symlink_to("/dev/full")
    path.write_bytes(b"old")
    with pytest.raises(DownloadError, match="the disk is full") as caught:
        get(remote, path)
    assert str(path.parent) in str(caught.value)
    assert "free 2,304,000 bytes, or download to ano" in str(caught.value)
    assert list(path.parent.iterdir()) == [path]
    assert path.read_bytes() == b"old"


def test_case_28_another_error_of_the_disk(
    remote: HubServer, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any other error of the system is passed on as it is."""

    def broken(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="Input/output error"):
        get(remote, path)
    assert not path.exists()


PROGRAM = """
import os, sys
from hardway import hub, transfer
from hardway.cli import main
from hub_server import CHECKPOINT
transfer.PAUSE_SECONDS = 0
hub.CHECKPOINTS["gpt2"] = CHECKPOINT
directory, *nobody = sys.argv[1:]
for user in nobody:
    os.setuid(int(user))  # only now: Python itself may be in a home that is locked
main(["download", "gpt2", "--directory", directory])
"""


def start(*arguments: object) -> subprocess.Popen[str]:
    """Start the command line in a process of its own."""
    root = Path(__file__).parents[2]
    path = f"{root / 'tests' / 'support'}{os.pathsep}{root / 'src'}"
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def waiting(answer: Answer, begun: threading.Event, go: threading.Event) -> Answer:
    """Answer, after saying so, when one may."""

    def wait(handler: Handler, body: Any) -> None:
        begun.set()
        go.wait(20)
        answer(handler, body)

    return wait


def first_line(processes: list[subprocess.Popen[str]]) -> str:
    """Read the first line that any of them writes to its stderr, within a minute."""
    errors = [process.stderr for process in processes if process.stderr]
    [ready, *_], _, _ = select.select(errors, [], [], 60)
    return str(ready.readline()).rstrip()


def test_case_29_two_processes(remote: HubServer, path: Path) -> None:
    """Two at once: one of them fetches, both succeed, and the file is right."""
    begun, go = threading.Event(), threading.Event()
    remote.plan["config.json"] = [waiting(whole, begun, go)]
    both = [start(path.parent), start(path.parent)]
    assert begun.wait(30)
    waited = first_line(both)
    go.set()
    told = rf"{path.parent}/.*: waiting for another process to download it"
    assert re.fullmatch(told, waited)
    for process in both:
        out, err = process.communicate(timeout=60)
        assert (out, process.returncode) == (f"{path.parent}\n", 0)
        assert all(re.fullmatch(told, line) for line in err.splitlines())
    assert sorted(remote.asked) == sorted(FILES)
    assert {p.name: p.read_bytes() for p in path.parent.iterdir()} == FILES


def test_case_29_who_waited_looks_again(remote: HubServer, path: Path) -> None:
    """The one that waited for the lock finds the file there, and asks for nothing."""
    begun, go = threading.Event(), threading.Event()
    remote.plan["model.safetensors"] = [waiting(whole, begun, go)]
    url = remote.url + path_of("model.safetensors")
    both = [threading.Thread(target=fetch, args=(url, FILE, path)) for _ in range(2)]
    both[0].start()
    assert begun.wait(20)
    both[1].start()
    go.set()
    for thread in both:
        thread.join(20)
    assert alone(path)
    assert len(remote.asked) == 1


def test_case_29_two_at_once_where_locks_do_not_hold(
    remote: HubServer, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where everybody gets the lock, two may fetch, and the file is right."""
    free = SimpleNamespace(acquire=lambda **_: nullcontext())
    monkeypatch.setattr(transfer, "FileLock", lambda _: free)
    begun, go = threading.Event(), threading.Event()

    def half_then_wait(handler: Handler, body: Any) -> None:
        begin(handler, 200, Content_Length=len(body))
        write(handler, body, 0, len(body) // 2)
        handler.wfile.flush()
        until_there(path)
        begun.set()
        go.wait(20)
        write(handler, bytes(len(body)), len(body) // 2, len(body))

    remote.plan["model.safetensors"] = [half_then_wait]
    url = remote.url + path_of("model.safetensors")
    first = threading.Thread(target=fetch, args=(url, FILE, path))
    first.start()
    assert begun.wait(20)
    fetch(url, FILE, path)  # takes over what the first one had
    assert path.read_bytes() == WEIGHTS
    witness = path.with_name("witness")
    os.link(path, witness)
    go.set()
    first.join(20)
    assert not first.is_alive()
    assert witness.read_bytes() == WEIGHTS  # the first one did not write to it
    witness.unlink()
    assert alone(path)
    assert len(remote.asked) == 3


@pytest.mark.parametrize("old", [None, b"an older file"])
def test_case_30_an_interrupt(
    old: bytes | None, remote: HubServer, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C: no lock stays, the name is as it was, and the next run goes on."""
    if old is not None:
        path.write_bytes(old)
    chunks = transfer._chunks

    def interrupted(*arguments: Any) -> Iterator[bytes]:
        yield next(chunks(*arguments))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(transfer, "_chunks", interrupted)
        with pytest.raises(KeyboardInterrupt):
            get(remote, path)
    assert (path.read_bytes() if path.exists() else None) == old
    [left] = parts(path)
    assert WEIGHTS.startswith(left)
    assert len(list(path.parent.iterdir())) == 1 + (old is not None)
    remote.ranges.clear()
    get(remote, path)
    assert alone(path)
    assert remote.ranges == [f"bytes={len(left)}-"]


@pytest.mark.skipif(sys.platform == "win32", reason="it has no such signals")
@pytest.mark.parametrize("how", ["SIGINT", "SIGTERM", "SIGKILL"])
def test_case_30_a_process_that_is_stopped(
    how: str, remote: HubServer, path: Path
) -> None:
    """However a process ends, the next run goes on where it stopped."""
    begun = threading.Event()

    def half(handler: Handler, body: Any) -> None:
        begin(handler, 200, Content_Length=len(body))
        write(handler, body, 0, len(body) // 2)
        begun.set()
        handler.server.closing.wait(20)

    remote.plan["model.safetensors"] = [half]
    process = start(path.parent)
    assert begun.wait(30)
    until_there(path, process)
    process.send_signal(signal.Signals[how])
    out, err = process.communicate(timeout=60)
    assert process.returncode == (130 if how == "SIGINT" else -signal.Signals[how])
    assert (out, err.strip()) == ("", "")
    assert not path.exists()
    remote.ranges.clear()
    get(remote, path)
    assert path.read_bytes() == WEIGHTS
    assert remote.ranges[0]
    assert not list(path.parent.glob(".*"))


NOBODY = [65534] if os.geteuid() == 0 else []  # root may write everywhere


@pytest.fixture
def shared() -> Iterator[Path]:
    """A directory that every user can read."""
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        directory = Path(place, "model")
        directory.mkdir()
        yield directory
        directory.chmod(0o755)


@pytest.mark.parametrize("complete", [True, False], ids=["complete", "incomplete"])
def test_case_31_a_directory_that_may_only_be_read(
    complete: bool, remote: HubServer, shared: Path
) -> None:
    """Complete: no write, no lock, no request. Incomplete: what to set, and where."""
    for name, body in FILES.items():
        if complete or name != "merges.txt":
            (shared / name).write_bytes(body)
    shared.chmod(0o555)
    before = {p: p.stat().st_mtime_ns for p in [shared, *shared.iterdir()]}
    process = start(shared, *NOBODY)
    out, err = process.communicate(timeout=60)
    assert {p: p.stat().st_mtime_ns for p in [shared, *shared.iterdir()]} == before
    assert remote.asked == []
    if complete:
        assert (out, err, process.returncode) == (f"{shared}\n", "", 0)
    else:
        assert (out, process.returncode) == ("", 2)
        told = rf"hardway: {shared}: merges.txt is missing.* \(HARDWAY_HOME, .*\n"
        assert re.fullmatch(told, err)


def test_case_31_a_directory_that_may_not_be_made(
    remote: HubServer, shared: Path
) -> None:
    """The same where the directory itself is missing."""
    shared.chmod(0o555)
    out, err = start(shared / "new", *NOBODY).communicate(timeout=60)
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"hardway: {shared / 'new'}: config.json is missing, and")


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_case_31_a_disk_that_may_only_be_read(
    number: int, remote: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same for whatever the system calls it."""

    def refused(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number), "lock")

    monkeypatch.setattr(transfer, "FileLock", refused)
    with pytest.raises(PermissionError, match=r"is missing, and .* \(HARDWAY_HOME, --"):
        hub.download("gpt2", tmp_path)
    assert remote.asked == []


def test_case_31_a_directory_in_the_way(remote: HubServer, tmp_path: Path) -> None:
    """Where the file should be is a directory: nothing is asked for."""
    (tmp_path / "config.json").mkdir()
    with pytest.raises(DownloadError, match=r"config\.json: is a directory"):
        hub.download("gpt2", tmp_path)
    assert remote.asked == []


def test_case_31_a_file_in_the_way(remote: HubServer, tmp_path: Path) -> None:
    """Where the directory should be is a file: the system's own words will do."""
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError, match="file"):
        hub.download("gpt2", tmp_path / "file")
    assert remote.asked == []


@pytest.mark.parametrize("setting", ["1", "true", "YES", "on"])
def test_case_32_offline(
    setting: str, remote: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HF_HUB_OFFLINE: no socket is opened, whether the files are there or not."""
    directory = hub.download("gpt2")
    monkeypatch.setenv("HF_HUB_OFFLINE", setting)

    def opened(*_: Any, **__: Any) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", opened)
    monkeypatch.setattr(socket, "getaddrinfo", opened)
    assert hub.download("gpt2") == directory
    (directory / "merges.txt").unlink()
    with pytest.raises(DownloadError, match=r"merges.* HF_HUB_OFFLINE forbids") as told:
        hub.download("gpt2")
    assert str(told.value).endswith("HARDWAY_HOME to the directory that holds gpt2/")
    with pytest.raises(DownloadError, match=r"or give another directory$"):
        hub.download("gpt2", directory)
    assert len(remote.asked) == 4


@pytest.mark.parametrize("setting", ["0", "", "no"])
def test_case_32_not_offline(
    setting: str, remote: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other values of HF_HUB_OFFLINE say that the network may be used."""
    monkeypatch.setenv("HF_HUB_OFFLINE", setting)
    hub.download("gpt2")
    assert len(remote.asked) == 4


def test_a_proxy_from_the_environment(
    remote: HubServer, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("http_proxy", remote.url)
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.invalid")
    remote.plan["model.safetensors"] = [until(0.3)]
    hub.download("gpt2", path.parent)
    assert {p.name: p.read_bytes() for p in path.parent.iterdir()} == FILES
    assert len(remote.paths) == 5
    assert all(p.startswith("http://hub.invalid/someone/tiny/") for p in remote.paths)


def test_a_proxy_that_is_not_there(
    remote: HubServer, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name)
    remote.shutdown()
    remote.server_close()
    monkeypatch.setenv("http_proxy", remote.url)
    with pytest.raises(DownloadError, match=r"x: the proxy: Connection refused; 0 "):
        fetch("http://hub.invalid/x", FILE, path)


def test_no_server(
    remote: HubServer, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote.shutdown()
    remote.server_close()
    calls = []
    connect = socket.socket.connect

    class Counted(socket.socket):
        def connect(self, address: Any) -> None:
            calls.append(address)
            connect(self, address)

    monkeypatch.setattr(socket, "socket", Counted)
    message = fails(remote, path, ": Connection refused; 0 of 2,304,000 bytes")
    assert "0x" not in message
    assert parts(path) == []
    assert len(calls) == transfer.TRIES


@pytest.mark.parametrize("url", ["hub.example/x", "https://", "http://a b/", "//x"])
def test_a_bad_address(url: str, path: Path) -> None:
    with pytest.raises(DownloadError, match=re.escape(url)):
        fetch(url, FILE, path)
    assert list(path.parent.iterdir()) == []


def test_nothing_is_compressed(remote: HubServer, path: Path) -> None:
    get(remote, path, until(0.3))
    assert [h["Accept-Encoding"] for h in remote.headers] == ["identity"] * 2


def test_it_is_on_the_disk_before_it_has_its_name(
    remote: HubServer, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = []
    fsync, replace = os.fsync, os.replace

    def synced(descriptor: int) -> None:
        order.append(("fsync", os.fstat(descriptor).st_size))
        fsync(descriptor)

    def replaced(source: Path, target: Path) -> None:
        order.append(("replace", source.stat().st_size))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    get(remote, path)
    assert order == [("fsync", SIZE), ("replace", SIZE)]


def test_the_longest_part_is_taken_and_the_others_go(
    remote: HubServer, path: Path
) -> None:
    for n in (10, 3000, 200):
        path.with_name(f".model.safetensors.{n}.part").write_bytes(WEIGHTS[:n])
    path.with_name(".config.json.x.part").write_bytes(b"another file's")
    get(remote, path)
    assert remote.ranges == ["bytes=3000-"]
    assert path.read_bytes() == WEIGHTS
    assert parts(path) == [b"another file's"]


def test_a_failure_on_the_command_line_is_one_line(
    remote: HubServer, capsys: pytest.CaptureFixture[str]
) -> None:
    remote.plan["config.json"] = [status(404)]
    with pytest.raises(SystemExit) as exit:
        main(["download", "gpt2"])
    out, err = capsys.readouterr()
    assert (exit.value.code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"hardway: {remote.url}/someone/tiny/resolve/")
    assert path_of("config.json") in err


SHARE = st.floats(0, 1, exclude_max=True)
ANSWERS = st.one_of(
    st.builds(until, SHARE, length=st.booleans(), ranges=st.booleans()),
    st.builds(chunked, SHARE),
    st.sampled_from(
        [whole, damaged, shorter, longer, longer_in_secret, login_page, reset]
        + [status(code) for code in (200, 206, 404, 416, 429, 503)]
        + [part_with(f"bytes 0-{SIZE - 1}/{SIZE}"), redirect("file:///etc/passwd")]
    ),
)
LEFT = st.one_of(
    st.none(),
    st.integers(0, SIZE).map(lambda n: WEIGHTS[:n]),
    st.binary(max_size=3 * 1024),
    st.just(WEIGHTS + b"?"),
)


@pytest.mark.slow
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(ANSWERS, max_size=12), LEFT, st.sampled_from([None, b"old"]))
def test_there_are_two_outcomes(
    remote: HubServer, path: Path, plan: list[Answer], left: bytes | None,
    old: bytes | None,
) -> None:  # fmt: skip
    """Whatever happens: the right file, or what was there before and a message."""
    shutil.rmtree(path.parent)
    path.parent.mkdir()
    if old is not None:
        path.write_bytes(old)
    if left is not None:
        path.with_name(".model.safetensors.left.part").write_bytes(left)
    try:
        get(remote, path, *plan)
    except DownloadError:
        assert (path.read_bytes() if path.exists() else None) == old
        assert not list(path.parent.glob(".*.lock"))
        get(remote, path)
    assert alone(path)


def test_verify(
    remote: HubServer, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    directory = hub.download("gpt2")
    assert hub.verify("gpt2") == hub.verify("gpt2", str(directory)) == directory
    main(["download", "gpt2", "--verify"])
    assert capsys.readouterr() == (f"{directory}\n", "")
    remote.asked.clear()
    (directory / "model.safetensors").write_bytes(bytes(SIZE))
    (directory / "vocab.json").write_bytes(b"?")
    (directory / "merges.txt").unlink()
    hub.download("gpt2", directory)  # the size is what download looks at
    assert remote.asked == ["vocab.json", "merges.txt"]
    (directory / "vocab.json").write_bytes(b"?")
    (directory / "merges.txt").unlink()
    before = {p.name: p.read_bytes() for p in directory.iterdir()}
    with pytest.raises(SystemExit) as exit:
        main(["download", "gpt2", "--verify"])
    out, err = capsys.readouterr()
    assert (exit.value.code, out, err.count("\n")) == (2, "", 1)
    assert "vocab.json has 1 bytes instead of 8; merges.txt is missing; " in err
    got = hashlib.sha256(bytes(SIZE)).hexdigest()
    assert f"model.safetensors has the SHA-256 {got} instead of {FILE.sha256}" in err
    assert "config.json" not in err
    assert err.endswith("then run `hardway download gpt2`\n")
    assert {p.name: p.read_bytes() for p in directory.iterdir()} == before
    assert remote.asked == ["vocab.json", "merges.txt"]


def test_verify_knows_the_names(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^name must be one of gpt2, "):
        hub.verify("gpt-9000")
    with pytest.raises(DownloadError, match=r"config\.json is missing"):
        hub.verify("gpt2", tmp_path)
