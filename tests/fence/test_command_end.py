"""The line at the end of a command that the fence refused something."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from claude_local.fence import command_end
from claude_local.fence.command_end import refusals, unanswered, unwritable, written
from claude_local.fence.refusals import KEPT, RefusedHosts

# What programs print where a file system is read-only, each about /etc/x.
MESSAGES = {
    "touch": "touch: cannot touch '/etc/x': Read-only file system",
    "make": "make: mkdir: cannot create directory ‘/etc/x’: Read-only file system",
    "bash": "/bin/bash: line 83: /etc/x: Read-only file system",
    "zsh": "(eval):1: read-only file system: /etc/x",
    "python": "OSError: [Errno 30] Read-only file system: '/etc/x'",
    "node": "Error: EROFS: read-only file system, open '/etc/x'\n    at Object.open (node:fs:1)\n  code: 'EROFS',",
    "npm": "npm error rofs EROFS: read-only file system, mkdir '/etc/x'",
    "go": "mkdir /etc/x: read-only file system",
    "git": "error: could not lock config file /etc/x: Read-only file system",
    "uv": "error: failed to create directory `/etc/x`: Read-only file system (os error 30)",
    "cargo": "error: failed to open: /etc/x\n\nCaused by:\n  Read-only file system (os error 30)",
}


@pytest.mark.parametrize("message", MESSAGES.values(), ids=MESSAGES)
def test_a_refused_write_names_its_path_and_the_setting(message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command_end, "unwritable", lambda path: path if path == "/etc/x" else None)
    assert refusals(f"before\n{message}\n", 0, [], ["/w"]) == ["/etc/x (setting fence_writable)"]


def test_a_path_without_a_slash_and_one_with_blanks_are_found() -> None:
    assert written("/bin/bash: line 1: x: Read-only file system") == ["x"]
    assert written("touch: cannot touch 'a b/c d': Read-only file system") == ["a b/c d"]


def test_a_path_that_can_be_written_is_none_of_the_fences(tmp_path: Path) -> None:
    # As in the output of cat or grep.
    assert refusals(f"rm: cannot remove '{tmp_path}/x/y': Read-only file system", 1, [], []) == []
    assert unwritable("/proc/sys/x/y") == "/proc/sys/x/y"


def test_a_guarded_file_of_the_workspace_is_changed_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command_end, "unwritable", lambda path: path)
    (words,) = refusals("touch: cannot touch '/w/.envrc': Read-only file system", 1, [], ["/w"])
    assert words == "/w/.envrc (guarded: change it outside the session)"


@pytest.mark.parametrize(
    ("output", "host"),
    [
        ("curl: (6) Could not resolve host: example.org", "example.org"),
        ("Error: getaddrinfo ENOTFOUND registry.example.org", "registry.example.org"),
        ("npm error 403 403 Forbidden - GET https://registry.example.org/left-pad", "registry.example.org"),
        ("socket.gaierror: [Errno -3] Temporary failure in name resolution", "the network"),
        ("curl: (56) CONNECT tunnel failed, response 403", "the network"),
        ("OSError('Tunnel connection failed: 403 host is not on the allow list')", "the network"),
    ],
)
def test_what_only_the_output_shows_of_the_network_names_the_setting(output: str, host: str) -> None:
    assert refusals(output, 0, [], []) == []
    (words,) = refusals(output, 1, [], [])
    assert words.startswith(f"{host} (setting fence_domains")
    # The proxy knows better.
    assert refusals(output, 1, ["pypi.org:443"], []) == ["pypi.org:443 (setting fence_domains)"]


def test_a_port_of_this_machine_has_another_setting() -> None:
    assert refusals("", 0, ["127.0.0.1:5432"], []) == ["127.0.0.1:5432 (setting fence_ports)"]
    for said in (
        "curl: (7) Failed to connect to localhost port 5432 after 0 ms: Couldn't connect to server",
        "Error: connect ECONNREFUSED 127.0.0.1:5432",
        'psql: error: connection to server at "localhost" (127.0.0.1), port 5432 failed: Connection refused',
    ):
        assert "port 5432 in this command" in unanswered(said) and "fence_ports" in unanswered(said)
    assert "that port" in unanswered("ConnectionRefusedError: [Errno 111] Connection refused")


def end(output: Path, refused: str, status: int, seen: int) -> list[str]:
    """What the program prints."""
    with output.open() as stdin:
        done = subprocess.run(
            [sys.executable, "-I", "-S", command_end.__file__, str(status), str(seen)], stdin=stdin, text=True,
            capture_output=True, timeout=30, check=True, env={"CLAUDE_LOCAL_REFUSED": refused},
        )  # fmt: skip
    assert done.stdout == ""
    return done.stderr.splitlines()


def test_one_line_names_what_was_refused_since_the_command_began(tmp_path: Path) -> None:
    output, refused = tmp_path / "output", RefusedHosts(str(tmp_path / "state" / "refused"))
    output.write_text("it works\n")
    assert end(output, refused.path, 1, 0) == []
    for number in range(KEPT + 5):
        refused.add("pypi.org" if number < KEPT else "evil\n\x1b[31m.org", 443)
    assert end(output, refused.path, 0, KEPT + 5) == []
    (line,) = end(output, refused.path, 0, KEPT - 1)
    assert line == (
        "claude-local: the fence refused pypi.org:443 (setting fence_domains), "
        "evil???31m.org:443 (setting fence_domains)"
    )
    refused.close()
    assert end(output, refused.path, 0, 0) == [] and not Path(refused.path).exists()


def test_a_command_that_worked_is_told_nothing_of_closed_ports(tmp_path: Path) -> None:
    output = tmp_path / "output"
    output.write_text("test_connection_refused PASSED: Connection refused\n")
    assert end(output, "", 0, 0) == []
    (line,) = end(output, "", 1, 0)
    assert line.startswith("claude-local: nothing listens")
