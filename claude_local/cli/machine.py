"""What a command needs to know about this machine: the management API, the containers, the paths."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import click

from claude_local.cli.output import Exit, Problem
from claude_local.paths import Paths

if TYPE_CHECKING:
    from claude_local.server.client import LlamaClient


@dataclass(frozen=True)
class Machine:
    """``port``, ``server_port``: of the management API and of llama-server, on 127.0.0.1. ``container``: the name of
    llama-server's."""

    port: int
    server_port: int
    container: str

    @property
    def manager_container(self) -> str:
        """The name of the management API's container."""
        from claude_local.manager.container import container_name

        return container_name(self.container)

    @cached_property
    def paths(self) -> Paths:
        """This user's paths. model_dir and bin_dir are the default ones: models.json says where the models are."""
        home = os.path.expanduser("~")
        return Paths(home=home, model_dir=f"{home}/.local/share/claude-local/models", bin_dir=f"{home}/bin")

    @cached_property
    def token(self) -> str:
        """The API token. Raises Problem when it cannot be read."""
        try:
            return Path(self.paths.token).read_text().strip()
        except OSError as error:
            raise Problem(f"the API token cannot be read: {error.strerror}", "./provision") from None

    @contextmanager
    def manager(self) -> Iterator[LlamaClient]:
        """A client of the management API. What it refuses in the block, or does not answer, is raised as Problem."""
        from claude_local.server.client import LlamaClient, ServerError

        try:
            yield LlamaClient(f"http://127.0.0.1:{self.port}", self.token)
        except ServerError as error:
            if error.status is not None:
                # A path or a method that an older one does not have.
                older = error.status == 405 or (error.status == 404 and "Not Found" in str(error))
                message = f"the management API is older than this llama-local ({error})" if older else str(error)
                fix = "./provision" if older else error.fix or "llama-local status; llama-local models"
                raise Problem(message, fix) from None
            start = f"sudo docker start {self.container} {self.manager_container}"
            raise Problem(f"the management API does not answer: {error}", start, Exit.DOWN) from None


pass_machine = click.make_pass_decorator(Machine)
