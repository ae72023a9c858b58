"""The settings of a run: which there are, what is allowed, and every problem at once. Pure but for reading two files."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from claude_local.claude.versions import compare
from claude_local.image.builds import BUILDS
from claude_local.models import lock as models_lock
from claude_local.models import profiles
from claude_local.models.choice import OLD_IDS
from claude_local.models.profiles import Profile

SCHEMA = json.loads((Path(__file__).parent / "settings.schema.json").read_text())

# The chat templates that the server's stage puts onto a workstation.
TEMPLATES = Path(__file__).parent.parent / "files" / "chat-templates"

# First words of our settings: another key that starts with one of them is a misspelling, not somebody else's data.
PREFIXES = tuple(sorted({name.split("_")[0] for name in SCHEMA["properties"]}))
PATH_SETTINGS = (
    "model_dir", "model_search_dirs", "commands_dir", "fence_writable", "fence_hidden", "fence_visible",
)  # fmt: skip
# pyinfra's own data keys that happen to share a first word.
FOREIGN = frozenset({"docker_identifier", "docker_user", "docker_platform", "docker_architecture"})


class DataError(ValueError):
    """Settings or profiles that cannot be used; ``problems`` names each with its key path, value and what is allowed."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__(
            f"{count} in the settings, nothing has been changed:\n" + "\n".join(f"  {p}" for p in problems)
        )


@dataclass(frozen=True)
class Settings:
    """Every setting of group_data/all.py, validated. The comments there say what each means."""

    models_conf: str
    default_profile: str
    packages_lock_timeout: int
    docker_upstream_repository: bool
    docker_group: bool
    image_llama_build: int
    image_variant: str
    image_cpu: str
    image_base: str
    image_jobs: int
    image_keep_old: bool
    model_dir: str
    model_search_dirs: list[str]
    model_profiles: list[str]
    model_hub: str
    server_port: int
    server_container: str
    server_memory_mib: int
    server_pids_limit: int
    server_start_timeout: int
    manager_port: int
    claude_version: str
    claude_minimum_version: str
    home_default_mode: str
    home_enforced_keys: list[str]
    commands_dir: str
    fence_domains: list[str]
    fence_ports: list[int]
    fence_writable: list[str]
    fence_hidden: list[str]
    fence_visible: list[str]
    fence_environment: list[str]
    fence_sockets: list[str]
    verify_deep: bool
    verify_only: str

    @property
    def active_profile(self) -> str:
        """The id of the profile that plain ``claude-local`` uses: a workstation's settings have "auto" resolved."""
        return self.default_profile


def names() -> list[str]:
    """The names of all settings."""
    return [field.name for field in fields(Settings)]


def _allowed(error: ValidationError) -> str:
    rule, value = str(error.validator), cast(Any, error.validator_value)
    if rule == "enum":
        return "one of " + ", ".join(map(repr, value))
    if rule == "type":
        return {"integer": "a whole number", "boolean": "True or False", "array": "a list", "string": "a text"}.get(
            value, str(value)
        )
    if rule in ("minimum", "maximum"):
        schema = error.schema if isinstance(error.schema, Mapping) else {}
        low, high = schema.get("minimum"), schema.get("maximum")
        return f"{low} to {high}" if high is not None and low is not None else f"at least {low}"
    if rule == "pattern":
        schema_name = str(error.path[0]) if error.path else ""
        if schema_name in PATH_SETTINGS:
            return "a path that starts with / or ~/"
        if schema_name == "fence_domains":
            return "a domain such as example.org, *.example.com or example.org:443, or *"
        if schema_name == "fence_environment":
            return "the name of an environment variable"
        if schema_name == "model_hub":
            return "an http:// or https:// address without a user, a password, ? and #"
        return f"a text like {value}"
    if rule == "minItems":
        return f"at least {value} entry"
    if rule == "minLength":
        return "a text that is not empty"
    if rule == "uniqueItems":
        return "each entry once"
    return str(error.message)


