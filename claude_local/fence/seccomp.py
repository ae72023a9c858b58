"""A seccomp filter against system calls that no session needs and that reach past its namespaces.

* ioctl TIOCSTI and TIOCLINUX type into the terminal that the session was started from (CVE-2017-5226; only kernels from
  6.2 on can switch it off).
* chmod, open and mknod with a set-user-ID or set-group-ID bit leave a program behind that runs with the user's rights
  for anybody. io_uring can open and chmod without these calls, so it is answered "no such system call", which programs
  expect (Docker's own profile does the same). openat2 keeps its mode in memory, where no filter can read it, and
  bubblewrap 0.12 needs it: that way stays open, but the kernel takes the bits away again at the first write.
* setxattr, for root: security.capability gives a program rights as a set-user-ID bit does. An ordinary user's counts
  only in a namespace of that user. The attribute's name is in memory, so all of them are "not supported".
* clone and unshare with a new cgroup namespace: there a session can mount cgroup2, and cgroup.kill ends processes
  outside. clone3 keeps its flags in memory: it is answered "no such system call", and C libraries then use clone.
* perf_event_open for a whole processor or a cgroup: where perf_event_paranoid is below 1, it shows the stacks of other
  processes. A process of the session can be measured.
* keyctl, add_key and request_key: the kernel's keyrings belong to the user, not to a namespace.
* socket: a network namespace holds the internet's protocols and netlink, but not AF_VSOCK, which leads from a virtual
  machine to its host. So only local sockets (AF_UNIX), the internet and netlink remain. 32-bit x86 also makes sockets
  with socketcall, whose arguments are in memory: it gets none there, except local pairs (socketpair).

The numbers are the kernel's own tables, <asm/unistd.h> and <linux/seccomp.h>.
"""

from __future__ import annotations

import errno
import struct

TIOCSTI, TIOCLINUX = 0x5412, 0x541C
SET_ID_BITS = 0o6000
# O_CREAT, and the bit that only O_TMPFILE has: only then does open take a mode.
CREATES = 0o100 | 0o20000000
# AF_UNIX, AF_INET, AF_INET6 and AF_NETLINK; socketcall's number for socket.
FAMILIES = (1, 2, 10, 16)
SYS_SOCKET = 1
CLONE_NEWCGROUP = 0x02000000
# perf_event_open: every process, and a flag that says that the process is a cgroup.
EVERY_PROCESS, PERF_FLAG_PID_CGROUP = 0xFFFFFFFF, 4

_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_LOAD, _EQUAL, _SET, _AT_LEAST, _RETURN = 0x20, 0x15, 0x45, 0x35, 0x06
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
_X32 = 0x40000000

# By architecture: AUDIT_ARCH_* and the numbers of the calls.
_CALLS = {
    "x86_64": (0xC000003E, {
        "socket": 41,
        "ioctl": 16, "chmod": 90, "fchmod": 91, "fchmodat": 268, "fchmodat2": 452, "open": 2, "openat": 257,
        "creat": 85, "mknod": 133, "mknodat": 259, "io_uring_setup": 425, "keyctl": 250,
        "add_key": 248, "request_key": 249,
        "clone": 56, "unshare": 272, "clone3": 435, "perf_event_open": 298,
        "setxattr": 188, "lsetxattr": 189, "fsetxattr": 190, "setxattrat": 463,
    }),
    "i386": (0x40000003, {
        "socket": 359, "socketcall": 102,
        "ioctl": 54, "chmod": 15, "fchmod": 94, "fchmodat": 306, "fchmodat2": 452, "open": 5, "openat": 295,
        "creat": 8, "mknod": 14, "mknodat": 297, "io_uring_setup": 425, "keyctl": 288,
        "add_key": 286, "request_key": 287,
        "clone": 120, "unshare": 310, "clone3": 435, "perf_event_open": 336,
        "setxattr": 226, "lsetxattr": 227, "fsetxattr": 228, "setxattrat": 463,
    }),
    "aarch64": (0xC00000B7, {
        "socket": 198,
        "ioctl": 29, "fchmod": 52, "fchmodat": 53, "fchmodat2": 452, "openat": 56, "mknodat": 33,
        "io_uring_setup": 425, "keyctl": 219, "add_key": 217, "request_key": 218,
        "clone": 220, "unshare": 97, "clone3": 435, "perf_event_open": 241,
        "setxattr": 5, "lsetxattr": 6, "fsetxattr": 7, "setxattrat": 463,
    }),
    "arm": (0x40000028, {
        "socket": 281,
        "ioctl": 54, "chmod": 15, "fchmod": 94, "fchmodat": 333, "fchmodat2": 452, "open": 5, "openat": 322,
        "creat": 8, "mknod": 14, "mknodat": 324, "io_uring_setup": 425, "keyctl": 311,
        "add_key": 309, "request_key": 310,
        "clone": 120, "unshare": 337, "clone3": 435, "perf_event_open": 364,
        "setxattr": 226, "lsetxattr": 227, "fsetxattr": 228, "setxattrat": 463,
    }),
}  # fmt: skip
_FAMILIES = {"x86_64": ("x86_64", "i386"), "aarch64": ("aarch64", "arm")}
# Refused with EPERM where an argument has one of these bits: the argument's index and the bits.
_BITS = {
    **{name: (1, SET_ID_BITS) for name in ("chmod", "fchmod", "creat", "mknod")},
    **{name: (2, SET_ID_BITS) for name in ("fchmodat", "fchmodat2", "mknodat")},
    **{name: (0, CLONE_NEWCGROUP) for name in ("clone", "unshare")},
}  # fmt: skip
# The index of the flags and of the mode.
_OPEN = {"open": (1, 2), "openat": (2, 3)}
_REFUSED = {
    "io_uring_setup": errno.ENOSYS, "clone3": errno.ENOSYS, "keyctl": errno.EPERM, "add_key": errno.EPERM,
    "request_key": errno.EPERM,
}  # fmt: skip
_REFUSED_TO_ROOT = dict.fromkeys(("setxattr", "lsetxattr", "fsetxattr", "setxattrat"), errno.EOPNOTSUPP)

