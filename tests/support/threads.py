"""Threads in the place of processes: collective operations without a network."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch
from torch import Tensor

Result = TypeVar("Result")


class Threads:
    """What `hardway.parallel` calls of torch.distributed, for as many threads."""

    def __init__(self, n_ranks: int) -> None:
        self.n_ranks, self.local = n_ranks, threading.local()
        self.barrier = threading.Barrier(n_ranks, timeout=20)
        self.given: list[Any] = [None] * n_ranks
        self.calls = 0

    def run(self, work: Callable[[], Result]) -> list[Result]:
        """Call ``work`` in every rank, and return what each returned."""

        def as_rank(rank: int) -> Result:
            self.local.rank = rank
            try:
                return work()
            except Exception:
                self.barrier.abort()  # the others need not wait
                raise

        with ThreadPoolExecutor(self.n_ranks) as pool:
            futures = [pool.submit(as_rank, rank) for rank in range(self.n_ranks)]
        return [future.result() for future in futures]

    def get_rank(self) -> int:
        if self.n_ranks == 1:
            return 0  # in a thread that the only rank has started, too
        rank: int = self.local.rank
        return rank

    def get_world_size(self) -> int:
        return self.n_ranks

    def exchange(self, x: Tensor) -> list[Tensor]:
        """Give each rank what all of them gave."""
        assert x.is_contiguous()
        self.given[self.get_rank()] = x.clone()
        if self.barrier.wait() == 0:
            self.calls += 1
        shapes = {(given.shape, given.dtype) for given in self.given}
        assert len(shapes) == 1
        given = list(self.given)
        self.barrier.wait()  # before anybody gives something else
        return given

    def all_reduce(self, x: Tensor) -> None:
        x.copy_(torch.stack(self.exchange(x)).sum(dim=0))

    def all_gather(self, parts: list[Tensor], x: Tensor) -> None:
        for part, given in zip(parts, self.exchange(x), strict=True):
            part.copy_(given)
