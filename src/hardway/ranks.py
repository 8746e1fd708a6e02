"""Join the processes that run one model together, and end all of them when one ends.

Each process has a rank, from 0 on. torchrun starts them, and tells each its rank.
"""

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import NoReturn

import torch
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from hardway.inputs import ModelConfig, check_device

TIMEOUT = timedelta(seconds=60)  # without an answer: that rank hangs
GRACE_SECONDS = 1.0  # torchrun looks every 0.1 s for the first rank that ended
COMMAND = "torchrun --standalone --nproc-per-node=2 PROGRAM"


class LostRankError(ConnectionError):
    """Another rank has ended, or does not answer."""


@contextmanager
def joined(timeout: timedelta = TIMEOUT) -> Iterator[None]:
    """Join the process group that torchrun describes, and leave it at the end.

    An error of one rank ends all of them: the first to notice prints one line, and
    each exits with 1. Raises `ValueError` outside of torchrun.
    """
    if not dist.is_torchelastic_launched():
        problem = "the ranks must be started by torchrun, got a single process"
        raise ValueError(f"{problem}: run {COMMAND}")
    store, rank, n_ranks = next(rendezvous("env://", timeout=timeout))
    dist.init_process_group(store=store, rank=rank, world_size=n_ranks, timeout=timeout)
    before = signal.signal(signal.SIGTERM, stopped)
    try:
        yield
        with noticing_loss():
            dist.barrier()  # nobody leaves while another still needs an answer
    except (ValueError, OSError) as error:
        signal.signal(signal.SIGTERM, before)
        if store.add("errors", 1) == 1:  # all ranks share the store
            print(f"hardway.parallel: {error}", file=sys.stderr, flush=True)
        if isinstance(error, LostRankError):
            time.sleep(GRACE_SECONDS)
        raise SystemExit(1) from error
    finally:
        signal.signal(signal.SIGTERM, before)
        dist.destroy_process_group()


@contextmanager
def noticing_loss() -> Iterator[None]:
    """Raise `LostRankError` for a collective operation that another rank left."""
    try:
        yield
    except RuntimeError as error:  # gloo's, and the base of NCCL's
        raise lost(str(error)) from error


def stopped(signal_number: int, frame: object) -> NoReturn:
    """Raise `LostRankError` when torchrun ends this rank because of another."""
    raise lost(signal.Signals(signal_number).name)


def lost(detail: str) -> LostRankError:
    """Return the error of this rank when another is gone."""
    return LostRankError(
        f"rank {dist.get_rank()} of {dist.get_world_size()} lost another rank, "
        f"which ended or gave no answer in time, so all of them stop ({detail})"
    )


def local_device(kind: str) -> torch.device:
    """Return a rank's own device: the CPU, or the GPU with its number on this machine.

    Raises `ValueError` for one that cannot be used.
    """
    if kind == "cpu":
        return check_device(kind)
    return check_device(f"{kind}:{os.environ['LOCAL_RANK']}")


def check_divides(config: ModelConfig, n_inner: int, n_ranks: int) -> None:
    """Raise `ValueError` for heads or an MLP that ranks cannot share equally."""
    for name, size in (("n_kv_head", config.n_kv_head), ("n_inner", n_inner)):
        if size % n_ranks:
            raise ValueError(
                f"{name} must be a multiple of the number of ranks = {n_ranks}, "
                f"got {size}: start as many ranks as divide it"
            )
