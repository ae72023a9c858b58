"""A home with a fake Claude Code that writes down what it sees, for tests with the real outer fence."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from claude_local.fence.config import OUTER, FenceConfig, dump

LAUNCHER = Path(__file__).with_name("fence_alone.py")
BWRAP = "/usr/bin/bwrap"
# It writes down what it sees, and does what its last argument says, as Python.
FAKE_CLAUDE = f"""#!{sys.executable} -IS
import json, os, signal, subprocess, sys, time
def listed(path):
    try:
        return sorted(os.listdir(path))
    except OSError as error:
        return error.strerror
def written(path):
    try:
        open(path, "a").close()
        return "written"
    except OSError as error:
        return error.strerror
seen = {{"argv": sys.argv[1:], "env": dict(os.environ), "cwd": os.getcwd(), "uid": os.getuid(), "pid": os.getpid()}}
heard = []
def put_down():
    # Two sessions may do this at once, and have the same process id each.
    new = "record.new" + str(time.time_ns())
    with open(new, "w") as record:
        json.dump(seen | {{"heard": heard}}, record)
    os.rename(new, "record.json")
if sys.argv[-1].startswith("#"):
    exec(sys.argv[-1])
put_down()
"""


class Station:
    """A home with claude-local's directories, a fake claude, and a workspace."""

    def __init__(self, tmp_path: Path) -> None:
        self.home = Path(os.path.realpath(tmp_path)) / "home é"
        self.workspace = self.home / "projects" / "one two"
        self.workspace.mkdir(parents=True)
        self.config_dir = self.home / ".claude-local"
        self.share = self.home / ".local" / "share" / "claude-local"
        for each in (self.config_dir, self.share):
            each.mkdir(parents=True)
        self.claude = self.home / "bin" / "claude"
        self.add(self.claude, FAKE_CLAUDE).chmod(0o755)
        self.config = self.share / "fence.json"
        # The directory that the launcher is given for the sandbox's programs.
        self.sandbox_bin: Path | None = None
        self.configure()

    def add(self, path: Path, text: str = "x") -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def configure(self, **settings: Any) -> None:
        chosen: dict[str, Any] = {"layers": (OUTER,), "bwrap": BWRAP, "reason": "a test", **settings}
        self.add(self.config, dump(FenceConfig(**chosen)))

    def words(self, *arguments: str, server: str = "http://127.0.0.1:9999") -> list[str]:
        sandbox_bin = ["--sandbox-bin", str(self.sandbox_bin)] if self.sandbox_bin else []
        return [
            sys.executable, "-I", str(LAUNCHER), *sandbox_bin, "--config", str(self.config), "--home", str(self.home),
            "--config-dir", str(self.config_dir), "--own", str(self.share), "--state", str(self.share / "sessions"),
            "--server", server, "--", str(self.claude), *arguments,
        ]  # fmt: skip

    def environment(self, **env: str) -> dict[str, str]:
        return {"HOME": str(self.home), "PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"} | env

    def run(
        self, *arguments: str, cwd: Path | None = None, server: str = "http://127.0.0.1:9999", env: Any = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.words(*arguments, server=server), cwd=cwd or self.workspace, env=self.environment(**env or {}),
            text=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False,
        )  # fmt: skip

    def saw(self, program: str = "", *arguments: str, **env: str) -> dict[str, Any]:
        """What claude saw, after it has run ``program``, which may add to ``seen``."""
        done = self.run(*arguments, "#\n" + program, env=env)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        return self.record()

    def record(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.workspace / "record.json").read_text())
        return found

    @contextmanager
    def running(self, program: str) -> Iterator[subprocess.Popen[str]]:
        """A session that has written down what it saw; its launcher leads a process group."""
        words = self.words("#\n" + program + "\nput_down()\nwhile True: time.sleep(0.05); put_down()")
        with subprocess.Popen(
            words, cwd=self.workspace, env=self.environment(), text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        ) as process:  # fmt: skip
            try:
                self.wait_for(lambda: (self.workspace / "record.json").exists() or process.poll() is not None)
                assert process.poll() is None, process.communicate()[1]
                yield process
            finally:
                process.kill()

    def kill(self, launcher: subprocess.Popen[str]) -> None:
        """Kill the launcher, and wait until nothing of its session is left."""
        waiting, below = [launcher.pid], []
        for number in waiting:
            with suppress(OSError):
                found = Path(f"/proc/{number}/task/{number}/children").read_text().split()
                waiting += map(int, found)
                below += found
        assert below
        launcher.kill()
        launcher.wait(timeout=60)

        def lives(number: str) -> bool:
            with suppress(OSError):
                return ") Z " not in Path(f"/proc/{number}/stat").read_text()
            return False

        self.wait_for(lambda: not any(map(lives, below)))

    @staticmethod
    def wait_for(happened: Any, seconds: float = 60) -> None:
        until = time.monotonic() + seconds
        while not happened():
            assert time.monotonic() < until, "it did not happen in time"
            time.sleep(0.02)
