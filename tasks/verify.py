"""Prove that this workstation works: one row a check, and a JSON report. Changes nothing."""

from claude_local.claude.settings_json import user_settings
from claude_local.deploy.operations import verify
from claude_local.deploy.workstation import workstation
from claude_local.verify.parameters import value_at

ws = workstation()
ours = user_settings(ws.settings.home_default_mode)

verify.run(
    name="Verify the workstation",
    parameters={
        "home": ws.paths.home,
        "model_dir": ws.paths.model_dir,
        "bin_dir": ws.paths.bin_dir,
        "server_port": ws.settings.server_port,
        "manager_port": ws.settings.manager_port,
        "container": ws.settings.server_container,
        "image": ws.image.tag,
        "build": ws.image.build.number,
        "profiles": ws.settings.model_profiles,
        "default": ws.settings.default_profile,
        "claude_tested": ws.settings.claude_version,
        "claude_minimum": ws.settings.claude_minimum_version,
        "enforced_settings": {path: value_at(ours, path) for path in ws.settings.home_enforced_keys},
    },
    python=ws.paths.python,
    changed=ws.settings.verify_changed,
    deep=ws.settings.verify_deep,
    only=ws.settings.verify_only,
    **ws.root,
)
