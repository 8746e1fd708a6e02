"""The audit of the built pages finds every defect that is planted in one."""

import subprocess
import sys
from pathlib import Path

import pytest

from paths import REPOSITORY
from tools import audit

SOURCE = Path(audit.__file__).relative_to(REPOSITORY).as_posix()
LISTING = (
    '<div class="listing"><span class="caption-text"><code>{path}</code>, '
    'lines 1–1</span><pre><span class="linenos">1</span>{line}</pre></div>'
)
FIRST_LINE = Path(audit.__file__).read_text("utf-8").splitlines()[0]
PAGE = f"""<html><head>
<link rel="stylesheet" href="style.css"><link rel="next" href="https://x.example/">
</head><body><article class="bd-article" id="top">
{LISTING.format(path=SOURCE, line=FIRST_LINE)}
<figure><img src="p.png" alt="A line that rises from left to right.">
<figcaption><span class="caption-text">It rises all the way.</span></figcaption>
</figure>
<div class="cell_output"><div><pre>a token</pre><figure>
<svg role="img" aria-label="Three bars, the first one longest."><g><path d="M0 0"/>
<image href="data:image/png;base64,AA=="/><text>a bar</text></g></svg>
<figcaption><span class="caption-text">One is longer.</span></figcaption></figure>
</div></div>
<a href="#top">up</a> <a href="other.html#there">over</a>
<a href="https://example.org/elsewhere">away</a>
</article><p class="provenance">pocket</p></body></html>"""
OTHER = """<article class="bd-article"><p id="there">Here.</p></article>
<p class="provenance">pocket</p>"""


@pytest.fixture
def html(tmp_path: Path) -> Path:
    book = tmp_path / "html" / "book"
    (book / "folder").mkdir(parents=True)
    (tmp_path / "README.md").touch()  # which the site does not hold
    (book / "page.html").write_text(PAGE)
    (book / "other.html").write_text(OTHER)
    for name in ("style.css", "p.png"):
        (book / name).touch()
    return tmp_path / "html"


