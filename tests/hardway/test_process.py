"""State that belongs to the whole process: forks, defaults of torch, streams."""

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch

import hardway
from hardway import GPT2, Llama, Tokenizer, generate
from hardway.decoding import Regex
from hardway.llama import rope_angles
from hardway.loading import in_own_thread
from hardway.safetensors import load_file

IDS = [7454, 2402, 257, 640]  # Once upon a time

FORK = """
import multiprocessing, sys, torch, hardway
from hardway import hub, safetensors
torch.set_num_threads(4)
LOAD = {
    "taught": hardway.GPT2.from_pretrained,
    "fast": hardway.load,
    "half": lambda: hardway.load(dtype=torch.bfloat16),
    "int8": lambda: hardway.load(quantize="int8"),
    "bfloat16": lambda: hardway.load(quantize="bfloat16"),
    "file": lambda: safetensors.load_file(hub.weights("pocket")) and None,
}
model = LOAD[sys.argv[1]]()
def child():
    found = hardway.generate(model or hardway.load(), [7454, 2402, 257, 640], 8)
    sys.exit(40 + len(found))
process = multiprocessing.get_context("fork").Process(target=child)
process.start()
process.join(60)
if process.is_alive():
    process.kill()
print(process.exitcode)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.skipif(sys.platform == "darwin", reason="its libraries forbid it")
@pytest.mark.parametrize("kind", ["taught", "fast", "half", "int8", "bfloat16", "file"])
def test_a_child_forked_after_loading_answers(kind: str) -> None:
    """Loading started torch's workers, for which the child then waited forever."""
    environment = os.environ | {"OMP_NUM_THREADS": "4", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run([sys.executable, "-c", FORK, kind], capture_output=True,
                          text=True, env=environment, check=True)  # fmt: skip
    assert done.stdout.splitlines()[-1] == "48"


def test_the_thread_s_errors_and_names_are_the_function_s() -> None:
    def refuse(x: int, *, y: int) -> int:
        """Say no."""
        raise ValueError(f"x must be {y}, got {x}")

    run = in_own_thread(refuse)
    assert (run.__name__, run.__doc__) == ("refuse", "Say no.")
    with pytest.raises(ValueError, match="x must be 2, got 1"):
        run(1, y=2)


@pytest.fixture(params=["meta", torch.float64, torch.bfloat16, torch.float16], ids=str)
def another_default(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Another default device, or another default dtype."""
    before = torch.get_default_dtype()
    if isinstance(request.param, str):
        torch.set_default_device(request.param)
    else:
        torch.set_default_dtype(request.param)
    yield
    torch.set_default_device(None)
    torch.set_default_dtype(before)


@pytest.mark.slow
@pytest.mark.usefixtures("another_default")
@pytest.mark.parametrize("load", [GPT2.from_pretrained, hardway.load])
def test_torch_s_defaults_change_nothing(load: Any) -> None:
    model, tokenizer = load("pocket"), Tokenizer.from_pretrained("pocket")
    assert model.device == torch.device("cpu")
    assert {weight.dtype for weight in model.weights.values()} == {torch.float32}
    expected = [11, 612, 373, 257]
    assert generate(model, IDS, 4) == expected
    assert generate(model, IDS, 4, use_cache=False) == expected
    assert hardway.generate_batch(model, [IDS, IDS[:2]], 4)[0] == expected
    assert hardway.beam_search(model, IDS, 4, 1) == [expected]
    assert hardway.speculative_generate(model, None, IDS, 4) == expected
    drawn = generate(model, IDS, 4, temperature=3.0, top_k=50, top_p=0.9, seed=3)
    assert drawn == [11, 477, 1115, 547]
    constraint = Regex("[0-9] cats", tokenizer)
    assert tokenizer.decode(generate(model, IDS, 9, constraint=constraint))[1:] == (
        " cats"
    )


@pytest.mark.usefixtures("another_default")
def test_a_file_s_tensors_are_on_the_cpu() -> None:
    tensors = load_file(hardway.hub.weights("pocket"))
    assert {tensor.device.type for tensor in tensors.values()} == {"cpu"}


def test_angles_are_float32_whatever_the_default() -> None:
    """In half precision, a far position would be rotated by a wrong angle."""
    positions = torch.tensor([0, 1, 1857])
    expected = rope_angles(positions, 32, 10000.0)
    assert expected.dtype == torch.float32
    for dtype in (torch.bfloat16, torch.float64):
        torch.set_default_dtype(dtype)
        try:
            found = rope_angles(positions, 32, 10000.0)
        finally:
            torch.set_default_dtype(torch.float32)
        assert found.dtype == torch.float32
        assert torch.equal(found, expected)


def test_loading_in_inference_mode_leaves_plain_tensors() -> None:
    with torch.inference_mode():
        model = GPT2.from_pretrained("pocket")
    assert not any(weight.is_inference() for weight in model.weights.values())


@pytest.mark.parametrize("kind", [GPT2, Llama])
def test_loading_keeps_its_documentation(kind: Any) -> None:
    assert "Load a known model" in kind.from_pretrained.__doc__
