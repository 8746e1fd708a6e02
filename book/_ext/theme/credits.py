"""Cite sources by author and year, «Ba et al. 2016», in the text and in the list.

The author-year style of sphinxcontrib-bibtex has square brackets and a comma in the
text, and labels such as «BKH16» in the list.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import cast

from pybtex.database import Entry
from pybtex.plugin import register_plugin as register_for_pybtex
from pybtex.style.formatting.alpha import Style as Alphabetical
from pybtex.style.labels import BaseLabelStyle
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinxcontrib.bibtex.domain import BibtexDomain
from sphinxcontrib.bibtex.plugin import register_plugin
from sphinxcontrib.bibtex.style.referencing import BracketStyle, PersonStyle
from sphinxcontrib.bibtex.style.referencing.author_year import AuthorYearReferenceStyle

round_brackets = partial(BracketStyle, left="(", right=")")


@dataclass
class Credit(AuthorYearReferenceStyle):
    """The citation style: «Ba et al. (2016)», or «(Ba et al. 2016)»."""

    bracket_textual: BracketStyle = field(default_factory=round_brackets)
    bracket_parenthetical: BracketStyle = field(default_factory=round_brackets)
    person: PersonStyle = field(default_factory=lambda: PersonStyle(other=" et al."))
    author_year_sep: str = " "


class Label(BaseLabelStyle):  # type: ignore[misc]
    """The bibliography's label style: the same."""

    def format_labels(self, sorted_entries: Sequence[Entry]) -> Iterator[str]:
        """Return the entries' labels."""
        return map(label, sorted_entries)


class Bibliography(Alphabetical):  # type: ignore[misc]
    """The bibliography's style, with those labels."""

    default_label_style = Label


def label(entry: Entry) -> str:
    """Return an entry's authors and year."""
    people = entry.persons["author"]
    names = [" ".join(person.prelast_names + person.last_names) for person in people]
    who = f"{names[0]} et al." if len(names) > 2 else " and ".join(names)
    return f"{who} {entry.fields['year']}"


def bibliographies(
    app: Sphinx, env: BuildEnvironment, *changes: set[str]
) -> Iterator[str]:
    """Return the bibliography's pages as outdated when any page changes."""
    if any(changes):
        for key in cast(BibtexDomain, env.get_domain("cite")).bibliographies:
            yield key.docname


def register(app: Sphinx) -> None:
    """Register the styles as ``credit``."""
    register_plugin("sphinxcontrib.bibtex.style.referencing", "credit", Credit)
    register_for_pybtex("pybtex.style.formatting", "credit", Bibliography)
    app.setup_extension("sphinxcontrib.bibtex")
