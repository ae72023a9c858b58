"""Use the Claude Code that is there, or install the tested version for the user."""

from claude_local.deploy.operations import claude
from claude_local.deploy.operations.packages import installed
from claude_local.deploy.workstation import workstation

ws = workstation()

wanted = {
    "tested": ws.settings.claude_version,
    "minimum": ws.settings.claude_minimum_version,
    "paths": ws.paths,
}

claude.check(arch=ws.identity["arch"], **wanted)

claude.fetched(
    name="Fetch Claude Code from its release server",
    source="native",
    arch=ws.identity["arch"],
    **wanted,
)

# Only where the release server did not answer, and nothing else brought npm along.
installed(
    name="Install npm, Claude Code's second source",
    packages={"npm": "npm"},
    lock_timeout=ws.settings.packages_lock_timeout,
    root=bool(ws.root),
    _if=lambda: claude.needs_npm(**wanted),
)

claude.fetched(
    name="Fetch Claude Code with npm",
    source="npm",
    arch=ws.identity["arch"],
    **wanted,
)

claude.chosen(name="Choose the Claude Code that claude-local runs", **wanted)
