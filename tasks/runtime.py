"""Install the programs that run on the workstation (they place models, verify ...), and their Python environment."""

from pyinfra.operations import files

from claude_local.deploy.operations import runtime
from claude_local.deploy.workstation import PROJECT, workstation

ws = workstation()

# A trailing slash follows a link: the directories may lie on another disk.
files.directory(name="Make the runtime's directory", path=f"{ws.paths.share}/", mode="700")
files.directory(name="Make the state directory", path=f"{ws.paths.state}/")
files.directory(name="Make the cache directory", path=f"{ws.paths.cache}/")

runtime.copy(name="Copy the runtime", package=PROJECT / "claude_local", paths=ws.paths)

runtime.venv(
    name="Make the runtime's Python environment",
    lock=PROJECT / "requirements-runtime.lock",
    paths=ws.paths,
)
