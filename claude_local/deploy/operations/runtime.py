"""Copy the runtime to the workstation and give it a venv of its own."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

from pyinfra import host
from pyinfra.api import FileUploadCommand, QuoteString, StringCommand, operation

from claude_local.deploy.facts.runtime import RuntimeStamp
from claude_local.deploy.operations.streaming import streamed
from claude_local.deploy.workstation import PROJECT
from claude_local.paths import Paths

# Only pyinfra's side of the package stays behind.
CONTROLLER_ONLY = {"deploy", "__pycache__"}
RUN_PIP = PROJECT / "files" / "run-pip.py"


# $1 the venv, $2 the lock file, $3 the folder to import from, $4 files/run-pip.py, $5 the stamp. The pip of a run that was
# killed goes on for a moment; the lock on the folder around the venv ends with it.
ENVIRONMENT_SCRIPT = r"""
set -e
exec 8<"$(dirname "$1")"
flock -n 8 || {
  echo "An earlier run is still at it, waiting for its end ..."
  flock 8
}
python3=/usr/bin/python3; test -x "$python3" || python3=$(command -v python3)
rm -rf "$1"
echo "Making the runtime's Python environment ..."
"$python3" -m venv "$1"
"$1/bin/python" -c "$4" install --quiet --disable-pip-version-check --require-hashes --requirement "$2"
"$1/bin/python" -c 'import pathlib, sys, sysconfig
pathlib.Path(sysconfig.get_path("purelib"), "claude_local.pth").write_text(sys.argv[1] + "\n")' "$3"
"$1/bin/python" -c 'import claude_local, requests'
echo "$5" > "$1/claude-local.stamp"
"""


def runtime_files(package: Path) -> dict[str, bytes]:
    """The files that run on the workstation: path below ``lib`` -> content."""
    files = {}
    for path in sorted(package.rglob("*")):
        parts = path.relative_to(package).parts
        if path.is_file() and not CONTROLLER_ONLY.intersection(parts):
            files["/".join((package.name, *parts))] = path.read_bytes()
    return files


def files_stamp(files: dict[str, bytes]) -> str:
    """The digest that RuntimeStamp computes on the workstation: sha256 over ``sha256sum`` lines, sorted by path."""
    lines = [f"{hashlib.sha256(content).hexdigest()}  ./{name}\n" for name, content in sorted(files.items())]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _archive(files: dict[str, bytes]) -> io.BytesIO:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o644
            archive.addfile(entry, io.BytesIO(content))
    buffer.seek(0)
    return buffer


@operation()
def copied(package: Path, paths: Paths) -> Generator[Any]:
    """Put the package's workstation half into ``paths.lib`` (one upload; the old copy is replaced at once).

    + package: the ``claude_local`` folder on the controller
    + paths: the workstation's paths
    """
    files = runtime_files(package)
    if host.get_fact(RuntimeStamp, lib=paths.lib, venv=paths.venv).get("files") == files_stamp(files):
        host.noop(f"{paths.lib} is up to date")
        return
    new, upload = f"{paths.lib}.new", f"{paths.share}/lib.tar.gz"
    yield StringCommand("mkdir", "-p", QuoteString(paths.state), QuoteString(paths.cache))
    yield StringCommand("chmod", "700", QuoteString(paths.share))
    yield FileUploadCommand(_archive(files), upload, remote_temp_filename=host.get_temp_filename(upload))
    yield StringCommand(
        "rm -rf", QuoteString(new), "&& mkdir -p", QuoteString(new), "&& tar -C", QuoteString(new), "-xzf",
        QuoteString(upload), "&& rm -rf", QuoteString(paths.lib), "&& mv", QuoteString(new), QuoteString(paths.lib),
        "&& rm -f", QuoteString(upload),
    )  # fmt: skip


@operation()
def environment(lock: Path, paths: Paths) -> Generator[Any]:
    """Make the runtime's venv from the lock file (hashes are checked by pip), on the system's own Python.

    + lock: requirements-runtime.lock on the controller
    + paths: the workstation's paths
    """
    content = lock.read_bytes()
    stamp = hashlib.sha256(content).hexdigest()
    if host.get_fact(RuntimeStamp, lib=paths.lib, venv=paths.venv).get("venv") == stamp:
        host.noop(f"{paths.venv} matches the lock file")
        return
    remote_lock = f"{paths.share}/requirements-runtime.lock"
    yield FileUploadCommand(io.BytesIO(content), remote_lock, remote_temp_filename=host.get_temp_filename(remote_lock))
    yield streamed(
        StringCommand(
            "sh",
            "-c",
            QuoteString(ENVIRONMENT_SCRIPT),
            "sh",
            QuoteString(paths.venv),
            QuoteString(remote_lock),
            QuoteString(paths.lib),
            QuoteString(RUN_PIP.read_text()),
            stamp,
        ),
        failure=lambda tail: "The runtime's Python environment could not be made:\n  " + "\n  ".join(tail[-8:]),
    )
