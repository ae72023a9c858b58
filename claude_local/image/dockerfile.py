"""The stages of files/image/Dockerfile, and the instructions that one image is built from. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from string import Template

# The stage to build for each variant. The CPU's is the last stage of the file, which needs no --target.
TARGETS = {"cpu": "runtime", "cuda": "runtime-cuda", "vulkan": "runtime-vulkan"}
VULKAN_SDK = "vulkan-sdk"
CUDA_WHEELS, CUDA_DEBIAN = "cuda-wheels", "cuda-debian"


def instructions(dockerfile: str, target: str, arguments: Mapping[str, str]) -> str:
    """The instructions of the stage ``target``, of every stage that it is built from, and their global ARGs.

    ``arguments`` are the build arguments, which may name a stage (``FROM ${BASE}``). Comments and blank lines are left
    out, so that editing a comment or another variant's stage does not change an image's tag. Returns all instructions
    when the file has no such stage.
    """
    lines = [line for line in dockerfile.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    global_arguments: list[str] = []
    stages: dict[str, list[str]] = {}
    parents: dict[str, set[str]] = {}
    section = global_arguments
    for line in lines:
        if opening := re.fullmatch(r"FROM (\S+) AS (\S+)", line):
            section = stages[opening[2]] = []
            parents[opening[2]] = {Template(opening[1]).safe_substitute(arguments)}
        section.append(line)
    if target not in stages:
        return "\n".join(lines)
    for name, section in stages.items():
        parents[name] |= set(re.findall(r"--from=(\S+)", "\n".join(section)))
    needed, queue = set[str](), [target]
    while queue:
        name = queue.pop()
        if name in stages and name not in needed:
            needed.add(name)
            queue += parents[name]
    kept = [line for name, section in stages.items() if name in needed for line in section]
    used = set(re.findall(r"\$\{(\w+)\}", "\n".join(kept)))
    return "\n".join([*(line for line in global_arguments if set(re.findall(r"^ARG (\w+)", line)) & used), *kept])
