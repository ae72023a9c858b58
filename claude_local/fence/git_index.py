"""Which files a git index (gitformat-index(5)) keeps out of ``git status`` and ``git diff``. Pure: bytes in, names out."""

from __future__ import annotations

import struct

_HEADER = struct.Struct(">4sII")
# Bits of an entry's flags: assume-unchanged, "two more bytes"; of those two: skip-worktree.
_UNCHANGED, _EXTENDED, _SKIP = 0x8000, 0x4000, 0x4000
# Ten numbers of the file's status stand before the object's name.
_STATUS = 40
# Bytes of the longest name that Linux takes, and how many names are kept: in version 4 a few bytes can stand for a long
# one, and 64 MiB for all the memory there is.
_LONGEST, _MOST = 4096, 10_000


def hidden(data: bytes, *, sparse: bool = False, name_size: int = 20) -> set[str]:
    """The paths of the entries that are marked assume-unchanged or skip-worktree; what cannot be read is left out.

    ``sparse``: skip-worktree is how a sparse checkout works, and does not count. ``name_size``: bytes of an object's
    name, 20 for SHA-1, 32 for SHA-256.
    """
    found: set[str] = set()
    try:
        signature, version, count = _HEADER.unpack_from(data)
        if signature != b"DIRC" or version not in (2, 3, 4):
            return found
        at, name = _HEADER.size, b""
        for _ in range(count):
            begin = at
            at += _STATUS + name_size
            flags = data[at] << 8 | data[at + 1]
            more = data[at + 2] << 8 | data[at + 3] if flags & _EXTENDED else 0
            at += 4 if flags & _EXTENDED else 2
            if version == 4:
                # How many bytes of the last name go, in the variable length of pack files' offsets.
                drop = data[at] & 0x7F
                while data[at] & 0x80 and drop <= _LONGEST:
                    at += 1
                    drop = ((drop + 1) << 7) | (data[at] & 0x7F)
                end = data.index(b"\0", at + 1, at + 2 + _LONGEST)
                if drop > len(name):
                    return found
                name = (name[: len(name) - drop] + data[at + 1 : end])[: _LONGEST + 1]
                at = end + 1
            else:
                end = data.index(b"\0", at, at + 1 + _LONGEST)
                name = data[at:end]
                # To a multiple of eight, with one NUL byte at least.
                at = begin + ((end - begin) // 8 + 1) * 8
            if len(name) > _LONGEST or len(found) >= _MOST:
                return found
            if flags & _UNCHANGED or (more & _SKIP and not sparse):
                found.add(name.decode("utf-8", "surrogateescape"))
    except (struct.error, IndexError, ValueError):
        pass
    return found
