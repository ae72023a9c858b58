"""Prepare the machine for the fence, and write down for claude-local which layers of it work here."""

from claude_local.deploy.operations import fence
from claude_local.deploy.workstation import workstation
from claude_local.fence.config import FenceConfig
from claude_local.paths import expand

ws = workstation()


def paths(setting: list[str]) -> tuple[str, ...]:
    """The setting's paths with ``~`` expanded."""
    return tuple(expand(path, ws.paths.home) for path in setting)


fence.prepare(
    name="Prepare the machine for the fence",
    lock_timeout=ws.settings.packages_lock_timeout,
    **ws.root,
)

fence.configure(
    name="Write down which fence works here and what it lets through",
    dest=ws.paths.fence_config,
    settings=FenceConfig(
        server_port=ws.settings.server_port,
        manager_port=ws.settings.manager_port,
        ports=tuple(dict.fromkeys([ws.settings.server_port, ws.settings.manager_port, *ws.settings.fence_ports])),
        domains=tuple(ws.settings.fence_domains),
        writable=paths(ws.settings.fence_writable),
        hidden=paths(ws.settings.fence_hidden),
        visible=paths(ws.settings.fence_visible),
        environment=tuple(ws.settings.fence_environment),
        sockets=tuple(ws.settings.fence_sockets),
        auto_allow=ws.settings.fence_auto_allow,
    ),
    root=ws.root,
)
