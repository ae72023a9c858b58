"""Files of the user, byte for byte."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

from pyinfra.api import FactBase, QuoteString, StringCommand

SCRIPT = r"""
for path do
  if test -d "$path"; then echo "directory $(stat -L -c %a -- "$path")"
  elif test -f "$path"; then echo "file $(stat -L -c %a -- "$path") $(base64 -w 0 -- "$path")"
  else echo absent; fi
done
"""


@dataclass(frozen=True)
class UserFile:
    """A file or directory (``content`` None) with its mode in octal, such as ``600``; links are followed."""

    mode: str
    content: bytes | None = None

    @property
    def text(self) -> str:
        """The content as text; bytes that are no UTF-8 survive the way back (surrogateescape)."""
        return (self.content or b"").decode("utf-8", "surrogateescape")


class UserFiles(FactBase[dict[str, UserFile | None]]):
    """What is at each of ``paths``: :class:`UserFile`, or None where nothing is."""

    def command(self, paths: Sequence[str]) -> StringCommand:
        self.paths = list(paths)
        return StringCommand("sh", "-c", QuoteString(SCRIPT), "sh", *[QuoteString(path) for path in paths])

    def process(self, output: list[str]) -> dict[str, UserFile | None]:
        return {path: _user_file(line) for path, line in zip(self.paths, output, strict=False)}

    @staticmethod
    def default() -> dict[str, UserFile | None]:
        return {}


def _user_file(line: str) -> UserFile | None:
    kind, *rest = line.split(" ")
    if kind == "directory":
        return UserFile(rest[0])
    if kind == "file":
        return UserFile(rest[0], base64.b64decode(rest[1]) if len(rest) > 1 else b"")
    return None
