"""Continuous batching: requests come and go, and every step runs all that are there."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Unpack

import torch
from torch import Tensor

from hardway import checks, inputs
from hardway.fast.ragged import Ragged
from hardway.generation import Sampling, new_sampler
from hardway.serving.paged import PagedCache, page_bytes
from hardway.serving.pool import PagePool
from hardway.serving.request import Request
from hardway.serving.scheduler import Scheduler

POOL_BYTES = 2**30  # the size of a pool, unless the caller says how many pages


class RequestOptions(Sampling, total=False):
    """The options of a request: how to choose, where to stop, what to record."""

    stop_ids: Collection[int]
    logprobs: int | None


@dataclass(frozen=True)
class Stats:
    """Counts since the start, and of this moment; by attribute or as ``stats[name]``.

    prefix_hit_tokens: found in shared pages, so that nobody had to compute them.
    """

    pages_free: int
    pages_total: int
    computed_tokens: int
    prefix_hit_tokens: int
    preemptions: int
    steps: int
    running: int
    waiting: int

    def __getitem__(self, name: str) -> int:
        value: int = getattr(self, name)
        return value


class Engine:
    """A model that works on many requests at once, each as if it were alone."""

    def __init__(
        self,
        model: Ragged,
        max_batch: int = 8,
        page_size: int = 16,
        n_pages: int | None = None,
        budget: int = 128,
    ) -> None:
        """Serve up to ``max_batch`` requests at a time, and queue the others.

        n_pages: of ``page_size`` tokens each; by default enough for ``max_batch`` texts
        of full length, or as many as fit in ``POOL_BYTES``. budget: the most tokens in
        a step, at least ``max_batch``. Raises `ValueError` for a size out of range and
        for a model that isn't a fast one.
        """
        inputs.check_ragged(model)
        n_ctx = model.config.n_ctx
        self.max_batch = checks.integer("max_batch", max_batch, 1)
        self.page_size = checks.integer("page_size", page_size, 1, n_ctx, " (n_ctx)")
        if n_pages is None:
            full = self.max_batch * -(-n_ctx // self.page_size)
            n_pages = min(full, POOL_BYTES // page_bytes(model, self.page_size))
        n_pages = checks.integer("n_pages", n_pages, 1)
        budget = checks.integer("budget", budget, self.max_batch, note=" (max_batch)")
        self.model = model
        self.cache = PagedCache(model, n_pages, self.page_size)
        self.pool = PagePool(n_pages)
        self.scheduler = Scheduler(self.pool, self.page_size, self.max_batch, budget)
        self.n_steps = self.n_computed = 0

    def submit(
        self,
        prompt_ids: Iterable[int],
        max_new_tokens: int,
        **options: Unpack[RequestOptions],
    ) -> Request:
        """Queue a prompt, and return the request that `step` will fill.

        The options are those of `hardway.generation.generate`. With ``logprobs``, the
        request also records the log-probability of each token and of that many of the
        likeliest ones, before any processor. Raises `ValueError` for an argument out of
        range, and for a text that the pages could never hold.
        """
        request = self.new_request(prompt_ids, max_new_tokens, **options)
        self.enqueue(request)
        return request

    def new_request(
        self,
        prompt_ids: Iterable[int],
        max_new_tokens: int,
        *,
        stop_ids: Collection[int] = (),
        logprobs: int | None = None,
        **sampling: Unpack[Sampling],
    ) -> Request:
        """Check what `submit` is asked, without queueing it; any thread may do that."""
        config, room = self.model.config, len(self.pool.owners) * self.page_size
        max_new_tokens = checks.integer("max_new_tokens", max_new_tokens)
        prompt_ids = inputs.check_prompt(prompt_ids, max_new_tokens, config)
        inputs.check_pool(len(prompt_ids), max_new_tokens, room)
        stops = {*checks.token_ids("stop_ids", stop_ids, config.n_vocab)}
        if logprobs is not None:
            logprobs = checks.integer("logprobs", logprobs, 0, 20, " or None")
        sampler = new_sampler(config, max_new_tokens, **sampling)
        stops |= sampler.stop_ids
        return Request(prompt_ids, max_new_tokens, sampler, stops, logprobs)

    def enqueue(self, request: Request) -> None:
        """Let a request wait for its turn; one that asks for no token is finished."""
        if request.max_new_tokens:
            self.scheduler.waiting.append(request)
        else:
            request.finish_reason = "length"

    def step(self) -> list[Request]:
        """Run the model once, and return the requests that got a token or ended."""
        plan = self.scheduler.schedule()
        if not plan:
            return []
        batch = self.cache.batch(plan)
        attend = partial(self.cache.attend, batch)
        with torch.inference_mode():
            logits = self.model.forward(
                batch.tokens, batch.positions, attend, batch.last
            )
        logits = logits.clone()  # for samplers; see `hardway.generation.infer`
        self.n_steps += 1
        self.n_computed += len(batch.tokens)
        for request, n in plan:
            self.scheduler.computed(request, n)
        complete = [
            request for request, _ in plan if request.n_computed == request.n_tokens
        ]
        for request, row in zip(complete, logits, strict=True):
            self.add_token(request, row)
        return complete

    def add_token(self, request: Request, logits: Tensor) -> None:
        """Choose a request's next token by its logits [n_vocab], and see if it ends.

        A stop token is left out.
        """
        inputs.check_finite_logits(logits, len(request.output_ids))
        id = request.sampler.choose(logits, request.prompt_ids, request.output_ids)
        if id in request.stop_ids:
            self.finish(request, "stop")
            return
        request.ids.append(id)
        if request.n_logprobs is not None:
            logprobs = logits.log_softmax(dim=-1)
            best = logprobs.topk(request.n_logprobs).indices.tolist()
            found = {i: float(logprobs[i]) for i in [id, *best]}
            request.logprobs.append(found)
        if len(request.output_ids) == request.max_new_tokens:
            self.finish(request, "length")

    def run(self) -> None:
        """Step until every request is finished."""
        while self.scheduler.running or self.scheduler.waiting:
            self.step()

    def finish(self, request: Request, reason: str) -> None:
        """End a request, and free its pages."""
        self.scheduler.retire(request)
        request.finish_reason = reason

    def cancel(self, request: Request) -> None:
        """End a request that nobody waits for any more; its pages are free at once."""
        if not request.finished:
            self.finish(request, "cancelled")

    @property
    def stats(self) -> Stats:
        """Pages, tokens and requests, counted."""
        return Stats(
            pages_free=len(self.pool.free),
            pages_total=len(self.pool.owners),
            computed_tokens=self.n_computed,
            prefix_hit_tokens=self.scheduler.n_hits,
            preemptions=self.scheduler.n_preempted,
            steps=self.n_steps,
            running=len(self.scheduler.running),
            waiting=len(self.scheduler.waiting),
        )
