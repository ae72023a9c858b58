"""The mounts of the outer fence, and bubblewrap's arguments for them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import repeat

from claude_local.fence.policy import TMPFS

# root's session runs under this uid of a user namespace of its own: files look as if they belonged to it, and the
# kernel gives it nothing that is root's. (As uid 0 there it could not make the inner sandbox's namespace: mapping uid 0
# needs CAP_SETFCAP.)
MAPPED_UID = 1000
# Where the kernel takes commands and asks only for the owner, who is root outside the namespace: through core_pattern
# in /proc/sys a session could get out. (bubblewrap covers some, where the caller may write the directory itself.)
ROOTS_PROC = tuple(f"/proc/{name}" for name in ("acpi", "asound", "driver", "fs", "scsi", "sys", "sysrq-trigger"))


@dataclass
class Fence:
    """The mounts of the outer fence, in the order in which bubblewrap makes them.

    Every path is absolute, without symbolic links, and exists, except the stubs.

    * ``tmpfs``: an empty writable directory for this session.
    * ``ro_bind_programs``: read-only below a ``tmpfs``, because the session runs from there.
    * ``masked_directories``: looks empty, read-only. ``masked_files``: looks like an empty file.
    * ``private_tmpfs``: looks empty, and takes what the session writes.
    * ``unmasked``: stays visible, read-only, inside a masked directory.
    * ``rw_bind``: the session may write here.
    * ``self_bind``: a directory in an ``rw_bind``, bound on itself: nobody can rename or replace a mount point.
    * ``ro_bind``: read-only inside an ``rw_bind``.
    * ``nested_rw_bind``: writable again inside an ``ro_bind``.
    * ``stub_directories``, ``stub_files``: must not be created. An empty directory or file is mounted there; the
      directory holds a ``.gitignore``, so that no git command takes it for something new.
    * ``sockets``: sockets and files of ``fence_sockets``.
    """

    tmpfs: list[str] = field(default_factory=lambda: list(TMPFS))
    ro_bind_programs: list[str] = field(default_factory=list)
    masked_directories: list[str] = field(default_factory=list)
    masked_files: list[str] = field(default_factory=list)
    private_tmpfs: list[str] = field(default_factory=list)
    unmasked: list[str] = field(default_factory=list)
    rw_bind: list[str] = field(default_factory=list)
    self_bind: list[str] = field(default_factory=list)
    ro_bind: list[str] = field(default_factory=list)
    nested_rw_bind: list[str] = field(default_factory=list)
    stub_directories: list[str] = field(default_factory=list)
    stub_files: list[str] = field(default_factory=list)
    sockets: list[str] = field(default_factory=list)


def covers(parent: str, path: str) -> bool:
    """Whether ``path`` is ``parent`` or lies below it."""
    return path == parent or parent == "/" or path.startswith(parent + "/")


def outermost(paths: Iterable[str]) -> list[str]:
    """``paths`` without those that lie below another of them, sorted."""
    tops: list[str] = []
    for path in sorted(set(paths), key=lambda path: path.split("/")):
        if not tops or not covers(tops[-1], path):
            tops.append(path)
    return tops


def _bind(option: str, paths: Iterable[str]) -> list[str]:
    """The arguments that bind each path on itself."""
    return [argument for path in paths for argument in (option, path, path)]


def _mask(fence: Fence, top: str, empty: Iterator[int]) -> list[str]:
    """The arguments that hide what is to be hidden below ``top``. ``empty``: see bubblewrap_argv."""

    def below(paths: Iterable[str]) -> list[str]:
        return [path for path in paths if covers(top, path) and path != top]

    argv: list[str] = []
    unmasked = below(fence.unmasked)
    for directory in outermost(below(fence.masked_directories)):
        inside = [path for path in unmasked if covers(directory, path)]
        unmasked = [path for path in unmasked if path not in inside]
        # As long as the tmpfs is writable, bubblewrap makes the mount points in it.
        argv += ["--tmpfs", directory, *_bind("--ro-bind", inside), "--remount-ro", directory]
    for path in sorted(set(below(fence.masked_files))):
        argv += ["--ro-bind-data", str(next(empty)), path]
    for path in below(fence.private_tmpfs):
        argv += ["--perms", "0700", "--tmpfs", path]
    return argv + _bind("--ro-bind", unmasked)


def bubblewrap_argv(
    bwrap: str,
    fence: Fence,
    cwd: str,
    *,
    own_network: bool,
    runtime_dir: str,
    seccomp: int | None = None,
    accounts: tuple[int, int] | None = None,
    empty: Iterator[int] | None = None,
    ignore: Iterator[int] | None = None,
) -> list[str]:
    """bubblewrap's arguments up to the program that it runs.

    ``own_network``: a network namespace with loopback only. ``runtime_dir``: XDG_RUNTIME_DIR, made empty. ``seccomp``:
    a descriptor with the filter. ``accounts``: descriptors with the passwd and group files of a session of root; also
    says that the caller is root. ``empty``: descriptors that read as nothing, a new one each time; masked files become
    empty files, not devices, because some tools give up when they cannot open their own configuration. ``ignore``: the
    same with the text of a stub's ``.gitignore``.
    """
    empty = repeat(0) if empty is None else empty
    ignore = repeat(0) if ignore is None else ignore
    as_root = accounts is not None
    argv = [bwrap, *_namespaces(own_network, as_root), "--cap-drop", "ALL"]
    argv += ["--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc"]
    if as_root:
        for path in ROOTS_PROC:
            argv += ["--ro-bind-try", path, path]
    for path in fence.tmpfs:
        argv += ["--perms", "1777" if path != "/run" else "0755", "--tmpfs", path]
    argv += ["--perms", "0700", "--dir", runtime_dir]
    if not own_network:
        # Name resolution of systemd-resolved, resolvconf and NetworkManager.
        for path in ("/run/systemd/resolve", "/run/resolvconf", "/run/NetworkManager"):
            argv += ["--ro-bind-try", path, path]
    for descriptor, path in zip(accounts or (), ("/etc/passwd", "/etc/group"), strict=as_root):
        argv += ["--perms", "0644", "--ro-bind-data", str(descriptor), path]
    argv += [*_mounts(fence, empty, ignore), "--chdir", cwd]
    if seccomp is not None:
        argv += ["--seccomp", str(seccomp)]
    return [*argv, "--"]


def _namespaces(own_network: bool, as_root: bool) -> list[str]:
    argv = ["--die-with-parent", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    if own_network:
        argv.append("--unshare-net")
    if as_root:
        argv += ["--unshare-user", "--uid", str(MAPPED_UID), "--gid", str(MAPPED_UID)]
    return argv


def _mounts(fence: Fence, empty: Iterator[int], ignore: Iterator[int]) -> list[str]:
    """The arguments for the mounts of ``fence``, parents before children."""
    argv = _bind("--ro-bind", sorted(fence.ro_bind_programs))
    argv += _mask(fence, "/", empty)
    argv += _bind("--bind", sorted({*fence.rw_bind, *fence.self_bind}))
    # A bind brings back what was masked inside it.
    for path in outermost(fence.rw_bind):
        argv += _mask(fence, path, empty)
    # A nested_rw_bind may hold an ro_bind again.
    for path in sorted({*fence.ro_bind, *fence.nested_rw_bind}):
        argv += _bind("--bind" if path in fence.nested_rw_bind else "--ro-bind", [path])
    for path in sorted(set(fence.stub_directories)):
        # In a git directory git looks for no .gitignore, and there may be hundreds.
        marked = [] if "/.git/" in path else ["--file", str(next(ignore)), f"{path}/.gitignore"]
        argv += ["--tmpfs", path, *marked, "--remount-ro", path]
    for path in sorted(set(fence.stub_files)):
        argv += ["--ro-bind", "/dev/null", path]
    return argv + _bind("--ro-bind", fence.sockets)


def proxy_port(taken: Iterable[int]) -> int:
    """A port for the proxy of commands (proxy.py) in a session's network namespace, other than the ``taken`` ones. It
    lies above the ports that Linux assigns by itself (ip_local_port_range)."""
    used = set(taken)
    return next(port for port in range(61128, 65536) if port not in used)


def accounts(passwd: str, group: str, home: str) -> tuple[str, str]:
    """The texts of the passwd and group files for a session of root, in which MAPPED_UID is called root."""
    uid = str(MAPPED_UID)

    def without(text: str) -> list[str]:
        return [line for line in text.splitlines() if line.split(":")[2:3] not in (["0"], [uid])]

    user = [f"root:x:{uid}:{uid}:root:{home}:/bin/bash", *without(passwd)]
    groups = [f"root:x:{uid}:", *without(group)]
    return "\n".join(user) + "\n", "\n".join(groups) + "\n"
