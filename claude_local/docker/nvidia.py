"""NVIDIA's container toolkit: its repository, and what its error messages mean. Pure."""

from __future__ import annotations

from claude_local.docker.apt_repository import AptRepository
from claude_local.hardware.distribution import DEBIAN_ARCHITECTURES

# NVIDIA's repository, and the fingerprint of its signing key. NVIDIA's own page does not name the fingerprint.
# Independent public records that go back years agree on it: gpu/install_gpu_driver.sh of
# GoogleCloudDataproc/initialization-actions (fetches it from keyserver.ubuntu.com), Puppet profiles of other sites for
# nvidia-docker, installers of 2026 that pin it.
REPOSITORY = "https://nvidia.github.io/libnvidia-container"
KEY = "C95B321B61E88C1809C4F759DDCAE044F796ECB0"
PACKAGE = "nvidia-container-toolkit"


def repository(machine: str) -> AptRepository:
    """NVIDIA's repository for ``machine``, as ``uname -m`` prints it."""
    return AptRepository(
        name="claude-local-nvidia",
        uri=f"{REPOSITORY}/stable/deb/{DEBIAN_ARCHITECTURES[machine]}",
        suite="/",
        key_address=f"{REPOSITORY}/gpgkey",
        fingerprint=KEY,
    )


# Part of an error message of Docker, the toolkit or nvidia-smi -> what helps. The first match counts.
_ADVICE = {
    "version mismatch": "the driver was updated, the old kernel module still runs: sudo reboot",
    "couldn't communicate with the NVIDIA driver": "the driver does not work: nvidia-smi on the machine shows why",
    "nvidia runtime": "run tasks/nvidia.py again; if that does not help, restart Docker: sudo systemctl restart docker",
    "invalid runtime name": "Docker has not read its configuration: sudo systemctl restart docker",
    "nknown runtime": "Docker has not read its configuration: sudo systemctl restart docker",
    "libnvidia-ml.so": "the driver's libraries are missing: install the whole driver (nvidia-driver)",
    "Unknown Error": "the container lost its access to the devices: sudo systemctl restart docker",
    "nvidia-smi": "nvidia-smi is missing on the machine: sudo apt install nvidia-smi (Debian), nvidia-utils (Ubuntu)",
}


def advice(message: str) -> str:
    """What to try when a container without a GPU failed with this message."""
    for part, fix in _ADVICE.items():
        if part in message:
            return fix
    return "nvidia-smi on the machine itself, then sudo nvidia-ctk cdi list, show how far the driver gets"
