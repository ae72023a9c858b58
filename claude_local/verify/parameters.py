"""What verify has to know of the deploy that it checks: one JSON object, made by tasks/verify.py."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import Any

from claude_local.paths import Paths


class ParametersError(ValueError):
    """Parameters that cannot be used; ``problems`` names each key, what was found and what is allowed."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("; ".join(problems))


@dataclass(frozen=True)
class Parameters:
    """The deploy's settings that checks are held against.

    ``home``, ``model_dir``, ``bin_dir``: absolute directories (see claude_local.paths). ``server_port``, ``manager_port``:
    llama-server's and the management API's ports on 127.0.0.1. ``container``, ``image``: names in Docker. ``build``: llama.cpp's build number. ``profiles``: the
    ids that should be placed, ``default``: the active one. ``claude_tested``, ``claude_minimum``: versions of Claude
    Code. ``enforced_settings``: key paths of settings.json whose value the deploy insists on. ``docker``: what Docker
    said when the deploying connection asked it (see docker_rows.SCRIPT); None: verify asks itself.
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
        return Paths(home=self.home, model_dir=self.model_dir, bin_dir=self.bin_dir)

    @property
    def server_url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


def value_at(document: dict[str, Any], key_path: str) -> Any:
    """The value at a dotted key path (``permissions.defaultMode``), None when it is not there."""
    value: Any = document
    for key in key_path.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value


def holds(value: Any, wanted: Any) -> bool:
    """Whether ``value`` is ``wanted``; an object may hold more keys than the wanted one."""
    if isinstance(wanted, dict) and isinstance(value, dict):
        return all(holds(value.get(key), each) for key, each in wanted.items())
    return bool(value == wanted)


_OPTIONAL = {"docker"}
_WORDS = {str: "a text", int: "a whole number", list: "a list of texts", dict: "an object"}


_KINDS: dict[str, type[Any]] = {
    "server_port": int,
    "manager_port": int,
    "build": int,
    "profiles": list,
    "enforced_settings": dict,
}


def parse(text: str) -> Parameters:
    """Parameters from JSON text. Raises ParametersError with every problem at once."""
    try:
        raw = json.loads(text)
    except ValueError as error:
        raise ParametersError([f"no JSON: {error}"]) from None
    if not isinstance(raw, dict):
        raise ParametersError([f"found {type(raw).__name__}, allowed is one JSON object"])
    known = {field.name for field in fields(Parameters)}
    problems = [f"{key}: there is no such parameter" for key in sorted(set(raw) - known)]
    for name in sorted(known):
        kind: type[Any] = _KINDS.get(name, str)
        value: Any = raw.get(name)
        if value is None:
            if name not in _OPTIONAL:
                problems.append(f"{name}: missing, it must be {_WORDS[kind]}")
        elif not isinstance(value, kind) or isinstance(value, bool):
            problems.append(f"{name}: found {value!r}, it must be {_WORDS[kind]}")
        elif kind is list and not all(isinstance(item, str) for item in value):
            problems.append(f"{name}: found {value!r}, it must be a list of texts")
        elif name in ("home", "model_dir", "bin_dir") and not value.startswith("/"):
            problems.append(f"{name}: found {value!r}, it must be an absolute path")
        elif name in ("server_port", "manager_port") and not 1 <= value <= 65535:
            problems.append(f"{name}: found {value}, it must be 1 to 65535")
    if problems:
        raise ParametersError(problems)
    raw["profiles"] = tuple(raw["profiles"])
    return Parameters(**raw)
