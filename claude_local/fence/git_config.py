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
# What may stand in the configuration of a repository that a session makes: of these sections each key but the ones that
# are named, of others these keys only, and of some these values only. What git or another program does not know, or
# would run, is missing. Where both a section and one with a subsection mean something, the second has a dot.
_HARMLESS_SECTIONS: dict[str, tuple[str, ...]] = {
    "advice": (), "apply": (), "author": (), "blame": (), "branch": ("mergeoptions",), "checkout": (), "clean": (),
    "clone": (), "color": (), "column": (), "commit": (), "commitgraph": (), "committer": (), "extensions": (),
    "feature": (), "fetch": (), "fsck": (), "gc": ("recentobjectshook",), "grep": (), "i18n": (), "index": (),
    "log": (), "maintenance": (), "notes": (), "pack": (), "pull": (), "push": (), "rebase": (), "receive": (),
    "rerere": (), "splitindex": (), "stash": (), "status": (), "submodule": (), "tag": (), "transfer": (), "url": (),
    "user": (), "versionsort": (), "worktree": (), "diff": ("external", "tool", "guitool"), "merge": ("tool", "guitool"),
    "diff.": ("command", "textconv"), "merge.": ("driver",), "remote": ("uploadpack", "receivepack", "vcs"),
}  # fmt: skip
_HARMLESS_KEYS: dict[str, tuple[str, ...]] = {
    "core": (
        "repositoryformatversion", "filemode", "bare", "logallrefupdates", "ignorecase", "precomposeunicode",
        "protecthfs", "protectntfs", "symlinks", "autocrlf", "eol", "safecrlf", "checkroundtripencoding",
        "compression", "loosecompression", "quotepath", "worktree", "sparsecheckout", "sparsecheckoutcone",
        "untrackedcache", "checkstat", "trustctime", "preloadindex", "commitgraph", "multipackindex", "abbrev",
        "bigfilethreshold", "deltabasecachelimit", "packedgitwindowsize", "packedgitlimit", "commentchar",
        "commentstring", "whitespace", "sharedrepository", "warnambiguousrefs", "fsync", "fsyncmethod",
        "fsyncobjectfiles", "fscache", "longpaths", "hidedotfiles", "createobject", "splitindex", "maxtreedepth",
        "usereplacerefs", "notesref", "filesreflocktimeout", "packedrefstimeout", "excludesfile", "attributesfile",
    ),
    "init": ("defaultbranch", "defaultobjectformat", "defaultrefformat"),
    "protocol": ("version",),
    "gpg": ("format", "minverificationlevel"),
    "gpg.": ("allowedsignersfile", "revocationfile"),
    "http": ("postbuffer", "version", "lowspeedlimit", "lowspeedtime", "maxrequests"),
    "lfs": ("repositoryformatversion", "fetchinclude", "fetchexclude", "locksverify", "concurrenttransfers"),
    "lfs.": ("access", "locksverify"),
    "filter.": ("required",),
    "svn-remote.": ("url", "fetch", "branches", "tags"),
}  # fmt: skip
_HARMLESS_VALUES = {
    ("core", "fsmonitor"): ("", "true", "false", "yes", "no", "on", "off", "0", "1"),
    ("core", "pager"): ("", "cat", "less"),
    ("core", "editor"): ("", "true", ":", "cat", "vi", "vim", "nano"),
    # git lfs install --local
    ("filter.", "clean"): ("git-lfs clean -- %f",),
    ("filter.", "smudge"): ("git-lfs smudge -- %f", "git-lfs smudge --skip -- %f"),
    ("filter.", "process"): ("git-lfs filter-process", "git-lfs filter-process --skip"),
    ("protocol.", "allow"): ("never", "user"),
}
# What can be an address, and one that names the program to reach it with: NAME::REST runs git-remote-NAME.
_ADDRESSES = frozenset({"url", "pushurl", "remote", "pushremote", "pushdefault"})
_HELPER = re.compile(r"[A-Za-z0-9+.-]*::")
_SPACE = re.compile(r"\s*")
_SECTION = re.compile(r'\[[ \t]*([\w.-]+)(?:[ \t]+"((?:[^"\\\n]|\\.)*)")?[ \t]*\]')
# A value: quoted parts, escapes (of the line's end, too) and plain text up to a comment.
_ENTRY = re.compile(r'([A-Za-z][\w-]*)[ \t]*(?:=((?:"(?:\\\r?\n|\\.|[^"\\\n])*"?|\\\r?\n|\\.|[^"\\#;\n])*))?[^\n]*')
_PART = re.compile(r"\\\r?\n|\\.|.", re.DOTALL)


