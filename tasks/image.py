"""Build the image: llama-server of the pinned llama.cpp build, compiled on this machine for this machine."""

from io import StringIO
from posixpath import join

from pyinfra import logger
from pyinfra.operations import files

from claude_local.deploy.operations import image
from claude_local.deploy.workstation import workstation

ws = workstation()

logger.info(f"Image variant {ws.variant.variant}: {ws.variant.reason}")
for missing in ws.variant.missing:
    logger.warning(f"{missing.what}\n    {missing.fix}")

image.base(
    name=f"Get the base image {ws.image.base.name} (about 30 MB)",
    image=ws.image,
    distro=ws.identity["distro"],
    codename=ws.identity["codename"],
    scratch=join(ws.paths.cache, "base-image"),
    lock_timeout=ws.settings.packages_lock_timeout,
    **ws.root,
)

image.source(
    name=f"Download llama.cpp {ws.image.build.name} (about 40 MB)",
    image=ws.image,
    paths=ws.paths,
    **ws.root,
)

files.put(
    name="Put the Dockerfile into the build context",
    src="files/image/Dockerfile",
    dest=join(ws.paths.image_context, "Dockerfile"),
    mode="644",
)

files.put(
    name="Put .dockerignore into the build context",
    src="files/image/dockerignore",
    dest=join(ws.paths.image_context, ".dockerignore"),
    mode="644",
)

files.put(
    name="Put our patches of llama.cpp into the build context",
    src=StringIO(ws.image_patches),
    dest=join(ws.paths.image_context, "llama.patch"),
    mode="644",
)

image.build(
    name=f"Build {ws.image.tag}",
    image=ws.image,
    paths=ws.paths,
    gpu_argv=ws.gpu_argv,
    **ws.root,
)
