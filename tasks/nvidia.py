"""NVIDIA GPUs in containers: the container toolkit, Docker's runtime for it, and a try. Nothing on other machines.

The driver is a precondition: without one, tasks/image.py says what is missing and takes another variant.
"""

from claude_local.deploy.operations import image, nvidia
from claude_local.deploy.workstation import workstation

ws = workstation()
verdict = image.verdict(ws)
root = bool(ws.root)

if verdict.variant == "cuda":
    planned = image.planned(ws)

    nvidia.installed(
        name="Install NVIDIA's container toolkit",
        machine=ws.identity["arch"],
        lock_timeout=ws.settings.packages_lock_timeout,
        root=root,
    )

    nvidia.configured(name="Tell Docker of NVIDIA's runtime", root=root)

    image.based(
        name="Get the images for CUDA",
        **image.base_wanted(ws, planned),
    )

    nvidia.seen(
        name="Check that containers see the GPUs",
        images=[planned.base.name, planned.tag],
        words=image.gpu_words(ws),
        expected=len(verdict.gpus),
        root=root,
    )
