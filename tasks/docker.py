"""Docker: used if it is there, else installed; its daemon answers afterwards, with systemd or without."""

from claude_local.deploy.operations import docker
from claude_local.deploy.workstation import workstation

ws = workstation()

docker.installed(
    name="Install Docker",
    distro=ws.identity["distro"],
    codename=ws.identity["codename"],
    upstream=ws.settings.docker_upstream_repository,
    lock_timeout=ws.settings.packages_lock_timeout,
    root=bool(ws.root),
    **ws.root,
)

docker.running(name="Start the Docker daemon", root=bool(ws.root), **ws.root)

if ws.settings.docker_group:
    docker.member(name="Put the user into the docker group", user=ws.identity["user"], **ws.root)
