"""Reads git's configuration, and the small files that name a path. Pure: text in, paths out."""

from __future__ import annotations

import re
from functools import lru_cache

# Keys whose value is, or begins with, a file that git runs or obeys (git-config(1), lower case).
_RUNS = frozenset({
    "hookspath", "fsmonitor", "sshcommand", "editor", "pager", "askpass", "gitproxy", "textconv", "command", "cmd",
    "clean", "smudge", "process", "driver", "helper", "program", "path", "attributesfile", "external",
    "packobjectshook", "uploadpack", "receivepack", "alternaterefscommand", "templatedir", "difffilter", "tunnel",
    "recentobjectshook", "defaultkeycommand", "tocmd", "cccmd", "headercmd", "sendmailcmd", "smtpserver", "vcs",
    "browser", "httpd",
})  # fmt: skip
# Sections in which every value may be one.
_RUN_SECTIONS = frozenset({
    "alias", "filter", "merge", "diff", "difftool", "mergetool", "pager", "include", "includeif", "credential",
})  # fmt: skip
# What the configuration of a repository that a session makes may hold: every key of these sections but the named
# ones, of other sections these keys, and of some keys these values. Missing here is what git or another program would
# run, and what we do not know. A dot marks a section with a subsection where the two mean different things.
_HARMLESS_SECTIONS: dict[str, tuple[str, ...]] = {
    "advice": (), "apply": (), "author": (), "blame": (), "branch": ("mergeoptions",), "checkout": (), "clean": (),
    "clone": (), "color": (), "column": (), "commit": (), "commitgraph": (), "committer": (), "extensions": (),
    "feature": (), "fetch": (), "fsck": (), "gc": ("recentobjectshook",), "grep": (), "i18n": (), "index": (),
    "log": (), "maintenance": (), "notes": (), "pack": (), "pull": (), "push": (), "rebase": (), "receive": (),
    "rerere": (), "splitindex": (), "stash": (), "status": (), "submodule": (), "tag": (), "transfer": (), "url": (),
    "user": (), "versionsort": (), "worktree": (), "diff": ("external", "tool", "guitool"),
    "merge": ("tool", "guitool"),
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
}
# Sections in which git takes values for addresses: every value there is checked, whatever its key.
_ADDRESS_SECTIONS = frozenset({
    "branch", "checkout", "clone", "extensions", "fetch", "pull", "push", "remote", "submodule",
})  # fmt: skip
# Keys whose value is an address, in any section.
_ADDRESS_KEYS = frozenset({"url", "pushurl", "remote", "pushremote", "pushdefault"})
# With NAME::REST and with NAME://REST git runs git-remote-NAME (gitremote-helpers(7)). With these NAMEs of the second
# kind it uses a transport of its own. ``ext`` would run any program.
_TRANSPORTS = frozenset({"file", "git", "git+ssh", "http", "https", "ssh", "ssh+git"})
_TRANSPORT = re.compile(r"[A-Za-z0-9+.-]*")
# Sections of a repository's configuration in which a session may change what is harmless by the lists above. The others
# decide what git shows and which files it obeys.
_CHANGEABLE = frozenset({
    "advice", "author", "branch", "color", "committer", "fetch", "gc", "lfs", "maintenance", "merge", "pull", "push",
    "rebase", "remote", "rerere", "submodule", "user",
})  # fmt: skip
_SPACE = re.compile(r"\s*")
_SECTION = re.compile(r'\[[ \t]*([\w.-]+)(?:[ \t]+"((?:[^"\\\n]|\\.)*)")?[ \t]*\]')
# A value: quoted parts, escapes (also of a line break) and plain text up to a comment.
_ENTRY = re.compile(r'([A-Za-z][\w-]*)[ \t]*(?:=((?:"(?:\\\r?\n|\\.|[^"\\\n])*"?|\\\r?\n|\\.|[^"\\#;\n])*))?[^\n]*')
_PART = re.compile(r"\\\r?\n|\\.|.", re.DOTALL)
# A text that consists of these has no "bad config line" for git: blanks, comments, sections, and keys up to the end of
# their line.
_COMMENT = r"[#;][^\n]*"
_WELL_VALUE = r'(?:"(?:[^"\\\n]|\\["\\ntb]|\\\r?\n)*"|\\["\\ntb]|\\\r?\n|[^"\\#;\n])*'
_WELL_FORMED = re.compile(
    rf"[ \t\r\n]+|{_COMMENT}"
    r'|\[[ \t]*[A-Za-z0-9.-]+(?:[ \t]+"(?:[^"\\\n]|\\[^\n])*")?\]'
    rf"|[A-Za-z][A-Za-z0-9-]*[ \t]*(?:={_WELL_VALUE}(?:{_COMMENT})?)?(?=\r?\n|\Z)"
)


# Many repositories can share one configuration by hard links, and a megabyte of it takes a second.
@lru_cache(maxsize=4)
def entries(text: str) -> list[tuple[str, str, str, str]]:
    """Section, subsection, key and value of each entry of a git configuration. Section and key are in lower case; the
    subsection may be empty."""
    read, section, below, at = [], "", "", len(text) - len(text.removeprefix("\ufeff"))
    while (at := _SPACE.match(text, at).end()) < len(text):  # type: ignore[union-attr]
        if head := _SECTION.match(text, at):
            section, _, old = head[1].lower().partition(".")
            # [a.b "c"] is a.b.c.
            below = ".".join(each for each in (old, re.sub(r"\\(.)", r"\1", head[2] or "")) if each)
            at = head.end()
        elif entry := _ENTRY.match(text, at):
            read.append((section, below, entry[1].lower(), _value(entry[2] or "")))
            at = entry.end()
        else:
            at = (text.find("\n", at) + 1) or len(text)
    return read


