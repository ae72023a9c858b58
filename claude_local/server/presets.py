"""Render presets.ini, which tells llama-server's router the flags of every model. Pure.

Each placed profile has one section, under its id. The default profile is also known as ``claude-local``, until the
management API moves that name to another one. A second section for the name would load the same file twice. Nothing is
loaded at start: the management API loads what the user last chose, and so does the first request.
llama-server reads a key as the long flag with that name, and ``false`` as its ``--no-`` form. An unknown key stops the
whole router, so :mod:`claude_local.models.profiles` checks the flags first.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from posixpath import join, normpath
from typing import Any

from claude_local.models.devices import PLACEMENT
from claude_local.models.profile import Profile

# The name of the active profile, whichever it is, for clients that do not know the ids.
ACTIVE = "claude-local"

# The container's paths for model_dir, the directories of model_search_dirs (by position), and the server's directory.
MODELS = "/models"
EXTRA_MODELS = "/models-extra"
CONFIGURATION = "/etc/claude-local"

# The container's directory for prompts that outlive the server, and the seconds that it has to write them.
PROMPTS = "/var/lib/claude-local/prompts"
STOP_SECONDS = 60


class PresetsError(ValueError):
    """The active profile is not placed, or the container cannot see a model file."""


def container_path(path: str, model_dir: str, search_dirs: Sequence[str]) -> str:
    """The container's path for a file in model_dir or in a search directory; all paths are absolute.

    Raises PresetsError for any other file.
    """
    roots = [(normpath(model_dir), MODELS)]
    roots += [(normpath(root), f"{EXTRA_MODELS}/{index}") for index, root in enumerate(search_dirs)]
    path = normpath(path)
    # The longest directory wins. The server would read the file through any of them, because all are mounted.
    for root, mount in sorted(roots, key=lambda pair: -len(pair[0])):
        prefix = root.rstrip("/") + "/"
        if path.startswith(prefix):
            return join(mount, path[len(prefix) :])
    raise PresetsError(
        f"the server cannot read {path}: it is neither in {model_dir} nor in a directory of model_search_dirs"
    )


def options(
    profile: Profile,
    *,
    model: str,
    mmproj: str | None,
    variant: str = "cpu",
    cache_ram_mib: int | None = None,
) -> dict[str, str]:
    """The preset of one profile: flag -> value. ``model`` and ``mmproj`` are paths in the container.

    * ``variant`` is the image's. The flags about GPUs are left out for ``cpu``.
    * ``cache_ram_mib`` limits the prompt cache. llama-server's default of 8192 MiB is more than many containers have.
    * One slot gives a session the whole context and keeps its prompt cached; llama-server's default is four slots.
    * Without context shift, a prompt that is too long is an error, and Claude Code compacts the conversation. With it,
      llama-server would silently drop text.

    The profile's own flags override all of these.
    """
    result = {"model": model}
    if mmproj is not None:
        result["mmproj"] = mmproj
    result["jinja"] = "true"
    if profile.chat_template is not None:
        result["chat-template-file"] = f"{CONFIGURATION}/chat-templates/{profile.chat_template}"
    if profile.ctx_size is not None:
        result["ctx-size"] = str(profile.ctx_size)
    result["parallel"] = "1"
    result["context-shift"] = "false"
    if cache_ram_mib is not None:
        result["cache-ram"] = str(cache_ram_mib)
    if variant != "cpu":
        gpu_flags = {"n-gpu-layers": profile.n_gpu_layers, "fit": profile.fit, "fit-target": profile.fit_target}
        result |= {key: value for key, value in gpu_flags.items() if value is not None}
    result.update(profile.options)
    if variant == "cpu":
        # A build without GPUs refuses to start when a flag names a GPU's buffer (-ot ...=CUDA0).
        for key in PLACEMENT:
            result.pop(key, None)
    return result


def prompt_files(profile: str, image: str, hashes: Sequence[str], values: Mapping[str, str]) -> str:
    """The beginning of the names of a profile's prompt files (``--cache-disk``).

    The states in them are right for one model, one build and one set of flags, so the name has a hash of the files'
    ``hashes``, the image's tag, and the preset's ``values``. The server compares the prompt itself, token by token.
    """
    key = json.dumps([image, list(hashes), dict(values)], sort_keys=True)
    return f"{PROMPTS}/{profile}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"


def idle_minutes(setting: int | str, variant: str) -> int:
    """server_idle_unload for this machine: ``auto`` is 30 minutes on a GPU, whose memory other programs want, and 0
    (never) on a CPU, where loading again takes long."""
    if isinstance(setting, int):
        return setting
    return 0 if variant == "cpu" else 30


def placed_ids(profiles: Mapping[str, Profile], placements: Mapping[str, Any]) -> list[str]:
    """The ids of the profiles whose model file exists, in the order of ``profiles``. ``placements`` is models.json."""
    records = placements.get("profiles") or {}
    return [profile_id for profile_id in profiles if (records.get(profile_id) or {}).get("model")]


def render(
    profiles: Mapping[str, Profile],
    active_id: str,
    placements: Mapping[str, Any],
    *,
    model_dir: str,
    search_dirs: Sequence[str] = (),
    variant: str = "cpu",
    cache_ram_mib: int | None = None,
    image: str = "",
    prompts_mib: int = 0,
    idle_minutes: int = 0,
) -> str:
    """The text of presets.ini: a section for each placed profile. ``active_id`` has the alias ``claude-local``.

    ``placements`` is models.json. Its paths, ``model_dir`` and ``search_dirs`` are the workstation's. ``variant`` and
    ``cache_ram_mib``: see :func:`options`. ``image`` is the image's tag, ``prompts_mib`` the disk space for prompts
    (0: none is kept). ``idle_minutes``: after so long without a request, the weights leave the memory until the next
    one; 0: never. Raises PresetsError when the active profile is not placed, or the container cannot see a file.
    """
    ids = placed_ids(profiles, placements)
    if active_id not in ids:
        raise PresetsError(f"the model of profile {active_id} is missing; tasks/models.py downloads it")
    lines = ["; Written by the deploy from models.conf; changes made here are lost.", "version = 1"]
    for profile_id in ids:
        record = placements["profiles"][profile_id]
        mmproj = record.get("mmproj")
        values = options(
            profiles[profile_id],
            model=container_path(record["model"], model_dir, search_dirs),
            mmproj=container_path(mmproj, model_dir, search_dirs) if mmproj else None,
            variant=variant,
            cache_ram_mib=cache_ram_mib,
        )
        if prompts_mib:
            stamps = [placements["files"].get(path) or {} for path in record["files"]]
            hashes = [stamp.get("sha256") or json.dumps(stamp, sort_keys=True) for stamp in stamps]
            values |= {
                "cache-disk": prompt_files(profile_id, image, hashes, values),
                "cache-disk-limit": str(prompts_mib),
                "stop-timeout": str(STOP_SECONDS),
            }
        if idle_minutes:
            values.setdefault("sleep-idle-seconds", str(60 * idle_minutes))
        lines += ["", f"[{profile_id}]"]
        if profile_id == active_id:
            lines.append(f"alias = {ACTIVE}")
        lines += [f"{key} = {value}" for key, value in values.items()]
    return "\n".join(lines) + "\n"


def with_section(text: str, name: str, values: Mapping[str, str]) -> str:
    """presets.ini with one more section."""
    return text + "\n".join(["", f"[{name}]", *(f"{key} = {value}" for key, value in values.items()), ""])
