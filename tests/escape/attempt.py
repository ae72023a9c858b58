"""Defines an attempt and keeps the register of all of them. The attempts are in attempts_*.py, one file a family."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.escape.lab import Lab

ROOT, USER = "root", "user"
# An evidence function returns what it found outside (the attempt got through), or None (it was stopped).
Evidence = Callable[[], str | None]


@dataclass(frozen=True)
class Step:
    """One tool call that the scripted backend asks for."""

    tool: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """An attempt in a given lab: its tool calls and how to find out afterwards whether it worked."""

    steps: list[Step]
    evidence: Evidence


@dataclass(frozen=True)
class Attempt:
    """One named attempt.

    ``family`` is the phrase under which the guide lists it. ``session``: attempts of one name share a session and its
    workspace; by default those of one file. A start costs seconds eight times, so an attempt shares one wherever the
    others in it change nothing that it needs. ``accounts``: who tries it. ``impossible``: says why it cannot work on
    this machine even without any fence, found out by looking; None: it can. ``allowed``: no attempt to get out, but
    what every session must be able to do: a fence that lets nothing at all happen would stop the attempts too.
    """

    name: str
    family: str
    what: str
    plan: Callable[[Lab], Plan]
    session: str
    accounts: tuple[str, ...] = (ROOT, USER)
    impossible: Callable[[Lab, str], str | None] = field(default=lambda lab, name: None)
    allowed: bool = False


def refused_by_claude_code(words: str) -> Callable[[Lab, str], str | None]:
    """For ``impossible``: Claude Code's own tool refuses with the message ``words``, with or without a fence."""

    def look(lab: Lab, name: str) -> str | None:
        return f"Claude Code itself refuses: {words}" if words in lab.said.get(name, "") else None

    return look


def not_installed(program: str) -> Callable[[Lab, str], str | None]:
    """For ``impossible``: ``program`` is not installed here."""
    return lambda lab, name: None if shutil.which(program) else f"{program} is not installed"


REGISTER: dict[str, Attempt] = {}


def attempt(name: str, family: str, what: str, **more: Any) -> Callable[[Callable[[Lab], Plan]], Callable[[Lab], Plan]]:
    """Register the decorated function, which plants what the attempt needs and returns its Plan."""

    def register(plan: Callable[[Lab], Plan]) -> Callable[[Lab], Plan]:
        if name in REGISTER:
            raise ValueError(f"two attempts are called {name!r}")
        session = more.pop("session", plan.__module__.rpartition("_")[2])
        REGISTER[name] = Attempt(name, family, what, plan, session, **more)
        return plan

    return register


def call(tool: str, **arguments: Any) -> Step:
    """A tool call."""
    return Step(tool, arguments)


def bash(command: str, **more: Any) -> Step:
    """A Bash call that ends within a minute and never reports failure: only what it leaves behind counts."""
    return Step("Bash", {"command": f"{command}\ntrue", "description": "try", "timeout": 60000, **more})


def attempts_of(account: str) -> list[Attempt]:
    """All attempts of ROOT or USER, in the order of their registration."""
    # Imported because they register their attempts.
    from tests.escape import (  # noqa: F401
        attempts_allowed,
        attempts_files,
        attempts_network,
        attempts_persistence,
        attempts_processes,
        attempts_root,
        attempts_secrets,
        attempts_settings,
    )

    return [each for each in REGISTER.values() if account in each.accounts]
