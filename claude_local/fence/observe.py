"""Looks at the home directory, the workspaces and their repositories, and says what the outer fence has to do there."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from os.path import basename, dirname, exists, isabs, isdir, isfile, islink, join

from claude_local.fence import policy, repository
from claude_local.fence.plan import Fence, covers, outermost
from claude_local.fence.records import dataclass, field

# A configuration or link file of git that is larger than this (bytes) is none.
SMALL = 1 << 20
# Configurations of git's that are read for one repository, with what they include.
CONFIGURATIONS = 50
# Links that Linux follows on the way to a file.
LINKS = 40
# How deep below .git/modules submodules' repositories are looked for, and among how many entries: their names have slashes.
MODULES_DEPTH, MODULES_LIMIT = 16, 20_000


class WorkspaceRefused(Exception):
    """A directory that no session may write as a whole; the message says why, ``fix`` what to do instead."""

    def __init__(self, why: str, fix: str) -> None:
        super().__init__(why)
        self.fix = fix


@dataclass
class Places:
    """Where things are for one session, all without symbolic links: ``own`` are claude-local's own directories, which
    no workspace may hold; ``config_dir`` is Claude Code's; ``programs`` must stay visible wherever they are."""

    home: str
    config_dir: str
    own: list[str]
    programs: list[str]


@dataclass
class Found:
    """A session's fence, what to watch because it cannot be mounted over, and remarks for the user."""

    fence: Fence = field(default_factory=Fence)
    # May appear and must not: path -> what it would do.
    unwanted: dict[str, str] = field(default_factory=dict)
    # The git directories that were there at the start, those of submodules and worktrees among them, and .git files.
    repositories: set[str] = field(default_factory=set)
    # Of these, those that are too many to be guarded.
    unguarded: set[str] = field(default_factory=set)
    # Empty things at these paths are leftovers of a fence, if they were not there before.
    leftovers: list[str] = field(default_factory=list)
    # Guarded names that are symbolic links, and where they lead.
    links: dict[str, str] = field(default_factory=dict)
    # Secrets that are not there yet; a login in another terminal brings them.
    late: list[str] = field(default_factory=list)
    # Sockets to be hidden that may be gone in a moment.
    passing: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    # Empty things at these paths are another session's stubs.
    stubs: set[str] = field(default_factory=set)
    # Configurations of git's that were read: path -> text.
    read: dict[str, str] = field(default_factory=dict)


def realpath(path: str) -> str:
    """As that of os.path. A NUL ends a path, as it does for git; and a chain of links that is too long for Python is too long
    for the system: it leads nowhere."""
    path = path.partition("\0")[0]
    try:
        return os.path.realpath(path)
    except RecursionError:
        return os.path.abspath(path)


def bytes_of(path: str, flags: int = 0, limit: int = SMALL) -> bytes:
    """The beginning of a file, ``limit`` bytes; empty when it is no plain file that can be read (a pipe would keep us
    waiting). ``flags``: more of them to open it with."""
    with suppress(OSError):
        # A NUL ends a path, for git too.
        path = path.partition("\0")[0]
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY | flags)
        try:
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                # One read of a file in /proc gives a page of it, and of some none at all.
                with open(descriptor, "rb", closefd=False) as file:
                    return file.read(limit) or b""
        finally:
            os.close(descriptor)
    return b""


def text_of(path: str, flags: int = 0) -> str:
    """As ``bytes_of``, as a text in which paths are what they are for the system, whatever their letters."""
    return os.fsdecode(bytes_of(path, flags))


def whole_text(name: str, directory: int) -> str | None:
    """The text of the file ``name`` in an opened directory; empty where there is none. None: git would read something
    there that cannot be judged, a link, a device, more than SMALL bytes, or what only other people may read."""
    try:
        descriptor = os.open(
            name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY | os.O_NOFOLLOW, dir_fd=directory
        )
    except FileNotFoundError:
        return ""
    except OSError:
        return None
    try:
        with open(descriptor, "rb", closefd=False) as file:
            if stat.S_ISREG(os.fstat(descriptor).st_mode) and len(read := file.read(SMALL + 1)) <= SMALL:
                return os.fsdecode(read)
    except OSError:
        pass
    finally:
        os.close(descriptor)
    return None


# --- the home directory and the system ------------------------------------------------------------------------------


