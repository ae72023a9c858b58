"""Files that the user writes too, on this machine: merged and never overwritten, links and modes kept."""

from __future__ import annotations

import json
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pyinfra.api.exceptions import PyinfraError

from claude_local.claude.shell_startup import posix_block
from claude_local.deploy.facts.commands import LLAMACTL
from claude_local.deploy.facts.user_files import UserFile, UserFiles
from claude_local.deploy.operations import commands, user_files
from tests.deploy.strict_host import fact_on_this_machine
from tests.deploy.this_machine import apply, changes

OURS = {"permissions": {"defaultMode": "plan", "disableAutoMode": "disable"}}


def mode(path: Path) -> str:
    return f"{stat.S_IMODE(path.stat().st_mode):o}"


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    """The arguments of a merge into ``tmp_path/settings.json``."""
    return {"dest": str(tmp_path / "settings.json"), "applied": str(tmp_path / "state/applied.json"), "ours": OURS}


def test_a_bare_home_gets_the_settings_once(settings: dict[str, Any]) -> None:
    assert changes(user_files.merge_json, **settings) == (True, False)
    path = Path(settings["dest"])
    assert json.loads(path.read_text()) == OURS and mode(path) == "600"


def test_a_users_own_values_and_keys_stay(settings: dict[str, Any]) -> None:
    apply(user_files.merge_json, **settings)
    mine = {"model": "x", "permissions": {"defaultMode": "acceptEdits", "disableAutoMode": "disable"}}
    Path(settings["dest"]).write_text(json.dumps(mine))
    assert changes(user_files.merge_json, **settings) == (False, False)
    assert json.loads(Path(settings["dest"]).read_text()) == mine


def test_a_deleted_key_stays_deleted_unless_it_is_enforced(settings: dict[str, Any]) -> None:
    apply(user_files.merge_json, **settings)
    Path(settings["dest"]).write_text('{"permissions": {"defaultMode": "plan"}}')
    assert not apply(user_files.merge_json, **settings)
    assert changes(user_files.merge_json, **settings, enforced=["permissions.disableAutoMode"]) == (True, False)
    assert json.loads(Path(settings["dest"]).read_text()) == OURS


