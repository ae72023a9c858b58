"""Run this Python's pip with the caller's indexes, proxies and certificates, and with no other setting of theirs.

    python -I run_pip.py install --quiet --require-hashes --requirement requirements.lock

A setting such as ``user = true`` or PIP_TARGET would put packages elsewhere. ``pip --isolated`` drops the address of
the index, too. ``-I`` and :func:`environment` do the same for Python's own variables. During an install a line is
printed every ten seconds: pip draws its own progress only in a terminal.

This is the one place that starts pip. It needs nothing but the standard library: ``./provision`` and the runtime stage
run it before anything is installed.
"""

from __future__ import annotations

import ast
import os
import re
import runpy
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping

# pip's settings about how to reach packages. All others say what to do with them, which is for us to say.
# (pip install --help, "Package Index Options" and "General Options".)
KEPT = frozenset({
    "index-url", "pypi-url", "extra-index-url", "no-index", "find-links", "trusted-host", "cert", "client-cert",
    "proxy", "timeout", "default-timeout", "retries", "resume-retries", "keyring-provider", "use-feature",
    "use-deprecated", "cache-dir", "no-cache-dir",
})  # fmt: skip


def argv(*arguments: str) -> list[str]:
    """The command that runs this Python's pip with ``arguments``."""
    return [sys.executable, "-I", os.path.abspath(__file__), *arguments]


def without_python_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """``environ`` without PYTHONPATH, PYTHONHOME and the like."""
    return {name: value for name, value in environ.items() if not name.startswith("PYTHON")}


def from_files(lines: Iterable[str], command: str) -> dict[str, str]:
    """The kept settings in the output of ``pip config list``: key -> value. A command's section beats global."""
    settings: dict[str, dict[str, str]] = {"global": {}, command: {}}
    for line in lines:
        match = re.fullmatch(r"(\w+)\.([\w-]+)=(['\"].*['\"])", line.strip())
        if match and match[1] in settings and match[2] in KEPT:
            settings[match[1]][match[2]] = str(ast.literal_eval(match[3]))
    return settings["global"] | settings[command]


def environment(environ: Mapping[str, str], command: str) -> dict[str, str]:
    """The environment for ``pip COMMAND``: the kept settings as variables, and no configuration file."""
    plain = without_python_settings(environ)
    own = {name: value for name, value in plain.items() if not name.startswith("PIP_") or name == "PIP_CONFIG_FILE"}
    # -vvv: quiet = 1 in a file would leave the list empty.
    listed = subprocess.run(
        [sys.executable, "-I", "-m", "pip", "-vvv", "config", "list"],
        env=own, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
    )  # fmt: skip
    if listed.returncode == 0:
        own["PIP_CONFIG_FILE"] = os.devnull
    # Else pip cannot read a file, and says so better than we could.
    for key, value in from_files(listed.stdout.splitlines(), command).items():
        own["PIP_" + key.upper().replace("-", "_")] = value
    for name, value in plain.items():
        if name.startswith("PIP_") and name[4:].lower().replace("_", "-") in KEPT:
            own[name] = value
    return own


def report() -> None:
    """Print a line every ten seconds. os.write, because pip's main thread may hold the lock of sys.stdout."""
    while True:
        time.sleep(float(os.environ.get("CLAUDE_LOCAL_SAY_SECONDS", "10")))
        os.write(1, b"still fetching packages ...\n")


def main() -> None:
    """Run pip in this process, so that nothing outlives it."""
    command = sys.argv[1]
    if command == "install":
        threading.Thread(target=report, daemon=True).start()
    own = environment(os.environ, command)
    os.environ.clear()
    os.environ.update(own)
    runpy.run_module("pip", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
