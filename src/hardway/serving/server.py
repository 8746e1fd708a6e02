"""An HTTP server with OpenAI's endpoints: an event loop in front of the engine."""

import asyncio
import contextlib
import hashlib
import json
import logging
import re
import time
from base64 import b64encode
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.resources import files
from types import FrameType
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from hardway.serving import api
from hardway.serving.api import APIError, Asked, Served
from hardway.serving.metrics import Metrics
from hardway.serving.security import Guard, Receive, Scope, Send, error_response
from hardway.serving.text import Piece, TextStream
from hardway.serving.worker import Job, Worker, waker

log = logging.getLogger("hardway.serving")


@dataclass(frozen=True)
class Limits:
    """What one client may take: bytes of a body, places in the queue, seconds."""

    body: int = 2**20
    queue: int = 256  # requests waiting, beside those that run
    read: float = 30.0  # to send a body
    write: float = 30.0  # to take a part of an answer
    ping: float = 15.0  # between signs of life while nothing is generated
    drain: int = 30  # for running requests, after a signal to stop


class Server:
    """The application, and the state that its handlers share."""

    def __init__(
        self, served: Served, host: str = "127.0.0.1", api_key: str | None = None,
        limits: Limits | None = None,
    ) -> None:  # fmt: skip
        """Build the routes; nothing runs before the application's lifespan starts."""
        self.served, self.limits = served, limits or Limits()
        self.metrics = Metrics(served.engine)
        self.worker = Worker(served.engine, self.metrics.record)
        self.readers = ThreadPoolExecutor(1, "reader")  # tokenizes, compiles schemas
        self.draining = False
        self.page = files("hardway.serving").joinpath("page.html").read_text("utf-8")
        self.app = Starlette(
            routes=[
                Route("/", self.get_page),
                Route("/health", self.get_health),
                Route("/metrics", self.get_metrics),
                Route("/v1/models", self.get_models),
                Route("/v1/models/{name:path}", self.get_model),
                self.endpoint("/v1/completions", "completions"),
                self.endpoint("/v1/chat/completions", "chat"),
            ],
            middleware=[Middleware(Guard, host=host, api_key=api_key)],
            exception_handlers={
                HTTPException: http_error, APIError: api_error, Exception: fault,
            },
            lifespan=self.lifespan,
        )  # fmt: skip

    @contextlib.asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncIterator[None]:
        """Run the engine while the server runs."""
        self.worker.start()
        yield
        await asyncio.to_thread(self.worker.stop)
        self.readers.shutdown()

    # --- what can be asked with GET ---

    async def get_page(self, _: Request) -> Response:
        """Return the page that chats with the server, which may run only its own code.

        Its policy names the script and the style by their hashes.
        """
        hashes = {
            tag: b64encode(hashlib.sha256(text.encode()).digest()).decode()
            for tag, text in re.findall(r"<(script|style)>(.*?)</", self.page, re.S)
        }
        policy = (
            f"default-src 'none'; script-src 'sha256-{hashes['script']}'; "
            f"style-src 'sha256-{hashes['style']}'; connect-src 'self'; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        headers = {
            "content-security-policy": policy,
            "x-content-type-options": "nosniff",
        }
        return HTMLResponse(self.page, headers=headers)

    async def get_health(self, _: Request) -> Response:
        """Answer 200 while requests are taken."""
        if self.draining or not self.worker.thread.is_alive():
            return JSONResponse({"status": "stopping"}, 503)
        return JSONResponse({"status": "ok"})

    async def get_metrics(self, _: Request) -> Response:
        """Return the counts and histograms."""
        kind = "text/plain; version=0.0.4; charset=utf-8"
        return Response(self.metrics.text(), media_type=kind)

    async def get_models(self, _: Request) -> Response:
        """Return the list of models, of which there is one."""
        data = [self.served.model_object()]
        return JSONResponse({"object": "list", "data": data})

    async def get_model(self, request: Request) -> Response:
        """Return the model, if this is its name."""
        if request.path_params["name"] != self.served.name:
            message = "the model does not exist"
            raise APIError(404, message, "model", "model_not_found")
        return JSONResponse(self.served.model_object())

    # --- what generates ---

    def endpoint(self, path: str, kind: str) -> Route:
        """Return the route of an endpoint that generates."""

        async def handle(request: Request) -> Response:
            start, status = time.monotonic(), 500
            try:
                call = await self.begin(kind, request)
                status = 200
            except APIError as error:
                status = error.status
                raise
            finally:  # of what a client sent, nothing but its size and its fate
                seconds = time.monotonic() - start
                log.info("%s: %d after %.3f s", kind, status, seconds)
            if call.asked.stream:
                return EventStream(call)  # type: ignore[return-value]
            return await call.whole(request)

        return Route(path, handle, methods=["POST"])

    async def begin(self, kind: str, request: Request) -> "Call":
        """Read and check a request, and queue it; all errors come before the answer."""
        if self.draining:
            raise APIError(503, "the server is stopping")
        try:
            async with asyncio.timeout(self.limits.read):
                body = await self.read(request)
        except TimeoutError:
            raise APIError(408, "the body took too long to arrive") from None
        loop = asyncio.get_running_loop()
        asked = await loop.run_in_executor(
            self.readers, api.read_call, self.served, kind, body
        )
        call = Call(self, asked)
        limit = self.served.engine.max_batch + self.limits.queue
        if not self.worker.submit(call.jobs, limit):
            raise APIError(429, "too many requests are waiting", code="queue_full")
        return call

    async def read(self, request: Request) -> bytes:
        """Return the body, unless it is too long, declared so or not."""
        too_long = APIError(413, f"the body must have at most {self.limits.body} bytes")
        declared = request.headers.get("content-length", "0")
        if not declared.isdecimal() or int(declared) > self.limits.body:
            raise too_long
        body = bytearray()
        try:
            async for part in request.stream():
                body += part
                if len(body) > self.limits.body:
                    raise too_long
        except ClientDisconnect:
            raise APIError(400, "the body is not complete") from None
        return bytes(body)


