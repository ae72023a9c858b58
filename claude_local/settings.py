"""The deploy's settings: group_data/all.py has their defaults, settings.schema.json says what is allowed.

No I/O except reading models.conf and models.lock. (Claude Code's settings are in claude_local/claude/settings_json.py.)
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from claude_local.claude.versions import compare
from claude_local.image.builds import BUILDS
from claude_local.models import lock, profiles
from claude_local.models.choice import OLD_IDS
from claude_local.models.profile import Profile

SCHEMA = json.loads((Path(__file__).parent / "settings.schema.json").read_text())
NAMES = tuple(SCHEMA["properties"])

# The chat templates that the server stage installs on a workstation.
TEMPLATES = Path(__file__).parent.parent / "files" / "chat-templates"

# The first words of our settings. Another key that starts with one of them is a misspelling.
PREFIXES = frozenset(name.split("_")[0] for name in NAMES)
# pyinfra's own data keys that happen to share a first word.
PYINFRA_KEYS = frozenset({"docker_identifier", "docker_user", "docker_platform", "docker_architecture"})

# How a message calls the types of JSON schema.
TYPES = {"integer": "a whole number", "boolean": "True or False", "array": "a list", "string": "a string"}


class SettingsError(ValueError):
    """Settings or profiles that cannot be used; ``problems`` has a line for each: key path, value, what is expected."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__(
            f"{count} in the settings, nothing has been changed:\n" + "\n".join(f"  {line}" for line in problems)
        )


class Settings(SimpleNamespace):
    """Every setting of group_data/all.py, validated: ``settings.server_port`` and so on."""


def validate(raw: Mapping[str, Any], typed: Collection[str] = ()) -> Settings:
    """Check pyinfra's merged data against the schema.

    ``typed``: the keys that come from the command line; each must be a setting. Keys of an inventory's own are ignored.
    Raises SettingsError with every problem at once.
    """
    ours = {name: raw[name] for name in NAMES if name in raw}
    problems = [_unknown(key) for key in raw if _is_misspelling(key, key in typed)]
    problems += [_problem(error) for error in Draft202012Validator(SCHEMA).iter_errors(ours)]
    problems += [
        f"{name}: missing; group_data/all.py has its default (run from the project's root)"
        for name in NAMES
        if name not in ours
    ]
    if problems := problems or _contradictions(ours):
        raise SettingsError(sorted(problems))
    return Settings(**ours)


def _is_misspelling(key: str, typed: bool) -> bool:
    """Whether a key of the data is meant to be a setting of ours but is not one."""
    if key in NAMES or key in PYINFRA_KEYS or key.startswith("_"):
        return False
    return typed or key.split("_")[0] in PREFIXES or bool(get_close_matches(key, NAMES, n=1, cutoff=0.85))


def _unknown(key: str) -> str:
    nearest = get_close_matches(key, NAMES, n=1)
    return f"{key}: unknown setting, " + (f"did you mean {nearest[0]}?" if nearest else "see group_data/all.py")


def _problem(error: ValidationError) -> str:
    """One line for a value that the schema does not allow."""
    path = "".join(f"[{part}]" if isinstance(part, int) else str(part) for part in error.path)
    # A password in an address must not reach the screen or a log.
    value = re.sub(r"//\S*@", "//…@", repr(error.instance))
    return f"{path}: found {value}, expected {_allowed(error)}"


def _allowed(error: ValidationError) -> str:
    """What the schema allows at the place of ``error``: its description, else its rule in words."""
    schema, rule = cast(Mapping[str, Any], error.schema), cast(Any, error.validator_value)
    if "description" in schema:
        return str(schema["description"])
    match error.validator:
        case "enum":
            return "one of " + ", ".join(map(repr, rule))
        case "type":
            return TYPES[rule]
        case "minimum" | "maximum":
            low, high = schema["minimum"], schema.get("maximum")
            return f"at least {low}" if high is None else f"{low} to {high}"
        case "minLength":
            return "a string that is not empty"
        case "uniqueItems":
            return "each entry once"
    return error.message


