"""NVIDIA's runtime for containers, and the GPUs that containers see."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

from pyinfra.api import FactBase, QuoteString, StringCommand

from claude_local.deploy import shell
from claude_local.deploy.facts.yes_or_no import YesOrNo
from claude_local.docker import commands as docker
from claude_local.hardware.probe import STDERR


class NvidiaRuntime(YesOrNo):
    """Whether the Docker daemon knows the runtime ``nvidia``. It needs the rights that docker is used with."""

    def command(self, client: str) -> StringCommand:
        return StringCommand(
            QuoteString(client), "info --format '{{range $name, $_ := .Runtimes}}{{println $name}}{{end}}' 2>/dev/null",
            "| grep -qx nvidia && echo yes || true",
        )  # fmt: skip


class ContainerGpus(TypedDict):
    """``gpus``: nvidia-smi's lines, one a GPU; ``error``: without any, what it and docker printed, in one line."""

    gpus: list[str]
    error: str


class GpusInContainer(FactBase[ContainerGpus]):
    """What ``nvidia-smi`` lists in a container. It needs the rights that docker is used with.

    + client: path of the docker client
    + image: any image that exists (the toolkit brings nvidia-smi in)
    + gpu_argv: arguments of ``docker run`` that give a container its GPUs
    """

    def command(self, client: str, image: str, gpu_argv: Sequence[str]) -> StringCommand:
        argv = shell.join(docker.nvidia_smi(client, image, gpu_argv))
        return StringCommand("{ timeout 120", argv, f"2>&1 >&3 3>&- | sed 's/^/{STDERR}/'; }} 3>&1")

    def process(self, output: list[str]) -> ContainerGpus:
        gpus = [line.strip() for line in output if line.startswith("GPU ")]
        said = " ".join(line.removeprefix(STDERR).strip() for line in output)
        return ContainerGpus(gpus=gpus, error="" if gpus else said[-400:])

    @staticmethod
    def default() -> ContainerGpus:
        """No GPU."""
        return ContainerGpus(gpus=[], error="")
