"""The settings that the deploy gives Claude Code."""

from __future__ import annotations

from claude_local.claude.json_merge import merge
from claude_local.claude.settings_json import enforced_settings, user_settings


def test_the_enforced_settings_allow_only_the_two_ports() -> None:
    sandbox = enforced_settings([8080, 8081])["sandbox"]
    assert sandbox["enabled"] and sandbox["failIfUnavailable"] and not sandbox["allowUnsandboxedCommands"]
    assert sandbox["network"]["strictAllowlist"] is True
    assert set(sandbox["network"]["allowedDomains"]) == {
        f"{host}:{port}" for host in ("127.0.0.1", "localhost") for port in (8080, 8081)
    }


def test_the_enforced_settings_keep_the_token_from_commands_and_name_the_status_line() -> None:
    settings = enforced_settings([8080], "/home/a user/share/status-line", ["/a b/python", "switch_command.py"])
    assert settings["sandbox"]["credentials"] == {"envVars": [{"name": "ANTHROPIC_AUTH_TOKEN", "mode": "deny"}]}
    assert settings["statusLine"]["command"] == "'/home/a user/share/status-line'"
    assert settings["statusLine"]["refreshInterval"] <= 5, "it shows how a prompt is read"
    (switch,) = settings["hooks"]["UserPromptExpansion"]
    assert switch["matcher"] == "switch" and switch["hooks"][0]["command"] == "'/a b/python' switch_command.py"
    assert settings["hooks"]["PreModelSwitch"] == [{"hooks": switch["hooks"]}]
    assert not {"statusLine", "hooks"} & enforced_settings([8080]).keys()


def test_no_rule_breaks_claude_doctor_or_the_sandbox() -> None:
    rules = enforced_settings([8080])["permissions"]["deny"]
    assert rules and not [rule for rule in rules if "*" in rule or rule.startswith("Read")]


def test_a_shell_command_of_the_user_costs_no_answer_unless_the_user_wants_one() -> None:
    ours = user_settings("plan")
    assert ours["respondToBashCommands"] is False
    mine = ours | {"respondToBashCommands": True}
    assert merge(ours, ours, mine)["respondToBashCommands"] is True
