"""A model_dir, a search directory and a plan, for the tests of placing models."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub import constants, file_download

from claude_local.models import download, placement, placement_check
from claude_local.models.placement_plan import PlacementPlan
from tests.models.gguf_file import model

MIB = 1 << 20
GOOD = model(3 * MIB)
OTHER = model(3 * MIB, filler=b"\x11")


class Desk:
    """A model_dir, a search directory and the plan of one profile."""

    def __init__(self, folder: Path, hub: str) -> None:
        self.folder = folder
        self.models = folder / "models"
        self.disk = folder / "disk"
        self.disk.mkdir()
        self.hub = hub
        self.placements = folder / "state" / "models.json"
        self.profiles: list[dict[str, Any]] = []

    def want(self, *sources: str, name: str = "m.gguf", content: bytes = GOOD, pinned: bool = True) -> None:
        """Add a profile with one file. Without ``pinned`` the plan has no sha256 and size for it."""
        sha256 = hashlib.sha256(content).hexdigest() if pinned else None
        file = {"name": name, "sha256": sha256, "size": len(content) if pinned else None, "sources": sources}
        self.profiles.append({"id": f"p{len(self.profiles)}", "model": name, "mmproj": None, "files": [file]})

    @property
    def text(self) -> str:
        """The plan as JSON."""
        return json.dumps(
            {
                "model_dir": str(self.models),
                "search_dirs": [str(self.disk)],
                "hub": self.hub,
                "placements_path": str(self.placements),
                "profiles": self.profiles,
            }
        )

    @property
    def plan(self) -> PlacementPlan:
        """The plan."""
        return PlacementPlan.read(self.text)

    def place(self) -> str:
        """Place everything; the last line."""
        return placement.place(self.plan)

    def check(self, deep: bool = False) -> dict[str, Any]:
        """What ``placement check`` prints."""
        return placement_check.check(self.plan, deep=deep)

    def states(self, deep: bool = False) -> list[str]:
        """The state of each file."""
        return [row["state"] for row in self.check(deep)["files"]]

    @property
    def index(self) -> dict[str, Any]:
        """The content of models.json."""
        answer: dict[str, Any] = json.loads(self.placements.read_text())
        return answer


def without_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waits between tries, and a transfer that loses nothing but 64 KiB at a break."""
    monkeypatch.setattr(download, "FIRST_WAIT", 0.0)
    monkeypatch.setattr(file_download, "time", SimpleNamespace(sleep=lambda seconds: None))
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1 << 16)


def prepared(folder: Path, hub: str, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A desk without waits between tries, out of reach of the settings of whoever runs the tests."""
    without_waits(monkeypatch)
    for name in ("HF_TOKEN", "HF_TOKEN_PATH", "HF_ENDPOINT", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(folder / "no-token"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(folder / "no-token" / "token"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return Desk(folder, hub)


def program(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    """Start ``python -m claude_local.models.placement``."""
    return subprocess.Popen(
        [sys.executable, "-m", "claude_local.models.placement", *arguments],
        cwd=Path(__file__).resolve().parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )
