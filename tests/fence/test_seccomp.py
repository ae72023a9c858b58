"""The system call filter: run instruction by instruction for each machine, and loaded by bubblewrap on this one."""

from __future__ import annotations

import errno
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_local.fence import seccomp
from claude_local.fence.seccomp import program

MACHINES = ["x86_64", "aarch64"]
ALLOW = 0x7FFF0000
AUDIT = {"x86_64": 0xC000003E, "i386": 0x40000003, "aarch64": 0xC00000B7, "arm": 0x40000028}
NATIVE = {"x86_64": ("x86_64", "i386"), "aarch64": ("aarch64", "arm")}


def decoded(machine: str, as_root: bool = True) -> list[tuple[int, int, int, int]]:
    found = program(machine, as_root)
    assert found is not None and len(found) % 8 == 0
    return list(struct.iter_unpack("=HBBI", found))


def verdict(
    machine: str, number: int, *arguments: int, architecture: int | None = None, as_root: bool = True
) -> int | str:
    """What the kernel does about a call: "allowed", or the error's number. BPF as in its documentation."""
    given = [argument & (1 << 64) - 1 for argument in (*arguments, 0, 0, 0, 0, 0, 0)][:6]
    chosen = AUDIT[machine] if architecture is None else architecture
    data = struct.pack("<IIQ6Q", number & 0xFFFFFFFF, chosen, 0, *given)
    code = decoded(machine, as_root)
    at = accumulator = 0
    while True:
        operation, true, false, value = code[at]
        at += 1
        if operation == 0x20:  # load a word
            accumulator = struct.unpack_from("<I", data, value)[0]
        elif operation in (0x15, 0x35, 0x45):  # jump if equal, at least, any bit
            hit = {0x15: accumulator == value, 0x35: accumulator >= value, 0x45: bool(accumulator & value)}[operation]
            at += true if hit else false
        elif operation == 0x06:
            if value == ALLOW:
                return "allowed"
            assert value & 0xFFFF0000 == 0x00050000, "allowed, or an error and nothing else"
            return value & 0xFFFF
        else:
            raise AssertionError(f"no such operation: {operation:#x}")


@pytest.mark.parametrize("machine", MACHINES)
def test_the_filter_is_a_valid_program(machine: str) -> None:
    code = decoded(machine)
    assert 0 < len(code) <= 4096
    for at, (operation, true, false, value) in enumerate(code):
        if operation in (0x15, 0x35, 0x45):
            assert at + 1 + max(true, false) < len(code), "every jump stays inside"
        elif operation == 0x20:
            assert value % 4 == 0 and value < 64, "every load stays in struct seccomp_data"
        else:
            assert operation == 0x06 and not (true or false)
    assert code[-1][0] == 0x06


@pytest.mark.parametrize("machine", MACHINES)
@given(st.integers(0, 0xFFFFFFFF), st.lists(st.integers(0, (1 << 64) - 1), max_size=6), st.integers(0, 0xFFFFFFFF))
def test_every_call_has_an_answer(machine: str, number: int, arguments: list[int], architecture: int) -> None:
    verdict(machine, number, *arguments)
    if architecture not in AUDIT.values():
        assert verdict(machine, number, *arguments, architecture=architecture) == errno.EPERM


