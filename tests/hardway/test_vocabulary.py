"""What a tokenizer is built from: three kinds of file, and what each may not say."""

from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from hardway import vocabulary
from hardway.tokenizer import BYTE_OF, END_OF_TEXT
from refusals import refuses

# --- GPT-2's two files ---


@given(
    pairs=st.lists(st.tuples(*[st.text("abĠ#", min_size=1, max_size=3)] * 2)),
    version=st.booleans(),
)
def test_merges_are_read_as_they_were_written(
    pairs: list[tuple[str, str]], version: bool, tmp_path_factory: Any
) -> None:
    path: Path = tmp_path_factory.mktemp("merges") / "merges.txt"
    lines = [" ".join(pair) for pair in pairs]
    path.write_text("\n".join([*(["#version: 0.2"] * version), *lines]), "utf-8")
    assert vocabulary.read_merges(path) == pairs


def test_a_vocabulary_that_fits_its_merges() -> None:
    vocab = BYTE_OF | {"ab": 256, END_OF_TEXT: 257}
    vocabulary.check(vocab, [("a", "b")], BYTE_OF, {END_OF_TEXT})
    with refuses("merges"):
        vocabulary.check(vocab, [("b", "a")], BYTE_OF, {END_OF_TEXT})
    with refuses("vocab"):
        vocabulary.check(vocab, [("a", "b")], BYTE_OF, {"<|pad|>"})
