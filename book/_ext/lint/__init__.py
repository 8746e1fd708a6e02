"""Check the book when every page has been read; each problem fails the build.

A check takes the environment and yields problems: ``check(env) -> Iterator[Problem]``.
"""

from typing import Any

from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging

from lint import carried, citations, coverage, glossary, numbers, provenance

logger = logging.getLogger(__name__)

CHECKS = (
    coverage.check,
    provenance.check,
    numbers.check,
    glossary.check,
    carried.check,
    citations.check,
)


def report(app: Sphinx, env: BuildEnvironment) -> None:
    """Warn of everything that a check finds."""
    for check in CHECKS:
        for problem in check(env):
            logger.warning(problem.text, location=problem.page, type="lint")


def setup(app: Sphinx) -> dict[str, Any]:
    """Check at the end of reading."""
    app.connect("env-check-consistency", report)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