# Numbers from the kernel's syscall tables.
NUMBERS = {
    "x86_64": {"socket": 41, "ioctl": 16, "fchmodat": 268, "openat": 257, "openat2": 437, "io_uring_setup": 425,
        "keyctl": 250, "read": 0,
        "clone": 56, "unshare": 272, "perf_event_open": 298, "fsetxattr": 190, "clone3": 435, "setxattrat": 463},
    "i386": {"socket": 359, "ioctl": 54, "fchmodat": 306, "openat": 295, "openat2": 437, "io_uring_setup": 425,
        "keyctl": 288, "read": 3,
        "clone": 120, "unshare": 310, "perf_event_open": 336, "fsetxattr": 228, "clone3": 435, "setxattrat": 463},
    "aarch64": {"socket": 198, "ioctl": 29, "fchmodat": 53, "openat": 56, "openat2": 437, "io_uring_setup": 425,
        "keyctl": 219, "read": 63,
        "clone": 220, "unshare": 97, "perf_event_open": 241, "fsetxattr": 7, "clone3": 435, "setxattrat": 463},
    "arm": {"socket": 281, "ioctl": 54, "fchmodat": 333, "openat": 322, "openat2": 437, "io_uring_setup": 425,
        "keyctl": 311, "read": 3,
        "clone": 120, "unshare": 337, "perf_event_open": 364, "fsetxattr": 228, "clone3": 435, "setxattrat": 463},
}  # fmt: skip
CASES = [
    ("ioctl", (0, 0x5412), errno.EPERM),  # TIOCSTI
    ("ioctl", (0, 0x541C), errno.EPERM),  # TIOCLINUX
    ("ioctl", (0, 0xDEAD00005412), errno.EPERM),  # the kernel looks at the lower half only
    ("ioctl", (0, 0x5413), "allowed"),  # TIOCGWINSZ
    ("fchmodat", (0, 0, 0o4755), errno.EPERM),
    ("fchmodat", (0, 0, 0o2755), errno.EPERM),
    ("fchmodat", (0, 0, 0o1777), "allowed"),
    ("fchmodat", (0, 0o6000, 0o755), "allowed"),
    ("openat", (0, 0, 0o101, 0o4755), errno.EPERM),  # O_CREAT | O_WRONLY
    ("openat", (0, 0, 0o20200002, 0o2755), errno.EPERM),  # O_TMPFILE
    ("openat", (0, 0, 0o101, 0o644), "allowed"),
    (
        "openat",
        (0, 0, 0o200000, 0o6755),
        "allowed",
    ),  # O_DIRECTORY: there is no mode, what is in its place means nothing
    ("openat2", (), "allowed"),  # bubblewrap 0.12 opens with it what it binds
    ("io_uring_setup", (), errno.ENOSYS),
    ("keyctl", (), errno.EPERM),
    ("clone", (0x7E020011,), errno.EPERM),  # every kind of namespace
    ("clone", (0x7C020011,), "allowed"),  # every kind but cgroup, as for Claude Code's sandbox
    ("unshare", (0x12020000,), errno.EPERM),
    ("unshare", (0x10020000,), "allowed"),
    ("clone3", (), errno.ENOSYS),
    ("fsetxattr", (), errno.EOPNOTSUPP),
    ("setxattrat", (), errno.EOPNOTSUPP),
    ("perf_event_open", (0, -1, 0, -1, 0), errno.EACCES),  # a whole processor
    ("perf_event_open", (0, 5, 0, -1, 4), errno.EACCES),  # a cgroup
    ("perf_event_open", (0, 0, -1, -1, 8), "allowed"),  # the caller
    *(("socket", (family, 1, 0), "allowed") for family in (1, 2, 10, 16)),  # AF_UNIX, AF_INET, AF_INET6, AF_NETLINK
    *(("socket", (family, 1, 0), errno.EAFNOSUPPORT) for family in (0, 3, 17, 31, 38, 40)),  # AF_VSOCK is 40
    ("socket", (0xDEAD00000028, 1, 0), errno.EAFNOSUPPORT),
    ("read", (0, 0x5412, 0o6000), "allowed"),
]


@pytest.mark.parametrize(("call", "arguments", "expected"), CASES)
@pytest.mark.parametrize(("machine", "way"), [(machine, way) for machine in MACHINES for way in NATIVE[machine]])
def test_each_call_is_allowed_or_refused_on_each_architecture(
    machine: str, way: str, call: str, arguments: tuple[int, ...], expected: int | str
) -> None:
    assert verdict(machine, NUMBERS[way][call], *arguments, architecture=AUDIT[way]) == expected


def test_an_ordinary_user_may_set_extended_attributes() -> None:
    calls = seccomp._CALLS["x86_64"][1]
    for name in ("setxattr", "lsetxattr", "fsetxattr", "setxattrat"):
        assert verdict("x86_64", calls[name], as_root=False) == "allowed"
        assert verdict("x86_64", calls[name]) == errno.EOPNOTSUPP
    assert verdict("x86_64", calls["clone3"], as_root=False) == errno.ENOSYS


def test_socketcall_makes_no_sockets() -> None:
    """socketcall keeps the family in memory; its other calls work with what was handed over."""
    call = {"architecture": AUDIT["i386"]}
    assert verdict("x86_64", 102, 1, **call) == errno.EAFNOSUPPORT
    assert [verdict("x86_64", 102, number, **call) for number in (3, 8, 9, 20)] == ["allowed"] * 4
    assert verdict("x86_64", 102, 1) == "allowed", "it is getuid there"


