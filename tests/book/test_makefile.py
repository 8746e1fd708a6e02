"""The model of Part II is fetched before pages and tests, once."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from hardway import hub
from paths import REPOSITORY

pytestmark = pytest.mark.skipif(not shutil.which("make"), reason="make is not there")
FETCH = ".venv/bin/hardway download smollm2"


def plan(target: str, home: str | None) -> list[str]:
    """Return the commands that ``make target`` would run with this HARDWAY_HOME."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MAKE")}
    environment.pop("HARDWAY_HOME", None)
    if home is not None:
        environment["HARDWAY_HOME"] = home
    done = subprocess.run(
        ["make", "--dry-run", target],
        cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.splitlines()


@pytest.mark.parametrize("directory", ["models", "my models"])
@pytest.mark.parametrize("target", ["book", "check", "test"])
def test_smollm2_is_fetched_once(target: str, directory: str, tmp_path: Path) -> None:
    home = tmp_path / directory
    commands = plan(target, str(home))
    fetched = commands.index(FETCH)
    used = [n for n, c in enumerate(commands) if "pytest" in c or "jupyter-book b" in c]
    assert fetched < min(used)
    weights = home / "smollm2" / hub.CHECKPOINTS["smollm2"].files[-1].name
    weights.parent.mkdir(parents=True)
    weights.touch()
    assert FETCH not in plan(target, str(home))


@pytest.mark.parametrize(
    ("home", "expected"),
    [
        (None, REPOSITORY / "models"),
        ("", REPOSITORY / "models"),
        ("here", REPOSITORY / "here"),
        ("/some/where", Path("/some/where")),
        ("/some where", Path("/some where")),
    ],
)
def test_the_book_ends_with_how_to_chat(home: str | None, expected: Path) -> None:
    last = plan("book", home)[-1]
    shown = f"'{expected}'" if " " in str(expected) else str(expected)
    assert f'HARDWAY_HOME={shown} .venv/bin/hardway chat"' in last
