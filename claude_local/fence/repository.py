"""What a git repository's files say that matters to the fence. Pure: text in, paths out."""

from __future__ import annotations

import re

# Keys of git's configuration whose value is, or begins with, a file that git runs or obeys (lower case).
_RUNS = frozenset({
    "hookspath", "fsmonitor", "sshcommand", "editor", "pager", "askpass", "gitproxy", "textconv", "command", "cmd",
    "clean", "smudge", "process", "driver", "helper", "program", "path", "attributesfile", "external",
    "packobjectshook", "uploadpack", "receivepack", "alternaterefscommand", "templatedir",
})  # fmt: skip
# Of these sections every value runs.
_RUN_SECTIONS = (
    "alias",
    "filter",
    "merge",
    "diff",
    "difftool",
    "mergetool",
    "pager",
    "include",
    "includeif",
    "credential",
)
_SECTION = re.compile(r'^\s*\[\s*([\w.-]+)(?:\s+"((?:[^"\\]|\\.)*)")?\s*\]')
_ENTRY = re.compile(r"^\s*([A-Za-z][\w-]*)\s*(?:=\s*(.*))?$")


def entries(text: str) -> list[tuple[str, str, str]]:
    """Section, key (both in lower case, without the subsection) and value of each line of a git configuration."""
    found, section = [], ""
    for line in re.sub(r"\\\n", "", text).splitlines():
        if head := _SECTION.match(line):
            section = head[1].lower()
            line = line[head.end() :]
        if (entry := _ENTRY.match(line)) is not None:
            value = (entry[2] or "").strip()
            found.append((section, entry[1].lower(), value.strip('"')))
    return found


def named_directories(text: str) -> list[str]:
    """The values of a git configuration that are directories whose files git runs."""
    return [value for _, key, value in entries(text) if key in ("hookspath", "templatedir") and value]


def named_files(text: str) -> list[str]:
    """What can be the path of a file that git runs or obeys, as the configuration writes it.

    A value that is a command is taken apart; of its words those with a slash count, ``make test`` names no file.
    """
    found = []
    for section, key, value in entries(text):
        if section in _RUN_SECTIONS or key in _RUNS:
            words = value.lstrip("!").split()
            found += [value, *(word.strip("'\"") for word in words if "/" in word)]
    return list(dict.fromkeys(each for each in found if each))


def link_target(text: str) -> str | None:
    """Where a ``.git`` file points to; None when it is not one."""
    match = re.match(r"gitdir: (.+?)\s*\Z", text)
    return match[1] if match else None
