"""A dashboard under textual's pilot, on a scene's manager and files."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from textual.pilot import Pilot

from claude_local.dashboard.app import Dashboard
from claude_local.dashboard.client import Manager
from claude_local.dashboard.dialogs import Picker
from tests.dashboard.scenes import Scene, ScriptedFiles, gpu_command
from tests.dashboard.scripted_manager import ScriptedManager

TOKEN = "a-token"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


class Stage:
    """``app`` and ``pilot`` are textual's; ``manager`` is the scripted one, None where nothing listens."""

    def __init__(self, app: Dashboard, pilot: Pilot[None], manager: ScriptedManager | None) -> None:
        self.app, self.pilot, self.manager = app, pilot, manager

    def panel(self, name: str) -> str:
        """The text of a panel as it is drawn now."""
        self.app.draw()
        return str(self.app.panels[name].last)

    @property
    def message(self) -> str:
        return str(self.app.message.render())

    @property
    def screen(self) -> str:
        """All that is on the screen."""
        return "\n".join(
            "".join(segment.text for segment in line) for line in self.app.screen._compositor.render_strips()
        )

    async def until(self, condition: Callable[[], Any], seconds: float = 30) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"nothing happened in time; the screen:\n{self.screen}"
            await self.pilot.pause(0.02)

    async def settle(self) -> None:
        """Until the screen stays as it is: a scrollbar that appears changes the width of the panels."""
        before = ""
        while before != self.screen:
            before = self.screen
            self.app.draw()
            await self.pilot.pause(0.05)

    async def open_picker(self) -> None:
        """Press m, and wait until the management API has told the models."""
        await self.press("m")
        await self.until(lambda: isinstance(self.app.screen, Picker))
        await self.settle()

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        await self.pilot.pause()


@asynccontextmanager
async def stage(scene: Scene, folder: Path, **more: Any) -> AsyncIterator[Stage]:
    """The dashboard on a scene, when it shows what the scene tells."""
    manager = scene.manager().__enter__() if scene.told is not None else None
    client = Manager(manager.port if manager else free_port(), TOKEN)
    clock = [0.0]
    app = Dashboard(
        client, ScriptedFiles(folder, **scene.files), look=lambda _: scene.host, clock=lambda: clock[0],
        gpu_command=gpu_command(folder, scene.gpus) if scene.gpus else ("no-such-nvidia-smi",), **more,
    )  # fmt: skip
    try:
        async with app.run_test(size=scene.size) as pilot:
            shown = Stage(app, pilot, manager)
            picture = app.picture
            await shown.until(lambda: picture.host and len(picture.gpus) == len(scene.gpus))
            if manager:
                await shown.until(lambda: picture.status and picture.models and "sessions" in manager.asked)
                await shown.until(lambda: app.log_view.last == manager.log[-3:])
                await shown.until(lambda: picture.sessions == manager.sessions)
                await shown.until(lambda: manager.slots is None or picture.slots)
                if scene.then:
                    clock[0], manager.slots = 2.0, list(scene.then)
                    await shown.until(lambda: picture.slots[0].decode)
            else:
                await shown.until(lambda: picture.unreachable)
            await shown.settle()
            if scene.keys == ("m",):
                await shown.open_picker()
            else:
                await shown.press(*scene.keys)
            yield shown
    finally:
        if manager:
            await asyncio.to_thread(manager.__exit__)
