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
_SPACE = re.compile(r"\s*")
_SECTION = re.compile(r'\[[ \t]*([\w.-]+)(?:[ \t]+"(?:[^"\\\n]|\\.)*")?[ \t]*\]')
# A value: quoted parts, escapes (of the line's end, too) and plain text up to a comment.
_ENTRY = re.compile(r'([A-Za-z][\w-]*)[ \t]*(?:=((?:"(?:\\\r?\n|\\.|[^"\\\n])*"?|\\\r?\n|\\.|[^"\\#;\n])*))?[^\n]*')
_PART = re.compile(r"\\\r?\n|\\.|.", re.DOTALL)


def entries(text: str) -> list[tuple[str, str, str]]:
    """Section, key (both in lower case, without the subsection) and value of each entry of a git configuration."""
    found, section, at = [], "", len(text) - len(text.removeprefix("\ufeff"))
    while (at := _SPACE.match(text, at).end()) < len(text):  # type: ignore[union-attr]
        if head := _SECTION.match(text, at):
            section, at = head[1].lower().partition(".")[0], head.end()
        elif entry := _ENTRY.match(text, at):
            found.append((section, entry[1].lower(), _value(entry[2] or "")))
            at = entry.end()
        else:
            at = (text.find("\n", at) + 1) or len(text)
    return found


def _value(written: str) -> str:
    """A value without its quotes, escapes and the blanks around it."""
    read, solid, quoted = "", 0, False
    for part in _PART.findall(written):
        if part == '"':
            quoted = not quoted
        elif len(part) > 1:
            read += "" if part.endswith("\n") else {"n": "\n", "t": "\t", "b": "\b"}.get(part[1], part[1])
        elif quoted or not part.isspace():
            read += part
        else:
            read += part if read else ""
            continue
        solid = len(read)
    return read[:solid]


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
