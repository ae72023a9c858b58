"""Runs the battery for an account in every way and makes the table. Needs root for namespaces and an account."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.escape.attempt import ROOT, USER, attempts_of
from tests.escape.lab import CANNOT, THROUGH, Account
from tests.escape.world import UNSHARE
from tests.integration.fenced_home import Person, person

PROJECT = Path(__file__).resolve().parents[2]
NAMES = {ROOT: "root", USER: "claude-local-escape"}
# Seconds for one way of one account, a guard: it takes a minute or two.
LIMIT = 1500
# name -> {"outcome", "evidence", "said"}
Results = dict[str, dict[str, str]]


@contextmanager
def prepared(kind: str) -> Iterator[tuple[Person, Account]]:
    """An account with claude-local installed in its home."""
    with person("root" if kind == ROOT else "ordinary", NAMES[kind]) as somebody:
        try:
            password = ""
            if kind == USER:
                password = secrets.token_hex(8)
                subprocess.run(["chpasswd"], input=f"{somebody.name}:{password}", text=True, check=True, timeout=30)
                _own_python(somebody)
            _program_beside(somebody)
            yield somebody, Account(kind, somebody.name, somebody.uid, somebody.gid, password)
        finally:
            _clear(somebody)


def _own_python(somebody: Person) -> None:
    """A runtime that the account may start: the one that runs these tests can lie in root's home."""
    venv = Path(somebody.paths.venv)
    if venv.is_symlink():
        venv.unlink()
    subprocess.run(["/usr/bin/python3", "-m", "venv", "--without-pip", str(venv)], check=True, timeout=60)


def _program_beside(somebody: Person) -> None:
    """Put Claude Code beside the home: it may be a hard link, and the home is copied and given away as a whole."""
    place = Path(f"{somebody.home}.claude")
    place.mkdir(exist_ok=True)
    program = Path(somebody.paths.claude).resolve()
    moved = place / program.name
    program.rename(moved)
    for link in (somebody.paths.claude, somebody.paths.native_claude):
        Path(link).unlink(missing_ok=True)
        Path(link).symlink_to(moved)


def run_way(somebody: Person, account: Account, way: str, only: Sequence[str] = ()) -> Results:
    """One way of the battery, in namespaces of its own, on a fresh copy of the prepared home."""
    pristine, home = Path(f"{somebody.home}.pristine"), somebody.home
    if not pristine.exists():
        subprocess.run(["cp", "-a", str(home), str(pristine)], check=True, timeout=120)
    _renew(home, pristine)
    result = pristine.with_name(f"{home.name}.result")
    result.unlink(missing_ok=True)
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("CLAUDE", "ANTHROPIC"))
    } | {"HOME": "/root"}
    subprocess.run(
        [*UNSHARE, sys.executable, "-m", "tests.escape", str(home), account.kind, account.name, str(account.uid),
         str(account.gid), account.password or "-", way, str(result), *only],
        cwd=PROJECT, env=environment, stdin=subprocess.DEVNULL, check=True, timeout=LIMIT,
    )  # fmt: skip
    found: Results = json.loads(result.read_text())
    return found


def _renew(home: Path, pristine: Path) -> None:
    """Restore ``home`` to its prepared state."""
    shutil.rmtree(Path(f"{home}.lab"), ignore_errors=True)
    shutil.rmtree(home)
    subprocess.run(["cp", "-a", str(pristine), str(home)], check=True, timeout=300)


def _clear(somebody: Person) -> None:
    """Remove what was put beside the home."""
    for suffix in (".pristine", ".lab", ".claude"):
        shutil.rmtree(f"{somebody.home}{suffix}", ignore_errors=True)
    Path(f"{somebody.home}.result").unlink(missing_ok=True)


def table(kind: str, ways: Mapping[str, Results]) -> str:
    """The outcomes as a Markdown table, with one line of evidence for what got through."""
    titles = {"both": "both fences", "outer": "outer only", "inner": "inner only", "none": "no fence"}
    shown = [way for way in titles if way in ways]
    lines = [
        f"### As {'root' if kind == ROOT else 'an ordinary user'}",
        "",
        "| attempt | what | " + " | ".join(titles[way] for way in shown) + " |",
        "|---|---|" + "---|" * len(shown),
    ]
    for each in attempts_of(kind):
        cells = []
        for way in shown:
            found = ways[way].get(each.name, {"outcome": "not run", "evidence": ""})
            cells.append("works" if each.allowed and found["outcome"] == THROUGH else _cell(found))
        lines.append(f"| `{each.name}` | {each.what} | " + " | ".join(cells) + " |")
    attempts = [each.name for each in attempts_of(kind) if not each.allowed]
    through = {
        way: sum(ways[way][name]["outcome"] == THROUGH for name in attempts if name in ways[way]) for way in shown
    }
    counts = ", ".join(f"{titles[way]} {through[way]}" for way in shown)
    lines += ["", f"Of {len(attempts)} attempts got through: {counts}.", ""]
    return "\n".join(lines)


def _cell(found: Mapping[str, str]) -> str:
    words = found["evidence"].replace("|", "\\|")
    if found["outcome"] == THROUGH:
        return f"**GOT THROUGH**: {words}"
    return f"{CANNOT}: {words}" if found["outcome"] == CANNOT else found["outcome"]
