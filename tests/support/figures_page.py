"""A bare page with all living figures, for tests that need no built book."""

from pathlib import Path

from theme import browser

PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8">
<title>Figures</title><link rel="icon" href="data:,">
<link rel="stylesheet" href="{style}">{scripts}</head>
<body><main><h1>Figures</h1>{figures}</main></body></html>"""


def write(folder: Path, *, recorded: bool = True) -> None:
    """Write the page and its files; without what was recorded, the model is asked."""
    for name, content in browser.files().items():
        (folder / name).write_bytes(content)
    figures = list(browser.defaults())
    scripts = ["figures", *(f"recorded-{name}" for name in figures if recorded)]
    addresses = [browser.named(name, ".js") for name in scripts]
    page = PAGE.format(
        style=browser.named("figures", ".css"),
        scripts="".join(f'<script defer src="{name}"></script>' for name in addresses),
        figures="".join(f'<div data-figure="{name}"></div>' for name in figures),
    )
    (folder / "index.html").write_text(page, encoding="utf-8")
    bare = page.replace("data-figure", "data-none")
    (folder / "console.html").write_text(bare, encoding="utf-8")
