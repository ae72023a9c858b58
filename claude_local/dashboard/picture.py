"""All that the dashboard shows, as plain data, and how the management API's events change it."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from claude_local.dashboard.files import Files
from claude_local.dashboard.machine import Gpu, Host
from claude_local.dashboard.slots import SlotView, SlotWatch
from claude_local.models.memory import Estimate
from claude_local.server.turns import Turn, TurnReader

# Turns that are kept.
TURNS = 20


@dataclass
class Picture:
    """``status``: GET /status, empty before the first answer. ``models``: the placed
    profiles (claude_local.cli.profiles.placed). ``sessions``: GET /sessions,
    None where the management API does not tell them. ``unreachable``: why it does not answer, empty while it does.
    ``gpus``: by nvidia-smi's number."""

    files: Files
    status: dict[str, Any] = field(default_factory=dict)
    unreachable: str = ""
    models: list[dict[str, Any]] = field(default_factory=list)
    sessions: list[dict[str, Any]] | None = None
    slots: list[SlotView] = field(default_factory=list)
    turns: deque[Turn] = field(default_factory=lambda: deque(maxlen=TURNS))
    gpus: dict[int, Gpu] = field(default_factory=dict)
    host: Host | None = None
    _watch: SlotWatch = field(default_factory=SlotWatch)
    _reader: TurnReader = field(default_factory=TurnReader)

    def take(self, name: str, data: Mapping[str, Any], now: float) -> None:
        """One event of GET /events at ``now``, seconds of a monotonic clock."""
        if name == "status":
            self.status = dict(data)
            if data["state"] != "ready":
                self.slots = []
        elif name == "metrics":
            self.slots = self._watch.look(data["slots"], now)
        elif name == "log":
            self.log(data["line"])

    def log(self, line: str) -> None:
        """One line of llama-server's log."""
        if turn := self._reader.read(line):
            self.turns.append(turn)
            if turn.read_speed:
                self._watch.prefill[turn.model] = turn.read_speed

    def lost(self, why: str) -> None:
        """The management API does not answer."""
        self.unreachable, self.slots, self.sessions = why, [], None

    @property
    def state(self) -> str:
        """The management API's state, or: connecting, ``manager gone``, ``docker gone``, sleeping."""
        if self.unreachable:
            return "docker gone" if self.host and not self.host.docker else "manager gone"
        if not self.status:
            return "connecting"
        state = str(self.status["state"])
        asleep = any(each["active"] and each["state"] == "sleeping" for each in self.models)
        return "sleeping" if state == "ready" and asleep else state

    @property
    def loaded(self) -> Estimate | None:
        """What the models in memory need together, as far as the deploy has judged them; None without any."""
        if self.unreachable or self.state == "down":
            return None
        loaded = [(each["fit"] or {}).get("parts") for each in self.models if each["state"] == "loaded"]
        return Estimate.sum([Estimate(**parts) for parts in loaded if parts])
