"""Mounts again what is lost from a session's fence while it runs.

A mount on a file ends when a program outside renames another file over it. git does so with ``.git/config``, Claude
Code with ``~/.claude.json``, and an editor with most files. This program enters the session's mount namespace, which
its creator may, notices that a mount is gone and mounts again, within about a millisecond. It also hides sockets that
may be gone in a moment, and within a second the secrets that appear.

First it makes the session's mounts private. bubblewrap leaves them slaves of the machine's: a disk that is plugged in
later would appear in the session, and would be writable there. Each command of Claude Code's has mounts of its own,
copies of the session's: what is lost there is mounted again too.

It is a child of the launcher's (``Remounter``), forked while the launcher has one thread: a process with several
cannot change its namespaces. It ends with the session or with its launcher."""

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
from types import MappingProxyType
from typing import NamedTuple

from claude_local.fence.files import is_empty, realpath
from claude_local.fence.mountinfo import parse

# <linux/nsfs.h>, <linux/sched.h>, <linux/mount.h>, <linux/fcntl.h>, <linux/prctl.h>
NS_GET_USERNS = 0xB701
CLONE_NEWNS, CLONE_NEWUSER = 0x20000, 0x10000000
MS_REC, MS_PRIVATE = 1 << 14, 1 << 18
MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV = 1, 2, 4
OPEN_TREE_CLONE, FSOPEN_CLOEXEC, FSCONFIG_CMD_CREATE, FSMOUNT_CLOEXEC = 1, 1, 6, 1
MOVE_MOUNT_F_EMPTY_PATH, MOVE_MOUNT_T_EMPTY_PATH = 0x4, 0x40
AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH, AT_RECURSIVE = 0x100, 0x1000, 0x8000
PR_SET_PDEATHSIG = 1
# <asm-generic/unistd.h>, the same on x86_64 and aarch64, Linux 5.12. glibc has functions for them from 2.36 on.
_OPEN_TREE, _MOVE_MOUNT, _FSOPEN, _FSCONFIG, _FSMOUNT, _MOUNT_SETATTR = 428, 429, 430, 431, 432, 442
# Attributes that every mount gets before it is attached.
_ATTRIBUTES = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV
# What the program reports: that the mounts are private, that it can mount, that it has begun; then paths that
# end with a NUL.
_PRIVATE, _CAN_MOUNT, _READY = b"c", b"m", b"\n"
# Milliseconds to wait for a change of the mounts, when a mount is missing and when none is.
POLL_MISSING, POLL = 100, 1000
# Seconds between two looks for secrets that did not exist at the start: some 170 names, 0.4 ms.
SECRETS_INTERVAL = 1.0
# The fields of plan.Fence whose mounts are kept up.
KINDS = ("masked_directories", "masked_files", "ro_bind", "stub_directories", "stub_files")
_STUBS = KINDS[3:]
_NONE: Mapping[str, str] = MappingProxyType({})
_LIBC = ctypes.CDLL(None, use_errno=True)


class Protection(NamedTuple):
    """What the program does for a session. ``private_mounts``: mounts made outside do not appear in it. ``remounts``:
    lost mounts are made again."""

    private_mounts: bool
    remounts: bool


class Remounter:
    """The program, as its launcher sees it. It starts early, because bubblewrap takes its time, and is told later for
    which session it works.

    ``wanted``: the paths whose mounts it keeps up, by kind, see KINDS. ``future_secrets``: paths that it hides once
    they exist. ``links``: those of kind ``ro_bind`` that become symlinks, and their targets.
    """

    def __init__(
        self, wanted: Mapping[str, Sequence[str]], future_secrets: Sequence[str] = (), links: Mapping[str, str] = _NONE
    ) -> None:
        commands, self._commands = os.pipe()
        self._reports, reports = os.pipe()
        self._child = os.fork()
        if self._child == 0:
            status = 1
            try:
                kinds = {path: kind for kind in KINDS for path in wanted.get(kind, ())}
                _run(kinds, links, future_secrets, commands, reports)
                status = 0
            finally:
                os._exit(status)
        os.close(commands)
        os.close(reports)

    def attach(self, process: int) -> Protection:
        """Let it begin with the session whose first program is ``process``. When this returns, every path in
        ``wanted`` is mounted over."""
        with suppress(OSError):
            os.write(self._commands, b"%d" % process)
        os.close(self._commands)
        reports = b""
        while (byte := os.read(self._reports, 1)) not in (b"", _READY):
            reports += byte
        return Protection(_PRIVATE in reports, _CAN_MOUNT in reports and byte == _READY)

    def stop(self) -> tuple[bool, list[str]]:
        """Stop the program. Whether it ran to the end, and the paths that a session can have changed while they had no
        mount; an empty file or directory there does no harm and is left out."""
        ended, _ = os.waitpid(self._child, os.WNOHANG)
        if not ended:
            os.kill(self._child, signal.SIGKILL)
            os.waitpid(self._child, 0)
        with open(self._reports, "rb") as reports:
            paths = [os.fsdecode(each) for each in reports.read().split(b"\0") if each]
        return not ended, [path for path in paths if os.path.lexists(path) and not is_empty(path)]


