"""The examples in docstrings are part of the book: they must show what happens."""

import doctest
import pkgutil
from importlib import import_module

import pytest

import hardway

NAMES = [
    "hardway",
    *(module.name for module in pkgutil.walk_packages(hardway.__path__, "hardway.")),
]
RUNNABLE = [name for name in NAMES if name != "hardway.__main__"]  # it runs the program


@pytest.mark.parametrize("name", RUNNABLE)
def test_examples(name: str) -> None:
    assert doctest.testmod(import_module(name)).failed == 0


def test_there_are_examples() -> None:
    """A doctest that is no longer found would pass in silence."""
    finder = doctest.DocTestFinder()
    examples = {
        name: sum(len(test.examples) for test in finder.find(import_module(name)))
        for name in RUNNABLE
    }
    assert examples["hardway"] >= 5
    assert examples["hardway.tokenizer"] >= 6
    assert examples["hardway.fast.tokenizer"] >= 1
