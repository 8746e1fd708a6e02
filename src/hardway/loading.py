"""Load in a thread of its own, which leaves nothing of its state behind."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def in_own_thread(work: Callable[P, T]) -> Callable[P, T]:
    """Run a function in a new thread, and wait for it.

    torch's workers belong to the thread that first needs them. A process forked from
    that thread inherits the belief that it has workers, but no workers, and waits for
    them forever. Those of the new thread end with it. Nor does it have the caller's
    default device.
    """

    @wraps(work)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        with ThreadPoolExecutor(1) as executor:
            return executor.submit(work, *args, **kwargs).result()

    return run
