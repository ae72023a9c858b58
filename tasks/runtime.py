"""Copy the programs that run on the workstation (placing models, verifying ...) and their Python environment."""

from claude_local.deploy.operations.runtime import copied, environment
from claude_local.deploy.workstation import PROJECT, workstation

ws = workstation()

copied(name="Copy the runtime", package=PROJECT / "claude_local", paths=ws.paths)

environment(
    name="Make the runtime's Python environment",
    lock=PROJECT / "requirements-runtime.lock",
    paths=ws.paths,
)
