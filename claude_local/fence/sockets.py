"""Finds the Unix sockets that a session must not reach, and hides them."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from os.path import basename, dirname, isabs, isdir, join

from claude_local.fence import policy
from claude_local.fence.files import expanded, realpath, text_of
from claude_local.fence.plan import covers
from claude_local.fence.survey import Survey


def control_directories(home: str) -> list[str]:
    """The directories of ssh's control sockets, as ``~/.ssh/config`` and what it includes name them: whoever reaches one has
    a connection that is logged in. Only those that hold nothing else."""
    texts = [text_of(join(home, ".ssh", "config"))]
    for word, value in _ssh_options(texts[0]):
        if word == "include":
            texts += [text_of(each) for pattern in value.split() for each in _matching(pattern, home)]
    found = []
    for word, value in (option for text in texts for option in _ssh_options(text)):
        path = expanded(value.strip('"').replace("%d", home).replace("${HOME}", home), home)
        # Up to what differs from connection to connection.
        directory = dirname(path.partition("%")[0].partition("$")[0])
        if word == "controlpath" and isdir(directory) and all(is_socket for _, is_socket in _entries(directory)):
            found.append(directory)
    return list(dict.fromkeys(found))


def _ssh_options(text: str) -> Iterator[tuple[str, str]]:
    """Keyword, in small letters, and the rest of each line of an ssh_config(5)."""
    for line in text.splitlines():
        words = line.strip().replace("=", " ", 1).split(None, 1)
        if len(words) == 2:
            yield words[0].lower(), words[1].strip()


def _matching(pattern: str, home: str) -> list[str]:
    """The files that an Include names; one star in the last part is all that is known here."""
    path = join(home, ".ssh", pattern.strip('"').replace("~", home, 1))
    begin, star, end = basename(path).partition("*")
    if not star:
        return [path]
    with suppress(OSError):
        return [join(dirname(path), name) for name in sorted(os.listdir(dirname(path)))
                if name.startswith(begin) and name.endswith(end)]  # fmt: skip
    return []


def listening_sockets(table: str) -> list[str]:
    """The paths in /proc/net/unix that something has bound. A relative one starts where that program was then."""
    rows = (line.split(None, 7) for line in table.splitlines()[1:])
    return list(dict.fromkeys(row[7] for row in rows if len(row) == 8 and not row[7].startswith("@")))


def _working_directories() -> set[str]:
    """Where the processes are that we may look at."""
    found = set()
    for name in os.listdir("/proc"):
        if name.isdigit():
            with suppress(OSError):
                found.add(os.readlink(f"/proc/{name}/cwd"))
    return found


def _entries(directory: str) -> Iterator[tuple[str, bool]]:
    """The path of each entry, and whether it may be a socket."""
    with suppress(OSError), os.scandir(directory) as entries:
        for each in entries:
            kinds = (each.is_file(follow_symlinks=False), each.is_dir(follow_symlinks=False), each.is_symlink())
            yield each.path, not any(kinds)


def blank_sockets(survey: Survey, table: str, writable: Iterable[str]) -> None:
    """A read-only mount does not stop a connection to a socket in it: blank those that no emptied directory hides.

    ssh binds a name, gives the socket another one and takes the first away: where a name is gone, every socket beside it.
    """
    covered = [*policy.EMPTIED, *survey.fence.emptied, *survey.fence.scratch, *writable]
    names = listening_sockets(table)
    relative = [name for name in names if not isabs(name)]
    places = [name for name in names if isabs(name)]
    places += [join(each, name) for each in (_working_directories() if relative else ()) for name in relative]
    gone = {dirname(path) for path in places if isabs(path) and not os.path.lexists(path)}
    places += [path for directory in gone for path, is_socket in _entries(directory) if is_socket]
    for path in dict.fromkeys(places):
        with suppress(OSError):
            real = realpath(path)
            if stat.S_ISSOCK(os.lstat(real).st_mode) and not any(covers(each, real) for each in covered):
                survey.fence.blanked.append(real)
    survey.fence.blanked = list(dict.fromkeys(survey.fence.blanked))
