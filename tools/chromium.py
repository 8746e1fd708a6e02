"""Start whichever Chromium is here, for the PDF and for the tests of the pages."""

import shutil

from playwright.sync_api import Browser, Error, Playwright

NAMES = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
)
# No sandbox, because containers lack what it needs; the pages are our own. The last
# one leaves no way to any other machine.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]


def launch(playwright: Playwright) -> Browser:
    """Start a browser; raise `FileNotFoundError` if there is none that starts."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    try:
        return playwright.chromium.launch(executable_path=found, args=ARGUMENTS)
    except Error as error:
        raise FileNotFoundError(error.message.splitlines()[0]) from error
