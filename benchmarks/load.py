"""How long it takes to load a checkpoint, and how much memory, beside `safetensors`.

The peer is told to copy, because only then its tensors are what ours are: numbers in
memory of their own, read to the last byte.
"""

import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from time import perf_counter

import safetensors.torch

from hardway import GPT2
from hardway.safetensors import load_file, read_header

PEER = "safetensors + clone"
FULLSIZE = Path("_build/fullsize/model.safetensors")


def ways(path: Path) -> dict[str, Callable[[], object]]:
    """List the ways to load the weights at ``path``, which lie beside a config.json."""
    return {
        "hardway.load_file": lambda: load_file(path),
        "GPT2.from_pretrained": lambda: GPT2.from_pretrained(path.parent),
        PEER: lambda: {
            name: tensor.clone()
            for name, tensor in safetensors.torch.load_file(path).items()
        },
    }


def measure(path: Path, repeats: int = 7) -> dict[str, list[float]]:
    """Time each way ``repeats`` times, in turn, after a round that only warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in ways(path)}
    for _ in range(repeats + 1):
        for name, load in ways(path).items():
            start = perf_counter()
            loaded = load()
            seconds[name].append(perf_counter() - start)
            del loaded  # or the next one would find the memory half full
    return {name: times[1:] for name, times in seconds.items()}


def tensor_bytes(path: Path) -> int:
    """Count the bytes of all tensors in the file."""
    return sum(info.end - info.start for info in read_header(path).tensors.values())


def peak_bytes(path: Path) -> dict[str, int]:
    """Say by how much each way raises the memory of a fresh process at its highest."""
    peaks = {}
    for name in ways(path):
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
            peaks[name] = fresh.submit(_peak, name, path).result()
    return peaks


def _peak(name: str, path: Path) -> int:
    before = _memory("VmRSS")
    loaded = ways(path)[name]()
    peak = _memory("VmHWM") - before
    del loaded
    return peak


def _memory(field: str) -> int:
    """Read what Linux counts; ``ru_maxrss`` would start at the parent's."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


def main() -> None:
    """Print a table for the file that is named, or for the full-size stand-in."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else FULLSIZE
    seconds, peaks = measure(path), peak_bytes(path)
    size, peer = tensor_bytes(path), median(seconds[PEER])
    title = f"{size / 1e6:.0f} MB of tensors"
    print(f"{title:24}  median    from      to  ratio  peak over them")
    for name, times in seconds.items():
        found = [median(times), min(times), max(times)]
        columns = "  ".join(f"{1000 * time:3.0f} ms" for time in found)
        above = (peaks[name] - size) / 1e6
        print(f"{name:24}  {columns}  {found[0] / peer:5.2f}  {above:+.0f} MB")


if __name__ == "__main__":
    main()