def hide(found: Found, places: Places, hidden: Sequence[str], visible: Sequence[str]) -> None:
    """Hide what policy and the user's settings name, as far as it exists."""
    shown = [realpath(path) for path in visible]
    names = set(_without_links(places.home, policy.HIDDEN_IN_HOME))
    system = [path for path in policy.HIDDEN_IN_SYSTEM if os.access(path, os.R_OK)]
    for real in [*sorted(names), *map(realpath, [*system, *hidden])]:
        if any(covers(each, real) for each in shown) or any(covers(root, real) for root in policy.EMPTIED if not (
            covers(root, places.home) and covers(places.home, real)
        )):  # fmt: skip
            continue
        if isdir(real):
            if covers(real, places.home) or any(covers(real, program) for program in places.programs):
                continue
            found.fence.emptied.append(real)
        elif exists(real):
            found.fence.blanked.append(real)
        elif real in names:
            found.late.append(real)
    found.fence.shown += [path for path in shown if exists(path) and any(covers(e, path) for e in found.fence.emptied)]
    claude = join(places.home, ".claude")
    if isdir(claude) and realpath(claude) != places.config_dir:
        found.fence.scratch.append(realpath(claude))
        if isdir(join(claude, "ide")):
            found.fence.shown.append(join(realpath(claude), "ide"))


def _without_links(top: str, names: Iterable[str]) -> Iterator[str]:
    """``realpath`` of plain names below ``top``; the way to each directory is looked at once, and there are few."""
    directories: dict[str, str] = {}
    for name in names:
        above, _, last = join(top, name).rpartition("/")
        if above not in directories:
            directories[above] = realpath(above)
        path = join(directories[above], last)
        yield realpath(path) if islink(path) else path


def moved_secrets(env: Mapping[str, str], workspaces: Sequence[str]) -> list[str]:
    """What ``env`` says is kept elsewhere (policy.MOVED): plain files, and directories that hold nothing of the system.
    What somebody keeps in a workspace is the workspace's."""
    found = []
    for path in policy.moved(env):
        with suppress(OSError):
            mode = os.stat(path).st_mode
            system = any(covers(realpath(path), each) for each in policy.SYSTEM_DIRECTORIES)
            ours = any(covers(each, realpath(path)) for each in workspaces)
            if not ours and (stat.S_ISREG(mode) or (stat.S_ISDIR(mode) and not system)):
                found.append(path)
    return found


def control_directories(home: str) -> list[str]:
    """The directories of ssh's control sockets, as ``~/.ssh/config`` and what it includes name them: whoever reaches one has
    a connection that is logged in. Only those that hold nothing else."""
    texts = [text_of(join(home, ".ssh", "config"))]
    for word, value in _ssh_options(texts[0]):
        if word == "include":
            texts += [text_of(each) for pattern in value.split() for each in _matching(pattern, home)]
    found = []
    for word, value in (option for text in texts for option in _ssh_options(text)):
        path = expanded(value.strip('"').replace("%d", home).replace("${HOME}", home), home)
        # Up to what differs from connection to connection.
        directory = dirname(path.partition("%")[0].partition("$")[0])
        if word == "controlpath" and isdir(directory) and all(is_socket for _, is_socket in _entries(directory)):
            found.append(directory)
    return list(dict.fromkeys(found))


def _ssh_options(text: str) -> Iterator[tuple[str, str]]:
    """Keyword, in small letters, and the rest of each line of an ssh_config(5)."""
    for line in text.splitlines():
        words = line.strip().replace("=", " ", 1).split(None, 1)
        if len(words) == 2:
            yield words[0].lower(), words[1].strip()


def _matching(pattern: str, home: str) -> list[str]:
    """The files that an Include names; one star in the last part is all that is known here."""
    path = join(home, ".ssh", pattern.strip('"').replace("~", home, 1))
    begin, star, end = basename(path).partition("*")
    if not star:
        return [path]
    with suppress(OSError):
        return [join(dirname(path), name) for name in sorted(os.listdir(dirname(path)))
                if name.startswith(begin) and name.endswith(end)]  # fmt: skip
    return []


def listening_sockets(table: str) -> list[str]:
    """The paths in /proc/net/unix that something has bound. A relative one starts where that program was then."""
    rows = (line.split(None, 7) for line in table.splitlines()[1:])
    return list(dict.fromkeys(row[7] for row in rows if len(row) == 8 and not row[7].startswith("@")))


def _working_directories() -> set[str]:
    """Where the processes are that we may look at."""
    found = set()
    for name in os.listdir("/proc"):
        if name.isdigit():
            with suppress(OSError):
                found.add(os.readlink(f"/proc/{name}/cwd"))
    return found


