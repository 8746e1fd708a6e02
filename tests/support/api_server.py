"""A server with a small random model, in a thread; and a load of many clients.

``python tests/support/api_server.py --clients 200 --seconds 60`` is `make soak`.
"""

import argparse
import asyncio
import gc
import json
import os
import random
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psutil
import torch

from chats import TEMPLATE, chat_tokenizer
from hardway import generate
from hardway.config import Config
from hardway.fast import FastGPT2
from hardway.serving import Engine
from hardway.serving.api import Served
from hardway.serving.server import Limits, Server, Uvicorn
from references import random_model

NAME = "small"


@dataclass
class Running:
    """A server that runs, and where."""

    server: Server
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def engine(self) -> Engine:
        return self.server.served.engine


def served(template: str | None = TEMPLATE, **sizes: Any) -> Served:
    """A model that writes any bytes, among them halves of characters."""
    tokenizer = chat_tokenizer(template)
    config = Config(tokenizer.n_vocab, n_ctx=512, n_embd=32, n_head=4, n_layer=2)
    model = FastGPT2(config, random_model(config).weights)
    return Served(NAME, Engine(model, **sizes), tokenizer)


@contextmanager
def running(
    what: Served | None = None, api_key: str | None = None, **limits: Any
) -> Iterator[Running]:
    """Run a server on a free port of this machine, and stop it at the end."""
    server = Server(
        what or served(), "127.0.0.1", api_key, Limits(**{"drain": 5} | limits)
    )
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    web = Uvicorn(server)
    thread = threading.Thread(target=lambda: web.run(sockets=[listener]))
    thread.start()
    try:
        while not web.started:
            time.sleep(0.005)
        yield Running(server, listener.getsockname()[1])
    finally:
        web.should_exit = True
        thread.join(30)
        listener.close()
        assert not thread.is_alive()


def raw(port: int, request: bytes, timeout: float = 20) -> bytes:
    """Send bytes, and return all that comes until the server hangs up."""
    with socket.create_connection(("127.0.0.1", port), timeout) as client:
        client.sendall(request)
        found = b""
        while part := client.recv(65536):
            found += part
        return found


def post(
    body: bytes | dict[str, Any], path: str = "/v1/completions", **headers: str
) -> bytes:
    """Spell a request; headers by names with _ for -, and "" for none."""
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    given = {
        "Host": "127.0.0.1", "Connection": "close",
        "Content-Type": "application/json", "Content-Length": str(len(body)),
    } | {name.replace("_", "-"): value for name, value in headers.items()}  # fmt: skip
    lines = [f"{name}: {value}" for name, value in given.items() if value]
    return "\r\n".join([f"POST {path} HTTP/1.1", *lines, "", ""]).encode() + body


def split(response: bytes) -> tuple[int, dict[str, str], bytes]:
    """Return status, headers by lower-case names, and body, chunks joined."""
    head, _, body = response.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {}
    for line in lines:
        name, _, value = line.partition(": ")
        headers[name.lower()] = value
    if headers.get("transfer-encoding") == "chunked":
        parts, rest = [], body
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            n = int(size, 16)
            parts.append(rest[:n])
            rest = rest[n + 2 :]
        body = b"".join(parts)
    return int(first.split()[1]), headers, body


# --- load ---


async def one_call(port: int, dice: random.Random, expected: Any) -> str:
    """Make a call, whole, streamed or given up; return how it went."""
    prompt, n = f"Say {dice.randrange(4)}: " * dice.randrange(1, 4), dice.randrange(24)
    streamed = dice.random() < 0.6
    body = {
        "model": NAME, "prompt": prompt, "max_tokens": n, "temperature": 0,
        "stream": streamed,
    }  # fmt: skip
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(post(body))
        if streamed and dice.random() < 0.2:
            await reader.read(dice.randrange(1, 600))
            return "given up"
        status, headers, answer = split(await reader.read())
    finally:
        writer.close()
    if status == 429:
        assert headers["retry-after"]
        await asyncio.sleep(0.1)
        return "told to wait"
    assert status == 200, answer
    if streamed:
        assert answer.endswith(b"data: [DONE]\n\n")
        events = [json.loads(e[6:]) for e in answer.split(b"\n\n")[:-2]]
        text = "".join(e["choices"][0]["text"] for e in events)
    else:
        text = json.loads(answer)["choices"][0]["text"]
    assert text == expected(prompt, n)
    return "answered"


async def load(run: Running, n_clients: int, seconds: float) -> Counter[str]:
    """Let clients call again and again; every answer is the one of the call alone."""
    served, known = run.server.served, dict[tuple[str, int], str]()

    def expected(prompt: str, n: int) -> str:
        if (prompt, n) not in known:
            ids = generate(
                served.engine.model, served.tokenizer.encode(prompt), n,
                stop_ids=[served.tokenizer.eot_id],
            )  # fmt: skip
            known[prompt, n] = served.tokenizer.decode(ids)
        return known[prompt, n]

    for times in range(1, 4):  # before the clock starts
        for i in range(4):
            for n in range(24):
                expected(f"Say {i}: " * times, n)
    end, outcomes = time.monotonic() + seconds, Counter[str]()

    async def client(seed: int) -> None:
        dice = random.Random(seed)
        while time.monotonic() < end:
            outcomes[await one_call(run.port, dice, expected)] += 1

    await asyncio.gather(*map(client, range(n_clients)))
    return outcomes


def check_idle(engine: Engine, seconds: float = 5) -> None:
    """Wait until nothing runs; then every page must be free."""
    end = time.monotonic() + seconds
    while (engine.stats.running or engine.stats.waiting) and time.monotonic() < end:
        time.sleep(0.01)
    stats = engine.stats
    assert stats.running == stats.waiting == 0
    assert stats.pages_free == stats.pages_total


def main(arguments: list[str] | None = None) -> int:
    """Run the load twice, and print what came of it.

    The first round is for memory to settle: the matrix library keeps a kernel for each
    number of tokens in a step, hundreds of them, and their buffers.
    """
    parser = argparse.ArgumentParser(description="Many clients at one server.")
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    memory = psutil.Process().memory_info
    with running(served(max_batch=32), queue=100) as run:
        warm = asyncio.run(load(run, options.clients, options.seconds))
        gc.collect()
        before = memory().rss
        outcomes = asyncio.run(load(run, options.clients, options.seconds))
        check_idle(run.engine)
        gc.collect()
        grown = memory().rss - before
        stats = run.engine.stats
    print(f"{options.clients} clients, {options.seconds:g} s: {dict(outcomes + warm)}")
    print(f"{stats.steps:,} steps, {stats.prefix_hit_tokens:,} tokens found in pages")
    print(f"memory grew by {grown / 2**20:.1f} MiB")
    assert outcomes["answered"]
    assert grown < 32 * 2**20
    return 0


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
