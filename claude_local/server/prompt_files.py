"""The prompts that llama-server keeps over a restart: files/image/patches/0008-prompt-files.patch writes them."""

from __future__ import annotations

import re
import struct
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

# PROFILE-KEY.HASH.KIND, and what a server that was killed while it wrote leaves behind.
_NAME = re.compile(r"(?P<profile>.+)-[0-9a-f]{12}\.[0-9a-f]{16}\.(?P<kind>shared|session)(?P<unfinished>\.\d+)?")
# The format's mark, the file's bytes, the tokens.
_HEAD = struct.Struct("<QQQ")


@dataclass(frozen=True)
class PromptFile:
    """A prompt of ``tokens`` tokens in ``size`` bytes. ``kind``: shared (system and tools) or session (a conversation).
    ``used``: seconds since the epoch. ``whole``: False for one that is being written, or was not to the end."""

    path: Path
    profile: str
    kind: str
    tokens: int
    size: int
    used: float
    whole: bool


def prompt_files(folder: Path) -> list[PromptFile]:
    """The files in the folder, the last used first. Raises OSError."""
    found = []
    for path in folder.iterdir():
        if match := _NAME.fullmatch(path.name):
            # The server may have removed it since.
            with suppress(FileNotFoundError), path.open("rb") as file:
                head, info = file.read(_HEAD.size), path.stat()
                _, size, tokens = _HEAD.unpack(head) if len(head) == _HEAD.size else (0, 0, 0)
                whole = size == info.st_size and not match["unfinished"]
                found.append(
                    PromptFile(path, match["profile"], match["kind"], tokens, info.st_size, info.st_mtime, whole)
                )
    return sorted(found, key=lambda each: -each.used)


def clear(folder: Path) -> list[PromptFile]:
    """Delete the files; those that were there. The server reads the next prompt in full. Raises OSError."""
    found = prompt_files(folder)
    for each in found:
        each.path.unlink(missing_ok=True)
    return found
