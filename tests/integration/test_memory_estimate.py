"""The memory estimate agrees with llama-server, for every shipped shape and for the placed models."""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.memory_estimate import QUICK, SETTINGS, TOLERANCE, compare, shapes
from claude_local.models.architecture import shipped
from tests.integration.machine import SHARE, docker

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("deployed")]

CONTAINER = "claude-local-server"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """A sparse file for every shipped shape: 300 GB that take no disk space."""
    folder = tmp_path_factory.mktemp("shapes")
    folder.chmod(0o755)
    for parent in (folder.parent, folder.parent.parent):
        parent.chmod(parent.stat().st_mode | 0o011)
    yield dict(shapes(folder))


def server(folder: Path, name: str) -> list[str]:
    """The argv that runs the image's llama-server with ``folder`` at /m. Little memory: it must not load a model."""
    image = subprocess.run(
        [docker(), "inspect", "--format", "{{.Config.Image}}", CONTAINER],
        capture_output=True, text=True, check=True, timeout=60,
    ).stdout.strip()  # fmt: skip
    words = [docker(), "run", "--rm", "--init", "--name", name, "--network", "none", "--memory", "3g"]
    words += ["--mount", f"type=bind,source={folder},target=/m,readonly", "--entrypoint", "/opt/llama/llama-server"]
    return [*words, image]


def end(name: str) -> None:
    subprocess.run([docker(), "rm", "--force", name], capture_output=True, check=False, timeout=60)


@pytest.mark.parametrize("name", shipped())
def test_every_shipped_shape_is_within_15_percent(files: dict[str, Path], name: str) -> None:
    path = files[name]
    for setting in SETTINGS if name == "gpt-oss-20b" else QUICK:
        box = f"claude-local-estimate-{uuid.uuid4().hex[:8]}"
        command = server(path.parent, box)
        row = compare(command, name, path, setting, f"/m/{path.name}", lambda box=box: end(box))  # type: ignore[misc]
        print("  ".join(row.cells()))
        assert abs(row.error) <= TOLERANCE, row.cells()
        # A big model's weights would hide an error in the context's share, so that is compared on its own too.
        assert abs(row.beside_weights) <= TOLERANCE, row.cells()


def test_the_placed_models_are_within_15_percent() -> None:
    index = json.loads((SHARE / "state/models.json").read_text()) if (SHARE / "state/models.json").exists() else {}
    paths = [Path(record["model"]) for record in (index.get("profiles") or {}).values()]
    assert paths, "the whole-machine test places at least one model first"
    for path in paths:
        for setting in SETTINGS[:3]:
            box = f"claude-local-estimate-{uuid.uuid4().hex[:8]}"
            row = compare(
                server(path.parent, box), path.stem, path, setting, f"/m/{path.name}", lambda box=box: end(box)
            )  # type: ignore[misc]
            print("  ".join(row.cells()))
            assert abs(row.error) <= TOLERANCE, row.cells()
