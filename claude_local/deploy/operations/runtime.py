"""The runtime on the workstation: its copy of this package, and a venv of its own."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

from pyinfra import host
from pyinfra.api import FileUploadCommand, QuoteString, StringCommand, operation

from claude_local.deploy import shell
from claude_local.deploy.facts.runtime import RuntimeStamp
from claude_local.deploy.operations import known
from claude_local.deploy.operations.streaming import last_lines, stream
from claude_local.deploy.workstation import PROJECT
from claude_local.paths import Paths

# Only pyinfra's side of the package stays behind.
CONTROLLER_ONLY = {"deploy", "__pycache__"}
RUN_PIP = PROJECT / "claude_local" / "run_pip.py"


# $1 the venv, $2 the lock file, $3 the folder to import from, $4 the text of run_pip.py, $5 the stamp. The pip of a
# killed run goes on for a moment; the lock on the folder around the venv ends with it.
VENV_SCRIPT = r"""
set -e
exec 8<"$(dirname "$1")"
flock -n 8 || {
  echo "An earlier run is still at it, waiting for its end ..."
  flock 8
}
python3=/usr/bin/python3; test -x "$python3" || python3=$(command -v python3)
rm -rf "$1"
echo "Making the runtime's Python environment ..."
"$python3" -I -m venv "$1"
"$1/bin/python" -I -c "$4" install --quiet --disable-pip-version-check --require-hashes --requirement "$2"
"$1/bin/python" -I -c 'import pathlib, sys, sysconfig
pathlib.Path(sysconfig.get_path("purelib"), "claude_local.pth").write_text(sys.argv[1] + "\n")' "$3"
"$1/bin/python" -I -c 'import claude_local, requests'
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
def copy(package: Path, paths: Paths) -> Generator[Any]:
    """Copy the package's workstation half to ``paths.lib``.

    + package: the ``claude_local`` folder on the controller
    + paths: the workstation's paths

    One archive that replaces the old copy at once, instead of pyinfra's ``files.sync``: that needs three facts and an
    upload for each of 120 files, and a session could start with half of them.

    Example::

        runtime.copy(name="Copy the runtime", package=Path("claude_local"), paths=ws.paths)
    """
    files = runtime_files(package)
    if known.ask(RuntimeStamp, lib=paths.lib, venv=paths.venv).get("files") == files_stamp(files):
        host.noop(f"{paths.lib} is up to date")
        return
    known.forget(RuntimeStamp)
    # A session that starts meanwhile finds the old package or the new one, never a half.
    old, new, upload = f"{paths.lib}.old", f"{paths.lib}.new", f"{paths.share}/lib.tar.gz"
    yield FileUploadCommand(_archive(files), upload, remote_temp_filename=host.get_temp_filename(upload))
    yield StringCommand(
        "rm -rf", QuoteString(old), QuoteString(new), "&& mkdir -p", QuoteString(new),
        "&& tar -C", QuoteString(new), "-xzf", QuoteString(upload),
        "&& { test ! -e", QuoteString(paths.lib), "|| mv", QuoteString(paths.lib), QuoteString(old), "; }",
        "&& mv", QuoteString(new), QuoteString(paths.lib), "&& rm -rf", QuoteString(old), QuoteString(upload),
    )  # fmt: skip


@operation()
def venv(lock: Path, paths: Paths) -> Generator[Any]:
    """Make the runtime's venv from the lock file, on the system's own Python. pip checks the hashes.

    + lock: requirements-runtime.lock on the controller
    + paths: the workstation's paths

    Instead of pyinfra's ``pip.packages(requirements=...)``, which runs pip on every deploy.

    Example::

        runtime.venv(name="Make the venv", lock=Path("requirements-runtime.lock"), paths=ws.paths)
    """
    content = lock.read_bytes()
    stamp = hashlib.sha256(content).hexdigest()
    if known.ask(RuntimeStamp, lib=paths.lib, venv=paths.venv).get("venv") == stamp:
        host.noop(f"{paths.venv} matches the lock file")
        return
    known.forget(RuntimeStamp)
    remote_lock = f"{paths.share}/requirements-runtime.lock"
    yield FileUploadCommand(io.BytesIO(content), remote_lock, remote_temp_filename=host.get_temp_filename(remote_lock))
    yield stream(
        shell.script(VENV_SCRIPT, paths.venv, remote_lock, paths.lib, RUN_PIP.read_text(), stamp),
        failure=last_lines("The runtime's Python environment could not be made", 8),
    )
