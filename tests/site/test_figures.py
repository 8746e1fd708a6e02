"""The living figures, driven by pointer and keyboard, served and opened as a file."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, expect, sync_playwright

import browser as chromium
import figures_page
import site_checks
from theme import browser as figures

pytestmark = pytest.mark.browser

FIGURES = list(figures.defaults())
SOON = 2_000  # milliseconds
CONTROLS = ".controls :is(input, button), .heads button, td[data-at], .token, .chip"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        launched = chromium.launch(playwright)
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("figures")
    figures_page.write(folder)
    return folder


@pytest.fixture(scope="module", params=["served", "file"])
def home(folder: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "file":
        yield f"{folder.as_uri()}/"
    else:
        with chromium.serving(folder) as address:
            yield address


@pytest.fixture(scope="module")
def served(folder: Path) -> Iterator[str]:
    with chromium.serving(folder) as address:
        yield address


@contextmanager
def opened(
    browser: Browser, home: str, name: str, link: str = "", **settings: Any
) -> Iterator[Locator]:
    """Open a figure for a new reader; at the end, nothing may have gone wrong."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, **settings)
    page = context.new_page()
    page.set_default_timeout(10_000)
    faults = site_checks.watch(page, home)
    page.goto(f"{home}index.html{link}")
    figure = page.locator(f'[data-figure="{name}"]')
    if settings.get("java_script_enabled", True):
        expect(figure.locator(".said")).to_have_text(re.compile("^(?!Loading)."))
    yield figure
    context.close()
    assert faults == []


def said(figure: Locator) -> Locator:
    return figure.locator(".said")


def table(figure: Locator) -> list[list[str]]:
    """Return the texts of the figure's first table, its heading first."""
    rows = figure.locator("table").first.locator("tr")
    return rows.evaluate_all(
        "rows => rows.map((row) => [...row.children].map((it) => it.textContent))"
    )


def use(control: Locator) -> None:
    """Do with a control what it is for, by keyboard."""
    control.focus()
    match control.get_attribute("type"):
        case "text":
            control.fill("A frog and 3 princes")
            control.press("Enter")
        case "range":
            at_end = control.input_value() == control.get_attribute("max")
            control.press("ArrowLeft" if at_end else "ArrowRight")
        case "number":
            control.fill("5")
            control.press("Enter")
        case "checkbox" | "radio":
            control.press(" ")
        case _:
            control.press("Enter")


@pytest.mark.parametrize("name", FIGURES)
def test_every_control_changes_the_text(browser: Browser, home: str, name: str) -> None:
    with opened(browser, home, name) as figure:
        controls = figure.locator(".controls :is(input, button):not([type=submit])")
        for i in range(controls.count()):
            control = controls.nth(i)
            is_form = control.evaluate("it => it.matches('form button')")
            if (
                is_form
                or control.is_disabled()
                or (control.get_attribute("type") == "radio" and control.is_checked())
            ):
                continue
            before = figure.inner_text()
            use(control)
            expect(figure).not_to_have_text(before, timeout=SOON)
            figure.page.wait_for_function(
                "([it, before]) => it.innerText !== before",
                arg=[figure.element_handle(), before],
                timeout=SOON,
            )
            expect(said(figure)).not_to_contain_text("didn't work")


@pytest.mark.parametrize("name", FIGURES)
def test_what_is_shown_at_first_needs_no_model(
    browser: Browser, folder: Path, name: str
) -> None:
    with chromium.serving(folder) as home:
        context = browser.new_context()
        page = context.new_page()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{home}index.html")
        expect(page.locator(f'[data-figure="{name}"] .said')).not_to_be_empty()
        page.wait_for_load_state("networkidle")
        context.close()
    assert [url for url in asked if url.endswith(".bin")] == []


