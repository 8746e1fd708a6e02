"""What several test files share: the bundled model and its full-size stand-in."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

import fullsize as stand_in
from hardway import GPT2, Tokenizer

# A shared machine can be slow for a moment; that is no failure.
settings.register_profile("hardway", deadline=None, print_blob=True)
settings.load_profile("hardway")


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
