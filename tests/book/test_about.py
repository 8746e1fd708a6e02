"""A page says what it is about and how long it takes; its old address leads to it."""

from types import SimpleNamespace

import pytest
from docutils import nodes
from docutils.core import publish_doctree
from sphinx.errors import ConfigError

from theme import about, redirects

PAGE = """
Title
=====

.. note:: A note comes first.

What a *page* is
about.

It says so.

Part
----

{words}

===== =====
a     table
===== =====
"""


def document(words: str = "") -> nodes.document:
    """A page in a section, as the builder passes it on."""
    settings = {"doctitle_xform": False, "report_level": 5}
    return publish_doctree(PAGE.format(words=words), settings_overrides=settings)


def test_the_description_is_the_first_paragraph_or_the_page_s_own() -> None:
    assert about.description(document()) == "What a page is about. It says so."
    assert about.description(document(), "Mine.") == "Mine."
    assert about.description(publish_doctree("")) == ""
    long = about.description(document(), "word " * 100)
    assert len(long) <= about.LONGEST
    assert long.endswith("word …")


def test_the_description_is_escaped_in_the_head_and_on_the_card() -> None:
    context = {"metatags": "<meta>", "meta": {"description": 'A "1" < 2'}}
    about.describe(None, "page", "page.html", context, document())
    assert context["metatags"] == (
        '<meta><meta name="description" content="A &quot;1&quot; &lt; 2" />\n'
    )
    assert context["meta"]["og:description"] == 'A "1" < 2'
    about.describe(None, "search", "search.html", empty := {}, None)
    assert empty == {}


@pytest.mark.parametrize(
    ("words", "lines", "said"),
    [
        (0, 0, ""),
        (200, 0, "1 minute of prose"),
        (500, 3, "3 minutes of prose, 3 lines of code"),
    ],
)
def test_the_reading_time_counts_code_apart(words: int, lines: int, said: str) -> None:
    page = document("word " * words)
    code = "\n".join(["x = 1"] * lines)
    page += nodes.literal_block(code, code, language="ipython3" if code else "none")
    page += nodes.literal_block("printed", "printed", language="none")
    assert about.time(page) == said


def test_the_reading_time_stands_below_the_title_but_not_on_the_first_page() -> None:
    app = SimpleNamespace(config=SimpleNamespace(root_doc="index"))
    beginning = about.description(document("word " * 400))
    for name, stated in (("index", False), ("page", True)):
        page = document("word " * 400)
        about.state_time(app, page, name)
        below = page.next_node(nodes.title).next_node(nodes.paragraph, siblings=True)
        assert ("reading-time" in below["classes"]) == stated
        assert about.description(page) == beginning


def site(old: str, new: str) -> SimpleNamespace:
    env = SimpleNamespace(
        found_docs={"book/new"}, titles={"book/new": nodes.title("", "New")}
    )
    builder = SimpleNamespace(get_relative_uri=lambda here, there: f"{there}.html")
    return SimpleNamespace(
        env=env, builder=builder, config=SimpleNamespace(redirects={old: new})
    )


def test_an_old_address_leads_to_the_page_that_took_its_place() -> None:
    (found,) = redirects.pages(site("book/old", "book/new#part"))
    address = {"title": "New", "address": "book/new.html#part"}
    assert found == ("book/old", address, "redirect.html")


@pytest.mark.parametrize(
    ("old", "new"), [("book/new", "book/new"), ("book/old", "book/gone")]
)
def test_a_redirect_replaces_no_page_and_ends_at_one(old: str, new: str) -> None:
    with pytest.raises(ConfigError, match=f"{old} must be gone, and {new} a page"):
        list(redirects.pages(site(old, new)))
