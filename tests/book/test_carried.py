"""What one chapter hands on, the next one takes up unchanged."""

import pytest
from docutils import nodes

from lint.carried import agree, handed, problems


def page(*cells: tuple[list[str], str]) -> nodes.document:
    document = nodes.document(None, None)  # type: ignore[arg-type]
    for tags, output in cells:
        cell = nodes.container("", classes=["cell", *tags])
        cell += nodes.literal_block("", "print(1)  not an output")
        cell += nodes.literal_block("", output, classes=["output", "stream"])
        document += cell
    return document


def test_the_lines_of_marked_cells_are_handed_on() -> None:
    document = page((["tag_carried"], "ids  1 2\nits row   0.5  -1\nA sentence."),
                    ([], "other  3"))  # fmt: skip
    assert handed(document) == {"ids": "1 2", "its row": "0.5  -1"}


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("1 2", "1  2", True),
        ("1 2", "1 3", False),
        ("1 2", "1 2 3", False),
        ("0.120 ␣a", "0.121 ␣a", True),
        ("0.120", "0.122", False),
        ("-0.000", "0.000", True),
        ("12.3%", "12.4%", True),
        ("12.3%", "12.5%", False),
        ("12.3%", "12.3", False),
        ("0.12", "0.120", False),
        ("10", "11", False),
        ("␣a", "␣the", False),
    ],
)
def test_values_agree_up_to_the_last_place(
    one: str, other: str, expected: bool
) -> None:
    assert agree(one, other) is expected


def test_an_unbroken_thread() -> None:
    pages = {"00": {"ids": "1"}, "01": {"ids": "1", "x": "0.1"}, "02": {"x": "0.1"}}
    assert not list(problems(pages))


@pytest.mark.parametrize(
    ("pages", "words"),
    [
        ({"00": {"a": "1"}, "01": {"b": "1"}}, "01 takes up nothing"),
        ({"00": {"a": "1"}, "01": {}}, "01 takes up nothing"),
        ({"00": {}, "01": {"a": "1"}}, "01 takes up nothing"),
        (
            {"00": {"a": "1"}, "01": {"a": "1", "b": "1"}, "02": {"b": "1", "a": "2"}},
            "«a» is 2 on 02, and was 1 on 00",
        ),
    ],
)
def test_a_broken_thread(pages: dict[str, dict[str, str]], words: str) -> None:
    [problem] = problems(pages)
    assert words in problem
