"""Check the book after reading; each check is ``check(env) -> Iterator[Problem]``."""

from typing import Any

from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging

from lint import carried, citations, completeness, glossary, numbers, provenance

logger = logging.getLogger(__name__)

CHECKS = (
    completeness.check,
    provenance.check,
    numbers.check,
    glossary.check,
    carried.check,
    citations.check,
)


def report(app: Sphinx, env: BuildEnvironment) -> None:
    """Warn of every problem; a warning fails the build."""
    for check in CHECKS:
        for problem in check(env):
            logger.warning(problem.text, location=problem.page, type="lint")


def setup(app: Sphinx) -> dict[str, Any]:
    """Run the checks after reading."""
    app.connect("env-check-consistency", report)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
