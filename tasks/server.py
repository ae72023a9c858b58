"""Run the server: llama-server in its container, the default profile loaded and answering."""

from pathlib import Path
from posixpath import join

from claude_local.checkout import describe
from claude_local.deploy.operations import image, server, user_files
from claude_local.deploy.workstation import PROJECT, workstation
from claude_local.manager.container import container_name
from claude_local.server import container
from claude_local.server.presets import idle_minutes

ws = workstation()
uid, gid = container.owner(ws.identity["uid"], ws.identity["gid"])

# The server's user must be able to read what is mounted for it.
user_files.directories(
    name="Make the server's directories",
    modes={ws.paths.server_dir: "755", ws.paths.chat_templates: "755", ws.paths.sessions: "755"},
)

server.directories(
    name="Make the directories that our containers may write to",
    paths=[ws.paths.server_logs, ws.paths.server_prompts, ws.paths.manager_state],
    uid=uid,
    gid=gid,
    **ws.root,
)

user_files.put_all(
    name="Put the chat templates",
    files={
        join(ws.paths.chat_templates, template.name): template.read_text(encoding="utf-8")
        for template in sorted(Path("files/chat-templates").glob("*.jinja"))
    },
    mode="644",
)

server.token(name="Make the API token", paths=ws.paths, uid=uid, gid=gid, chown=uid != ws.identity["uid"])

server.presets(
    name="Write the server's presets",
    profiles=ws.profiles,
    active=ws.settings.default_profile,
    paths=ws.paths,
    search_dirs=ws.search_dirs,
    variant=ws.variant.variant,
    cache_ram_mib=container.cache_ram_mib(ws.server_memory_mib),
    image=ws.image.tag,
    prompts_mib=ws.settings.server_prompts_mib,
    idle_minutes=idle_minutes(ws.settings.server_idle_unload, ws.variant.variant),
    models_at_once=ws.models_at_once,
    fits=ws.choice.fits,
    deployed={
        **describe(PROJECT),
        "checkout": str(PROJECT),
        "variant": ws.variant.variant,
        "image_variant": ws.settings.image_variant,
    },
)

server.network(
    name="Make the server's network",
    containers=[ws.settings.server_container, container_name(ws.settings.server_container)],
    **ws.root,
)

server.run_container(
    name="Run the server",
    container=container.Container(
        name=ws.settings.server_container,
        image=ws.image.tag,
        port=ws.settings.server_port,
        uid=uid,
        gid=gid,
        memory_mib=ws.server_memory_mib,
        pids=ws.settings.server_pids_limit,
        model_dir=ws.paths.model_dir,
        search_dirs=dict(enumerate(ws.search_dirs)),
        server_dir=ws.paths.server_dir,
        log_dir=ws.paths.server_logs,
        prompts_dir=ws.paths.server_prompts,
        models_at_once=ws.models_at_once,
        gpu=ws.gpu_argv,
        ui=ws.settings.server_ui,
    ),
    paths=ws.paths,
    **ws.root,
)

server.wait(
    name="Wait until the default profile answers",
    port=ws.settings.server_port,
    paths=ws.paths,
    container=ws.settings.server_container,
    timeout=ws.settings.server_start_timeout,
    **ws.root,
)

image.prune(
    name="Remove superseded images",
    image=ws.image,
    keep=ws.settings.image_keep_old,
    **ws.root,
)
