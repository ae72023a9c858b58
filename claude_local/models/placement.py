"""Put the model files in place on the workstation, and know whether they are.

    python -m claude_local.models.placement check [--deep] [PLAN]
    python -m claude_local.models.placement place [PLAN]

PLAN is the JSON of ``profiles.placement_plan``, a file or standard input. ``check`` changes nothing, hashes nothing
unless ``--deep`` and prints one line of JSON. ``place`` fetches what is missing, hashes what was never hashed, and ends
with one readable line; its exit status is 0 when every model is in place, 1 when one cannot be, 2 for a bad plan.

A file counts as in place when its sha256 was checked once and size, modification time and inode are still those of that
moment (the stamp, kept in models.json). A file of the user's, in model_dir or in a search directory, is used where it is
and never written to. Only what this program placed itself, and what is still that file (:meth:`Index.ours`), is ever replaced.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import stat
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from claude_local.models import gguf, hub, sources, unpinned
from claude_local.models.exclusive import Locked, locked, make_directory
from claude_local.models.fetching import Fetcher, Postponed
from claude_local.models.part import FetchError, Part, SourceFailed, hash_file
from claude_local.models.progress import MIB, Interrupted, Progress, say, short

# Bytes that stay free on the models' disk, for a package's wheel and for the rest of the machine.
SPARE = 1 << 30
# How far a search directory is looked through for a file's name.
SEARCH_DEPTH = 6
SEARCH_ENTRIES = 50_000
# The extended attribute of files that were placed: an inode number alone does not tell them from what somebody puts in
# their place (ext4 gives a new file the number of the one that was just deleted).
MARK = "user.claude-local.placed"


class PlacementError(Exception):
    """Models cannot be placed; the message has one line a problem."""


@dataclass(frozen=True)
class Wanted:
    """One file of a profile. ``size`` counts bytes; without ``sha256`` the file must be there and be a sound GGUF.
    ``pinned``: whether the plan says the sha256, or the hub did (:func:`known`)."""

    name: str
    sha256: str | None
    size: int | None
    sources: tuple[str, ...]
    pinned: bool = True

    @property
    def hub(self) -> str | None:
        """The first source that is a hub, as it stands in models.conf."""
        return next((line for line in self.sources if line.startswith("hub ")), None)

    def known_as(self, identity: unpinned.Identity) -> Wanted:
        """The file with what the hub says of it."""
        return replace(self, sha256=identity.sha256, size=identity.size, pinned=False)


@dataclass(frozen=True)
class Group:
    """Files that must lie in one directory: all parts of a model, or a projector alone."""

    profile: str
    files: tuple[Wanted, ...]


@dataclass(frozen=True)
class Plan:
    """What has to be in place, and where it may be. All directories are absolute; ``hub`` is the hub's address as this
    machine reaches it (:func:`claude_local.models.hub.address`)."""

    model_dir: str
    search_dirs: tuple[str, ...]
    hub: str
    placements_path: str
    groups: tuple[Group, ...]
    profiles: dict[str, dict[str, Any]]

    @property
    def roots(self) -> tuple[str, ...]:
        return (self.model_dir, *self.search_dirs)

    def target(self, file: Wanted) -> str:
        """Where the file is placed when it is nowhere."""
        return os.path.normpath(os.path.join(self.model_dir, file.name))

    @staticmethod
    def read(text: str) -> Plan:
        """Parse a plan. Raises PlacementError."""
        try:
            raw = json.loads(text)
            groups = []
            profiles = {}
            for profile in raw["profiles"]:
                files = [
                    Wanted(f["name"], f.get("sha256"), f.get("size"), tuple(f.get("sources", ())))
                    for f in profile["files"]
                ]
                if not files or any(".." in Path(file.name).parts for file in files):
                    raise ValueError(f"profile {profile['id']}: its file names")
                mmproj = profile.get("mmproj")
                parts = tuple(file for file in files if file.name != mmproj)
                groups.append(Group(profile["id"], parts))
                groups += [Group(profile["id"], (file,)) for file in files if file.name == mmproj]
                profiles[profile["id"]] = {"names": [file.name for file in files], "mmproj": mmproj}
            directories = [raw["model_dir"], *raw.get("search_dirs", ()), raw["placements_path"]]
            if not all(os.path.isabs(directory) for directory in directories):
                raise ValueError("paths must be absolute")
            return Plan(
                model_dir=os.path.normpath(raw["model_dir"]),
                search_dirs=tuple(os.path.normpath(directory) for directory in raw.get("search_dirs", ())),
                hub=hub.address(raw["hub"]),
                placements_path=raw["placements_path"],
                groups=tuple(groups),
                profiles=profiles,
            )
        except hub.HubError as error:
            raise PlacementError(str(error)) from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise PlacementError(f"the plan cannot be used: {type(error).__name__}: {error}") from None


@dataclass
class Index:
    """models.json: the stamps of files that were hashed, where each profile's files are, and the directories that the
    last run looked into (model_dir first). ``wanted``: the files of a run that has not reached its end (yet); the
    profiles are those of the last one that did."""

    path: str
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    profiles: dict[str, dict[str, Any]] = field(default_factory=dict)
    roots: list[str] = field(default_factory=list)
    wanted: list[str] = field(default_factory=list)

    @staticmethod
    def load(path: str) -> Index:
        """The index; an empty one when there is none or it is damaged (then files are hashed again)."""
        try:
            raw = json.loads(Path(path).read_text(encoding="utf-8"))
            files = {str(k): dict(v) for k, v in raw["files"].items()}
            profiles = {str(k): dict(v) for k, v in raw["profiles"].items()}
            roots = [str(root) for root in raw.get("roots", ())]
            wanted = [str(path) for path in raw.get("wanted", ())]
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return Index(path)
        return Index(path, files, profiles, roots, wanted)

    def save(self) -> None:
        """Write the index in one step."""
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        temporary = f"{self.path}.{os.getpid()}.new"
        try:
            with open(temporary, "w", encoding="utf-8") as file:
                content = {"files": self.files, "profiles": self.profiles, "roots": self.roots, "wanted": self.wanted}
                json.dump(content, file, indent=1)
                file.write("\n")
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self.path)
        except BaseException as error:
            Path(temporary).unlink(missing_ok=True)
            if isinstance(error, OSError):
                error.filename = error.filename or self.path
            raise

    def stamped(self, path: str, status: os.stat_result, sha256: str | None) -> bool:
        """Whether the file was checked against ``sha256`` and has not changed since."""
        entry = self.files.get(path)
        return (
            entry is not None
            and entry.get("sha256") == sha256
            and entry.get("size") == status.st_size
            and entry.get("mtime_ns") == status.st_mtime_ns
            and entry.get("inode") == status.st_ino
        )

    def stamp(self, path: str, status: os.stat_result, file: Wanted, *, placed: bool, marked: bool = False) -> None:
        """Note that what is at ``path`` was checked to be ``file``. ``marked``: it has the mark, as every file that we
        placed where it can be."""
        self.files[path] = {
            "sha256": file.sha256,
            "source": file.hub,
            "size": status.st_size,
            "mtime_ns": status.st_mtime_ns,
            "inode": status.st_ino,
            "placed": placed,
            "marked": marked,
        }

    def unchanged(self, path: str) -> bool:
        """Whether the file is there and still the one that was checked (a link in the place of ours is not)."""
        try:
            status = os.lstat(path) if self.placed(path) else os.stat(path)
        except OSError:
            return False
        entry = self.files.get(path, {})
        return stat.S_ISREG(status.st_mode) and self.stamped(path, status, entry.get("sha256"))

    def identity(self, file: Wanted, *, unchanged: bool) -> unpinned.Identity | None:
        """What the hub said of the file in an earlier run, for the same line of SOURCES; ``unchanged``: only while what
        was fetched then is still there."""
        said = None
        for path, entry in self.files.items():
            sha256, size = entry.get("sha256"), entry.get("size")
            if not isinstance(sha256, str) or not isinstance(size, int) or entry.get("source") != file.hub:
                continue
            if os.path.basename(path) == os.path.basename(file.name):
                if self.unchanged(path):
                    return unpinned.Identity(sha256, size)
                said = unpinned.Identity(sha256, size)
        return None if unchanged else said

    def placed(self, path: str) -> bool:
        """Whether this program put a file there; what is there now may be another (:meth:`ours`)."""
        return bool(self.files.get(path, {}).get("placed"))

    def ours(self, path: str) -> bool:
        """Whether the file that is there is the one that this program put there, whatever became of its content. One
        that somebody put in its place has another inode or no mark, and a link is nothing of ours."""
        try:
            status = os.lstat(path)
        except OSError:
            return False
        entry = self.files.get(path, {})
        same = stat.S_ISREG(status.st_mode) and status.st_ino == entry.get("inode")
        return same and self.placed(path) and (not entry.get("marked") or _marked(path))


def _marked(path: str) -> bool:
    """Whether the file has the mark that placed files get, where the file system can keep one."""
    try:
        return bool(os.getxattr(path, MARK, follow_symlinks=False))
    except OSError:
        return False


def visible(path: str, roots: Sequence[str]) -> str | None:
    """The path without links by which the server sees a file, below one of ``roots``; None when it cannot see it.

    The server's container has the directories mounted, so a link that leaves them leads nowhere there.
    """
    real = os.path.realpath(path)
    for root in roots:
        base = os.path.realpath(root)
        if real.startswith(base.rstrip("/") + "/"):
            return os.path.join(root, os.path.relpath(real, base))
    return None


def by_its_own_name(path: str, roots: Sequence[str]) -> str | None:
    """The path of a link that leads to its file in the server's container, too; None when it may not.

    So it does when it is relative and its way stays below one of ``roots``: in the hub's own cache the parts of a model
    are links (snapshots/COMMIT/NAME -> ../../blobs/SHA256), and llama-server looks for the others by the first one's name.
    """
    try:
        link = os.readlink(path)
    except OSError:
        return None
    folder = os.path.realpath(os.path.dirname(path))
    for root in roots:
        base = os.path.realpath(root)
        inside = os.path.relpath(folder, base)
        goal = os.path.normpath(os.path.join(inside, link))
        # A way that leaves the root keeps its "..", which no real path has.
        if not os.path.isabs(link) and os.path.join(base, goal) == os.path.realpath(path):
            return os.path.normpath(os.path.join(root, inside, os.path.basename(path)))
    return None


def _status(path: str) -> os.stat_result | None:
    """The status of a regular file; None when there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status if stat.S_ISREG(status.st_mode) else None


