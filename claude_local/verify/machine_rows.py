"""Rows about the machine: the programs that the fence needs, whether the kernel allows it, and the runtime."""

from __future__ import annotations

import os
import shutil
import sys

from claude_local.verify import processes
from claude_local.verify.checks import Check, Failed
from claude_local.verify.workbench import Workbench

# Program -> the package that brings it.
TOOLS = {"bwrap": "bubblewrap", "socat": "socat", "jq": "jq", "curl": "curl"}
# What the programs of the runtime import.
LIBRARIES = ("filelock", "huggingface_hub", "jsonschema", "pexpect", "pyte", "requests", "rich", "starlette", "uvicorn")
# What Claude Code's own sandbox asks of the kernel for each command.
SANDBOX = (
    *("--unshare-user", "--unshare-net", "--unshare-pid", "--cap-drop", "ALL", "--ro-bind", "/", "/"),
    *("--proc", "/proc", "--dev", "/dev", "--", "true"),
)


def _tool(name: str, package: str) -> Check:
    def run(bench: Workbench) -> str:
        path = shutil.which(name)
        if path is None:
            what = f"{name} is not on PATH ({os.environ.get('PATH', '')})"
            raise Failed(what, f"sudo apt install {package}    (or ./provision)")
        return path

    return Check(f"tool.{name}", f"{name} is on PATH", run)


def _namespaces(bench: Workbench) -> str:
    sandbox = [bench.bwrap, *SANDBOX]
    # The outer one keeps /proc as it is: the kernel refuses root a second fresh /proc inside a first one.
    nested = [bench.bwrap, "--dev-bind", "/", "/", "--", *sandbox]
    for what, argv in (("sandbox", sandbox), ("sandbox inside a fence", nested)):
        ended = processes.run(argv, timeout=20, env=bench.environment())
        if not ended.ok:
            if reason := _known_reason(bench):
                return f"no {what} works here ({reason}); see fence.layers"
            raise Failed(
                f"bwrap cannot build a {what}: {ended.last_output or ended.outcome}",
                "./provision    (on Ubuntu: kernel.apparmor_restrict_unprivileged_userns keeps bwrap from working)",
            )
    return "user, network and process namespaces work, also nested"


def _known_reason(bench: Workbench) -> str | None:
    """Why the deploy set up only one layer. fence.layers reports it, and sessions run with the other layer."""
    try:
        return bench.fence.reason if bench.fence.layers else None
    except Failed:
        return None


def _runtime(bench: Workbench) -> str:
    python = bench.paths.python
    if not os.access(python, os.X_OK):
        raise Failed(f"{python} is missing")
    program = f"import claude_local, sys, {', '.join(LIBRARIES)}; print(sys.version.split()[0], *claude_local.__path__)"
    env = bench.environment(PYTHONDONTWRITEBYTECODE="1")
    ended = processes.run([python, "-c", program], timeout=60, env=env, cwd="/")
    if not ended.ok:
        lines = ended.last_output.splitlines()
        raise Failed(f"the runtime's libraries cannot be imported: {lines[-1] if lines else ended.outcome}")
    version, _, folder = ended.stdout.strip().partition(" ")
    if not folder.startswith(bench.paths.lib):
        raise Failed(f"claude_local is imported from {folder}, not from {bench.paths.lib}")
    foreign = "" if sys.prefix == bench.paths.venv else f"; verify itself runs on {sys.executable}"
    return f"Python {version}, {folder}{foreign}"


def checks() -> list[Check]:
    """The rows of this subject, in order."""
    return [
        *(_tool(name, package) for name, package in TOOLS.items()),
        Check("fence.namespaces", "bubblewrap can build the fence", _namespaces, needs=("tool.bwrap",)),
        Check("runtime.python", "the runtime is installed", _runtime, limit=90),
    ]
