"""What verify must know of the deploy that it checks: one JSON object, made by tasks/verify.py."""

from __future__ import annotations

import json
from dataclasses import MISSING, dataclass, fields
from typing import Any

from claude_local.paths import Paths


class ParametersError(ValueError):
    """Parameters that cannot be used; ``problems`` has a line for each key that is unknown or missing."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("; ".join(problems))


@dataclass(frozen=True)
class Parameters:
    """The deploy's settings that checks are held against.

    ``home``, ``model_dir``, ``bin_dir``: absolute directories (see claude_local.paths). ``server_port``,
    ``manager_port``: the ports of llama-server and of the management API on 127.0.0.1. ``container``, ``image``: names
    in Docker. ``build``: llama.cpp's build number. ``profiles``: the ids of the placed profiles, ``default``: the
    default one. ``claude_tested``, ``claude_minimum``: versions of Claude Code. ``enforced_settings``: key paths of
    settings.json and the values that the deploy enforces. ``docker``: Docker's answers, which
    the deploying connection asked for (docker_rows.SCRIPT); None: verify asks Docker itself.
    """

    home: str
    model_dir: str
    bin_dir: str
    server_port: int
    manager_port: int
    container: str
    image: str
    build: int
    profiles: tuple[str, ...]
    default: str
    claude_tested: str
    claude_minimum: str
    enforced_settings: dict[str, Any]
    docker: str | None = None

    @property
    def paths(self) -> Paths:
        """The workstation's paths."""
        return Paths(home=self.home, model_dir=self.model_dir, bin_dir=self.bin_dir)

    @property
    def server_url(self) -> str:
        """llama-server's address."""
        return f"http://127.0.0.1:{self.server_port}"


def value_at(document: dict[str, Any], key_path: str) -> Any:
    """The value at a dotted key path (``permissions.defaultMode``), None when there is none."""
    value: Any = document
    for key in key_path.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value


def holds(value: Any, expected: Any) -> bool:
    """Whether ``value`` is ``expected``; an object may have more keys than the expected one."""
    if isinstance(expected, dict) and isinstance(value, dict):
        return all(holds(value.get(key), each) for key, each in expected.items())
    return bool(value == expected)


def parse(text: str) -> Parameters:
    """Parameters from JSON text. Raises ParametersError.

    Values are not checked: the deploy has validated its settings before it sends them.
    """
    try:
        raw = json.loads(text)
    except ValueError as error:
        raise ParametersError([f"they are not JSON: {error}"]) from None
    if not isinstance(raw, dict):
        raise ParametersError([f"they are a {type(raw).__name__}, not a JSON object"])
    known = {field.name: field.default is MISSING for field in fields(Parameters)}
    problems = [f"{key}: there is no such parameter" for key in sorted(raw.keys() - known)]
    problems += [f"{key}: missing" for key, required in sorted(known.items()) if required and key not in raw]
    if problems:
        raise ParametersError(problems)
    return Parameters(**{**raw, "profiles": tuple(raw["profiles"])})