@dataclass(frozen=True)
class Candidate:
    """What is at one place where a file may be. ``state``: ok, unverified, changed, size, link or missing."""

    path: str
    state: str
    detail: str = ""
    size: int | None = None


def look(path: str, file: Wanted, plan: Plan, index: Index, *, same_name: bool) -> Candidate:
    """What is known, without reading it, of the file at ``path``."""
    status = _status(path)
    if status is None:
        return Candidate(path, "missing", "not there")
    seen = visible(path, plan.roots)
    goal = os.path.realpath(path)
    if seen is None:
        return Candidate(path, "link", f"a link to {goal}; name {os.path.dirname(goal)} in model_search_dirs")
    if same_name and os.path.basename(seen) != os.path.basename(file.name):
        seen = by_its_own_name(path, plan.roots)
        if seen is None:
            return Candidate(
                path, "link", f"a link to {goal}: the server needs each part of a model under its own name"
            )
    if file.size is not None and status.st_size != file.size:
        word = "truncated" if status.st_size < file.size else "too long"
        return Candidate(seen, "size", f"{word}: {status.st_size} bytes instead of {file.size}", status.st_size)
    if index.stamped(seen, status, file.sha256):
        return Candidate(seen, "ok", size=status.st_size)
    entry = index.files.get(seen)
    if entry is not None and entry.get("sha256") == file.sha256:
        return Candidate(seen, "changed", "changed since its sha256 was checked", status.st_size)
    return Candidate(seen, "unverified", "its sha256 was never checked", status.st_size)