def entries(text: str) -> list[tuple[str, str, str, str]]:
    """Section, subsection, key and value of each entry of a git configuration; section and key are in lower case, the
    subsection is empty where there is none."""
    found, section, below, at = [], "", "", len(text) - len(text.removeprefix("\ufeff"))
    while (at := _SPACE.match(text, at).end()) < len(text):  # type: ignore[union-attr]
        if head := _SECTION.match(text, at):
            section, _, old = head[1].lower().partition(".")
            # [a.b "c"] is a.b.c.
            below = ".".join(each for each in (old, re.sub(r"\\(.)", r"\1", head[2] or "")) if each)
            at = head.end()
        elif entry := _ENTRY.match(text, at):
            found.append((section, below, entry[1].lower(), _value(entry[2] or "")))
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
    return [value for _, _, key, value in entries(text) if key in ("hookspath", "templatedir") and value]


def named_files(text: str) -> list[str]:
    """What can be the path of a file that git runs or obeys, as the configuration writes it.

    A value that is a command is taken apart; of its words those with a slash count, ``make test`` names no file.
    """
    found = []
    for section, _, key, value in entries(text):
        if section in _RUN_SECTIONS or key in _RUNS or _runs(key, value):
            words = value.lstrip("!").split()
            found += [value, *(word.strip("'\"") for word in words if "/" in word)]
    return list(dict.fromkeys(each for each in found if each))


def included(text: str) -> list[str]:
    """The files that a configuration includes, on a condition or not."""
    return [value for section, _, key, value in entries(text)
            if section in ("include", "includeif") and key == "path" and value]  # fmt: skip


def programs(text: str) -> list[str]:
    """What begins a value that git runs by itself, where that is a path. Not of aliases: a person types those."""
    found = []
    for section, _, key, value in entries(text):
        if section not in ("alias", "include", "includeif") and (section in _RUN_SECTIONS or key in _RUNS):
            first = (value.lstrip("!").split() or [""])[0]
            if "/" in first and ":" not in first:
                found.append(first)
    return found


def _runs(key: str, value: str) -> bool:
    """Whether it is the value that makes git run something: ``submodule.*.update``, a remote helper's address."""
    return (key == "update" and value.startswith("!")) or (key in _ADDRESSES and _HELPER.match(value) is not None)


def unusual(text: str) -> list[str]:
    """The entries of a configuration, as ``section.subsection.key=value``, that have no place in one that a session writes:
    git, or a program that reads git's configuration, may run them, or nobody knows. For a repository that is new; in
    the user's own anything may stand."""
    return [
        ".".join(each for each in (section, below, key) if each) + f"={value}"
        for section, below, key, value in entries(text)
        if not _is_harmless(section, below, key, value)
    ]


def _is_harmless(section: str, below: str, key: str, value: str) -> bool:
    name = f"{section}." if below and f"{section}." in _NAMES else section
    if value.strip().lower() in _HARMLESS_VALUES.get((name, key), ()):
        return True
    if section in ("remote", "submodule", "branch") and _runs(key, value):
        return False
    if section == "url" and _HELPER.match(below):
        # git fetch https://... would start the program.
        return False
    if name in _HARMLESS_SECTIONS:
        return key not in _HARMLESS_SECTIONS[name]
    return key in _HARMLESS_KEYS.get(name, ())


_NAMES = {*_HARMLESS_SECTIONS, *_HARMLESS_KEYS, *(name for name, _ in _HARMLESS_VALUES)}


def link_target(text: str) -> str | None:
    """Where a ``.git`` file points to; None when it is not one."""
    return (only_path(text.removeprefix("gitdir: ")) or None) if text.startswith("gitdir: ") else None


def only_path(text: str) -> str:
    """The path that a file of git's consists of. Blanks around it belong to it: git takes the ends of lines away alone."""
    return text.rstrip("\r\n")
