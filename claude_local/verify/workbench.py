"""What the checks of one run share: the parameters, results that are needed twice, and the clean-up."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

from claude_local.fence.config import ConfigError, FenceConfig, parse
from claude_local.server.client import LlamaClient, ServerError
from claude_local.server.presets import ACTIVE
from claude_local.verify import processes
from claude_local.verify.checks import Failed
from claude_local.verify.parameters import Parameters

Value = TypeVar("Value")


class Workbench:
    """One run's shared state. ``say`` shows what a slow check is doing; ``deep`` hashes every model again.

    A context manager: leaving it calls what ``on_close`` was given, last first, and kills processes with the marker.
    """

    def __init__(self, parameters: Parameters, *, deep: bool = False) -> None:
        self.parameters = parameters
        self.paths = parameters.paths
        self.deep = deep
        self.marker = secrets.token_hex(8)
        self.say: Callable[[str], None] = lambda text: None
        self._values: dict[str, tuple[Any, Exception | None]] = {}
        self._closers: list[Callable[[], None]] = []

    def __enter__(self) -> Workbench:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def once(self, key: str, make: Callable[[], Value]) -> Value:
        """What ``make`` returns, called only once in a run; an exception is remembered and raised again."""
        if key not in self._values:
            try:
                self._values[key] = (make(), None)
            except Exception as error:
                self._values[key] = (None, error)
        value, failure = self._values[key]
        if failure is not None:
            raise failure
        return cast(Value, value)

    def known(self, key: str) -> Any:
        """What ``once(key, ...)`` returned earlier in this run, or None."""
        return self._values.get(key, (None, None))[0]

    def on_close(self, closer: Callable[[], None]) -> None:
        """Call ``closer`` when the run ends."""
        self._closers.append(closer)

    def reap(self) -> None:
        """End what a check may have left running."""
        processes.reap(self.marker)

    def close(self) -> None:
        """End what still runs, and clean up."""
        self.reap()
        while self._closers:
            self._closers.pop()()

    def environment(self, **extra: str) -> dict[str, str]:
        """This process's environment with the run's marker, English messages in UTF-8 and ``extra``."""
        english = {"LC_ALL": "C.UTF-8", "LANGUAGE": ""}
        return {**os.environ, **english, processes.MARKER: self.marker, **extra}

    @property
    def token(self) -> str:
        """The API token. Raises Failed when it cannot be read."""
        path = Path(self.paths.token)
        try:
            token = path.read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            raise Failed(f"{path} is missing") from None
        except (OSError, UnicodeDecodeError) as error:
            raise Failed(f"{path} cannot be read: {error}") from None
        if not token:
            raise Failed(f"{path} is empty")
        return token

    @property
    def server(self) -> LlamaClient:
        """The installed llama-server, with the user's token. Raises Failed without a token."""
        return LlamaClient(self.parameters.server_url, self.token)

    @property
    def active(self) -> str:
        """The id of the profile that answers where none is named: the default one, unless the user switched."""
        try:
            models = self.once("models", self.server.router)
        except (Failed, ServerError):
            models = {}
        return next((name for name, model in models.items() if ACTIVE in model.aliases), self.parameters.default)

    @property
    def context_window(self) -> int:
        """The active model's context window in tokens, as the server reports it. Raises Failed or ServerError."""
        return self.once("context window", lambda: self.server.context_window(ACTIVE))

    @property
    def fence(self) -> FenceConfig:
        """fence.json of this workstation. Raises Failed when it cannot be used."""
        path = Path(self.paths.fence_config)
        try:
            return parse(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise Failed(f"{path} is missing: the fence was never set up") from None
        except (OSError, UnicodeDecodeError, ConfigError) as error:
            raise Failed(f"{path} cannot be used: {error}") from None

    @property
    def bwrap(self) -> str:
        """The bubblewrap that works here: the fence's own copy where AppArmor requires one, else the one on PATH."""
        try:
            bwrap = self.fence.bwrap
        except Failed:
            return "bwrap"
        return bwrap if bwrap != FenceConfig().bwrap else "bwrap"

    @property
    def start_command(self) -> str:
        """The fix for a server that is not running."""
        return f"docker start {self.parameters.container}    (or ./provision)"

    @property
    def logs_command(self) -> str:
        """The fix for a server that runs but does not work."""
        return f"docker logs --tail 40 {self.parameters.container}    (shows why; ./provision repairs the server)"
