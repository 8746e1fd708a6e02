"""A small stand-in for the models hub, on the loopback interface."""

import hashlib
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from hardway.hub import Checkpoint, RemoteFile

FILES = {
    "config.json": b'{"n_ctx": 8}',
    "vocab.json": b'{"a": 0}',
    "merges.txt": b"#version: 0.2\n",
    "model.safetensors": bytes(range(256)) * 9000,
}
CHECKPOINT = Checkpoint(
    "someone/tiny",
    "0123456789abcdef0123456789abcdef01234567",
    tuple(
        RemoteFile(name, len(body), hashlib.sha256(body).hexdigest())
        for name, body in FILES.items()
    ),
)
Answer = Callable[[BaseHTTPRequestHandler, bytes], None]


def path_of(name: str) -> str:
    return f"/{CHECKPOINT.repository}/resolve/{CHECKPOINT.revision}/{name}"


class HubServer(ThreadingHTTPServer):
    """Serves the checkpoint's files; what a file's ``plan`` holds comes first."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.files = {path_of(name): body for name, body in FILES.items()}
        self.plan: defaultdict[str, list[Answer]] = defaultdict(list)
        self.asked: list[str] = []
        self.encodings: set[str] = set()


class Handler(BaseHTTPRequestHandler):
    server: HubServer
    timeout = 5

    def do_GET(self) -> None:
        name = self.path.rpartition("/")[2]
        self.server.asked.append(name)
        self.server.encodings.add(self.headers["Accept-Encoding"])
        body = self.server.files.get(self.path)
        plan = self.server.plan[name]
        answer = plan.pop(0) if plan else status(404) if body is None else whole
        answer(self, body or b"")

    def log_message(self, *_: object) -> None:
        """Stay silent."""


def send(handler: BaseHTTPRequestHandler, length: int | None, body: bytes) -> None:
    handler.send_response(200)
    if length is not None:
        handler.send_header("Content-Length", str(length))
    handler.end_headers()
    handler.wfile.write(body)


def whole(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    send(handler, len(body), body)


def dropped(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    """Promise the whole body, send half of it, hang up."""
    send(handler, len(body), body[: len(body) // 2])


def unmeasured(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    """Send half of the body and hang up, without ever saying how long it is."""
    send(handler, None, body[: len(body) // 2])


def longer(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    whole(handler, body + b"x")


def damaged(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    whole(handler, body[:-1] + b"?")


def status(code: int) -> Answer:
    def answer(handler: BaseHTTPRequestHandler, body: bytes) -> None:
        handler.send_response(code)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


@contextmanager
def serving() -> Iterator[HubServer]:
    with HubServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join(5)
