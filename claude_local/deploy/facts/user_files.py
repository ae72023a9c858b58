"""Files that the user writes too, read byte for byte."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

from pyinfra.api import FactBase, StringCommand

from claude_local.deploy import shell

SCRIPT = r"""
for path do
  if test -f "$path"; then echo "file $(stat -L -c %a -- "$path") $(base64 -w 0 -- "$path")"; else echo absent; fi
done
"""

DIRECTORIES = r"""
for path do
  if test -d "$path"; then stat -L -c '%a %n' -- "$path"; fi
done
"""

# Nothing can take a file's place where its directory is read-only. The directory may have to be made first.
READ_ONLY = r"""
for path do
  for directory in "$(dirname -- "$path")" "$(dirname -- "$(readlink -m -- "$path")")"; do
    while test ! -e "$directory"; do directory=$(dirname -- "$directory"); done
    if test ! -w "$directory"; then echo "$path"; break; fi
  done
done
"""

# $1 the directory, then paths in it. Prints "PATH<TAB>TARGET".
LINKS_OUT = r"""
top=$(readlink -f -- "$1") || exit 0
shift
for path do
  test -L "$path" || continue
  target=$(readlink -m -- "$path")
  case $target in "$top"/*) ;; *) printf '%s\t%s\n' "$path" "$target" ;; esac
done
"""


@dataclass(frozen=True)
class UserFile:
    """A file with its mode in octal, such as ``600``. Links are followed."""

    mode: str
    content: bytes

    @property
    def text(self) -> str:
        """The content as text. Bytes that are not UTF-8 survive the way back (surrogateescape)."""
        return self.content.decode("utf-8", "surrogateescape")


class UserFiles(FactBase[dict[str, UserFile | None]]):
    """The file at each of ``paths``, or None where there is none.

    pyinfra's ``files.FileContents`` gives lines, and loses other bytes and whether the last line ends in a newline.
    """

    def command(self, paths: Sequence[str]) -> StringCommand:
        self.paths = list(paths)
        return shell.script(SCRIPT, *paths)

    def process(self, output: list[str]) -> dict[str, UserFile | None]:
        return {path: _user_file(line) for path, line in zip(self.paths, output, strict=False)}

    @staticmethod
    def default() -> dict[str, UserFile | None]:
        """A machine without any of them."""
        return {}


class Directories(FactBase[dict[str, str]]):
    """Those of ``paths`` that are directories, or links to one: path -> mode in octal."""

    def command(self, paths: Sequence[str]) -> StringCommand:
        return shell.script(DIRECTORIES, *paths)

    def process(self, output: list[str]) -> dict[str, str]:
        pairs = (line.split(" ", 1) for line in output)
        return {path: mode for mode, path in pairs}

    @staticmethod
    def default() -> dict[str, str]:
        """A machine without any of them."""
        return {}


class ReadOnly(FactBase[list[str]]):
    """Those of ``paths`` that cannot be replaced: their directory, or that of what they link to, is read-only."""

    def command(self, paths: Sequence[str]) -> StringCommand:
        return shell.script(READ_ONLY, *paths)

    def process(self, output: list[str]) -> list[str]:
        return output

    @staticmethod
    def default() -> list[str]:
        """A machine where all can."""
        return []


class LinksOut(FactBase[dict[str, str]]):
    """Those of ``paths`` in ``directory`` that are links and lead out of it, and where to.

    The directory may itself be a link.
    """

    def command(self, directory: str, paths: Sequence[str]) -> StringCommand:
        return shell.script(LINKS_OUT, directory, *paths)

    def process(self, output: list[str]) -> dict[str, str]:
        return dict(line.split("\t", 1) for line in output)

    @staticmethod
    def default() -> dict[str, str]:
        """A machine without any."""
        return {}


def _user_file(line: str) -> UserFile | None:
    kind, *rest = line.split(" ")
    if kind != "file":
        return None
    return UserFile(rest[0], base64.b64decode(rest[1]) if len(rest) > 1 else b"")
