"""Which profile answers, and the change from one to another.

A session that names no profile asks llama-server for ``claude-local``. The router lets that name mean the active
profile, and a switch moves it. Requests that came before are answered by the former profile. The router unloads it only
when it needs its place, and only when it is idle. Requests that come during a switch wait for the new one. So no
request is lost.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from claude_local.fence.messages import printable
from claude_local.manager import wish as wishes
from claude_local.manager.log import last_lines
from claude_local.manager.profiles import Profile
from claude_local.manager.sessions import Sessions, fits, public
from claude_local.manager.state import State
from claude_local.manager.switch import Running, Stage, SwitchError
from claude_local.manager.wish import Wish
from claude_local.server.client import UNLOAD, LlamaClient, Model, ServerError, Slot
from claude_local.server.log import last_messages, saving
from claude_local.server.presets import ACTIVE

# Seconds between two looks at the router during a switch, and lines of its log that tell about an unload: fewer than a
# load writes.
LOOK, LINES = 0.1, 40
# Seconds that running answers of the former profile get, and that a load may take.
DRAIN, LOAD = 120.0, 600.0


def _name(session: dict[str, Any]) -> str:
    """A session in words, with its project where that may be said."""
    return f"the session in {printable(session['workspace'])}" if "workspace" in session else "a session"


def _progress(slot: Slot) -> str:
    if slot.decoded:
        return f"{slot.decoded:,} tokens written"
    return f"{slot.cached + slot.processed:,} of {slot.prompt:,} tokens read"


class Switchboard(State):
    """The one place that changes which profile is active. ``log``: llama-server's log file. ``sessions``: the
    running ones. ``drain`` and ``load``: seconds. All methods are for one event loop."""

    def __init__(
        self,
        client: LlamaClient,
        profiles: Callable[[], tuple[str, dict[str, Profile]]],
        wish_file: str,
        log: Path,
        sessions: Sessions,
        *,
        drain: float = DRAIN,
        load: float = LOAD,
    ) -> None:
        super().__init__(client, profiles, wish_file)
        self.sessions = sessions
        self._log = log
        self._drain, self._load = drain, load
        # The profile that ``settle`` loads, and when it began.
        self._load_began: tuple[str, float] | None = None
        # Whether the active profile was loaded again after its process failed, and has not been ready since.
        self._tried_again = False

    def begin(self, model: str, who: str, *, session: int | None = None, force: bool = False) -> Running:
        """Begin to make ``model`` the active profile. ``who``: for whom, in words. ``session``: the one that asks, by
        its process; None for the user. ``force``: even if a session's conversation does not fit; only the user may
        leave another session stuck. Raises SwitchError (404, 409).

        The switch goes on whether or not somebody waits for it (:meth:`Running.answer`, :meth:`Running.stages`).
        """
        _, profiles = self.profiles()
        if model not in profiles:
            raise SwitchError(404, f"there is no profile {model!r}", known=sorted(profiles))
        if self.running:
            raise self._busy(self.running)
        if (session is not None or not force) and model != self.wish.active:
            self._check_conversations(profiles[model], session)
        self.running = Running(model, who, time.time(), Stage("draining", model), private=session is None)
        self.running.task = asyncio.create_task(self._switch(self.running))
        # Nobody may be waiting for it any more.
        self.running.task.add_done_callback(lambda task: task.cancelled() or task.exception())
        return self.running

    @staticmethod
    def _busy(running: Running) -> SwitchError:
        message = f"a switch to {running.model} is running"
        return SwitchError(409, message, model=running.model, who=running.who, since=running.began)

    def _check_conversations(self, profile: Profile, asks: int | None) -> None:
        """Raise SwitchError (409) if a session would be stuck with ``profile``. ``asks``: the session that asks."""
        window = profile.ctx_size
        sessions = self.sessions.entries(self.wish.active)
        stuck = [each for each in sessions if not each["own"] and not fits(each["tokens"] or 0, window)]
        if not stuck:
            return
        fix = f"/compact there, or switch anyway: llama-local switch {profile.id} --force"
        names = [_name(each) for each in stuck]
        if asks is not None:
            fix = f"/compact there. Only the user can switch anyway: llama-local switch {profile.id} --force"
            names = ["this session" if each["process"] == asks else _name(public(each)) for each in stuck]
            stuck = [public(each) for each in stuck]
        theirs = ", ".join(f"{name} has {each['tokens']:,}" for name, each in zip(names, stuck, strict=True))
        raise SwitchError(409, f"{profile.id} takes {window:,} tokens, but {theirs}", fix=fix, sessions=stuck)

    async def _switch(self, running: Running) -> dict[str, Any]:
        before = self.wish
        try:
            # A disk that is full is noticed before a model is unloaded.
            self._remember(before)
            await self._bring_up(running)
            window = await asyncio.to_thread(self.client.context_window, running.model)
            wish = replace(self.wish, active=running.model, stopped=False)
            if "loading" in running.seconds:
                wish = wish.with_load(running.model, running.seconds["loading"])
            self._remember(wish)
        except (SwitchError, ServerError) as error:
            failure = error if isinstance(error, SwitchError) else self._server_failed(error)
            await self._bring_back(before, running, failure)
            raise failure from None
        finally:
            self.running = None
            running.changed.set()
        self.failure = None
        former = self.profiles()[1].get(before.active)
        return {
            "model": running.model,
            "ctx_size": window,
            "previous": before.active,
            "previous_ctx_size": former and former.ctx_size,
            "seconds": running.seconds,
        }

    def _remember(self, wish: Wish) -> None:
        """Write the wish. Raises SwitchError (507), for instance on a full disk."""
        try:
            wishes.write(self.wish_file, wish)
        except OSError as error:
            raise SwitchError(507, f"the choice cannot be saved: {error.strerror}") from None

    def _server_failed(self, error: ServerError) -> SwitchError:
        """A switch that failed because llama-server is silent (503) or refused (502), with its last lines."""
        log = last_messages(last_lines(self._log, 100)[0])
        return SwitchError(503 if error.status is None else 502, f"llama-server: {error}", log=log)

    async def _bring_up(self, running: Running) -> None:
        """Give the model the name and have it loaded. Raises SwitchError or ServerError."""
        began = entered = time.monotonic()
        asked = self._ask(running)
        try:
            while True:
                # The router refuses at once while another model answers; otherwise its answer waits for an unload.
                accepted = asked.done() and asked.result()
                busy = asked.done() and not accepted
                if busy:
                    asked = self._ask(running)
                models = await asyncio.to_thread(self.client.router)
                stage = self._stage(running.model, models, busy)
                target = models[running.model]
                if accepted and target.state == "unloaded" and not target.failed:
                    # A request from before the switch waited in the router's queue, and has loaded its model again.
                    asked, accepted = self._ask(running), False
                if stage.name != running.stage.name:
                    spent = running.seconds.get(running.stage.name, 0.0) + time.monotonic() - entered
                    running.seconds[running.stage.name] = round(spent, 2)
                    entered = time.monotonic()
                running.stage = stage
                running.changed.set()
                if accepted and stage.name == "ready":
                    return
                await self._check(running, models, accepted, time.monotonic() - began)
                await asyncio.sleep(LOOK)
        finally:
            # Its thread cannot be stopped, and must not move the name later.
            await asyncio.gather(asked, return_exceptions=True)

    def _ask(self, running: Running) -> asyncio.Future[bool]:
        return asyncio.ensure_future(asyncio.to_thread(self.client.activate, running.model, ACTIVE))

    def _stage(self, model: str, models: dict[str, Model], busy: bool) -> Stage:
        if model not in models:
            raise SwitchError(502, f"llama-server has no profile {model}: run ./provision")
        target = models[model]
        if target.ready:
            return Stage("ready", model, 1.0, 0.0)
        if target.state == "loading":
            expected = self.wish.expected_seconds(model)
            left = None if expected is None else round(expected * (1 - (target.progress or 0.0)), 1)
            return Stage("loading", model, target.progress, left)
        saves = not busy and saving(last_lines(self._log, LINES)[0])
        return Stage(
            "draining" if busy else "saving" if saves else "unloading", model, None, self.wish.expected_seconds(model)
        )

    async def _check(self, running: Running, models: dict[str, Model], accepted: bool, seconds: float) -> None:
        """Raise SwitchError when the switch cannot succeed any more. ``accepted``: the router began to load."""
        if running.cancelled:
            raise SwitchError(409, f"the switch to {running.model} was cancelled")
        target = models[running.model]
        if accepted and target.state == "unloaded":
            log = last_messages(last_lines(self._log, 100)[0])
            raise SwitchError(502, f"{running.model} failed to load", log=log)
        if running.stage.name == "draining" and seconds > self._drain:
            raise await self._still_answers(
                [each.id for each in models.values() if each.state == "loaded"], running.private
            )
        if seconds > self._drain + self._load:
            raise SwitchError(504, f"{running.model} is still {target.state} after {seconds:.0f} s")

    async def _still_answers(self, loaded: list[str], private: bool) -> SwitchError:
        """The error of a switch that a running answer of a ``loaded`` model holds up: how far it is, and for whom."""
        slots: dict[str, list[Slot]] = {}
        for model in loaded:
            with suppress(ServerError):
                slots[model] = [slot for slot in await asyncio.to_thread(self.client.slots, model) if slot.busy]
        models = [model for model in loaded if slots.get(model)] or loaded
        busy = [slot for model in models for slot in slots.get(model, [])]
        users = [each for each in self.sessions.entries(self.wish.active) if each["profile"] in models]
        users = users if private else [public(each) for each in users]
        progress = f" ({', '.join(map(_progress, busy))})" if busy else ""
        whose = f"; {', '.join(map(_name, users))} may be waiting for it" if users else ""
        message = f"{', '.join(models)} still answers a request after {self._drain:.0f} s{progress}{whose}"
        return SwitchError(504, message, sessions=users, slots=[slot.as_data() for slot in busy])

    async def _bring_back(self, before: Wish, running: Running, error: SwitchError) -> None:
        """After a failed switch: the former profile is active and, unless it was stopped, loaded again."""
        running.stage = Stage("failed", running.model)
        self.failure = None
        try:
            if before.stopped:
                await asyncio.to_thread(self.client.activate, before.active, ACTIVE, False)
            else:
                # Everybody may read the failure.
                stage = Stage("draining", before.active)
                await self._bring_up(Running(before.active, running.who, running.began, stage, private=False))
        except (SwitchError, ServerError) as second:
            self.failure = f"{error}, and {before.active} could not be loaded again: {second}"

    def cancel(self, *, session: bool = False) -> bool:
        """End the switch that runs; False when there is none. The former profile is loaded again. ``session``: a
        session asks. It can end a session's switch only: SwitchError (409) for the user's."""
        if self.running is None:
            return False
        if session and self.running.private:
            raise SwitchError(409, f"the user switches to {self.running.model}, and only they can cancel it")
        self.running.cancelled = True
        return True

    async def stop(self) -> None:
        """Unload every model, now and after a restart; return when none is loaded. Raises ServerError, or SwitchError
        during a switch and for a model that does not end."""
        if self.running:
            raise self._busy(self.running)
        self._remember(replace(self.wish, stopped=True))
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

    async def settle(self) -> bool:
        """Make the server what the user wants: after a start of the manager or of the server, and once when the process
        of the active profile failed. Whether a load of ours runs, whose end is to be seen soon. Raises ServerError and
        OSError."""
        if self.running:
            self._load_began = None
            return False
        models = await asyncio.to_thread(self.client.router)
        at_once = await asyncio.to_thread(self.client.models_at_once)
        # Read after the answers: a stop may have changed it meanwhile.
        wish = self.wish
        model = models.get(wish.active)
        if model is None or self.running:
            return False
        self._remember_load(model, wish)
        self._tried_again = self._tried_again and not model.ready
        self.failure = None if model.ready else self.failure
        # It must not take the place of a model that a session uses.
        room = model.state == "unloaded" and sum(each.state != "unloaded" for each in models.values()) < at_once
        load = room and not wish.stopped and not (model.failed and self._tried_again)
        self._tried_again = self._tried_again or (load and model.failed)
        if load or ACTIVE not in model.aliases:
            began = time.monotonic()
            try:
                await asyncio.to_thread(self.client.activate, wish.active, ACTIVE, load)
            except ServerError as error:
                # The router refuses a load at once where a file of the model is gone.
                self.failure = str(error) if load and error.status is not None else self.failure
                raise
            if load:
                self._load_began = (wish.active, began)
        return self._load_began is not None

    def _remember_load(self, model: Model, wish: Wish) -> None:
        """Keep the time of a load that ``settle`` began, the first one after a boot for instance. A switch keeps its
        own."""
        if self._load_began is None or (model.id == self._load_began[0] and model.state == "loading"):
            return
        profile, began = self._load_began
        self._load_began = None
        if model.id == profile and model.ready:
            wishes.write(self.wish_file, wish.with_load(profile, time.monotonic() - began))
