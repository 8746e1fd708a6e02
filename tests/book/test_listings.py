"""No line of the library is hidden, none is shown twice; planted defects are named."""

import io
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from types import SimpleNamespace

import pytest
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace

from lint.completeness import hidden
from literate import listings, pieces, source_pages
from literate.pieces import (
    find_pieces,
    joined,
    modules,
    partition,
    printed_modules,
    scripts,
)

MODULE = """\
'''A module.'''

LIMIT = 3
# above the first definition
@decorate
def one():
    return 1


TABLE = {
    1: one,
}


class Thing:
    '''A class.'''

    size: int = 0

    # above the method
    @property
    def area(self):
        return self.size**2

    def grow(self):
        self.size += 1
"""
NAMES = ["m", "m.one", "m.TABLE", "m.Thing", "m.Thing.area", "m.Thing.grow"]


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(pieces, "LIBRARY", tmp_path)
    monkeypatch.setattr(pieces, "REPOSITORY", tmp_path)
    monkeypatch.setattr(pieces, "FIGURES", tmp_path)
    (tmp_path / "m.py").write_text(MODULE)
    modules.cache_clear()
    scripts.cache_clear()
    yield tmp_path
    modules.cache_clear()
    scripts.cache_clear()


def test_a_module_is_cut_into_named_pieces(library: Path) -> None:
    found = {piece.name: piece for piece in partition("m")}
    assert list(found) == NAMES
    assert found["m"].text == "'''A module.'''\n\nLIMIT = 3"
    assert found["m.one"].text.startswith("# above the first definition\n@decorate")
    assert found["m.TABLE"].text == "TABLE = {\n    1: one,\n}"
    assert found["m.Thing"].text.endswith("size: int = 0")
    assert found["m.Thing.area"].text.startswith(
        "    # above the method\n    @property"
    )
    assert found["m.Thing.area"].place == "m.py, lines 20–23"


SCRIPT = """\
/** A module. */

const LIMIT = 3;

/**
 * One.
 */
function one() {
  if (LIMIT) {
    return 1;
  }
}

const TABLE = { one };

class Thing {
  constructor() {
    this.size = 0;
  }

  /** Yield. */
  *area() {
    yield this.size ** 2;
  }
}

async function* two() {}
"""


def test_a_script_is_cut_into_named_pieces(library: Path) -> None:
    (library / "engine").mkdir()
    (library / "engine" / "s.js").write_text(SCRIPT)
    scripts.cache_clear()
    found = {piece.name: piece for piece in partition("browser.s")}
    names = ["", ".one", ".TABLE", ".Thing", ".Thing.area", ".two"]
    assert list(found) == [f"browser.s{name}" for name in names]
    assert found["browser.s"].text == "/** A module. */\n\nconst LIMIT = 3;"
    assert found["browser.s.one"].text.startswith("/**\n * One.")
    assert found["browser.s.Thing"].text.endswith("= 0;\n  }")
    assert found["browser.s.Thing.area"].text.endswith("}\n}")
    assert found["browser.s.two"].language == "javascript"
    assert "hidden: no page shows browser.s.one (engine/s.js, lines 5–12)" in hidden(())


@pytest.mark.parametrize("module", printed_modules())
def test_every_line_of_the_library_is_in_exactly_one_piece(module: str) -> None:
    found = partition(module)
    lines = printed_modules()[module].read_text("utf-8").splitlines()
    held = Counter(n for piece in found for n in range(piece.first, piece.last + 1))
    assert set(held.values()) == {1}
    assert [n for n, line in enumerate(lines, 1) if line.strip() and not held[n]] == []
    for piece in found:
        assert piece.text.splitlines() == lines[piece.first - 1 : piece.last]


def test_a_whole_class_and_a_whole_module(library: Path) -> None:
    assert [piece.name for piece in find_pieces("m.Thing")] == ["m.Thing"]
    whole = find_pieces("m.Thing", whole=True)
    assert [piece.name for piece in whole] == NAMES[3:]
    assert joined(whole).text == MODULE[MODULE.index("class Thing") :].rstrip()
    module = find_pieces("m", whole=True)
    assert [piece.name for piece in module] == NAMES
    assert joined(module).text == MODULE.rstrip()


@pytest.mark.parametrize(
    "name", ["nowhere", "m.nothing", "m.Thing.nothing", "..", "", "folder", "m.m"]
)
def test_a_piece_that_is_not_there_is_named(library: Path, name: str) -> None:
    for whole in (False, True):
        with pytest.raises(LookupError, match="the library has no"):
            find_pieces(name, whole)


@pytest.mark.parametrize(
    ("stray", "message"),
    [
        ("\nprint(one())\n", "m, line 28: a statement between definitions"),
        ("\n    color = 1\n", "m.Thing, line 28: a statement between methods"),
    ],
)
def test_a_line_in_no_piece_is_refused(library: Path, stray: str, message: str) -> None:
    (library / "m.py").write_text(MODULE + stray)
    with pytest.raises(ValueError, match=message):
        partition("m")


