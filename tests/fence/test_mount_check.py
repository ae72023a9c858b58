"""The mounts of a session are compared with the planned ones."""

from __future__ import annotations

from claude_local.fence.mount_check import find_problem
from claude_local.fence.mountinfo import parse
from claude_local.fence.plan import Fence

HOST = """\
1 0 254:0 / / rw,relatime - ext4 /dev/vda rw
2 1 0:6 / /dev rw - devtmpfs devtmpfs rw
3 1 254:1 /vol /home rw shared:7 - ext4 /dev/vdb rw
"""
FENCE = Fence(
    rw_bind=["/home/u/p q"],
    ro_bind=["/home/u/p q/.git/config"],
    masked_directories=["/home/u/.ssh"],
    masked_files=["/home/u/.netrc"],
)
SESSION = """\
10 9 254:0 / / ro - ext4 /dev/vda rw
11 10 0:6 / /dev ro - devtmpfs devtmpfs rw
12 10 254:1 /vol /home ro master:7 - ext4 /dev/vdb rw
13 10 0:50 / /tmp rw - tmpfs tmpfs rw
14 10 0:51 / /var/tmp rw - tmpfs tmpfs rw
15 10 0:52 / /run rw - tmpfs tmpfs rw
16 12 0:53 / /home/u/.ssh ro - tmpfs tmpfs rw
17 12 0:6 /null /home/u/.netrc ro - devtmpfs devtmpfs rw
18 12 254:1 /vol/u/p\\040q /home/u/p\\040q rw - ext4 /dev/vdb rw
19 18 254:1 /vol/u/p\\040q/.git/config /home/u/p\\040q/.git/config ro - ext4 /dev/vdb rw
"""


def test_names_with_spaces_and_optional_fields_are_read() -> None:
    assert [each.point for each in parse(SESSION)][-2:] == ["/home/u/p q", "/home/u/p q/.git/config"]
    assert parse(HOST)[2].source == ("254:1", "/vol")


def test_the_planned_mounts_are_accepted() -> None:
    assert find_problem(HOST, SESSION, FENCE) is None


def test_a_secret_that_is_visible_again_is_noticed() -> None:
    revealed = SESSION + "20 16 254:1 /vol/u/.ssh /home/u/.ssh ro - ext4 /dev/vdb rw\n"
    assert find_problem(HOST, revealed, FENCE) == "something is mounted at /home/u/.ssh"


def test_a_writable_directory_outside_the_workspace_is_noticed() -> None:
    opened = SESSION + "20 12 254:1 /vol/u/other /home/u/other rw - ext4 /dev/vdb rw\n"
    assert find_problem(HOST, opened, FENCE) == "something is mounted at /home/u/other"


def test_another_directory_in_place_of_the_workspace_is_noticed() -> None:
    swapped = SESSION.replace("/vol/u/p\\040q /home", "/vol/u/.ssh /home")
    assert find_problem(HOST, swapped, FENCE) == "/home/u/p q shows another file or directory"


def test_a_secret_without_its_mask_is_noticed() -> None:
    without = "".join(line + "\n" for line in SESSION.splitlines() if "/home/u/.ssh" not in line)
    assert find_problem(HOST, without, FENCE) == "/home/u/.ssh is visible"


def test_a_writable_masked_file_is_noticed() -> None:
    writable = SESSION.replace("/vol /home ro master:7", "/vol /home ro").replace(
        "/home/u/.netrc ro", "/home/u/.netrc rw"
    )
    assert find_problem(HOST, writable, FENCE) == "/home/u/.netrc is writable"


def test_a_missing_guard_is_noticed() -> None:
    assert find_problem(HOST, SESSION[: SESSION.index("19 18")], FENCE) == "/home/u/p q/.git/config is not guarded"


def test_a_socket_may_be_hidden_or_gone() -> None:
    hidden = SESSION + "20 12 0:6 /null /home/u/s ro - devtmpfs devtmpfs rw\n"
    assert find_problem(HOST, hidden, FENCE) == "something is mounted at /home/u/s"
    assert find_problem(HOST, hidden, FENCE, ["/home/u/s"]) is None
    assert find_problem(HOST, SESSION, FENCE, ["/home/u/s"]) is None


def test_a_disk_that_is_mounted_during_the_setup_must_not_be_writable() -> None:
    """bubblewrap makes only the mounts read-only that exist when it starts."""
    late = "4 1 254:2 / /media/disk rw - ext4 /dev/vdc rw\n"
    inside = SESSION + "20 10 254:2 / /media/disk rw master:1 - ext4 /dev/vdc rw\n"
    assert find_problem(HOST + late, inside, FENCE, before=HOST) == "/media/disk is writable"
    assert find_problem(HOST + late, inside.replace("/media/disk rw", "/media/disk ro"), FENCE, before=HOST) is None
    assert find_problem(HOST + late, inside, FENCE, before=HOST + late) is None, "bubblewrap may not look there"


def test_a_disk_or_container_that_is_unmounted_while_a_session_starts_does_not_stop_it() -> None:
    gone = "4 1 0:60 / /var/lib/docker/merged rw - overlay overlay rw\n"
    inside = SESSION + "20 10 0:60 / /var/lib/docker/merged ro - overlay overlay rw\n"
    assert find_problem(HOST, inside, FENCE, before=HOST + gone) is None
    assert find_problem(HOST, inside, FENCE, before=HOST) == "something is mounted at /var/lib/docker/merged"
