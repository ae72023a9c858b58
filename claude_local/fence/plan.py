"""The bubblewrap command of the outer fence, from what was found on this machine. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import repeat

from claude_local.fence.policy import EMPTIED

# As root the session runs under this uid of its own user namespace: files look as if they were its own, and the kernel
# gives it nothing that is root's. (Root in the namespace could not make the inner sandbox's namespace: mapping uid 0
# needs CAP_SETFCAP.)
MAPPED_UID = 1000


@dataclass
class Fence:
    """What the outer fence is made of; all paths are absolute and without symbolic links, and exist unless said.

    ``fresh``: directories that are empty and writable, for this session. ``kept``: read-only places below an emptied directory that must stay visible. ``emptied``: directories that appear
    empty, ``blanked``: files that do; ``scratch``: directories that appear empty and take what is written, for the
    session. ``writable``: what a session may write; ``pinned``: directories in it that cannot be renamed or replaced;
    ``guarded``: read-only in it; ``reopened``: writable again in something guarded. ``stub_directories`` and ``stub_files`` do not exist and cannot be made: bubblewrap puts
    something empty there. ``sockets``: what passes by wish. ``shown``: read-only places in something emptied.
    """

    fresh: list[str] = field(default_factory=lambda: list(EMPTIED))
    kept: list[str] = field(default_factory=list)
    emptied: list[str] = field(default_factory=list)
    blanked: list[str] = field(default_factory=list)
    scratch: list[str] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)
    writable: list[str] = field(default_factory=list)
    pinned: list[str] = field(default_factory=list)
    guarded: list[str] = field(default_factory=list)
    reopened: list[str] = field(default_factory=list)
    stub_directories: list[str] = field(default_factory=list)
    stub_files: list[str] = field(default_factory=list)
    sockets: list[str] = field(default_factory=list)


def covers(parent: str, path: str) -> bool:
    """Whether ``path`` is ``parent`` or lies below it."""
    return path == parent or parent == "/" or path.startswith(parent + "/")


def outermost(paths: Iterable[str]) -> list[str]:
    """``paths`` without those that lie below another of them, sorted."""
    found: list[str] = []
    for path in sorted(set(paths), key=lambda path: path.split("/")):
        if not found or not covers(found[-1], path):
            found.append(path)
    return found


def _bound(option: str, paths: Iterable[str]) -> list[str]:
    return [word for path in paths for word in (option, path, path)]


def _hiding(fence: Fence, top: str, empty: Iterator[int]) -> list[str]:
    """The words that hide what is to be hidden below ``top``. ``empty``: see command."""

    def below(paths: Iterable[str]) -> list[str]:
        return [path for path in paths if covers(top, path) and path != top]

    words: list[str] = []
    shown = below(fence.shown)
    for path in outermost(below(fence.emptied)):
        # While it can be written, bubblewrap makes the places there that it binds over.
        seen = [each for each in shown if covers(path, each)]
        shown = [each for each in shown if each not in seen]
        words += ["--tmpfs", path, *_bound("--ro-bind", seen), "--remount-ro", path]
    for path in sorted(set(below(fence.blanked))):
        words += ["--ro-bind-data", str(next(empty)), path]
    for path in below(fence.scratch):
        words += ["--perms", "0700", "--tmpfs", path]
    return words + _bound("--ro-bind", shown)


def command(
    bwrap: str,
    fence: Fence,
    cwd: str,
    *,
    own_network: bool,
    runtime_dir: str,
    seccomp: int | None = None,
    accounts: tuple[int, int] | None = None,
    empty: Iterator[int] | None = None,
) -> list[str]:
    """bubblewrap's words up to the program that it runs.

    ``own_network``: a network namespace with nothing but loopback. ``runtime_dir``: XDG_RUNTIME_DIR, made empty.
    ``seccomp``: a descriptor with the filter. ``accounts``: descriptors with the passwd and group files of a session of
    root, which also says that the caller is root. ``empty``: descriptors that read as nothing, a new one each time; what they are
    put over is an empty file. (A device in its place could not be opened, and some tools give up where their own configuration
    cannot.)
    """
    empty = repeat(0) if empty is None else empty
    words = [bwrap, "--die-with-parent", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    if own_network:
        words.append("--unshare-net")
    if accounts is not None:
        words += ["--unshare-user", "--uid", str(MAPPED_UID), "--gid", str(MAPPED_UID)]
    words += ["--cap-drop", "ALL", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc"]
    if accounts is not None:
        # For /proc/sys the kernel asks only who the owner is, and outside the namespace this user is root: core_pattern
        # would be a way out. (bubblewrap covers it only for a caller who may write the directory itself.)
        words += ["--ro-bind", "/proc/sys", "/proc/sys"]
    for path in fence.fresh:
        words += ["--perms", "1777" if path != "/run" else "0755", "--tmpfs", path]
    words += ["--perms", "0700", "--dir", runtime_dir]
    if not own_network:
        # Where name resolution is configured on machines with systemd-resolved, resolvconf or NetworkManager.
        for path in ("/run/systemd/resolve", "/run/resolvconf", "/run/NetworkManager"):
            words += ["--ro-bind-try", path, path]
    if accounts is not None:
        for descriptor, path in zip(accounts, ("/etc/passwd", "/etc/group"), strict=True):
            words += ["--perms", "0644", "--ro-bind-data", str(descriptor), path]
    words += _bound("--ro-bind", sorted(fence.kept))
    words += _hiding(fence, "/", empty)
    # Parents before children: a workspace inside another writable place, a guarded file inside a pinned directory.
    words += _bound("--bind", sorted({*fence.writable, *fence.pinned}))
    # A writable place brings back what was hidden in it.
    for path in outermost(fence.writable):
        words += _hiding(fence, path, empty)
    # What is reopened in something guarded has guarded files again.
    for path in sorted({*fence.guarded, *fence.reopened}):
        words += _bound("--bind" if path in fence.reopened else "--ro-bind", [path])
    for path in sorted(set(fence.stub_directories)):
        words += ["--tmpfs", path, "--remount-ro", path]
    words += [word for path in sorted(set(fence.stub_files)) for word in ("--ro-bind", "/dev/null", path)]
    words += _bound("--ro-bind", fence.sockets)
    words += ["--chdir", cwd]
    if seccomp is not None:
        words += ["--seccomp", str(seccomp)]
    return [*words, "--"]


def proxy_port(taken: Iterable[int]) -> int:
    """A port for the proxy of commands (fence/proxy.py) in a network namespace where ``taken`` are offered: above
    those that Linux gives away by itself (ip_local_port_range), and of no service."""
    used = set(taken)
    return next(port for port in range(61128, 65536) if port not in used)


def accounts(passwd: str, group: str, home: str) -> tuple[str, str]:
    """The passwd and group files of a session of root: root's name belongs to MAPPED_UID."""
    uid = str(MAPPED_UID)

    def without(text: str) -> list[str]:
        return [line for line in text.splitlines() if line.split(":")[2:3] not in (["0"], [uid])]

    user = [f"root:x:{uid}:{uid}:root:{home}:/bin/bash", *without(passwd)]
    groups = [f"root:x:{uid}:", *without(group)]
    return "\n".join(user) + "\n", "\n".join(groups) + "\n"
