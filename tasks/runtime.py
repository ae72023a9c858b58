"""Install the programs that run on the workstation (they place models, verify ...), and their Python environment."""

from claude_local.deploy.operations import runtime, user_files
from claude_local.deploy.workstation import PROJECT, workstation

ws = workstation()

user_files.directories(
    name="Make the directories of the runtime, its state and its downloads",
    modes={ws.paths.share: "700", ws.paths.state: "755", ws.paths.cache: "755"},
)

runtime.copy(name="Copy the runtime", package=PROJECT / "claude_local", paths=ws.paths)

runtime.venv(
    name="Make the runtime's Python environment",
    lock=PROJECT / "requirements-runtime.lock",
    paths=ws.paths,
)
