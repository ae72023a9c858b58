"""Ctrl-C while another profile than the active one is loaded: the active one comes back."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException


def load_active_again(port: int, token: str) -> None:
    """Ask the management API to load the active profile: the load of another one was given up."""
    connection = HTTPConnection("127.0.0.1", port, timeout=0.5)
    with suppress(OSError, HTTPException):
        connection.request("POST", "/start", "{}", {"Authorization": f"Bearer {token}", "User-Agent": "claude-local"})
        connection.getresponse()
    connection.close()


@contextmanager
def giving_up(give_up: Callable[[], None]) -> Iterator[None]:
    """For the time of a block: Ctrl-C calls ``give_up``, and then ends the program as it does elsewhere."""

    def end(number: int, frame: object) -> None:
        signal.signal(number, signal.SIG_DFL)
        give_up()
        os.kill(os.getpid(), number)

    before = signal.signal(signal.SIGINT, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
