"""Use the Docker that is installed, or install it, and start its daemon, with systemd or without."""

from pyinfra.operations import server

from claude_local.deploy.operations import docker
from claude_local.deploy.workstation import workstation

ws = workstation()

docker.install(
    name="Install Docker",
    distro=ws.identity["distro"],
    codename=ws.identity["codename"],
    upstream=ws.settings.docker_upstream_repository,
    lock_timeout=ws.settings.packages_lock_timeout,
    **ws.root,
)

docker.start(name="Start the Docker daemon", **ws.root)

# Root-equivalent, so it is off by default. It takes effect at the user's next login.
if ws.settings.docker_group:
    server.group(name="Make the group docker", group="docker", system=True, **ws.root)
    server.user(
        name="Put the user into the group docker",
        user=ws.identity["user"],
        groups=["docker"],
        append=True,
        ensure_home=False,
        **ws.root,
    )