def test_x32_calls_are_refused() -> None:
    assert verdict("x86_64", 0x40000000 | 257, 0, 0, 0, 0) == errno.ENOSYS


def test_an_unknown_machine_has_no_filter() -> None:
    assert program("riscv64", as_root=False) is None


@pytest.mark.parametrize("machine", ["x86_64", "i386", "aarch64"])
def test_the_numbers_match_the_kernels_headers(machine: str) -> None:
    """Where those headers are installed. The calls below are tried in any case."""
    place = Path("/usr/include")
    header = {
        "x86_64": place / "x86_64-linux-gnu/asm/unistd_64.h", "i386": place / "x86_64-linux-gnu/asm/unistd_32.h",
        "aarch64": place / "asm-generic/unistd.h",
    }[machine]  # fmt: skip
    if not header.exists():
        pytest.skip(f"{header} is not installed")
    words = [line.split() for line in header.read_text().splitlines() if line.startswith("#define __NR")]
    numbers = {each[1].removeprefix("__NR3264_").removeprefix("__NR_"): each[2] for each in words if len(each) == 3}
    ours = {name: number for name, number in seccomp._CALLS[machine][1].items() if name in numbers}
    assert ours == {name: int(numbers[name]) for name in ours} and len(ours) > 15


# --- on this machine --------------------------------------------------------------------------------------------------

# Each line: a name, and the number of the error, or 0.
TRIALS = r"""
import ctypes, errno, fcntl, os, sys, termios
libc = ctypes.CDLL(None, use_errno=True)
def say(name, call):
    ctypes.set_errno(0)
    try:
        result = call()
    except OSError as error:
        print(name, errno.errorcode[error.errno])
    else:
        print(name, errno.errorcode[ctypes.get_errno()] if result == -1 else "fine")
def syscall(*arguments):
    return lambda: libc.syscall(*[ctypes.c_long(each) if isinstance(each, int) else each for each in arguments])
calls = dict(word.split("=") for word in sys.argv[1:])
master, terminal = os.openpty()
open("file", "w").close()
say("winsize", lambda: fcntl.ioctl(terminal, termios.TIOCGWINSZ, b"\0" * 8) and 0)
say("sti", lambda: fcntl.ioctl(terminal, 0x5412, b"x") and 0)
say("linux", lambda: fcntl.ioctl(terminal, 0x541C, b"\2") and 0)
say("chmod-755", lambda: os.chmod("file", 0o755))
say("chmod-setuid", lambda: os.chmod("file", 0o4755))
say("chmod-setgid", lambda: os.chmod("file", 0o2755))
say("fchmod-setuid", lambda: os.chmod(os.open("file", os.O_RDONLY), 0o4755))
say("open-644", lambda: os.close(os.open("a", os.O_CREAT | os.O_WRONLY, 0o644)))
say("open-setuid", lambda: os.close(os.open("b", os.O_CREAT | os.O_WRONLY, 0o4755)))
say("tmpfile-setuid", lambda: os.close(os.open(".", os.O_TMPFILE | os.O_WRONLY, 0o4755)))
say("open-old", lambda: os.close(os.open("file", os.O_RDONLY, 0o4755)))
say("mknod-setuid", lambda: os.mknod("c", 0o104755))
say("mkdir", lambda: os.mkdir("d", 0o755))
how = (ctypes.c_uint64 * 3)(os.O_CREAT | os.O_WRONLY, 0o4755, 0)
say("openat2", syscall(int(calls["openat2"]), -100, b"e", ctypes.byref(how), 24))
say("io_uring", syscall(int(calls["io_uring_setup"]), 1, ctypes.create_string_buffer(120)))
import socket
for name in ("AF_UNIX", "AF_INET", "AF_INET6", "AF_NETLINK", "AF_VSOCK"):
    kind = socket.SOCK_STREAM if name != "AF_NETLINK" else socket.SOCK_RAW
    say(name, lambda: socket.socket(getattr(socket, name), kind))
say("keyctl", syscall(int(calls["keyctl"]), 0, -4, 0))
def clone():
    child = libc.syscall(int(calls["clone"]), 0x02000011, 0, 0, 0, 0)
    if child == 0:
        os._exit(0)
    return child if child < 0 else os.waitpid(child, 0) and 0
say("clone-cgroup", clone)
say("unshare-cgroup", lambda: libc.unshare(0x02000000))
say("clone3", syscall(int(calls["clone3"]), 0, 0))
say("fork", lambda: os.waitpid(os.fork() or os._exit(0), 0) and 0)
say("xattr", lambda: os.setxattr("file", "user.name", b"x"))
clock = (ctypes.c_uint32 * 32)(1, 128)
say("perf", syscall(int(calls["perf_event_open"]), ctypes.byref(clock), -1, 0, -1, 0))
say("fchmodat2", syscall(int(calls["fchmodat2"]), -100, b"file", 0o4755, 0))
how[0] = os.O_WRONLY | os.O_CREAT
os.write(libc.syscall(int(calls["openat2"]), -100, b"written", ctypes.byref(how), 24), b"x")
bits = [oct(os.stat(name).st_mode & 0o7000) for name in ("file", "written")]
print("bits", *bits, *sorted(set(os.listdir(".")) & {"b", "c", "e"}))
"""