def _entries(directory: str) -> Iterator[tuple[str, bool]]:
    """The path of each entry, and whether it may be a socket."""
    with suppress(OSError), os.scandir(directory) as entries:
        for each in entries:
            kinds = (each.is_file(follow_symlinks=False), each.is_dir(follow_symlinks=False), each.is_symlink())
            yield each.path, not any(kinds)


def blank_sockets(found: Found, table: str, writable: Iterable[str]) -> None:
    """A read-only mount does not stop a connection to a socket in it: blank those that no emptied directory hides.

    ssh binds a name, gives the socket another one and takes the first away: where a name is gone, every socket beside it.
    """
    covered = [*policy.EMPTIED, *found.fence.emptied, *found.fence.scratch, *writable]
    names = listening_sockets(table)
    relative = [name for name in names if not isabs(name)]
    places = [name for name in names if isabs(name)]
    places += [join(each, name) for each in (_working_directories() if relative else ()) for name in relative]
    gone = {dirname(path) for path in places if isabs(path) and not os.path.lexists(path)}
    places += [path for directory in gone for path, is_socket in _entries(directory) if is_socket]
    for path in dict.fromkeys(places):
        with suppress(OSError):
            real = realpath(path)
            if stat.S_ISSOCK(os.lstat(real).st_mode) and not any(covers(each, real) for each in covered):
                found.fence.blanked.append(real)
    found.fence.blanked = list(dict.fromkeys(found.fence.blanked))


def fresh_directories() -> list[str]:
    """Those of policy.EMPTIED, without links: on some machines ``/var/tmp`` is one to ``/tmp``, and nothing mounts over that."""
    return outermost(realpath(path) for path in policy.EMPTIED)


def keep_programs(found: Found, places: Places) -> None:
    """Programs and the home directory stay visible below a directory that is emptied."""
    for path in [places.home, *places.programs]:
        if any(covers(root, path) for root in policy.EMPTIED):
            found.fence.kept.append(path)


# --- a workspace ------------------------------------------------------------------------------------------------------


def check_workspace(path: str, places: Places, found: Found) -> None:
    """Raises WorkspaceRefused when a session must not have ``path`` to write."""
    go = "cd into the project's own directory and start again"
    if path == "/":
        raise WorkspaceRefused("the workspace would be / : everything on this machine could be written", go)
    if covers(path, places.home):
        what = "your home directory" if path == places.home else f"{path}, which holds your home directory"
        raise WorkspaceRefused(f"the workspace would be {what}: its start-up files run outside the fence", go)
    if path in policy.EMPTIED:
        raise WorkspaceRefused(f"the workspace would be {path}: other programs' sockets and files are in it", go)
    for system in policy.SYSTEM_DIRECTORIES:
        if covers(policy.REMOVABLE, path) and path.count("/") > policy.REMOVABLE.count("/") + 1:
            break
        if covers(path, system) or (covers(system, path) and not covers(places.home, path)):
            raise WorkspaceRefused(f"the workspace {path} is part of the system ({system})", go)
    for own in places.own:
        if covers(path, own) or covers(own, path):
            raise WorkspaceRefused(f"the workspace {path} holds or belongs to claude-local's own files ({own})", go)
    for secret in [*found.fence.emptied, *found.fence.blanked, *found.fence.scratch]:
        if covers(path, secret) or covers(secret, path):
            raise WorkspaceRefused(
                f"the workspace {path} holds or lies in {secret}, which sessions must not see",
                go + f", or show it with the setting fence_visible=[{json.dumps(secret)}]",
            )


