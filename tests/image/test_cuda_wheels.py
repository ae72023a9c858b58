"""NVIDIA's packages come through pip, are checked by their hashes, and nothing else is in their folder."""

import hashlib
import sys
from pathlib import Path

import pytest

from claude_local.hardware import cuda
from claude_local.image import cuda_wheels

PINNED = {"nvidia-cuda-nvcc==1.0": b"compiler", "nvidia-cublas==2.0": b"library"}


@pytest.fixture
def pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for Python's pip: it appends its arguments to a file, and puts the pinned files into the folder."""
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in PINNED.items()}
    monkeypatch.setattr(cuda_wheels, "WHEELS", hashes)
    program, asked = tmp_path / "pip", tmp_path / "asked"
    program.write_text(
        f'#!/bin/sh\necho "$*" >>{asked}\nwhile test "$1" != --dest; do shift; done\ncd "$2"\ncat requirements.txt\n'
        "printf compiler >nvidia_cuda_nvcc-1.0.whl; printf library >nvidia_cublas-2.0.whl\n"
    )
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    return asked


def test_the_packages_are_fetched_once_with_their_hashes(tmp_path: Path, pip: Path) -> None:
    folder = tmp_path / "cuda"
    assert cuda_wheels.main([str(folder)]) == 0 and cuda_wheels.main([str(folder)]) == 0
    (asked,) = pip.read_text().splitlines()
    for word in ("--require-hashes", "--no-deps", "--only-binary nvidia-cuda-nvcc,nvidia-cublas "):
        assert word in asked
    required = (folder / "requirements.txt").read_text()
    assert f"nvidia-cublas==2.0 --hash=sha256:{hashlib.sha256(b'library').hexdigest()}" in required


def test_packages_of_another_release_go_and_a_damaged_one_is_fetched_again(tmp_path: Path, pip: Path) -> None:
    (tmp_path / "nvidia_cuda_nvcc-0.9.whl").write_bytes(b"older compiler")
    (tmp_path / "nvidia_cublas-2.0.whl").write_bytes(b"libr")
    assert cuda_wheels.main([str(tmp_path)]) == 0
    assert sorted(path.name for path in tmp_path.glob("*.whl")) == [
        "nvidia_cublas-2.0.whl",
        "nvidia_cuda_nvcc-1.0.whl",
    ]


def test_whose_licence_it_is_is_said(tmp_path: Path, pip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cuda_wheels.main([str(tmp_path)])
    assert "NVIDIA's licence" in capsys.readouterr().out


def test_a_failure_has_pips_reason(tmp_path: Path, pip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path(sys.executable).write_text("#!/bin/sh\necho 'ERROR: No matching distribution' >&2; exit 1\n")
    assert cuda_wheels.main([str(tmp_path)]) == 1
    assert "No matching distribution" in capsys.readouterr().err


def test_the_pins_are_the_releases_own() -> None:
    assert cuda.IN_WHEELS.version == "13.0.2" and "nvidia-cuda-nvcc==13.0.88" in cuda.WHEELS
