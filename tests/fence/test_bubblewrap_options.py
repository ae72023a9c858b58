"""The fence asks nothing of bubblewrap that the oldest one of a supported release does not have."""

from __future__ import annotations

import re

import pytest

from claude_local.deploy.facts.fence import EXPERIMENTS
from claude_local.fence.plan import Fence, bubblewrap_argv

# Every option in bubblewrap.c at the tag v0.6.1 (github.com/containers/bubblewrap), Ubuntu 22.04's. Later ones brought
# --size (0.7), --disable-userns, --assert-userns-disabled (0.8), --argv0 (0.9), --overlay (0.11) and others. A binary
# compiled from that tag ran all three experiments of claude_local/deploy/facts/fence.py, as root and as a user.
OPTIONS_0_6_1 = set(
    [
        "--add-seccomp-fd",
        "--args",
        "--as-pid-1",
        "--bind",
        "--bind-data",
        "--bind-try",
        "--block-fd",
        "--cap-add",
        "--cap-drop",
        "--chdir",
        "--chmod",
        "--clearenv",
        "--dev",
        "--dev-bind",
        "--dev-bind-try",
        "--die-with-parent",
        "--dir",
        "--exec-label",
        "--file",
        "--file-label",
        "--gid",
        "--help",
        "--hostname",
        "--info-fd",
        "--json-status-fd",
        "--lock-file",
        "--mqueue",
        "--new-session",
        "--perms",
        "--pidns",
        "--proc",
        "--remount-ro",
        "--ro-bind",
        "--ro-bind-data",
        "--ro-bind-try",
        "--seccomp",
        "--setenv",
        "--share-net",
        "--symlink",
        "--sync-fd",
        "--tmpfs",
        "--uid",
        "--unsetenv",
        "--unshare-all",
        "--unshare-cgroup",
        "--unshare-cgroup-try",
        "--unshare-ipc",
        "--unshare-net",
        "--unshare-pid",
        "--unshare-user",
        "--unshare-user-try",
        "--unshare-uts",
        "--userns",
        "--userns-block-fd",
        "--userns2",
        "--version",
    ]
)
# A fence with something of everything.
FULL = Fence(
    ro_bind_programs=["/run/k"],
    masked_directories=["/e"],
    masked_files=["/b"],
    private_tmpfs=["/s"],
    unmasked=["/e/shown"],
    rw_bind=["/w"],
    self_bind=["/w/p"],
    ro_bind=["/w/g"],
    nested_rw_bind=["/w/g/r"],
    stub_directories=["/w/d"],
    stub_files=["/w/f"],
    sockets=["/run/socket"],
)


@pytest.mark.parametrize("own_network", [True, False])
@pytest.mark.parametrize("accounts", [None, (3, 4)])
def test_the_outer_layer_uses_only_options_of_ubuntu_22_04(own_network: bool, accounts: tuple[int, int] | None) -> None:
    words = bubblewrap_argv(
        "bwrap", FULL, "/w", own_network=own_network, runtime_dir="/run/user/0", seccomp=5, accounts=accounts
    )
    used = {word for word in words if word.startswith("--") and word != "--"}
    assert len(used) > 15 and used <= OPTIONS_0_6_1


def test_the_experiments_use_only_options_of_ubuntu_22_04() -> None:
    inner = re.findall(r"--[a-z][a-z-]+", EXPERIMENTS.partition('inner="')[2].partition("--tmpfs")[0])
    assert {"--new-session", "--unshare-net", "--dev"} <= set(inner) <= OPTIONS_0_6_1