def guard_workspace(found: Found, workspace: str, stubs: Iterable[str] = (), home: str = "") -> None:
    """Guard what runs later outside: read-only where it is there, a stub where it is not. ``stubs``: paths at which an
    empty thing is another session's stub. ``home``: whose configurations of git's count in the repositories, too."""
    fence = found.fence
    found.stubs |= set(stubs)
    if workspace not in fence.writable:
        fence.writable.append(workspace)
    trees = list(_worktrees(workspace))
    if trees or isdir(join(workspace, ".claude", "worktrees")):
        fence.reopened.append(join(workspace, ".claude", "worktrees"))
    tops = [workspace, *trees]
    cut: list[str] = []
    named, repositories = scan(workspace, cut=cut, more=trees)
    if workspace in cut:
        found.remarks.append(
            f"{workspace} holds more than {policy.SCAN_LIMIT} files: editors' and shells' settings further down are not guarded, "
            "and repositories there are only compared at the end"
        )
    # Whatever the limit left out.
    always = [join(top, name) for top in tops for name in sorted(policy.GUARDED)]
    named = list(dict.fromkeys([*named, *(path for path in always if os.path.lexists(path))]))
    own = join(workspace, ".git")
    nested = [git_dir for git_dir in repositories if git_dir != own]
    unguarded = set(nested[policy.REPOSITORIES :])
    if unguarded:
        found.remarks.append(
            f"{workspace} holds {len(nested)} repositories; {len(unguarded)} of them are not guarded, only compared at the "
            "end: until then git there may run what a session leaves in them. Start in one of its directories"
        )
        found.unguarded |= unguarded
    for git_dir in repositories:
        found.repositories.add(git_dir)
        if git_dir != own and git_dir not in unguarded:
            _pin_parents(fence, join(git_dir, "HEAD"), workspace)
            _guard_git_dir(found, git_dir, policy.GIT_GUARDED_NESTED)
            top = dirname(git_dir) if basename(git_dir) == ".git" else git_dir
            _guard_named(found, top, [join(git_dir, "config"), join(git_dir, "config.worktree")], home)
            _guard_within(found, git_dir, home)
    for path in named:
        if basename(path) == ".git":
            found.repositories.add(path)
        if _is_stub(found, path):
            continue
        if islink(path):
            _guard_way(found, path)
        fence.guarded.append(realpath(path))
        _pin_parents(fence, path, workspace)
    for names, into in ((policy.STUB_DIRECTORIES, fence.stub_directories), (policy.STUB_FILES, fence.stub_files)):
        for path in (join(top, name) for top in tops for name in names):
            if not os.path.lexists(path) or _is_stub(found, path):
                into.append(path)


def _worktrees(workspace: str) -> Iterator[str]:
    """The worktrees that Claude Code has made in a workspace: its ``--worktree`` starts in them later."""
    top = join(workspace, ".claude", "worktrees")
    if not islink(top) and not islink(dirname(top)):
        with suppress(OSError):
            yield from (path for name in sorted(os.listdir(top)) if isdir(path := join(top, name)) and not islink(path))


def _is_stub(found: Found, path: str) -> bool:
    """Whether there is an empty file or directory at ``path`` that another session's fence has made."""
    with suppress(OSError):
        if path not in found.stubs:
            return False
        status = os.lstat(path)
        if stat.S_ISREG(status.st_mode):
            return status.st_size == 0
        return stat.S_ISDIR(status.st_mode) and not os.listdir(path)
    return False


def _pin_parents(fence: Fence, path: str, top: str) -> None:
    """A guarded file in a directory that can be renamed is not guarded: pin each directory on the way to it."""
    parent = dirname(path)
    # What was reopened comes after what was pinned, and what holds it is guarded.
    while covers(top, parent) and parent != top and parent not in fence.reopened:
        again = any(covers(each, parent) for each in fence.reopened)
        (fence.reopened if again else fence.pinned).append(parent)
        parent = dirname(parent)


# What git takes for a repository wherever it meets it, whatever the directory's name is.
_SHAPE = frozenset({"HEAD", "objects", "refs", "commondir"})


def _is_shape(names: Collection[str]) -> bool:
    return "HEAD" in names and ("commondir" in names or ("objects" in names and "refs" in names))


def repository_shape(directory: str) -> bool:
    """Whether git would take ``directory`` itself for a bare repository."""
    return _is_shape({name for name in _SHAPE if os.path.lexists(join(directory, name))})


def _is_own(path: str) -> bool:
    with suppress(OSError):
        return os.lstat(path).st_uid == os.getuid()
    return False


