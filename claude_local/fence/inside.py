"""The first program behind the outer fence: listens on the session's ports, hands the sockets out, becomes Claude Code.

``inside.py CONTROL ADDRESSES COMMAND...``: CONTROL is the descriptor of a socket to the launcher. ADDRESSES are ``HOST
PORT`` pairs with commas between them (``127.0.0.1 8080,::1 8080``), or empty. The launcher learns this process's id
from the message, and Claude Code keeps it. The launcher answers with one byte when the fence's mounts are as planned.
"""

import os
import signal
import socket
import sys

# The launcher ignores these in bubblewrap, so that it does not end before Claude Code.
IGNORED_OUTSIDE = ("SIGINT", "SIGQUIT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")


def listening_socket(host: str, port: int) -> socket.socket:
    """A socket that listens on ``host`` and ``port``. Raises OSError or OverflowError."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    listener.listen(64)
    return listener


def main(argv: list[str]) -> None:
    """Become the command in ``argv``. Status 1: a port cannot be offered, or the fence is not as planned."""
    control, addresses, command = int(argv[1]), argv[2], argv[3:]
    pairs = [pair.split(" ") for pair in addresses.split(",") if pair]
    try:
        sockets = [listening_socket(host, int(port)) for host, port in pairs]
    except (OSError, OverflowError) as error:
        sys.exit(f"claude-local: the session cannot listen on a port of {addresses} (never below 1024): {error}")
    launcher = socket.socket(fileno=control)
    numbers = b"".join(each.fileno().to_bytes(4, sys.byteorder) for each in sockets)
    launcher.sendmsg([b"here"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, numbers)])
    # No byte: a mount is wrong, and the launcher reports it.
    if not launcher.recv(1):
        sys.exit(1)
    for each in (launcher, *sockets):
        each.close()
    for name in IGNORED_OUTSIDE:
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    try:
        os.execv(command[0], command)
    except OSError as error:
        sys.exit(f"claude-local: {command[0]} cannot be started: {error.strerror}")


if __name__ == "__main__":
    main(sys.argv)