@pytest.mark.parametrize("name", FIGURES)
def test_on_paper_and_without_scripts_the_page_s_own_content_stays(
    browser: Browser, folder: Path, name: str
) -> None:
    page = folder / "index.html"
    still = folder / "still.html"
    old = f'<div data-figure="{name}"></div>'
    new = f'<div data-figure="{name}"><b>still</b></div>'
    still.write_text(page.read_text("utf-8").replace(old, new), "utf-8")
    for scripts in (False, True):
        context = browser.new_context(java_script_enabled=scripts)
        opened_page = context.new_page()
        opened_page.goto(still.as_uri())
        expect(opened_page.get_by_text("still")).to_be_visible(visible=not scripts)
        opened_page.emulate_media(media="print")
        expect(opened_page.get_by_text("still")).to_be_visible()
        expect(opened_page.locator("button:visible")).to_have_count(0)
        context.close()


LINKS = {
    "generate": 'text=The+king&tokens=3&overruled={"1":3656}',
    "sampling": "temperature=0",
    "attention": "layer=3&head=1&stage=scores",
    "tokenizer": "text=frogs",
    "kv-cache": "steps=2",
    "logit-lens": "text=The+frog",
    "miniature": "text=Three+frogs",
    "scheduler": "events=sl..",
}


@pytest.mark.parametrize("name", FIGURES)
def test_a_link_leads_to_the_same_state(browser: Browser, home: str, name: str) -> None:
    with opened(browser, home, name) as figure:
        usual, view = said(figure).inner_text(), figure.locator(".view")
        link = figure.locator(".permalink")
        assert link.get_attribute("href") == f"#{name}?"
        figure.page.evaluate("hash => location.hash = hash", f"{name}?{LINKS[name]}")
        expect(said(figure)).not_to_have_text(
            re.compile(f"^{re.escape(usual)}|Loading")
        )
        shown, address = view.text_content(), link.get_attribute("href")
    with opened(browser, home, name, address) as figure:
        expect(said(figure)).not_to_have_text(
            re.compile(f"^{re.escape(usual)}|Loading")
        )
        assert figure.locator(".permalink").get_attribute("href") == address
        found = figure.locator(".view").text_content()
        measured = re.compile(r"[\d.]+ ms")
        assert measured.sub("", found) == measured.sub("", shown)


@pytest.mark.parametrize(
    "query", ["text=%F0", "layer=x&head=[]", "nothing=1", "layer=null"]
)
def test_a_bad_link_changes_nothing(browser: Browser, served: str, query: str) -> None:
    with opened(browser, served, "attention", f"#attention?{query}") as figure:
        expect(figure.locator("table")).to_be_visible()


def test_the_attention_is_the_library_s(browser: Browser, served: str) -> None:
    with opened(browser, served, "attention") as figure:
        (_, _, answer), *_ = figures.recordings()["attention"]
        pieces = answer["pieces"]
        shown = table(figure)
        assert [row[0] for row in shown[1:]] == pieces == shown[0][1:]
        for t, row in enumerate(shown[1:]):
            numbers = [float(text) for text in row[1:]]
            assert sum(numbers) == pytest.approx(1, abs=0.05)
            assert numbers[t + 1 :] == [0] * (len(pieces) - t - 1)
        figure.get_by_label("q · k").check()
        raw = [float(text) for row in table(figure)[1:] for text in row[1:]]
        assert raw == pytest.approx(answer["scores"][5][2], abs=0.06)
        figure.get_by_label("masked").check()
        assert table(figure)[1][2:] == ["−∞"] * (len(pieces) - 1)


def test_the_causal_mask_hides_what_comes(browser: Browser, served: str) -> None:
    with opened(browser, served, "attention") as figure:
        n = len(table(figure)) - 1
        assert figure.locator("td.unseen").count() == n * (n - 1) // 2
        assert figure.locator(".word.hidden").count() == n - n // 2 - 1
        figure.get_by_label("Causal mask").uncheck()
        expect(figure.locator("td.unseen")).to_have_count(0)
        assert figure.locator(".word.hidden").count() == 0
        assert float(table(figure)[1][-1]) > 0
        assert figure.locator("td.ahead").count() == n * (n - 1) // 2
        expect(said(figure)).to_contain_text("goes to tokens that come after it")
        expect(figure.locator(".next")).to_contain_text("Without your changes")


