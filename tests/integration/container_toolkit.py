"""A stand-in for NVIDIA's container toolkit: nvidia-ctk, and a runtime that mounts the driver's files and runs runc."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

RUNTIME = """#!{python}
import json, os, sys
words = sys.argv[1:]
bundle = words[words.index("--bundle") + 1] if "--bundle" in words else None
if bundle and os.path.exists(bundle + "/config.json"):
    with open(bundle + "/config.json") as file:
        config = json.load(file)
    if "NVIDIA_VISIBLE_DEVICES=all" in config["process"]["env"]:
        for place, source in json.loads({mounts!r}).items():
            mount = {{"destination": place, "type": "bind", "source": source, "options": ["ro", "bind"]}}
            config["mounts"].append(mount)
        config["process"]["env"] += json.loads({environment!r})
        with open(bundle + "/config.json", "w") as file:
            json.dump(config, file)
os.execvp("runc", ["runc", *words])
"""
TOOL = """#!{python}
import json, os, sys
if "--version" in sys.argv:
    print("NVIDIA Container Toolkit CLI version 1.18.0")
    sys.exit()
path = next(word for word in sys.argv if word.startswith("--config=")).removeprefix("--config=")
config = {{}}
if os.path.exists(path):
    with open(path) as file:
        config = json.load(file)
config["runtimes"] = {{"nvidia": {{"args": [], "path": "{runtime}"}}}}
with open(path, "w") as file:
    json.dump(config, file)
"""


def install(folder: Path, mounts: Mapping[str, Path], environment: Sequence[str] = ()) -> None:
    """Write nvidia-ctk and the runtime into ``folder``.

    The runtime gives a container that asks for all GPUs the ``mounts`` (place in the container -> file) and the
    variables of ``environment`` (``NAME=VALUE``).
    """
    places = json.dumps({place: str(source) for place, source in mounts.items()})
    runtime = folder / "runtime"
    for path, text in (
        (runtime, RUNTIME.format(python=sys.executable, mounts=places, environment=json.dumps(list(environment)))),
        (folder / "nvidia-ctk", TOOL.format(python=sys.executable, runtime=runtime)),
    ):
        path.write_text(text)
        path.chmod(0o755)
