"""What a git repository's files say that matters to the fence. Pure: text in, paths out."""

from __future__ import annotations

import re

# Keys of git's configuration whose value is, or begins with, a file that git runs or obeys (lower case).
_RUNS = frozenset({
    "hookspath", "fsmonitor", "sshcommand", "editor", "pager", "askpass", "gitproxy", "textconv", "command", "cmd",
    "clean", "smudge", "process", "driver", "helper", "program", "path", "attributesfile", "external",
    "packobjectshook", "uploadpack", "receivepack", "alternaterefscommand", "templatedir", "difffilter", "tunnel",
    "recentobjectshook", "defaultkeycommand", "tocmd", "cccmd", "headercmd", "sendmailcmd", "smtpserver", "vcs",
    "browser", "httpd",
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
_ENTRY = re.compile(r"^\s*([A-Za-z][\w-]*)\s*(?:=\s*(.*)|[#;].*)?$", re.DOTALL)


def entries(text: str) -> list[tuple[str, str, str]]:
    """Section, key (both in lower case, without the subsection) and value of each line of a git configuration."""
    found, section = [], ""
    for line in re.sub(r"\\\r?\n", "", text.removeprefix("\ufeff")).split("\n"):
        if head := _SECTION.match(line):
            section = head[1].lower().partition(".")[0]
            line = line[head.end() :]
        if (entry := _ENTRY.match(line)) is not None:
            found.append((section, entry[1].lower(), _value(entry[2] or "")))
    return found


def _value(written: str) -> str:
    """A value as git reads it: quotes and backslashes taken away, and the comment behind it."""
    read, quoted = "", False
    characters = iter(written)
    for each in characters:
        if each == "\\":
            following = next(characters, "")
            read += {"n": "\n", "t": "\t", "b": "\b"}.get(following, following)
        elif each == '"':
            quoted = not quoted
        elif each in "#;" and not quoted:
            break
        else:
            read += each
    return read.strip()


def named_directories(text: str) -> list[str]:
    """The values of a git configuration that are directories whose files git runs."""
    return [value for _, key, value in entries(text) if key in ("hookspath", "templatedir") and value]


def named_files(text: str) -> list[str]:
    """What can be the path of a file that git runs or obeys, as the configuration writes it.

    A value that is a command is taken apart; of its words those with a slash count, ``make test`` names no file.
    """
    found = []
    for section, key, value in entries(text):
        if section in _RUN_SECTIONS or key in _RUNS or _runs(key, value):
            words = value.lstrip("!").split()
            found += [value, *(word.strip("'\"") for word in words if "/" in word)]
    return list(dict.fromkeys(each for each in found if each))


def _runs(key: str, value: str) -> bool:
    """Whether it is the value that makes git run something: ``submodule.*.update``, a remote helper's address."""
    return (key == "update" and value.startswith("!")) or (key in ("url", "pushurl") and "::" in value)


def link_target(text: str) -> str | None:
    """Where a ``.git`` file points to; None when it is not one."""
    match = re.match(r"gitdir: (.+?)\s*\Z", text)
    return match[1] if match else None