def validate(raw: Mapping[str, Any]) -> Settings:
    """Check merged data against settings.schema.json and return it typed; keys of others are ignored.

    Raises DataError with one line a problem: key path, what was found, what is allowed.
    """
    problems = []
    ours = {}
    for key, value in raw.items():
        if key in SCHEMA["properties"]:
            ours[key] = value
        elif key not in FOREIGN and key.split("_")[0] in PREFIXES:
            close = get_close_matches(key, SCHEMA["properties"], n=1)
            problems.append(f"{key}: there is no such setting" + (f", did you mean {close[0]}?" if close else ""))
    for error in Draft202012Validator(SCHEMA).iter_errors(ours):
        path = "".join(f"[{part}]" if isinstance(part, int) else str(part) for part in error.path)
        # A password in an address is not for the screen, nor for a log.
        found = re.sub(r"//\S*@", "//…@", repr(error.instance))
        problems.append(f"{path}: found {found}, allowed is {_allowed(error)}")
    for name in names():
        if name not in ours:
            problems.append(f"{name}: missing; group_data/all.py has its default (run from the project's root)")
    if not problems:
        problems = _contradictions(ours)
    if problems:
        raise DataError(sorted(problems))
    return Settings(**{name: ours[name] for name in names()})


def _contradictions(ours: Mapping[str, Any]) -> list[str]:
    """What is wrong with settings that are right one by one."""
    problems = []
    if ours["server_port"] == ours["manager_port"]:
        problems.append(f"manager_port: found {ours['manager_port']}, allowed is a port other than server_port")
    if ours["image_llama_build"] not in BUILDS:
        known = ", ".join(map(str, BUILDS))
        problems.append(f"image_llama_build: found {ours['image_llama_build']}, allowed is a pinned build: {known}")
    tested, minimum = ours["claude_version"], ours["claude_minimum_version"]
    if compare(tested, minimum) < 0:
        problems.append(f"claude_minimum_version: found {minimum!r}, allowed is at most claude_version ({tested})")
    return problems


def load(raw: Mapping[str, Any], project: Path) -> tuple[Settings, dict[str, Profile]]:
    """The settings of merged data, and the profiles of the file below ``project`` that they name.

    Raises DataError with the problems of both.
    """
    problems: list[str] = []
    settings = None
    try:
        settings = validate(raw)
    except DataError as error:
        problems += error.problems
    conf = raw.get("models_conf")
    known: dict[str, Profile] = {}
    if isinstance(conf, str) and conf:
        try:
            known = load_profiles(project / conf, settings)
        except DataError as error:
            problems += error.problems
    if problems or settings is None:
        raise DataError(problems)
    return settings, known


def load_profiles(path: Path, settings: Settings | None) -> dict[str, Profile]:
    """Parse the profiles file and check the settings that name profiles (None: there are none to check).

    What models.lock beside it says of files without SHA256 is filled in. Raises DataError with every problem of the
    files and of ``model_profiles`` and ``default_profile``.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError([f"models_conf: {path.name} cannot be read ({error.strerror})"]) from None
    except UnicodeDecodeError as error:
        raise DataError([f"models_conf: {path.name} is not UTF-8 text (byte {error.start})"]) from None
    try:
        templates = [template.name for template in TEMPLATES.glob("*.jinja")]
        known = profiles.parse(text, path.name, chat_templates=templates)
    except profiles.ProfilesError as error:
        raise DataError(list(error.problems)) from None
    problems = []
    listed = ", ".join(known) or "none"
    for index, name in enumerate(settings.model_profiles if settings else ()):
        if canonical(name, known) not in known:
            problems.append(f"model_profiles[{index}]: found {name!r}, allowed is a profile of {path.name}: {listed}")
    if settings and settings.default_profile != "auto" and canonical(settings.default_profile, known) not in known:
        problems.append(
            f"default_profile: found {settings.default_profile!r}, allowed is 'auto' or a profile of {path.name}: {listed}"
        )
    try:
        known = models_lock.applied(known, load_lock(path))
    except models_lock.LockError as error:
        problems += error.problems
    if problems:
        raise DataError(problems)
    return known


def canonical(name: str, known: Mapping[str, Profile]) -> str:
    """The id of a profile that may be named by its id in the hand-made setup (``choice.OLD_IDS``)."""
    return OLD_IDS[name][0] if name not in known and name in OLD_IDS else name


def load_lock(models_conf: Path) -> models_lock.Lock:
    """models.lock beside a profiles file; empty when there is none. Raises LockError."""
    path = models_conf.parent / models_lock.NAME
    try:
        return models_lock.read(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise models_lock.LockError([f"{path.name} cannot be read ({error})"]) from None
