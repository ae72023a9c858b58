"""Files that the user writes or that a session reads at any moment: changed in one step, links and modes kept.

The other files of the deploy are written with pyinfra's ``files.put``.
"""

from __future__ import annotations

import io
from collections.abc import Generator, Sequence
from posixpath import dirname, join
from typing import Any

from pyinfra import host, logger, state
from pyinfra.api import FileUploadCommand, QuoteString, StringCommand, operation
from pyinfra.facts.files import Directory
from pyinfra.facts.server import Which

from claude_local.claude import json_merge
from claude_local.claude.json_merge import BrokenJson, Json
from claude_local.claude.shell_startup import (
    ShellStartup,
    block_files,
    candidates,
    fish_file,
    fish_path,
    posix_block,
    with_block,
)
from claude_local.deploy import shell
from claude_local.deploy.facts.user_files import UserFile, UserFiles


def replace(dest: str, content: bytes, mode: str) -> Generator[Any]:
    """The commands that put ``content`` at ``dest`` in one step, for an operation to ``yield from``.

    + dest: the file; where it is a link, the link stays and its target is replaced. A missing folder is made.
    + mode: octal, such as ``600``

    Instead of pyinfra's ``files.put``, which writes into the file: a session that starts meanwhile would read half of
    it, and a shell that waits in claude-local would go on in the middle of the new text.
    """
    new = f"{dest}.claude-local-new"
    yield StringCommand("mkdir", "-p", QuoteString(dirname(dest)))
    yield FileUploadCommand(io.BytesIO(content), new, remote_temp_filename=host.get_temp_filename(new))
    yield shell.script('chmod "$3" "$1" && mv -f "$1" "$(readlink -f -- "$2")"', new, dest, mode)


def read(*paths: str) -> list[UserFile | None]:
    """The files at ``paths`` now, None where there is none."""
    files = host.get_fact(UserFiles, paths=list(paths))
    return [files.get(path) for path in paths]


@operation()
def put(dest: str, text: str, mode: str) -> Generator[Any]:
    """Make ``dest`` hold exactly ``text``, in one step (see :func:`replace`).

    + dest: the file
    + text: its content
    + mode: octal, such as ``755``

    Example::

        user_files.put(name="Install claude-local", dest="/home/u/bin/claude-local", text=wrapper, mode="755")
    """
    content = text.encode()
    (file,) = read(dest)
    if file == UserFile(mode, content):
        host.noop(f"{dest} is up to date")
        return
    yield from replace(dest, content, mode)


@operation()
def merge_json(dest: str, ours: Json, applied: str | None = None, enforced: Sequence[str] = ()) -> Generator[Any]:
    """Merge our keys into a JSON file that the user and Claude Code write too.

    + dest: the file; made with mode 600 when it is missing
    + ours: the deploy's keys and values
    + applied: a file that keeps the deploy's last ``ours``, so that a change or deletion by the user is recognised.
      Without it, only missing keys are added and ``enforced`` keys corrected.
    + enforced: key paths such as ``permissions.disableAutoMode`` where ``ours`` always wins

    A file that is not a JSON object is renamed to ``DEST.broken-YYYYmmdd-HHMMSS`` with a warning, and a fresh one is
    written. pyinfra has no operation that merges JSON.

    Example::

        user_files.merge_json(name="Merge our defaults", dest="/home/u/settings.json", ours={"model": "small"})
    """
    file, before = read(dest, applied) if applied else (*read(dest), None)
    broken = None
    current: Json = {}
    if file is not None:
        try:
            current = json_merge.parse(file.text)
        except BrokenJson as problem:
            broken = str(problem)
    # Without the file, its record says nothing about the user's wishes.
    last = _parsed(before) if file is not None and broken is None else {}
    merged = json_merge.merge(ours, last, current, enforced)
    write = file is None or broken is not None or merged != current or list(merged) != list(current)
    chmod = file is not None and not write and file.mode != "600"
    remember = applied is not None and (before is None or _parsed(before) != ours)
    if not (write or chmod or remember):
        host.noop(f"{dest} has all keys")
        return
    if broken is not None:
        if state.is_executing:
            logger.warning(
                f"{dest} is not JSON ({broken}); it is kept as {dest}.broken-TIME and a fresh one is written"
            )
        yield shell.script('mv -- "$1" "$1.broken-$(date +%Y%m%d-%H%M%S)"', dest)
    if write:
        yield from replace(dest, json_merge.dump(merged).encode("utf-8", "surrogateescape"), "600")
    elif chmod:
        yield StringCommand("chmod", "600", QuoteString(dest))
    if remember and applied is not None:
        yield from replace(applied, json_merge.dump(ours).encode(), "600")


def _parsed(file: UserFile | None) -> Json:
    """The JSON object in ``file``, empty where there is none."""
    try:
        return json_merge.parse(file.text) if file else {}
    except BrokenJson:
        return {}


@operation()
def add_to_path(directory: str, home: str) -> Generator[Any]:
    """Put ``directory`` on PATH in the start-up files of bash, zsh and fish.

    + directory: the folder of the commands
    + home: the user's home directory

    A marked block in .bashrc, in the file that a login bash reads, in .zshrc and .zprofile; a file of our own for fish.
    zsh and fish only where they are installed or configured. Instead of pyinfra's ``files.block``, which turns a linked
    .bashrc into a plain file and warns on every run that it is in beta.

    Example::

        user_files.add_to_path(name="Put the commands on PATH", directory="/home/u/bin", home="/home/u")
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
        (file,) = read(fish)
        if file is None or file.text != text:
            changes[fish] = (text, file.mode if file else "644")
    if not changes:
        host.noop(f"the shells' start-up files put {directory} on PATH")
        return
    for path, (text, mode) in changes.items():
        yield from replace(path, text.encode("utf-8", "surrogateescape"), mode)


# The first lines of every llamactl that this project has installed.
LLAMACTL = "# llamactl: look at this machine's models and hardware. Installed by tasks/commands.py."


@operation()
def remove_llamactl(path: str) -> Generator[StringCommand]:
    """Remove our command's copy under its former name. Another program of that name stays.

    + path: where an earlier deploy installed it, ``~/bin/llamactl``

    Example::

        user_files.remove_llamactl(name="Remove llama-local's former name", path="/home/u/bin/llamactl")
    """
    (file,) = read(path)
    if file is None or LLAMACTL not in file.text.splitlines()[:2]:
        host.noop(f"{path} is not ours" if file else f"{path} does not exist")
        return
    yield StringCommand("rm", "-f", QuoteString(path))
