"""The settings that a session gets: the enforced ones are kept, and Claude Code's sandbox gets what the session
needs."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from claude_local.fence.claude_sandbox import ClaudeSandbox, session_settings

ENFORCED: dict[str, Any] = {
    "permissions": {"deny": ["Read(//secret)"], "disableBypassPermissionsMode": "disable"},
    "sandbox": {
        "enabled": True,
        "failIfUnavailable": True,
        "allowUnsandboxedCommands": False,
        "network": {"allowedDomains": ["127.0.0.1:8080"], "strictAllowlist": True},
    },
}


def settings(enforced: dict[str, Any] = ENFORCED, **sandbox: Any) -> dict[str, Any]:
    made: dict[str, Any] = session_settings(enforced, ClaudeSandbox(**sandbox))
    return made


def contains(weaker: object, stronger: object) -> bool:
    """Whether all that ``weaker`` says, ``stronger`` says too; lists may have become longer."""
    if isinstance(weaker, dict):
        return isinstance(stronger, dict) and all(
            key in stronger and contains(value, stronger[key]) for key, value in weaker.items()
        )
    if isinstance(weaker, list):
        return isinstance(stronger, list) and stronger[: len(weaker)] == weaker
    return weaker == stronger


SOME = st.lists(st.sampled_from(["/a", "/b c", "example.org", "127.0.0.1:9000"]), max_size=3)


@given(st.booleans(), SOME, SOME, SOME, SOME)
def test_the_enforced_settings_are_never_weakened(
    root: bool, writable: list[str], read_only: list[str], unreadable: list[str], allowed: list[str]
) -> None:
    before = json.dumps(ENFORCED)
    made = settings(
        weaker_nested=root, allow_write=writable, deny_write=read_only, deny_read=unreadable, allowed_domains=allowed
    )
    assert contains(ENFORCED, made)
    assert json.dumps(ENFORCED) == before, "the caller's settings are not changed"


def test_behind_the_outer_layer_only_additions_are_made() -> None:
    made = settings(allow_write=["/cache"], allowed_domains=["pypi.example"])
    assert made["sandbox"]["filesystem"] == {"allowWrite": ["/cache"]}
    assert made["sandbox"]["network"]["allowedDomains"] == ["127.0.0.1:8080", "pypi.example"]
    assert made["permissions"] == ENFORCED["permissions"]
    assert "enableWeakerNestedSandbox" not in made["sandbox"]
    assert "allowAllUnixSockets" not in made["sandbox"]["network"]


def test_a_disabled_sandbox_leaves_the_other_settings_as_they_are() -> None:
    made = settings(enabled=False)
    assert made == ENFORCED | {"sandbox": {"enabled": False}}


def test_without_the_outer_layer_paths_are_closed_to_commands_and_file_tools() -> None:
    made = settings(deny_read=["/h/.ssh"], deny_write=["/ws/.envrc"])
    assert made["sandbox"]["filesystem"] == {"denyWrite": ["/ws/.envrc"], "denyRead": ["/h/.ssh"]}
    deny = made["permissions"]["deny"]
    assert deny[0] == "Read(//secret)"
    assert {"Read(//h/.ssh)", "Read(//h/.ssh/**)", "Edit(//ws/.envrc)", "Edit(//ws/.envrc/**)"} <= set(deny)


def test_behind_the_outer_layer_the_sandbox_leaves_files_to_it() -> None:
    """Its own rules would put empty files into the workspace during each command, and lock git's configuration."""
    assert settings(files=False)["sandbox"]["filesystem"] == {"disabled": True}
    assert settings()["sandbox"]["filesystem"] == {}


def test_root_behind_the_outer_layer_gets_the_weaker_proc() -> None:
    assert settings(weaker_nested=True)["sandbox"]["enableWeakerNestedSandbox"] is True


def test_a_port_that_is_allowed_already_is_not_listed_twice() -> None:
    made = settings(allowed_domains=["127.0.0.1:8080", "127.0.0.1:9000"])
    assert made["sandbox"]["network"]["allowedDomains"] == ["127.0.0.1:8080", "127.0.0.1:9000"]


def test_enforced_settings_without_a_sandbox_get_one() -> None:
    made = settings({}, allowed_domains=["127.0.0.1:9000"])
    assert made["sandbox"]["network"] == {"allowedDomains": ["127.0.0.1:9000"]}


def test_our_proxy_is_named_for_http_and_socks() -> None:
    assert settings({}, proxy_port=61128)["sandbox"]["network"] == {"httpProxyPort": 61128, "socksProxyPort": 61128}


def test_unix_sockets_are_open_to_commands_when_the_user_asks() -> None:
    assert settings(all_unix_sockets=True)["sandbox"]["network"]["allowAllUnixSockets"] is True
