"""One setting says where the book is published; every address follows from it."""

from types import SimpleNamespace

import pytest

from theme import publishing

HERE = {"GITHUB_SERVER_URL": "https://github.com", "GITHUB_REPOSITORY": "A/book"}


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in HERE:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("repository", "address"),
    [
        ("", ""),
        ("https://github.com/Some/book", "https://some.github.io/book/"),
        ("https://github.com/some/Some.github.io", "https://some.github.io/"),
        ("https://gitlab.com/some/book", ""),
    ],
)
def test_where_the_pages_are(repository: str, address: str) -> None:
    assert publishing.pages_address(repository) == address


def test_no_repository_no_buttons_no_card() -> None:
    config = SimpleNamespace(html_theme_options={"repository_url": ""}, html_baseurl="")
    publishing.configure(None, config)
    assert not any(config.html_theme_options.values())
    assert config.html_baseurl == config.ogp_site_url == ""
    assert config.notfound_urls_prefix == "/"
    assert 'href="/search.html"' in config.notfound_context["body"]
    assert card_left_out(config)


def card_left_out(config: SimpleNamespace) -> bool:
    context: dict[str, object] = {}
    publishing.leave_out_card(SimpleNamespace(config=config), "", "", context)
    return "meta" in context


def test_a_build_on_github_knows_its_repository(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in HERE.items():
        monkeypatch.setenv(name, value)
    config = SimpleNamespace(html_theme_options={}, html_baseurl="")
    publishing.configure(None, config)
    assert config.html_theme_options["repository_url"] == "https://github.com/A/book"
    assert config.html_theme_options["use_edit_page_button"] is True
    assert config.html_baseurl == config.ogp_site_url == "https://a.github.io/book/"
    assert config.files_address == "https://github.com/A/book/blob/main"
    assert config.notfound_urls_prefix == "/book/"
    assert 'href="/book/search.html"' in config.notfound_context["body"]
    assert not card_left_out(config)


def test_the_setting_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in HERE.items():
        monkeypatch.setenv(name, value)
    options = {"repository_url": "https://github.com/B/other/"}
    config = SimpleNamespace(html_theme_options=options, html_baseurl="https://b.org/x")
    publishing.configure(None, config)
    assert options["repository_url"] == "https://github.com/B/other"
    assert config.html_baseurl == "https://b.org/x/"
    assert config.notfound_urls_prefix == "/x/"


def test_where_the_files_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GITHUB_SHA", raising=False)
    options = {"repository_branch": "trunk"}
    config = SimpleNamespace(html_theme_options=options, repository="")
    assert publishing.files_address(config) == ""
    config.repository = "https://github.com/B/other"
    assert publishing.files_address(config) == "https://github.com/B/other/blob/trunk"
    monkeypatch.setenv("GITHUB_SHA", "abc123")  # its lines stay where they are
    assert publishing.files_address(config) == "https://github.com/B/other/blob/abc123"