def _directories(group: Group, plan: Plan, index: Index, *, walk: bool) -> Iterator[str]:
    """Where the files of a group may lie together, the likely places first."""
    first = group.files[0]
    name = os.path.basename(first.name)
    seen = set()

    def candidates() -> Iterator[str]:
        yield os.path.dirname(plan.target(first))
        yield plan.model_dir
        # A copy: what is found here is hashed and noted before the next place is asked for.
        for path, entry in list(index.files.items()):
            known = first.sha256 is not None or os.path.basename(path) == name
            if known and entry.get("sha256") == first.sha256:
                yield os.path.dirname(path)
        for root in plan.search_dirs:
            if not os.path.isabs(first.name):
                yield os.path.dirname(os.path.join(root, first.name))
            yield root
        if walk:
            for root in plan.search_dirs:
                yield from _walk(root, name)

    for directory in candidates():
        directory = os.path.normpath(directory)
        if directory not in seen:
            seen.add(directory)
            yield directory


def _walk(root: str, name: str) -> Iterator[str]:
    """The directories below ``root`` that hold a file called ``name``, within bounds."""
    entries = 0
    for directory, folders, names in os.walk(root):
        entries += len(folders) + len(names)
        depth = os.path.relpath(directory, root).count(os.sep) + 1
        if depth >= SEARCH_DEPTH or entries > SEARCH_ENTRIES:
            folders.clear()
        folders.sort()
        if name in names:
            yield directory


