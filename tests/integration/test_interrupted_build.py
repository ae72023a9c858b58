"""The image stage, interrupted three ways in the middle of a real compile, while the server keeps running.

A copy of the project whose Dockerfile differs in one compiler option makes another tag, so nothing of the installed
image is touched; the compiler cache keeps it to a minute.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pexpect
import pytest

from tests.integration.machine import PYINFRA, copy_project, docker, run

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("deployed")]

STAGE = ["-y", "@local", "tasks/image.py"]
# A compile that lasts.
ONE_JOB = ["--data", "image_jobs=1"]
LABEL = "claude-local.interrupted"


class Project:
    """A copy of the project. ``mark`` is in the command line of every process of its build, in Docker too."""

    def __init__(self, folder: Path) -> None:
        copy_project(folder)
        self.folder = folder
        self.dockerfile = folder / "files/image/Dockerfile"
        self.text = self.dockerfile.read_text()
        self.mark = ""

    def begin_anew(self) -> None:
        """Add an unused macro to the Dockerfile, so that the compiler cache must check each file again."""
        wanted = "-DCMAKE_BUILD_TYPE=Release"
        assert self.text.count(wanted) == 1
        self.mark = f"INTERRUPTED={time.time_ns()}"
        text = self.text.replace(wanted, f"{wanted} -DCMAKE_CXX_FLAGS=-D{self.mark}")
        self.dockerfile.write_text(f"{text}LABEL {LABEL}={self.mark}\n")

    def change_one_file(self) -> None:
        """Add a patch of llama.cpp that changes one small source file."""
        (self.folder / "files/image/patches/9999-one-file.patch").write_text(
            "--- a/src/llama-io.cpp\n+++ b/src/llama-io.cpp\n@@ -1,0 +2,1 @@\n"
            f'+extern const char * const one_file = "{self.mark}";\n'
        )

    def start(self) -> tuple[Any, int]:
        """Start the stage in a terminal, under a shell that outlives it. Returns the terminal and pyinfra's pid."""
        script = 'trap : INT; sh -c \'echo "pid $$"; exec "$@"\' sh "$@"; echo "the shell is back: $?"; read -r _'
        words = ["-c", script, "sh", PYINFRA, *STAGE, *ONE_JOB]
        terminal: Any = pexpect.spawn(
            "/bin/sh", words, cwd=str(self.folder), encoding="utf-8", timeout=300, dimensions=(40, 200)
        )
        terminal.expect(r"pid (\d+)")
        return terminal, int(terminal.match[1])

    def processes(self) -> dict[int, str]:
        """The processes of the build: pid -> command line."""
        found = {}
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if self.mark in words:
                found[int(entry.name)] = words
        return found


def tags() -> list[str]:
    """The images built from such a Dockerfile, finished or not."""
    words = [docker(), "image", "ls", "--format", "{{.Repository}}:{{.Tag}}", "--filter", f"label={LABEL}"]
    return subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout.split()


def server() -> tuple[str, str]:
    """The server's container id and start time."""
    words = [docker(), "container", "inspect", "claude-local-server"]
    (found,) = json.loads(subprocess.run(words, capture_output=True, check=True, timeout=60).stdout)
    return found["Id"], found["State"]["StartedAt"]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    yield Project(tmp_path_factory.mktemp("project"))
    for tag in tags():
        subprocess.run([docker(), "rmi", tag], check=False, capture_output=True, timeout=120)


@pytest.mark.parametrize("how", ["Ctrl-C", "SIGTERM", "SIGKILL"])
def test_an_interrupted_build_leaves_no_process_building(project: Project, how: str) -> None:
    before = server()
    project.begin_anew()
    terminal, pyinfra = project.start()
    terminal.expect(r"\[\d+/\d+\] Building")
    assert any("cmake --build" in words for words in project.processes().values()), "it compiles"
    interrupted = time.monotonic()
    if how == "Ctrl-C":
        terminal.sendcontrol("c")
    else:
        os.kill(pyinfra, getattr(signal, how))
    terminal.expect(r"the shell is back: (\d+)")
    print(f"{how}: pyinfra ended with {terminal.match[1]} after {time.monotonic() - interrupted:.1f} s")
    while left := project.processes():
        assert time.monotonic() - interrupted < 120, f"still building: {left}"
        time.sleep(0.2)
    print(f"{how}: the last process of the build was gone after {time.monotonic() - interrupted:.1f} s")
    terminal.close(force=True)
    assert tags() == []
    assert server() == before


def test_the_next_run_compiles_only_what_changed_and_succeeds(project: Project) -> None:
    """The compiler's options differ for all files, and one file's content does."""
    before = server()
    project.change_one_file()
    done = run(PYINFRA, *STAGE, cwd=project.folder, timeout=900, stderr=subprocess.STDOUT)
    assert done.returncode == 0
    compiled, files = map(int, re.findall(r"compiled (\d+) of (\d+) files", done.stdout)[-1])
    assert files > 100 and 1 <= compiled <= 0.15 * files
    (tag,) = tags()
    assert not tag.endswith("-unchecked")
    again = run(PYINFRA, "--json", *STAGE, cwd=project.folder, timeout=120)
    totals = json.loads(again.stdout)["results"]["totals"]
    assert (totals["success"], totals["error"]) == (0, 0)
    assert server() == before


def server_stage(*arguments: str) -> dict[str, int]:
    """Run ``tasks/server.py`` and return pyinfra's totals."""
    done = run(PYINFRA, "--json", "-y", "@local", "tasks/server.py", *arguments, timeout=300)
    assert done.returncode == 0
    totals: dict[str, int] = json.loads(done.stdout)["results"]["totals"]
    return totals


def test_the_server_stage_removes_an_unused_image(project: Project) -> None:
    (tag,) = tags()
    before = server()
    made = subprocess.run([docker(), "create", tag], capture_output=True, text=True, check=True, timeout=60)
    try:
        assert server_stage()["success"] == 0
        assert tags() == [tag], "a container uses it"
    finally:
        subprocess.run([docker(), "rm", made.stdout.strip()], check=True, capture_output=True, timeout=60)
    assert server_stage("--data", "image_keep_old=true")["success"] == 0
    assert tags() == [tag], "it is to be kept"
    assert server_stage()["success"] == 1
    assert tags() == []
    assert server_stage()["success"] == 0
    assert server() == before
