"""bubblewrap's words and a session's settings."""

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


def words(fence: Fence, **options: Any) -> list[str]:
    chosen: dict[str, Any] = {"own_network": True, "runtime_dir": "/run/user/7", **options}
    return bubblewrap_argv("/usr/bin/bwrap", fence, "/ws", **chosen)


def position(found: list[str], *sequence: str) -> int:
    """Where ``sequence`` first stands in ``found``; it must stand there."""
    places = [at for at in range(len(found)) if found[at : at + len(sequence)] == list(sequence)]
    assert places, f"{' '.join(sequence)} is not in {' '.join(found)}"
    return places[0]


def test_mounts_come_in_the_order_in_which_each_may_cover_the_one_before() -> None:
    fence = Fence(
        ro_bind_programs=["/tmp/home"], masked_directories=["/h/.ssh"], masked_files=["/h/.netrc"], private_tmpfs=["/h/.claude"],
        unmasked=["/h/.claude/ide"], rw_bind=["/ws"], self_bind=["/ws/.git"], ro_bind=["/ws/.git/config"],
        nested_rw_bind=["/ws/.git/config/x"], stub_directories=["/ws/.idea"], stub_files=["/ws/.envrc"], sockets=["/run/agent"],
    )  # fmt: skip
    found = words(fence)
    order = [
        position(found, "--ro-bind", "/", "/"),
        position(found, "--dev", "/dev"),
        position(found, "--proc", "/proc"),
        *(position(found, "--tmpfs", path) for path in TMPFS),
        position(found, "--dir", "/run/user/7"),
        position(found, "--ro-bind", "/tmp/home", "/tmp/home"),
        position(found, "--tmpfs", "/h/.ssh", "--remount-ro", "/h/.ssh"),
        position(found, "--ro-bind-data", "0", "/h/.netrc"),
        position(found, "--perms", "0700", "--tmpfs", "/h/.claude"),
        position(found, "--ro-bind", "/h/.claude/ide", "/h/.claude/ide"),
        position(found, "--bind", "/ws", "/ws"),
        position(found, "--bind", "/ws/.git", "/ws/.git"),
        position(found, "--ro-bind", "/ws/.git/config", "/ws/.git/config"),
        position(found, "--bind", "/ws/.git/config/x", "/ws/.git/config/x"),
        position(found, "--tmpfs", "/ws/.idea", "--remount-ro", "/ws/.idea"),
        position(found, "--ro-bind", "/dev/null", "/ws/.envrc"),
        position(found, "--ro-bind", "/run/agent", "/run/agent"),
        position(found, "--chdir", "/ws"),
    ]
    assert order == sorted(order)
    assert found[0] == "/usr/bin/bwrap" and found[-1] == "--"


def test_a_session_never_outlives_its_launcher_and_shares_no_namespace_with_the_machine() -> None:
    found = words(Fence())
    for word in ("--die-with-parent", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-net"):
        assert word in found
    position(found, "--cap-drop", "ALL")
    for path in TMPFS:
        assert found[position(found, "--tmpfs", path) - 2] == "--perms"


def test_only_a_session_with_the_machines_network_sees_how_names_are_resolved() -> None:
    shared = words(Fence(), own_network=False)
    assert "--unshare-net" not in shared
    position(shared, "--ro-bind-try", "/run/systemd/resolve", "/run/systemd/resolve")
    assert "--ro-bind-try" not in words(Fence())


def test_root_gets_another_uid_and_files_that_name_it() -> None:
    found = words(Fence(), accounts=(11, 12))
    position(found, "--unshare-user", "--uid", str(MAPPED_UID), "--gid", str(MAPPED_UID))
    position(found, "--ro-bind-data", "11", "/etc/passwd")
    position(found, "--ro-bind-data", "12", "/etc/group")
    assert "--unshare-user" not in words(Fence())


def test_the_filter_is_passed_by_its_descriptor() -> None:
    position(words(Fence(), seccomp=9), "--seccomp", "9")
    assert "--seccomp" not in words(Fence())


def test_what_is_hidden_stays_hidden_in_a_writable_place() -> None:
    """A bind mount of a parent would bring it back."""
    fence = Fence(
        masked_directories=["/h/.cache/mozilla"], masked_files=["/h/.cache/token"], rw_bind=["/ws", "/h/.cache"]
    )
    found = words(fence)
    opened = position(found, "--bind", "/h/.cache", "/h/.cache")
    position(found[opened:], "--tmpfs", "/h/.cache/mozilla", "--remount-ro", "/h/.cache/mozilla")
    position(found[opened:], "--ro-bind-data", "0", "/h/.cache/token")


def test_a_directory_in_an_emptied_one_needs_no_mount_of_its_own() -> None:
    found = words(Fence(masked_directories=["/h/.aws/sso", "/h/.aws", "/h/.aws-x"]))
    assert "/h/.aws/sso" not in found and "/h/.aws-x" in found


def test_parents_are_mounted_before_their_children() -> None:
    found = words(Fence(rw_bind=["/ws/sub", "/ws"], self_bind=["/ws/sub/.git"], ro_bind=["/ws/sub/b", "/ws/a"]))
    order = [position(found, "--bind", path, path) for path in ("/ws", "/ws/sub", "/ws/sub/.git")]
    assert order == sorted(order)
    assert position(found, "--ro-bind", "/ws/a", "/ws/a") > order[-1]


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
def test_covering_is_by_whole_names(parent: str, path: str, expected: bool) -> None:
    assert covers(parent, path) is expected


PATHS = st.lists(st.sampled_from(["a", "b", "a-b", "é"]), min_size=1, max_size=4).map(
    lambda parts: "/" + "/".join(parts)
)


@given(st.lists(PATHS))
def test_the_outermost_paths_cover_all_and_none_covers_another(paths: list[str]) -> None:
    found = outermost(paths)
    assert set(found) <= set(paths) and len(set(found)) == len(found)
    for path in paths:
        assert sum(covers(each, path) for each in found) >= 1
    for each in found:
        assert not any(other != each and covers(other, each) for other in found)


def test_roots_name_belongs_to_the_mapped_uid_and_to_nobody_else() -> None:
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


def test_what_is_guarded_in_something_reopened_comes_after_it() -> None:
    fence = Fence(ro_bind=["/ws/.claude", "/ws/.claude/worktrees/x/.git"], nested_rw_bind=["/ws/.claude/worktrees"])
    words = bubblewrap_argv("bwrap", fence, "/ws", own_network=True, runtime_dir="/run/user/1")
    order = [words[number - 1 : number + 1] for number, word in enumerate(words) if word.startswith("/ws/.claude")]
    assert [pair for pair in order if pair[0] in ("--bind", "--ro-bind")] == [
        ["--ro-bind", "/ws/.claude"],
        ["--bind", "/ws/.claude/worktrees"],
        ["--ro-bind", "/ws/.claude/worktrees/x/.git"],
    ]


def test_the_port_of_the_proxy_for_commands_is_one_that_nothing_else_has() -> None:
    first = proxy_port([8080])
    assert first > 60999 and proxy_port([first, 8080]) not in (first, 8080)