def scan(
    workspace: str,
    levels: int = policy.SCAN_DEPTH,
    limit: int = policy.SCAN_LIMIT,
    skip: Collection[str] = policy.NOT_SCANNED,
    cut: list[str] | None = None,
    guarded: Collection[str] = policy.GUARDED,
    more: Sequence[str] = (),
) -> tuple[list[str], list[str]]:
    """Guarded files and directories in ``workspace`` (``.git`` files below it among them), and its repositories: ``.git``
    directories, and directories that have the shape of one. A bounded number of levels and of entries, without the
    directories called as ``skip`` says.
    ``guarded``: names that count, and that are not looked into. ``more``: directories that are as good as workspaces.
    ``cut`` gets the workspace when there was more than ``limit``, and directories that cannot be read, of ours or for
    another reason than that we may not: git can still go through them."""
    level, seen = [workspace, *more], 0
    named: list[str] = []
    repositories: list[str] = []
    for depth in range(levels + 1):
        below = []
        for directory in level:
            shape = set()
            try:
                with os.scandir(directory) as names:
                    for entry in names:
                        seen += 1
                        if entry.name in _SHAPE:
                            shape.add(entry.name)
                        if seen > limit:
                            if cut is not None:
                                cut.append(workspace)
                            return named, repositories
                        if entry.name in guarded or f"{basename(directory)}/{entry.name}" in guarded:
                            named.append(entry.path)
                        elif not entry.is_dir(follow_symlinks=False):
                            # A submodule's or a worktree's: git goes where it points.
                            if entry.name == ".git" and directory != workspace:
                                named.append(entry.path)
                        else:
                            if entry.name == ".git":
                                repositories.append(entry.path)
                            if depth < levels and entry.name not in skip:
                                below.append(entry.path)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                # Too long a path, too many open files ...
                if cut is not None and (not isinstance(error, PermissionError) or _is_own(directory)):
                    cut.append(directory)
            if basename(directory) != ".git" and _is_shape(shape):
                repositories.append(directory)
        level = below
    return named, repositories


# --- its repository ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Repository:
    """``link``: the ``.git`` file or directory; ``git_dir``: HEAD and index; ``common_dir``: objects, refs, config."""

    link: str
    git_dir: str
    common_dir: str

    @property
    def top(self) -> str:
        return dirname(self.link)


def resolved(path: str, base: str) -> str:
    """What a path that git reads somewhere leads to: relative ones start at ``base``."""
    return realpath(path if isabs(path) else join(base, path))


def _is_git_dir(path: str) -> bool:
    return isfile(join(path, "HEAD")) and isdir(join(path, "objects"))


def find_repository(workspace: str) -> tuple[Repository | None, str]:
    """The repository that git would find from ``workspace``, and why not when there is one that is not to be trusted.

    A ``.git`` file may point anywhere. It is believed only where the other end points back: what a stranger's archive
    can hold must not open a directory of the user's for writing.
    """
    at = workspace
    while True:
        link = join(at, ".git")
        if isdir(link):
            git_dir = realpath(link)
            if not covers(at, git_dir):
                return None, f"{link} is a link to {git_dir}: sessions do not write there"
            common = repository_common_dir(git_dir)
            if os.stat(git_dir).st_uid != os.getuid():
                return None, f"{link} belongs to somebody else: sessions do not write there"
            if common != git_dir or not _is_git_dir(git_dir):
                return None, f"{link} is no repository of its own: sessions do not guard or write it"
            return Repository(link, git_dir, git_dir), ""
        if isfile(link):
            return _linked_repository(link)
        if at == "/":
            return None, ""
        at = dirname(at)


def repository_common_dir(git_dir: str) -> str:
    """Where objects and config are: what ``commondir`` names, else ``git_dir`` itself."""
    named = repository.only_path(text_of(join(git_dir, "commondir")))
    return resolved(named, git_dir) if named else git_dir


def _linked_repository(link: str) -> tuple[Repository | None, str]:
    target = repository.link_target(text_of(link))
    if target is None:
        return None, f"{link} is no link to a repository"
    git_dir = resolved(target, dirname(link))
    common = repository_common_dir(git_dir)
    back = repository.only_path(text_of(join(git_dir, "gitdir")))
    is_worktree = (
        bool(back) and resolved(back, git_dir) == realpath(link) and covers(join(common, "worktrees"), git_dir)
    )
    named = [value for section, _, key, value in repository.entries(text_of(join(git_dir, "config"))) if
             (section, key) == ("core", "worktree")]  # fmt: skip
    is_submodule = "/modules/" in git_dir and any(resolved(each, git_dir) == dirname(link) for each in named)
    if (is_worktree and _is_git_dir(common)) or (is_submodule and common == git_dir and _is_git_dir(git_dir)):
        return Repository(link, git_dir, common), ""
    return None, f"{link} points to {git_dir}, which does not point back: sessions cannot commit here"


def guard_unbelieved(found: Found, workspace: str) -> None:
    """A ``.git`` in the workspace that is not to be trusted stays as it is: git would trust what a session makes of it."""
    link = join(workspace, ".git")
    if islink(link):
        found.links[link] = os.readlink(link)
    elif exists(link):
        found.fence.guarded.append(link)