def _value(written: str) -> str:
    """A value without quotes, escapes and surrounding blanks."""
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
    """The directories whose files git runs by a configuration: hooks, and templates of new repositories."""
    return [value for _, _, key, value in entries(text) if key in ("hookspath", "templatedir") and value]


def named_files(text: str) -> list[str]:
    """What may be the path of a file that git runs or obeys, as the configuration writes it. A command is split at
    blanks, and its parts with a slash count: ``make test`` names no file."""
    files = []
    for section, _, key, value in entries(text):
        if section in _RUN_SECTIONS or key in _RUNS or _runs_program(key, value):
            parts = value.lstrip("!").split()
            files += [value, *(part.strip("'\"") for part in parts if "/" in part)]
    return list(dict.fromkeys(each for each in files if each))


def includes(text: str) -> list[str]:
    """The files that a configuration includes, also those of an includeIf."""
    return [value for section, _, key, value in entries(text)
            if section in ("include", "includeif") and key == "path" and value]  # fmt: skip


def programs(text: str) -> list[str]:
    """The paths that begin a value which git runs by itself. Aliases are left out: a person types those."""
    paths = []
    for section, _, key, value in entries(text):
        if section not in ("alias", "include", "includeif") and (section in _RUN_SECTIONS or key in _RUNS):
            first = (value.lstrip("!").split() or [""])[0]
            if "/" in first and ":" not in first:
                paths.append(first)
    return paths


def working_trees(text: str) -> list[str]:
    """The values of core.worktree, with which a submodule's repository names its working tree."""
    return [value for section, _, key, value in entries(text) if (section, key) == ("core", "worktree")]


def _runs_program(key: str, value: str) -> bool:
    """Whether the value itself makes git run something: ``submodule.*.update``, an address with a remote helper."""
    return (key == "update" and value.startswith("!")) or (key in _ADDRESS_KEYS and not _is_own_transport(value))


def _is_own_transport(address: str) -> bool:
    """Whether git reaches an address without a remote helper: a path, ``HOST:PATH``, or a URL of _TRANSPORTS."""
    name = _TRANSPORT.match(address)[0]  # type: ignore[index]
    rest = address[len(name) :]
    return not rest.startswith("::") and (not rest.startswith("://") or name in _TRANSPORTS)


def _begins_own_transport(beginning: str) -> bool:
    """Whether every address with this beginning is one of ``_is_own_transport``. ``ext:`` and the empty text are not
    such beginnings: the value of ``url.BEGINNING.insteadOf`` decides what follows them."""
    return all(_is_own_transport(beginning + more) for more in ("", ":", "::", "://", "/", "//", "x::", "x://"))


def unsafe_entries(text: str) -> list[str]:
    """The entries, as ``section.subsection.key=value``, that a session must not write into a repository that it
    makes: git or another program may run them, or we do not know them. The user's own repositories may hold
    anything."""
    return [_written(*entry) for entry in entries(text) if not _is_harmless(*entry)]


def fixed_changes(before: str, after: str) -> list[str]:
    """The entries, as ``section.subsection.key=value``, that a session must not add, change, move or remove in a
    repository that exists, and that differ between two texts of its configuration."""
    if not _is_well_formed(after):
        return ["a line that git cannot read"]
    old, new = ([_written(*entry) for entry in entries(text) if _is_fixed(*entry)] for text in (before, after))
    if old == new:
        return []
    return [each for each in new if each not in old] or [each for each in old if each not in new] or new


def _is_well_formed(text: str) -> bool:
    at = 0
    while at < len(text):
        if not (part := _WELL_FORMED.match(text, at)):
            return False
        at = part.end()
    return "\0" not in text


def destinations(text: str) -> dict[str, list[tuple[str, str]]]:
    """The keys and values of each remote and branch: where git fetches and pushes. By names such as ``remote x``."""
    found: dict[str, list[tuple[str, str]]] = {}
    for section, below, key, value in entries(text):
        if section in ("remote", "branch"):
            found.setdefault(f"{section} {below}", []).append((key, value))
    return found


def _written(section: str, below: str, key: str, value: str) -> str:
    return ".".join(each for each in (section, below, key) if each) + f"={value}"


def _is_fixed(section: str, below: str, key: str, value: str) -> bool:
    # submodule.NAME.ignore hides changes.
    return section not in _CHANGEABLE or key == "ignore" or not _is_harmless(section, below, key, value)


def _is_harmless(section: str, below: str, key: str, value: str) -> bool:
    name = f"{section}." if below and f"{section}." in _NAMES else section
    if value.strip().lower() in _HARMLESS_VALUES.get((name, key), ()):
        return True
    if section in _ADDRESS_SECTIONS and (_runs_program(key, value) or not _is_own_transport(value)):
        return False
    if section == "url" and not _begins_own_transport(below):
        # It would make git fetch https://... run the program.
        return False
    if name in _HARMLESS_SECTIONS:
        return key not in _HARMLESS_SECTIONS[name]
    return key in _HARMLESS_KEYS.get(name, ())


_NAMES = {*_HARMLESS_SECTIONS, *_HARMLESS_KEYS, *(name for name, _ in _HARMLESS_VALUES)}


def gitfile_target(text: str) -> str | None:
    """The path in a ``.git`` file (gitrepository-layout(5)); None where the text is not one."""
    return (path_in(text.removeprefix("gitdir: ")) or None) if text.startswith("gitdir: ") else None


def path_in(text: str) -> str:
    """The path in a file of git's that holds nothing else. git removes line ends only: blanks belong to the path."""
    return text.rstrip("\r\n")
