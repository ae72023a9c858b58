"""Run the management API, which switches the model and shows what the server does."""

from claude_local.deploy.operations import manager
from claude_local.deploy.workstation import MANAGER_DOCKERFILE, workstation
from claude_local.manager.container import ManagerContainer, container_name
from claude_local.server import container

ws = workstation()
name = container_name(ws.settings.server_container)
uid, gid = container.owner(ws.identity["uid"], ws.identity["gid"])

manager.image(
    name=f"Build {ws.manager_image}",
    tag=ws.manager_image,
    dockerfile=MANAGER_DOCKERFILE.read_text(),
    base=ws.own_base.name,
    paths=ws.paths,
    **ws.root,
)

manager.run_container(
    name="Run the management API",
    container=ManagerContainer(
        name=name,
        image=ws.manager_image,
        port=ws.settings.manager_port,
        uid=uid,
        gid=gid,
        server=ws.settings.server_container,
        lib=ws.paths.lib,
        venv=ws.paths.venv,
        server_dir=ws.paths.server_dir,
        profiles_dir=ws.paths.manager_dir,
        log_dir=ws.paths.server_logs,
        state_dir=ws.paths.manager_state,
        sessions_dir=ws.paths.sessions,
    ),
    paths=ws.paths,
    **ws.root,
)
