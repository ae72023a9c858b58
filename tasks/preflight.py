"""Look before anything is changed: distribution, architecture, sudo, ports, disk. One line a problem."""

from posixpath import join

from pyinfra.api import DeployError

from claude_local.deploy import preflight
from claude_local.deploy.operations.image import verdict
from claude_local.deploy.operations.preflight import looked, password_at_hand
from claude_local.deploy.workstation import workstation
from claude_local.hardware.distribution import Distribution
from claude_local.image import plan as image
from claude_local.paths import expand

ws = workstation()

models = {file: size for name in ws.settings.model_profiles for file, size in ws.profiles[name].sizes.items()}
model_dirs = [ws.paths.model_dir, *(expand(path, ws.paths.home) for path in ws.settings.model_search_dirs)]
look = {
    "container": ws.settings.server_container,
    "runtime": ws.paths.verify_report,
    "files": [join(directory, name) for directory in model_dirs for name in models],
}
docker_dir = "/var/lib/docker"
places = [ws.paths.home, docker_dir, ws.paths.model_dir]
seen = looked(ws.identity["uid"], ws.identity["sudo"], **look, paths=places)
fits = verdict(ws)
kind = image.kind(fits.variant, ws.settings.image_cpu, fits.cuda)

findings = preflight.Findings(
    distribution=Distribution(
        ws.identity["distro"],
        ws.identity["release"],
        ws.identity["codename"],
        ws.identity["system"],
        ws.identity["derived"],
    ),
    userland=ws.identity["userland"],
    arch=ws.identity["arch"],
    apt=seen["apt"],
    uid=ws.identity["uid"],
    sudo=ws.identity["sudo"],
    root_without_password=seen["root"],
    terminal=password_at_hand(),
    listening=frozenset(seen["listen"]),
    ours=frozenset(seen["ours"]),
    mounts={path: preflight.Mount(*mount) for path, mount in seen["mount"].items()},
    present={
        name: max((seen["file"].get(join(directory, name), 0) for directory in model_dirs), default=0)
        for name in models
    },
    image_built=any(image.is_kind(tag, kind) for tag in seen["image"]),
    runtime_there=seen["runtime"],
    docker_snap=seen["snap"],
)
problems = preflight.problems(
    findings,
    ports=[("server_port", ws.settings.server_port), ("manager_port", ws.settings.manager_port)],
    needs=preflight.disk_needs(findings, ws.paths.home, docker_dir, ws.paths.model_dir, models, variant=fits.variant),
    image_base=ws.settings.image_base,
    # A GPU's image does not look at it.
    image_cpu=ws.settings.image_cpu if fits.variant == "cpu" else "native",
)
if problems:
    raise DeployError("this machine is not ready, nothing has been changed:\n" + "\n".join(f"  {p}" for p in problems))
