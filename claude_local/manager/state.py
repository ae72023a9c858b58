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


def labelled(metrics: dict[str, str]) -> str:
    """The metrics of several models in one text: each value gets its ``model``, and a metric is described once."""
    lines: dict[str, list[str]] = {}
    for model, text in metrics.items():
        for line in filter(None, text.splitlines()):
            if line.startswith("#"):
                about = lines.setdefault(line.split(" ")[2], [])
                about += [] if line in about else [line]
            else:
                sample, _, value = line.rpartition(" ")
                name, _, labels = sample.rstrip("}").partition("{")
                labels = ",".join(filter(None, [f'model="{model}"', labels]))
                lines.setdefault(name, []).append(f"{name}{{{labels}}} {value}")
    return "".join(f"{line}\n" for about in lines.values() for line in about)


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
        # By model: the slots as they were last told, and what the metrics said then.
        self._slots: dict[str, tuple[list[dict[str, Any]], tuple[bool, list[str]]]] = {}

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

    async def slots(self) -> list[dict[str, Any]]:
        """The slots of each profile that is loaded and awake: what each reads and writes, in tokens.

        A question for the slots wakes a model and keeps it awake, one for the metrics does not. So the slots are asked
        for only when something happened since the last time.
        """
        known = {}
        for model, metrics in (await self._metrics()).items():
            seen = activity(metrics)
            slots, before = self._slots.get(model, ([], None))
            with suppress(ServerError):
                if seen != before or seen[0]:
                    asked = await asyncio.to_thread(self.client.slots, model)
                    slots = [{"model": model, **slot.as_data()} for slot in asked]
                known[model] = slots, seen
        self._slots = known
        return [slot for slots, _ in known.values() for slot in slots]

    async def prometheus(self) -> str:
        """llama-server's metrics of each profile that is loaded and awake, and which are loaded, in Prometheus's text
        format."""
        states = await self._states()
        loaded = "".join(
            f'claude_local_model_loaded{{model="{each}"}} {int(each in states and states[each].ready)}\n'
            for each in self.profiles()[1]
        )
        return (
            "# HELP claude_local_model_loaded Whether the profile is loaded.\n"
            "# TYPE claude_local_model_loaded gauge\n" + loaded + labelled(await self._metrics())
        )

    async def _metrics(self) -> dict[str, str]:
        """llama-server's metrics of each profile that is loaded and awake."""
        found = {}
        for model in (await self._states()).values():
            if model.state == "loaded":
                with suppress(ServerError):
                    found[model.id] = await asyncio.to_thread(self.client.metrics, model.id)
        return found