def guard_repository(found: Found, repo: Repository, places: Places) -> None:
    """Let the session write objects, refs and index; guard configuration, hooks and what they name."""
    fence = found.fence
    found.repositories |= {repo.git_dir, repo.common_dir}
    _guard_way(found, repo.link)
    for directory in dict.fromkeys([repo.git_dir, repo.common_dir]):
        fence.pinned.append(directory)
        _guard_git_dir(found, directory)
    if isfile(repo.link) and not islink(repo.link):
        fence.guarded.append(repo.link)
    configurations = [join(repo.common_dir, "config"), join(repo.git_dir, "config.worktree")]
    _guard_named(found, repo.top, configurations, places.home)
    _guard_within(found, repo.common_dir, places.home)


def _guard_within(found: Found, common_dir: str, home: str) -> None:
    """Guard what a repository holds of submodules and of worktrees."""
    _guard_entries(found, common_dir, home)
    for module in modules(common_dir):
        found.repositories.add(module)
        if islink(module):
            _guard_way(found, module)
            continue
        _pin_parents(found.fence, join(module, "HEAD"), common_dir)
        _guard_git_dir(found, module)
        config = join(module, "config")
        for section, _, key, value in repository.entries(text_of(config)):
            if (section, key) == ("core", "worktree"):
                _guard_named(found, resolved(value, module), [config, join(module, "config.worktree")], home)
        _guard_entries(found, module, home)


def _guard_entries(found: Found, common_dir: str, home: str) -> None:
    """Guard what points from a repository to its worktrees, and their configurations."""
    obeyed = has_second_configuration(common_dir)
    for entry in worktree_entries(common_dir):
        found.repositories.add(entry)
        _pin_parents(found.fence, join(entry, "HEAD"), common_dir)
        found.fence.guarded += [path for name in ("commondir", "gitdir", "config.worktree")
                                if isfile(path := join(entry, name))]  # fmt: skip
        if obeyed and not os.path.lexists(join(entry, "config.worktree")):
            found.fence.stub_files.append(join(entry, "config.worktree"))
        if link := repository.only_path(text_of(join(entry, "gitdir"))):
            # What is named relative to a working tree is there in each.
            configurations = [join(common_dir, "config"), join(entry, "config.worktree")]
            _guard_named(found, dirname(resolved(link, entry)), configurations, home)


def has_second_configuration(common_dir: str) -> bool:
    """Whether git obeys ``config.worktree``, here and in each worktree."""
    return "worktreeconfig" in text_of(join(common_dir, "config")).lower()


def worktree_entries(common_dir: str) -> list[str]:
    """The directories of a repository that stand for its worktrees."""
    top, found = join(common_dir, "worktrees"), []
    with suppress(OSError):
        found = [path for name in sorted(os.listdir(top)) if isdir(path := join(top, name)) and not islink(path)]
    return found


def _guard_git_dir(found: Found, git_dir: str, names: Sequence[str] = policy.GIT_GUARDED) -> None:
    fence = found.fence
    found.leftovers += [path for path in (join(git_dir, name) for name in policy.SANDBOX_LEFTOVERS_IN_GIT)
                        if not os.path.lexists(path)]  # fmt: skip
    linked = exists(join(git_dir, "commondir"))
    for name in names:
        path = join(git_dir, name)
        if islink(path):
            _guard_way(found, path)
        if _is_stub(found, path):
            (fence.stub_directories if isdir(path) else fence.stub_files).append(path)
        elif exists(path):
            fence.guarded.append(path)
        if name.startswith("info/"):
            if not linked and not os.path.lexists(path):
                found.unwanted[path] = "it would keep changes out of what git shows"
            elif exists(path):
                fence.pinned.append(dirname(path))
    if not linked:
        if not os.path.lexists(join(git_dir, "hooks")):
            fence.stub_directories.append(join(git_dir, "hooks"))
        found.unwanted[join(git_dir, "commondir")] = (
            "it would give this repository another configuration and other hooks"
        )
        if not has_second_configuration(git_dir):
            return
    if not os.path.lexists(join(git_dir, "config.worktree")):
        fence.stub_files.append(join(git_dir, "config.worktree"))


