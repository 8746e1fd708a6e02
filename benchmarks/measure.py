"""What every comparison shares: taking turns, the middle of several, the machine."""

import platform
import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path

import psutil
import torch

ROUNDS = 7
PEERS = ("transformers", "ctranslate2", "llama-cpp-python")
PAUSE_SECONDS = 0.3  # threads of the one before may still be spinning


def clock(run: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def check_idle(seconds: float = 3.0, most: float = 10.0) -> None:
    """Raise `SystemExit` while other programs use the processor.

    Where one core is busy, each parallel step waits for it: what takes 2 ms takes 300,
    and only in programs that use every core.
    """
    busy = psutil.cpu_percent(interval=seconds)
    if busy > most:
        raise SystemExit(
            f"the processor is {busy:.0f} % busy with other programs, and at most "
            f"{most:.0f} % are allowed: end them, then measure"
        )


def interleave(
    runs: Mapping[str, Callable[[], float]], rounds: int = ROUNDS
) -> dict[str, list[float]]:
    """Let the runs take turns, after one of each that does not count.

    What slows the machine down for a while then slows all of them.
    """
    for run in runs.values():
        run()
    values: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            time.sleep(PAUSE_SECONDS)
            values[name].append(run())
    return values


def summary(
    values: Mapping[str, list[float]], unit: str
) -> dict[str, dict[str, object]]:
    """Reduce each run's values to their median, smallest and largest."""
    return {
        name: {
            "median": statistics.median(found),
            "low": min(found),
            "high": max(found),
            "rounds": len(found),
            "unit": unit,
        }
        for name, found in values.items()
    }


def machine() -> dict[str, object]:
    """Say on what all of it was measured."""
    info = Path("/proc/cpuinfo")
    names = info.read_text().splitlines() if info.exists() else []
    processor = next(
        (line.partition(":")[2].strip() for line in names if "model name" in line),
        platform.processor(),
    )
    return {
        "processor": processor,
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        **{name: version(name) for name in PEERS},
    }


def streaming() -> dict[str, Callable[[], float]]:
    """Read a long tensor from end to end, in two ways; GB/s."""
    numbers = torch.ones(64_000_000)
    halves = numbers.half()

    def rate(tensor: torch.Tensor) -> float:
        return tensor.nbytes / clock(tensor.sum) / 1e9

    return {
        f"sum {tensor.dtype}".replace("torch.", ""): partial(rate, tensor)
        for tensor in (numbers, halves)
    }
