"""Check that every page ran on this build's library and model."""

from collections.abc import Iterator, Mapping

from sphinx.environment import BuildEnvironment

from execution.provenance import ran_on
from lint.problem import Problem


def check(env: BuildEnvironment) -> Iterator[Problem]:
    """Yield how each page's run differs from this build."""
    for page in sorted(env.found_docs):
        for text in differences(ran_on(env, page), env.config.provenance):
            yield Problem(text, page)


def differences(ran: Mapping[str, str], known: Mapping[str, str]) -> Iterator[str]:
    """Yield the differences; ``ran`` is empty for a page without cells."""
    for name in known:
        if ran and ran.get(name) != known[name]:
            yield (
                f"the page ran on {name} {ran.get(name)}, this build has "
                f"{known[name]}; `make clean` forgets old runs"
            )
