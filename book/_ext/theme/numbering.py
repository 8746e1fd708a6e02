"""Number figures, listings, exercises and equations by chapter: «Figure 4.1».

A chapter's number is the one in its title, «4 · Attention». The other pages below the
first one are appendices and get letters in their order, which Sphinx shows as it shows
section numbers: «C · Guards».
"""

import re
from string import ascii_uppercase
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.builders import Builder
from sphinx.config import Config
from sphinx.domains.std import StandardDomain
from sphinx.environment import BuildEnvironment
from sphinx.transforms.post_transforms import SphinxPostTransform

IN_TITLE = re.compile(r"(\d+) · ")
FORMATS = {"figure": "Figure %s", "code-block": "Listing %s"}


class ListingNumber(SphinxPostTransform):
    """Write a listing's number into the links that ask for it by its ``numbered``."""

    default_priority = 5  # before Sphinx resolves them

    def run(self, **settings: Any) -> None:
        """Replace the text of each such link."""
        std = self.env.get_domain("std")
        assert isinstance(std, StandardDomain)
        for link in self.document.findall(addnodes.pending_xref):
            page, anchor = std.anonlabels.get(link.get("numbered"), ("", ""))
            numbers = self.env.toc_fignumbers.get(page, {}).get("code-block", {})
            if anchor in numbers:
                text = FORMATS["code-block"] % ".".join(map(str, numbers[anchor]))
                link[0].replace_self(nodes.inline("", text))


def configure(app: Sphinx, config: Config) -> None:
    """Set the words and signs around the numbers."""
    config.numfig_format = FORMATS | config.numfig_format
    config.html_secnumber_suffix = " · "


def letter_appendices(app: Sphinx, env: BuildEnvironment) -> set[str]:
    """Give each appendix its letter; return all pages if another has it than before."""
    pages = env.toctree_includes.get(env.config.root_doc, [])
    appendices = [page for page in pages if not IN_TITLE.match(title(env, page))]
    letters = dict(zip(appendices, ascii_uppercase, strict=False))
    for page, letter in letters.items():
        links = list(env.tocs[page].findall(nodes.reference))
        sections: dict[str, Any] = {link["anchorname"]: () for link in links}
        env.toc_secnumbers[page] = sections | {"": (letter,)}
        for heading in (env.titles[page], links[0]):
            heading["secnumber"] = (letter,)
    before = vars(env).get("letters")
    vars(env)["letters"] = letters
    return set() if before == letters else set(env.found_docs)


def title(env: BuildEnvironment, page: str) -> str:
    """Return a page's title, without its letter."""
    return str(env.titles[page].astext())


def chapter(env: BuildEnvironment, page: str) -> tuple[str, ...]:
    """Return the number or letter of a page; () for one that has none."""
    number = IN_TITLE.match(title(env, page))
    return (number[1],) if number else env.titles[page].get("secnumber", ())


def number_by_chapter(app: Sphinx, builder: Builder) -> None:
    """Replace Sphinx's numbers, which run through the book, before pages are written.

    Sphinx has saved its own by then, to tell in the next build which pages change.
    """
    env = builder.env
    for page, kinds in env.toc_fignumbers.items():
        for numbers in kinds.values():
            by_chapter: dict[str, Any] = {
                anchor: (*chapter(env, page), number)
                for number, anchor in enumerate(numbers, 1)
            }
            numbers.update(by_chapter)
