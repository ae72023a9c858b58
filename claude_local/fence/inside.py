"""The first program behind the outer fence: hands listening sockets out and becomes Claude Code.

``inside.py CONTROL ADDRESSES COMMAND...``: CONTROL is the number of a socket that leads to the launcher, ADDRESSES are
``HOST PORT`` pairs with commas between them (``127.0.0.1 8080,::1 8080``), or nothing. The launcher learns this
process's id from the message, and Claude Code keeps it. A byte from the launcher says that the fence is sound.
"""

import os
import signal
import socket
import sys

# The launcher has them ignored, so that bubblewrap does not end before Claude Code has.
IGNORED_OUTSIDE = ("SIGINT", "SIGQUIT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")


def listening(host: str, port: int) -> socket.socket:
    found = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    found.bind((host, port))
    found.listen(64)
    return found


def main(argv: list[str]) -> None:
    control, addresses, command = int(argv[1]), argv[2], argv[3:]
    pairs = [pair.split(" ") for pair in addresses.split(",") if pair]
    try:
        sockets = [listening(host, int(port)) for host, port in pairs]
    except (OSError, OverflowError) as error:
        sys.exit(f"claude-local: a port of {argv[2]} cannot be offered to the session (below 1024 none can): {error}")
    launcher = socket.socket(fileno=control)
    numbers = b"".join(each.fileno().to_bytes(4, sys.byteorder) for each in sockets)
    launcher.sendmsg([b"here"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, numbers)])
    # It looks at what is mounted here, and says what is wrong with it.
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
