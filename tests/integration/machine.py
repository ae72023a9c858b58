"""How the integration tests run pyinfra on this machine and read its JSON and verify's report."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PYINFRA = str(Path(sys.executable).parent / "pyinfra")
HOME = Path.home()
SHARE = HOME / ".local/share/claude-local"
# verify's rows without the model's answers, which are the same for everybody.
ROWS = (
    "tool.*,fence.*,runtime.*,docker.*,image.*,container.*,model.*,token,wrapper,settings*,claude.version,server.*,"
    "manager.*,scripted.*,claude.terminal,credentials.*"
)


def run(*command: str, timeout: int, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a program: stderr is shown live, stdout is captured, and stdin is empty unless ``stdin`` is given."""
    print(f"\n$ {' '.join(command)}", flush=True)
    started = time.monotonic()
    done = subprocess.run(
        command, cwd=options.pop("cwd", ROOT), stdout=subprocess.PIPE, stdin=options.pop("stdin", subprocess.DEVNULL),
        text=True, timeout=timeout, check=False, **options,
    )  # fmt: skip
    shown = "" if "--json" in " ".join(command) else done.stdout[-6000:]
    print(shown, f"[{done.returncode}, {time.monotonic() - started:.1f} s]", flush=True)
    return done


def need(*programs: str, **packages: str) -> None:
    """Install these programs if they are missing. A keyword is a program whose package has another name."""
    wanted = {**{program: program for program in programs}, **packages}
    missing = [
        package
        for program, package in wanted.items()
        if not shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    ]
    if missing:
        as_root = [] if os.geteuid() == 0 else ["sudo", "-n"]
        words = ["install", "--yes", "--no-install-recommends", *missing]
        assert run(*as_root, "sh", "files/apt.sh", "300", *words, timeout=900).returncode == 0


def stages(*names: str) -> None:
    """Run these stages of the deploy on this machine."""
    assert run(PYINFRA, "-y", "@local", *(f"tasks/{name}.py" for name in names), timeout=1800).returncode == 0


def deploy_json(*arguments: str, target: tuple[str, ...] = ("@local",), timeout: int = 3600) -> dict[str, Any]:
    """Run ``pyinfra --json -y TARGET deploy.py`` and return its totals. Fails the test if the deploy fails."""
    done = run(PYINFRA, "--json", "-y", *target, "deploy.py", *arguments, timeout=timeout)
    assert done.returncode == 0, "the deploy failed, see above"
    report = json.loads(done.stdout)
    for operation in report["results"]["operations"]:
        if operation["success"]:
            print("changed:", operation["name"])
    totals: dict[str, Any] = report["results"]["totals"]
    print("totals:", totals)
    return totals


def verify(*arguments: str, timeout: int = 1800) -> tuple[int, dict[str, dict[str, Any]]]:
    """Run ``pyinfra -y @local tasks/verify.py``. Returns its exit status and the report's rows by id."""
    report = SHARE / "state/verify.json"
    report.unlink(missing_ok=True)
    done = run(PYINFRA, "-y", "@local", "tasks/verify.py", *arguments, timeout=timeout)
    rows = {row["id"]: row for row in json.loads(report.read_text())["rows"]} if report.exists() else {}
    return done.returncode, rows


def copy_project(folder: Path) -> None:
    """Copy the working tree into ``folder``, uncommitted changes included."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, check=True, timeout=60,
    ).stdout  # fmt: skip
    for name in filter(None, listed.decode().split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)


def docker() -> str:
    """A docker client, preferably the one in /usr/bin."""
    return "/usr/bin/docker" if os.access("/usr/bin/docker", os.X_OK) else "docker"
