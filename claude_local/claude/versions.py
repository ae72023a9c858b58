"""Claude Code's versions: pinned binaries, comparing versions, choosing an installation. No I/O."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

RELEASES = "https://downloads.claude.ai/claude-code-releases"
# Exit status of claude_local.claude.install when its source cannot be reached.
UNREACHABLE = 4


class ClaudeCodeError(ValueError):
    """A version or an architecture that cannot be installed; the message says which ones can be."""


@dataclass(frozen=True)
class Platform:
    """One published binary: its name in download addresses and npm packages, and its size in bytes."""

    name: str
    sha256: str
    size: int

    @property
    def npm_package(self) -> str:
        """The npm package that holds this binary."""
        return f"@anthropic-ai/claude-code-{self.name}"

    def url(self, version: str) -> str:
        """Where Anthropic's native installer downloads the binary of ``version``."""
        return f"{RELEASES}/{version}/{self.name}/claude"


# The sha256 of `package/claude` in the npm package of that version. The native release is the same binary.
# npm pack @anthropic-ai/claude-code-linux-x64@2.1.330 && tar -xzf *.tgz && sha256sum package/claude
PINS: dict[str, dict[str, Platform]] = {
    "2.1.330": {
        "x86_64": Platform("linux-x64", "f390eaa0814e6a1bff74cbb47acb74cb9c89d30ced809fe0af5af00c7bfe8ebb", 381121040),
        "aarch64": Platform(
            "linux-arm64", "6016f90cac783e367fb1aa97c768a2efb94a0128a5b46b70fb3d8fcbbd9dd444", 379971000
        ),
    },
}


def platform(version: str, arch: str) -> Platform:
    """The binary of ``version`` for ``uname -m``. Raises ClaudeCodeError when none is pinned."""
    if version not in PINS:
        raise ClaudeCodeError(
            f"claude_version is {version}, but no sha256 of that version is known; known: {', '.join(PINS)}. "
            "Add its hashes to PINS in claude_local/claude/versions.py"
        )
    if arch not in PINS[version]:
        raise ClaudeCodeError(f"Claude Code {version} is not known for {arch}; known: {', '.join(PINS[version])}")
    return PINS[version][arch]


def parse_version(text: str) -> tuple[int, ...] | None:
    """The numbers of a version such as ``2.1.330 (Claude Code)``; None when ``text`` does not begin with a version."""
    match = re.match(r"\s*v?(\d+(?:\.\d+)+)(?=[\s+(-]|$)", text)
    return tuple(int(part) for part in match[1].split(".")) if match else None


def compare(one: str, other: str) -> int:
    """-1, 0 or 1: version ``one`` is older than, the same as, or newer than ``other``.

    Raises ClaudeCodeError when one of them is not a version.
    """
    numbers = []
    for text in (one, other):
        parsed = parse_version(text)
        if parsed is None:
            raise ClaudeCodeError(f"{text!r} is not a version such as 2.1.330")
        numbers.append(parsed)
    length = max(map(len, numbers))
    first, second = (number + (0,) * (length - len(number)) for number in numbers)
    return (first > second) - (first < second)


@dataclass(frozen=True)
class Installation:
    """A Claude Code on the workstation: its path, and what ``--version`` printed (None: it did not run)."""

    path: str
    version: str | None


@dataclass(frozen=True)
class InstallationChoice:
    """The installation that claude-local runs (None: install the tested version), and a warning for the user."""

    use: Installation | None
    warning: str | None = None


def choose(installations: Sequence[Installation], tested: str, minimum: str) -> InstallationChoice:
    """Choose the first installation that is new enough; ``installations`` are in order of preference.

    A version other than ``tested`` gets a warning. An installation older than ``minimum`` is left alone. Raises
    ClaudeCodeError when ``tested`` or ``minimum`` is not a version, or ``tested`` is older than ``minimum``.
    """
    if compare(tested, minimum) < 0:
        raise ClaudeCodeError(f"claude_version {tested} is older than claude_minimum_version {minimum}")
    running = [(each, each.version) for each in installations if each.version and parse_version(each.version)]
    for each, version in running:
        if compare(version, minimum) < 0:
            continue
        if compare(version, tested) > 0:
            warning = f"{each.path} is Claude Code {version}; claude-local was tested with {tested}"
        elif compare(version, tested) < 0:
            warning = f"{each.path} is Claude Code {version}, older than {tested}, with which claude-local was tested"
        else:
            warning = None
        return InstallationChoice(each, warning)
    if not running:
        return InstallationChoice(None)
    each, version = running[0]
    return InstallationChoice(
        None,
        f"{each.path} is Claude Code {version}, older than the {minimum} that claude-local needs: "
        f"it stays as it is, and {tested} is installed beside it",
    )
