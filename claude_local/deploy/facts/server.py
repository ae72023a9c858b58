"""The server's side of the workstation: memory, keys, the files that it reads, what it answers."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, TypedDict

from pyinfra.api import FactBase, FactProcessError, QuoteString, StringCommand

from claude_local.deploy.facts.yes_or_no import YesOrNo


class MachineMemory(FactBase[int]):
    """The machine's memory in MiB."""

    def command(self) -> str:
        return "grep -m1 '^MemTotal:' /proc/meminfo || true"

    def process(self, output: list[str]) -> int:
        return int(output[0].split()[1]) // 1024

    @staticmethod
    def default() -> int:
        return 8192


class Key(TypedDict):
    """``token``: the token's mode ("600"), None without a token (or an empty one); ``copy``: ``MODE UID:GID`` of the
    server's copy; ``same``: whether both hold the same."""

    token: str | None
    copy: str | None
    same: bool


class ApiKey(FactBase[Key]):
    """The state of the API token and of the server's copy of it; never their content."""

    def command(self, token: str, copy: str) -> StringCommand:
        script = (
            'test -s "$1" && echo "token $(stat -c %a "$1")"; test -s "$2" && echo "copy $(stat -c "%a %u:%g" "$2")"; '
            'cmp -s "$1" "$2" && echo same yes; true'
        )
        return StringCommand("sh", "-c", QuoteString(script), "sh", QuoteString(token), QuoteString(copy))

    def process(self, output: list[str]) -> Key:
        found = dict(line.split(" ", 1) for line in output)
        return Key(token=found.get("token"), copy=found.get("copy"), same="same" in found)

    @staticmethod
    def default() -> Key:
        return Key(token=None, copy=None, same=False)


class Placements(FactBase[dict[str, Any]]):
    """models.json, which the models stage writes: {} when there is none."""

    def command(self, path: str) -> StringCommand:
        return StringCommand("! test -e", QuoteString(path), "|| cat", QuoteString(path))

    def process(self, output: list[str]) -> dict[str, Any]:
        try:
            content = json.loads("\n".join(output))
        except ValueError as error:
            raise FactProcessError(f"models.json is no JSON: {error}; tasks/models.py writes it anew") from None
        return content if isinstance(content, dict) else {}

    @staticmethod
    def default() -> dict[str, Any]:
        return {}


class Directories(FactBase[list[str]]):
    """Those of ``paths`` that are directories, in their order."""

    def command(self, paths: Iterable[str]) -> StringCommand:
        script = 'for path do if test -d "$path"; then echo "$path"; fi; done'
        return StringCommand("sh", "-c", QuoteString(script), "sh", *[QuoteString(path) for path in paths])

    def process(self, output: list[str]) -> list[str]:
        return output

    @staticmethod
    def default() -> list[str]:
        return []


class Hashes(FactBase[dict[str, str]]):
    """Relative path -> sha256 of every file below ``folder``; {} when it is not there."""

    def command(self, folder: str) -> StringCommand:
        return StringCommand(
            "! test -d", QuoteString(folder), "|| ( cd", QuoteString(folder), "&& find . -type f -exec sha256sum {} + )"
        )  # fmt: skip

    def process(self, output: list[str]) -> dict[str, str]:
        pairs = (line.split(None, 1) for line in output)
        return {name.removeprefix("./"): digest for digest, name in pairs}

    @staticmethod
    def default() -> dict[str, str]:
        return {}


class ServerAnswers(YesOrNo):
    """Whether the server runs and has a model ready: one request, no generation."""

    def command(self, python: str, port: int, token: str) -> StringCommand:
        return StringCommand(
            "test -x", QuoteString(python), "&&", QuoteString(python), "-m claude_local.server.wait --check",
            "--port", str(int(port)), "--token", QuoteString(token), "2>/dev/null && echo yes || true",
        )  # fmt: skip