def test_a_sound_page_passes(html: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert audit.main(html) == 0
    assert capsys.readouterr().out == "2 pages keep what they promise.\n"


@pytest.mark.parametrize(
    ("right", "wrong", "fault"),
    [
        (FIRST_LINE, FIRST_LINE.upper(), "is not what the file says"),
        ("A line that rises from left to right.", "", "no alt text"),
        ("A line that rises from left to right.", "../_images/p.png", "no alt text"),
        ("It rises all the way.", "", "has no caption"),
        ("Three bars, the first one longest.", "", "drawn by a cell has no alt text"),
        ("One is longer.", "", "drawn by a cell has no caption"),
        ("<text>", "<foreignObject>", "an output of markup: <foreignobject>"),
        ("<text>", "<animate/><text>", "it holds a <animate> in the text"),
        ("image/png", "image/svg+xml", "could run: 'data:image/svg+xml"),
        (
            'href="#top"',
            'href="data:image/png;base64,AA"',
            "could run: 'data:image/png",
        ),
        ("<figure>", "</figure>", "has no caption"),
        ('href="style.css"', 'href="https://cdn.example/s.css"', "it fetches https:"),
        ('src="p.png"', 'src="//cdn.example/p.png"', "it fetches //cdn"),
        ("</body>", '<script src="http://cdn.example/x.js"></script>', "it fetches"),
        ("other.html#there", "../../README.md", "leads nowhere: ../../README.md"),
        ("other.html#there", "folder/", "leads nowhere: folder/"),
        ("</head>", "<style>@import '//cdn.example/x'</style>", "it fetches //cdn"),
        ("<p ", "<p style='background: url(http://x.example)' ", "it fetches http:"),
        ("other.html#there", "nowhere.html", "leads nowhere: nowhere.html"),
        ("other.html#there", "other.html#gone", "anchor is not on its page"),
        ("#top", "#gone", "anchor is not on its page"),
        ("#top", "/book/gone.html", "leads nowhere: /book/gone.html"),
        ("#top", "/repository/book/page.html", "leads nowhere: /repository/"),
        ("up</a>", "<script>alert(1)</script></a>", "it holds a <script>"),
        ('href="#top"', 'href="JavaScript:alert(1)"', "could run: 'JavaScript:alert"),
        ('href="#top"', 'href=" java\nscript:alert(1)"', "could run: 'javascript:a"),
        ('href="#top"', 'href="data:text/html,x"', "could run: 'data:text/html"),
        ('href="#top"', 'xlink:href="vbscript:x"', "could run: 'vbscript:x'"),
        ("up</a>", "<button formaction='javascript:x'>", "could run: 'javascript:x'"),
        ("up</a>", "<p srcdoc='x'></p></a>", "it holds a handler: <p srcdoc"),
        ("up</a>", "<b onx=''>up</b></a>", "it holds a handler in the text: <b onx>"),
        ("up</a>", "<b onclick='window.print()'></b>", "handler in the text: <b oncl"),
        ("</body>", "<b onclick='alert(1)'>up</b>", "it holds a handler: <b onclick"),
        ("</head>", "<script>alert(1)</script>", "page.html: it holds a script of its"),
        ("up</a>", "<style>*{}</style></a>", "it holds a <style> in the text"),
        ("up</a>", "<form></form></a>", "it holds a <form> in the text"),
        ("up</a>", "<meta charset='x'></a>", "it holds a <meta> in the text"),
        ("a token", "a \x1b[2Jtoken", r"it holds the character '\x1b', which acts"),
        ("a token", "a \u202etoken", r"it holds the character '\u202e', which acts"),
        ("It rises", "It\u2066 rises", r"it holds the character '\u2066', which acts"),
        ("from left", "\u200f from left", r"it holds the character '\u200f', which"),
        ("up</a>", "Traceback (most recent call last)</a>", "it shows a traceback"),
        ('class="provenance"', "", "does not say what it ran on"),
        (FIRST_LINE, FIRST_LINE + "<b>bold</b>", "it holds markup in code or output"),
        ("token</pre>", "token</pre><b>token</b>", "an output of markup: <b>token</b>"),
        (">pocket<", ">gpt2<", "page.html: it did not run with the others' model"),
        ('class="bd-article"', "", "it has no article"),
        pytest.param(
            "a token", "a token" * 50_000, "; most are in its code (3", id="heavy"
        ),
    ],
)
def test_a_planted_defect_is_found(
    html: Path,
    right: str,
    wrong: str,
    fault: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert right in PAGE
    (html / "book" / "page.html").write_text(PAGE.replace(right, wrong))
    assert audit.main(html) >= 1
    assert fault in capsys.readouterr().out


def test_the_numbers_of_lines_are_part_of_the_page(html: Path) -> None:
    page = html / "book" / "page.html"
    number = '<span class="linenos"{}>1</span>'
    assert number.format("") in PAGE
    page.write_text(
        PAGE.replace(number.format(""), number.format(' id="line-1"')).replace(
            "#top", "#line-1"
        )
    )
    assert audit.main(html) == 0
    page.write_text(page.read_text().replace(">1<", "><a href='gone.html'>1</a><"))
    assert audit.main(html) == 1


@pytest.mark.slow
def test_the_program_fails_where_a_page_does(html: Path) -> None:
    command = [sys.executable, "-m", "tools.audit", html]
    assert subprocess.run(command, cwd=REPOSITORY, check=False).returncode == 0
    (html / "book" / "style.css").unlink()
    assert subprocess.run(command, cwd=REPOSITORY, check=False).returncode == 1


def test_what_the_theme_puts_into_every_page_is_no_fault(html: Path) -> None:
    theme = """<button onclick="window.print()"></button><script>let x = 1</script>
    <script>DOCUMENTATION_OPTIONS.pagename = 'book/01-weights';</script></body>"""
    for page in (html / "book").glob("*.html"):
        page.write_text(page.read_text() + theme)
    (html / "search.html").write_text(
        '<script>search()</script><p class="provenance">pocket</p>'
    )
    assert audit.main(html) == 0


@pytest.mark.parametrize("root", ["/", "/repository/"])
def test_links_from_the_root_of_the_site(html: Path, root: str) -> None:
    (html / "_static").mkdir()
    (html / "_static" / "x.css").touch()
    missing = (
        f'<link href="{root}_static/x.css"><a href="{root}book/page.html#top"></a>'
        '<p class="provenance">pocket</p>'
    )
    (html / "404.html").write_text(missing)
    assert audit.main(html) == 0
    (html / "404.html").write_text(missing.replace("page.html", "gone.html"))
    assert audit.main(html) == 1


def test_a_style_sheet_that_fetches_is_named(
    html: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (html / "book" / "style.css").write_text("p { background: url( '//x.example/a' ) }")
    assert audit.main(html) == 1
    assert capsys.readouterr().out == "book/style.css: it fetches //x.example/a\n"


def test_the_weight_of_a_page_is_its_own(
    html: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A picture counts for the only page that shows it; what two share, for none."""
    (html / "book" / "style.css").write_text("/* shared or not, a page needs it */")
    (html / "book" / "p.png").write_bytes(bytes(300_000 - len(PAGE.encode()) - 36))
    assert audit.main(html) == 0
    with (html / "book" / "p.png").open("ab") as picture:
        picture.write(b"x")
    assert audit.main(html) == 1
    assert "page.html: it has 300,001 bytes of its own" in capsys.readouterr().out
    other = html / "book" / "other.html"
    other.write_text(f'{OTHER}<link rel="stylesheet" href="style.css?v=1">')
    assert audit.main(html) == 0


def test_no_pages_are_no_success(tmp_path: Path) -> None:
    assert audit.main(tmp_path) == 1
