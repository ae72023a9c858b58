"""``llama-local update``: what a deploy from a checkout of the project would change here. Changes nothing."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import click

from claude_local.checkout import CheckoutError, describe, different_files
from claude_local.cli.hardware import probe_hardware
from claude_local.cli.machine import Machine, pass_machine
from claude_local.cli.output import Problem, console, json_option, print_json, table
from claude_local.hardware.variant import VariantError, choose

# What the figures are called, for people.
LABELS = {"project": "project", "image_llama_build": "llama.cpp", "claude_version": "Claude Code"}


@click.command()
@click.argument("checkout", required=False, type=click.Path(path_type=Path))
@json_option
@pass_machine
def update(machine: Machine, checkout: Path | None, as_json: bool) -> None:
    """List what a deploy from CHECKOUT would change: project, llama.cpp, Claude Code, image, models, programs.

    CHECKOUT is a directory with the project (default: that of the last deploy). Run git pull there first. update
    changes nothing and needs no network.
    """
    deployed = _deployed(machine)
    project = (checkout or Path(deployed["checkout"])).absolute()
    try:
        wanted = describe(project)
    except CheckoutError as error:
        raise Problem(str(error), "llama-local update DIRECTORY    (where the project is)") from None
    changes = [*versions(deployed, wanted), *_image(deployed, wanted), *models(deployed, wanted)]
    programs = [
        *different_files(Path(machine.paths.lib, "claude_local"), project / "claude_local"),
        *different_data(deployed, wanted),
    ]
    if as_json:
        print_json({"checkout": str(project), "changes": changes, "programs": programs})
        return
    if not changes and not programs:
        print(f"up to date: a deploy from {project} would change nothing")
        return
    rows = table()
    for each in changes:
        arrow = f"{each['now']} -> {each['then']}" if each["now"] else each["then"]
        rows.add_row(each["what"], arrow)
    if programs:
        rows.add_row("programs", f"{len(programs)} files differ")
    console().print(rows)
    print(f"To deploy: cd {project} && ./provision")


def _deployed(machine: Machine) -> dict[str, Any]:
    """What the last deploy recorded. Raises Problem."""
    try:
        deployed: dict[str, Any] = json.loads(Path(machine.paths.profiles).read_text())["deployed"]
        return deployed
    except (OSError, ValueError, KeyError, TypeError):
        raise Problem("the last deploy did not record what it installed", "./provision") from None


def versions(deployed: dict[str, Any], wanted: dict[str, Any]) -> list[dict[str, str]]:
    """The versions that differ."""
    return [
        {"what": label, "now": str(deployed[key]), "then": str(wanted[key])}
        for key, label in LABELS.items()
        if deployed[key] != wanted[key]
    ]


def _image(deployed: dict[str, Any], wanted: dict[str, Any]) -> list[dict[str, str]]:
    """Another image variant if the hardware or its driver has changed, otherwise another Dockerfile or patch."""
    now = deployed["variant"]
    try:
        variant = choose(probe_hardware(), deployed["image_variant"])
    except (VariantError, OSError, subprocess.TimeoutExpired):
        return []
    if variant.variant != now:
        return [{"what": "image", "now": now, "then": f"{variant.variant} ({variant.reason})"}]
    # A deploy before 2026-11-30 recorded no images.
    images = deployed.get("images", wanted["images"])
    if images.get(now) == wanted["images"].get(now):
        return []
    return [{"what": "image", "now": now, "then": f"{now}, rebuilt (the Dockerfile, a patch or the web page differs)"}]


def different_data(deployed: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """The scripts and templates that a deploy installs and that differ."""
    before, after = deployed.get("data", wanted["data"]), wanted["data"]
    return sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))


def models(deployed: dict[str, Any], wanted: dict[str, Any]) -> list[dict[str, str]]:
    """Profiles that are new, gone, or have other files."""
    before, after = deployed["files"], wanted["files"]
    new = [{"what": "models", "now": "", "then": f"{name} is new"} for name in after if name not in before]
    gone = [{"what": "models", "now": "", "then": f"{name} is gone"} for name in before if name not in after]
    other = [
        {"what": "models", "now": "", "then": f"{name} has other files"}
        for name in after
        if name in before and before[name] != after[name]
    ]
    return [*new, *gone, *other]
