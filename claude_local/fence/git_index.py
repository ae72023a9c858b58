"""Reads from a git index (gitformat-index(5)) which files ``git status`` and ``git diff`` skip. Pure."""

from __future__ import annotations

import struct

# The most bytes of an index that we read: about 600,000 files, which takes a second.
MAX_SIZE = 64 << 20
_HEADER = struct.Struct(">4sII")
# Bits of an entry's flags: assume-unchanged, extended; of the extended flags: skip-worktree.
_UNCHANGED, _EXTENDED, _SKIP = 0x8000, 0x4000, 0x4000
# Bytes of the file's status, ten numbers, before the object's name.
_STATUS = 40
# Bytes of the longest path in Linux, and how many paths are returned. Version 4 compresses paths, so a small index of
# an attacker's could expand to more than the memory.
_LONGEST, _MOST = 4096, 10_000


def hidden_paths(data: bytes, *, sparse: bool = False, name_size: int = 20) -> set[str]:
    """The paths of the entries that are marked assume-unchanged or skip-worktree, up to the first one that cannot be
    read.

    ``sparse``: the repository has a sparse checkout, which uses skip-worktree, so that mark does not count.
    ``name_size``: bytes of an object's name, 20 for SHA-1, 32 for SHA-256.
    """
    paths: set[str] = set()
    try:
        signature, version, count = _HEADER.unpack_from(data)
        if signature != b"DIRC" or version not in (2, 3, 4):
            return paths
        at, name = _HEADER.size, b""
        for _ in range(count):
            begin = at
            at += _STATUS + name_size
            flags = data[at] << 8 | data[at + 1]
            more = data[at + 2] << 8 | data[at + 3] if flags & _EXTENDED else 0
            at += 4 if flags & _EXTENDED else 2
            if version == 4:
                # How many bytes to drop from the previous path, encoded like an offset in a pack file.
                drop = data[at] & 0x7F
                while data[at] & 0x80 and drop <= _LONGEST:
                    at += 1
                    drop = ((drop + 1) << 7) | (data[at] & 0x7F)
                end = data.index(b"\0", at + 1, at + 2 + _LONGEST)
                if drop > len(name):
                    return paths
                name = (name[: len(name) - drop] + data[at + 1 : end])[: _LONGEST + 1]
                at = end + 1
            else:
                end = data.index(b"\0", at, at + 1 + _LONGEST)
                name = data[at:end]
                # Padded with NUL bytes, at least one, to a multiple of eight.
                at = begin + ((end - begin) // 8 + 1) * 8
            if len(name) > _LONGEST or len(paths) >= _MOST:
                return paths
            if flags & _UNCHANGED or (more & _SKIP and not sparse):
                paths.add(name.decode("utf-8", "surrogateescape"))
    except (struct.error, IndexError, ValueError):
        pass
    return paths