# --- the program ------------------------------------------------------------------------------------------------------


def _run(
    kinds: dict[str, str], links: Mapping[str, str], future_secrets: Sequence[str], commands: int, reports: int
) -> None:
    """Wait for the session's first process and keep up its mounts. ``kinds``: by path. ``commands``, ``reports``: the
    ends of the pipes."""
    launcher = os.getppid()
    _detach(commands, reports)
    # Fails on an empty answer: then the launcher is gone.
    process = int(os.read(commands, 16))
    os.close(commands)
    mountinfo = os.open(f"/proc/{process}/mountinfo", os.O_RDONLY | os.O_CLOEXEC)
    namespace = os.stat(f"/proc/{process}/ns/mnt").st_ino
    os.set_blocking(reports, False)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    enter_namespaces(process)
    make_mounts_private()
    # Entering a user namespace resets this, so it comes afterwards.
    _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() == launcher:
        os.write(reports, _PRIVATE + (_CAN_MOUNT if can_mount() else b""))
        for path, target in links.items():
            # Where it fails, the file stays read-only.
            with suppress(OSError):
                mount_over(path, target)
                kinds[path] = target
        _keep_mounts(kinds, future_secrets, mountinfo, reports, namespace)


def _detach(*kept: int) -> None:
    """Leave the terminal, and close all descriptors but ``kept``: nobody shall wait for a pipe because of this
    program."""
    os.setsid()
    nowhere = os.open("/dev/null", os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    for descriptor in {int(name) for name in os.listdir("/dev/fd")} - {0, 1, 2, *kept}:
        with suppress(OSError):
            os.close(descriptor)


def _keep_mounts(
    kinds: Mapping[str, str], future_secrets: Sequence[str], mountinfo: int, reports: int, namespace: int
) -> None:
    """Mount again what is missing, until the session has no mounts any more. ``namespace``: the number of theirs."""
    changes = select.poll()
    changes.register(mountinfo, select.POLLERR | select.POLLPRI)  # proc_pid_mounts(5)
    is_ready, last_look = False, 0.0
    absent: set[str] = set()
    reported: set[str] = set()
    while mounted := mount_points(mountinfo):
        missing = sorted(kinds.keys() - mounted)
        for path in missing:
            is_weak = _mount_again(path, kinds[path], absent)
            _mount_in_commands(path, kinds[path], namespace)
            if is_weak and path not in reported:
                reported.add(path)
                with suppress(OSError):
                    os.write(reports, os.fsencode(path) + b"\0")
        if not is_ready:
            # Claude Code need not wait for the secrets: the launcher has just seen that they do not exist.
            os.write(reports, _READY)
            is_ready = True
        if time.monotonic() - last_look >= SECRETS_INTERVAL:
            last_look = time.monotonic()
            _hide_new_secrets(future_secrets, mounted)
        changes.poll(POLL_MISSING if missing else POLL)


def mount_points(mountinfo: int) -> set[str]:
    """The mount points in an open mountinfo file."""
    os.lseek(mountinfo, 0, os.SEEK_SET)
    with open(mountinfo, encoding="utf-8", errors="surrogateescape", newline="\n", closefd=False) as file:
        return {mount.point for mount in parse(file.read())}


def _mount_again(path: str, kind: str, absent: set[str]) -> bool:
    """Mount over ``path``. Whether the session can have changed something there before, or can still do so through a
    directory that it has opened. ``absent``: guarded paths that did not exist at an earlier try."""
    try:
        try:
            mount_over(path, kind)
        except FileNotFoundError:
            # It was replaced once more: git does so with each setting.
            mount_over(path, kind)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR):
            return True
        # It is gone: the next round mounts over it.
        if (kind == "ro_bind" or _is_link(kind)) and not os.path.lexists(path):
            absent.add(path)
        return False
    # A guarded file that was never absent was replaced in one step, as editors do it.
    return kind in _STUBS or path in absent or (kind == "ro_bind" and os.path.isdir(path))


def _mount_in_commands(path: str, kind: str, namespace: int) -> None:
    """Mount over ``path`` in the mount namespaces that processes of the session have besides ``namespace``. Does not
    wait for that: the session's own mount may be lost again."""
    others = {}
    # The session's own /proc, with its processes only.
    for name in os.listdir("/proc"):
        with suppress(OSError):
            if name.isdigit() and (number := os.stat(f"/proc/{name}/ns/mnt").st_ino) != namespace:
                others[number] = int(name)
    for process in others.values():
        # From one namespace there is no way into another.
        if os.fork() == 0:
            try:
                enter_namespaces(process)
                mount_over(path, kind)
            finally:
                os._exit(0)


def _hide_new_secrets(future_secrets: Sequence[str], mounted: set[str]) -> None:
    for path in map(realpath, future_secrets):
        if path not in mounted and os.path.lexists(path):
            with suppress(OSError):
                mount_over(path, "masked_files")