def _contradictions(ours: Mapping[str, Any]) -> list[str]:
    """The problems of settings that are valid one by one but do not go together."""
    problems = []
    if ours["server_port"] == ours["manager_port"]:
        problems.append(f"manager_port: found {ours['manager_port']}, expected a port other than server_port")
    if ours["image_llama_build"] not in BUILDS:
        known = ", ".join(map(str, BUILDS))
        problems.append(f"image_llama_build: found {ours['image_llama_build']}, expected a pinned build: {known}")
    tested, minimum = ours["claude_version"], ours["claude_minimum_version"]
    if compare(tested, minimum) < 0:
        problems.append(f"claude_minimum_version: found {minimum!r}, expected at most claude_version ({tested})")
    return problems


def load(raw: Mapping[str, Any], project: Path, typed: Collection[str] = ()) -> tuple[Settings, dict[str, Profile]]:
    """The settings of pyinfra's merged data, and the profiles of the file under ``project`` that they name.

    ``typed``: see :func:`validate`. Raises SettingsError with the problems of both.
    """
    problems: list[str] = []
    settings = None
    try:
        settings = validate(raw, typed)
    except SettingsError as error:
        problems += error.problems
    conf = raw.get("models_conf")
    known: dict[str, Profile] = {}
    if isinstance(conf, str) and conf:
        try:
            known = load_profiles(project / conf, settings)
        except SettingsError as error:
            problems += error.problems
    if problems or settings is None:
        raise SettingsError(problems)
    return settings, known


def load_profiles(path: Path, settings: Settings | None) -> dict[str, Profile]:
    """Parse models.conf at ``path``, and check the settings that name profiles (None: check no settings).

    Files without a SHA256 get what models.lock says. Raises SettingsError with every problem of the two files, of
    ``model_profiles`` and of ``default_profile``.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise SettingsError([f"models_conf: {path.name} cannot be read ({error.strerror})"]) from None
    except UnicodeDecodeError as error:
        raise SettingsError([f"models_conf: {path.name} is not UTF-8 text (byte {error.start})"]) from None
    try:
        known = profiles.parse(text, path.name, chat_templates=[file.name for file in TEMPLATES.glob("*.jinja")])
    except profiles.ProfilesError as error:
        raise SettingsError(list(error.problems)) from None
    problems = _unknown_profiles(settings, known, path.name) if settings else []
    try:
        known = lock.fill_in(known, load_lock(path))
    except lock.LockError as error:
        problems += error.problems
    if problems:
        raise SettingsError(problems)
    return known


def _unknown_profiles(settings: Settings, known: Mapping[str, Profile], conf: str) -> list[str]:
    """A line for each profile id in the settings that ``conf`` does not have."""
    ids = ", ".join(known) or "none"
    problems = [
        f"model_profiles[{index}]: found {name!r}, expected a profile of {conf}: {ids}"
        for index, name in enumerate(settings.model_profiles)
        if canonical(name, known) not in known
    ]
    default = settings.default_profile
    if default != "auto" and canonical(default, known) not in known:
        problems.append(f"default_profile: found {default!r}, expected 'auto' or a profile of {conf}: {ids}")
    return problems


def canonical(name: str, known: Mapping[str, Profile]) -> str:
    """The id of a profile. ``name`` is that id, or the profile's id in the hand-made setup (``choice.OLD_IDS``)."""
    return OLD_IDS[name][0] if name not in known and name in OLD_IDS else name


def load_lock(models_conf: Path) -> lock.Lock:
    """The models.lock beside a profiles file; empty when there is none. Raises LockError."""
    path = models_conf.parent / lock.NAME
    try:
        return lock.read(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise lock.LockError([f"{path.name} cannot be read ({error})"]) from None
