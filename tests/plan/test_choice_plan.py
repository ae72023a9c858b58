"""Which profile a deploy places on machines of different sizes, and what it says of it."""

import json
from pathlib import Path

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
        ("hopper", "qwen3.6-35b-a3b-ud-q4", "fits wholly on NVIDIA H200 with 262,144 tokens"),
    ],
)
def test_a_machine_with_gpus_gets_the_profile_that_fits_and_the_reason(machine: str, placed: str, says: str) -> None:
    done = pyinfra("--json", "tests/plan/gpu_inventory.py", "deploy.py", "--limit", f"@fake/{machine}")
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stderr.split())
    assert says in said and "KV cache" in said
    names = [operation["name"] for operation in json.loads(done.stdout)["plan"]]
    assert any(name.startswith(f"tasks/models.py | Place the models: {placed} (") for name in names)


def test_a_named_profile_that_does_not_fit_is_placed_with_what_is_missing() -> None:
    done = pyinfra(
        "--json", "tests/plan/gpu_inventory.py", "deploy.py", "--limit", "@fake/two-generations",
        "--data", "default_profile=qwen3-coder-ud-q5",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "qwen3-coder-next-ud-q4: named; does not fit on the GPUs" in done.stderr
    assert "served with 65,536 tokens, the rest goes to main memory (--fit on)" in " ".join(done.stderr.split())
    names = [operation["name"] for operation in json.loads(done.stdout)["plan"]]
    assert any(name.startswith("tasks/models.py | Place the models: qwen3-coder-next-ud-q4 (") for name in names)


@pytest.mark.slow
def test_a_placement_by_hand_for_other_gpus_is_left_out_and_a_mistake_stops_before_anything(tmp_path: Path) -> None:
    conf = tmp_path / "mine.conf"
    conf.write_text(
        "[mine]\nMODEL = a.gguf\nABOUT_SIZE = 8 GB\nARCHITECTURE = gpt-oss-20b\nCTX_SIZE = 65536\nN_GPU_LAYERS = 99\n"
        f"FIT = off\nEXTRA_ARGS = -ot exps=CUDA1\nSOURCES = hub o/r@{'0' * 40}\n"
    )
    arguments = ("tests/plan/gpu_inventory.py", "deploy.py", "--limit", "@fake/amd", "--data", f"models_conf={conf}")
    done = pyinfra("--json", *arguments)
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stderr.split())
    assert (
        "mine: --override-tensor names CUDA1, but this machine has Vulkan0: its placement by hand is left out" in said
    )
    conf.write_text(conf.read_text().replace("gpt-oss-20b", "NoSuchThing"))
    done = pyinfra("--json", *arguments)
    assert done.returncode != 0 and "nothing has been changed" in done.stderr
    assert "mine.conf: [mine] ARCHITECTURE: found 'NoSuchThing', expected one of" in " ".join(done.stderr.split())