def uncovered(names: Iterable[str]) -> list[str]:
    """What is missing where these pieces have listings."""
    return list(hidden({listings.label(name) for name in names}))


def test_a_hidden_piece_is_named(library: Path) -> None:
    assert uncovered(NAMES) == []
    assert uncovered(NAMES[:5]) == [
        "hidden: no page shows m.Thing.grow (m.py, lines 25–26)"
    ]


@pytest.mark.parametrize("again", [False, True])
def test_a_doubled_piece_is_a_warning(tmp_path: Path, again: bool) -> None:
    mark = ":again:\n" if again else ""
    listing = "```{listing} attention.softmax\n%s```\n"
    (tmp_path / "index.md").write_text(
        f"# A\n\n{listing % mark}\n```{{toctree}}\nb\n```\n"
    )
    (tmp_path / "b.md").write_text(f"# B\n\n{listing % ''}")
    config = {"extensions": ["myst_nb", "literate"]}
    warning = io.StringIO()
    with docutils_namespace():
        Sphinx(
            tmp_path, None, tmp_path / "out", tmp_path / "trees", "dummy", config,
            status=None, warning=warning,
        ).build()  # fmt: skip
    doubled = "duplicate label listing-attention.softmax, other instance in"
    assert (doubled in warning.getvalue()) is not again


def test_packages_within_the_library(library: Path) -> None:
    (library / "__init__.py").write_text("'''The top.'''\n")
    (library / "fast").mkdir()
    (library / "fast" / "__init__.py").write_text("'''A package.'''\n\ndef f(): ...\n")
    (library / "fast" / "m.py").write_text(MODULE)
    assert list(modules()) == ["__init__", "fast", "fast.m", "m"]
    inner = [f"fast.{name}" for name in NAMES]
    assert [piece.name for piece in partition("fast.m")] == inner
    whole = find_pieces("fast", whole=True)
    assert [piece.name for piece in whole] == ["fast", "fast.f"]
    (area,) = find_pieces("fast.m.Thing.area")
    assert area.place == "fast/m.py, lines 20–23"
    uri = SimpleNamespace(get_relative_uri=lambda here, there: f"../{there}.html")
    config, env = SimpleNamespace(files_address=""), SimpleNamespace(docname="")
    app = SimpleNamespace(config=config, builder=uri, env=env)
    assert source_pages.address(app, area) == "../source/fast/m.html#L-20"
    config.files_address = "https://x.org/blob/main"
    there = "https://x.org/blob/main/fast/m.py#L20-L23"
    assert source_pages.address(app, area) == there
    shown = ["__init__", "fast", "fast.f", *inner, *NAMES]
    assert uncovered(shown) == []
    assert uncovered(shown[2:]) == [
        "hidden: no page shows __init__ (__init__.py, lines 1–1)",
        "hidden: no page shows fast (fast/__init__.py, lines 1–1)",
    ]


def test_a_function_must_not_bear_the_name_of_a_module(library: Path) -> None:
    (library / "fast").mkdir()
    (library / "fast" / "__init__.py").write_text("'''A.'''\n\ndef m(): ...\n")
    (library / "fast" / "m.py").write_text("'''A module.'''\n")
    assert uncovered([*NAMES, "fast", "fast.m"]) == [
        "hidden: 2 pieces of the library are called fast.m"
    ]


def test_annotated_names_and_imports_for_type_checkers(library: Path) -> None:
    (library / "m.py").write_text(
        "from typing import TYPE_CHECKING, TypeAlias, TypedDict\n"
        "if TYPE_CHECKING:\n    from torch import Tensor\n\n\n"
        "class Options(TypedDict, total=False):\n    top_k: int\n\n\n"
        "Weights: TypeAlias = dict[str, 'Tensor']\n"
        "LIMITS: dict[str, int] = {}\n"
    )
    names = [piece.name for piece in partition("m")]
    assert names == ["m", "m.Options", "m.Weights", "m.LIMITS"]


def test_a_chapter_may_name_a_piece_that_is_not_there(
    library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The directive says so, with the line; here it must not stop the build."""
    monkeypatch.setattr(listings, "BOOK", library)
    (library / "1.md").write_text(
        "```{listing} m.nothing\n```\n```{listing} m.Thing\n:whole:\n```\n"
        "```{listing} m.one\n:again:\n```\n"
    )
    assert listings.pages.__wrapped__() == {"1": [NAMES[3:]]}


def test_the_book_shows_every_piece_once() -> None:
    shown = [name for page in listings.pages().values() for name in chain(*page)]
    assert len(shown) == len(set(shown)) > 100
    assert uncovered(shown) == []
