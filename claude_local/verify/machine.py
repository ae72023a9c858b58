"""Rows about the machine itself: the programs that the fence needs, and whether the kernel lets it be built."""

from __future__ import annotations

import os
import shutil
import sys

from claude_local.verify import processes
from claude_local.verify.checks import Check, Failed
from claude_local.verify.workbench import Workbench

TOOLS = {"bwrap": "bubblewrap", "socat": "socat", "jq": "jq", "curl": "curl"}
# What the runtime's programs import.
LIBRARIES = ("requests", "jsonschema", "rich", "pexpect", "pyte", "anthropic", "starlette", "uvicorn")


def _tool(name: str, package: str) -> Check:
    def run(bench: Workbench) -> str:
        found = shutil.which(name)
        if found is None:
            raise Failed(
                f"{name} is not on PATH ({os.environ.get('PATH', '')})",
                f"sudo apt install {package}    (or ./provision)",
            )
        return found

    return Check(f"tool.{name}", f"{name} is on PATH", run)


def _bwrap_works(bench: Workbench) -> str:
    # What Claude Code's own sandbox asks of the kernel for each command; then the same inside an outer fence. The outer
    # one keeps /proc as it is: for root, a second fresh /proc inside a first one is refused.
    sandbox = [
        *(bench.bwrap, "--unshare-user", "--unshare-net", "--unshare-pid", "--cap-drop", "ALL", "--ro-bind", "/", "/"),
        *("--proc", "/proc", "--dev", "/dev", "--", "true"),
    ]
    for what, argv in (
        ("sandbox", sandbox),
        ("sandbox inside a fence", [bench.bwrap, "--dev-bind", "/", "/", "--", *sandbox]),
    ):
        ended = processes.run(argv, timeout=20, env=bench.environment())
        if not ended.ok:
            if (fence := bench.fence) is not None and fence.layers and fence.reason:
                # The deploy knows it: fence.layers tells what is missing, and the sessions below run with the rest.
                return f"no {what} here ({fence.reason}); see fence.layers"
            raise Failed(
                f"bwrap cannot build a {what}: {ended.said or ended.ending()}",
                "./provision    (on Ubuntu: kernel.apparmor_restrict_unprivileged_userns keeps bwrap from working)",
            )
    return "user, network and process namespaces, also nested"


def _runtime(bench: Workbench) -> str:
    python = bench.paths.python
    if not os.access(python, os.X_OK):
        raise Failed(f"{python} is missing")
    ended = processes.run(
        [
            python,
            "-c",
            f"import claude_local, sys, {', '.join(LIBRARIES)}; print(sys.version.split()[0], *claude_local.__path__)",
        ],
        timeout=60,
        env=bench.environment(PYTHONDONTWRITEBYTECODE="1"),
        cwd="/",
    )
    if not ended.ok:
        last = ended.said.strip().splitlines()
        raise Failed(f"the runtime's libraries cannot be imported: {last[-1] if last else ended.ending()}")
    version, _, where = ended.stdout.strip().partition(" ")
    if not where.startswith(bench.paths.lib):
        raise Failed(f"claude_local comes from {where}, not from {bench.paths.lib}")
    return f"Python {version}, {where}" + (
        "" if sys.prefix == bench.paths.venv else f"; verify itself runs on {sys.executable}"
    )


def checks() -> list[Check]:
    """The rows of this subject, in order."""
    return [
        *(_tool(name, package) for name, package in TOOLS.items()),
        Check("fence.namespaces", "bubblewrap can build the fence", _bwrap_works, needs=("tool.bwrap",)),
        Check("runtime.python", "the runtime is installed", _runtime, limit=90),
    ]
