"""What a session does not see of a home directory."""

from __future__ import annotations

import pytest

from claude_local.fence import policy
from claude_local.fence.credentials import secret_settings
from tests.fence.world import World, write


def test_secrets_in_the_home_directory_are_masked(world: World) -> None:
    write(world.home / ".ssh" / "id_rsa")
    write(world.home / ".bash_history")
    fence = world.hide()
    assert str(world.home / ".ssh") in fence.masked_directories
    assert str(world.home / ".bash_history") in fence.masked_files
    assert str(world.home / ".aws") not in [*fence.masked_directories, *fence.masked_files], (
        "what is not there costs nothing"
    )


def test_a_secret_behind_a_symlink_is_masked_at_its_target(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "TMPFS", ())  # this test's directory lies in one of them
    write(world.base / "elsewhere" / "key")
    write(world.base / "netrc")
    (world.home / ".ssh").symlink_to(world.base / "elsewhere")
    (world.home / ".netrc").symlink_to("../netrc")
    fence = world.hide()
    assert str(world.base / "elsewhere") in fence.masked_directories and str(world.base / "netrc") in fence.masked_files


def test_a_symlink_to_the_home_directory_does_not_mask_it(world: World) -> None:
    (world.home / ".ssh").symlink_to(world.home)
    (world.home / ".aws").symlink_to("/")
    assert not {str(world.home), "/"} & set(world.hide().masked_directories)


def test_a_broken_symlink_is_ignored(world: World) -> None:
    (world.home / ".ssh").symlink_to("nowhere")
    (world.home / ".aws").symlink_to(".aws")
    assert str(world.home / "nowhere") not in world.hide().masked_directories


def test_paths_in_fence_visible_stay_visible(world: World) -> None:
    write(world.home / ".docker" / "config.json")
    write(world.home / ".kube" / "config")
    write(world.home / ".kube" / "secret")
    fence = world.hide(visible=[str(world.home / ".docker"), str(world.home / ".kube" / "config")])
    assert str(world.home / ".docker") not in fence.masked_directories
    assert str(world.home / ".kube") in fence.masked_directories
    assert str(world.home / ".kube" / "config") in fence.unmasked


def test_paths_in_fence_hidden_are_masked(world: World) -> None:
    write(world.home / "papers" / "tax")
    assert str(world.home / "papers") in world.hide(hidden=[str(world.home / "papers")]).masked_directories


def test_a_directory_that_holds_claude_code_is_not_masked(world: World) -> None:
    program = write(world.home / "snap" / "claude")
    world.places.programs.append(str(program))
    assert str(world.home / "snap") not in world.hide().masked_directories


def test_the_other_claude_directory_is_empty_except_for_its_ide_files(world: World) -> None:
    (world.home / ".claude" / "ide").mkdir(parents=True)
    fence = world.hide()
    assert str(world.home / ".claude") in fence.private_tmpfs
    assert str(world.home / ".claude" / "ide") in fence.unmasked


def test_the_other_claude_directory_stays_when_it_is_the_sessions_own(world: World) -> None:
    (world.home / ".claude").symlink_to(world.config_dir)
    assert world.hide().private_tmpfs == []


# --- settings that look like secrets ----------------------------------------------------------------------------------

FILES = {
    "tool/settings.yml": "user: me\noauth_token: abcdefgh1234\n",
    "tool/config.toml": 'test_mode_api_key = "abcdefgh1234"\n',
    "tool/state.json": '{"user": {"auth": {"token": "abcdefgh1234"}}}',
    "tool/deep/rc": "set imap_pass = 'correct-horse'\n",
    "tool/url": "proxy = http://me:secret@proxy:3128\n",
    "tool/plain": "glpat-abcdefghij0123456789\n",
    "tool/id": "-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl\n",
    "tool/auth.json": "{}",
    "tool/client.pem": "x",
    "secrets": "x",
}
HARMLESS = {
    "tool/theme.conf": "colour = blue\nkeymap = emacs-standard\ncompass = north-by-northwest\n",
    "tool/editor.json": '{"editor.semanticTokenColorCustomizations": {"enabled": true}, "keyboard": "keyCode1"}',
    "tool/paths.ini": "token_file = /home/me/.token\npassword = $PASSWORD\ntoken: true\n",
    "tool/text": "The password is asked for. Tokens are counted: many.\n",
    "git/config": "[user]\n\tname = Me\n[sendemail]\n\tsmtpPass = correct-horse\n",
    "a/b/c/d": "token = abcdefgh1234\n",
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_settings_that_looks_like_a_secret_is_hidden(world: World, name: str) -> None:
    path = write(world.home / ".config" / name, FILES[name])
    assert secret_settings(str(world.home), {}, []) == [str(path)]


@pytest.mark.parametrize("name", HARMLESS)
def test_other_settings_stay_visible(world: World, name: str) -> None:
    """What lies deeper than two directories does, too."""
    write(world.home / ".config" / name, HARMLESS[name])
    assert secret_settings(str(world.home), {}, []) == []


def test_secrets_are_found_behind_links_and_where_variables_move_them(world: World) -> None:
    write(world.home / "dotfiles" / "tool" / "config", "token = abcdefgh1234\n")
    (world.home / ".config").mkdir()
    (world.home / ".config" / "tool").symlink_to("../dotfiles/tool")
    assert secret_settings(str(world.home), {}, []) == [str(world.home / ".config/tool/config")]
    env = {"XDG_CONFIG_HOME": str(world.home / "dotfiles")}
    assert secret_settings(str(world.home), env, []) == [str(world.home / "dotfiles/tool/config")]


def test_a_workspace_in_the_settings_keeps_its_files(world: World) -> None:
    write(world.home / ".config" / "tool" / "config", "token = abcdefgh1234\n")
    assert secret_settings(str(world.home), {}, [str(world.home / ".config" / "tool")]) == []


def test_a_loop_and_many_files_end_the_search(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "SETTINGS_LIMIT", 5)
    for number in range(9):
        write(world.home / ".config" / "tool" / f"{number}.key")
    (world.home / ".config" / "tool" / "loop").symlink_to("..")
    assert len(secret_settings(str(world.home), {}, [])) == 5


@pytest.mark.parametrize(
    "name",
    [
        ".config/stripe/config.toml", ".netlify/x", ".config/com.vercel.cli/x", ".wrangler/config/default.toml",
        ".supabase/access-token", ".config/io.datasette.llm/keys.json", ".config/borg/keys/x", ".muttrc",
        ".subversion/auth/svn.simple/x",
    ],
)  # fmt: skip
def test_these_programs_secrets_are_masked(world: World, name: str) -> None:
    path = str(write(world.home / name))
    fence = world.hide()
    assert any(path == each or path.startswith(f"{each}/") for each in [*fence.masked_directories, *fence.masked_files])
