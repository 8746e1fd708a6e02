"""A small stand-in for the models hub, on the loopback interface, that misbehaves.

What it does with a request for a file is an *answer*; the ``plan`` of a file holds the
answers to come, and when it is used up, the server does what it should.
"""

import hashlib
import random
import socket
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Protocol
from urllib.parse import urlsplit

from hardway.hub import Checkpoint
from hardway.transfer import RemoteFile

FILES = {
    "config.json": b'{"n_ctx": 8}',
    "vocab.json": b'{"a": 0}',
    "merges.txt": b"#version: 0.2\n",
    "model.safetensors": random.Random(0).randbytes(2_304_000),
}
CHECKPOINT = Checkpoint(
    "someone/tiny",
    "0123456789abcdef0123456789abcdef01234567",
    tuple(
        RemoteFile(name, len(body), hashlib.sha256(body).hexdigest())
        for name, body in FILES.items()
    ),
)


class Body(Protocol):
    """The bytes of a file: `bytes`, or something as large as you like."""

    def __len__(self) -> int: ...
    def __getitem__(self, part: slice, /) -> bytes: ...


@dataclass(frozen=True)
class Endless:
    """``size`` bytes that are made when they are asked for."""

    size: int
    block: bytes = FILES["model.safetensors"][: 1 << 20]

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, part: slice, /) -> bytes:
        start, stop, _ = part.indices(self.size)
        first = start % len(self.block)
        length = max(0, stop - start)
        copies = (first + length) // len(self.block) + 1
        return (self.block * copies)[first : first + length]


Answer = Callable[["Handler", Body], None]


def path_of(name: str) -> str:
    return f"/{CHECKPOINT.repository}/resolve/{CHECKPOINT.revision}/{name}"


class HubServer(ThreadingHTTPServer):
    """Serves the checkpoint's files; what a file's ``plan`` holds comes first."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.files: dict[str, Body] = {path_of(n): body for n, body in FILES.items()}
        self.plan: defaultdict[str, list[Answer]] = defaultdict(list)
        self.asked: list[str] = []
        self.ranges: list[str | None] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.closing = threading.Event()

    def handle_error(self, *_: object) -> None:
        """A client that hangs up is no news."""


class Handler(BaseHTTPRequestHandler):
    server: HubServer
    timeout = 5

    def do_GET(self) -> None:
        server, path = self.server, urlsplit(self.path).path
        name = path.rpartition("/")[2]
        server.asked.append(name)
        server.paths.append(self.path)
        server.ranges.append(self.headers["Range"])
        server.headers.append(dict(self.headers))
        body = server.files.get(path)
        plan = server.plan[name]
        answer = plan.pop(0) if plan else status(404) if body is None else whole
        with suppress(ConnectionError):
            answer(self, body if body is not None else b"")

    def log_message(self, *_: object) -> None:
        """Stay silent."""

    @property
    def first(self) -> int:
        """The first byte that is asked for."""
        wish = self.headers["Range"]
        return int(wish.removeprefix("bytes=").removesuffix("-")) if wish else 0


def begin(handler: Handler, code: int, **headers: object) -> None:
    handler.send_response(code)
    for name, value in headers.items():
        if value is not None:
            handler.send_header(name.replace("_", "-"), str(value))
    handler.end_headers()


def write(handler: Handler, body: Body, first: int, stop: int) -> None:
    for start in range(first, stop, 1 << 20):
        handler.wfile.write(body[start : min(start + (1 << 20), stop)])


def whole(handler: Handler, body: Body) -> None:
    """Do what a server should."""
    until(len(body))(handler, body)


def until(stop: float, *, length: bool = True, ranges: bool = True) -> Answer:
    """Promise all that is asked for, and hang up at byte ``stop``, or share of it.

    ``length`` says how long the answer will be, ``ranges`` begins where it is wished.
    """

    def answer(handler: Handler, body: Body) -> None:
        first = handler.first if ranges else 0
        end = len(body)
        begin(
            handler,
            206 if first else 200,
            Content_Length=end - first if length else None,
            Content_Range=f"bytes {first}-{end - 1}/{end}" if first else None,
        )
        write(handler, body, first, int(stop * end) if stop < 1 else int(stop))

    return answer


def instead(
    make: Callable[[Body], bytes], length: bool = True, kind: str | None = None
) -> Answer:
    """Send something else, as a whole, whatever was asked for."""

    def answer(handler: Handler, body: Body) -> None:
        other = make(body)
        size = len(other) if length else None
        begin(handler, 200, Content_Length=size, Content_Type=kind)
        write(handler, other, 0, len(other))

    return answer


longer = instead(lambda body: body[:] + b"x")
longer_in_secret = instead(lambda body: body[:] + b"x", length=False)
shorter = instead(lambda body: body[:-1])
damaged = instead(lambda body: body[:-1] + bytes([body[-1:][0] ^ 1]))
PAGE = b"<!doctype html><title>Welcome to our hotel</title>"
login_page = instead(lambda _: PAGE, kind="text/html; charset=utf-8")


def status(code: int, **headers: object) -> Answer:
    def answer(handler: Handler, body: Body) -> None:
        begin(handler, code, Content_Length=0, **headers)

    return answer


def redirect(address: str) -> Answer:
    return status(302, Location=address)


def part_with(span: str) -> Answer:
    """Send the part that is wished, but say that it is another one."""

    def answer(handler: Handler, body: Body) -> None:
        size = len(body) - handler.first
        begin(handler, 206, Content_Length=size, Content_Range=span)
        write(handler, body, handler.first, len(body))

    return answer


def drip(handler: Handler, body: Body) -> None:
    """Send a byte now and then, which no read timeout will ever notice."""
    begin(handler, 200, Content_Length=len(body))
    for i in range(200):
        handler.wfile.write(body[i : i + 1])
        if handler.server.closing.wait(0.02):
            return


def stall(handler: Handler, body: Body) -> None:
    """Send a tenth, and then nothing for a long time."""
    begin(handler, 200, Content_Length=len(body))
    write(handler, body, 0, len(body) // 10)
    handler.server.closing.wait(4)


def reset(handler: Handler, body: Body) -> None:
    """Send a third, and break the connection off without a farewell."""
    begin(handler, 200, Content_Length=len(body))
    write(handler, body, 0, len(body) // 3)
    linger = (1).to_bytes(4, "little") + bytes(4)
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)


def chunked(stop: float) -> Answer:
    """Send the body in chunks, and hang up at a share of it."""

    def answer(handler: Handler, body: Body) -> None:
        handler.protocol_version = "HTTP/1.1"
        begin(handler, 200, Transfer_Encoding="chunked", Connection="close")
        end = int(len(body) * stop)
        for start in range(0, end, 50_000):
            piece = body[start : min(start + 50_000, end)]
            handler.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        if stop == 1:
            handler.wfile.write(b"0\r\n\r\n")

    return answer


@contextmanager
def serving(server: HubServer | None = None) -> Iterator[HubServer]:
    with server or HubServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            server.closing.set()
            server.shutdown()
            thread.join(5)
