"""What untrusted files claim: each rule by itself. Whole files: test_safetensors."""

import itertools
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardway import untrusted
from hardway.safetensors import SafetensorsError
from refusals import refuses, refuses_file


def refused(*_: Any) -> None:
    raise ValueError("n_head is missing")


# --- what a message is about ---


@pytest.mark.parametrize("kind", [ValueError, SafetensorsError])
def test_a_message_begins_with_the_file(kind: type[ValueError]) -> None:
    with (
        refuses_file(Path("a/b"), "n_head", kind) as caught,
        untrusted.prefix_errors(Path("a/b"), kind),
    ):
        refused()
    assert type(caught.value) is kind
    assert str(caught.value.__cause__) == "n_head is missing"


def test_another_error_is_left_as_it_is() -> None:
    with pytest.raises(KeyError), untrusted.prefix_errors("a/b"):
        raise KeyError("n_head")


# --- tensors cover the data ---


@given(
    sizes=st.lists(st.integers(0, 5), max_size=5),
    data=st.data(),
)
def test_just_what_covers_the_data_end_to_end_is_accepted(
    sizes: list[int], data: st.DataObject
) -> None:
    ends = [0, *itertools.accumulate(sizes)]
    spans = [(a, b, f"t{i}") for i, (a, b) in enumerate(itertools.pairwise(ends))]
    shuffled = data.draw(st.permutations(spans))
    untrusted.check_layout(shuffled, data_size=ends[-1])
    for other in (ends[-1] + 1, ends[-1] - 1):
        with refuses("its tensors"):
            untrusted.check_layout(shuffled, data_size=other)
    if wide := [i for i, size in enumerate(sizes) if size]:
        moved = data.draw(st.sampled_from(wide))
        start, end, name = spans[moved]
        for broken in ((start + 1, end), (start, end - 1)):
            changed = [*spans[:moved], (*broken, name), *spans[moved + 1 :]]
            with pytest.raises(ValueError, match=r"^(tensor 't|its tensors)"):
                untrusted.check_layout(changed, data_size=ends[-1])


@pytest.mark.parametrize(
    ("length", "size", "sound"),
    [(0, 8, True), (2, 10, True), (3, 10, False), (0, 7, False),
     (100_000_000, 100_000_008, True), (100_000_001, 200_000_000, False)],
)  # fmt: skip
def test_a_header_fits_in_its_file(length: int, size: int, sound: bool) -> None:
    if sound:
        untrusted.check_header_length(length, b"", size)
    else:
        with refuses("it"):
            untrusted.check_header_length(length, b"", size)


# --- JSON ---


@pytest.mark.parametrize("raw", [b"{}", b' \t\n\r{"a": {"b": [1, "\xc3\xa9", null]}} '])
def test_strict_json(raw: bytes) -> None:
    assert set(untrusted.parse_strict_json(raw)) <= {"a"}


@pytest.mark.parametrize(
    ("raw", "named"),
    [(b'{"a":1,"a":1}', "'a'"), (b'{"a":-1}', "-1"), (b'{"a":-0}', "-0"),
     (b'{"a":NaN}', "NaN"), (b'{"a":1' + b"0" * 20 + b"}", "got 21"),
     (b'{"\\ud800":1}', r"'\ud800'"), (b"[]", "'{'"), (b"\xff", "utf-8")],
)  # fmt: skip
def test_json_that_is_not_strict(raw: bytes, named: str) -> None:
    with refuses("its header") as caught:
        untrusted.parse_strict_json(raw)
    assert named in str(caught.value)


def test_metadata_is_text() -> None:
    for good in (None, {}, {"a": "b"}):
        untrusted.check_metadata(good)
    for bad in ([], "", 1, {"a": 1}, {"a": None}):
        with refuses("its __metadata__"):
            untrusted.check_metadata(bad)
