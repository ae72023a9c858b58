"""Compares the mounts of a session with the ones that its fence asked for, before anything runs behind the fence.

Between the launcher's look and bubblewrap's mount, another session in the same workspace can replace a directory by a
symlink, and bubblewrap follows it. /proc/PID/mountinfo shows what was really mounted. Pure: text in, a message out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from claude_local.fence.mountinfo import Mount, MountTree, parse
from claude_local.fence.plan import Fence, covers

# bubblewrap's own, new in each session.
_OWN = ("/dev", "/proc")
# bubblewrap makes these for a session of root ...
_ACCOUNTS = ("/etc/passwd", "/etc/group")
# ... and binds these where they exist.
_RESOLVERS = ("/run/systemd/resolve", "/run/resolvconf", "/run/NetworkManager")


def find_problem(
    outside: str, inside: str, fence: Fence, optional: Sequence[str] = (), before: str | None = None
) -> str | None:
    """The first thing that is mounted in a session and should not be, as a clause for a message; None if there is none.

    ``outside`` and ``inside``: the text of the launcher's mountinfo and of the first program's behind the fence.
    ``optional``: paths that may be hidden too, or be gone. ``before``: ``outside`` as it was before bubblewrap
    started, if known. bubblewrap makes every mount read-only that it finds then, except where nobody may look; a
    mount that appears a moment later comes into the session as it is.
    """
    check = _Check(outside, inside, fence, optional, before)
    return check.extra_mount() or check.wrong_mount() or check.missing_mount()


class _Check:
    """The two lists of mounts, and which paths of the fence have which kind of mount."""

    def __init__(self, outside: str, inside: str, fence: Fence, optional: Sequence[str], before: str | None) -> None:
        self.inside, self.outside = parse(inside), parse(outside)
        self.inside_tree, self.outside_tree = MountTree(self.inside), MountTree(self.outside)
        if self.outside_tree.root is None:
            # In a chroot that is no mount. The session's own root shows the same directory.
            self.outside += [each for each in self.inside if each is self.inside_tree.root]
            self.outside_tree = MountTree(self.outside)
        self.before = self.outside if before in (None, outside) else parse(before or "")
        self.fence, self.optional = fence, set(optional)
        self.bound = Counter([
            *fence.ro_bind_programs, *fence.unmasked, *{*fence.rw_bind, *fence.self_bind}, *set(fence.ro_bind),
            *fence.nested_rw_bind, *fence.sockets, *_ACCOUNTS, *_RESOLVERS,
        ])  # fmt: skip
        self.hidden = {
            *fence.masked_directories, *fence.masked_files, *fence.private_tmpfs, *fence.stub_directories,
            *fence.stub_files, *fence.tmpfs,
        }  # fmt: skip
        self.writable_tmpfs = {*fence.tmpfs, *fence.private_tmpfs}
        self.null = self.outside_tree.source_of("/dev/null")

    def extra_mount(self) -> str | None:
        """A path with more mounts on it than planned."""
        allowed = self.bound + Counter(self.hidden | self.optional)
        # What is hidden in a writable directory is mounted again after that directory.
        fence = self.fence
        again = {*fence.masked_directories, *fence.masked_files, *fence.private_tmpfs, *fence.unmasked}
        allowed.update(path for path in again if any(covers(top, path) for top in fence.rw_bind))
        # A mount that was unmounted outside after bubblewrap started may still be inside.
        outside = Counter(mount.point for mount in self.outside) | Counter(mount.point for mount in self.before)
        for point, count in Counter(mount.point for mount in self.inside).items():
            # Each bind mount of a directory brings the mounts below it along.
            copies = outside[point] and outside[point] * (
                1 + sum(covers(path, point) for path in self.bound.elements())
            )
            if not _is_own(point) and count > copies + allowed[point]:
                return f"something is mounted at {point}"
        return None

    def wrong_mount(self) -> str | None:
        """A path that shows something else than outside, or that is writable and should not be."""
        earlier = {(mount.source, mount.point) for mount in self.before}
        known = earlier | {(mount.source, mount.point) for mount in self.outside}
        fence = self.fence
        open_directories = [*fence.rw_bind, *fence.self_bind, *fence.nested_rw_bind]
        may_be_empty = self.hidden | self.optional
        for mount in self.inside:
            place = (mount.source, mount.point)
            if _is_own(mount.point) or place in (earlier if mount.writable else known):
                continue
            is_hidden = mount.point in may_be_empty and self._is_empty(mount)
            if is_hidden or mount.point in _ACCOUNTS:
                if mount.writable and mount.point not in self.writable_tmpfs:
                    return f"{mount.point} is writable"
            elif mount.source != self.outside_tree.source_of(mount.point):
                return f"{mount.point} shows another file or directory"
            elif mount.writable and not any(covers(top, mount.point) for top in open_directories):
                return f"{mount.point} is writable"
        return None

    def missing_mount(self) -> str | None:
        """A path that should be hidden or guarded and has no mount of its own."""
        for path in self.hidden - self.bound.keys():
            mount = self.inside_tree.mount_of(path)
            if mount is None or mount.point != path or not self._is_empty(mount):
                return f"{path} is visible"
        for path in self.fence.ro_bind:
            mount = self.inside_tree.mount_of(path)
            if mount is None or mount.point != path:
                return f"{path} is not guarded"
        return None

    def _is_empty(self, mount: Mount) -> bool:
        return mount.fs_type == "tmpfs" or mount.source == self.null


def _is_own(point: str) -> bool:
    return any(covers(each, point) for each in _OWN)