def modules(common_dir: str, cut: list[str] | None = None) -> Iterator[str]:
    """The git directories of submodules, and links to some; they lie below ``modules`` under their names, which may hold
    slashes. ``cut`` gets the directory where the look ended too early."""
    level, seen = [join(common_dir, "modules")], 0
    for _ in range(MODULES_DEPTH):
        below = []
        for directory in level:
            if islink(directory):
                yield directory
                continue
            try:
                names = sorted(os.listdir(directory))
            except OSError as error:
                if cut is not None and isinstance(error, PermissionError):
                    cut.append(directory)
                continue
            for path in (join(directory, name) for name in names):
                seen += 1
                if seen > MODULES_LIMIT:
                    if cut is not None:
                        cut.append(directory)
                    return
                if islink(path) or (isdir(path) and os.path.lexists(join(path, "HEAD"))):
                    yield path
                if isdir(path) and not islink(path):
                    # git makes no repository within another one but there; without its shape it is none.
                    below.append(join(path, "modules") if repository_shape(path) else path)
        level = below


def users_configurations(home: str, env: Mapping[str, str]) -> list[str]:
    """Where git looks for configurations that count in every repository; ``env`` is the user's."""
    places = [join(home, ".gitconfig"), join(home, ".config/git/config"), env.get("GIT_CONFIG_GLOBAL", ""),
              env.get("GIT_CONFIG_SYSTEM", "") or "/etc/gitconfig"]  # fmt: skip
    if base := env.get("XDG_CONFIG_HOME", ""):
        places.append(join(base, "git/config"))
    return list(dict.fromkeys(path for path in places if isabs(path)))


def configurations_of(found: Found, paths: Iterable[str], home: str) -> dict[str, str]:
    """The configurations at ``paths`` and what they include, by their paths; their texts."""
    waiting, texts = list(paths), dict[str, str]()
    while waiting and len(texts) < CONFIGURATIONS:
        path = waiting.pop(0)
        if path not in texts:
            texts[path] = found.read.setdefault(path, text_of(path) if path not in found.read else "")
            waiting += [join(dirname(path), expanded(value, home)) for value in repository.included(texts[path])]
    return texts


def _guard_named(found: Found, top: str, paths: Sequence[str], home: str) -> None:
    """Guard the files in the workspace that git's configurations name: hooks elsewhere, includes, drivers. ``top``: the
    working tree. ``paths``: its repository's configurations; the user's own count, too."""
    fence = found.fence
    for config, text in configurations_of(found, [*paths, *users_configurations(home, os.environ)], home).items():
        for value in repository.named_directories(text):
            written = expanded(value, home)
            _guard_way(found, join(top, written))
            path = resolved(written, top)
            if not _writable(fence, path) or covers(path, top):
                continue
            if isdir(path) and not _is_stub(found, path):
                fence.guarded.append(path)
            else:
                while not os.path.lexists(dirname(path)):
                    path = dirname(path)
                fence.stub_directories.append(path)
            _pin_parents(fence, path, _root_of(fence, path))
        for value in repository.named_files(text):
            for base in (top, dirname(config)):
                written = join(base, expanded(value, home))
                path = resolved(written, base)
                if isfile(path) and _writable(fence, path) and not _is_stub(found, path):
                    _guard_way(found, written)
                    fence.guarded.append(path)
                    _pin_parents(fence, path, _root_of(fence, path))
        missing = [join(dirname(config), expanded(value, home)) for value in repository.included(text)]
        missing += [join(top, expanded(value, home)) for value in repository.programs(text)]
        for path in missing:
            _keep_away(found, resolved(path, top), f"git would obey it: {config} names it")


def _keep_away(found: Found, path: str, what: str) -> None:
    """What is not there must not appear."""
    if (os.path.lexists(path) and not _is_stub(found, path)) or not _writable(found.fence, path):
        return
    if isdir(dirname(path)):
        found.fence.stub_files.append(path)
        _pin_parents(found.fence, path, _root_of(found.fence, path))
    else:
        found.unwanted[path] = what


def _root_of(fence: Fence, path: str) -> str:
    """The nearest directory around ``path`` that the session may write, and that it cannot rename."""
    return max((each for each in [*fence.writable, *fence.pinned] if covers(each, dirname(path))), key=len, default="/")


def links_on(path: str) -> Iterator[str]:
    """The links that the system follows on the way to ``path``, each without links before it."""
    at, rest, followed = "/", path.split("/")[::-1], 0
    while rest:
        name = rest.pop()
        step = join(at, name) if name not in ("", ".", "..") else dirname(at) if name == ".." else at
        if followed < LINKS and name not in ("", ".", "..") and islink(step):
            yield step
            followed += 1
            target = os.readlink(step)
            at = "/" if isabs(target) else at
            rest += target.split("/")[::-1]
        else:
            at = step


