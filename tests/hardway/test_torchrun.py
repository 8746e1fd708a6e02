"""Tensor parallelism in processes that torchrun starts and gloo connects."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from hardway import GPT2, Llama, generate, hub
from ranked import N_NEW, TOKENS

WORKER = Path(__file__).parents[1] / "support" / "ranked.py"

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("torchrun")]


def torchrun(n_ranks: int, *arguments: object) -> tuple[int, str]:
    """Run a worker, and return its exit code and what was written to stderr."""
    launch = ["-m", "torch.distributed.run", "--standalone"]
    done = subprocess.run(
        [sys.executable, *launch, f"--nproc-per-node={n_ranks}", WORKER,
         *map(str, arguments)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    return done.returncode, done.stderr


def check(model: GPT2 | Llama, name: object, n_ranks: int, out: Path) -> None:
    code, stderr = torchrun(n_ranks, name, out)
    assert (code, stderr) == (0, "")
    logits, ids = torch.load(out)
    expected = model(torch.tensor(TOKENS))
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
    assert ids == generate(model, TOKENS, N_NEW)


@pytest.mark.xdist_group("fullsize")
@pytest.mark.parametrize("n_ranks", [2, 4])
def test_gpt2(fullsize: Path, tmp_path: Path, n_ranks: int) -> None:
    check(GPT2.from_pretrained(fullsize), fullsize, n_ranks, tmp_path / "out")


@pytest.mark.xdist_group("smollm2")
def test_smollm2(tmp_path: Path) -> None:
    try:
        hub.weights("smollm2")
    except FileNotFoundError:
        pytest.skip("SmolLM2 is not in $HARDWAY_HOME: `hardway download smollm2`")
    check(Llama.from_pretrained("smollm2"), "smollm2", 3, tmp_path / "out")


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("dies", "lost another rank"),
        ("hangs", "lost another rank"),
        ("raises", "hardway.parallel: no space left\n"),
    ],
)
def test_a_fault_ends_all_with_one_message(
    tmp_path: Path, fault: str, message: str
) -> None:
    start = time.monotonic()
    code, stderr = torchrun(4, "pocket", tmp_path / "out", fault)
    assert time.monotonic() - start < 60
    assert code == 1
    assert stderr.count("hardway.parallel: ") == 1
    assert message in stderr
    assert "Traceback" not in stderr.partition("hardway.parallel: ")[0]
    assert not (tmp_path / "out").exists()
    if fault == "dies":  # torchrun's report says which rank, and of what
        cause = stderr.partition("Root Cause")[2]
        assert "rank      : 1" in cause
        assert "Signal 9 (SIGKILL)" in cause
