"""A workstation's home with the rendered claude-local, and a claude that records how it was started."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from claude_local.claude.wrapper import render_claude_local
from claude_local.fence.config import INNER, FenceConfig, dump
from claude_local.paths import Paths

PROJECT = Path(__file__).parents[2]
TEMPLATE = PROJECT / "templates" / "claude-local"
TOKEN = "secret-token-of-this-machine"
# A claude that records how it was started.
FAKE_CLAUDE = f"""#!{sys.executable}
import json, os, sys, time
record = os.environ["FAKE_CLAUDE_RECORD"]
with open(record + ".new", "w") as file:
    json.dump({{"argv": sys.argv[1:], "env": dict(os.environ), "pid": os.getpid(), "cwd": os.getcwd()}}, file)
os.replace(record + ".new", record)  # whoever waits for it never sees half of it
if os.environ.get("FAKE_CLAUDE_SLEEP"):
    time.sleep(30)
sys.exit(int(os.environ.get("FAKE_CLAUDE_EXIT", "0")))
"""


def quiet(done: subprocess.CompletedProcess[str]) -> bool:
    """Whether a run printed nothing, except on stderr that only one layer of the fence works."""
    return done.stdout == "" and all("layer" in line for line in done.stderr.splitlines())


class Home:
    """A workstation's home with the wrapper in it."""

    def __init__(self, home: Path, server_port: int, start_timeout: int = 20) -> None:
        self.home = home
        self.paths = Paths(home=str(home), model_dir=str(home / "models"), bin_dir=str(home / "bin"))
        self.record = home / "record.json"
        self.tools = home / "tools"
        self.add(self.paths.token, TOKEN + "\n")
        self.add(self.paths.enforced_settings, json.dumps({"sandbox": {"enabled": True}, "permissions": {"x": 1}}))
        self.add(self.paths.bash_env, "")
        profiles = {"small": {"tools": "Read,Write"}, "large": {"tools": "standard"}}
        self.add(self.paths.profiles, json.dumps({"default": "small", "profiles": profiles}))
        self.add(self.paths.claude, FAKE_CLAUDE, 0o755)
        text = render_claude_local(
            TEMPLATE.read_text(encoding="utf-8"),
            self.paths,
            server=f"http://127.0.0.1:{server_port}",
            container="the-server",
            start_timeout=start_timeout,
            print_mode="default",
            python=sys.executable,
            program=str(PROJECT / "claude_local" / "claude" / "start.py"),
            path=f"{self.tools}:/usr/bin:/bin",
        )
        # One layer: the launcher becomes claude, and these tests see what it was started with.
        self.add(self.paths.fence_config, dump(FenceConfig(layers=(INNER,), reason="a test")))
        self.add(self.paths.wrapper, text, 0o755)

    def add(self, path: str | Path, text: str, mode: int = 0o600) -> None:
        file = Path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        file.chmod(mode)

    @property
    def passed_settings(self) -> dict[str, Any]:
        """What claude got with --settings."""
        settings: dict[str, Any] = json.loads(self.started["argv"][0].removeprefix("--settings="))
        return settings

    def docker(self, script: str) -> None:
        """Put a docker and a sudo in front of the real ones."""
        self.add(self.tools / "docker", f"#!/bin/sh\necho \"$*\" >> '{self.home}/docker.log'\n{script}\n", 0o755)
        self.add(self.tools / "sudo", '#!/bin/sh\nshift\nSUDO=1 exec "$@"\n', 0o755)

    @property
    def docker_log(self) -> list[str]:
        log = self.home / "docker.log"
        return log.read_text().splitlines() if log.exists() else []

    def environment(self, server: str | None, **env: str) -> dict[str, str]:
        base = {"HOME": str(self.home), "PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
        if server is not None:
            base["CLAUDE_LOCAL_SERVER"] = server
        return base | {"FAKE_CLAUDE_RECORD": str(self.record)} | env

    def run(self, *arguments: str, server: str | None = None, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.paths.wrapper, *arguments],
            env=self.environment(server, **env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    @property
    def started(self) -> dict[str, Any]:
        """How claude was started."""
        return json.loads(self.record.read_text())
