"""Which profile answers, and the change from one to another.

A session that names no profile asks llama-server for ``claude-local``. The router lets that name mean the active
profile, and a switch moves it. Requests that came before are answered by the former profile, which the router unloads
only when it is idle; requests that come during a switch wait for the new one. So no request is lost.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from claude_local.manager import wish as wishes
from claude_local.manager.log import last_lines
from claude_local.manager.wish import Wish
from claude_local.server.client import UNLOAD, LlamaClient, Model, ServerError
from claude_local.server.log import last_messages
from claude_local.server.presets import ACTIVE

# Seconds between two looks at the router during a switch.
LOOK = 0.2
# Seconds that running answers of the former profile get, and that a load may take.
DRAIN, LOAD = 120.0, 600.0


class SwitchError(Exception):
    """A switch that did not happen. ``status``: the HTTP status. ``more``: further members of the answer."""

    def __init__(self, status: int, message: str, **more: Any) -> None:
        super().__init__(message)
        self.status = status
        self.more = more


@dataclass
class Stage:
    """Where a switch is. ``name``: draining, unloading, loading, ready or failed. ``progress``: of the load, 0 to 1.
    ``seconds_left``: expected from earlier loads; None when unknown."""

    name: str
    model: str
    progress: float | None = None
    seconds_left: float | None = None

    def as_data(self) -> dict[str, Any]:
        """The members of a stage in an event."""
        return {"stage": self.name, "model": self.model, "progress": self.progress, "seconds_left": self.seconds_left}


@dataclass
class Running:
    """A switch. ``began``: seconds since the epoch. ``seconds``: stage -> seconds that it took."""

    model: str
    who: str
    began: float
    stage: Stage
    cancelled: bool = False
    seconds: dict[str, float] = field(default_factory=dict)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[dict[str, Any]] | None = None

    def as_data(self) -> dict[str, Any]:
        """The member ``switch`` of a status."""
        return {**self.stage.as_data(), "who": self.who, "since": self.began}

    async def answer(self) -> dict[str, Any]:
        """Wait for the end: model, ctx_size, previous, previous_ctx_size (tokens), seconds. Raises SwitchError."""
        assert self.task is not None
        return await asyncio.shield(self.task)

    async def stages(self) -> AsyncIterator[Stage]:
        """Each stage as it comes, for one listener, until the switch has ended."""
        assert self.task is not None
        told: Stage | None = None
        while not self.task.done():
            await self.changed.wait()
            self.changed.clear()
            if self.stage != told:
                told = self.stage
                yield told


@dataclass(frozen=True)
class Profile:
    """What profiles.json says about a placed profile. ``ctx_size``: tokens, None where the model decides."""

    id: str
    name: str
    description: str
    ctx_size: int | None


def read_profiles(path: Path) -> tuple[str, dict[str, Profile]]:
    """The default profile, and all placed ones. Raises OSError or ValueError for a missing or damaged file."""
    raw = json.loads(path.read_text())
    try:
        profiles = {
            str(name): Profile(str(name), str(each["name"]), str(each.get("description") or ""), each.get("ctx_size"))
            for name, each in raw["profiles"].items()
        }
        return str(raw["default"]), profiles
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not what the deploy writes: {error!r}") from None


class Switchboard:
    """The state of the server, and the one place that changes it.

    ``profiles``: reads profiles.json. ``wish_file``: see :mod:`claude_local.manager.wish`. ``log``: llama-server's log
    file. All methods are for one event loop; requests to llama-server run in threads.
    """

    def __init__(
        self,
        client: LlamaClient,
        profiles: Callable[[], tuple[str, dict[str, Profile]]],
        wish_file: str,
        log: Path,
        *,
        drain: float = DRAIN,
        load: float = LOAD,
    ) -> None:
        self.client = client
        self.profiles = profiles
        self._wish_file = wish_file
        self._log = log
        self._drain, self._load = drain, load
        self._running: Running | None = None
        self._failure: str | None = None

    # --- seeing

    @property
    def wish(self) -> Wish:
        """What the user wants, from its file."""
        default, profiles = self.profiles()
        return wishes.read(self._wish_file, default, profiles)

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
            "switch": self._running and self._running.as_data(),
        }

    async def _state(self, wish: Wish, profile: Profile) -> tuple[str, str, float | None]:
        if self._running:
            stage = self._running.stage
            name = self.profiles()[1][self._running.model].name
            return "switching", f"switching to {name}: {stage.name}", stage.progress
        try:
            models = await asyncio.to_thread(self.client.router)
        except ServerError as error:
            return "down", str(error), None
        model = models.get(profile.id)
        if model is not None and model.ready:
            return "ready", f"{profile.name} answers", 1.0
        if model is not None and model.state == "loading":
            return "loading", f"{profile.name} is loading", model.progress
        others = [each.id for each in models.values() if each.ready]
        if wish.stopped and not others:
            return "stopped", "no model is loaded; the next request or `llama-local start` loads one", None
        if self._failure or (model is not None and model.failed):
            return "failed", self._failure or f"{profile.name} failed to load", None
        if others:
            return "ready", f"{profile.name} is unloaded while {', '.join(others)} answers", None
        return "idle", f"the next request loads {profile.name}", None

    async def _states(self) -> dict[str, Model]:
        with suppress(ServerError):
            return await asyncio.to_thread(self.client.router)
        return {}

    async def metrics(self) -> dict[str, Any] | None:
        """The slots of the active profile: what each reads and writes, in tokens. None unless it is loaded and awake:
        asking for its slots would wake it up."""
        model = (await self._states()).get(self.wish.active)
        if model is None or model.state != "loaded":
            return None
        with suppress(ServerError):
            return {"slots": [slot.as_data() for slot in await asyncio.to_thread(self.client.slots, model.id)]}
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

    # --- changing

    def begin(self, model: str, who: str) -> Running:
        """Begin to make ``model`` the active profile. ``who``: for whom, in words. Raises SwitchError (404, 409).

        The switch goes on whether or not somebody waits for it (:meth:`Running.answer`, :meth:`Running.stages`).
        """
        _, profiles = self.profiles()
        if model not in profiles:
            raise SwitchError(404, f"there is no profile {model!r}", known=sorted(profiles))
        if self._running:
            raise self._busy(self._running)
        self._running = Running(model, who, time.time(), Stage("draining", model))
        self._running.task = asyncio.create_task(self._switch(self._running))
        # Nobody may be waiting for it any more.
        self._running.task.add_done_callback(lambda task: task.cancelled() or task.exception())
        return self._running

    @staticmethod
    def _busy(running: Running) -> SwitchError:
        message = f"a switch to {running.model} is running"
        return SwitchError(409, message, model=running.model, who=running.who, since=running.began)

    async def _switch(self, running: Running) -> dict[str, Any]:
        before = self.wish
        try:
            await self._bring_up(running)
            window = await asyncio.to_thread(self.client.context_window, running.model)
            wish = replace(self.wish, active=running.model, stopped=False)
            if "loading" in running.seconds:
                wish = wish.with_load(running.model, running.seconds["loading"])
            wishes.write(self._wish_file, wish)
        except (SwitchError, ServerError, OSError) as error:
            failure = error if isinstance(error, SwitchError) else SwitchError(_status(error), str(error))
            await self._bring_back(before.active, running, failure)
            raise failure from None
        finally:
            self._running = None
            running.changed.set()
        self._failure = None
        former = self.profiles()[1].get(before.active)
        return {
            "model": running.model,
            "ctx_size": window,
            "previous": before.active,
            "previous_ctx_size": former and former.ctx_size,
            "seconds": running.seconds,
        }

    async def _bring_up(self, running: Running) -> None:
        """Give the model the name and have it loaded. Raises SwitchError or ServerError."""
        began = entered = time.monotonic()
        asked = self._ask(running)
        try:
            while True:
                accepted = asked.done() and asked.result()
                if asked.done() and not accepted:
                    asked = self._ask(running)
                models = await asyncio.to_thread(self.client.router)
                stage = self._stage(running.model, models)
                if stage.name != running.stage.name:
                    running.seconds[running.stage.name] = round(time.monotonic() - entered, 2)
                    entered = time.monotonic()
                running.stage = stage
                running.changed.set()
                if accepted and stage.name == "ready":
                    return
                self._check(running, models, accepted, time.monotonic() - began)
                await asyncio.sleep(LOOK)
        finally:
            # Its thread cannot be stopped, and must not move the name later.
            await asyncio.gather(asked, return_exceptions=True)

    def _ask(self, running: Running) -> asyncio.Future[bool]:
        return asyncio.ensure_future(asyncio.to_thread(self.client.activate, running.model, ACTIVE))

    def _stage(self, model: str, models: dict[str, Model]) -> Stage:
        if model not in models:
            raise SwitchError(502, f"llama-server has no profile {model}: run ./provision")
        target = models[model]
        if target.ready:
            return Stage("ready", model, 1.0, 0.0)
        if target.state == "loading":
            expected = self.wish.expected_seconds(model)
            left = None if expected is None else round(expected * (1 - (target.progress or 0.0)), 1)
            return Stage("loading", model, target.progress, left)
        waiting = any(each.ready for each in models.values())
        return Stage("draining" if waiting else "unloading", model, None, self.wish.expected_seconds(model))

    def _check(self, running: Running, models: dict[str, Model], accepted: bool, seconds: float) -> None:
        """Raise SwitchError when the switch cannot succeed any more. ``accepted``: the router began to load."""
        if running.cancelled:
            raise SwitchError(409, f"the switch to {running.model} was cancelled")
        target = models[running.model]
        if accepted and target.state == "unloaded":
            log = last_messages(last_lines(self._log, 100)[0])
            raise SwitchError(502, f"{running.model} failed to load", log=log)
        if running.stage.name == "draining" and seconds > self._drain:
            busy = ", ".join(each.id for each in models.values() if each.ready)
            raise SwitchError(504, f"{busy} still answers a request after {self._drain:.0f} s; try again later")
        if seconds > self._drain + self._load:
            raise SwitchError(504, f"{running.model} is still {target.state} after {seconds:.0f} s")

    async def _bring_back(self, model: str, running: Running, error: SwitchError) -> None:
        """After a failed switch: the former profile is active and loaded again."""
        running.stage = Stage("failed", running.model)
        self._failure = None
        back = Running(model, running.who, running.began, Stage("draining", model))
        try:
            await self._bring_up(back)
        except (SwitchError, ServerError) as second:
            self._failure = f"{error}, and {model} could not be loaded again: {second}"

    def cancel(self) -> bool:
        """End the switch that runs; False when there is none. The former profile is loaded again."""
        if self._running is None:
            return False
        self._running.cancelled = True
        return True

    async def stop(self) -> None:
        """Unload every model, now and after a restart; return when none is loaded. Raises ServerError, or SwitchError
        during a switch and for a model that does not end."""
        if self._running:
            raise self._busy(self._running)
        wishes.write(self._wish_file, replace(self.wish, stopped=True))
        for model in await self._loaded():
            await asyncio.to_thread(self.client.unload, model.id)
        end = time.monotonic() + UNLOAD
        while loaded := await self._loaded():
            if time.monotonic() > end:
                raise SwitchError(504, f"{', '.join(each.id for each in loaded)} is still being unloaded")
            await asyncio.sleep(LOOK)

    async def _loaded(self) -> list[Model]:
        models = await asyncio.to_thread(self.client.router)
        return [each for each in models.values() if each.state != "unloaded"]

    async def settle(self) -> None:
        """Make the server what the user wants: after a start of the manager or of the server. Raises ServerError."""
        if self._running:
            return
        wish = self.wish
        models = await asyncio.to_thread(self.client.router)
        model = models.get(wish.active)
        if model is None:
            return
        idle = not any(each.state != "unloaded" for each in models.values()) and not model.failed
        load = idle and not wish.stopped
        if load or ACTIVE not in model.aliases:
            await asyncio.to_thread(self.client.activate, wish.active, ACTIVE, load)


def _status(error: ServerError | OSError) -> int:
    """The HTTP status of a switch that failed for ``error``: 502 where llama-server refused, 503 where it is silent,
    507 where the disk is full."""
    if isinstance(error, ServerError):
        return 503 if error.status is None else 502
    return 507
