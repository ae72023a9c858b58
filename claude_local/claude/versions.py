"""What is known of Claude Code itself: versions, the binaries' hashes, which installation to run. No pyinfra, no I/O."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

RELEASES = "https://downloads.claude.ai/claude-code-releases"
# Exit status of runtime.claude_install when its source cannot be reached.
UNREACHABLE = 4


class ClaudeCodeError(ValueError):
    """A version or an architecture that cannot be installed; the message says what would be right."""


@dataclass(frozen=True)
class Platform:
    """One published binary: its name in download addresses and npm packages, and its size in bytes."""

    name: str
    sha256: str
    size: int

    @property
    def npm_package(self) -> str:
        return f"@anthropic-ai/claude-code-{self.name}"

    def url(self, version: str) -> str:
        """Where Anthropic's native installer gets the binary."""
        return f"{RELEASES}/{version}/{self.name}/claude"


# sha256 of `package/claude` in the npm package of that version, which is the binary of the native release:
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


def parse_version(words: str) -> tuple[int, ...] | None:
    """The numbers of a version such as ``2.1.330 (Claude Code)``; None when the words do not begin with one."""
    found = re.match(r"\s*v?(\d+(?:\.\d+)+)(?=[\s+(-]|$)", words)
    return tuple(int(part) for part in found[1].split(".")) if found else None


def compare(one: str, other: str) -> int:
    """-1, 0 or 1: whether version ``one`` is older than, the same as or newer than ``other``.

    Raises ClaudeCodeError when one of them is no version.
    """
    numbers = []
    for words in (one, other):
        parsed = parse_version(words)
        if parsed is None:
            raise ClaudeCodeError(f"{words!r} is no version such as 2.1.330")
        numbers.append(parsed)
    length = max(map(len, numbers))
    first, second = (number + (0,) * (length - len(number)) for number in numbers)
    return (first > second) - (first < second)


@dataclass(frozen=True)
class Installation:
    """A Claude Code that was found: where, and what ``--version`` said (None: it did not run)."""

    path: str
    version: str | None


@dataclass(frozen=True)
class Choice:
    """Which installation claude-local runs (None: the tested version must be installed) and what the user is told."""

    use: Installation | None
    warning: str | None = None


def choose(found: Sequence[Installation], tested: str, minimum: str) -> Choice:
    """The first installation that is new enough; ``found`` is in order of preference.

    A newer one than the tested is used with a warning; older ones are left alone and named. Raises ClaudeCodeError when
    ``tested`` or ``minimum`` is no version or ``tested`` is older than ``minimum``.
    """
    if compare(tested, minimum) < 0:
        raise ClaudeCodeError(f"claude_version {tested} is older than claude_minimum_version {minimum}")
    running = [(one, one.version) for one in found if one.version is not None and parse_version(one.version)]
    for one, version in running:
        if compare(version, minimum) < 0:
            continue
        if compare(version, tested) > 0:
            return Choice(one, f"{one.path} is Claude Code {version}; claude-local was tested with {tested}")
        if compare(version, tested) < 0:
            return Choice(one, f"{one.path} is Claude Code {version}, older than the {tested} that was tested")
        return Choice(one)
    if running:
        one, version = running[0]
        return Choice(
            None,
            f"{one.path} is Claude Code {version}, older than the {minimum} that claude-local needs: "
            f"it stays as it is, and {tested} is installed beside it",
        )
    return Choice(None)