def _paths(group: Group, directory: str, index: Index) -> list[str]:
    """The path of each file of the group in a directory; a lone file may have been stamped under another name."""
    paths = [os.path.join(directory, os.path.basename(file.name)) for file in group.files]
    if len(group.files) == 1 and _status(paths[0]) is None:
        sha256 = group.files[0].sha256
        for path, entry in index.files.items():
            if sha256 is not None and entry.get("sha256") == sha256 and os.path.dirname(path) == directory:
                return [path]
    return paths


def survey(group: Group, plan: Plan, index: Index) -> list[Candidate]:
    """The best place for a group without reading any file: all ok if there is such a place, else the target's state."""
    fallback: list[Candidate] | None = None
    for directory in _directories(group, plan, index, walk=False):
        found = [
            look(path, file, plan, index, same_name=len(group.files) > 1)
            for path, file in zip(_paths(group, directory, index), group.files, strict=True)
        ]
        if all(item.state == "ok" for item in found):
            return found
        if fallback is None or (
            all(item.state == "missing" for item in fallback) and any(item.state != "missing" for item in found)
        ):
            fallback = found
    return fallback or []


def records(plan: Plan, found: dict[str, list[Candidate]]) -> dict[str, dict[str, Any]]:
    """The ``profiles`` part of models.json for files that are all in place."""
    result = {}
    for name, profile in plan.profiles.items():
        paths = [item.path for item in found[name]]
        projector = profile["mmproj"]
        result[name] = {
            "model": paths[0],
            "mmproj": paths[profile["names"].index(projector)] if projector else None,
            "files": paths,
        }
    return result


def _by_profile(groups: Sequence[tuple[Group, list[Candidate]]]) -> dict[str, list[Candidate]]:
    result: dict[str, list[Candidate]] = {}
    for group, found in groups:
        result.setdefault(group.profile, []).extend(found)
    return result


