"""One of several processes that a test starts with torchrun.

    torchrun --standalone --nproc-per-node=2 tests/support/ranked.py MODEL OUT [FAULT]

Rank 0 writes the logits of a text and its greedy continuation to OUT. FAULT is what
happens to rank 1 in the middle of it: "dies", "hangs" or "raises".
"""

import os
import signal
import sys
import time
from datetime import timedelta

import torch

from hardway import parallel, ranks, stream

TOKENS = [7454, 2402, 257, 640, 11, 612, 373]
N_NEW = 12


def main(model: str, out: str, fault: str = "") -> None:
    with ranks.joined(timedelta(seconds=4 if fault == "hangs" else 60)):
        part = parallel.load(model)
        logits, ids = part(torch.tensor(TOKENS)), []
        for id in stream(part, TOKENS, N_NEW):
            ids.append(id)
            if part.rank == 1 and len(ids) == 3:
                suffer(fault)
        if part.rank == 0:
            torch.save((logits, ids), out)


def suffer(fault: str) -> None:
    if fault == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if fault == "hangs":
        time.sleep(60)
    if fault == "raises":
        raise OSError("no space left")


if __name__ == "__main__":
    main(*sys.argv[1:])
