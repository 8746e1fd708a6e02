"""What is published: the wheel runs on its own, and the sdist holds the repository."""

import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

import hardway
import lowest

REPOSITORY = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("packaging")]

SMOKE_TEST = """
import hardway

model = hardway.GPT2.from_pretrained("pocket")
tokenizer = hardway.Tokenizer.from_pretrained("pocket")
print(hardway.__file__)
print(tokenizer.encode("Hello"), len(hardway.generate(model, [15496], 3)))
"""


def run(*arguments: object, cwd: Path = REPOSITORY, **variables: str) -> str:
    """Run Python, where no variable says that it runs on GitHub."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("GITHUB_")}
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=cwd, env=inherited | variables,
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("sdist")
    run("-m", "hatchling", "build", "-t", "sdist", "-d", directory)
    return directory / f"hardway-{hardway.__version__}.tar.gz"


@pytest.fixture(scope="module")
def installed(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the wheel of the sdist installed into it, and nothing else."""
    directory = tmp_path_factory.mktemp("installed")
    with tarfile.open(sdist) as archive:
        archive.extractall(directory / "source", filter="data")
    run(
        "-m", "pip", "install", "--no-deps", "--no-build-isolation", "--no-index",
        "--target", directory / "site", directory / "source" / sdist.name[:-7],
    )  # fmt: skip
    return directory / "site"


@pytest.fixture(scope="module")
def isolated(installed: Path) -> Callable[..., str]:
    """Run Python on the installed package, out of sight of the checkout."""
    return lambda *arguments: run(
        "-P", *arguments, cwd=installed.parent, PYTHONPATH=str(installed)
    )


def test_the_installed_wheel_runs(
    installed: Path, isolated: Callable[..., str]
) -> None:
    path, answer = isolated("-W", "error", "-c", SMOKE_TEST).splitlines()
    assert Path(path) == installed / "hardway" / "__init__.py"
    assert answer == "[15496] 3"


def test_the_installed_command_line_runs(isolated: Callable[..., str]) -> None:
    assert hardway.__version__ in isolated("-m", "hardway", "--version")
    assert isolated("-m", "hardway", "tokenize", "Hello")


def test_the_sdist_is_the_repository(sdist: Path) -> None:
    known = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY, capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    present = {name for name in known if (REPOSITORY / name).is_file()}
    assert names - {"PKG-INFO"} == present


def metadata(**variables: str) -> dict[str, object]:
    return json.loads(run("-m", "hatchling", "metadata", **variables))


def test_urls_come_from_the_repository_of_the_build() -> None:
    assert "urls" not in metadata()
    here = {"GITHUB_SERVER_URL": "https://github.com", "GITHUB_REPOSITORY": "A/book"}
    assert metadata(**here)["urls"] == {
        "Homepage": "https://github.com/A/book",
        "Documentation": "https://a.github.io/book/",
        "Source": "https://github.com/A/book",
        "Issues": "https://github.com/A/book/issues",
        "Changelog": "https://github.com/A/book/blob/main/CHANGELOG.md",
    }


def test_users_install_no_tools_of_the_developers() -> None:
    assert metadata()["optional-dependencies"].keys() == {"plots", "serve"}


def test_the_lowest_torch_is_the_tested_one() -> None:
    pins = (REPOSITORY / "constraints.txt").read_text().splitlines()
    (pinned,) = [pin for pin in pins if pin.startswith("torch==")]
    bound = pinned.replace("==", ">=").removesuffix(".0")
    assert bound in metadata()["dependencies"]
    assert "torch" not in lowest.lower_bounds()
