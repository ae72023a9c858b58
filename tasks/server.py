"""The server: llama-server in its container, the default profile loaded and answering."""

from posixpath import join

from pyinfra import host

from claude_local.deploy.facts.server import MachineMemory
from claude_local.deploy.operations import image, server
from claude_local.deploy.operations.user_files import directory, whole_file
from claude_local.deploy.workstation import PROJECT, workstation
from claude_local.paths import expand
from claude_local.server import container

ws = workstation()
root = bool(ws.root)
uid, gid = container.owner(ws.identity["uid"], ws.identity["gid"])
memory_mib = container.memory_limit_mib(ws.settings.server_memory_mib, host.get_fact(MachineMemory))
search_dirs = [expand(path, ws.paths.home) for path in ws.settings.model_search_dirs]

# Whoever the server runs as must be able to read what is mounted for it.
directory(name="Make the server's directory", path=ws.paths.server_dir, mode="755")
directory(name="Make the chat templates' directory", path=ws.paths.chat_templates, mode="755")

for template in sorted((PROJECT / "files" / "chat-templates").glob("*.jinja")):
    whole_file(
        name=f"Put the chat template {template.stem}",
        dest=join(ws.paths.chat_templates, template.name),
        text=template.read_text(),
        mode="644",
    )

server.keyed(name="Make the API token", paths=ws.paths, uid=uid, gid=gid, chown=uid != ws.identity["uid"])

server.configured(
    name="Write the server's presets",
    profiles=ws.profiles,
    active=ws.settings.default_profile,
    paths=ws.paths,
    search_dirs=search_dirs,
    variant=image.verdict(ws).variant,
    cache_ram_mib=container.cache_ram_mib(memory_mib),
)

server.running(
    name="Run the server",
    container=container.Container(
        name=ws.settings.server_container,
        image=image.planned(ws).tag,
        port=ws.settings.server_port,
        uid=uid,
        gid=gid,
        memory_mib=memory_mib,
        pids=ws.settings.server_pids_limit,
        model_dir=ws.paths.model_dir,
        search_dirs=dict(enumerate(search_dirs)),
        server_dir=ws.paths.server_dir,
        gpu=image.gpu_words(ws),
    ),
    paths=ws.paths,
    root=root,
)

server.answering(
    name="Wait until the default profile answers",
    port=ws.settings.server_port,
    paths=ws.paths,
    container=ws.settings.server_container,
    timeout=ws.settings.server_start_timeout,
    root=root,
)

image.pruned(
    name="Remove superseded images",
    image=image.planned(ws),
    keep=ws.settings.image_keep_old,
    root=root,
)
