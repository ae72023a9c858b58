"""Claude Code on the workstation: use it where it is new enough, else install it beside what is installed."""

from __future__ import annotations

import json
from collections.abc import Generator
from posixpath import join
from typing import Any, Literal

from pyinfra import host, logger, state
from pyinfra.api import DeployError, StringCommand, operation
from pyinfra.operations import files

from claude_local.claude import versions
from claude_local.deploy import shell
from claude_local.deploy.facts.claude import ClaudeInstallations, Installations
from claude_local.deploy.operations import known, user_files
from claude_local.deploy.operations.streaming import fail, last_lines, stream
from claude_local.paths import Paths

Source = Literal["native", "npm"]


def _installations(paths: Paths, tested: str) -> Installations:
    installations: Installations = known.ask(
        ClaudeInstallations,
        native=paths.native_claude,
        versions=paths.native_versions,
        link=paths.claude,
        tested=tested,
    )
    return installations


def needs_npm(paths: Paths, tested: str, minimum: str) -> bool:
    """Whether Claude Code is still missing and npm, its second source, is missing too. For ``_if``."""
    now = _installations(paths, tested)
    return versions.choose(now["installed"], tested, minimum).use is None and not now["npm"]


def check(paths: Paths, tested: str, minimum: str, arch: str) -> None:
    """Raise DeployError where Claude Code would have to be installed and no binary is pinned for this machine.

    Call it before any operation. ``arch``: as ``uname -m`` says.
    """
    try:
        if versions.choose(_installations(paths, tested)["installed"], tested, minimum).use is None:
            versions.platform(tested, arch)
    except versions.ClaudeCodeError as problem:
        raise DeployError(f"nothing has been changed: {problem}") from None


@operation()
def install(source: Source, tested: str, minimum: str, arch: str, paths: Paths) -> Generator[Any]:
    """Install the tested Claude Code in the native installer's layout, unless one that is new enough is installed.

    + source: ``native`` (Anthropic's release server; without it nothing is installed, and that is no failure) or
      ``npm`` (the platform package; a failure when it cannot be reached)
    + tested: the version to install
    + minimum: the oldest version that is used unchanged
    + arch: the workstation's ``uname -m``
    + paths: the workstation's paths

    Runs ``python -m claude_local.claude.install``, which checks the pinned sha256 before the binary gets its
    name ``~/.local/share/claude/versions/VERSION``. Fails for a version without pinned hashes.

    Example::

        claude.install(
            name="Install Claude Code", source="npm", tested="2.1.330", minimum="2.1.330", arch="x86_64", paths=ws.paths
        )
    """
    try:
        choice = versions.choose(_installations(paths, tested)["installed"], tested, minimum)
        binary = None if choice.use else versions.platform(tested, arch)
    except versions.ClaudeCodeError as problem:
        yield fail(str(problem))
        return
    if binary is None:
        host.noop(f"{choice.use.path} is Claude Code {choice.use.version}" if choice.use else "")
        return
    place = ["--url", binary.url(tested)] if source == "native" else ["--package", f"{binary.npm_package}@{tested}"]
    command = shell.join([
        paths.python, "-I", "-m", "claude_local.claude.install", "--source", source, *place,
        "--sha256", binary.sha256, "--size", str(binary.size), "--dest", join(paths.native_versions, tested),
    ])  # fmt: skip
    if source == "native":
        unreachable = versions.UNREACHABLE
        notice = f"The release server cannot be reached; npm is tried next (status {unreachable})."
        command = StringCommand(
            command, f"|| {{ test $? = {unreachable} &&", shell.join(["echo", notice]), "; }"
        )  # fmt: skip
    known.forget(ClaudeInstallations)
    yield stream(
        command,
        failure=last_lines(
            f"Claude Code {tested} could not be installed",
            4,
            "Install it by hand (https://claude.com/claude-code) or make one of the sources reachable, then run again.",
        ),
    )


@operation()
def choose(tested: str, minimum: str, paths: Paths) -> Generator[Any]:
    """Link the Claude Code that claude-local runs, and record its version and the tested one.

    + tested: the tested version
    + minimum: the oldest version that works
    + paths: the workstation's paths

    ``paths.claude`` links to the installation. ``~/.local/bin/claude`` is made only where the user has no ``claude`` at
    all, so the command ``claude`` never changes. A version other than the tested one is a warning that names both.

    Example::

        claude.choose(name="Choose Claude Code", tested="2.1.330", minimum="2.1.330", paths=ws.paths)
    """
    now = _installations(paths, tested)
    choice = versions.choose(now["installed"], tested, minimum)
    if choice.warning and state.is_executing:
        logger.warning(f"claude: {choice.warning}")
    versioned = join(paths.native_versions, tested)
    use = choice.use or versions.Installation(versioned, tested)
    alone = all(each.path == versioned for each in now["installed"])
    make_native = now["native"] == "free" and use.path == versioned and alone
    target = paths.native_claude if make_native else use.path
    entry = {"path": target, "version": use.version, "tested": tested, "minimum": minimum}
    record = _record(paths.versions)
    linked = now["link"] == target and not make_native
    if linked and record.get("claude") == entry:
        host.noop(f"{target} is Claude Code {use.version}")
        return
    known.forget(ClaudeInstallations)
    if make_native:
        yield from files.link._inner(path=paths.native_claude, target=versioned)
    if not linked:
        yield from files.link._inner(path=paths.claude, target=target, force=True)
    if record.get("claude") != entry:
        text = json.dumps({**record, "claude": entry}, indent=2) + "\n"
        yield from user_files.replace(paths.versions, text.encode(), "644")


def _record(path: str) -> dict[str, Any]:
    """versions.json as it is now; other stages write there too."""
    (file,) = user_files.read(path)
    try:
        record = json.loads(file.text) if file else {}
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}