def check(plan: Plan, *, deep: bool = False) -> dict[str, Any]:
    """The state of every file: {"ok": bool, "files": [{profile, name, path, state, detail, size, sha256, placed}]}.

    ``deep`` hashes every file that has the right size; one whose content is wrong loses its stamp, so that the next
    ``place`` sees to it. Raises PlacementError, then, while another run holds the locks.
    """
    index = Index.load(plan.placements_path)
    groups = [known(group, index) for group in plan.groups]
    surveyed = [(group, survey(group, plan, index)) for group in groups]
    rows = []
    damaged = []
    for group, found in surveyed:
        for file, item in zip(group.files, found, strict=True):
            if deep and item.state in ("ok", "changed", "unverified"):
                problem = content_problem(item.path, file)
                if problem is None and item.state == "ok":
                    item = Candidate(
                        item.path, "ok", "sha256 checked now" if file.sha256 else "header checked now", item.size
                    )
                elif problem is not None:
                    if item.state == "ok":
                        damaged.append(item.path)
                    item = Candidate(item.path, "corrupt", problem, item.size)
            rows.append(
                {
                    "profile": group.profile,
                    "name": file.name,
                    "path": item.path,
                    "state": item.state,
                    "detail": item.detail,
                    "size": item.size,
                    "sha256": file.sha256,
                    "placed": index.ours(item.path),
                }
            )
    if damaged:
        _distrust(plan, damaged)
    ok = all(row["state"] == "ok" for row in rows)
    if ok:
        noted = (index.profiles, index.roots, index.wanted)
        ok = noted == (records(plan, _by_profile(surveyed)), list(plan.roots), [])
    return {"ok": ok, "files": rows}


def _distrust(plan: Plan, paths: Sequence[str]) -> None:
    """Have the next ``place`` hash these files again. Raises PlacementError."""
    try:
        with locked(plan.model_dir, plan.placements_path):
            index = Index.load(plan.placements_path)
            for path in paths:
                if path in index.files:
                    index.files[path]["mtime_ns"] = None
            index.save()
    except Locked as error:
        raise PlacementError(str(error)) from None


def known(group: Group, index: Index) -> Group:
    """The group with what earlier runs learnt of files that the plan has no sha256 for."""
    files = []
    for file in group.files:
        said = index.identity(file, unchanged=False) if file.sha256 is None and file.hub else None
        files.append(file.known_as(said) if said else file)
    return replace(group, files=tuple(files))


def content_problem(path: str, file: Wanted, *, progress: bool = False) -> str | None:
    """Read the file and say what is wrong with its content; None when it is what the profile wants."""
    try:
        if file.sha256 is None:
            return gguf.problem(path)
        size = os.stat(path).st_size
        shown = Progress(f"checking {short(path)}", size) if progress else None
        digest = hash_file(path, shown)
        if digest == file.sha256:
            return None
        reason = gguf.problem(path)
        return reason or f"its sha256 is {digest[:12]}…, expected {file.sha256[:12]}…"
    except OSError as error:
        return f"it cannot be read ({error.strerror})"


