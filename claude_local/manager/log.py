"""llama-server's log file: its last lines, and new ones as they are written."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

# Bytes that are read from the end of the file for its last lines, and seconds between two looks for new ones.
TAIL, LOOK = 65536, 0.5
# Bytes of the file at which its lines move to a second file, which replaces the one from the last time.
LARGEST = 10 * 1024 * 1024


def last_lines(path: Path, count: int) -> tuple[list[str], int]:
    """The last ``count`` complete lines, of at most TAIL bytes, and where in the file they end; ([], 0) without one."""
    try:
        with open(path, "rb") as file:
            start = max(0, file.seek(0, 2) - TAIL)
            file.seek(start)
            text = file.read(TAIL)
    except OSError:
        return [], 0
    text = text[: text.rfind(b"\n") + 1]
    lines = text.decode(errors="replace").splitlines()[1 if start else 0 :]
    return lines[max(0, len(lines) - count) :], start + len(text)


async def follow(path: Path, position: int) -> AsyncIterator[str]:
    """Each line after ``position``, for ever. When the file has become shorter, it is read from its beginning."""
    while True:
        size = _size(path)
        if size < position:
            position = 0
        if size > position:
            with open(path, "rb") as file:
                file.seek(position)
                text = file.read(TAIL)
            # The end of a line that is being written comes with the next look.
            if (end := text.rfind(b"\n") + 1) or len(text) < TAIL:
                text = text[:end]
            position += len(text)
            for line in text.decode(errors="replace").splitlines():
                yield line
        await asyncio.sleep(LOOK)


def shorten(path: Path, largest: int = LARGEST) -> None:
    """Move the lines of a file that has grown to FILE.1. llama-server appends, so it goes on at the beginning.

    Lines that it writes at this very moment may be lost.
    """
    if _size(path) > largest:
        shutil.copyfile(path, path.with_name(path.name + ".1"))
        os.truncate(path, 0)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
