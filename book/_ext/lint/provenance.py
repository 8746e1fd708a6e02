"""Refuse a page that ran on another library or model than this build has."""

from collections.abc import Iterator, Mapping

from sphinx.environment import BuildEnvironment

from execution.provenance import ran_on
from lint.problem import Problem


def check(env: BuildEnvironment) -> Iterator[Problem]:
    """Yield in what the run of each page differs from this build."""
    for page in sorted(env.found_docs):
        for text in differences(ran_on(env, page), env.config.provenance):
            yield Problem(text, page)


def differences(ran: Mapping[str, str], known: Mapping[str, str]) -> Iterator[str]:
    """Say in what a page's run differs; ``ran`` is empty for one without cells."""
    for name in known:
        if ran and ran.get(name) != known[name]:
            yield (
                f"the page ran on {name} {ran.get(name)}, this build has "
                f"{known[name]}; `make clean` forgets old runs"
            )
