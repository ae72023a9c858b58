"""The server stage alone, with its own container, ports and home: a model that cannot load, one on another disk."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from claude_local.paths import Paths
from tests.deploy.this_machine import runtime_python
from tests.integration.fenced_home import real_claude
from tests.integration.machine import PYINFRA, ROOT, SHARE, docker

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("deployed")]

CONTAINER = "claude-local-server-stage"
PROFILE = "qwen2.5-coder-0.5b"
MODEL = SHARE / "models/qwen2.5-coder-0.5b-instruct-q4_k_m.gguf"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


class Home:
    """A temporary home with a runtime and a models directory. The image is this machine's."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.paths = Paths(home=str(home), model_dir=str(home / "models"), bin_dir=str(home / "bin"))
        self.model = home / "models" / MODEL.name
        for folder in (self.model.parent, Path(self.paths.lib), Path(self.paths.placements).parent):
            folder.mkdir(parents=True)
        self.model.parent.chmod(0o755)
        Path(self.paths.venv).symlink_to(Path(runtime_python(home)).parents[1])
        (Path(self.paths.lib) / "claude_local").symlink_to(ROOT / "claude_local")
        self.ports = free_port(), free_port()

    def place(self, size: int | None = None) -> None:
        """Copy the first ``size`` bytes of the model, and record it the way the models stage does."""
        shutil.copyfile(MODEL, self.model)
        self.model.chmod(0o644)
        if size is not None:
            os.truncate(self.model, size)
        self.note()

    def note(self) -> None:
        about = self.model.stat()
        stamp = {"sha256": "0" * 64, "size": about.st_size, "mtime_ns": about.st_mtime_ns, "inode": about.st_ino}
        path = str(self.model)
        noted = {"profiles": {PROFILE: {"model": path, "mmproj": None, "files": [path]}}, "files": {path: stamp}}
        Path(self.paths.placements).write_text(json.dumps(noted))

    def server_stage(self, *more: str) -> subprocess.CompletedProcess[str]:
        return self.stages("tasks/server.py", more=more)

    def stages(self, *files: str, more: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        data = {
            "model_dir": self.paths.model_dir, "server_port": self.ports[0], "manager_port": self.ports[1],
            "server_container": CONTAINER,
            "server_memory_mib": 2000, "server_start_timeout": 120, "default_profile": PROFILE,
            "image_keep_old": "true",
        }  # fmt: skip
        options = [word for name, value in data.items() for word in ("--data", f"{name}={value}")]
        return subprocess.run(
            [PYINFRA, "-y", "@local", *files, *options, *more],
            cwd=ROOT, env={**os.environ, "HOME": str(self.home)}, stdin=subprocess.DEVNULL, capture_output=True,
            text=True,
            check=False, timeout=300,
        )  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    made = Home(tmp_path_factory.mktemp("server-stage"))
    try:
        yield made
    finally:
        subprocess.run([docker(), "rm", "--force", CONTAINER], capture_output=True, check=False, timeout=60)


def test_the_stage_fails_with_the_servers_last_lines_and_a_fix(home: Home) -> None:
    home.place(size=64 * 2**20)
    done = home.server_stage()
    print(done.stderr[-3000:])
    said = " ".join(done.stderr.split())
    assert done.returncode == 1
    assert "the default profile does not answer: " in said
    assert "The server's last lines:" in said and "not within the file bounds" in said
    assert "What to try: a model file is cut short: run tasks/models.py" in said
    assert "Traceback" not in said


def test_with_the_whole_model_the_next_run_succeeds(home: Home) -> None:
    home.place()
    done = home.server_stage()
    assert done.returncode == 0, done.stderr[-3000:]
    assert "answers" in done.stderr


def test_a_model_on_another_disk_is_served_from_there(home: Home) -> None:
    other = home.home / "another disk"
    other.mkdir(mode=0o755)
    home.model = home.model.rename(other / home.model.name)
    home.note()
    done = home.server_stage("--data", f'model_search_dirs=["{other}"]')
    assert done.returncode == 0, done.stderr[-3000:]
    words = [docker(), "container", "inspect", "--format", "{{json .Mounts}}", CONTAINER]
    mounts = json.loads(subprocess.run(words, capture_output=True, check=True, timeout=60).stdout)
    (mount,) = (each for each in mounts if each["Source"] == str(other))
    assert not mount["RW"]
    assert list(Path(home.paths.model_dir).iterdir()) == [], "nothing was copied"


def test_the_command_starts_a_stopped_server_and_answers(home: Home) -> None:
    Path(home.paths.claude).symlink_to(real_claude())
    done = home.stages("tasks/fence.py", "tasks/home.py", "tasks/commands.py")
    assert done.returncode == 0, done.stderr[-3000:]
    subprocess.run([docker(), "stop", CONTAINER], check=True, capture_output=True, timeout=60)
    work = home.home / "work"
    work.mkdir()
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("CLAUDE", "ANTHROPIC"))}
    done = subprocess.run(
        [home.paths.wrapper, "--tools", "", "-p", "Reply with the word ready."],
        cwd=work, env={**plain, "HOME": str(home.home)}, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        check=False, timeout=600,
    )  # fmt: skip
    print(done.stdout, done.stderr)
    assert done.returncode == 0 and done.stdout.strip()
    told = [line for line in done.stderr.splitlines() if line.startswith("claude-local:")]
    assert any("start" in line for line in told), done.stderr
