"""The user's commands: on PATH, and without llama-local's copy under its former name."""

from __future__ import annotations

from collections.abc import Generator
from posixpath import join
from typing import Any

from pyinfra import host
from pyinfra.api import QuoteString, StringCommand, operation
from pyinfra.facts.files import Directory
from pyinfra.facts.server import Which

from claude_local.claude.shell_startup import (
    ShellStartup,
    block_files,
    candidates,
    fish_file,
    fish_path,
    posix_block,
    with_block,
)
from claude_local.deploy.facts.user_files import UserFile, UserFiles
from claude_local.deploy.operations import user_files


@operation()
def add_to_path(directory: str, home: str) -> Generator[Any]:
    """Put ``directory`` on PATH in the start-up files of bash, zsh and fish.

    + directory: the folder of the commands
    + home: the user's home directory

    A marked block in .bashrc, in the file that a login bash reads, in .zshrc and .zprofile; a file of our own for fish.
    zsh and fish only where they are installed or configured. Instead of pyinfra's ``files.block``, which turns a linked
    .bashrc into a plain file and warns on every run that it is in beta.

    Example::

        commands.add_to_path(name="Put the commands on PATH", directory="/home/u/bin", home="/home/u")
    """
    files: dict[str, UserFile | None] = host.get_fact(UserFiles, paths=candidates(home))
    existing = {path for path, file in files.items() if file is not None}
    fish_config = join(home, ".config", "fish")
    if host.get_fact(Directory, path=fish_config) is not None:
        existing.add(fish_config)
    shells = [shell for shell in ("bash", "zsh", "fish") if host.get_fact(Which, command=shell)]
    startup = ShellStartup(existing=frozenset(existing), shells=frozenset(shells))
    changes: dict[str, tuple[str, str]] = {}
    for path in block_files(home, startup):
        file = files.get(path)
        old = file.text if file else ""
        new = with_block(old, posix_block(directory, home))
        if new != old:
            changes[path] = (new, file.mode if file else "644")
    fish = fish_path(home, startup)
    if fish is not None:
        text = fish_file(directory, home)
        (file,) = user_files.read(fish)
        if file is None or file.text != text:
            changes[fish] = (text, file.mode if file else "644")
    if not changes:
        host.noop(f"the shells' start-up files put {directory} on PATH")
        return
    for path, (text, mode) in changes.items():
        yield from user_files.replace(path, text.encode("utf-8", "surrogateescape"), mode)


# The first lines of every llamactl that this project has installed.
LLAMACTL = "# llamactl: look at this machine's models and hardware. Installed by tasks/commands.py."


@operation()
def remove_llamactl(path: str) -> Generator[StringCommand]:
    """Remove our command's copy under its former name. Another program of that name stays.

    + path: where an earlier deploy installed it, ``~/bin/llamactl``

    Example::

        commands.remove_llamactl(name="Remove llama-local's former name", path="/home/u/bin/llamactl")
    """
    (file,) = user_files.read(path)
    if file is None or LLAMACTL not in file.text.splitlines()[:2]:
        host.noop(f"{path} is not ours" if file else f"{path} does not exist")
        return
    yield StringCommand("rm", "-f", QuoteString(path))
