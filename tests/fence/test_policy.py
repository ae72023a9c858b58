"""The lists of what the fence masks and guards."""

from __future__ import annotations

from claude_local.fence import policy


def test_the_best_known_secrets_and_settings_are_listed() -> None:
    wanted = {".ssh", ".gnupg", ".aws", ".config/gh", ".docker", ".kube", ".bash_history", ".mozilla", ".claude.json"}
    assert wanted <= set(policy.MASKED_IN_HOME)
    assert {".claude", ".mcp.json", ".vscode", ".idea", ".envrc", ".bashrc", ".profile"} <= policy.GUARDED
    assert {".cursor", ".zed", ".devcontainer"} <= policy.GUARDED
    assert {"hooks", "config", "config.worktree"} <= set(policy.GIT_GUARDED)
    assert {"/tmp", "/run", "/var/tmp"} == set(policy.TMPFS)


def test_the_lists_are_relative_or_absolute_as_their_readers_expect() -> None:
    relative = [
        *policy.MASKED_IN_HOME,
        *policy.STUB_DIRECTORIES,
        *policy.FORBIDDEN_FILES,
        *policy.GIT_GUARDED,
        *policy.GUARDED,
    ]
    assert not [name for name in relative if name.startswith(("/", "~")) or name.endswith("/") or ".." in name]
    assert all(path.startswith("/") for path in (*policy.MASKED_IN_SYSTEM, *policy.TMPFS, *policy.SYSTEM_DIRECTORIES))
    assert set(policy.STUB_DIRECTORIES) | set(policy.FORBIDDEN_FILES) <= policy.GUARDED
    assert len(set(policy.MASKED_IN_HOME)) == len(policy.MASKED_IN_HOME)


def test_variables_move_secrets() -> None:
    env = {
        "GNUPGHOME": "/keys",
        "KUBECONFIG": "/a/one:relative::/b/two",
        "CARGO_HOME": "/cargo",
        "XDG_CONFIG_HOME": "/xdg",
    }
    found = policy.moved(env)
    assert {"/keys", "/a/one", "/b/two", "/cargo/credentials", "/cargo/credentials.toml", "/xdg/gh"} <= set(found)
    assert all(path.startswith("/") for path in found) and not {"/cargo", "/xdg", "/xdg/.config/gh"} & set(found)
    assert policy.moved({"HOME": "/home/a", "XDG_DATA_HOME": "data", "HISTFILE": ""}) == []
