"""Prepare ~/.claude-local, Claude Code's configuration directory for local sessions. ~/.claude is never touched."""

from pyinfra.operations import files

from claude_local.claude import json_merge, settings_json
from claude_local.deploy.operations import user_files
from claude_local.deploy.workstation import workstation

ws = workstation()

# A trailing slash follows a link: the directory may lie on another disk.
files.directory(name="Make the configuration directory", path=f"{ws.paths.config_dir}/", mode="700")

user_files.refuse_links_out(
    name="Check that no link leads out of the configuration directory",
    directory=ws.paths.config_dir,
    files=[ws.paths.enforced_settings, ws.paths.bash_env],
    linkable=[ws.paths.settings, ws.paths.claude_json],
    own=f"{ws.paths.home}/.claude",
)

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

files.put(name="Install the status line", src="files/status-line", dest=ws.paths.status_line, mode="755")

files.directory(name="Remove the shims of earlier deploys", path=f"{ws.paths.share}/shims", present=False)

user_files.put(
    name="Write the settings that no project can undo",
    dest=ws.paths.enforced_settings,
    text=json_merge.dump(
        settings_json.enforced_settings([ws.settings.server_port, ws.settings.manager_port], ws.paths.status_line)
    ),
    mode="600",
)

files.put(
    name="Write the environment of sandboxed commands", src="files/bash-env.sh", dest=ws.paths.bash_env, mode="600"
)
