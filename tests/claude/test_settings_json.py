"""The settings that Claude Code gets: what is enforced, and what may be reached."""

from __future__ import annotations

from claude_local.claude.settings_json import enforced_settings


def test_the_enforced_settings_open_the_two_ports_and_nothing_else() -> None:
    sandbox = enforced_settings([8080, 8081])["sandbox"]
    assert sandbox["enabled"] and sandbox["failIfUnavailable"] and not sandbox["allowUnsandboxedCommands"]
    assert sandbox["network"]["strictAllowlist"] is True
    assert set(sandbox["network"]["allowedDomains"]) == {
        f"{host}:{port}" for host in ("127.0.0.1", "localhost") for port in (8080, 8081)
    }


def test_the_enforced_settings_keep_the_token_from_commands_and_name_the_status_line() -> None:
    settings = enforced_settings([8080], "/home/a user/share/status-line")
    assert settings["sandbox"]["credentials"] == {"envVars": [{"name": "ANTHROPIC_AUTH_TOKEN", "mode": "deny"}]}
    assert settings["statusLine"] == {"type": "command", "command": "'/home/a user/share/status-line'"}
    assert "statusLine" not in enforced_settings([8080])


def test_no_rule_makes_claude_doctor_complain_or_the_sandbox_fail() -> None:
    rules = enforced_settings([8080])["permissions"]["deny"]
    assert rules and not [rule for rule in rules if "*" in rule or rule.startswith("Read")]
