"""Tells the user what a session's fence could not hold, and what a session left behind that would run outside it."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from os.path import isdir

from claude_local.fence import tracked_names
from claude_local.fence.config_copies import ConfigCopies
from claude_local.fence.deadline import stopped_by_signals
from claude_local.fence.files import realpath
from claude_local.fence.ledger import Interrupted
from claude_local.fence.messages import note, report
from claude_local.fence.quarantine import Blocked
from claude_local.fence.remount import Protection
from claude_local.fence.watch import Watch
from claude_local.fence.workspace import forbidden_files


def report_weaknesses(protection: Protection, sockets: Sequence[str]) -> None:
    """What remount.py cannot do here. ``sockets``: the ones that only remount.py closes."""
    if not protection.private_mounts:
        note(
            "this session can write what is mounted on this machine while it runs (a disk, a vault), "
            "if you can write it"
        )
    if not protection.remounts:
        note("this session can read logins that you make while it runs")
        note("files that other programs replace while this session runs lose their guard: its mounts cannot be changed")
        report(f"this session can connect to {path}" for path in sockets)


def report_guards(complete: bool, unguarded: Sequence[str]) -> None:
    """Whether the guards held. ``complete``: remount.py ran to the end; ``unguarded``: paths that lost their guard."""
    if not complete:
        note("the process that restores this session's guards ended early: files that other programs replaced after "
             "that had no guard")  # fmt: skip
    report(f"while this session ran, {path} was removed or replaced outside and lost its guard: the session can have "
           "changed it. Read it before you use it" for path in unguarded)  # fmt: skip


def last_look(watch: Watch, interrupted: Interrupted | None = None) -> list[Blocked]:
    """What the watch renamed: path, reason and new path of each. An error in it is reported, and does not hide what it
    found before. The user can stop it."""
    try:
        with stopped_by_signals(watch.deadline):
            watch.stop() if interrupted is None else watch.look_back(interrupted.began, interrupted.ended)
    except Exception as error:
        note(f"not everything that a session left here could be checked ({type(error).__name__}: {error}). Look for "
             "new git hooks and git settings before you use git here")  # fmt: skip
    return watch.blocked


def look_back(workspaces: Sequence[str], interrupted: Interrupted) -> None:
    """Check what sessions left that were killed before their end, in every workspace of theirs too. Ends the program
    when the user stops it."""
    theirs = [path for path in interrupted.workspaces if isdir(path) and realpath(path) == path]
    tops = list(dict.fromkeys([*workspaces, *theirs]))
    forbidden = {
        path: why for top in tops for path, why in forbidden_files(top).items() if path not in interrupted.known
    }
    watch = Watch(tops, forbidden, {}, interrupted.known)
    report(f"the last session here was cut short and had made {path}; {why}. It is now called {new}"
           for path, why, new in last_look(watch, interrupted))  # fmt: skip
    report_unchecked(watch)
    if watch.deadline.stopped:
        raise SystemExit(128 + signal.SIGINT)


def report_watch(watch: Watch) -> None:
    """What the watch renamed, and what it did not reach."""
    report(f"this session made {path}; {why}. It is now called {new}" for path, why, new in last_look(watch))
    report_unchecked(watch)


def report_unchecked(watch: Watch) -> None:
    """What the watch did not reach before its deadline."""
    if watch.unchecked:
        note(f"the look at what a session left was not finished: {watch.deadline.why}. Before you use git in one of "
             "these, read its hooks and its config:")  # fmt: skip
    report(dict.fromkeys(watch.unchecked))


def report_configs(copies: ConfigCopies) -> None:
    """What the session changed in git's configurations and was not carried over, or may surprise."""
    report(f"this session set {', '.join(entries)} in {path}, which git would obey outside: it was taken back. If you "
           "want it, set it yourself" for path, entries in copies.refused.items())  # fmt: skip
    report(f"this session changed {', '.join(names)} in {path}: git may fetch and push elsewhere now. To see where: "
           "git remote -v; git branch -vv" for path, names in copies.redirected.items())  # fmt: skip
    report(f"this session changed {path}, and that could not be written: {why}" for path, why in copies.failed.items())


def report_changes(watch: Watch) -> None:
    """What changed during a session and git runs, obeys or no longer shows; and what could not be searched."""
    report(f"while this session ran, {path} changed or appeared, which git runs or obeys. Read it before you use git "
           "there" for path in dict.fromkeys(watch.changed))  # fmt: skip
    report(line for git_dir, places in watch.tracked.items() for line in tracked_names.lines(git_dir, places))
    report(f"this session made git hide changes to {', '.join(names[:5])}{' and more' * (len(names) > 5)} ({git_dir}). "
           "To see them again: git update-index --no-skip-worktree --no-assume-unchanged NAME"
           for git_dir, names in watch.hidden_files.items())  # fmt: skip
    report(f"{path} is too large, or not readable, to search for repositories that this session made deep in it: git "
           "would run their hooks" for path in watch.unsearched)  # fmt: skip
