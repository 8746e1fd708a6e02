"""A browser for the tests of the built pages, and a server on this machine for them."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NoReturn

import pytest
from playwright.sync_api import Browser, Playwright

from tools import chromium


def launch(playwright: Playwright) -> Browser:
    """Start whichever Chromium is here."""
    try:
        return chromium.launch(playwright)
    except FileNotFoundError as error:
        lacking(f"a Chromium: {error}")


def lacking(what: str) -> NoReturn:
    """Skip, except where every test has to run."""
    reason = f"the tests of the built pages need {what}"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@contextmanager
def serving(directory: Path, root: str = "/") -> Iterator[str]:
    """Serve a directory to this machine only, below ``root``; yield its address."""
    handler = partial(_Site, root=root, directory=str(directory))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}{root}"
        finally:
            server.shutdown()
            thread.join()


class _Site(SimpleHTTPRequestHandler):
    """Serves below a path, as the site of a project is served, and keeps no log."""

    def __init__(self, *args: Any, root: str, **settings: Any) -> None:
        self.root = root
        super().__init__(*args, **settings)

    def translate_path(self, path: str) -> str:
        return super().translate_path(path.replace(self.root, "/", 1))

    def log_message(self, *args: object) -> None:
        pass
