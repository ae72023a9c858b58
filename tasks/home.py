"""Prepare ~/.claude-local, Claude Code's configuration directory for local sessions; ~/.claude is never touched."""

from pyinfra.operations import files

from claude_local.claude import json_merge, settings_json
from claude_local.deploy.operations.home import json_merged
from claude_local.deploy.operations.user_files import directory, whole_file
from claude_local.deploy.workstation import PROJECT, workstation

ws = workstation()

directory(name="Make the configuration directory", path=ws.paths.config_dir, mode="700")

json_merged(
    name="Merge our defaults into settings.json",
    dest=ws.paths.settings,
    ours=settings_json.user_settings(ws.settings.home_default_mode),
    applied=ws.paths.settings_applied,
    enforced=ws.settings.home_enforced_keys,
)

json_merged(
    name="Answer the first-run questions",
    dest=ws.paths.claude_json,
    ours=settings_json.FIRST_RUN,
    enforced=settings_json.FIRST_RUN_ENFORCED,
)

whole_file(
    name="Install the status line",
    dest=ws.paths.status_line,
    text=(PROJECT / "files" / "status-line").read_text(encoding="utf-8"),
    mode="755",
)

files.directory(
    name="Remove the shims of earlier deploys",
    path=f"{ws.paths.share}/shims",
    present=False,
)

whole_file(
    name="Write the settings that no project can undo",
    dest=ws.paths.enforced_settings,
    text=json_merge.dump(
        settings_json.enforced_settings([ws.settings.server_port, ws.settings.manager_port], ws.paths.status_line)
    ),
    mode="600",
)

whole_file(
    name="Write the environment of sandboxed commands",
    dest=ws.paths.bash_env,
    text=(PROJECT / "files" / "bash-env.sh").read_text(encoding="utf-8"),
    mode="600",
)
