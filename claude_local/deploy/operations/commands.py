"""The user's commands: on PATH, and without llama-local's copy under its former name."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import replace
from typing import Any

from pyinfra import host, logger, state
from pyinfra.api import QuoteString, StringCommand, operation

from claude_local.claude.shell_startup import (
    ShellStartup,
    block_files,
    candidates,
    completion_files,
    fish_file,
    fish_path,
    line_to_add,
    posix_block,
    with_block,
    zsh_block,
)
from claude_local.deploy.facts.commands import FormerFiles, Shells, UserShells
from claude_local.deploy.facts.user_files import ReadOnly, UserFile, UserFiles
from claude_local.deploy.operations import user_files


@operation()
def add_to_shells(directory: str, home: str, completions: Mapping[str, str], zsh_functions: str) -> Generator[Any]:
    """Put ``directory`` on PATH in the start-up files of bash, zsh and fish, and complete llama-local in them.

    + directory: the folder of the commands
    + home: the user's home directory
    + completions: the completion script for each of bash, zsh and fish
    + zsh_functions: a directory for the one of zsh, which .zshrc then names

    A marked block in .bashrc, in the file that a login bash reads, in .zshrc and .zprofile; a file of our own for fish.
    zsh and fish only where they are installed or configured. A file in a read-only place (home-manager) is a warning
    with the line to add. Instead of pyinfra's ``files.block``, which turns a linked .bashrc into a plain file and warns
    on every run that it is in beta.

    Example::

        commands.add_to_shells(
            name="Set up the shells", directory="/home/u/bin", home="/home/u", zsh_functions="/home/u/.zsh",
            completions={"bash": script, "zsh": script, "fish": script},
        )
    """
    changes = _startup_changes(directory, home, completions, zsh_functions)
    read_only: list[str] = host.get_fact(ReadOnly, paths=list(changes)) if changes else []
    for path in read_only:
        del changes[path]
        line = line_to_add(path, directory, home)
        if line is None:
            continue
        (file,) = user_files.read(path)
        if (file is None or line not in file.text.splitlines()) and state.is_executing:
            logger.warning(f"{path} is in a read-only place and stays as it is.\n  Fix: add this line to it: {line}")
    if not changes:
        host.noop(f"the shells have {directory} on PATH and complete llama-local")
    for path, (text, mode) in changes.items():
        yield from user_files.replace(path, text.encode("utf-8", "surrogateescape"), mode)


def _startup_changes(
    directory: str, home: str, completions: Mapping[str, str], zsh_functions: str
) -> dict[str, tuple[str, str]]:
    """The files of the shells to change: path -> (new text, mode)."""
    shells: Shells = host.get_fact(UserShells, home=home)
    startup = ShellStartup(
        existing=frozenset([shells["fish"]] if shells["configured"] else []),
        shells=frozenset(shells["shells"]),
        zsh_directory=shells["zsh"] or home,
        fish_directory=shells["fish"],
    )
    fish = fish_path(startup)
    scripts = {path: completions[shell] for shell, path in completion_files(home, startup, zsh_functions).items()}
    paths = [*candidates(home, startup.zsh_directory), *([fish] if fish else []), *scripts]
    files: dict[str, UserFile | None] = host.get_fact(UserFiles, paths=paths)
    startup = replace(startup, existing=startup.existing | {path for path, file in files.items() if file is not None})
    texts = {path: (file.text if file else "") for path, file in files.items()}
    block, zshrc = posix_block(directory, home), zsh_block(directory, home, zsh_functions)
    wanted = {
        path: with_block(texts.get(path, ""), zshrc if path.endswith(".zshrc") else block)
        for path in block_files(home, startup)
    } | scripts
    if fish is not None:
        wanted[fish] = fish_file(directory, home)
    return {
        path: (text, file.mode if (file := files.get(path)) else "644")
        for path, text in wanted.items()
        if text != texts.get(path, "") or files.get(path) is None
    }


@operation()
def remove_former(llamactl: str, shims: str) -> Generator[StringCommand]:
    """Remove what earlier deploys installed. Another program called llamactl stays.

    + llamactl: where llama-local lay under its former name, ``~/bin/llamactl``
    + shims: the folder of false programs for Claude Code's PATH

    Example::

        commands.remove_former(name="Remove former files", llamactl="/home/u/bin/llamactl", shims="/home/u/shims")
    """
    former: list[str] = host.get_fact(FormerFiles, llamactl=llamactl, shims=shims)
    if not former:
        host.noop("no earlier deploy has left anything")
    for path in former:
        yield StringCommand("rm", "-rf", QuoteString(path))
