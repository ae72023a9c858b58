"""The directory of the commands gets onto PATH once, whatever the start-up files hold."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_local.claude.shell_startup import (
    BEGIN,
    END,
    ShellStartup,
    block_files,
    fish_file,
    fish_path,
    posix_block,
    with_block,
)

HOME = "/home/u"
BLOCK = posix_block("/home/u/bin", HOME)
lines = st.lists(st.sampled_from(["alias a=b", "", "# text", "export X=1", BEGIN, END, BLOCK.strip()]), max_size=6)


def nothing(existing: set[str] = set(), shells: set[str] = set()) -> ShellStartup:  # noqa: B006
    return ShellStartup(frozenset(existing), frozenset(shells), HOME, f"{HOME}/.config/fish")


@given(before=lines, end=st.sampled_from(["", "\n"]))
def test_adding_the_block_twice_changes_nothing(before: list[str], end: str) -> None:
    once = with_block("\n".join(before) + end, BLOCK)
    assert BLOCK in once
    assert with_block(once, BLOCK) == once


@given(text=st.text().filter(lambda text: BEGIN not in text))
def test_the_users_text_is_kept(text: str) -> None:
    assert with_block(text, BLOCK).startswith(text)


def test_an_old_block_is_replaced_in_place() -> None:
    old = posix_block("/opt/old", HOME)
    assert with_block(f"first\n{old}last\n", BLOCK) == f"first\n{BLOCK}last\n"


def test_doubled_blocks_become_one() -> None:
    assert with_block(f"a\n{BLOCK}b\n{BLOCK}c\n", BLOCK) == f"a\n{BLOCK}b\nc\n"


@pytest.mark.parametrize("shell", ["sh", "bash"])
@pytest.mark.parametrize("name", ["bin", "my bin", 'odd"$`\\dir'])
def test_the_block_puts_the_directory_onto_path_once(shell: str, name: str, tmp_path: Path) -> None:
    block = posix_block(f"{tmp_path}/{name}", str(tmp_path))
    script = block + block + 'printf %s "$PATH"'
    env = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    done = subprocess.run([shell, "-c", script], env=env, capture_output=True, text=True, check=True)
    assert done.stdout == f"{tmp_path}/{name}:/usr/bin:/bin"


def test_a_directory_outside_home_keeps_its_full_path() -> None:
    assert 'PATH="/opt/bin:$PATH"' in posix_block("/opt/bin", HOME)
    assert '"/home/user2/bin"' in fish_file("/home/user2/bin", "/home/user")


def test_bash_alone_gets_its_interactive_and_its_login_file() -> None:
    assert block_files(HOME, nothing()) == ["/home/u/.bashrc", "/home/u/.profile"]
    assert fish_path(nothing()) is None


@pytest.mark.parametrize(
    ("existing", "login"),
    [
        ({".bash_profile", ".profile"}, ".bash_profile"),
        ({".bash_login", ".profile"}, ".bash_login"),
        ({".profile"}, ".profile"),
    ],
)
def test_the_login_file_is_the_one_that_bash_reads(existing: set[str], login: str) -> None:
    startup = nothing({f"{HOME}/{name}" for name in existing})
    assert block_files(HOME, startup)[1] == f"{HOME}/{login}"


def test_zsh_and_fish_get_files_only_when_installed_or_configured() -> None:
    assert f"{HOME}/.zshrc" in block_files(HOME, nothing(shells={"zsh"}))
    for name in (".zshrc", ".zprofile"):
        assert block_files(HOME, nothing(existing={f"{HOME}/{name}"}))[2:] == [f"{HOME}/.zshrc", f"{HOME}/.zprofile"]
    elsewhere = ShellStartup(frozenset(), frozenset({"zsh"}), f"{HOME}/z", "")
    assert block_files(HOME, elsewhere)[2:] == [f"{HOME}/z/.zshrc", f"{HOME}/z/.zprofile"]
    path = f"{HOME}/.config/fish/conf.d/claude-local.fish"
    assert fish_path(nothing(shells={"fish"})) == path
    assert fish_path(nothing(existing={f"{HOME}/.config/fish"})) == path
