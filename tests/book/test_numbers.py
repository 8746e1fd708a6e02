"""No number that the run could change is typed in prose; planted ones are found."""

from pathlib import Path

import pytest

from lint.numbers import typed_numbers
from paths import BOOK

CHAPTERS = sorted(BOOK.glob("*.md"))
CELL = "```{{code-cell}} ipython3\n---\nmystnb:\n  {}:\n    {}\n---\nx = 50257\n```\n"


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_no_number_of_a_chapter_is_typed_by_hand(chapter: Path) -> None:
    assert list(typed_numbers(chapter.read_text("utf-8"))) == []


@pytest.mark.parametrize(
    ("prose", "number"),
    [
        ("There are 148 tensors.", "148"),
        ("It has 7,688,320 parameters.", "7,688,320"),
        ("The loss is 4.102 nats.", "4.102"),
        ("The loss is 0.5.", "0.5"),
        ("Every head gives it 5 % of its attention.", "5 %"),
        ("It is 42%.", "42%"),
        ("In all, 13, no less.", "13"),
        ("| part | pocket |\n|---|---|\n| width | 128 |\n", "128"),
        ("```python\n1\n```\nand 99 more", "99"),
        ("```{note}\nThere are 148 tensors.\n```", "148"),
        (":::{note}\nThere are 148 tensors.\n:::", "148"),
        ("```{note}\nWords.\n```\nOf 148.\n```{code-cell}\nx = 99\n```", "148"),
        ("A tick, `` ` ``, of 148 like `` ` ``.", "148"),
        ("A lone ` tick.\n\nOf 148.\n\nAnother ` tick.", "148"),
        ("```{admonition} Of 148\nWords.\n```", "148"),
        ("````{note}\n```{tip}\nOf 148.\n```\n````", "148"),
        (CELL.format("figure", "caption: Of 148 tensors."), "148"),
        (CELL.format("figure", "caption: >-\n      Here, of\n      148."), "148"),
        (CELL.format("image", "alt: A bar, 60 % of it blue."), "60 %"),
        (CELL.format("image", "{alt: Of 148 tensors.}"), "148"),
        ("| GPT-2 124M |\n|---|\n| 768 |\n\nand 768 here", "768"),
    ],
)
def test_a_typed_number_is_found(prose: str, number: str) -> None:
    found = list(typed_numbers(prose))
    assert len(found) == 1
    assert found[0].startswith(f"{number!r} is typed by hand")


@pytest.mark.parametrize(
    "prose",
    [
        "Twelve layers, 12 heads, 3 steps, chapter 8.",
        "There are {glue:text}`n` tensors, `148` in code, $124{,}439{,}808$ in maths.",
        "---\nformat_version: 0.13\n---\n",
        "```{code-cell} ipython3\nx = 50257\n```\n",
        CELL.format("figure", "caption: With `top_p=0.9`."),
        "```{note}\nWords.\n```\n```{code-cell}\nx = 50257\n```\nWords.",
        "````\n```{note}\n148\n```\n````",
        "```python\nx = 50257\n```\n",
        "```\n148\n```\n",
        "$$\n0.044715\n$$",
        "Vaswani et al. 2017 and GPT-2 124M, with a SHA-256.",
        "[chapter 6](06-forward.md#in-768-numbers)",
        "| size | GPT-2 124M |\n|---|---|\n| width | 768 |\n| words | 50,257 |\n",
        "version3.11 and h.10.ln_1",
        "# 13 · More than one machine\n\nChapter 13 says so.",
    ],
)
def test_what_cannot_change_may_be_typed(prose: str) -> None:
    assert list(typed_numbers(prose)) == []
