"""Render presets.ini, which tells llama-server (router mode) the flags of every model. Pure.

``[claude-local]`` is the active profile, loaded at start; every placed profile also has a section under its own id.
llama-server reads a key as the long flag of that name; an unknown key stops the whole router, which is why
:mod:`claude_local.models.profiles` checks them first. Switches that have a ``--no-`` form take ``false`` for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from posixpath import join, normpath
from typing import Any

from claude_local.models.devices import PLACEMENT
from claude_local.models.profiles import Profile

ACTIVE = "claude-local"

# Where the container sees the workstation's directories.
MODELS = "/models"
EXTRA_MODELS = "/models-extra"
CONFIGURATION = "/etc/claude-local"


class PresetsError(ValueError):
    """There is nothing to serve, or a model lies where the container cannot see it."""


def container_path(path: str, model_dir: str, search_dirs: Sequence[str]) -> str:
    """Where the container sees ``path``, a file below model_dir or one of the search directories (all absolute).

    Raises PresetsError for any other path.
    """
    roots = [(normpath(model_dir), MODELS)]
    roots += [(normpath(root), f"{EXTRA_MODELS}/{index}") for index, root in enumerate(search_dirs)]
    path = normpath(path)
    # The most specific directory wins; which one does not matter to the server, all are mounted.
    for root, mount in sorted(roots, key=lambda pair: -len(pair[0])):
        prefix = root.rstrip("/") + "/"
        if path.startswith(prefix):
            return join(mount, path[len(prefix) :])
    raise PresetsError(
        f"{path} is neither in {model_dir} nor in a directory of model_search_dirs: the server cannot see it"
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

    ``variant`` is the image's: without a GPU the flags about layers and video memory are left out. ``cache_ram_mib``
    bounds the prompt cache (llama-server's own default is 8192 MiB, more than many a container has). One slot: a single
    user's session keeps its whole context and its prompt cache (``-np`` auto would make four). No context shift: what
    does not fit is an error that Claude Code answers by compacting, not silently dropped text. What the profile says wins.
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
        for key, value in (
            ("n-gpu-layers", profile.n_gpu_layers),
            ("fit", profile.fit),
            ("fit-target", profile.fit_target),
        ):
            if value is not None:
                result[key] = value
    result.update(profile.options)
    if variant == "cpu":
        # A build without GPUs refuses to start with buffer types that it does not have (-ot ...=CUDA0).
        for key in PLACEMENT:
            result.pop(key, None)
    return result


def placed(profiles: Mapping[str, Profile], placements: Mapping[str, Any]) -> list[str]:
    """The ids of the profiles whose files are in place, in the order of ``profiles``; ``placements`` is models.json."""
    known = placements.get("profiles") or {}
    return [name for name in profiles if (known.get(name) or {}).get("model")]


def render(
    profiles: Mapping[str, Profile],
    active_id: str,
    placements: Mapping[str, Any],
    *,
    model_dir: str,
    search_dirs: Sequence[str] = (),
    variant: str = "cpu",
    cache_ram_mib: int | None = None,
) -> str:
    """The text of presets.ini: ``[claude-local]`` with the flags of ``active_id`` and one section a placed profile.

    ``placements`` is models.json (``ws.paths.placements``); paths in it, ``model_dir`` and ``search_dirs`` are the
    workstation's. Raises PresetsError when the active profile is not placed or a file is out of the container's sight.
    """
    ids = placed(profiles, placements)
    if active_id not in ids:
        raise PresetsError(f"the model of profile {active_id} is not in place; tasks/models.py places it")
    sections = [(ACTIVE, active_id), *((name, name) for name in ids)]
    lines = [
        "; Written by the deploy from models.conf; changes made here are lost.",
        "version = 1",
    ]
    for section, name in sections:
        record = placements["profiles"][name]
        mmproj = record.get("mmproj")
        values = options(
            profiles[name],
            model=container_path(record["model"], model_dir, search_dirs),
            mmproj=container_path(mmproj, model_dir, search_dirs) if mmproj else None,
            variant=variant,
            cache_ram_mib=cache_ram_mib,
        )
        lines += ["", f"[{section}]"]
        if section == ACTIVE:
            lines.append("load-on-startup = true")
        lines += [f"{key} = {value}" for key, value in values.items()]
    return "\n".join(lines) + "\n"