# --- the kernel's calls -----------------------------------------------------------------------------------------------


def _checked(result: int, name: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result


def _call(number: int, name: str, *arguments: int | bytes | ctypes.Array[ctypes.c_uint64] | None) -> int:
    values = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    return _checked(_LIBC.syscall(ctypes.c_long(number), *values), name)


def enter_namespaces(process: int) -> None:
    """Enter the mount namespace of ``process`` and the user namespace that owns it. Raises OSError."""
    with _opened(f"/proc/{process}/ns/mnt", os.O_RDONLY) as namespace:
        owner = fcntl.ioctl(namespace, NS_GET_USERNS)
        _checked(_LIBC.setns(owner, CLONE_NEWUSER), "setns")
        _checked(_LIBC.setns(namespace, CLONE_NEWNS), "setns")
        os.close(owner)


def make_mounts_private() -> None:
    """Make the mounts of this namespace private: what is mounted outside later does not appear here. Raises OSError."""
    _checked(_LIBC.mount(None, b"/", None, ctypes.c_ulong(MS_REC | MS_PRIVATE), None), "mount")


def _is_link(kind: str) -> bool:
    """Whether a symlink is mounted: then the kind is its target."""
    return kind.startswith("/")


def mount_over(path: str, kind: str) -> None:
    """Mount over ``path``, by the kind of its mount: one of KINDS, or the target of a symlink. Raises OSError, with
    ELOOP where a symlink leads elsewhere."""
    if realpath(path) != path:
        raise OSError(errno.ELOOP, "it is behind a symlink", path)
    if kind in _STUBS and not os.path.lexists(path):
        os.mkdir(path) if kind == "stub_directories" else os.close(os.open(path, os.O_CREAT | os.O_EXCL, 0o644))
    with _opened(path, os.O_PATH | os.O_NOFOLLOW) as target:
        mode = os.fstat(target).st_mode
        if stat.S_ISLNK(mode):
            raise OSError(errno.ELOOP, "it is a symlink", path)
        with _new_mount(target, mode, kind) as mount:
            # By descriptor, not by path: where another file has the path by now this fails, and the next round covers
            # it.
            flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH
            _call(_MOVE_MOUNT, "move_mount", mount, b"", target, b"", flags)


def can_mount() -> bool:
    """Whether the kernel, and a seccomp filter around us, allow all that ``mount_over`` needs."""
    try:
        with (
            _opened("/dev/null", os.O_PATH) as null,
            _new_mount(null, stat.S_IFREG, "ro_bind"),
            _new_mount(null, stat.S_IFDIR, "masked_directories"),
        ):
            _call(_MOVE_MOUNT, "move_mount", -1, b"", -1, b"", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH)
    except OSError as error:
        # The call got as far as the descriptors.
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
def _new_mount(target: int, mode: int, kind: str) -> Iterator[int]:
    """A mount for ``target`` that is not attached yet. It is read-only from the start: an attached mount cannot be made
    read-only while the session has a file on it open for writing."""
    if kind == "ro_bind":
        mount = _clone(target)
    elif _is_link(kind):
        with _writable_tmpfs() as directory:
            os.symlink(kind, "link", dir_fd=directory)
            mount = _clone(directory, b"link")
    elif stat.S_ISDIR(mode):
        mount = _tmpfs()
    else:
        with _opened("/dev/null", os.O_PATH) as null:
            mount = _clone(null)
    try:
        yield mount
    finally:
        os.close(mount)


def _clone(source: int, name: bytes = b"") -> int:
    """A bind mount of an open file or directory, with everything mounted below it; of ``name`` in it, if given, even if
    that is a symlink."""
    flags = OPEN_TREE_CLONE | AT_EMPTY_PATH | AT_RECURSIVE | AT_SYMLINK_NOFOLLOW | os.O_CLOEXEC
    mount = _call(_OPEN_TREE, "open_tree", source, name, flags)
    # struct mount_attr: set, clear, propagation, user namespace.
    attributes = (ctypes.c_uint64 * 4)(_ATTRIBUTES, 0, 0, 0)
    size = ctypes.sizeof(attributes)
    try:
        _call(_MOUNT_SETATTR, "mount_setattr", mount, b"", AT_EMPTY_PATH | AT_RECURSIVE, attributes, size)
    except OSError:
        os.close(mount)
        raise
    return mount


@contextmanager
def _writable_tmpfs() -> Iterator[int]:
    mount = _tmpfs(_ATTRIBUTES & ~MOUNT_ATTR_RDONLY)
    try:
        yield mount
    finally:
        os.close(mount)


def _tmpfs(attributes: int = _ATTRIBUTES) -> int:
    context = _call(_FSOPEN, "fsopen", b"tmpfs", FSOPEN_CLOEXEC)
    try:
        _call(_FSCONFIG, "fsconfig", context, FSCONFIG_CMD_CREATE, None, None, 0)
        return _call(_FSMOUNT, "fsmount", context, FSMOUNT_CLOEXEC, attributes)
    finally:
        os.close(context)
