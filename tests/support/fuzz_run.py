"""What the two fuzzers share: reading under watch, and many files in many processes."""

import argparse
import os
import random
import tempfile
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch

SECONDS = 1.0  # for one file
BYTES_PER_BYTE, BYTES = 40, 200_000  # of memory, for a file's byte and for the rest


def measured(
    read: Callable[[], Any], size: int, refused: type[Exception]
) -> tuple[Any, str]:
    """Read a file; return what it holds or the refusal, and watch time and memory."""
    tracemalloc.reset_peak()
    before, _ = tracemalloc.get_traced_memory()
    start = time.process_time()
    found, refusal = None, ""
    try:
        found = read()
    except refused as error:
        refusal = str(error)
    assert time.process_time() - start < SECONDS, "it takes too long"
    _, peak = tracemalloc.get_traced_memory()
    assert peak - before < BYTES + BYTES_PER_BYTE * size, "it takes too much memory"
    assert len(refusal) < 700, "the message is too long"
    assert refusal.isprintable(), "the message is not all printable"
    return found, refusal


def break_files(
    make: Callable[[random.Random], bytes],
    outcome: Callable[[bytes, Path], str],
    seed: int,
    files: int,
) -> Counter[str]:
    """Make so many files, the same ones for a seed, and count what came of them."""
    dice, outcomes = random.Random(seed), Counter[str]()
    directory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    tracemalloc.start()
    try:
        with tempfile.TemporaryDirectory(dir=directory) as folder:
            for _ in range(files):
                file = make(dice)
                try:
                    outcomes[outcome(file, Path(folder, "x"))] += 1
                except Exception as error:
                    raise AssertionError(f"seed {seed}, file {file!r}") from error
    finally:
        tracemalloc.stop()
    return outcomes


def run(
    fuzz: Callable[[int], Counter[str]],
    block: int,
    files: int,
    arguments: list[str] | None,
) -> int:
    """Fuzz in every core, ``block`` files to a seed, and print the totals."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--files", type=int, default=files)
    parser.add_argument("--seed", type=int, default=0)
    wishes = parser.parse_args(arguments)
    blocks = -(-wishes.files // block)
    start, outcomes = time.perf_counter(), Counter[str]()
    with ProcessPoolExecutor(initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for done in pool.map(fuzz, range(wishes.seed, wishes.seed + blocks)):
            outcomes += done
    seconds = time.perf_counter() - start
    for what, count in outcomes.most_common():
        print(f"{count:>9,}  {what}")
    total = outcomes.total()
    print(f"{total:>9,}  files in {seconds:.0f} s, {total / seconds:,.0f} a second")
    return 0
