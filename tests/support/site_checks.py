"""What the built pages promise in a browser. Each check yields the faults it finds."""

from collections.abc import Iterator

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

AXE = {"resultTypes": ["violations"], "preload": False}
# The colours of a token of code depend on its class and its box alone. One of each,
# with thousands left out, tells axe the same in a fraction of the time.
DROP_REPEATED_TOKENS = """() => {
  const seen = new Set();
  for (const token of document.querySelectorAll(".highlight span[class]")) {
    const box = token.closest(".listing, .cell_input, .cell_output, .admonition");
    const look = token.className + " in " + box?.className;
    if (seen.has(look)) token.replaceWith(token.textContent);
    seen.add(look);
  }
}"""
FORMULAS_LEFT_RAW = """() => {
  const formulas = [...document.querySelectorAll(".math")];
  const drawn = (it) => it.querySelector("math")?.getBoundingClientRect().width > 0;
  return formulas.filter((it) => !drawn(it)).length;
}"""
FOCUSED = """() => {
  const it = document.activeElement, style = getComputedStyle(it);
  const outlined = style.outlineStyle != "none" && parseFloat(style.outlineWidth) > 0;
  const name = it.getAttribute("aria-label") || it.title || it.textContent.trim();
  return {
    name: it.matches("pre, figure") ? it.localName : name,
    seen: (outlined || style.boxShadow != "none") && style.opacity != "0",
  };
}"""
CUT_ON_PAPER = """() => [...document.querySelectorAll(".bd-article :is(pre, img)")]
  .filter((it) => it.scrollWidth > it.clientWidth + 1
    || it.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
  .map((it) => it.localName + " " + it.textContent.trim().slice(0, 40))"""
CONTROLS_ON_PAPER = """() => [...document.querySelectorAll("button, .bd-sidebar")]
  .filter((it) => it.getClientRects().length)
  .map((it) => it.localName + "." + it.className)"""


def watch(page: Page, home: str) -> list[str]:
    """Note from now on what goes wrong, and what is asked of any place but ``home``."""
    faults: list[str] = []

    def note(kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            faults.append(f"{kind}: {text}")

    def away(address: str) -> None:
        if not address.startswith((home, "data:", "blob:", "about:")):
            faults.append(f"it asks for {address}")

    page.on("console", lambda message: note(message.type, message.text))
    page.on("pageerror", lambda error: note("error", error.message))
    page.on("request", lambda request: away(request.url))
    return faults


def inaccessible(page: Page, rules: list[str] | None = None) -> Iterator[str]:
    """Let axe look at the page, at all of its rules or a few."""
    page.evaluate(DROP_REPEATED_TOKENS)
    options = AXE | ({"runOnly": rules} if rules else {})
    for violation in Axe().run(page, options=options).response["violations"]:
        for node in violation["nodes"]:
            yield f"{violation['id']}: {node['html'][:200]}: {node['failureSummary']}"


def wider_than_its_window(page: Page) -> Iterator[str]:
    """Look whether the page as a whole would have to be moved sideways."""
    width = page.evaluate("document.documentElement.scrollWidth")
    if width > page.viewport_size["width"]:
        yield f"it is {width} pixels wide"


def raw_formulas(page: Page) -> Iterator[str]:
    """Look for formulas that still are LaTeX."""
    if left := page.evaluate(FORMULAS_LEFT_RAW):
        yield f"{left} formulas are not drawn"


def unprintable(page: Page) -> Iterator[str]:
    """Look for lines and pictures that paper would cut, and for buttons on it."""
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 680, "height": 1000})  # A4 within its margins
    for what in page.evaluate(CUT_ON_PAPER):
        yield f"paper cuts {what}"
    for what in page.evaluate(CONTROLS_ON_PAPER):
        yield f"paper shows {what}"


def walk(page: Page, steps: int) -> list[dict[str, str | bool]]:
    """Go through the page by keyboard: what takes the focus, and whether that shows."""
    stops = []
    for _ in range(steps):
        page.keyboard.press("Tab")
        stops.append(page.evaluate(FOCUSED))
    return stops