def _guard_way(found: Found, path: str) -> None:
    """Links on the way to ``path``, and to where it leads: they are watched, because no mount can hold a link in its place,
    and the directories that they and their end lie in cannot be renamed."""
    ends = [*links_on(path), realpath(path)]
    for end in ends if len(ends) > 1 else ():
        if _writable(found.fence, dirname(end)):
            if islink(end):
                found.links[end] = os.readlink(end)
            _pin_parents(found.fence, end, _root_of(found.fence, end))
    if len(ends) > 1:
        _keep_away(found, ends[-1], f"{ends[0]} leads to it")


def expanded(value: str, home: str) -> str:
    """A path of a configuration's, with ``home`` in the place of its tilde."""
    return join(home, value[2:]) if value.startswith("~/") else value


def _writable(fence: Fence, path: str) -> bool:
    return any(covers(each, path) for each in [*fence.writable, *fence.pinned])


# --- last of all ---------------------------------------------------------------------------------------------------------


def can_appear(directory: str) -> bool:
    """Whether a session could make something in ``directory``; as root it has no power over other people's files."""
    try:
        status = os.stat(directory)
        if os.statvfs(directory).f_flag & os.ST_RDONLY:
            return False
    except OSError:
        return True
    if os.getuid() != 0:
        # One's own can be made writable first.
        return status.st_uid == os.getuid() or os.access(directory, os.W_OK)
    by_group = status.st_gid in {os.getgid(), *os.getgroups()} and bool(status.st_mode & stat.S_IWGRP)
    return status.st_uid == 0 or bool(status.st_mode & stat.S_IWOTH) or by_group


def settle(found: Found, roots: Sequence[str]) -> None:
    """Keep of a fence only what cannot open anything: ``roots`` are the directories that the session may write.

    A workspace is somebody else's text: a link in it, or a path in its configuration, may lead anywhere. What is mounted
    over itself must be where its name says, inside one of the roots; mounted outside, it would be shown or writable.
    """
    fence = found.fence

    def inside(path: str) -> bool:
        return any(covers(root, path) for root in roots)

    fence.pinned = [
        path for path in dict.fromkeys(fence.pinned) if isdir(path) and realpath(path) == path and inside(path)
    ]
    fence.guarded = [path for path in dict.fromkeys(map(realpath, fence.guarded))
                     if exists(path) and inside(path) and not any(covers(path, root) for root in roots)]  # fmt: skip
    fence.reopened = [
        path for path in dict.fromkeys(fence.reopened) if isdir(path) and realpath(path) == path and inside(path)
    ]

    def is_closed(path: str) -> bool:
        def nearest(places: Iterable[str]) -> int:
            return max((len(each) for each in places if covers(each, path)), default=0)

        return nearest(fence.guarded) > 0 and nearest(fence.guarded) >= nearest(fence.reopened)

    for name in ("stub_directories", "stub_files"):
        wanted = [path for path in getattr(fence, name)
                  if realpath(dirname(path)) == dirname(path) and isdir(dirname(path)) and inside(path)
                  and can_appear(dirname(path)) and not is_closed(path)]  # fmt: skip
        setattr(fence, name, list(dict.fromkeys(wanted)))
    # One of each name: bubblewrap stumbles over a second one.
    fence.stub_files = [path for path in fence.stub_files if path not in fence.stub_directories]


# --- the IDE -----------------------------------------------------------------------------------------------------------


def ide_ports(directories: Iterable[str], own_terminal: str | None) -> list[int]:
    """The loopback ports of the IDEs whose lock files lie in ``directories``: the one whose terminal this is
    (CLAUDE_CODE_SSE_PORT), and those whose process lives."""
    found = []
    for directory in directories:
        with suppress(OSError):
            for name in sorted(os.listdir(directory)):
                port, _, end = name.partition(".")
                is_lock = end == "lock" and port.isascii() and port.isdigit() and 0 < int(port) < 65536
                if is_lock and (port == own_terminal or _lives(text_of(join(directory, name)))):
                    found.append(int(port))
    return list(dict.fromkeys(found))


def _lives(lock: str) -> bool:
    try:
        process = json.loads(lock).get("pid")
        if isinstance(process, bool) or process <= 0:
            return False
        os.kill(process, 0)
    except PermissionError:
        return True
    except (ValueError, TypeError, AttributeError, OSError, OverflowError, RecursionError):
        return False
    return True
