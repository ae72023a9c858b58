"""Runs bubblewrap: what it reads from descriptors, the socket to the first program inside, signals and the end."""

from __future__ import annotations

import os
import select
import signal
import socket
import struct
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import NamedTuple

from claude_local.fence import plan
from claude_local.fence.files import read_text
from claude_local.fence.messages import PROVISION, fail

FORWARDED = (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
# siginfo's code of a signal that the kernel itself sent, as a terminal does to everything in its foreground.
SI_KERNEL = 0x80
# Seconds that the processes of a session may take to be gone when bubblewrap kills them.
GONE = 30.0

# Descriptors that bubblewrap reads from; closed here when it has started.
_inherited: list[int] = []


def _inherit(descriptor: int) -> int:
    os.set_inheritable(descriptor, True)
    _inherited.append(descriptor)
    return descriptor


def memory_file(name: str, content: bytes) -> int:
    """A descriptor from which bubblewrap reads ``content``."""
    descriptor = os.memfd_create(name)
    os.write(descriptor, content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return _inherit(descriptor)


def empty_files() -> Iterator[int]:
    """Descriptors from which bubblewrap reads nothing, a new one each time."""
    while True:
        yield _inherit(os.open("/dev/null", os.O_RDONLY))


def ignore_files() -> Iterator[int]:
    """Descriptors from which bubblewrap reads a ``.gitignore`` that ignores everything, a new one each time."""
    while True:
        yield memory_file("gitignore", b"*\n")


def account_files(home: str) -> tuple[int, int]:
    """Descriptors with the passwd and group files of a session of root."""
    passwd, group = plan.accounts(read_text("/etc/passwd"), read_text("/etc/group"), home)
    return memory_file("passwd", os.fsencode(passwd)), memory_file("group", os.fsencode(group))


def control_sockets() -> tuple[socket.socket, socket.socket]:
    """Our end and inside.py's end of the socket between them; ours receives credentials, theirs is inherited."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    os.set_inheritable(theirs.fileno(), True)
    return ours, theirs


def start(argv: list[str], env: Mapping[str, str], stderr: int = 2) -> int:
    """Start bubblewrap in this process group and return its process id. It ignores the signals that Claude Code must
    get, because it would end before Claude Code does. ``stderr``: a descriptor."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD, *FORWARDED})
    for number in FORWARDED:
        signal.signal(number, signal.SIG_IGN)
    try:
        actions = [(os.POSIX_SPAWN_DUP2, stderr, 2)] if stderr != 2 else []
        return os.posix_spawn(argv[0], argv, dict(env), file_actions=actions, setsigmask=[])
    except OSError as error:
        fail(f"{argv[0]} cannot be started: {error.strerror}", PROVISION)
    finally:
        while _inherited:
            os.close(_inherited.pop())


class FirstMessage(NamedTuple):
    """What inside.py sends: its listening sockets, and its process id out here, which becomes Claude Code's."""

    sockets: list[socket.socket]
    process: int


def receive(control: socket.socket, count: int) -> FirstMessage | None:
    """The first message from inside, with ``count`` sockets; None when the fence was not set up."""
    room = socket.CMSG_SPACE(max(count, 1) * 4) + socket.CMSG_SPACE(12)
    message, ancillary, _, _ = control.recvmsg(16, room)
    if not message:
        return None
    sockets, process = [], None
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            usable = len(data) - len(data) % 4
            sockets = [socket.socket(fileno=each) for each in struct.unpack(f"{usable // 4}i", data[:usable])]
        elif level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
            process = struct.unpack("3i", data)[0]
    return None if process is None else FirstMessage(sockets, process)


def mounts_of(process: int | str) -> str:
    """The text of a process's mountinfo; ``self`` is the launcher. Ends the program when it cannot be read."""
    try:
        with open(f"/proc/{process}/mountinfo", encoding="utf-8", errors="surrogateescape", newline="\n") as file:
            return file.read()
    except OSError as error:
        fail(f"the fence's mounts cannot be checked: {error}", PROVISION)


def first_process(claude: int) -> int | None:
    """A descriptor of the first process in Claude Code's process namespace, None when it cannot be opened. It becomes
    readable when no other process is left there."""
    with suppress(OSError, ValueError, IndexError):
        return os.pidfd_open(int(read_text(f"/proc/{claude}/stat").rpartition(")")[2].split()[1]))
    return None


def are_gone(first: int | None) -> bool:
    """Wait for the end of all processes of a session, at most GONE seconds; bubblewrap itself does not wait for what
    the session left in the background. ``first``: from ``first_process``."""
    return first is None or bool(select.select([first], [], [], GONE)[0])


def wait(bubblewrap: int, claude: int) -> int:
    """Forward signals to Claude Code until bubblewrap ends; its exit status, which is Claude Code's."""
    handle = None
    with suppress(OSError):
        handle = os.pidfd_open(claude)
    while True:
        ended, status = os.waitpid(bubblewrap, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        info = signal.sigwaitinfo({signal.SIGCHLD, *FORWARDED})
        # A terminal sends to every process in its foreground: Claude Code has that signal already.
        if info.si_signo != signal.SIGCHLD and info.si_code != SI_KERNEL and handle is not None:
            with suppress(OSError):
                signal.pidfd_send_signal(handle, info.si_signo)
