"""Put the model files in place on the workstation.

    python -m claude_local.models.placement check [--deep] [PLAN]
    python -m claude_local.models.placement place [PLAN]

PLAN is the JSON of ``placement_plan.plan_data``, a file or standard input. ``check`` changes nothing, hashes nothing
without ``--deep``, and prints one line of JSON. ``place`` downloads what is missing, hashes what was never hashed, and
ends with one line for people. Exit status: 0 when every model is in place, 1 when one cannot be, 2 for a bad plan.

A file is in place when its sha256 was checked once and its size, modification time and inode have not changed since
(its stamp in models.json). The user's own files, in model_dir or in a search directory, are used where they are and
never written to. Only a file that claude-local placed, and that is still that file (``Index.ours``), is ever replaced.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from claude_local.models import sources
from claude_local.models.index import MARK, Index, is_marked
from claude_local.models.part import DownloadError, PartFile, SourceFailed, TooSlow
from claude_local.models.placement_check import check, content_problem, profile_records
from claude_local.models.placement_plan import FileGroup, PlacementError, PlacementPlan, PlannedFile
from claude_local.models.progress import MIB, Stopped, say, short
from claude_local.models.run_lock import make_directory, run_lock
from claude_local.models.search import Candidate, directories, file_status, look, look_in, visible

if TYPE_CHECKING:
    from claude_local.models.download import Downloader

# Bytes that stay free on the models' disk, for a package's wheel and for the rest of the machine.
SPARE = 1 << 30

# A group with the places of its files; None: something must be downloaded.
Settled = tuple[FileGroup, list[Candidate] | None]


class Placement:
    """One run of ``place``. ``read_only``: why nothing can be written to model_dir; empty when it can."""

    def __init__(self, plan: PlacementPlan, read_only: str = "") -> None:
        self.plan = plan
        self.read_only = read_only
        self.index = Index.load(plan.placements_path)
        # What keeps a run from downloading anything, and what only keeps one model out.
        self.problems: list[str] = []
        self.failures: list[str] = []
        self.downloaded = 0
        self._downloader: Downloader | None = None

    @property
    def downloader(self) -> Downloader:
        """Made when it is needed: importing it takes 0.2 s, which a deploy without a download should not wait for."""
        if self._downloader is None:
            from claude_local.models.download import Downloader

            self._downloader = Downloader(self.plan.hub)
        return self._downloader

    def run(self) -> str:
        """Place everything; the line to end with. Raises PlacementError with every problem, DownloadError, OSError."""
        self.name_missing_directories()
        self.announce()
        settled = self.settle_all()
        self.announce([each.path for _, candidates in settled for each in candidates or ()])
        if self.problems:
            raise PlacementError("\n".join(self.problems + self.failures))
        missing = [group for group, candidates in settled if candidates is None]
        self.check_writable(missing)
        self.check_room(missing)
        placed = self.download_all(settled)
        if self.failures:
            raise PlacementError("\n".join(self.failures))
        self.index.profiles = profile_records(self.plan, placed)
        for path in self.index.gone(self.index.profiles):
            self.index.files.pop(path)
        self.index.needed = []
        self.index.save()
        return self.summary(placed)

    # --- before anything is downloaded --------------------------------------------------------------------------------
    def name_missing_directories(self) -> None:
        """Say which search directories do not exist."""
        for directory in self.plan.search_dirs:
            if not os.path.isdir(directory):
                say(f"{directory} of model_search_dirs is not there (a disk or a share that is not mounted?)")

    def announce(self, used: Sequence[str] = ()) -> None:
        """Write to models.json which files this run needs: until it ends, nobody deletes them as unused."""
        targets = {self.plan.target(file) for group in self.plan.groups for file in group.files}
        self.index.needed = sorted({*used, *(visible(target, self.plan.roots) or target for target in targets)})
        self.index.roots = list(self.plan.roots)
        self.index.save()

    def settle_all(self) -> list[Settled]:
        """Where the files of each group are. A group that cannot be had does not keep the others out."""
        settled: list[Settled] = []
        for planned in self.plan.groups:
            group, unknown = self.identified(planned)
            candidates = self.settle(group)
            if candidates is None and unknown:
                self.failures.append(unknown)
                continue
            if candidates is None:
                for file in group.files:
                    self.check_source(group, file)
            settled.append((group, candidates))
        return settled

    def identified(self, group: FileGroup) -> tuple[FileGroup, str]:
        """The group with the sha256 and size that the hub gives for files without one in the plan.

        The second value is the message when the hub gives none; then only the user's own file will do.
        """
        files, unknown = [], ""
        for file in group.files:
            if file.sha256 is None and file.hub is not None:
                identity, problem = self.identity(file)
                if identity is None:
                    unknown = f"{file.name} of profile {group.profile}: {problem}"
                else:
                    file = file.identified(*identity)
            files.append(file)
        return replace(group, files=tuple(files)), unknown

    def identity(self, file: PlannedFile) -> tuple[tuple[str, int] | None, str]:
        """The sha256 and size of a file without one in the plan, from models.json or the hub; or why there is none."""
        label = short(file.name)
        identity = self.index.identity(file, unchanged=True)
        if identity is not None:
            return identity, ""
        reasons = []
        for line in file.sources:
            source = sources.parse(line, name=file.name, hub=self.plan.hub)
            if source.kind != "hub" or source.url is None:
                continue
            try:
                identity = self.downloader.identify(source.url, label)
                say(f"{label}  the hub says {identity[1] // MIB} MiB, sha256 {identity[0][:12]}…")
                return identity, ""
            except SourceFailed as failure:
                reasons.append(f"{line}: {failure}")
        identity = self.index.identity(file, unchanged=False)
        if identity is not None:
            say(f"{label}  {'; '.join(reasons)}; it was sha256 {identity[0][:12]}… in an earlier run")
        return identity, "; ".join(reasons)

    def settle(self, group: FileGroup) -> list[Candidate] | None:
        """Use the files that are on the disk; None when something must be downloaded."""
        remarks: list[str] = []
        for directory in directories(group, self.plan, self.index, walk=True):
            candidates = []
            for candidate, file in zip(look_in(directory, group, self.plan, self.index), group.files, strict=True):
                if candidate.state in ("unverified", "changed"):
                    candidate = self.verify(candidate, file)
                if candidate.state not in ("ok", "missing"):
                    remarks.append(f"{candidate.path}: {candidate.detail}")
                candidates.append(candidate)
            if all(candidate.state == "ok" for candidate in candidates):
                for candidate, file in zip(candidates, group.files, strict=True):
                    if not file.pinned:
                        self.index.files[candidate.path]["source"] = file.hub
                return candidates
        for remark in remarks:
            say(remark)
        return None

    def verify(self, candidate: Candidate, file: PlannedFile) -> Candidate:
        """Hash a file without a valid stamp, and stamp it when it is right."""
        path, size = candidate.path, candidate.size
        if file.sha256 is None and file.hub and self.index.ours(path):
            # An earlier deploy placed it from another revision, and nobody says that it is the file of this one.
            return Candidate(path, "unverified", "the hub does not say whether it is the file", size)
        before = os.stat(path)
        problem = content_problem(path, file, progress=True)
        after = os.stat(path)
        if problem is None and (before.st_mtime_ns, before.st_size) != (after.st_mtime_ns, after.st_size):
            problem = "it is being written to right now"
        if problem is not None:
            return Candidate(path, "corrupt", problem, size)
        ours = self.index.ours(path)
        self.index.stamp(path, after, file, placed=ours, marked=ours and is_marked(path))
        self.index.save()
        say(f"{path}  {'sha256 is right' if file.sha256 else 'is a sound GGUF'}, used where it is")
        return Candidate(path, "ok", size=size)

    def check_source(self, group: FileGroup, file: PlannedFile) -> None:
        """Add a problem when a missing or damaged file cannot be downloaded to its target."""
        target = self.plan.target(file)
        candidate = look(target, file, self.plan, self.index, same_name=False)
        if candidate.state == "ok":
            return
        problem = self.target_problem(group, file, target, candidate) or self.source_problem(group, file, target)
        if problem is not None:
            self.problems.append(problem)

    def target_problem(self, group: FileGroup, file: PlannedFile, target: str, candidate: Candidate) -> str | None:
        """Why nothing may be written to the target: the user has something there."""
        if candidate.state == "missing" and os.path.islink(target):
            return f"{target} is a link to {os.path.realpath(target)}, which is not there (a disk that is not mounted?)"
        if self.replaceable(target):
            return None
        why = candidate.detail if candidate.state != "missing" else "no file at all"
        if candidate.state in ("unverified", "changed"):
            why = content_problem(target, file) or why
        return (
            f"{target} is not the file of profile {group.profile}: {why}. This deploy did not put it there: "
            "move it away, or name another file in models.conf"
        )

    def source_problem(self, group: FileGroup, file: PlannedFile, target: str) -> str | None:
        """Why a file cannot be downloaded to its target: it has no source, or the server could not see it."""
        if file.sha256 is None or file.size is None or not file.sources:
            return (
                f"{file.name} of profile {group.profile} is not there (looked in {', '.join(self.plan.roots)}) and "
                "models.conf names no SOURCES for it: put it into one of these directories, or name its directory in "
                "model_search_dirs"
            )
        if os.path.isabs(file.name) and not target.startswith(self.plan.model_dir.rstrip("/") + "/"):
            return (
                f"{file.name} of profile {group.profile} is not there, and only model_dir ({self.plan.model_dir}) is "
                "written to: give MODEL as a file name to have it downloaded"
            )
        if visible(target, self.plan.roots) is None:
            real = os.path.realpath(os.path.dirname(target))
            return (
                f"{os.path.dirname(target)} leads out of model_dir, to {real}: the server cannot see what is put "
                f"there. Name {real} in model_search_dirs"
            )
        return None

    def replaceable(self, target: str) -> bool:
        """Whether a file may be put there: there is nothing, or a file that claude-local placed."""
        if not os.path.lexists(target):
            return True
        return not os.path.islink(target) and self.index.ours(visible(target, self.plan.roots) or target)

    def check_writable(self, groups: Sequence[FileGroup]) -> None:
        """Raise PlacementError when something must be downloaded and model_dir is read-only."""
        names = [file.name for group in groups for file in group.files]
        if names and self.read_only:
            raise PlacementError(
                f"{', '.join(names)} must be downloaded, and {self.plan.model_dir} cannot be written to "
                f"({self.read_only}): set model_dir to a directory of your own; this one can stay in "
                "model_search_dirs, its files are used where they are"
            )

    def check_room(self, groups: Sequence[FileGroup]) -> None:
        """Raise PlacementError when the disk of model_dir cannot take what is still to be downloaded."""
        missing: dict[str, int] = {}
        for group in groups:
            for file in group.files:
                target = self.plan.target(file)
                if look(target, file, self.plan, self.index, same_name=False).state != "ok":
                    part = file_status(target + ".part")
                    missing[target] = max((file.size or 0) - (part.st_size if part else 0), 0)
        if not missing:
            return
        make_directory(self.plan.model_dir)
        free = shutil.disk_usage(self.plan.model_dir).free
        total = sum(missing.values())
        if total + SPARE > free:
            raise PlacementError(
                f"not enough room in {self.plan.model_dir}: {total // MIB} MiB are still to be downloaded and "
                f"{SPARE // MIB} MiB stay spare, {free // MIB} MiB are free. Make room, set model_dir to a bigger "
                "disk, or name fewer profiles in model_profiles"
            )

    # --- downloads ----------------------------------------------------------------------------------------------------
    def download_all(self, settled: Sequence[Settled]) -> list[tuple[FileGroup, list[Candidate]]]:
        """Download what is missing; a group that fails is added to the failures."""
        placed = []
        for group, candidates in settled:
            try:
                placed.append((group, candidates or [self.place_file(group, file) for file in group.files]))
            except PlacementError as error:
                self.failures.append(str(error))
        return placed

    def place_file(self, group: FileGroup, file: PlannedFile) -> Candidate:
        """Download a file to its target, unless an earlier group of this run did. Raises PlacementError."""
        target = self.plan.target(file)
        candidate = look(target, file, self.plan, self.index, same_name=False)
        if candidate.state != "ok":
            self.download(group, file, target)
            candidate = look(target, file, self.plan, self.index, same_name=False)
        if candidate.state != "ok":
            raise PlacementError(f"{target} of profile {group.profile} was downloaded, and then: {candidate.detail}")
        return candidate

    def download(self, group: FileGroup, file: PlannedFile, target: str) -> None:
        """Download one file from the first source that gives the right bytes. Raises PlacementError, DownloadError."""
        if file.sha256 is None or file.size is None:
            raise PlacementError(f"{file.name} of profile {group.profile} cannot be downloaded without sha256 and size")
        make_directory(os.path.dirname(target))
        label = short(file.name)
        if os.path.lexists(target):
            say(f"{label}  replacing the file that an earlier deploy placed")
        part = PartFile(target + ".part", file.size, label, file.sha256)
        try:
            reasons: dict[str, str] = {}
            slow: list[str] = []
            # A slow source comes once more, and is waited for, when no other one has the file.
            for line, patient in self.turns(file, slow):
                say(f"{label}  downloading {file.size // MIB} MiB: {line}")
                try:
                    self.download_from(sources.parse(line, name=file.name, hub=self.plan.hub), part, patient=patient)
                except SourceFailed as failure:
                    say(f"{label}  {failure}")
                    reasons[line] = str(failure)
                    if isinstance(failure, TooSlow):
                        slow.append(line)
                    continue
                self.downloaded += part.received
                self.keep(part, file, target)
                say(f"{label}  sha256 is right, in place")
                return
        finally:
            part.close()
        report = "".join(f"\n  {line}\n    {reason}" for line, reason in reasons.items())
        raise PlacementError(f"{file.name} of profile {group.profile}: no source gives it:{report}")

    @staticmethod
    def turns(file: PlannedFile, slow: Sequence[str]) -> Iterator[tuple[str, bool]]:
        """The sources in order, then those that were too slow; with each whether to be patient."""
        yield from ((line, len(file.sources) == 1) for line in file.sources)
        yield from ((line, True) for line in slow)

    def download_from(self, source: sources.Source, part: PartFile, *, patient: bool) -> None:
        """Complete the part and check its sha256. A wrong one that has old bytes in it is downloaded again in full.

        Raises SourceFailed, DownloadError, OSError.
        """
        while True:
            part.resumed = part.size > 0
            self.downloader.fetch(source, part, patient=patient)
            digest = part.hexdigest()
            if digest == part.sha256:
                return
            resumed = part.resumed
            part.rewind()
            if not resumed:
                raise SourceFailed(f"gives another file: its sha256 is {digest}, expected {part.sha256}")
            say(f"{part.label}  the continued file has a wrong sha256, starting again")

    def keep(self, part: PartFile, file: PlannedFile, target: str) -> None:
        """Give the verified part its name; it lasts even if the power fails now. Raises PlacementError, OSError."""
        if not self.replaceable(target):
            raise PlacementError(
                f"{target} was put there by somebody else during the download: move it away; the download is kept"
            )
        os.chmod(part.path, 0o644)
        with contextlib.suppress(OSError):
            os.setxattr(part.path, MARK, b"1")
        part.sync()
        # Stamped before it gets its name, which changes neither time nor inode: whatever happens between, it is ours.
        path = visible(target, self.plan.roots) or target
        before = self.index.files.get(path)
        self.index.stamp(path, os.stat(part.path), file, placed=True, marked=is_marked(part.path))
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

    def summary(self, placed: Sequence[tuple[FileGroup, list[Candidate]]]) -> str:
        """``2 model files in place, 1533 MiB, nothing downloaded``"""
        files = {each.path: each.size or 0 for _, candidates in placed for each in candidates}
        count = "1 model file" if len(files) == 1 else f"{len(files)} model files"
        amount = f"{self.downloaded // MIB} MiB downloaded" if self.downloaded else "nothing downloaded"
        return f"{count} in place, {sum(files.values()) // MIB} MiB, {amount}"


def place(plan: PlacementPlan) -> str:
    """Place everything in the plan. The line to end with. Raises PlacementError, DownloadError, OSError, Stopped."""
    with run_lock(plan.model_dir, plan.placements_path) as read_only:
        return Placement(plan, read_only).run()


def _stop(number: int, frame: Any) -> None:
    raise Stopped(signal.Signals(number).name)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; see the module's docstring. Returns the exit status."""
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
        plan = PlacementPlan.read(text)
    except (PlacementError, OSError, UnicodeDecodeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    try:
        if options.command == "check":
            print(json.dumps(check(plan, deep=options.deep)), flush=True)
        else:
            say(place(plan))
        return 0
    except (PlacementError, DownloadError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        path = f"{error.filename}: " if error.filename else ""
        print(f"error: {path}{error.strerror or error}", file=sys.stderr)
        return 1
    except Stopped as stopped:
        with contextlib.suppress(OSError):
            print(f"stopped ({stopped}); the next run continues from here", file=sys.stderr)
        # Python flushes sys.stdout at its end. On a closed pipe that fails, and it would exit with 120.
        sys.stdout = io.StringIO()
        return 130


if __name__ == "__main__":
    sys.exit(main())
