"""Two builds may differ in what a page marks as measured, and in nothing else."""

import json
import shutil
from pathlib import Path

import pytest
from docutils import nodes

from execution import measured
from lint.numbers import quoted_measurements
from tools import reproducible

PAGE = """<html><body><p>The rest is the same.</p>
<div class="cell tag_measured"><pre>time.time()</pre>
<div class="cell_output">1.23 s <img src="../_images/{picture}.png"></div></div>
<div class="cell"><div class="cell_output"><img src="../_images/fixed.png"></div></div>
</body></html>"""
CELLS = [
    {"metadata": {"tags": ["measured"]}, "source": "", "outputs": ["1.23 s"]},
    {"metadata": {}, "source": "", "outputs": ["42"]},
]


@pytest.fixture
def builds(tmp_path: Path) -> tuple[Path, Path]:
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in ("book", "_images", "notebooks"):
        (one / folder).mkdir(parents=True)
    (one / "book" / "page.html").write_text(PAGE.format(picture="clock"))
    (one / "_images" / "clock.png").write_text("one")
    (one / "_images" / "fixed.png").write_text("fixed")
    (one / "notebooks" / "page.ipynb").write_text(json.dumps({"cells": CELLS}))
    (one / "searchindex.js").write_text("1.23")
    shutil.copytree(one, two)
    return one, two


def test_equal_builds(
    builds: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert reproducible.main(*builds) == 0
    assert capsys.readouterr().out == "3 files are the same in both builds.\n"


def test_what_is_measured_may_differ(builds: tuple[Path, Path]) -> None:
    _, two = builds
    page = PAGE.format(picture="later").replace("1.23", "4.56")
    (two / "book" / "page.html").write_text(page)
    (two / "_images" / "clock.png").rename(two / "_images" / "later.png")
    cells = [CELLS[0] | {"outputs": ["4.56 s"]}, CELLS[1]]
    (two / "notebooks" / "page.ipynb").write_text(json.dumps({"cells": cells}))
    (two / "searchindex.js").write_text("4.56")
    (two / "page.ipynb.js").write_text("a copy of the notebook")
    assert reproducible.main(*builds) == 0


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("book/page.html", "is the same", "is another"),
        ("book/page.html", "time.time()", "time.time_ns()"),
        ("book/page.html", 'class="cell tag_measured"', 'class="cell"'),
        ("_images/fixed.png", "fixed", "moved"),
        ("notebooks/page.ipynb", "42", "43"),
    ],
)
def test_any_other_difference_is_named(
    builds: tuple[Path, Path],
    name: str,
    right: str,
    wrong: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = builds[1] / name
    assert right in path.read_text()
    path.write_text(path.read_text().replace(right, wrong))
    assert reproducible.main(*builds) >= 1
    assert f"{name}: not the same in both builds" in capsys.readouterr().out


def test_a_missing_file_and_an_empty_build(builds: tuple[Path, Path]) -> None:
    one, two = builds
    (two / "_images" / "fixed.png").unlink()
    assert reproducible.main(one, two) == 1
    assert reproducible.main(one / "nowhere", two / "nowhere") == 1


def cell(source: str, *classes: str) -> nodes.container:
    block = nodes.literal_block(source, source)
    return nodes.container("", block, classes=["cell", *classes])


def test_a_measured_cell_says_so() -> None:
    document = nodes.document(None, None)
    document += [cell("1 + 1"), cell("time.time()", "tag_measured")]
    measured.mark(None, document)
    plain, timed = document.children
    assert len(plain) == 1
    assert timed[-1].astext() == measured.NOTE
    assert list(quoted_measurements(document)) == []


def test_a_measured_value_is_not_quoted() -> None:
    document = nodes.document(None, None)
    document += cell('plots.glue("rate", 1)', "tag_measured")
    assert len(list(quoted_measurements(document))) == 1