def test_a_query_is_locked_by_keyboard(browser: Browser, served: str) -> None:
    with opened(browser, served, "attention") as figure:
        page, pieces = figure.page, [row[0] for row in table(figure)[1:]]
        figure.locator("td[data-at='0,0']").focus()
        page.keyboard.press("ArrowDown")
        page.keyboard.press("End")
        expect(said(figure)).to_contain_text(f"{pieces[1]} asks")
        page.keyboard.press("Enter")
        expect(said(figure)).to_contain_text("(locked)")
        page.keyboard.press("ArrowDown")
        expect(said(figure)).to_contain_text(f"{pieces[1]} asks (locked)")
        focused = page.evaluate("document.activeElement.dataset.at")
        assert focused == f"2,{len(pieces) - 1}"


def test_the_arrow_keys_lead_from_head_to_head(browser: Browser, served: str) -> None:
    with opened(browser, served, "attention") as figure:
        keyboard = figure.page.keyboard
        assert figure.locator(".heads button[tabindex='0']").count() == 1
        figure.locator(".heads button[tabindex='0']").focus()
        for key, place in (("ArrowUp", "4, head 2"), ("ArrowRight", "4, head 3")):
            keyboard.press(key)
            expect(said(figure)).to_contain_text(f"Block {place}")
            expect(figure.get_by_label(f"Block {place}")).to_be_focused()
        before = said(figure).inner_text()
        for _ in range(5):
            keyboard.press("ArrowDown")
        expect(said(figure)).not_to_have_text(before)
        expect(figure.get_by_label("Block 5, head 3")).to_be_focused()


def test_a_task_checks_itself(browser: Browser, served: str) -> None:
    with opened(browser, served, "attention") as figure:
        assert "✓" not in figure.locator(".task").inner_text()
        expect(figure.locator(".task")).to_contain_text("Not yet: this one gives it")
        figure.get_by_role("button", name="Block 3, head 1").click()
        expect(said(figure)).to_contain_text("Task solved: head 1 of block 3")
        expect(figure.locator(".task")).to_contain_text("✓ head 1 of block 3")
    with opened(browser, served, "tokenizer") as figure:
        figure.get_by_label("A text").fill("🐉")
        figure.get_by_label("A text").press("Enter")
        expect(figure.locator(".task")).to_contain_text("✓ 3 tokens for 1 character")
    with opened(browser, served, "sampling") as figure:
        figure.get_by_label("Top-k").press("Home")
        expect(figure.locator(".task")).to_contain_text("✓ only")
    with opened(browser, served, "kv-cache", "#kv-cache?steps=30") as figure:
        expect(figure.locator(".task")).to_contain_text("✓")


def test_the_lens_counts_half_of_the_blocks(browser: Browser, served: str) -> None:
    with opened(browser, served, "logit-lens") as figure:
        (_, _, answer), *_ = figures.recordings()["logit-lens"]
        half = answer["ranks"][3].index(1)  # after three of the six blocks
        figure.locator(f"td[data-at='3,{half}']").hover()
        expect(figure.locator(".task")).to_contain_text("✓")


def test_only_an_embedding_solves_the_miniature_s_task(
    browser: Browser, served: str
) -> None:
    with opened(browser, served, "miniature") as figure:
        task, slider = figure.locator(".task"), figure.locator("input[type=range]")
        slider.press("End")
        expect(task).to_contain_text("Not yet: that number isn't of an embedding")
        figure.get_by_role("button", name="Undo").click()
        figure.locator("td[data-at='1,0']").click()
        slider.press("Home")
        expect(task).to_contain_text("instead of")


