"""The image: llama-server of the pinned llama.cpp build, compiled on this machine for this machine."""

from pyinfra import logger

from claude_local.deploy.operations import image
from claude_local.deploy.workstation import workstation

ws = workstation()
planned = image.planned(ws)
verdict = image.verdict(ws)
root = bool(ws.root)

logger.info(f"Image variant {verdict.variant}: {verdict.reason}")
for missing in verdict.missing:
    logger.warning(f"{missing.what}\n    {missing.fix}")

image.based(
    name=f"Get the base image {planned.base.name}",
    **image.base_wanted(ws, planned),
)

image.sourced(name=f"Fetch llama.cpp {planned.build.name}", image=planned, paths=ws.paths, root=root)

image.built(
    name=f"Build {planned.tag}",
    image=planned,
    dockerfile=image.DOCKERFILE,
    paths=ws.paths,
    root=root,
    gpu=image.gpu_words(ws),
)
