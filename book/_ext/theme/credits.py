"""Credit sources by author and year, «Ba et al. 2016», and list them under that name.

sphinxcontrib-bibtex does the work; its own author-year style has square brackets and a
comma, and its lists have labels such as «BKH16», which no sentence of the book uses.
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
    """How a sentence names a source: «Ba et al. (2016)», or «(Ba et al. 2016)»."""

    bracket_textual: BracketStyle = field(default_factory=round_brackets)
    bracket_parenthetical: BracketStyle = field(default_factory=round_brackets)
    person: PersonStyle = field(default_factory=lambda: PersonStyle(other=" et al."))
    author_year_sep: str = " "


class Label(BaseLabelStyle):  # type: ignore[misc]
    """How the list names a source: as the sentences do."""

    def format_labels(self, sorted_entries: Sequence[Entry]) -> Iterator[str]:
        """Return the label of every entry."""
        return map(label, sorted_entries)


class Bibliography(Alphabetical):  # type: ignore[misc]
    """How the list shows a source."""

    default_label_style = Label


def label(entry: Entry) -> str:
    """Name a source by its authors and its year."""
    people = entry.persons["author"]
    names = [" ".join(person.prelast_names + person.last_names) for person in people]
    who = f"{names[0]} et al." if len(names) > 2 else " and ".join(names)
    return f"{who} {entry.fields['year']}"


def bibliographies(
    app: Sphinx, env: BuildEnvironment, *changes: set[str]
) -> Iterator[str]:
    """Name the pages to read again when any page may have cited something new."""
    if any(changes):
        for key in cast(BibtexDomain, env.get_domain("cite")).bibliographies:
            yield key.docname


def register(app: Sphinx) -> None:
    """Register the styles under the names that the settings use."""
    register_plugin("sphinxcontrib.bibtex.style.referencing", "credit", Credit)
    register_for_pybtex("pybtex.style.formatting", "credit", Bibliography)
    app.setup_extension("sphinxcontrib.bibtex")
