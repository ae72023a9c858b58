"""Find out what fence works on this machine, help where that is possible, and write it down for claude-local."""

from claude_local.deploy.operations.fence import configured, fitted
from claude_local.deploy.workstation import workstation
from claude_local.fence.config import FenceConfig
from claude_local.paths import expand

ws = workstation()
home = ws.paths.home

fitted(
    name="Make the machine fit for the fence",
    lock_timeout=ws.settings.packages_lock_timeout,
    root=bool(ws.root),
    **ws.root,
)

configured(
    name="Write down which fence works here and what it lets through",
    dest=ws.paths.fence_config,
    wanted=FenceConfig(
        ports=tuple(dict.fromkeys([ws.settings.server_port, ws.settings.manager_port, *ws.settings.fence_ports])),
        domains=tuple(ws.settings.fence_domains),
        writable=tuple(expand(path, home) for path in ws.settings.fence_writable),
        hidden=tuple(expand(path, home) for path in ws.settings.fence_hidden),
        visible=tuple(expand(path, home) for path in ws.settings.fence_visible),
        environment=tuple(ws.settings.fence_environment),
        sockets=tuple(ws.settings.fence_sockets),
    ),
    root=bool(ws.root),
)
