"""What a check finds is a warning, which fails the build."""

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import docutils_namespace

import lint
from lint.problem import Problem


def test_a_problem_fails_the_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(env: BuildEnvironment) -> Iterator[Problem]:
        yield Problem("a fault of all")
        yield from (Problem("a fault of one", page) for page in env.found_docs)

    monkeypatch.setattr(lint, "CHECKS", (check,))
    (tmp_path / "index.rst").write_text("Start\n=====\n")
    found = io.StringIO()
    with docutils_namespace():
        app = Sphinx(
            tmp_path, None, tmp_path / "out", tmp_path / "trees", "dummy",
            {"extensions": ["lint"]}, status=None, warning=found,
            warningiserror=True, keep_going=True,
        )  # fmt: skip
        app.build()
    assert app.statuscode == 1
    assert "WARNING: a fault of all" in found.getvalue()
    assert "index.rst: WARNING: a fault of one" in found.getvalue()