class Call:
    """A call in progress: its jobs, and the event that says that one has news."""

    def __init__(self, server: Server, asked: Asked) -> None:
        """Make a job of each of the call's requests."""
        self.server, self.asked, self.event = server, asked, asyncio.Event()
        tokenizer, wake = server.served.tokenizer, waker(self.event)
        self.jobs = [
            Job(request, TextStream(tokenizer, asked.stop), wake)
            for request in asked.requests
        ]

    async def pieces(self) -> AsyncIterator[tuple[int, Piece] | None]:
        """Yield the pieces of every job as they come, and None as a sign of life."""
        unfinished = {*range(len(self.jobs))}
        while unfinished:
            try:
                # Not wait_for, which before Python 3.12 can swallow a cancellation.
                async with asyncio.timeout(self.server.limits.ping):
                    await self.event.wait()
            except TimeoutError:
                yield None
            self.event.clear()
            for i in sorted(unfinished):
                job = self.jobs[i]
                while job.pieces:
                    piece = job.pieces.popleft()
                    if piece.finish_reason is not None:
                        unfinished.discard(i)
                    yield i, piece
                if job.failed and i in unfinished:
                    raise APIError(500, "the server failed to generate an answer")

    def cancel(self) -> None:
        """Free what the jobs still hold; finished ones are left as they are."""
        for job in self.jobs:
            self.server.worker.cancel(job)

    async def whole(self, request: Request) -> Response:
        """Return the answer in one piece, unless the client goes before it is done."""
        outputs: list[list[Piece]] = [[] for _ in self.jobs]

        async def collect() -> None:
            async for found in self.pieces():
                if found is not None:
                    outputs[found[0]].append(found[1])

        try:
            work = asyncio.ensure_future(collect())
            gone = asyncio.ensure_future(disconnected(request.receive))
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
            gone.cancel()
            if not work.done():
                work.cancel()
                return Response(status_code=499)  # nobody reads it
            work.result()
        finally:
            self.cancel()
        return JSONResponse(api.answer(self.asked, outputs))

    async def events(self) -> AsyncIterator[bytes]:
        """Yield a stream's events, from the role to ``[DONE]``."""
        offsets = [0] * len(self.jobs)
        for i in range(len(self.jobs)):
            if (first := api.opening(self.asked, i)) is not None:
                yield event(first)
        try:
            async for found in self.pieces():
                if found is None:
                    yield b": ping\n\n"
                    continue
                i, piece = found
                for chunk in api.chunks(self.asked, i, piece, offsets[i]):
                    yield event(chunk)
                offsets[i] += api.width(piece)
        except APIError as error:
            yield event(error.body())
            return
        if self.asked.include_usage:
            yield event(api.closing(self.asked))
        yield b"data: [DONE]\n\n"


