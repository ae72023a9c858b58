"""Debian's nvidia-smi, fetched by apt, over a stand-in for NVIDIA's library (nvml.c)."""

from __future__ import annotations

import subprocess
from pathlib import Path

FORMAT = "$(REPO_URI) $(CODENAME) $(COMPONENT) $(ORIGIN)"


def fetch(folder: Path, codename: str) -> Path:
    """The nvidia-smi of a Debian release, from the archive that this machine's apt uses, with its part non-free.

    apt gets lists and a cache of its own; nothing is installed.
    """
    known = subprocess.run(["apt-get", "indextargets", "--format", FORMAT], capture_output=True, text=True, check=True)
    lines = (line.split() for line in known.stdout.splitlines())
    archive = next(
        uri for uri, suite, part, origin in lines if origin == "Debian" and part == "main" and "-" not in suite
    )
    keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
    (folder / "sources.list").write_text(f"deb [signed-by={keyring}] {archive} {codename} non-free\n")
    for place in ("lists/partial", "cache/archives/partial"):
        (folder / place).mkdir(parents=True)
    # fmt: off
    apt = [
        "apt-get", "-q", "-o", f"Dir::Etc::SourceList={folder}/sources.list", "-o", "Dir::Etc::SourceParts=/dev/null",
        "-o", f"Dir::State::Lists={folder}/lists", "-o", f"Dir::Cache={folder}/cache",
    ]
    # fmt: on
    for arguments in (["update"], ["download", "nvidia-smi"]):
        subprocess.run([*apt, *arguments], cwd=folder, capture_output=True, check=True, timeout=120)
    (package,) = folder.glob("nvidia-smi_*.deb")
    subprocess.run(["dpkg", "-x", package, folder / "unpacked"], check=True, timeout=60)
    return folder / "unpacked/usr/lib/nvidia/current/nvidia-smi"


def compile_library(folder: Path, source: str = "nvml.c", name: str = "libnvidia-ml.so.1") -> Path:
    """The folder with a stand-in for a library of NVIDIA's driver, compiled from ``source`` in this folder."""
    command = ["gcc", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", "-o"]
    subprocess.run([*command, folder / name, Path(__file__).with_name(source)], check=True, timeout=60)
    return folder
