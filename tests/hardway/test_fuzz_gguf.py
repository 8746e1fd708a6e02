"""A small part of `make fuzz`, and that it would notice a reader that goes wrong."""

import random
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import fuzz_gguf as fuzzing
import hardway.gguf as library
from fuzz_gguf import Counter, fuzz, main, outcome, sound
from fuzz_run import SECONDS
from hardway.gguf import GGUFError, TensorInfo

pytestmark = pytest.mark.slow


@pytest.fixture
def traced() -> Iterator[None]:
    """Outside `fuzz`, which does it itself, memory is traced for each test."""
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.parametrize("seed", range(2))
def test_broken_files_are_read_alike_or_refused(seed: int) -> None:
    outcomes = fuzz(seed)
    assert outcomes.total() == fuzzing.BLOCK
    kinds = Counter[str]()
    for what, count in outcomes.items():
        kinds[what.partition(":")[0].partition(", but")[0]] += count
    assert kinds["read, as by the reference"] > 20
    assert kinds["refused, as by the reference"] > 20
    assert kinds["refused, unlike by the reference"] > 20


@pytest.mark.usefixtures("traced")
def test_files_without_a_fault_are_read(tmp_path: Path) -> None:
    dice = random.Random(0)
    found = Counter(outcome(sound(dice), tmp_path / "x") for _ in range(200))
    assert found["read, as by the reference"] > 50
    for what in found:
        assert what.startswith("read, as by the reference") or "NaN" in what


def believe(*_: Any, **__: Any) -> None:
    """Check nothing."""


def crash(*_: Any) -> Any:
    raise KeyError("general.alignment")


def chatter(*_: Any) -> Any:
    raise GGUFError("it claims " + "x" * 1000)


def refuse(*_: Any, **__: Any) -> Any:
    raise GGUFError("its rank is not to my taste")


def waste(*_: Any) -> Any:
    bytes(10_000_000)
    raise GGUFError("it claims too much")


def dawdle(*_: Any) -> Any:
    start = time.process_time()
    while time.process_time() - start < SECONDS:
        pass
    raise GGUFError("it claims too much")


def of_zeros(path: Path, info: TensorInfo) -> Any:
    return library.torch.zeros(info.shape)


def without_texts(file: library.BoundedFile) -> str:
    n_bytes = int.from_bytes(file.read(8), "little")
    return str(file.read(n_bytes)[:1])


@pytest.mark.parametrize(
    ("part", "defect"),
    [
        ("untrusted_gguf.check_rank", believe),
        ("untrusted_gguf.check_layout", believe),
        ("untrusted_gguf.check_dimensions", believe),
        ("untrusted_gguf.check_dimensions", refuse),
        ("untrusted_gguf.alignment_of", lambda metadata: 32),
        ("read_tensor", crash),
        ("read_tensor", of_zeros),
        ("read_string", without_texts),
        ("parse_header", chatter),
        ("parse_header", waste),
        ("parse_header", dawdle),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_a_defect_of_the_reader_is_noticed(
    part: str, defect: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"hardway.gguf.{part}", defect)
    with pytest.raises(AssertionError, match=r"seed 1, file b"):
        fuzz(1)


def test_a_reader_laxer_than_the_reference_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fuzzing, "by_reference", lambda path: None)
    with pytest.raises(AssertionError, match="seed 1, file") as error:
        fuzz(1)
    assert "the reference refuses it" in str(error.value.__cause__)


def test_the_totals_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--files", "300", "--seed", "7"]) == 0
    lines = capsys.readouterr().out.splitlines()
    counts = [int(line.split()[0].replace(",", "")) for line in lines]
    assert sum(counts[:-1]) == counts[-1] == fuzzing.BLOCK
    assert lines[-1].endswith(" a second")
