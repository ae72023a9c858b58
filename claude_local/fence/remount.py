"""Mounts again what falls out of a session's fence while it runs.

A mount on a file ends when somebody outside replaces the file by renaming another one over it, and that is how git writes
``.git/config``, Claude Code ``~/.claude.json`` and an editor nearly everything. This program joins the session's mount
namespace (its creator may), sees the mount go and mounts it again, within about a millisecond.
Sockets, which may be gone in a moment, are blanked by it in the first place, and secrets when they appear, within a second.

Before that it cuts the session's mounts off from the machine's. bubblewrap leaves them slaves of those: a disk that is plugged
in later would appear in the session, and could be written there.

A child of the launcher's (``Helper``), forked before it has threads: only a process of one thread may change namespaces. It
ends with the session or with its launcher.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import select
import signal
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

# <linux/nsfs.h>, <linux/sched.h>, <linux/mount.h>, <linux/fcntl.h>, <linux/prctl.h>
NS_GET_USERNS = 0xB701
CLONE_NEWNS, CLONE_NEWUSER = 0x20000, 0x10000000
MS_REC, MS_PRIVATE = 1 << 14, 1 << 18
MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV = 1, 2, 4
OPEN_TREE_CLONE, FSOPEN_CLOEXEC, FSCONFIG_CMD_CREATE, FSMOUNT_CLOEXEC = 1, 1, 6, 1
MOVE_MOUNT_F_EMPTY_PATH, MOVE_MOUNT_T_EMPTY_PATH = 0x4, 0x40
AT_EMPTY_PATH, AT_RECURSIVE = 0x1000, 0x8000
PR_SET_PDEATHSIG = 1
# <asm-generic/unistd.h>, the same on x86_64 and aarch64: glibc has no functions for them before 2.36. Linux 5.12.
_OPEN_TREE, _MOVE_MOUNT, _FSOPEN, _FSCONFIG, _FSMOUNT, _MOUNT_SETATTR = 428, 429, 430, 431, 432, 442
# What every mount gets before it is anywhere.
_CLOSED = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV
# What the program says: which of its two tasks it can do, that it has begun, and then paths that end with a NUL.
_CUT_OFF, _MOUNTS, _READY = b"c", b"m", b"\n"
# Milliseconds between two looks for what is not there at the moment.
PAUSE = 100
KINDS = ("emptied", "blanked", "guarded", "stub_directories", "stub_files")
_STUBS = KINDS[3:]
# Seconds between two looks for secrets that were not there at the start: some 170 names, 0.4 ms.
LOOK = 1.0
_LIBC = ctypes.CDLL(None, use_errno=True)


def _called(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def _call(number: int, what: str, *arguments: int | bytes | ctypes.Array[ctypes.c_uint64] | None) -> int:
    words = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    return _called(_LIBC.syscall(ctypes.c_long(number), *words), what)


def join(process: int) -> None:
    """Enter the mount namespace of ``process``, by way of the user namespace that owns it."""
    space = os.open(f"/proc/{process}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    owner = fcntl.ioctl(space, NS_GET_USERNS)
    _called(_LIBC.setns(owner, CLONE_NEWUSER), "setns")
    _called(_LIBC.setns(space, CLONE_NEWNS), "setns")
    os.close(owner)
    os.close(space)


def cut_off() -> None:
    """Let nothing that is mounted outside from now on appear in this mount namespace. Raises OSError."""
    _called(_LIBC.mount(None, b"/", None, ctypes.c_ulong(MS_REC | MS_PRIVATE), None), "mount")


def cover(path: str, kind: str) -> None:
    """Mount over ``path`` as ``kind`` says. Raises OSError, with ELOOP where a link leads elsewhere."""
    if _real(path) != path:
        raise OSError(errno.ELOOP, "it is behind a link", path)
    if kind in _STUBS and not os.path.lexists(path):
        os.mkdir(path) if kind == "stub_directories" else os.close(os.open(path, os.O_CREAT | os.O_EXCL, 0o644))
    with _opened(path, os.O_PATH | os.O_NOFOLLOW) as target:
        mode = os.fstat(target).st_mode
        if stat.S_ISLNK(mode):
            raise OSError(errno.ELOOP, "it is a link", path)
        with _guard(target, mode, kind) as mount:
            # Not by name: where another file has that by now, this fails, and the next round mounts over that one.
            flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH
            _call(_MOVE_MOUNT, "move_mount", mount, b"", target, b"", flags)


def _real(path: str) -> str:
    """As ``realpath``; empty where a chain of links has no end for Python."""
    try:
        return os.path.realpath(path)
    except RecursionError:
        return ""


def can_cover() -> bool:
    """Whether the kernel, and what filters its calls, has all that ``cover`` needs."""
    try:
        with (
            _opened("/dev/null", os.O_PATH) as nothing,
            _guard(nothing, stat.S_IFREG, "guarded"),
            _guard(nothing, stat.S_IFDIR, "emptied"),
        ):
            _call(_MOVE_MOUNT, "move_mount", -1, b"", -1, b"", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH)
    except OSError as error:
        # It has looked as far as the descriptors.
        return error.errno == errno.EBADF
    return False


@contextmanager
def _opened(path: str, flags: int) -> Iterator[int]:
    descriptor = os.open(path, flags | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _guard(target: int, mode: int, kind: str) -> Iterator[int]:
    """What is to be mounted over ``target``, closed before anybody can reach it: a mount that is in its place already
    cannot be made read-only as long as the session has a file on it open for writing."""
    if kind == "guarded":
        mount = _clone(target)
    elif stat.S_ISDIR(mode):
        mount = _empty_directory()
    else:
        with _opened("/dev/null", os.O_PATH) as nothing:
            mount = _clone(nothing)
    try:
        yield mount
    finally:
        os.close(mount)


def _clone(source: int) -> int:
    flags = OPEN_TREE_CLONE | AT_EMPTY_PATH | AT_RECURSIVE | os.O_CLOEXEC
    mount = _call(_OPEN_TREE, "open_tree", source, b"", flags)
    # struct mount_attr: set, clear, propagation, user namespace.
    closed = (ctypes.c_uint64 * 4)(_CLOSED, 0, 0, 0)
    try:
        _call(_MOUNT_SETATTR, "mount_setattr", mount, b"", AT_EMPTY_PATH | AT_RECURSIVE, closed, ctypes.sizeof(closed))
    except OSError:
        os.close(mount)
        raise
    return mount


def _empty_directory() -> int:
    context = _call(_FSOPEN, "fsopen", b"tmpfs", FSOPEN_CLOEXEC)
    try:
        _call(_FSCONFIG, "fsconfig", context, FSCONFIG_CMD_CREATE, None, None, 0)
        return _call(_FSMOUNT, "fsmount", context, FSMOUNT_CLOEXEC, _CLOSED)
    finally:
        os.close(context)


def points(table: int) -> set[str]:
    os.lseek(table, 0, os.SEEK_SET)
    with open(table, encoding="utf-8", errors="surrogateescape", newline="\n", closefd=False) as file:
        lines = [line.split(" ", 5) for line in file]
    found = (words[4] for words in lines if len(words) > 5)
    return {_plain(path) for path in found}


def _plain(text: str) -> str:
    for written, meant in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\043", "#"), ("\\134", "\\")):
        text = text.replace(written, meant)
    return text


@dataclass(frozen=True)
class Kept:
    """What the program does for a session: ``cut_off`` from what is mounted outside; ``mounts`` that are kept up."""

    cut_off: bool
    mounts: bool


class Helper:
    """The program, as its launcher sees it: started early, because bubblewrap takes its time, and told then for which session.

    It keeps up the mounts over ``wanted`` (kind, see KINDS -> paths). ``late``: what is mounted over, as blanked, as soon as
    it is there.
    """

    def __init__(self, wanted: Mapping[str, Sequence[str]], late: Sequence[str] = ()) -> None:
        asked, self._tell = os.pipe()
        self._said, words = os.pipe()
        self._child = os.fork()
        if self._child == 0:
            status = 1
            try:
                _keep({path: kind for kind in KINDS for path in wanted.get(kind, ())}, late, asked, words)
                status = 0
            finally:
                os._exit(status)
        os.close(asked)
        os.close(words)

    def keep(self, process: int) -> Kept:
        """Let it begin with the session whose first program is ``process``; when this returns, what was not mounted over yet
        is, but for what may come late: that is looked for next."""
        with suppress(OSError):
            os.write(self._tell, b"%d" % process)
        os.close(self._tell)
        said = b""
        while (byte := os.read(self._said, 1)) not in (b"", _READY):
            said += byte
        return Kept(_CUT_OFF in said, _MOUNTS in said and byte == _READY)

    def end(self) -> tuple[bool, list[str]]:
        """Stop the program: whether it was at work to the end, and the paths at which a session can have put something while
        they were not guarded; what is empty there is nothing."""
        ended, _ = os.waitpid(self._child, os.WNOHANG)
        if not ended:
            os.kill(self._child, signal.SIGKILL)
            os.waitpid(self._child, 0)
        with open(self._said, "rb") as words:
            paths = [os.fsdecode(each) for each in words.read().split(b"\0") if each]
        return not ended, [path for path in paths if not _is_empty(path)]


def _is_empty(path: str) -> bool:
    with suppress(OSError):
        mode = os.lstat(path).st_mode
        return (stat.S_ISDIR(mode) and not os.listdir(path)) or (stat.S_ISREG(mode) and os.lstat(path).st_size == 0)
    return not os.path.lexists(path)


def _keep(kinds: Mapping[str, str], late: Sequence[str], asked: int, words: int) -> None:
    # Nothing of the session's terminal, and nothing that keeps anybody waiting for an end.
    os.setsid()
    launcher = os.getppid()
    nowhere = os.open("/dev/null", os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    for descriptor in {int(name) for name in os.listdir("/dev/fd")} - {0, 1, 2, asked, words}:
        with suppress(OSError):
            os.close(descriptor)
    # Nothing: the launcher is gone.
    process = int(os.read(asked, 16))
    os.close(asked)
    table = os.open(f"/proc/{process}/mountinfo", os.O_RDONLY | os.O_CLOEXEC)
    os.set_blocking(words, False)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    join(process)
    cut_off()
    # Only now: entering a user namespace takes this back.
    _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != launcher:
        return
    os.write(words, _CUT_OFF + (_MOUNTS if can_cover() else b""))
    changes = select.poll()
    changes.register(table, select.POLLERR | select.POLLPRI)  # proc_pid_mounts(5)
    ready, looked = False, 0.0
    away: set[str] = set()
    told: set[str] = set()
    while there := points(table):
        missing = sorted(kinds.keys() - there)
        for path in missing:
            if _is_doubtful(path, kinds[path], away) and path not in told:
                told.add(path)
                with suppress(OSError):
                    os.write(words, os.fsencode(path) + b"\0")
        if not ready:
            # Of what may come late, the launcher has seen that it was not there, and the look follows at once: Claude Code need not wait.
            os.write(words, _READY)
            ready = True
        if time.monotonic() - looked >= LOOK:
            looked = time.monotonic()
            for path in map(_real, late):
                if path not in there and os.path.lexists(path):
                    with suppress(OSError):
                        cover(path, "blanked")
        changes.poll(PAUSE if missing else 1000)


def _is_doubtful(path: str, kind: str, away: set[str]) -> bool:
    """Mount over ``path`` again. Whether the session can have put something there before, or still can: with a directory
    that it has opened, later too. ``away``: what was guarded and is not there."""
    try:
        cover(path, kind)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR):
            return True
        # Gone, or replaced once more: then the next round covers it.
        if kind == "guarded" and not os.path.lexists(path):
            away.add(path)
        return False
    # A file may have been replaced at once by another one, as editors do.
    return kind in _STUBS or path in away or (kind == "guarded" and os.path.isdir(path))