Instruction = tuple[int, int, int, int]


def _load(offset: int) -> Instruction:
    return _LOAD, 0, 0, offset


def _refuse(number: int) -> Instruction:
    return _RETURN, 0, 0, _ERRNO | number


def _argument(index: int) -> Instruction:
    """The lower half of an argument, on a little-endian machine."""
    return _load(_ARGUMENTS + 8 * index)


def _when(call: int, block: list[Instruction]) -> list[Instruction]:
    """Instructions that run ``block`` for one system call and skip it for the others."""
    return [_load(_NUMBER), (_EQUAL, 0, len(block), call), *block]


def _rules(calls: dict[str, int], refused: dict[str, int]) -> list[Instruction]:
    rules: list[Instruction] = []
    for name, number in calls.items():
        if name == "ioctl":
            block = [_argument(1), (_EQUAL, 1, 0, TIOCSTI), (_EQUAL, 0, 1, TIOCLINUX), _refuse(errno.EPERM)]
        elif name == "socket":
            allowed = [(_EQUAL, len(FAMILIES) - at, 0, family) for at, family in enumerate(FAMILIES)]
            block = [_argument(0), *allowed, _refuse(errno.EAFNOSUPPORT)]
        elif name == "socketcall":
            block = [_argument(0), (_EQUAL, 0, 1, SYS_SOCKET), _refuse(errno.EAFNOSUPPORT)]
        elif name == "perf_event_open":
            block = [_argument(1), (_EQUAL, 2, 0, EVERY_PROCESS), _argument(4), (_SET, 0, 1, PERF_FLAG_PID_CGROUP)]
            block.append(_refuse(errno.EACCES))
        elif name in _BITS:
            index, bits = _BITS[name]
            block = [_argument(index), (_SET, 0, 1, bits), _refuse(errno.EPERM)]
        elif name in _OPEN:
            flags, mode = _OPEN[name]
            block = [_argument(flags), (_SET, 0, 3, CREATES), _argument(mode), (_SET, 0, 1, SET_ID_BITS)]
            block.append(_refuse(errno.EPERM))
        elif name in refused:
            block = [_refuse(refused[name])]
        else:
            continue
        rules += _when(number, block)
    return rules


def program(machine: str, as_root: bool) -> bytes | None:
    """The filter for ``machine`` (uname -m) as an array of ``struct sock_filter``; None for an unknown machine.
    ``as_root``: for a session of root.

    It refuses calls of any other architecture, and x32 calls on x86_64.
    """
    family = _FAMILIES.get(machine)
    if family is None:
        return None
    refused = _REFUSED | (_REFUSED_TO_ROOT if as_root else {})
    code: list[Instruction] = []
    for name in family:
        architecture, calls = _CALLS[name]
        rules = _rules(calls, refused)
        if name == "x86_64":
            rules = [_load(_NUMBER), (_AT_LEAST, 0, 1, _X32), _refuse(errno.ENOSYS), *rules]
        rules.append((_RETURN, 0, 0, _ALLOW))
        code += [_load(_ARCHITECTURE), (_EQUAL, 0, len(rules), architecture), *rules]
    code.append(_refuse(errno.EPERM))
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)