def test_the_focus_is_never_lost(browser: Browser, home: str) -> None:
    with opened(browser, home, "generate") as figure:
        figure.locator(".token").nth(3).focus()
        figure.page.keyboard.press("ArrowLeft")
        expect(figure.locator(".token").nth(2)).to_be_focused()
        assert figure.locator(".token[tabindex='0']").count() == 1
        figure.page.keyboard.press("Enter")
        figure.page.keyboard.press("Tab")
        expect(figure.locator(".rivals button:enabled").first).to_be_focused()
        figure.page.keyboard.press("Enter")
        expect(said(figure)).to_contain_text("1 of them yours")
        expect(figure.locator(".token").nth(2)).to_be_focused()
        again = figure.get_by_role("button", name="Start over")
        again.press("Enter")
        expect(said(figure)).to_contain_text("0 of them yours")
        expect(again).to_be_focused()
        figure.page.keyboard.press("Tab")
        expect(again).to_have_js_property("disabled", True)


def test_a_silenced_head_moves_the_prediction(browser: Browser, served: str) -> None:
    with opened(browser, served, "attention") as figure:
        usual = figure.locator(".next").inner_text()
        figure.get_by_label("Silence head 2 of block 5").check()
        expect(figure.locator(".next")).not_to_have_text(usual)
        expect(figure.locator(".heads .silenced")).to_have_count(1)


def test_a_reader_overrules_the_model(browser: Browser, served: str) -> None:
    with opened(browser, served, "generate") as figure:
        questions = figures.recordings()["generate"]
        first = questions[1][2]
        token = figure.locator(".token")
        assert token.count() == figures.defaults()["generate"]["tokens"]
        assert token.first.inner_text().strip() == first[0][1].strip("␣")
        rivals = figure.locator(".rivals li")
        assert rivals.count() == 10
        rivals.nth(3).locator("button").press("Enter")
        expect(token.first).to_have_text(first[3][1].replace("␣", " "))
        expect(said(figure)).to_contain_text("1 of them yours")
        expect(figure.get_by_role("button", name="Start over")).to_be_enabled()
    address = f"#generate?{LINKS['generate']}"
    with opened(browser, served, "generate", address) as figure:
        expect(said(figure)).to_contain_text("1 of them yours")
        figure.get_by_label("A beginning").fill("The frog")
        figure.get_by_label("A beginning").press("Enter")
        expect(said(figure)).to_contain_text("0 of them yours")


def test_draws_are_counted(browser: Browser, served: str) -> None:
    with opened(browser, served, "sampling") as figure:
        (_, _, answer), *_ = figures.recordings()["sampling"]
        assert f"u = {answer['drawn'][0]['u']:.4f}" in said(figure).inner_text()
        figure.get_by_role("button", name="Draw 100").click()
        expect(said(figure)).to_contain_text("Draw 101")
        assert sum(int(row[-1]) for row in table(figure)[1:]) == 101
        figure.get_by_label("Greedy").check()
        expect(said(figure)).to_contain_text("Greedy takes the most probable token")
        assert int(table(figure)[1][-1]) == 101


def test_merges_are_replayed(browser: Browser, served: str) -> None:
    with opened(browser, served, "tokenizer") as figure:
        chips = figure.locator(".chip")
        (_, asked, words), *_ = figures.recordings()["tokenizer"]
        assert chips.count() == sum(len(steps[-1]) for steps in words)
        figure.get_by_label("Merges done").press("Home")
        expect(chips).to_have_count(len(asked["text"].encode()))
        chips.first.press("Enter")
        expect(figure.locator(".detail")).to_have_text(
            "O has the id 46 and the bytes 4f."
        )
        expect(chips.first).to_be_focused()


def test_the_cache_saves_positions(browser: Browser, served: str) -> None:
    with opened(browser, served, "kv-cache", "#kv-cache?steps=4") as figure:
        prompt = len(figures.recordings()["kv-cache"][0][2]["ids"])
        assert [row[2] for row in table(figure)[1:]] == [str(prompt), "1", "1", "1"]
        expect(said(figure)).to_contain_text(
            f"{prompt + 3} positions computed with the cache, {4 * prompt + 6} without"
        )
        figure.get_by_label("Use the cache").uncheck()
        widths = [str(prompt + i) for i in range(4)]
        assert [row[2] for row in table(figure)[1:]] == widths
        expect(said(figure)).to_contain_text("There is no cache.")


