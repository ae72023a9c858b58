"""What there is of NVIDIA's container toolkit, and whether containers see the GPUs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

from pyinfra.api import FactBase, QuoteString, StringCommand

from claude_local.deploy.facts.yes_or_no import YesOrNo
from claude_local.docker import commands as docker


class ContainerToolkit(YesOrNo):
    """Whether NVIDIA's container toolkit is installed, from wherever."""

    def command(self) -> str:
        return "PATH=$PATH:/usr/sbin:/sbin; command -v nvidia-ctk >/dev/null 2>&1 && echo yes || true"


class NvidiaRuntime(YesOrNo):
    """Whether the running Docker daemon knows the runtime ``nvidia``. Run it with the rights that docker is used with."""

    def command(self, client: str) -> StringCommand:
        return StringCommand(
            QuoteString(client), "info --format '{{range $name, $_ := .Runtimes}}{{println $name}}{{end}}' 2>/dev/null",
            "| grep -qx nvidia && echo yes || true",
        )  # fmt: skip


class Seen(TypedDict):
    """``gpus``: nvidia-smi's lines, one a GPU; ``said``: what came instead, in one line."""

    gpus: list[str]
    said: str


class GpusInContainer(FactBase[Seen]):
    """What a real ``nvidia-smi`` sees in a container. Run it with the rights that docker is used with.

    Arguments: ``client``; ``image``: any image that is there (the toolkit brings nvidia-smi in); ``words``: the words of
    ``docker run`` that give a container its GPUs.
    """

    def command(self, client: str, image: str, words: Sequence[str]) -> StringCommand:
        run = [QuoteString(word) for word in docker.nvidia_smi(client, image, words)]
        return StringCommand("timeout 120", *run, "2>&1 || true")

    def process(self, output: list[str]) -> Seen:
        gpus = [line.strip() for line in output if line.startswith("GPU ")]
        return Seen(gpus=gpus, said="" if gpus else " ".join(line.strip() for line in output)[-400:])

    @staticmethod
    def default() -> Seen:
        return Seen(gpus=[], said="")
