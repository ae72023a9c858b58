"""What the server does, as the management API tells it: profiles, state, metrics. Nothing here changes it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from claude_local.manager import wish as wishes
from claude_local.manager.profiles import Profile
from claude_local.manager.switch import Running
from claude_local.manager.wish import Wish
from claude_local.server.client import LlamaClient, Model, ServerError
from claude_local.server.presets import ACTIVE


def activity(metrics: str) -> tuple[bool, list[str]]:
    """Whether llama-server's metrics tell of running requests, and its counters, which change with each request."""
    lines = [line for line in metrics.splitlines() if line.startswith("llamacpp:")]
    busy = any(line.startswith("llamacpp:requests_") and float(line.split()[-1]) > 0 for line in lines)
    return busy, [line for line in lines if line.split(" ")[0].endswith("_total")]


class State:
    """The state of the server. ``running``: the switch that runs. ``failure``: why no model could be loaded.

    ``profiles``: reads profiles.json. ``wish_file``: see :mod:`claude_local.manager.wish`. Requests to llama-server run
    in threads.
    """

    def __init__(
        self, client: LlamaClient, profiles: Callable[[], tuple[str, dict[str, Profile]]], wish_file: str
    ) -> None:
        self.client = client
        self.profiles = profiles
        self.wish_file = wish_file
        self.running: Running | None = None
        self.failure: str | None = None
        # The slots as they were last told, and what the metrics said then.
        self._slots: list[dict[str, Any]] = []
        self._seen: tuple[str, tuple[bool, list[str]]] | None = None

    @property
    def wish(self) -> Wish:
        """What the user wants, from its file."""
        default, profiles = self.profiles()
        return wishes.read(self.wish_file, default, profiles)

    async def models(self) -> list[dict[str, Any]]:
        """One entry for each placed profile: id, name, description, ctx_size, active, state."""
        wish, (_, profiles) = self.wish, self.profiles()
        states = await self._states()
        return [
            {
                "id": each.id,
                "name": each.name,
                "description": each.description,
                "ctx_size": each.ctx_size,
                "active": each.id == wish.active,
                "state": states[each.id].state if each.id in states else "unknown",
                "load_seconds": wish.expected_seconds(each.id),
            }
            for each in profiles.values()
        ]

    async def status(self) -> dict[str, Any]:
        """model, model_name, state, status, progress, ctx_size, and during a switch ``switch``.

        ``state``: ready, loading, switching, stopped, failed or down. ``status`` is the same in a sentence.
        """
        wish, (_, profiles) = self.wish, self.profiles()
        profile = profiles[wish.active]
        state, sentence, progress = await self._state(wish, profile)
        return {
            "model": profile.id,
            "model_name": profile.name,
            "state": state,
            "status": sentence,
            "progress": progress,
            "ctx_size": profile.ctx_size,
            "switch": self.running and self.running.as_data(),
        }

    async def _state(self, wish: Wish, profile: Profile) -> tuple[str, str, float | None]:
        if self.running:
            stage = self.running.stage
            name = self.profiles()[1][self.running.model].name
            return "switching", f"switching to {name}: {stage.name}", stage.progress
        try:
            models = await asyncio.to_thread(self.client.router)
        except ServerError as error:
            return "down", f"{error}; llama-local logs shows why", None
        model = models.get(profile.id)
        if model is not None and model.ready:
            asleep = " after it has been loaded again: it was idle" if model.state == "sleeping" else ""
            return "ready", f"{profile.name} answers{asleep}", 1.0
        if model is not None and model.state == "loading":
            return "loading", f"{profile.name} is loading", model.progress
        others = [each.id for each in models.values() if each.ready]
        if others and model is not None and ACTIVE not in model.aliases:
            return "loading", f"{profile.name} becomes the active profile again", None
        if wish.stopped and not others:
            return "stopped", "no model is loaded; the next request or `llama-local start` loads one", None
        if self.failure or (model is not None and model.failed):
            code = f" (llama-server exited with {model.exit_code})" if model is not None and model.exit_code else ""
            return "failed", self.failure or f"the process of {profile.name} failed{code}", None
        if others:
            return "ready", f"{profile.name} is unloaded while {', '.join(others)} answers", None
        return "idle", f"the next request loads {profile.name}", None

    async def _states(self) -> dict[str, Model]:
        with suppress(ServerError):
            return await asyncio.to_thread(self.client.router)
        return {}

    async def metrics(self) -> dict[str, Any] | None:
        """The slots of the active profile: what each reads and writes, in tokens. None unless it is loaded and awake.

        A question for the slots wakes a model and keeps it awake, one for the metrics does not. So the slots are asked
        for only when something happened since the last time.
        """
        model = (await self._states()).get(self.wish.active)
        if model is None or model.state != "loaded":
            return None
        with suppress(ServerError):
            seen = (model.id, activity(await asyncio.to_thread(self.client.metrics, model.id)))
            if seen != self._seen or seen[1][0]:
                self._slots = [slot.as_data() for slot in await asyncio.to_thread(self.client.slots, model.id)]
                self._seen = seen
            return {"slots": self._slots}
        return None

    async def prometheus(self) -> str:
        """llama-server's metrics of the active profile, and whether it is loaded, in Prometheus's text format."""
        model = (await self._states()).get(self.wish.active)
        loaded = int(model is not None and model.ready)
        text = (
            "# HELP claude_local_model_loaded Whether the active profile is loaded.\n"
            "# TYPE claude_local_model_loaded gauge\n"
            f'claude_local_model_loaded{{model="{self.wish.active}"}} {loaded}\n'
        )
        if model is not None and model.state == "loaded":
            text += await asyncio.to_thread(self.client.metrics, model.id)
        return text
