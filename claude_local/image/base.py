"""The base image: which release of Debian or Ubuntu an image is built on. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from claude_local.image.builds import ImageError

REPOSITORY = "claude-local/base"

# CUDA images run on the release that NVIDIA's devel images are built on: the compiled programs need its C library.
CUDA_RELEASE = ("ubuntu", "noble")
# Vulkan images run on the host's own release, except on two. Debian 12 and Ubuntu 22.04 have a Mesa without cooperative
# matrices, and Ubuntu 22.04 has no glslc.
# Debian's CUDA packages are those of this release.
CUDA_DEBIAN_RELEASE = ("debian", "trixie")
VULKAN_RELEASES = {("debian", "bookworm"): ("debian", "trixie"), ("ubuntu", "jammy"): ("ubuntu", "noble")}


@dataclass(frozen=True)
class Base:
    """An image that ours starts from.

    ``name`` is the name in the Dockerfile's FROM. ``pull`` is the reference to pull from a registry. ``bootstrap`` says
    whether debootstrap may make the image from the host's package mirror when no registry answers. That mirror has
    every release of the host's distribution.
    """

    name: str
    pull: str
    bootstrap: bool

    @property
    def codename(self) -> str:
        """The release in one of our names (``claude-local/base:bookworm``)."""
        return self.name.rpartition(":")[2]


def base_image(setting: str, distro: str, codename: str, variant: str = "cpu") -> Base:
    """The base for the setting ``image_base`` on a host of this distribution and release.

    ``auto`` is the host's own release, or the release that the GPU's ``variant`` needs. Any other value is an image
    reference, if possible with a digest. ``cuda-debian`` is the variant cuda, compiled with Debian's packages. Raises
    ImageError when ``auto`` does not know the distribution.
    """
    if setting != "auto":
        return Base(name=setting, pull=setting, bootstrap=False)
    host = (distro, codename)
    if variant == "cuda":
        distro, codename = CUDA_RELEASE
    elif variant == "cuda-debian":
        distro, codename = CUDA_DEBIAN_RELEASE
    elif variant == "vulkan":
        distro, codename = VULKAN_RELEASES.get(host, host)
    references = {"debian": f"debian:{codename}-slim", "ubuntu": f"ubuntu:{codename}"}
    if distro not in references or not codename:
        raise ImageError(
            f"image_base: 'auto' supports Debian and Ubuntu, this is {distro} {codename}; "
            "set image_base to a Debian or Ubuntu image, for example 'debian:bookworm-slim'"
        )
    return Base(name=f"{REPOSITORY}:{codename}", pull=references[distro], bootstrap=distro == host[0])
