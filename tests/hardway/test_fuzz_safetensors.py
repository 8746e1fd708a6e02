"""A small part of `make fuzz`, and that it would notice a reader that goes wrong."""

import random
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors as reference
from hypothesis import example, given
from hypothesis import strategies as st

import fuzz_safetensors as fuzzing
import hardway.safetensors as library
from fuzz_run import SECONDS
from fuzz_safetensors import Counter, fuzz, main, mutated, outcome, sound
from hardway.safetensors import SafetensorsError, TensorInfo

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "x.safetensors"


@pytest.fixture(autouse=True)
def traced() -> Any:
    """Outside `fuzz`, which does it itself, memory is traced for each test."""
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.parametrize("seed", range(4))
def test_broken_files_are_read_alike_or_refused(seed: int) -> None:
    outcomes = fuzz(seed)
    assert outcomes.total() == fuzzing.BLOCK
    kinds = Counter[str]()
    for what, count in outcomes.items():
        kinds[what.partition(":")[0]] += count
    assert min(kinds.values()) > 20  # read, refused alike, and refused by hardway alone
    assert len(kinds) == 3


@given(file=st.binary(max_size=200))
@example(file=b"")
def test_any_bytes(file: bytes, path: Path) -> None:
    outcome(file, path)
    outcome(fuzzing.sealed(b"{" + file + b"}"), path)


@given(dice=st.randoms(use_true_random=False))
def test_any_mutation(dice: random.Random, path: Path) -> None:
    outcome(mutated(sound(dice), dice), path)


def test_files_without_a_fault_are_read(path: Path) -> None:
    dice = random.Random(0)
    found = {outcome(sound(dice), path) for _ in range(200)}
    one_reason = (
        "refused, unlike by the reference: a dtype that is valid and not loaded"
    )
    assert found == {"read, as by the reference", one_reason}


def believe(*_: Any, **__: Any) -> None:
    """Check nothing."""


def crash(*_: Any) -> Any:
    raise KeyError("data_offsets")


def chatter(*_: Any) -> Any:
    raise SafetensorsError("x" * 1000)


def refuse(*_: Any) -> Any:
    raise SafetensorsError("its shape is not to my taste")


def waste(*_: Any) -> Any:
    bytes(10_000_000)
    raise SafetensorsError("its shape is too large")


def dawdle(*_: Any) -> Any:
    start = time.process_time()
    while time.process_time() - start < SECONDS:
        pass
    raise SafetensorsError("its shape is too slow")


def of_zeros(file: Any, name: str, info: TensorInfo) -> Any:
    return library.torch.zeros(info.shape, dtype=library.DTYPES[info.dtype])


@pytest.mark.parametrize(
    ("part", "defect"),
    [
        ("untrusted.check_layout", believe),
        ("untrusted._are_sizes", lambda values: isinstance(values, list)),
        ("read_tensor", crash),
        ("read_tensor", of_zeros),
        ("untrusted.check_tensor_entry", refuse),
        ("parse_header", chatter),
        ("parse_header", waste),
        ("parse_header", dawdle),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_a_defect_of_the_reader_is_noticed(
    part: str, defect: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"hardway.safetensors.{part}", defect)
    with pytest.raises(AssertionError, match=r"seed 1, file b"):
        fuzz(1)


def test_a_reader_laxer_than_the_reference_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def nothing(file: bytes) -> Any:
        raise reference.SafetensorError("no")

    monkeypatch.setattr(fuzzing.reference, "deserialize", nothing)
    with pytest.raises(AssertionError, match="seed 1, file") as error:
        fuzz(1)
    assert "the reference refuses it" in str(error.value.__cause__)


def test_the_totals_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--files", "1500", "--seed", "7"]) == 0
    lines = capsys.readouterr().out.splitlines()
    counts = [int(line.split()[0].replace(",", "")) for line in lines]
    assert sum(counts[:-1]) == counts[-1] == 2000
    assert lines[-1].endswith(" a second")
