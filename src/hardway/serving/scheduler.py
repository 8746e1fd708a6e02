"""Which tokens of which requests run in the next step.

There is no prefill phase and no decode phase. Each request counts its tokens and how
many of them are computed; a step hands out the difference, within a budget.
"""

from collections import deque

from hardway.serving.pool import PagePool, page_key
from hardway.serving.request import Request

Plan = list[tuple[Request, int]]  # requests, and how many tokens of each to compute


class Scheduler:
    """The waiting and the running requests, in order of arrival, and their pages."""

    def __init__(
        self, pool: PagePool, page_size: int, max_batch: int, budget: int
    ) -> None:
        """Take at most ``max_batch`` requests and ``budget`` tokens into a step."""
        self.pool, self.page_size = pool, page_size
        self.max_batch, self.budget = max_batch, budget
        self.waiting: deque[Request] = deque()
        self.running: list[Request] = []
        self.n_hits = self.n_preempted = 0  # tokens found in pages, preemptions

    def schedule(self) -> Plan:
        """Plan a step: hand out the budget to running requests, then to waiting ones.

        Returns each request's number of tokens; their pages are allocated.
        """
        plan, left = Plan(), self.budget
        for request in [*self.running]:
            n = min(request.n_tokens - request.n_computed, left)
            if request in self.running and self.make_room(request, n):
                plan.append((request, n))
                left -= n
        while left and self.admit():
            request = self.running[-1]
            n = min(request.n_tokens - request.n_computed, left)
            self.make_room(request, n)
            plan.append((request, n))
            left -= n
        return plan

    def make_room(self, request: Request, n: int) -> bool:
        """Allocate pages for the next ``n`` tokens; return False if it is preempted.

        While no page is free, the request that joined last gives all of its own back.
        """
        while len(request.pages) * self.page_size < request.n_computed + n:
            if self.pool.free:
                request.pages.append(self.pool.allocate())
            elif self.preempt(self.running[-1]) is request:
                return False
        return True

    def preempt(self, request: Request) -> Request:
        """Send a running request back to the head of the queue, without its pages.

        Its tokens stay, and are computed again: they will be a longer prompt.
        """
        self.retire(request)
        self.waiting.appendleft(request)
        self.n_preempted += 1
        return request

    def admit(self) -> bool:
        """Let the first waiting request run, if there is room for all of its tokens.

        The pages that others computed for the same beginning are shared. At least one
        token is left to compute, because its logits are what the request waits for.
        """
        if not self.waiting or len(self.running) == self.max_batch:
            return False
        request = self.waiting[0]
        for i in range((request.n_tokens - 1) // self.page_size):
            page = self.pool.share(self.key(request, i))
            if page is None:
                break
            request.pages.append(page)
        shared = len(request.pages)
        if -(-request.n_tokens // self.page_size) - shared > len(self.pool.free):
            self.release(request)
            return False
        request.n_computed = shared * self.page_size
        self.n_hits += request.n_computed
        self.running.append(self.waiting.popleft())
        return True

    def computed(self, request: Request, n: int) -> None:
        """Count ``n`` more tokens as computed, and publish the pages they have filled.

        Not before: until then, another request would share an empty page.
        """
        first, request.n_computed = request.n_computed, request.n_computed + n
        for i in range(first // self.page_size, request.n_computed // self.page_size):
            self.pool.publish(request.pages[i], self.key(request, i))

    def key(self, request: Request, i: int) -> bytes:
        """Return the key of a request's page ``i``, which its tokens must fill."""
        for start in range(len(request.keys), i + 1):
            before = request.keys[-1] if request.keys else b""
            ids = request.ids[start * self.page_size : (start + 1) * self.page_size]
            request.keys.append(page_key(before, ids))
        return request.keys[i]

    def retire(self, request: Request) -> None:
        """Take a request out, waiting or running, and release its pages at once."""
        if request in self.running:
            self.running.remove(request)
        else:
            self.waiting.remove(request)
        self.release(request)

    def release(self, request: Request) -> None:
        """Give back all pages, the last first: a beginning is shared more often."""
        while request.pages:
            self.pool.release(request.pages.pop())
        request.n_computed = 0
