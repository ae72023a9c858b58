"""Files that the deploy, the user and sessions write: changed in one step, links and modes kept."""

from __future__ import annotations

import io
import json
from collections.abc import Generator, Mapping, Sequence
from posixpath import dirname
from typing import Any

from pyinfra import host, logger, state
from pyinfra.api import FileUploadCommand, QuoteString, StringCommand, operation

from claude_local.claude import json_merge
from claude_local.claude.json_merge import BrokenJson, Json
from claude_local.deploy import shell
from claude_local.deploy.facts.user_files import Directories, LinksOut, UserFile, UserFiles
from claude_local.deploy.operations.streaming import fail

# The ending of the file that takes the place of another in one step.
NEW = ".claude-local-new"
# $1 the new file, $2 the file or a link to it, $3 the mode. A file that is a mount of its own can only be written to.
REPLACE_SCRIPT = r"""
chmod "$3" "$1" && target=$(readlink -f -- "$2") && { mv -f "$1" "$target" 2>/dev/null || cat "$1" >"$target"; }
status=$?
rm -f "$1"
exit $status
"""


def replace(dest: str, content: bytes, mode: str) -> Generator[Any]:
    """The commands that put ``content`` at ``dest`` in one step, for an operation to ``yield from``.

    + dest: the file; where it is a link, the link stays and its target is replaced. A missing folder is made.
    + mode: octal, such as ``600``

    Instead of pyinfra's ``files.put``, which writes into the file: a session that starts meanwhile would read half of
    it, and a shell that waits in claude-local would go on in the middle of the new text.
    """
    new = f"{dest}{NEW}"
    yield StringCommand("mkdir", "-p", QuoteString(dirname(dest)))
    yield FileUploadCommand(io.BytesIO(content), new, remote_temp_filename=host.get_temp_filename(new))
    yield shell.script(REPLACE_SCRIPT, new, dest, mode)


def read(*paths: str) -> list[UserFile | None]:
    """The files at ``paths`` now, None where there is none."""
    files = host.get_fact(UserFiles, paths=list(paths))
    return [files.get(path) for path in paths]


@operation()
def directories(modes: Mapping[str, str]) -> Generator[StringCommand]:
    """Make directories that are missing, with their modes. A link to a directory may lie in the place of one.

    + modes: path -> mode in octal, parents before children

    One command asks for all of them; pyinfra's ``files.directory`` asks for each.

    Example::

        user_files.directories(name="Make the directories", modes={"/home/u/.local/share/claude-local": "700"})
    """
    now: dict[str, str] = host.get_fact(Directories, paths=list(modes))
    missing = {path: mode for path, mode in modes.items() if now.get(path) != mode}
    if not missing:
        host.noop(f"{', '.join(modes)} exist")
    for path, mode in missing.items():
        yield StringCommand("mkdir", "-p", QuoteString(path), "&&", "chmod", mode, QuoteString(path))


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
def put_all(files: Mapping[str, str], mode: str) -> Generator[Any]:
    """Make each file hold exactly its text, in one step (see :func:`replace`).

    + files: path -> text
    + mode: octal, such as ``644``

    One command asks for all of them. pyinfra's ``files.put`` asks three times for each, and most deploys change none.

    Example::

        user_files.put_all(name="Put the templates", files={"/home/u/a.jinja": "x"}, mode="644")
    """
    before: dict[str, UserFile | None] = host.get_fact(UserFiles, paths=list(files))
    wanted = {path: UserFile(mode, text.encode()) for path, text in files.items()}
    changed = [path for path, file in wanted.items() if before.get(path) != file]
    if not changed:
        host.noop(f"{', '.join(files)}: up to date")
    for path in changed:
        yield from replace(path, wanted[path].content, mode)


@operation()
def refuse_links_out(directory: str, files: Sequence[str], linkable: Sequence[str], own: str) -> Generator[Any]:
    """Fail when a file in ``directory`` is a link that leads out of it, and a session may have made it.

    + directory: a directory that sessions may write
    + files: the paths in it that the deploy writes to afterwards: a session could have it write somewhere else
    + linkable: those that a user may keep elsewhere, as managers of dotfiles do; ``merge_json`` does not write there
    + own: a directory that no link may lead into, those neither: ``~/.claude``

    Example::

        user_files.refuse_links_out(
            name="Check for links", directory="/home/u/.claude-local", files=[enforced], linkable=[settings],
            own="/home/u/.claude",
        )
    """
    paths = [each + end for each in (*files, *linkable) for end in ("", NEW)]
    links: dict[str, str] = host.get_fact(LinksOut, directory=directory, paths=[*paths, own])
    real = links.pop(own, own)
    refused = [
        path
        for path, target in links.items()
        if path not in linkable or target == real or target.startswith(f"{real}/")
    ]
    if not refused:
        host.noop(f"no link leads out of {directory} where the deploy writes")
        return
    yield fail(
        f"{refused[0]} is a link to {links[refused[0]]}, out of {directory}, and a session may have made it.\n"
        f"  Fix: rm {refused[0]}"
    )


@operation()
def merge_json(
    dest: str, ours: Json, applied: str | None = None, enforced: Sequence[str] = (), inside: str | None = None
) -> Generator[Any]:
    """Merge our keys into a JSON file that the user and Claude Code write too.

    + dest: the file; made with mode 600 when it is missing
    + ours: the deploy's keys and values
    + applied: a file that keeps the deploy's last ``ours``, so that a change or deletion by the user is recognised.
      Without it, only missing keys are added and ``enforced`` keys corrected.
    + enforced: key paths such as ``permissions.disableAutoMode`` where ``ours`` always wins
    + inside: the directory of ``dest`` if sessions may write there. Where ``dest`` is a link out of it, nothing is
      written, and a missing key is a failure that says what to add.

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
    links: dict[str, str] = {}
    if inside is not None and (write or chmod):
        links = host.get_fact(LinksOut, directory=inside, paths=[dest])
    if dest in links:
        if write:
            lacks = json.dumps(json_merge.difference(current, merged))
            yield fail(
                f"{dest} is a link to {links[dest]}. The deploy writes to no link that a session may have made.\n"
                f"  Fix: add {lacks} there, or rm {dest}"
            )
            return
        if not remember:
            host.noop(f"{links[dest]} has all keys")
            return
        chmod = False
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
