"""Docker on the workstation. These facts need the rights that docker is used with (``**ws.root``)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, TypedDict

from pyinfra.api import FactBase, FactProcessError, QuoteString, StringCommand

from claude_local.deploy import shell
from claude_local.deploy.facts.yes_or_no import YesOrNo


class Client(TypedDict):
    """The docker command to use.

    ``client``: its path, the first that can build with BuildKit, else the first of all; ``buildkit``: whether it can;
    ``version``: its version; ``daemon``: whether a daemon answers it; ``dockerd``: whether a daemon is installed.
    """

    client: str | None
    buildkit: bool
    version: str
    daemon: bool
    dockerd: bool


# A client can build with BuildKit when its plugin "buildx" answers, or when DOCKER_BUILDKIT=1 makes "build" know
# --progress. (Clients 18.09 to 22 have BuildKit built in; later ones without buildx print an error.) A snap's client
# does not count: it cannot read hidden directories of the home directory (canonical/docker-snap 334).
CLIENT_SCRIPT = r"""
first= version= chosen=
IFS=:
for folder in $PATH /usr/bin; do
  candidate=$folder/docker
  test -x "$candidate" && test ! -d "$candidate" || continue
  case $(readlink -f "$candidate" 2>/dev/null) in */snap) continue ;; esac
  says=$("$candidate" --version 2>/dev/null)
  case $says in Docker*) ;; *) continue ;; esac
  test -n "$first" || { first=$candidate version=$says; }
  if DOCKER_BUILDKIT=1 "$candidate" build --help 2>/dev/null | grep -q -e --progress ||
    "$candidate" buildx version >/dev/null 2>&1; then
    chosen=$candidate version=$says
    echo buildkit yes
    break
  fi
done
unset IFS
if PATH="$PATH:/usr/sbin:/sbin:/usr/local/sbin" command -v dockerd >/dev/null 2>&1; then echo dockerd yes; fi
client=${chosen:-$first}
test -n "$client" || exit 0
version=${version#Docker version }
echo "client $client"
echo "version ${version%%,*}"
if timeout 20 "$client" version --format '{{.Server.Version}}' >/dev/null 2>&1; then echo daemon yes; fi
"""


class DockerClient(FactBase[Client]):
    """Which docker client to use, and whether a daemon answers it: see :class:`Client`."""

    def command(self) -> StringCommand:
        return shell.script(CLIENT_SCRIPT)

    def process(self, output: list[str]) -> Client:
        answers = dict(line.split(" ", 1) for line in output if " " in line)
        return Client(
            client=answers.get("client"),
            buildkit="buildkit" in answers,
            version=answers.get("version", ""),
            daemon="daemon" in answers,
            dockerd="dockerd" in answers,
        )

    @staticmethod
    def default() -> Client:
        """A machine without Docker."""
        return Client(client=None, buildkit=False, version="", daemon=False, dockerd=False)


class DockerPackages(FactBase[dict[str, list[str]]]):
    """``{"installed": [...], "candidates": [...]}``: which of ``names`` are installed, and which apt could install.

    pyinfra has no fact for what apt could install.
    """

    command_script = (
        "for name do "
        'if test "$(dpkg-query -W -f=\'${db:Status-Status}\' "$name" 2>/dev/null)" = installed; '
        'then echo "installed $name"; fi; '
        'if apt-cache policy "$name" 2>/dev/null | grep -q "^  Candidate: [^(]"; then echo "candidates $name"; fi; '
        "done"
    )

    def command(self, names: Iterable[str]) -> StringCommand:
        return shell.script(self.command_script, *names)

    def process(self, output: list[str]) -> dict[str, list[str]]:
        packages = self.default()
        for line in output:
            state, _, name = line.partition(" ")
            packages[state].append(name)
        return packages

    @staticmethod
    def default() -> dict[str, list[str]]:
        """A machine whose apt knows nothing."""
        return {"installed": [], "candidates": []}


class Answers(YesOrNo):
    """Whether an https address answers within 15 seconds (5 to connect)."""

    def command(self, url: str) -> StringCommand:
        return StringCommand(
            "curl --connect-timeout 5 --max-time 15 -fsSL -o /dev/null", QuoteString(url), "2>/dev/null",
            "&& echo yes || true",
        )  # fmt: skip


class DockerUnit(YesOrNo):
    """Whether systemd runs this machine and has a unit docker.service."""

    def command(self) -> str:
        return "test -d /run/systemd/system && systemctl cat docker.service >/dev/null 2>&1 && echo yes || true"


class _Inspected(FactBase[dict[str, Any]]):
    """The first object of ``docker KIND inspect NAME``; {} when there is none or the daemon does not answer."""

    kind = ""

    def command(self, client: str, reference: str) -> StringCommand:
        return StringCommand(
            QuoteString(client), self.kind, "inspect", QuoteString(reference), "2>/dev/null || true"
        )  # fmt: skip

    def process(self, output: list[str]) -> dict[str, Any]:
        try:
            objects = json.loads("\n".join(output))
        except ValueError as error:
            raise FactProcessError(f"docker {self.kind} inspect printed no JSON: {error}") from None
        return objects[0] if objects else {}

    @staticmethod
    def default() -> dict[str, Any]:
        """Nothing to inspect."""
        return {}


class DockerImage(_Inspected):
    """``docker image inspect`` of a tag; {} when there is no such image or no daemon.

    pyinfra's ``docker.DockerImage`` asks the first docker on PATH, which may be a snap's.
    """

    kind = "image"


class DockerContainer(_Inspected):
    """``docker container inspect`` of a name; {} when there is no such container or no daemon."""

    kind = "container"


class DockerNetwork(_Inspected):
    """``docker network inspect`` of a name; {} when there is no such network or no daemon."""

    kind = "network"


# $1 the client, then "KIND NAME" for each. One object a line.
OBJECTS = r"""
client=$1; shift
for each do "$client" "${each%% *}" inspect --format "$each {{json .}}" "${each#* }" 2>/dev/null; done
true
"""
KINDS: dict[str, type[_Inspected]] = {kind.kind: kind for kind in (DockerImage, DockerContainer, DockerNetwork)}


class DockerObjects(FactBase[dict[tuple[str, str], dict[str, Any]]]):
    """What DockerImage, DockerContainer and DockerNetwork say about several, in one command: (kind, name) -> object.

    + client: path of the docker client
    + objects: (kind, name) of each
    """

    def command(self, client: str, objects: Iterable[tuple[str, str]]) -> StringCommand:
        self.objects = list(objects)
        return shell.script(OBJECTS, client, *(" ".join(each) for each in self.objects))

    def process(self, output: list[str]) -> dict[tuple[str, str], dict[str, Any]]:
        found = {}
        for line in filter(None, output):  # Docker 20.10 prints an empty line for an object that is missing
            kind, name, text = line.split(" ", 2)
            found[kind, name] = json.loads(text)
        return found

    @staticmethod
    def default() -> dict[tuple[str, str], dict[str, Any]]:
        """None of them, or no daemon."""
        return {}
