"""Build the image: llama-server of the pinned llama.cpp build, compiled on this machine for this machine."""

from pathlib import Path
from posixpath import join

from pyinfra import logger
from pyinfra.operations import files

from claude_local.deploy.operations import image, user_files
from claude_local.deploy.workstation import WEB_UI, workstation

ws = workstation()

logger.info(f"Image variant {ws.variant.variant}: {ws.variant.reason}")
for missing in ws.variant.missing:
    logger.warning(f"{missing.what}\n    {missing.fix}")

image.base(
    name=f"Get the base image {ws.own_base.name} (about 30 MB)",
    bases=[ws.own_base],
    needed_by=[ws.image.tag, ws.manager_image],
    distro=ws.identity["distro"],
    codename=ws.identity["codename"],
    scratch=join(ws.paths.cache, "base-image"),
    lock_timeout=ws.settings.packages_lock_timeout,
    **ws.root,
)

if ws.image.bases != (ws.own_base,):
    image.base(
        name=f"Get {', '.join(each.pull for each in ws.image.bases)} ({'5 GB' if ws.variant.cuda else '30 MB'})",
        bases=ws.image.bases,
        needed_by=[ws.image.tag],
        distro=ws.identity["distro"],
        codename=ws.identity["codename"],
        scratch=join(ws.paths.cache, "base-image"),
        lock_timeout=ws.settings.packages_lock_timeout,
        variant=ws.variant.variant,
        packages_follow=ws.image.from_packages is not None,
        **ws.root,
    )

if ws.image.from_packages is not None:
    image.cuda_packages(
        name=(
            "Get NVIDIA's CUDA packages if no registry has the compiler (526 MB)"
            if ws.image.from_packages.needs_wheels
            else "Get a base image for Debian's CUDA packages (2 GB) if no registry has the compiler"
        ),
        image=ws.image,
        paths=ws.paths,
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

user_files.put_all(
    name="Put the Dockerfile and our patches of llama.cpp into the build context",
    files={
        join(ws.paths.image_context, "Dockerfile"): Path("files/image/Dockerfile").read_text(encoding="utf-8"),
        join(ws.paths.image_context, ".dockerignore"): Path("files/image/dockerignore").read_text(encoding="utf-8"),
        join(ws.paths.image_context, "llama.patch"): ws.image_patches,
    },
    mode="644",
    _if=lambda: image.missing(ws.image, **ws.root),
)

files.put(
    name="Put the server's web page into the build context",
    src=str(WEB_UI),
    dest=join(ws.paths.image_context, WEB_UI.name),
    mode="644",
    _if=lambda: image.missing(ws.image, **ws.root),
)

image.build(
    name=f"Build {ws.image.tag}",
    image=ws.image,
    paths=ws.paths,
    gpu_argv=ws.gpu_argv,
    **ws.root,
)
