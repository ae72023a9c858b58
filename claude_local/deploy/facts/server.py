"""The server on the workstation: its key, the files that it reads, whether it answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TypedDict

from pyinfra.api import FactBase, QuoteString, StringCommand

from claude_local.deploy import shell
from claude_local.server import router


class Key(TypedDict):
    """``token``: the token's mode ("600"), None without a token or with an empty one; ``copy``: ``MODE UID:GID`` of the
    server's copy; ``same``: whether both have the same content."""

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
        return shell.script(script, token, copy)

    def process(self, output: list[str]) -> Key:
        answers = dict(line.split(" ", 1) for line in output)
        return Key(token=answers.get("token"), copy=answers.get("copy"), same="same" in answers)

    @staticmethod
    def default() -> Key:
        """A machine without a token."""
        return Key(token=None, copy=None, same=False)


class Owners(FactBase[dict[str, str]]):
    """Directory -> ``MODE UID:GID``, for those of ``paths`` that exist. (pyinfra's Directory gives no numbers, and a
    container's user may have no name.)"""

    def command(self, paths: Sequence[str]) -> StringCommand:
        return shell.script('for path do test ! -d "$path" || stat -c "%a %u:%g %n" "$path"; done', *paths)

    def process(self, output: list[str]) -> dict[str, str]:
        return {line.split(" ", 2)[2]: " ".join(line.split(" ", 2)[:2]) for line in output}

    @staticmethod
    def default() -> dict[str, str]:
        """No directories."""
        return {}


class Hashes(FactBase[dict[str, str]]):
    """Relative path -> sha256 of every file below ``folder``; {} when it does not exist."""

    def command(self, folder: str) -> StringCommand:
        return StringCommand(
            "! test -d", QuoteString(folder), "|| ( cd", QuoteString(folder), "&& find . -type f -exec sha256sum {} + )"
        )  # fmt: skip

    def process(self, output: list[str]) -> dict[str, str]:
        pairs = (line.split(None, 1) for line in output)
        return {name.removeprefix("./"): digest for digest, name in pairs}

    @staticmethod
    def default() -> dict[str, str]:
        """No files."""
        return {}


# The token reaches curl on its stdin: other users can read arguments. $1 the token's file, $2 the address.
MODELS = r"""
test -r "$1" || exit 0
printf 'header = "Authorization: Bearer %s"\n' "$(cat "$1")" |
  curl -q -s -f --noproxy '*' --max-time 10 --config - "$2" 2>/dev/null
true
"""


class ServerAnswers(FactBase[bool]):
    """Whether the server runs and has a model ready: one request, no generation."""

    def command(self, port: int, token: str) -> StringCommand:
        return shell.script(MODELS, token, f"http://127.0.0.1:{int(port)}/v1/models")

    def process(self, output: list[str]) -> bool:
        try:
            return router.ready(router.models(json.loads("\n".join(output))))
        except ValueError:
            return False

    @staticmethod
    def default() -> bool:
        """No."""
        return False
