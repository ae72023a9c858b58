"""The one way in which this package writes a file of the user: complete, or not at all."""

from __future__ import annotations

import io
from collections.abc import Generator
from posixpath import dirname
from typing import Any

from pyinfra import host
from pyinfra.api import FileUploadCommand, QuoteString, StringCommand, operation

from claude_local.deploy.facts.user_files import UserFile, UserFiles


def replaced(dest: str, content: bytes, mode: str) -> Generator[Any]:
    """Commands that put ``content`` at ``dest`` in one step; where ``dest`` is a link, its target is replaced.

    ``mode``: octal, such as ``600``. The folder of ``dest`` is made when it is missing.
    """
    new = f"{dest}.claude-local-new"
    yield StringCommand("mkdir", "-p", QuoteString(dirname(dest)))
    yield FileUploadCommand(io.BytesIO(content), new, remote_temp_filename=host.get_temp_filename(new))
    script = 'chmod "$3" "$1" && mv -f "$1" "$(readlink -f -- "$2")"'
    yield StringCommand(
        "sh", "-c", QuoteString(script), "sh", QuoteString(new), QuoteString(dest), QuoteString(mode)
    )  # fmt: skip


def seen(path: str) -> UserFile | None:
    """What is at ``path`` on the workstation now."""
    return host.get_fact(UserFiles, paths=[path]).get(path)


@operation()
def directory(path: str, mode: str) -> Generator[Any]:
    """Make the folder ``path`` with ``mode`` (octal, such as ``700``), or give it that mode."""
    found = seen(path)
    if found is not None and found.content is None and found.mode == mode:
        host.noop(f"{path} is there with mode {mode}")
        return
    yield StringCommand("mkdir", "-p", QuoteString(path), "&&", "chmod", mode, QuoteString(path))


@operation()
def whole_file(dest: str, text: str, mode: str) -> Generator[Any]:
    """Make ``dest`` hold exactly ``text`` with ``mode`` (octal): a file that belongs to the deploy as a whole."""
    content = text.encode()
    found = seen(dest)
    if found == UserFile(mode, content):
        host.noop(f"{dest} is up to date")
        return
    yield from replaced(dest, content, mode)
