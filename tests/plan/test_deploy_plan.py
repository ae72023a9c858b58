"""The whole deploy on pyinfra's @fake connector: every stage in order, on a machine that has nothing, touching nothing."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PYINFRA = str(Path(sys.executable).parent / "pyinfra")
STAGES = ["packages", "runtime", "fence", "docker", "image", "models", "server", "claude", "home", "commands"]


def pyinfra(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [PYINFRA, *arguments]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL, check=False
    )


@pytest.fixture(scope="module")
def plan() -> list[str]:
    done = pyinfra("--json", "tests/plan/fake_inventory.py", "deploy.py")
    assert done.returncode == 0, done.stderr
    return [operation["name"] for operation in json.loads(done.stdout)["plan"]]


def test_the_stages_come_in_the_order_of_the_picture(plan: list[str]) -> None:
    stages = [name.split(" | ")[0] for name in plan]
    assert list(dict.fromkeys(stages)) == [f"tasks/{stage}.py" for stage in STAGES]


def test_every_step_is_named_in_the_imperative(plan: list[str]) -> None:
    for name in plan:
        step = name.split(" | ", 1)[1]
        assert step[0].isupper() and "(" not in step.split()[0], name


@pytest.mark.parametrize("stage", ["preflight", *STAGES, "verify"])
def test_each_task_file_plans_alone(stage: str) -> None:
    done = pyinfra("--dry", "tests/plan/fake_inventory.py", f"tasks/{stage}.py")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


def test_bad_data_stops_everything_with_all_problems_and_no_operation() -> None:
    done = pyinfra(
        "-y", "tests/plan/fake_inventory.py", "deploy.py", "--data", "server_port=http", "--data", "image_cpu=fast"
    )  # fmt: skip
    assert done.returncode == 1
    assert "server_port: found 'http', allowed is a whole number" in done.stderr
    assert "image_cpu: found 'fast'" in done.stderr
    assert "Traceback" not in done.stderr and "Starting operation" not in done.stderr


def test_an_unsupported_machine_is_refused_by_preflight() -> None:
    done = pyinfra("-y", "tests/plan/old_inventory.py", "deploy.py")
    assert done.returncode == 1
    assert "found debian 10; Debian 12 or newer, or Ubuntu 22.04 or newer, is needed" in done.stderr
    assert "Traceback" not in done.stderr and "Starting operation" not in done.stderr
