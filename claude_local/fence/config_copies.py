"""Gives a session copies of git's configurations, and carries over what it changes in them and is harmless.

git obeys its configuration at once, and replaces the file when it changes something, which no mount allows. So behind
the fence ``.git/config`` is a symlink, mounted by remount.py, to a copy in the session's own /run. The session changes
the copy; this module writes harmless changes to the file outside, takes the others back, and brings changes from
outside in. Every directory is opened without following symlinks: the session chooses the names.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from os.path import dirname, join

from claude_local.fence import git_config
from claude_local.fence.files import read_whole_text
from claude_local.fence.quarantine import open_directory
from claude_local.fence.repository_check import CONFIG_SIZE

# Behind the fence. Below it each copy has a directory of its own, because git makes config.lock beside it.
PLACE = "/run/claude-local-git"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass
class Copy:
    """``path``: the configuration outside. ``text``: what both held when they were last the same. ``states``: of both
    when they were last read."""

    path: str
    text: str
    states: object = None


class ConfigCopies:
    """``paths``: configurations, as outside. Those that are no regular files, or too large, get no copy."""

    def __init__(self, paths: Sequence[str]) -> None:
        self._copies: list[Copy] = []
        for path in dict.fromkeys(paths):
            with suppress(OSError), open_directory("/", dirname(path)) as directory:
                if text := _read(directory):
                    self._copies.append(Copy(path, text))
        self._place = -1
        # By configuration: entries that were taken back, remotes and branches that were there and now lead elsewhere,
        # and why a change could not be written.
        self.refused: dict[str, list[str]] = {}
        self.redirected: dict[str, list[str]] = {}
        self.failed: dict[str, str] = {}

    @property
    def links(self) -> dict[str, str]:
        """Where each configuration leads behind the fence."""
        return {each.path: join(PLACE, str(number), "config") for number, each in enumerate(self._copies)}

    def make(self, process: int) -> None:
        """Make the copies in the session of ``process``. Raises OSError."""
        place = f"/proc/{process}/root{PLACE}"
        os.mkdir(place, 0o700)
        self._place = os.open(place, _DIRECTORY)
        for number, each in enumerate(self._copies):
            os.mkdir(str(number), 0o700, dir_fd=self._place)
            with self._inside(number) as inside:
                _write(inside, each.text)

    @contextmanager
    def _inside(self, number: int) -> Iterator[int]:
        """The open directory of a copy."""
        descriptor = os.open(str(number), _DIRECTORY, dir_fd=self._place)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def sync(self) -> None:
        """Carry changes over, in both directions."""
        for number, each in enumerate(self._copies if self._place >= 0 else ()):
            try:
                with open_directory("/", dirname(each.path)) as outside, self._inside(number) as inside:
                    states = (_state(outside), _state(inside))
                    if states != each.states and self._sync(each, outside, inside):
                        # As it was before: what changed meanwhile is seen in the next look.
                        each.states = states
            except FileNotFoundError:
                # The repository, or the session's copy, is gone.
                continue
            except OSError as error:
                self.failed[each.path] = error.strerror or str(error)

    def _sync(self, copy: Copy, outside: int, inside: int) -> bool:
        """Carry over what changed in one; False if that has to wait."""
        ours, theirs = _read(outside), _read(inside)
        if ours == "" and _exists("HEAD", outside) and not _exists("config", outside):
            # Claude Code removes a link there after each command. It fails, except at the moment when git outside has
            # replaced the file.
            _write(outside, copy.text)
        if not ours:
            return True
        if ours == copy.text and theirs != copy.text:
            refused = git_config.fixed_changes(ours, theirs) if theirs else ["no text"]
            if theirs and not refused:
                if _exists("config.lock", outside):
                    # git outside has read the file, and is about to replace it.
                    self.failed[copy.path] = "config.lock exists"
                    return False
                _overwrite(outside, ours, theirs)
                self.failed.pop(copy.path, None)
                before, after = git_config.destinations(ours), git_config.destinations(theirs)
                changed = [name for name in before if after.get(name, before[name]) != before[name]]
                _add(self.redirected, copy.path, changed)
                copy.text = theirs
                return True
            _add(self.refused, copy.path, refused)
        elif theirs not in (ours, copy.text):
            self.failed[copy.path] = "it changed outside at the same time"
        if theirs != ours:
            _write(inside, ours)
        copy.text = ours
        return True


def _add(found: dict[str, list[str]], path: str, words: list[str]) -> None:
    if words:
        found[path] = list(dict.fromkeys([*found.get(path, []), *words]))


def _read(directory: int) -> str | None:
    return read_whole_text("config", directory, CONFIG_SIZE)


def _exists(name: str, directory: int) -> bool:
    with suppress(OSError):
        os.lstat(name, dir_fd=directory)
        return True
    return False


def _state(directory: int) -> object:
    with suppress(OSError):
        status = os.lstat("config", dir_fd=directory)
        return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
    return None


def _write(directory: int, text: str) -> None:
    """Replace the copy in an open directory."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with suppress(FileNotFoundError):
        os.unlink("config.new", dir_fd=directory)
    with open(os.open("config.new", flags, 0o644, dir_fd=directory), "wb") as file:
        file.write(os.fsencode(text))
    os.rename("config.new", "config", src_dir_fd=directory, dst_dir_fd=directory)


def _overwrite(directory: int, former: str, text: str) -> None:
    """Write ``text`` into the file outside, if it holds ``former``. In place: replacing it would end its mount behind
    the fence for a moment. When git outside reads it meanwhile, it finds the one or the other, and blank lines at
    most."""
    descriptor = os.open("config", os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    try:
        old, new = os.fsencode(former), os.fsencode(text)
        if stat.S_ISREG(os.fstat(descriptor).st_mode) and os.pread(descriptor, len(old) + 1, 0) == old:
            os.pwrite(descriptor, new.ljust(len(old), b"\n"), 0)
            os.ftruncate(descriptor, len(new))
    finally:
        os.close(descriptor)
