"""PATH: once, in the files that the user's shells read."""

from __future__ import annotations

from typing import Any

from claude_local.claude.shell_startup import fish_file, posix_block
from claude_local.deploy.facts.commands import Shells
from claude_local.deploy.facts.user_files import UserFile
from claude_local.deploy.operations import user_files
from claude_local.deploy.operations.commands import on_path
from tests.deploy.strict_host import StrictHost, fact_on_this_machine
from tests.deploy.strict_host import run as run_operation

HOME = "/home/u"
BLOCK = posix_block("/home/u/bin", HOME)


def run(monkeypatch: Any, operation: Any, host: StrictHost, **arguments: Any) -> list[str]:
    """As strict_host.run; what user_files asks goes to the same host."""
    monkeypatch.setattr(user_files, "host", host)
    return run_operation(monkeypatch, operation, host, **arguments)


def uploads(monkeypatch: Any, files: dict[str, UserFile], shells: list[str]) -> list[str]:
    named = {f"{HOME}/{name}": file for name, file in files.items()}
    host = StrictHost({"Shells": shells, "UserFiles": lambda paths: {path: named.get(path) for path in paths}})
    commands = run(monkeypatch, on_path, host, directory="/home/u/bin", home=HOME)
    return [command.split("/", 3)[3] for command in commands if command.startswith("upload")]


def test_a_bare_home_gets_bashs_two_files(monkeypatch: Any) -> None:
    assert uploads(monkeypatch, {}, ["bash"]) == [".bashrc.claude-local-new", ".profile.claude-local-new"]


def test_files_that_have_it_are_left_alone(monkeypatch: Any) -> None:
    names = (".bashrc", ".bash_profile", ".zshrc", ".zprofile")
    there = {name: UserFile("644", f"alias a=b\n{BLOCK}".encode()) for name in names}
    there[".config/fish"] = UserFile("755")
    there[".config/fish/conf.d/claude-local.fish"] = UserFile("644", fish_file("/home/u/bin", HOME).encode())
    assert uploads(monkeypatch, there, ["bash", "zsh", "fish"]) == []


def test_zsh_and_fish_are_served_where_they_are(monkeypatch: Any) -> None:
    there = {name: UserFile("644", BLOCK.encode()) for name in (".bashrc", ".profile")}
    assert uploads(monkeypatch, there, ["bash", "zsh", "fish"]) == [
        ".zshrc.claude-local-new",
        ".zprofile.claude-local-new",
        ".config/fish/conf.d/claude-local.fish.claude-local-new",
    ]


def test_the_fact_names_installed_shells() -> None:
    assert "bash" in fact_on_this_machine(Shells())
