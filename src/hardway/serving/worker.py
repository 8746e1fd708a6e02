"""The thread that owns the engine, and the jobs that an event loop gives it."""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from hardway.checks import safe_repr
from hardway.serving.engine import Engine
from hardway.serving.request import Request
from hardway.serving.text import Piece, TextStream

log = logging.getLogger("hardway.serving")


class Job:
    """A request on its way through the engine, and its text on the way back."""

    def __init__(self, request: Request, text: TextStream, wake: Callable[[], None]):
        """``wake`` is called, in the engine's thread, when there is something new."""
        self.request, self.text, self.wake = request, text, wake
        self.pieces: deque[Piece] = deque()
        self.n_seen = 0  # tokens turned into text
        self.failed = False
        self.arrived = time.monotonic()
        self.first = self.last = 0.0

    def update(self) -> bool:
        """Turn new tokens into a piece; return whether a stop string is complete."""
        request, now = self.request, time.monotonic()
        if self.n_seen < len(request.output_ids):
            self.first = self.first or now
            self.last = now
        found = ""
        while self.n_seen < len(request.output_ids) and not self.text.stopped:
            i = self.n_seen
            self.n_seen += 1
            logprobs = request.logprobs[i] if request.logprobs else None
            found += self.text.push(request.output_ids[i], logprobs)
        reason = "stop" if self.text.stopped else request.finish_reason
        if reason is not None:
            found += self.text.end()
        if found or reason is not None:
            self.pieces.append(Piece(found, self.text.logprobs, reason))
            self.text.logprobs = []
        return self.text.stopped


class Worker:
    """Runs an engine in a thread of its own; everything else asks it to.

    Commands and results cross between the threads, the engine's own state never does.
    """

    def __init__(self, engine: Engine, on_finish: Callable[[Job], None]) -> None:
        """``on_finish`` is called in the engine's thread with each job that ends."""
        self.engine, self.on_finish = engine, on_finish
        self.jobs: dict[Request, Job] = {}
        self.commands: deque[Callable[[], None]] = deque()
        self.news = threading.Condition()
        self.stopping = False
        self.n_unfinished = 0  # submitted and not yet finished; under ``news``
        self.thread = threading.Thread(target=self.run, name="engine", daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self.thread.start()

    def stop(self) -> None:
        """End the thread after its current step, and every job with it."""
        self.tell(lambda: setattr(self, "stopping", True))
        self.thread.join()

    def tell(self, command: Callable[[], None]) -> None:
        """Let the engine's thread run a command before its next step."""
        with self.news:
            self.commands.append(command)
            self.news.notify()

    def submit(self, jobs: list[Job], limit: int) -> bool:
        """Queue jobs, unless more than ``limit`` would then be unfinished."""
        with self.news:
            if self.n_unfinished + len(jobs) > limit:
                return False
            self.n_unfinished += len(jobs)
        for job in jobs:
            self.tell(lambda job=job: self.add(job))  # type: ignore[misc]
        return True

    def cancel(self, job: Job) -> None:
        """End a job that nobody waits for; its pages are free before the next step."""
        self.tell(lambda: self.end(job))

    def run(self) -> None:
        """Alternate between commands and steps, and sleep where there are neither."""
        while not self.stopping:
            with self.news:
                while not self.commands and not self.jobs:
                    self.news.wait()
                commands = [*self.commands]
                self.commands.clear()
            for command in commands:
                command()
            try:
                for request in self.engine.step():
                    self.update(self.jobs[request])
            except Exception as error:  # whatever it is, the server goes on
                log.error("a step failed: %s", safe_repr(str(error)))
                self.fail_all()
        self.fail_all()

    def add(self, job: Job) -> None:
        """Give a job's request to the engine."""
        self.jobs[job.request] = job
        self.engine.enqueue(job.request)
        if job.request.finished:
            self.update(job)

    def update(self, job: Job) -> None:
        """Pass on what is new; end a job whose stop string has come."""
        stopped = job.update()
        if stopped or job.request.finished:
            self.end(job)
        job.wake()

    def end(self, job: Job) -> None:
        """Take a job out, once, however often it is ended."""
        if self.jobs.pop(job.request, None) is None:
            return
        self.engine.cancel(job.request)
        with self.news:
            self.n_unfinished -= 1
        self.on_finish(job)

    def fail_all(self) -> None:
        """End every job without an answer."""
        for job in [*self.jobs.values()]:
            job.failed = True
            self.end(job)
            job.wake()


def waker(event: asyncio.Event) -> Callable[[], None]:
    """Return a function that sets an event of this loop, from any thread."""
    loop = asyncio.get_running_loop()

    def wake(*_: Any) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(event.set)

    return wake
