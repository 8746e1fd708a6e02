"""What several test files share: the bundled model and its full-size stand-in."""

import os
import shutil
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

import fullsize as stand_in
import hub_server
from hardway import GPT2, Tokenizer, hub, transfer

# A shared machine can be slow for a moment; that is no failure.
settings.register_profile("hardway", deadline=None, print_blob=True)
settings.load_profile("hardway")

# Two threads that wait for each other make tiny tensors slow where cores are shared.
torch.set_num_threads(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--no-skip", action="store_true", help="a test that would be skipped fails"
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and item.config.getoption("--no-skip"):
        report.outcome = "failed"
    return report


@pytest.fixture(scope="session")
def pocket() -> GPT2:
    return GPT2.from_pretrained("pocket")


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_pretrained("pocket")


@pytest.fixture(scope="session")
def fullsize(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A checkpoint with GPT-2 124M's shape and pocket's logits, 548 MB."""
    directory = tmp_path_factory.mktemp("fullsize")
    stand_in.build(directory)
    yield directory
    shutil.rmtree(directory)  # pytest would keep the last three


@pytest.fixture
def remote(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[hub_server.HubServer]:
    """A hub that serves a tiny "gpt2"; downloads land in tmp_path / "home"."""
    monkeypatch.setitem(hub.CHECKPOINTS, "gpt2", hub_server.CHECKPOINT)
    monkeypatch.setenv("HARDWAY_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(transfer, "PAUSE_SECONDS", 0)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("NETRC", os.devnull)  # the user's own may know every host
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1,localhost")
    with hub_server.serving() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server
