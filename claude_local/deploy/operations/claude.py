"""Claude Code on the workstation: used where it is new enough, else installed beside what is there."""

from __future__ import annotations

import json
from collections.abc import Generator
from posixpath import dirname, join
from typing import Any, Literal

from pyinfra import host, logger, state
from pyinfra.api import DeployError, QuoteString, StringCommand, operation

from claude_local.claude import versions
from claude_local.deploy.facts.claude import ClaudeInstallations, ClaudeSeen
from claude_local.deploy.operations.docker import fails
from claude_local.deploy.operations.streaming import streamed
from claude_local.deploy.operations.user_files import replaced, seen
from claude_local.paths import Paths

Source = Literal["native", "npm"]


def look(paths: Paths, tested: str) -> ClaudeSeen:
    """The installations on the workstation now."""
    return host.get_fact(
        ClaudeInstallations,
        native=paths.native_claude,
        versions=paths.native_versions,
        link=paths.claude,
        tested=tested,
    )


def needs_npm(paths: Paths, tested: str, minimum: str) -> bool:
    """Whether Claude Code is still missing and there is no npm to get it with (asked when the step is reached)."""
    found = look(paths, tested)
    return versions.choose(found["found"], tested, minimum).use is None and not found["npm"]


def check(paths: Paths, tested: str, minimum: str, arch: str) -> None:
    """Raise DeployError where Claude Code would have to be installed and no such binary is known: before any operation."""
    try:
        if versions.choose(look(paths, tested)["found"], tested, minimum).use is None:
            versions.platform(tested, arch)
    except versions.ClaudeCodeError as problem:
        raise DeployError(f"nothing has been changed: {problem}") from None


@operation()
def fetched(source: Source, tested: str, minimum: str, arch: str, paths: Paths) -> Generator[Any]:
    """Place the tested Claude Code in the native installer's layout, unless one that is new enough is there.

    + source: ``native`` (Anthropic's release server; nothing is placed when it cannot be reached) or ``npm`` (the
      platform package; fails when it cannot be reached)
    + tested: the version to install
    + minimum: the oldest version that is used as it is
    + arch: the workstation's ``uname -m``
    + paths: the workstation's paths

    Runs ``python -m claude_local.claude.install``, which checks the pinned sha256 before the binary gets its
    name ``~/.local/share/claude/versions/VERSION``. Fails for a version without pinned hashes.
    """
    try:
        choice = versions.choose(look(paths, tested)["found"], tested, minimum)
        binary = None if choice.use else versions.platform(tested, arch)
    except versions.ClaudeCodeError as problem:
        yield fails(str(problem))
        return
    if choice.use is not None or binary is None:
        host.noop(f"{choice.use.path} is Claude Code {choice.use.version}" if choice.use else "")
        return
    place = ["--url", binary.url(tested)] if source == "native" else ["--package", f"{binary.npm_package}@{tested}"]
    words = ["--source", source, *place, "--sha256", binary.sha256, "--size", str(binary.size)]
    words += ["--dest", join(paths.native_versions, tested)]
    command = StringCommand(
        QuoteString(paths.python), "-m", "claude_local.claude.install", *[QuoteString(word) for word in words]
    )
    if source == "native":
        again = f"The release server cannot be reached; npm is tried next (status {versions.UNREACHABLE})."
        tried = f"|| {{ test $? = {versions.UNREACHABLE} && echo"
        command = StringCommand(command, tried, QuoteString(again), "; }")
    yield streamed(command, failure=lambda tail: _failure(tested, tail))


def _failure(tested: str, tail: list[str]) -> str:
    return (
        f"Claude Code {tested} could not be installed:\n  " + "\n  ".join(tail[-4:]) + "\n"
        "Install it by hand (https://claude.com/claude-code) or make one of the two sources reachable, and run again."
    )


@operation()
def chosen(tested: str, minimum: str, paths: Paths) -> Generator[Any]:
    """Link the Claude Code that claude-local runs, and record its version and the tested one.

    + tested: the version that was tested
    + minimum: the oldest version that works
    + paths: the workstation's paths

    ``paths.claude`` is linked to the installation; ``~/.local/bin/claude`` is made only where the user has no ``claude`` at
    all, so what the word ``claude`` starts never changes. A version other than the tested one is a warning that names both.
    """
    found = look(paths, tested)
    choice = versions.choose(found["found"], tested, minimum)
    if choice.warning and state.is_executing:
        logger.warning(f"claude: {choice.warning}")
    versioned = join(paths.native_versions, tested)
    use = choice.use or versions.Installation(versioned, tested)
    alone = all(each.path == versioned for each in found["found"])
    make_native = found["native"] == "free" and use.path == versioned and alone
    target = paths.native_claude if make_native else use.path
    record = {"path": target, "version": use.version, "tested": tested, "minimum": minimum}
    file = seen(paths.versions)
    try:
        recorded = json.loads(file.text) if file else {}
    except ValueError:
        recorded = {}
    recorded = recorded if isinstance(recorded, dict) else {}
    linked = found["link"] == target and not make_native
    if linked and recorded.get("claude") == record:
        host.noop(f"{target} is Claude Code {use.version}")
        return
    if make_native:
        yield StringCommand("mkdir", "-p", QuoteString(dirname(paths.native_claude)))
        yield StringCommand("ln", "-s", QuoteString(versioned), QuoteString(paths.native_claude))
    if not linked:
        yield StringCommand("mkdir", "-p", QuoteString(dirname(paths.claude)))
        yield StringCommand("ln", "-sfn", QuoteString(target), QuoteString(paths.claude))
    if recorded.get("claude") != record:
        text = json.dumps({**recorded, "claude": record}, indent=2) + "\n"
        yield from replaced(paths.versions, text.encode(), "644")