class EventStream:
    """An ASGI answer of server-sent events, which ends when its reader is gone.

    Starlette's own has no limit on how long a reader may take, and depends on the
    server's version for noticing that it left.
    """

    HEADERS = (
        (b"content-type", b"text/event-stream; charset=utf-8"),
        (b"cache-control", b"no-cache"),
        (b"x-accel-buffering", b"no"),
    )

    def __init__(self, call: Call) -> None:
        self.call = call

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events; cancel the jobs however that ends."""
        try:
            work = asyncio.ensure_future(self.send_all(send))
            gone = asyncio.ensure_future(disconnected(receive))
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
            for task in (work, gone):
                task.cancel()
            await asyncio.gather(work, gone, return_exceptions=True)
        finally:
            self.call.cancel()

    async def send_all(self, send: Send) -> None:
        """Send the head and the events, each within the time limit."""

        async def put(message: dict[str, Any]) -> None:
            async with asyncio.timeout(self.call.server.limits.write):
                await send(message)
                await asyncio.sleep(0)  # to hear whether the client is gone

        start = {"type": "http.response.start", "status": 200}
        await put(start | {"headers": [*self.HEADERS]})
        async for part in self.call.events():
            body = {"type": "http.response.body", "body": part}
            await put(body | {"more_body": True})
        await put({"type": "http.response.body", "body": b""})


async def disconnected(receive: Receive) -> None:
    """Wait until the client is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


def event(data: dict[str, Any]) -> bytes:
    """Return one server-sent event: compact JSON, so that it stands on one line."""
    return b"data: " + json.dumps(data, separators=(",", ":")).encode() + b"\n\n"


async def http_error(_: Request, error: Exception) -> Response:
    """Answer an unknown path or method in OpenAI's shape."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    found = APIError(status, "there is no such endpoint, or not with this method")
    return error_response(found)


async def api_error(_: Request, error: Exception) -> Response:
    """Answer what is the client's fault, or a full queue."""
    assert isinstance(error, APIError)
    return error_response(error)


async def fault(_: Request, error: Exception) -> Response:
    """Answer a fault of the server's own, without a word about its inside."""
    log.error("a handler failed: %s", type(error).__name__)
    return error_response(APIError(500, "the server failed"))


class Uvicorn(uvicorn.Server):
    """A uvicorn that tells the application when it is asked to stop.

    It logs no requests, because they may hold anything.
    """

    def __init__(self, server: Server) -> None:
        self.server = server
        config = uvicorn.Config(
            server.app, http="h11", ws="none", lifespan="on", access_log=False,
            log_config=None, server_header=False, proxy_headers=False,
            timeout_graceful_shutdown=server.limits.drain,
        )  # fmt: skip
        logging.getLogger("uvicorn.access").disabled = True  # whoever listens to it
        super().__init__(config)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take no new requests; finish the running ones, within the limit."""
        self.server.draining = True
        super().handle_exit(sig, frame)