class Placement:
    """One run of ``place``. ``read_only``: why nothing can be written to model_dir, empty when it can."""

    def __init__(self, plan: Plan, read_only: str = "") -> None:
        self.plan = plan
        self.read_only = read_only
        self.index = Index.load(plan.placements_path)
        self.fetcher = Fetcher(plan.hub)
        self.problems: list[str] = []
        self.fetched = 0

    def run(self) -> str:
        """Place everything; the last line to print. Raises PlacementError with every problem."""
        for directory in self.plan.search_dirs:
            if not os.path.isdir(directory):
                say(f"{directory} of model_search_dirs is not there (a disk or a share that is not mounted?)")
        # From here on nobody takes what this run puts in place, and may not come to use, for something left over.
        targets = {self.plan.target(file) for group in self.plan.groups for file in group.files}
        self.index.wanted = sorted(visible(target, self.plan.roots) or target for target in targets)
        self.index.roots = list(self.plan.roots)
        self.index.save()
        # A group that cannot be had is no reason to leave out the others.
        late: list[str] = []
        found = []
        for asked in self.plan.groups:
            group, unknown = self.identified(asked)
            there = self.settle(group)
            if there is None and unknown:
                late.append(unknown)
                continue
            if there is None:
                for file in group.files:
                    self.need_source(group, file)
            found.append((group, there))
        used = {item.path for _, there in found for item in there or ()}
        self.index.wanted = sorted({*self.index.wanted, *used})
        self.index.save()
        if self.problems:
            raise PlacementError("\n".join(self.problems + late))
        lacking = [group for group, there in found if there is None]
        self.need_to_write(lacking)
        self.need_room(lacking)
        result = []
        for group, there in found:
            # What an earlier group of this run fetched may be what this one lacks.
            try:
                result.append((group, there or self.fetch_group(group)))
            except PlacementError as error:
                late.append(str(error))
        if late:
            raise PlacementError("\n".join(late))
        self.index.profiles = records(self.plan, _by_profile(result))
        self.index.wanted = []
        self.index.save()
        files = {item.path: item.size or 0 for _, items in result for item in items}
        what = "1 model file" if len(files) == 1 else f"{len(files)} model files"
        how = f"{self.fetched // MIB} MiB fetched" if self.fetched else "nothing fetched"
        return f"{what} in place, {sum(files.values()) // MIB} MiB, {how}"

    def settle(self, group: Group) -> list[Candidate] | None:
        """Use what is there; None when something has to be fetched."""
        remarks: list[str] = []
        for directory in _directories(group, self.plan, self.index, walk=True):
            found = []
            for path, file in zip(_paths(group, directory, self.index), group.files, strict=True):
                item = look(path, file, self.plan, self.index, same_name=len(group.files) > 1)
                if item.state in ("unverified", "changed"):
                    item = self.verify(item, file)
                if item.state not in ("ok", "missing"):
                    remarks.append(f"{item.path}: {item.detail}")
                found.append(item)
            if all(item.state == "ok" for item in found):
                for item, file in zip(found, group.files, strict=True):
                    entry = self.index.files[item.path]
                    if not file.pinned:
                        entry["source"] = file.hub
                return found
        for remark in remarks:
            say(remark)
        return None

    def identified(self, group: Group) -> tuple[Group, str]:
        """The group with what the hub says of files that the plan has no sha256 for; and, when it does not say it of one,
        the message for people. Then only the user's own file will do."""
        files, unknown = [], ""
        for file in group.files:
            if file.sha256 is not None or file.hub is None:
                files.append(file)
                continue
            label = short(file.name)
            said = self.index.identity(file, unchanged=True)
            if said is None:
                try:
                    said = unpinned.from_hub(
                        file.name, file.sources, self.plan.hub, partial(self.fetcher.head, label=label)
                    )
                    say(f"{label}  the hub says {said.size // MIB} MiB, sha256 {said.sha256[:12]}…")
                except unpinned.UnknownIdentity as error:
                    said = self.index.identity(file, unchanged=False)
                    if said is None:
                        unknown = f"{file.name} of profile {group.profile}: {error}"
                    else:
                        say(f"{label}  {error}; it was sha256 {said.sha256[:12]}… in an earlier run")
            files.append(file.known_as(said) if said else file)
        return replace(group, files=tuple(files)), unknown

    def verify(self, item: Candidate, file: Wanted) -> Candidate:
        """Hash a file that has no valid stamp and stamp it when it is right."""
        if file.sha256 is None and file.hub and self.index.ours(item.path):
            # An earlier deploy placed it from elsewhere (another revision); nobody says that it is the one that is wanted.
            return Candidate(item.path, "unverified", "the hub does not say whether it is the file", item.size)
        before = os.stat(item.path)
        problem = content_problem(item.path, file, progress=True)
        after = os.stat(item.path)
        if problem is None and (before.st_mtime_ns, before.st_size) != (after.st_mtime_ns, after.st_size):
            problem = "it is being written to right now"
        if problem is not None:
            return Candidate(item.path, "corrupt", problem, item.size)
        ours = self.index.ours(item.path)
        self.index.stamp(item.path, after, file, placed=ours, marked=ours and _marked(item.path))
        self.index.save()
        say(f"{item.path}  {'sha256 is right' if file.sha256 else 'is a sound GGUF'}, used where it is")
        return Candidate(item.path, "ok", size=item.size)

    def need_source(self, group: Group, file: Wanted) -> None:
        """Note a problem when a file that is missing or bad cannot be fetched to its target."""
        target = self.plan.target(file)
        item = look(target, file, self.plan, self.index, same_name=False)
        if item.state == "ok":
            return
        if item.state == "missing" and os.path.islink(target):
            self.problems.append(
                f"{target} is a link to {os.path.realpath(target)}, which is not there (a disk that is not mounted?)"
            )
            return
        if not self.replaceable(target):
            why = item.detail if item.state != "missing" else "no file at all"
            if item.state in ("unverified", "changed"):
                why = content_problem(target, file) or why
            self.problems.append(
                f"{target} is not the file of profile {group.profile}: {why}. This deploy did not put it there: "
                "move it away, or name another file in models.conf"
            )
            return
        if file.sha256 is None or file.size is None or not file.sources:
            looked = ", ".join(self.plan.roots)
            self.problems.append(
                f"{file.name} of profile {group.profile} is not there (looked in {looked}) and models.conf names no "
                "SOURCES for it: put it into one of these directories, or name its directory in model_search_dirs"
            )
        elif os.path.isabs(file.name) and not target.startswith(self.plan.model_dir.rstrip("/") + "/"):
            self.problems.append(
                f"{file.name} of profile {group.profile} is not there, and only model_dir ({self.plan.model_dir}) is "
                "written to: give MODEL as a file name to have it fetched"
            )
        elif visible(target, self.plan.roots) is None:
            real = os.path.realpath(os.path.dirname(target))
            self.problems.append(
                f"{os.path.dirname(target)} leads out of model_dir, to {real}: the server cannot see what is put there. "
                f"Name {real} in model_search_dirs"
            )

    def replaceable(self, target: str) -> bool:
        """Whether a file may be put there: there is nothing, or a file that this program placed."""
        if not os.path.lexists(target):
            return True
        return not os.path.islink(target) and self.index.ours(visible(target, self.plan.roots) or target)

    def need_to_write(self, groups: Sequence[Group]) -> None:
        """Raise PlacementError when something is to be fetched and nothing can be written."""
        names = [file.name for group in groups for file in group.files]
        if names and self.read_only:
            raise PlacementError(
                f"{', '.join(names)} must be fetched, and {self.plan.model_dir} cannot be written to ({self.read_only}): "
                "set model_dir to a directory of your own; this one can stay in model_search_dirs, its files are used where "
                "they are"
            )

    def need_room(self, groups: Sequence[Group]) -> None:
        """Raise PlacementError when the disk of model_dir cannot take what is still to be fetched."""
        missing: dict[str, int] = {}
        for group in groups:
            for file in group.files:
                target = self.plan.target(file)
                if look(target, file, self.plan, self.index, same_name=False).state != "ok":
                    part = _status(target + ".part")
                    missing[target] = max((file.size or 0) - (part.st_size if part else 0), 0)
        if not missing:
            return
        make_directory(self.plan.model_dir)
        free = shutil.disk_usage(self.plan.model_dir).free
        total = sum(missing.values())
        if total + SPARE > free:
            raise PlacementError(
                f"not enough room in {self.plan.model_dir}: {total // MIB} MiB are still to be fetched and "
                f"{SPARE // MIB} MiB stay spare, {free // MIB} MiB are free. Make room, set model_dir to a bigger disk, or "
                "name fewer profiles in model_profiles"
            )

    def fetch_group(self, group: Group) -> list[Candidate]:
        """Fetch what the group lacks into its target's directory."""
        found = []
        for file in group.files:
            target = self.plan.target(file)
            item = look(target, file, self.plan, self.index, same_name=False)
            if item.state != "ok":
                self.fetch(group, file, target)
                item = look(target, file, self.plan, self.index, same_name=False)
            if item.state != "ok":
                raise PlacementError(f"{target} of profile {group.profile} was fetched, and then: {item.detail}")
            found.append(item)
        return found

    def fetch(self, group: Group, file: Wanted, target: str) -> None:
        """Fetch one file from the first source that gives the right bytes. Raises PlacementError, FetchError."""
        if file.sha256 is None or file.size is None:
            raise PlacementError(f"{file.name} of profile {group.profile} cannot be fetched without sha256 and size")
        make_directory(os.path.dirname(target))
        label = short(file.name)
        if os.path.lexists(target):
            say(f"{label}  replacing the file that an earlier deploy placed")
        part = Part(target + ".part", file.size, label, file.sha256)
        try:
            # A source that would have to start again, or is slow, comes once more when no other could give the file.
            reasons: dict[str, str] = {}
            postponed: list[str] = []
            for last in (False, True):
                for line in [line for line in file.sources if not last or line in postponed]:
                    source = sources.parse(line, name=file.name, hub=self.plan.hub)
                    say(f"{label}  fetching {file.size // MIB} MiB: {line}")
                    try:
                        self._from_source(source, part, file, last=last or len(file.sources) == 1)
                    except SourceFailed as error:
                        say(f"{label}  {error}")
                        reasons[line] = str(error)
                        if isinstance(error, Postponed):
                            postponed.append(line)
                        continue
                    self.fetched += part.received
                    self._keep(part, file, target)
                    say(f"{label}  sha256 is right, in place")
                    return
        finally:
            part.close()
        told = "".join(f"\n  {line}\n    {reason}" for line, reason in reasons.items())
        raise PlacementError(f"{file.name} of profile {group.profile}: no source gives it:{told}")

    def _from_source(self, source: sources.Source, part: Part, file: Wanted, *, last: bool) -> None:
        """Complete the part and check its hash; a wrong one made of old bytes is tried once more from nothing."""
        for _ in range(2):
            part.resumed = part.size > 0
            self.fetcher.fetch(source, part, last=last)
            digest = part.hexdigest()
            if digest == file.sha256:
                return
            again = part.resumed
            part.rewind()
            if not again:
                raise SourceFailed(f"gives another file: its sha256 is {digest}, expected {file.sha256}")
            say(f"{part.label}  the resumed file has a wrong sha256, starting again")

    def _keep(self, part: Part, file: Wanted, target: str) -> None:
        """Give the verified part its name, for good even if the power fails now. Raises PlacementError."""
        if not self.replaceable(target):
            raise PlacementError(
                f"{target} was put there by somebody else while it was fetched: move it away, what was fetched is kept"
            )
        os.chmod(part.path, 0o644)
        with contextlib.suppress(OSError):
            os.setxattr(part.path, MARK, b"1")
        part.sync()
        # Noted before it has its name, which changes neither time nor inode: whatever happens between, it is ours.
        path = visible(target, self.plan.roots) or target
        before = self.index.files.get(path)
        self.index.stamp(path, os.stat(part.path), file, placed=True, marked=_marked(part.path))
        self.index.save()
        try:
            os.replace(part.path, target)
        except OSError:
            self.index.files.pop(path)
            if before is not None:
                self.index.files[path] = before
            self.index.save()
            raise
        part.forget()
        directory = os.open(os.path.dirname(target), os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def place(plan: Plan) -> str:
    """Place everything in the plan; the line to end with. Raises PlacementError, FetchError, OSError, Interrupted."""
    try:
        with locked(plan.model_dir, plan.placements_path) as read_only:
            return Placement(plan, read_only).run()
    except Locked as error:
        raise PlacementError(str(error)) from None


def _stop(number: int, frame: Any) -> None:
    raise Interrupted(signal.Signals(number).name)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; see the module's docstring."""
    parser = argparse.ArgumentParser(
        prog="placement", description="Place model files, or check that they are in place."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("check", "place"):
        command = commands.add_parser(name)
        command.add_argument("plan", nargs="?", default="-", metavar="PLAN", help="JSON file; default: standard input")
        if name == "check":
            command.add_argument("--deep", action="store_true", help="hash every file again")
    options = parser.parse_args(arguments)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, _stop)
    try:
        text = sys.stdin.read() if options.plan == "-" else Path(options.plan).read_text(encoding="utf-8")
        plan = Plan.read(text)
    except (PlacementError, OSError, UnicodeDecodeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    try:
        if options.command == "check":
            print(json.dumps(check(plan, deep=options.deep)), flush=True)
        else:
            say(place(plan))
        return 0
    except (PlacementError, FetchError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        place_named = f"{error.filename}: " if error.filename else ""
        print(f"error: {place_named}{error.strerror or error}", file=sys.stderr)
        return 1
    except Interrupted as stopped:
        with contextlib.suppress(OSError):
            print(f"stopped ({stopped}); the next run carries on from here", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
