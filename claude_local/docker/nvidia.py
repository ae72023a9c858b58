"""NVIDIA's container toolkit: where it comes from, how Docker learns of it, what its errors mean. Pure."""

from __future__ import annotations

# NVIDIA's repository and the fingerprint of the key that signs it. The fingerprint is in public records that do not depend
# on each other and reach back years: GoogleCloudDataproc/initialization-actions, gpu/install_gpu_driver.sh (fetched from
# keyserver.ubuntu.com by it), Puppet profiles of other sites for nvidia-docker, installers of 2026 that pin it. NVIDIA's
# own page names none.
REPOSITORY = "https://nvidia.github.io/libnvidia-container"
KEY = "C95B321B61E88C1809C4F759DDCAE044F796ECB0"
KEY_ADDRESS = f"{REPOSITORY}/gpgkey"
PACKAGE = "nvidia-container-toolkit"
KEYRING = "nvidia-container-toolkit.asc"
SOURCES = "nvidia-container-toolkit.sources"

DEBIAN_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def sources_file(machine: str) -> str:
    """The repository as an apt sources file (deb822); ``machine``: as ``uname -m`` says. It has no suites."""
    return (
        "Types: deb\n"
        f"URIs: {REPOSITORY}/stable/deb/{DEBIAN_ARCHITECTURES[machine]}\n"
        "Suites: /\n"
        f"Signed-By: /etc/apt/keyrings/{KEYRING}\n"
    )


# What Docker, the toolkit and nvidia-smi say when a container gets no GPU, and what helps.
_ADVICE = (
    ("version mismatch", "the driver was updated under the running kernel module: sudo reboot"),
    (
        "couldn't communicate with the NVIDIA driver",
        "the driver does not run: nvidia-smi on the machine itself says why",
    ),
    (
        "nvidia runtime",
        "run tasks/nvidia.py again; if that does not help, restart Docker: sudo systemctl restart docker",
    ),
    ("invalid runtime name", "Docker has not read its configuration: sudo systemctl restart docker"),
    ("nknown runtime", "Docker has not read its configuration: sudo systemctl restart docker"),
    (
        "libnvidia-ml.so",
        "the driver's libraries are missing: install the whole driver (nvidia-driver), not its module alone",
    ),
    ("Unknown Error", "the container was cut off from the devices: sudo systemctl restart docker"),
    (
        "nvidia-smi",
        "nvidia-smi is missing on the machine itself: sudo apt install nvidia-smi (Debian), nvidia-utils (Ubuntu)",
    ),
)


def advice(said: str) -> str:
    """What to try, from what the failing container said."""
    for sign, what in _ADVICE:
        if sign in said:
            return what
    return "nvidia-smi on the machine itself, then sudo nvidia-ctk cdi list, show how far the driver gets"
