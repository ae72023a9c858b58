"""The base image: the host's own release, or what a GPU needs, or what the setting says."""

import pytest

from claude_local.image.base import Base, base_image
from claude_local.image.builds import ImageError


def test_the_base_is_the_hosts_own_release_or_the_setting() -> None:
    assert base_image("auto", "debian", "trixie") == Base("claude-local/base:trixie", "debian:trixie-slim", True)
    assert base_image("auto", "ubuntu", "noble").pull == "ubuntu:noble"
    assert base_image("me/base:1", "arch", "") == Base("me/base:1", "me/base:1", bootstrap=False)


@pytest.mark.parametrize(
    ("variant", "host", "name", "bootstrap"),
    [
        ("cuda", ("debian", "bookworm"), "noble", False),
        ("cuda", ("ubuntu", "noble"), "noble", True),
        ("vulkan", ("debian", "bookworm"), "trixie", True),
        ("vulkan", ("debian", "trixie"), "trixie", True),
        ("vulkan", ("ubuntu", "jammy"), "noble", True),
        ("cpu", ("ubuntu", "jammy"), "jammy", True),
    ],
)
def test_a_gpus_image_runs_on_a_release_that_supports_it(
    variant: str, host: tuple[str, str], name: str, bootstrap: bool
) -> None:
    base = base_image("auto", *host, variant)
    assert (base.name, base.bootstrap) == (f"claude-local/base:{name}", bootstrap)
    assert base_image("me/base:1", *host, variant).name == "me/base:1"


def test_an_unknown_distribution_is_refused_with_the_setting_that_helps() -> None:
    with pytest.raises(ImageError, match=r"image_base: .* arch .*set image_base to"):
        base_image("auto", "arch", "")
