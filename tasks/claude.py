"""Use the Claude Code that is installed, or install the tested version for the user."""

from claude_local.deploy.operations import claude, packages
from claude_local.deploy.workstation import workstation

ws = workstation()
arch = ws.identity["arch"]
versions = {
    "tested": ws.settings.claude_version,
    "minimum": ws.settings.claude_minimum_version,
    "paths": ws.paths,
}

claude.check(arch=arch, **versions)

claude.install(name="Install Claude Code from its release server (380 MB)", source="native", arch=arch, **versions)

# Only where the release server does not answer and npm is missing.
packages.install(
    name="Install npm, Claude Code's second source",
    packages={"npm": "npm"},
    lock_timeout=ws.settings.packages_lock_timeout,
    _if=lambda: claude.needs_npm(**versions),
    **ws.root,
)

claude.install(name="Install Claude Code with npm where that failed (175 MB)", source="npm", arch=arch, **versions)

claude.choose(name="Choose the Claude Code that claude-local runs", **versions)
