"""Which profile a deploy places on machines of different sizes, and what it says of it."""

import json

import pytest

from tests.plan.test_deploy_plan import pyinfra


@pytest.mark.parametrize(
    ("machine", "placed", "says"),
    [
        (
            "two-generations",
            "qwen3.6-35b-a3b-ud-q4",
            "fits wholly on NVIDIA GeForce RTX 4090 + NVIDIA GeForce RTX 5070 Ti with 262,144 tokens of context",
        ),
        ("hopper", "qwen3-coder-next-ud-q5", "fits wholly on NVIDIA H200 with 262,144 tokens"),
    ],
)
def test_a_machine_with_gpus_gets_the_profile_that_fits_and_the_reason(machine: str, placed: str, says: str) -> None:
    done = pyinfra("--json", "tests/plan/gpu_inventory.py", "deploy.py", "--limit", f"@fake/{machine}")
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stderr.split())
    assert says in said and "KV cache" in said
    names = [operation["name"] for operation in json.loads(done.stdout)["plan"]]
    assert f"tasks/models.py | Place the models: {placed}" in names


def test_a_named_profile_that_does_not_fit_is_placed_and_told_what_lacks() -> None:
    done = pyinfra(
        "--json", "tests/plan/gpu_inventory.py", "deploy.py", "--limit", "@fake/two-generations",
        "--data", "default_profile=qwen3-coder-ud-q5",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "qwen3-coder-next-ud-q5: named; does not fit on the GPUs" in done.stderr
    assert "experts in main memory" in done.stderr
    names = [operation["name"] for operation in json.loads(done.stdout)["plan"]]
    assert "tasks/models.py | Place the models: qwen3-coder-next-ud-q5" in names
