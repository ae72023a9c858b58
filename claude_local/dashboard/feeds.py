"""What keeps the picture true: the management API's events and answers, the machine, the user's files."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from claude_local.cli.profiles import placed
from claude_local.dashboard.client import Manager, ManagerError
from claude_local.dashboard.files import Files
from claude_local.dashboard.machine import NVIDIA_SMI, Host, look, parse_gpu
from claude_local.dashboard.picture import Picture

# Seconds between two looks at the machine, at models and sessions, at the files; between two attempts to reach the
# management API, and to start an nvidia-smi that has ended.
MACHINE, ASK, FILES, RETRY, GPUS = 2.0, 5.0, 15.0, 2.0, 30.0
# Lines of the log that are asked for at the start: the most that the management API gives.
LINES = 1000


class Log(Protocol):
    """Where the lines of the log go (claude_local.dashboard.log_view)."""

    def extend(self, lines: Sequence[str]) -> None:
        """Add lines at the end."""

    def catch_up(self, lines: Sequence[str]) -> list[str]:
        """Add those of the log's last lines that are not here yet, and return them."""


@dataclass
class Feeds:
    """Each feed runs until it is cancelled. ``say`` shows an error.

    ``look`` and ``gpu_command``: see ``machine``. ``clock``: seconds that only go up."""

    manager: Manager
    files: Files
    picture: Picture
    log: Log
    say: Callable[[str], None]
    look: Callable[[Host | None], Host] = look
    gpu_command: tuple[str, ...] = NVIDIA_SMI
    clock: Callable[[], float] = time.monotonic
    _nvidia_smi: asyncio.subprocess.Process | None = None

    async def keep(self, feed: Callable[[], Awaitable[None]]) -> None:
        """Run a feed, and again after an error that nobody expected."""
        while True:
            try:
                return await feed()
            except Exception as error:
                self.say(f"{type(error).__name__}: {error}")
            await asyncio.sleep(ASK)

    async def events(self) -> None:
        """The events of the management API, over its restarts."""
        while True:
            try:
                async for name, data in self.manager.events():
                    if self.picture.unreachable or not self.picture.status:
                        await self._catch_up()
                        self.picture.unreachable = ""
                    self.picture.take(name, data, self.clock())
                    if name == "log":
                        self.log.extend([data["line"]])
            except ManagerError as error:
                self.picture.lost(str(error))
            await asyncio.sleep(RETRY)

    async def _catch_up(self) -> None:
        """The lines of the log that came while nobody listened."""
        text = await self.manager.get(f"/logs?lines={LINES}")
        for line in self.log.catch_up(text.splitlines()):
            self.picture.log(line)

    async def answers(self) -> None:
        """What no event tells: the models, and the sessions where the management API knows them."""
        while True:
            if not self.picture.unreachable:
                try:
                    await self.ask_models()
                    self.picture.sessions = (await self.manager.get("/sessions"))["sessions"]
                except ManagerError as error:
                    self.picture.sessions = None
                    if error.status not in (None, 404):
                        self.say(str(error))
            await asyncio.sleep(ASK)

    async def ask_models(self) -> None:
        """The placed models as they are now. Raises ManagerError."""
        self.picture.models = placed(self.files.paths, (await self.manager.get("/models"))["models"])

    async def machine(self) -> None:
        """Processor and main memory."""
        while True:
            self.picture.host = self.look(self.picture.host)
            await asyncio.sleep(MACHINE)

    async def gpus(self) -> None:
        """The lines that one nvidia-smi prints; without the program there are no GPUs."""
        while True:
            try:
                process = await asyncio.create_subprocess_exec(
                    *self.gpu_command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
                )
            except OSError:
                return
            self._nvidia_smi = process
            assert process.stdout
            async for line in process.stdout:
                if gpu := parse_gpu(line.decode(errors="replace")):
                    self.picture.gpus[gpu.index] = gpu
            self.picture.gpus = {}
            await asyncio.sleep(GPUS)

    async def user_files(self) -> None:
        """The fence, its refusals, the last verify."""
        while True:
            await asyncio.to_thread(self.files.read)
            await asyncio.sleep(FILES)

    async def close(self) -> None:
        """End what the feeds have begun outside of this program."""
        if self._nvidia_smi:
            with suppress(ProcessLookupError):
                self._nvidia_smi.terminate()
            await self._nvidia_smi.wait()
        await self.manager.close()
