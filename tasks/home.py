"""Prepare ~/.claude-local, Claude Code's configuration directory for local sessions. ~/.claude is never touched."""

from posixpath import dirname, join

from claude_local.claude import json_merge, settings_json
from claude_local.deploy.operations import user_files
from claude_local.deploy.workstation import PROJECT, workstation

ws = workstation()

user_files.directories(
    name="Make the configuration directory",
    modes={ws.paths.config_dir: "700"},
)

user_files.refuse_links_out(
    name="Check that no link leads out of the configuration directory",
    directory=ws.paths.config_dir,
    files=[ws.paths.enforced_settings, ws.paths.bash_env, dirname(ws.paths.switch_command), ws.paths.switch_command],
    linkable=[ws.paths.settings, ws.paths.claude_json],
    own=f"{ws.paths.home}/.claude",
)

# After the check: a session may have put a link in its place.
user_files.directories(name="Make the directory of commands", modes={dirname(ws.paths.switch_command): "700"})

user_files.merge_json(
    name="Merge our defaults into settings.json",
    dest=ws.paths.settings,
    ours=settings_json.user_settings(ws.settings.home_default_mode),
    applied=ws.paths.settings_applied,
    enforced=ws.settings.home_enforced_keys,
    inside=ws.paths.config_dir,
)

user_files.merge_json(
    name="Answer the first-run questions",
    dest=ws.paths.claude_json,
    ours=settings_json.FIRST_RUN,
    enforced=settings_json.FIRST_RUN_ENFORCED,
    inside=ws.paths.config_dir,
)

user_files.put_all(
    name="Write the settings that no project can undo, the environment of sandboxed commands, and /switch",
    files={
        ws.paths.enforced_settings: json_merge.dump(
            settings_json.enforced_settings(
                [ws.settings.server_port, ws.settings.manager_port],
                ws.paths.status_line,
                [ws.paths.python, "-I", "-S", join(ws.paths.lib, "claude_local", "claude", "switch_command.py")],
            )
        ),
        ws.paths.switch_command: (PROJECT / "files" / "switch.md").read_text(encoding="utf-8"),
        ws.paths.bash_env: (PROJECT / "files" / "bash-env.sh").read_text(encoding="utf-8"),
    },
    mode="600",
)
