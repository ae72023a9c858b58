"""bubblewrap's arguments for the mounts of the fence."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_local.fence.plan import (
    MAPPED_UID,
    Fence,
    accounts,
    bubblewrap_argv,
    covers,
    outermost,
    proxy_port,
)
from claude_local.fence.policy import TMPFS


def argv_of(fence: Fence, **options: Any) -> list[str]:
    chosen: dict[str, Any] = {"own_network": True, "runtime_dir": "/run/user/7", **options}
    return bubblewrap_argv("/usr/bin/bwrap", fence, "/ws", **chosen)


def position(argv: list[str], *sequence: str) -> int:
    """Where ``sequence`` first stands in ``argv``; it must stand there."""
    places = [at for at in range(len(argv)) if argv[at : at + len(sequence)] == list(sequence)]
    assert places, f"{' '.join(sequence)} is not in {' '.join(argv)}"
    return places[0]


def test_each_mount_comes_after_the_ones_that_it_covers() -> None:
    fence = Fence(
        ro_bind_programs=["/tmp/home"], masked_directories=["/h/.ssh"], masked_files=["/h/.netrc"],
        private_tmpfs=["/h/.claude"], unmasked=["/h/.claude/ide"], rw_bind=["/ws"], self_bind=["/ws/.git"],
        ro_bind=["/ws/.git/config"],
        nested_rw_bind=["/ws/.git/config/x"], stub_directories=["/ws/.idea"], stub_files=["/ws/.envrc"],
        sockets=["/run/agent"],
    )  # fmt: skip
    argv = argv_of(fence)
    order = [
        position(argv, "--ro-bind", "/", "/"),
        position(argv, "--dev", "/dev"),
        position(argv, "--proc", "/proc"),
        *(position(argv, "--tmpfs", path) for path in TMPFS),
        position(argv, "--dir", "/run/user/7"),
        position(argv, "--ro-bind", "/tmp/home", "/tmp/home"),
        position(argv, "--tmpfs", "/h/.ssh", "--remount-ro", "/h/.ssh"),
        position(argv, "--ro-bind-data", "0", "/h/.netrc"),
        position(argv, "--perms", "0700", "--tmpfs", "/h/.claude"),
        position(argv, "--ro-bind", "/h/.claude/ide", "/h/.claude/ide"),
        position(argv, "--bind", "/ws", "/ws"),
        position(argv, "--bind", "/ws/.git", "/ws/.git"),
        position(argv, "--ro-bind", "/ws/.git/config", "/ws/.git/config"),
        position(argv, "--bind", "/ws/.git/config/x", "/ws/.git/config/x"),
        position(argv, "--tmpfs", "/ws/.idea", "--file", "0", "/ws/.idea/.gitignore", "--remount-ro", "/ws/.idea"),
        position(argv, "--ro-bind", "/dev/null", "/ws/.envrc"),
        position(argv, "--ro-bind", "/run/agent", "/run/agent"),
        position(argv, "--chdir", "/ws"),
    ]
    assert order == sorted(order)
    assert argv[0] == "/usr/bin/bwrap" and argv[-1] == "--"


def test_a_session_never_outlives_its_launcher_and_shares_no_namespace_with_the_machine() -> None:
    argv = argv_of(Fence())
    for word in ("--die-with-parent", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-net"):
        assert word in argv
    position(argv, "--cap-drop", "ALL")
    for path in TMPFS:
        assert argv[position(argv, "--tmpfs", path) - 2] == "--perms"


def test_only_a_session_on_the_machines_network_sees_the_resolvers_files() -> None:
    shared = argv_of(Fence(), own_network=False)
    assert "--unshare-net" not in shared
    position(shared, "--ro-bind-try", "/run/systemd/resolve", "/run/systemd/resolve")
    assert "--ro-bind-try" not in argv_of(Fence())


def test_root_gets_another_uid_and_account_files_for_it() -> None:
    argv = argv_of(Fence(), accounts=(11, 12))
    position(argv, "--unshare-user", "--uid", str(MAPPED_UID), "--gid", str(MAPPED_UID))
    position(argv, "--ro-bind-data", "11", "/etc/passwd")
    position(argv, "--ro-bind-data", "12", "/etc/group")
    for path in ("/proc/sys", "/proc/sysrq-trigger", "/proc/scsi"):
        assert position(argv, "--ro-bind-try", path, path) > position(argv, "--proc", "/proc")
    assert "--unshare-user" not in argv_of(Fence())


def test_the_filter_is_passed_by_its_descriptor() -> None:
    position(argv_of(Fence(), seccomp=9), "--seccomp", "9")
    assert "--seccomp" not in argv_of(Fence())


def test_masked_paths_stay_masked_inside_a_writable_directory() -> None:
    """A bind mount of a parent would bring it back."""
    fence = Fence(
        masked_directories=["/h/.cache/mozilla"], masked_files=["/h/.cache/token"], rw_bind=["/ws", "/h/.cache"]
    )
    argv = argv_of(fence)
    opened = position(argv, "--bind", "/h/.cache", "/h/.cache")
    position(argv[opened:], "--tmpfs", "/h/.cache/mozilla", "--remount-ro", "/h/.cache/mozilla")
    position(argv[opened:], "--ro-bind-data", "0", "/h/.cache/token")


def test_a_directory_inside_a_masked_one_needs_no_mount() -> None:
    argv = argv_of(Fence(masked_directories=["/h/.aws/sso", "/h/.aws", "/h/.aws-x"]))
    assert "/h/.aws/sso" not in argv and "/h/.aws-x" in argv


def test_parents_are_mounted_before_their_children() -> None:
    argv = argv_of(Fence(rw_bind=["/ws/sub", "/ws"], self_bind=["/ws/sub/.git"], ro_bind=["/ws/sub/b", "/ws/a"]))
    order = [position(argv, "--bind", path, path) for path in ("/ws", "/ws/sub", "/ws/sub/.git")]
    assert order == sorted(order)
    assert position(argv, "--ro-bind", "/ws/a", "/ws/a") > order[-1]


@pytest.mark.parametrize(
    ("parent", "path", "expected"),
    [
        ("/a", "/a", True),
        ("/a", "/a/b", True),
        ("/a", "/ab", False),
        ("/", "/a", True),
        ("/", "/", True),
        ("/a/b", "/a", False),
    ],
)
def test_a_path_covers_whole_names_only(parent: str, path: str, expected: bool) -> None:
    assert covers(parent, path) is expected


PATHS = st.lists(st.sampled_from(["a", "b", "a-b", "é"]), min_size=1, max_size=4).map(
    lambda parts: "/" + "/".join(parts)
)


@given(st.lists(PATHS))
def test_outermost_paths_cover_all_paths_and_not_each_other(paths: list[str]) -> None:
    tops = outermost(paths)
    assert set(tops) <= set(paths) and len(set(tops)) == len(tops)
    for path in paths:
        assert sum(covers(each, path) for each in tops) >= 1
    for each in tops:
        assert not any(other != each and covers(other, each) for other in tops)


def test_only_the_mapped_uid_is_called_root() -> None:
    passwd, group = accounts(
        f"root:x:0:0:root:/root:/bin/bash\ntoor:x:0:0::/root:/bin/sh\nalice:x:{MAPPED_UID}:1000::/home/alice:/bin/sh\n"
        "bob:x:1001:1001::/home/bob:/bin/sh\n",
        f"root:x:0:\nalice:x:{MAPPED_UID}:\nbob:x:1001:\n",
        "/root",
    )
    lines = [line.split(":") for line in passwd.splitlines()]
    assert [(line[0], line[2]) for line in lines] == [("root", str(MAPPED_UID)), ("bob", "1001")]
    assert lines[0][5] == "/root" and passwd.endswith("\n")
    assert [line.split(":")[0] for line in group.splitlines()] == ["root", "bob"]


def test_read_only_paths_in_a_nested_writable_directory_come_after_it() -> None:
    fence = Fence(ro_bind=["/ws/.claude", "/ws/.claude/worktrees/x/.git"], nested_rw_bind=["/ws/.claude/worktrees"])
    argv = bubblewrap_argv("bwrap", fence, "/ws", own_network=True, runtime_dir="/run/user/1")
    order = [argv[number - 1 : number + 1] for number, word in enumerate(argv) if word.startswith("/ws/.claude")]
    assert [pair for pair in order if pair[0] in ("--bind", "--ro-bind")] == [
        ["--ro-bind", "/ws/.claude"],
        ["--bind", "/ws/.claude/worktrees"],
        ["--ro-bind", "/ws/.claude/worktrees/x/.git"],
    ]


def test_the_proxy_gets_a_port_that_nothing_else_uses() -> None:
    first = proxy_port([8080])
    assert first > 60999 and proxy_port([first, 8080]) not in (first, 8080)