def tried(tmp_path: Path, rules: bytes | None) -> dict[str, str]:
    machine = os.uname().machine
    words = ["bwrap", "--unshare-user", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc",
             "--bind", str(tmp_path), str(tmp_path), "--chdir", str(tmp_path)]  # fmt: skip
    descriptor = os.memfd_create("rules")
    if rules is not None:
        os.write(descriptor, rules)
        os.lseek(descriptor, 0, os.SEEK_SET)
        words += ["--seccomp", str(descriptor)]
    calls = seccomp._CALLS[machine][1]
    named = ("io_uring_setup", "keyctl", "fchmodat2", "clone", "clone3", "perf_event_open")
    numbers = [f"{name}={calls[name]}" for name in named]
    numbers.append(f"openat2={NUMBERS[machine]['openat2']}")
    try:
        done = subprocess.run(
            [*words, "--", sys.executable, "-I", "-S", "-c", TRIALS, *numbers],
            pass_fds=[descriptor], capture_output=True, text=True, check=False, timeout=30,
        )  # fmt: skip
    finally:
        os.close(descriptor)
    assert done.returncode == 0, done.stderr
    return dict(line.partition(" ")[::2] for line in done.stdout.splitlines())


def test_the_kernel_refuses_what_the_filter_names_and_nothing_else(tmp_path: Path) -> None:
    rules = program(os.uname().machine, as_root=True)
    assert rules is not None, "this test needs a machine that has a filter"
    assert tried(tmp_path, rules) == {
        "winsize": "fine", "sti": "EPERM", "linux": "EPERM",
        "chmod-755": "fine", "chmod-setuid": "EPERM", "chmod-setgid": "EPERM", "fchmod-setuid": "EPERM",
        "open-644": "fine", "open-setuid": "EPERM", "tmpfile-setuid": "EPERM", "open-old": "fine",
        "mknod-setuid": "EPERM",
        "mkdir": "fine", "openat2": "fine", "io_uring": "ENOSYS", "keyctl": "EPERM", "fchmodat2": "EPERM",
        "bits": "0o0 0o0 e",
        "clone-cgroup": "EPERM", "unshare-cgroup": "EPERM", "clone3": "ENOSYS", "fork": "fine", "xattr": "ENOTSUP",
        "perf": "EACCES",
        "AF_UNIX": "fine", "AF_INET": "fine", "AF_INET6": "fine", "AF_NETLINK": "fine", "AF_VSOCK": "EAFNOSUPPORT",
    }  # fmt: skip


def test_without_the_filter_the_same_calls_leave_set_user_id_programs_behind(tmp_path: Path) -> None:
    """Else the test above would say nothing."""
    found = tried(tmp_path, None)
    assert {found[name] for name in ("chmod-setuid", "open-setuid", "openat2", "mknod-setuid")} == {"fine"}
    assert found["bits"].startswith("0o4000 0o0 b c e"), (
        "openat2 leaves no program: the kernel takes the bit away at the first write"
    )
    assert found["xattr"] == "fine" and found["clone3"] != "ENOSYS"
