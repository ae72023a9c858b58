"""Look before anything is changed: distribution, architecture, sudo, ports, disk. One line a problem."""

import sys
from posixpath import join

from pyinfra import host
from pyinfra.api import DeployError

from claude_local import preflight
from claude_local.distribution import Distribution
from claude_local.facts.preflight import PreflightFindings
from claude_local.operations.image import verdict
from claude_local.paths import expand
from claude_local.workstation import workstation

ws = workstation()

models = {file: size for name in ws.settings.model_profiles for file, size in ws.profiles[name].sizes.items()}
model_dirs = [ws.paths.model_dir, *(expand(path, ws.paths.home) for path in ws.settings.model_search_dirs)]
look = {
    "container": ws.settings.server_container,
    "runtime": ws.paths.verify_report,
    "files": [join(directory, name) for directory in model_dirs for name in models],
}
docker_dir = "/var/lib/docker"
seen = host.get_fact(PreflightFindings, **look, paths=[ws.paths.home, docker_dir, ws.paths.model_dir])

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
    terminal=sys.stdin.isatty(),
    listening=frozenset(seen["listen"]),
    ours=frozenset(seen["ours"]),
    mounts={path: preflight.Mount(*mount) for path, mount in seen["mount"].items()},
    present={
        name: max((seen["file"].get(join(directory, name), 0) for directory in model_dirs), default=0)
        for name in models
    },
    image_built=seen["image"],
    runtime_there=seen["runtime"],
    docker_snap=seen["snap"],
)
problems = preflight.problems(
    findings,
    ports=[("server_port", ws.settings.server_port), ("manager_port", ws.settings.manager_port)],
    needs=preflight.disk_needs(
        findings, ws.paths.home, docker_dir, ws.paths.model_dir, models, variant=verdict(ws).variant
    ),
    image_base=ws.settings.image_base,
    image_cpu=ws.settings.image_cpu,
)
if problems:
    raise DeployError("this machine is not ready, nothing has been changed:\n" + "\n".join(f"  {p}" for p in problems))
