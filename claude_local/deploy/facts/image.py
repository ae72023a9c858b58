"""The processor, llama.cpp's sources and our images on the workstation."""

from __future__ import annotations

from pyinfra.api import FactBase, QuoteString, StringCommand

from claude_local.deploy import shell
from claude_local.deploy.facts.yes_or_no import YesOrNo
from claude_local.image.plan import LABEL, REPOSITORY


class LlamaSource(YesOrNo):
    """Whether ``folder`` holds the pinned sources of a llama.cpp build. It hashes all of them (0.3 s).

    + python: the runtime's interpreter
    + build: number of the build
    + folder: of the sources
    """

    def command(self, python: str, build: int, folder: str) -> StringCommand:
        return StringCommand(
            "test -x", QuoteString(python), "&&", QuoteString(python), "-I -m claude_local.image.source --check",
            str(int(build)), QuoteString(folder), "2>/dev/null && echo yes || true",
        )  # fmt: skip


# Only images with our label: another image of that name is not ours to remove.
IMAGES_SCRIPT = r"""
client=$1 repository=$2 label=$3
"$client" ps --all --quiet --no-trunc | xargs -r "$client" inspect --format 'used {{.Image}}'
"$client" image ls --no-trunc --filter "label=$label" --format 'image {{.ID}} {{.Repository}}:{{.Tag}}' "$repository"
true
"""


class ServerImages(FactBase[dict[str, bool]]):
    """Our llama-server images: tag -> whether a container, running or not, was made from the image.

    It needs the rights that docker is used with.
    """

    def command(self, client: str) -> StringCommand:
        return StringCommand(shell.script(IMAGES_SCRIPT, client, REPOSITORY, LABEL), "2>/dev/null")

    def process(self, output: list[str]) -> dict[str, bool]:
        lines = [line.split() for line in output]
        used = {line[1] for line in lines if line[0] == "used"}
        # An image that lost its tag to a newer one of the same name is listed without it.
        return {line[2]: line[1] in used for line in lines if line[0] == "image" and not line[2].endswith(":<none>")}

    @staticmethod
    def default() -> dict[str, bool]:
        """No images."""
        return {}
