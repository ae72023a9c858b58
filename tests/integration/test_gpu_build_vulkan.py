"""The Vulkan image, built for real, answers on Mesa's software device (llvmpipe), and says what the CPU image says.

    ./provision test --gpu-build

The first build takes about 20 minutes of two cores. Later only what has changed is compiled, and the answers take two
minutes.
"""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from claude_local.docker.gpus import gpu_options
from claude_local.hardware.machine import Hardware
from claude_local.hardware.variant import SOFTWARE, choose
from claude_local.server import wait
from tests.integration.machine import PYINFRA, run
from tests.switching_time import real_models
from tests.two_containers import Pair, deployed_images, prepare

pytestmark = [pytest.mark.integration, pytest.mark.gpu_build, pytest.mark.usefixtures("deployed")]

PROFILE = "qwen2.5-coder-0.5b"
QUESTION = "Write a Python function that adds two numbers."
TOKENS = 24


@dataclass(frozen=True)
class Answer:
    """What a model says, the seconds of its load, and its tokens a second: prefill and decode."""

    text: str
    load: float
    prefill: float
    decode: float


def made(folder: Path, images: tuple[str, str]) -> Pair:
    """The two containers with this machine's profiles. The log of PROFILE names the layers that a GPU has. One thread:
    on a busy machine, two that wait for each other take many times as long."""
    pair = real_models(prepare(folder, [PROFILE], images))
    presets = folder / "server/presets.ini"
    section = f"[{PROFILE}]\n"
    presets.write_text(presets.read_text().replace(section, f"{section}log-verbosity = 4\nthreads = 1\n"))
    return pair


def answer(pair: Pair) -> Answer:
    """Start the pair's server, load the model, ask it, and remove the server."""
    server = pair.server.run(pair.client, {})
    try:
        subprocess.run(server, check=True, capture_output=True, timeout=120)
        load = wait.load(pair.llama, PROFILE, 600, lambda state: None)
        messages = [{"role": "user", "content": QUESTION}]
        body = {"model": PROFILE, "messages": messages, "max_tokens": TOKENS, "temperature": 0}
        said = pair.llama.json("POST", "/v1/chat/completions", body, timeout=3600)
    finally:
        pair.remove()
    speed = said["timings"]
    text = said["choices"][0]["message"]["content"]
    return Answer(text, load, speed["prompt_per_second"], speed["predicted_per_second"])


def test_the_vulkan_image_answers_on_the_software_device_as_the_cpu_image_does(tmp_path: Path) -> None:
    built = run(
        PYINFRA, "--json", "-y", "@local", "tasks/image.py", "--data", f"image_variant={SOFTWARE}", timeout=3 * 3600
    )
    assert built.returncode == 0, "the image could not be built, see above"
    names = [each["name"] for each in json.loads(built.stdout)["results"]["operations"]]
    image = next(name.removeprefix("Build ") for name in names if "llama-server:" in name)
    cpu_image, manager = deployed_images()
    for parent in (tmp_path.parent, tmp_path.parent.parent):
        parent.chmod(parent.stat().st_mode | 0o011)

    cpu = answer(made(tmp_path / "cpu", (cpu_image, manager)))
    pair = made(tmp_path / "vulkan", (image, manager))
    hardware = Hardware()
    pair.server = replace(pair.server, gpu=gpu_options(choose(hardware, SOFTWARE), hardware))
    cold, warm = answer(pair), answer(pair)

    size = pair.docker("image", "inspect", "--format", "{{.Size}}", image).strip()
    print(f"{image}, {int(size) / 1e6:.0f} MB, says {cold.text!r}", flush=True)
    for name, each in (("cpu", cpu), ("vulkan, cold", cold), ("vulkan, warm", warm)):
        print(f"{name}: ready in {each.load:.1f} s, {each.prefill:.1f} and {each.decode:.1f} tokens/s", flush=True)
    log = (tmp_path / "vulkan/log/server.log").read_text()
    layers = re.findall(r"offloaded (\d+)/(\d+) layers", log)
    assert layers and all(done == all_of for done, all_of in layers), log[-3000:]
    assert "llvmpipe" in log
    assert cold.text == warm.text == cpu.text
    assert any((tmp_path / "vulkan/prompts/shaders").rglob("*")), "the shaders are kept for the next container"
