"""Check that citations come from the bibliography, and that every entry is cited."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from sphinx.environment import BuildEnvironment
from sphinxcontrib.bibtex.domain import BibtexDomain

from lint.problem import Problem

TYPED = re.compile(r"(\w+ et al\.|[A-Z]\w+ (?:and|&) [A-Z]\w+),?\s+\(?((?:19|20)\d\d)")


def check(env: BuildEnvironment) -> Iterator[Problem]:
    """Yield citations typed as text, and entries that no page cites."""
    for page in sorted(env.found_docs):
        text = Path(env.doc2path(page)).read_text(encoding="utf-8")
        for credit in sorted(typed(text)):
            yield Problem(f"«{credit}» is typed; cite it by its key", page)
    bibtex = cast(BibtexDomain, env.get_domain("cite"))
    cited = {each.key for credit in bibtex.citation_refs for each in credit.targets}
    for key in bibtex.bibdata.data.entries:
        if key not in cited:
            yield Problem(f"no page cites the source {key}")


def typed(text: str) -> set[str]:
    """Return the citations typed as text, in the form of the bibliography."""
    credits = (f"{who} {year}" for who, year in TYPED.findall(" ".join(text.split())))
    return {credit.replace("&", "and") for credit in credits}