def test_a_broken_file_is_kept_under_another_name(settings: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    path = Path(settings["dest"])
    path.write_text('{"permissions": ')
    with caplog.at_level("WARNING", logger="pyinfra"):
        assert changes(user_files.merge_json, **settings) == (True, False)
    assert json.loads(path.read_text()) == OURS and "is not JSON" in caplog.text
    (kept,) = path.parent.glob("settings.json.broken-*")
    assert kept.read_text() == '{"permissions": '


def test_settings_that_others_could_read_are_closed(settings: dict[str, Any]) -> None:
    apply(user_files.merge_json, **settings)
    path = Path(settings["dest"])
    path.chmod(0o644)
    assert changes(user_files.merge_json, **settings) == (True, False)
    assert mode(path) == "600"


def test_claude_codes_own_file_keeps_what_claude_code_wrote(tmp_path: Path) -> None:
    path = tmp_path / ".claude.json"
    path.write_text('{"numStartups": 3}')
    path.chmod(0o600)
    ours = {"hasCompletedOnboarding": True}
    assert changes(user_files.merge_json, dest=str(path), ours=ours, enforced=list(ours)) == (True, False)
    assert json.loads(path.read_text()) == {"numStartups": 3, "hasCompletedOnboarding": True}


def test_a_linked_file_stays_a_link_and_gets_its_mode(tmp_path: Path) -> None:
    real, dest = tmp_path / "dotfiles" / "settings.json", tmp_path / "settings.json"
    real.parent.mkdir()
    real.write_text("old")
    dest.symlink_to(real)
    assert changes(user_files.put, dest=str(dest), text="new\n", mode="600") == (True, False)
    assert dest.is_symlink() and real.read_text() == "new\n" and mode(real) == "600"


def test_a_shell_that_runs_the_command_goes_on_in_the_text_that_it_began(tmp_path: Path) -> None:
    command = tmp_path / "command"
    command.write_text("#!/bin/sh\necho began\nread -r go\necho old\n")
    command.chmod(0o755)
    process = subprocess.Popen([command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "began\n"
    apply(user_files.put, dest=str(command), text="#!/bin/sh\n" + "echo new\n" * 9, mode="755")
    assert process.communicate("go\n", timeout=60)[0] == "old\n"


@pytest.fixture
def sessions(tmp_path: Path) -> dict[str, Any]:
    """The arguments of ``refuse_links_out`` for a directory of the sessions, which is itself reached by a link."""
    (tmp_path / ".claude-local").mkdir()
    (tmp_path / "cloud").mkdir()
    (tmp_path / ".claude").symlink_to("cloud")
    (tmp_path / "dotfiles").mkdir()
    (tmp_path / "linked").symlink_to(".claude-local")
    (tmp_path / "linked/inside").symlink_to("other.json")
    names = {"files": ["enforced.json", "inside", "commands"], "linkable": ["settings.json"]}
    paths = {kind: [str(tmp_path / "linked" / name) for name in each] for kind, each in names.items()}
    return {"directory": str(tmp_path / "linked"), "own": str(tmp_path / ".claude"), **paths}


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("settings.json", "../.claude/settings.json"),
        ("settings.json", "../cloud/settings.json"),
        ("settings.json.claude-local-new", "../dotfiles/settings.json"),
        ("enforced.json", "../dotfiles/settings.json"),
        ("inside.claude-local-new", "../.bashrc"),
        ("commands", "../dotfiles"),
    ],
)
def test_a_link_that_a_session_may_have_made_is_refused(
    tmp_path: Path, sessions: dict[str, Any], name: str, target: str
) -> None:
    assert not apply(user_files.refuse_links_out, **sessions)
    (tmp_path / "linked" / name).symlink_to(target)
    with pytest.raises(PyinfraError):
        apply(user_files.refuse_links_out, **sessions)


def test_settings_that_are_linked_to_dotfiles_are_read_and_never_written(
    tmp_path: Path, sessions: dict[str, Any], settings: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    dotfile, link = tmp_path / "dotfiles/settings.json", tmp_path / "linked/settings.json"
    dotfile.write_text('{"model": "x", "permissions": {"defaultMode": "plan"}}')
    dotfile.chmod(0o444)
    link.symlink_to(dotfile)
    settings = {**settings, "dest": str(link), "enforced": ["permissions.disableAutoMode"]}
    assert not apply(user_files.refuse_links_out, **sessions)
    before = dotfile.read_text()
    with pytest.raises(PyinfraError), caplog.at_level("ERROR", logger="pyinfra"):
        apply(user_files.merge_json, **settings, inside=sessions["directory"])
    assert f'Fix: add {{"permissions": {{"disableAutoMode": "disable"}}}} there, or rm {link}' in caplog.text
    assert dotfile.read_text() == before and not list(tmp_path.rglob("*claude-local-new"))
    dotfile.chmod(0o644)
    dotfile.write_text(json.dumps({"model": "x", **OURS}))
    dotfile.chmod(0o444)
    assert changes(user_files.merge_json, **settings, inside=sessions["directory"]) == (True, False)
    assert link.is_symlink() and mode(dotfile) == "444", "only what was applied is remembered"


def test_files_are_read_byte_for_byte_and_links_followed(tmp_path: Path) -> None:
    odd = tmp_path / "it's odd"
    odd.write_bytes(b"\xff\x00umlaut \xc3\xa9\n\n")
    odd.chmod(0o640)
    (tmp_path / "link").symlink_to(odd)
    (tmp_path / "empty").touch(0o600)
    paths = [str(tmp_path / name) for name in ("it's odd", "link", "empty", "no")]
    files = fact_on_this_machine(UserFiles(), paths=[*paths, str(tmp_path)])
    assert files[paths[0]] == files[paths[1]] == UserFile("640", odd.read_bytes())
    assert files[paths[2]] == UserFile("600", b"")
    assert files[paths[3]] is None and files[str(tmp_path)] is None


# --- PATH


def add_to_shells(home: Path) -> tuple[bool, bool]:
    return changes(
        commands.add_to_shells, directory=f"{home}/bin", home=str(home), zsh_functions=f"{home}/functions",
        completions={"bash": "in bash", "zsh": "in zsh", "fish": "in fish"},
    )  # fmt: skip


def test_a_bare_home_gets_bashs_two_files(tmp_path: Path) -> None:
    assert add_to_shells(tmp_path) == (True, False)
    shells = {path.name for path in tmp_path.iterdir()}
    assert {".bashrc", ".profile", ".local", "functions"} <= shells
    assert shells <= {".bashrc", ".profile", ".zshrc", ".zprofile", ".config", ".local", "functions"}


def test_start_up_files_keep_their_content_their_link_and_their_mode(tmp_path: Path) -> None:
    dotfiles = tmp_path / "dotfiles"
    dotfiles.write_bytes(b"alias a=b # \xff")
    dotfiles.chmod(0o640)
    (tmp_path / ".bashrc").symlink_to(dotfiles)
    (tmp_path / ".bash_profile").write_text(posix_block(f"{tmp_path}/bin", str(tmp_path)))
    assert add_to_shells(tmp_path) == (True, False)
    assert (tmp_path / ".bashrc").is_symlink() and mode(dotfiles) == "640"
    assert dotfiles.read_bytes().startswith(b"alias a=b # \xff\n\n# >>> claude-local >>>\n")
    assert not (tmp_path / ".profile").exists(), "a login bash reads .bash_profile, and that has it"


@pytest.mark.slow
def test_zsh_and_fish_are_served_where_they_are_configured(tmp_path: Path) -> None:
    (tmp_path / ".zshrc").write_text("setopt x\n")
    (tmp_path / "dotfiles").mkdir()
    (tmp_path / ".config").mkdir()
    (tmp_path / ".config/fish").symlink_to(tmp_path / "dotfiles")
    assert add_to_shells(tmp_path) == (True, False)
    for name in (".zshrc", ".zprofile"):
        assert 'PATH="$HOME/bin:$PATH"' in (tmp_path / name).read_text()
    assert 'fpath=("$HOME/functions" $fpath)' in (tmp_path / ".zshrc").read_text()
    assert "set -gx PATH" in (tmp_path / "dotfiles/conf.d/claude-local.fish").read_text()
    assert (tmp_path / "dotfiles/completions/llama-local.fish").read_text() == "in fish"
    assert (tmp_path / "functions/_llama_local_completion").read_text() == "in zsh"
    assert (tmp_path / ".local/share/bash-completion/completions/llama-local").read_text() == "in bash"


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("zsh"), reason="zsh is not installed")
def test_zsh_is_asked_where_its_files_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("ZDOTDIR", raising=False)
    (tmp_path / ".zshenv").write_text('echo "directory of the day"\nexport ZDOTDIR="$HOME/.config/my zsh"\n')
    assert add_to_shells(tmp_path) == (True, False)
    assert not (tmp_path / ".zshrc").exists() and not (tmp_path / ".zprofile").exists()
    env = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    for how in ("-ic", "-lc"):
        script = 'print -r -- "$PATH"'
        done = subprocess.run(["zsh", how, script], env=env, capture_output=True, text=True, timeout=30, check=True)
        assert done.stdout.splitlines()[-1] == f"{tmp_path}/bin:/usr/bin:/bin"


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A directory that is mounted read-only, with a .bashrc in it."""
    place = tmp_path / "generation"
    place.mkdir()
    (place / ".bashrc").write_text("alias a=b\n")
    for words in (["--bind", place, place], ["-o", "remount,bind,ro", place]):
        if subprocess.run(["mount", *words], capture_output=True, timeout=30).returncode:
            pytest.skip("this needs the right to mount")
    yield place
    subprocess.run(["umount", place], check=True, timeout=30)


def test_a_start_up_file_in_a_read_only_place_is_a_warning_with_the_line_to_add(
    tmp_path: Path, read_only: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As home-manager leaves it."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home/.bashrc").symlink_to(read_only / ".bashrc")
    (tmp_path / "home/.config").mkdir()
    (tmp_path / "home/.config/fish").symlink_to(read_only)
    with caplog.at_level("WARNING", logger="pyinfra"):
        assert add_to_shells(tmp_path / "home") == (True, False), "the other files are changed, and only once"
    assert f"{tmp_path}/home/.bashrc is in a read-only place" in caplog.text
    assert 'Fix: add this line to it: export PATH="$HOME/bin:$PATH"' in caplog.text
    assert 'Fix: add this line to it: fish_add_path "$HOME/bin"' in caplog.text
    assert (tmp_path / "home/.bashrc").read_text() == "alias a=b\n"
    assert [path.name for path in tmp_path.rglob("*claude-local-new")] == []
    assert posix_block(f"{tmp_path}/home/bin", f"{tmp_path}/home") in (tmp_path / "home/.profile").read_text()


def test_a_line_that_is_there_already_is_enough(
    tmp_path: Path, read_only: Path, caplog: pytest.LogCaptureFixture
) -> None:
    subprocess.run(["mount", "-o", "remount,bind,rw", read_only], check=True, timeout=30)
    (read_only / ".bashrc").write_text('export PATH="$HOME/bin:$PATH"\n')
    subprocess.run(["mount", "-o", "remount,bind,ro", read_only], check=True, timeout=30)
    (tmp_path / ".bashrc").symlink_to(read_only / ".bashrc")
    with caplog.at_level("WARNING", logger="pyinfra"):
        add_to_shells(tmp_path)
    assert ".bashrc" not in caplog.text


def test_a_file_that_is_a_mount_of_its_own_is_written_to(tmp_path: Path, read_only: Path) -> None:
    """As a container's engine mounts single files."""
    (tmp_path / "mounted").touch()
    (tmp_path / ".bashrc").write_text("alias a=b\n")
    subprocess.run(["mount", "--bind", tmp_path / "mounted", tmp_path / ".bashrc"], check=True, timeout=30)
    try:
        assert add_to_shells(tmp_path) == (True, False)
        assert "claude-local" in (tmp_path / ".bashrc").read_text()
        assert list(tmp_path.glob("*.claude-local-new")) == []
    finally:
        subprocess.run(["umount", tmp_path / ".bashrc"], check=True, timeout=30)


# --- the command's former name


def test_our_command_is_removed_under_its_former_name_and_anothers_stays(tmp_path: Path) -> None:
    path, shims = tmp_path / "llamactl", tmp_path / "shims"
    former = {"llamactl": str(path), "shims": str(shims)}
    assert not apply(commands.remove_former, **former)
    path.write_text("#!/usr/bin/env python3\n# llamactl of somebody else\n")
    assert not apply(commands.remove_former, **former) and path.exists()
    path.write_text(f"#!/bin/sh\n{LLAMACTL}\npython='/x'\nexec $python -m claude_local.cli\n")
    shims.mkdir()
    (shims / "npm").touch()
    assert changes(commands.remove_former, **former) == (True, False)
    assert not path.exists() and not shims.exists()


# --- directories and several files


def test_directories_are_made_with_their_modes_and_links_to_one_stay(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir(mode=0o700)
    (tmp_path / "linked").symlink_to("disk")
    modes = {str(tmp_path / "linked"): "755", str(tmp_path / "linked/new dir"): "700"}
    assert changes(user_files.directories, modes=modes) == (True, False)
    assert (tmp_path / "linked").is_symlink()
    assert mode(tmp_path / "disk") == "755" and mode(tmp_path / "disk/new dir") == "700"


def test_of_several_files_only_those_that_differ_are_written(tmp_path: Path) -> None:
    files = {str(tmp_path / name): name for name in ("a", "it's b", "c/d")}
    assert changes(user_files.put_all, files=files, mode="640") == (True, False)
    untouched = (tmp_path / "a").stat().st_ino
    (tmp_path / "it's b").write_text("changed")
    assert changes(user_files.put_all, files=files, mode="640") == (True, False)
    assert (tmp_path / "it's b").read_text() == "it's b" and (tmp_path / "a").stat().st_ino == untouched
    assert mode(tmp_path / "c/d") == "640"
