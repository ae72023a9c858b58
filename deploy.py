"""Turn a workstation into one with a working `claude-local`: pyinfra @local deploy.py"""

from pyinfra import local, state

from claude_local.deploy import summary
from claude_local.deploy.workstation import workstation

ws = workstation()

summary.at_the_end(state, closing=ws.closing_lines())

for stage in (
    "preflight",
    "packages",
    "runtime",
    "fence",
    "docker",
    "nvidia",
    "image",
    "models",
    "server",
    "manager",
    "claude",
    "home",
    "commands",
):
    local.include(f"tasks/{stage}.py")
