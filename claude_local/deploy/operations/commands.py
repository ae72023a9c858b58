"""The user's commands: on disk and on PATH."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from pyinfra import host
from pyinfra.api import operation

from claude_local.claude.shell_startup import (
    ShellStartup,
    block_files,
    candidates,
    fish_file,
    fish_path,
    posix_block,
    with_block,
)
from claude_local.deploy.facts.commands import Shells
from claude_local.deploy.facts.user_files import UserFiles
from claude_local.deploy.operations.user_files import replaced


@operation()
def on_path(directory: str, home: str) -> Generator[Any]:
    """Put ``directory`` on PATH in the start-up files of bash, zsh and fish.

    + directory: the folder of the commands
    + home: the user's home directory

    A marked block in .bashrc, in the file that a login bash reads, in .zshrc and .zprofile; a file of our own for fish.
    zsh and fish only where they are installed or configured. What the user wrote is kept; modes and links stay.
    """
    there = host.get_fact(UserFiles, paths=candidates(home))
    shells: list[str] = host.get_fact(Shells)
    startup = ShellStartup(
        existing=frozenset(path for path, file in there.items() if file is not None),
        shells=frozenset(shells),
    )
    wanted = {}
    for path in block_files(home, startup):
        file = there.get(path)
        old = file.text if file else ""
        new = with_block(old, posix_block(directory, home))
        if new != old:
            wanted[path] = (new, file.mode if file else "644")
    fish = fish_path(home, startup)
    if fish is not None:
        text = fish_file(directory, home)
        file = host.get_fact(UserFiles, paths=[fish]).get(fish)
        if file is None or file.text != text:
            wanted[fish] = (text, file.mode if file else "644")
    if not wanted:
        host.noop(f"{directory} is put on PATH by the shells' start-up files")
        return
    for path, (text, mode) in wanted.items():
        yield from replaced(path, text.encode("utf-8", "surrogateescape"), mode)
