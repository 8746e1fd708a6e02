"""What pages are spared does not show: the code is told apart where it was before."""

import pytest
from bs4 import BeautifulSoup
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name
from pygments.styles import get_style_by_name
from pygments.token import STANDARD_TYPES

from paths import LIBRARY
from theme import slimming

STYLES = ("a11y-high-contrast-light", "a11y-high-contrast-dark")
CLASSES = {name: kind for kind, name in STANDARD_TYPES.items()}
SESSION = ">>> 1 + x  # a sum\n3\n"


def marked(code: str, language: str, lean_one: bool) -> str:
    options = {"alike": slimming.seen_alike(STYLES)}
    formatter = slimming.LeanFormatter(**options) if lean_one else HtmlFormatter()
    return highlight(code, get_lexer_by_name(language), formatter)


def looks(page: str, style: str) -> list[tuple[str, str]]:
    """Say of every character that can be seen how it is set."""
    found = []
    for text in BeautifulSoup(page, "html.parser").pre.find_all(string=True):
        kind = CLASSES[" ".join(text.parent.get("class", []))]
        kind = kind if kind else STANDARD_TYPES
        look = str(get_style_by_name(style).style_for_token(kind))
        found += [(character, look) for character in text if not character.isspace()]
    return found


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("name", ["generation", "tokenizer"])
def test_code_looks_the_same(name: str, style: str) -> None:
    code = (LIBRARY / f"{name}.py").read_text("utf-8")
    plain, spared = (marked(code, "python", lean_one) for lean_one in (False, True))
    text = get_style_by_name(style).style_for_token(CLASSES["w"])
    assert str(text) == str(get_style_by_name(style).style_for_token(CLASSES["n"]))
    as_text = {str(get_style_by_name(style).style_for_token(CLASSES[""])): str(text)}
    assert [(c, as_text.get(look, look)) for c, look in looks(spared, style)] == [
        (c, as_text.get(look, look)) for c, look in looks(plain, style)
    ]
    assert len(spared) < 0.7 * len(plain)


def test_a_prompt_stays_a_prompt() -> None:
    page = marked(SESSION, "pycon", lean_one=True)
    assert '<span class="gp">&gt;&gt;&gt; </span>' in page
    assert '<span class="go">3</span>' in page


@pytest.mark.parametrize(
    ("word", "bare"),
    [
        ("model.GPT2", True),
        ("(", True),
        ("--model", False),
        ("a/b", False),
        ("&lt;", False),
    ],
)
def test_only_what_cannot_break_is_unwrapped(word: str, bare: bool) -> None:
    wrapped = f'<code><span class="pre">{word}</span></code>'
    context = {"body": wrapped, "title": wrapped}
    slimming.tidy(None, "page", "page.html", context, None)
    assert context["body"] == (f"<code>{word}</code>" if bare else wrapped)
    assert context["title"] == wrapped


def test_a_link_has_only_its_text() -> None:
    link = '<a href="a.html#hardway.f"{}>{}</a><a title="A page" href="b.html">{}</a>'
    span = '<span class="std std-ref">{}</span>'
    nested = span.format("<em>a section</em>")
    context = {
        "body": link.format(' title="hardway.f"', span.format("Listing 1.9"), nested)
    }
    slimming.tidy(None, "page", "page.html", context, None)
    assert context["body"] == link.format("", "Listing 1.9", nested)


def test_a_signature_keeps_only_the_marks_that_are_seen() -> None:
    marked = (
        '<dt class="sig py" id="f"><span class="sig-name">f</span><em><span class="n">x'
        '<span class="p">[</span><span class="w"> </span></span>'
        '<span class="o">=</span></em></dt><pre><span class="p">[</span></pre>'
    )
    context = {"body": marked}
    slimming.tidy(None, "page", "page.html", context, None)
    assert context["body"] == (
        '<dt class="sig py" id="f"><span class="sig-name">f</span><em>x[ '
        '<span class="o">=</span></em></dt><pre><span class="p">[</span></pre>'
    )
