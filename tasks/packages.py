"""Install what the fence, the wrapper and the runtime need from the distribution."""

from claude_local.deploy.operations import packages
from claude_local.deploy.workstation import workstation

ws = workstation()

packages.install(
    name="Install bubblewrap, socat and the small tools",
    packages={
        "bubblewrap": "bwrap",
        "socat": "socat",
        "curl": "curl",
        "jq": "jq",
        "ca-certificates": None,
        "strace": "strace",  # verify watches with it what a session connects to
        "python3-venv": None,  # the runtime's own venv
        "procps": "ps",
    },
    lock_timeout=ws.settings.packages_lock_timeout,
    **ws.root,
)
