"""Give containers the NVIDIA GPUs: install the container toolkit, register its runtime with Docker, try it.

Nothing on other machines. The driver is a precondition: without it, tasks/image.py says what is missing and takes
another variant.
"""

from posixpath import join

from claude_local.deploy.operations import image, nvidia
from claude_local.deploy.workstation import workstation

ws = workstation()

if ws.variant.variant == "cuda":
    nvidia.install_toolkit(
        name="Install NVIDIA's container toolkit",
        machine=ws.identity["arch"],
        lock_timeout=ws.settings.packages_lock_timeout,
        **ws.root,
    )

    nvidia.register_runtime(name="Register NVIDIA's runtime with Docker", **ws.root)

    image.base(
        name=f"Get the base image {ws.own_base.name} to test the GPUs with (about 30 MB)",
        bases=[ws.own_base],
        needed_by=[ws.image.tag, ws.manager_image],
        distro=ws.identity["distro"],
        codename=ws.identity["codename"],
        scratch=join(ws.paths.cache, "base-image"),
        lock_timeout=ws.settings.packages_lock_timeout,
        **ws.root,
    )

    nvidia.check_gpus(
        name="Check that containers see the GPUs",
        images=[ws.own_base.name, ws.image.tag],
        gpu_argv=ws.gpu_argv,
        expected=len(ws.variant.gpus),
        **ws.root,
    )