def test_the_lens_tells_ranks(browser: Browser, served: str) -> None:
    with opened(browser, served, "logit-lens") as figure:
        (_, _, answer), *_ = figures.recordings()["logit-lens"]
        shown = table(figure)
        for row, cells in zip(shown[1:], reversed(answer["cells"]), strict=True):
            assert row[1:] == [rivals[0][1] for rivals in cells]
        figure.locator("td[data-at='6,2']").hover()
        expect(said(figure)).to_contain_text(f"ranks {answer['ranks'][0][2]} of 50,257")
        bits = figure.locator(".bits small").all_inner_texts()
        assert bits[1:] == [f"{bits:.1f}" for bits in answer["surprisal"]]


def test_a_number_lights_its_inputs_and_flows_on(browser: Browser, served: str) -> None:
    with opened(browser, served, "miniature") as figure:
        numbers = figures.recordings()["miniature"][1][2]
        shown = {row[0]: row[1:] for row in table(figure)[1:]}
        assert shown["query"] == [f"{x:.2f}" for x in numbers["q"]]
        figure.locator("tr", has_text="query").locator("td").nth(2).hover()
        lit = figure.locator("td.input")
        expect(lit).to_have_count(8)
        figure.locator("tr", has_text="query").locator("td").nth(2).click()
        slider = figure.locator("input[type=range]")
        slider.press("End")
        expect(figure.locator("td.changed")).to_have_text("4.00")
        after = {row[0]: row[1:] for row in table(figure)[1:]}
        changed = {name for name in shown if shown[name] != after[name]}
        assert {"query", "scores", "attention weights", "output"} <= changed
        assert not any(
            name.startswith(("embedding", "key", "value")) for name in changed
        )
        figure.get_by_role("button", name="Undo").click()
        expect(figure.locator("td.changed")).to_have_count(0)


def test_requests_fill_pages(browser: Browser, served: str) -> None:
    with opened(browser, served, "scheduler") as figure:
        answer = figures.recordings()["scheduler"][0][2]
        assert f"{answer['free']} of 10 pages are free" in said(figure).inner_text()
        slots = figure.locator(".slots span")
        filled = slots.evaluate_all("all => all.filter((it) => it.className).length")
        assert filled == sum(page["held"] for page in answer["pages"])
        for name in ["Longer"] * 3 + ["Ten steps"]:
            figure.get_by_role("button", name=name).press("Enter")
        expect(figure.locator(".task")).to_contain_text("✓ after step")
        assert {row[1] for row in table(figure)[1:]} <= {
            "finished",
            "running",
            "waiting",
        }
        figure.get_by_role("button", name="Start over").click()
        expect(said(figure)).to_contain_text("10 of 10 pages are free")
        address = figure.locator(".permalink").get_attribute("href")
    with opened(browser, served, "scheduler", address) as figure:
        expect(said(figure)).to_contain_text("10 of 10 pages are free")


def test_errors_are_said(browser: Browser, home: str) -> None:
    with opened(browser, home, "attention") as figure:
        figure.get_by_label("A sentence").fill("")
        figure.get_by_label("A sentence").press("Enter")
        expect(said(figure)).to_have_text("Type at least one character.")
        figure.get_by_label("A sentence").fill("A frog " * 30)
        figure.get_by_label("A sentence").press("Enter")
        expect(said(figure)).to_contain_text("aren't shown")


@pytest.mark.parametrize("name", FIGURES)
def test_a_phone_and_forced_colors(browser: Browser, served: str, name: str) -> None:
    with opened(
        browser, served, name, forced_colors="active", reduced_motion="reduce"
    ) as figure:
        figure.page.set_viewport_size({"width": 360, "height": 740})
        assert [*site_checks.wider_than_its_window(figure.page)] == []
        small = figure.locator(":is(button, input):visible:not(.token)").evaluate_all(
            "all => all.filter((it) => it.getBoundingClientRect().height < 20)"
        )
        assert small == []
        assert figure.evaluate("it => it.getAnimations({ subtree: true }).length") == 0
