"""Programs that attempts run inside the fence; standard library only, copied into the workspace.

``python3 probes.py NAME ARGUMENTS``. ``MARKER`` arguments name a process by words of its command line: inside another
process table its number means nothing.
"""

# ruff: noqa: SIM115
import ctypes
import fcntl
import glob
import os
import signal
import socket
import struct
import sys
import termios

libc = ctypes.CDLL(None, use_errno=True)


def _processes(marker: str, number: int) -> list[int]:
    """Numbers of processes whose command line holds ``marker``, and the number that they have outside."""
    found = [number]
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            if marker.encode() in open(path, "rb").read() and int(path.split("/")[2]) != os.getpid():
                found.append(int(path.split("/")[2]))
        except OSError:
            continue
    return found


def mem_write(marker: str, number: str, address: str, words: str) -> None:
    for pid in _processes(marker, int(number)):
        try:
            with open(f"/proc/{pid}/mem", "r+b", buffering=0) as memory:
                memory.seek(int(address))
                memory.write(words.encode())
        except OSError as problem:
            print(pid, problem)


def mem_read(marker: str, number: str, address: str, into: str) -> None:
    for pid in _processes(marker, int(number)):
        try:
            with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
                memory.seek(int(address))
                open(into, "ab").write(memory.read(64))
        except OSError as problem:
            print(pid, problem)


def vm_read(marker: str, number: str, address: str, into: str) -> None:
    class Vector(ctypes.Structure):
        _fields_ = [("base", ctypes.c_void_p), ("size", ctypes.c_size_t)]

    for pid in _processes(marker, int(number)):
        room = ctypes.create_string_buffer(64)
        here, there = Vector(ctypes.addressof(room), 64), Vector(int(address), 64)
        if libc.process_vm_readv(pid, ctypes.byref(here), 1, ctypes.byref(there), 1, 0) > 0:
            open(into, "ab").write(room.raw)
        else:
            print(pid, os.strerror(ctypes.get_errno()))


def ptrace(marker: str, number: str, address: str, words: str) -> None:
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    libc.ptrace.restype = ctypes.c_long
    attach, poke, detach = 16, 5, 17
    for pid in _processes(marker, int(number)):
        if libc.ptrace(attach, pid, None, None) != 0:
            print(pid, os.strerror(ctypes.get_errno()))
            continue
        os.waitpid(pid, 0x40000000)
        word = int.from_bytes(words.encode()[:8].ljust(8), sys.byteorder)
        libc.ptrace(poke, pid, int(address), word)
        libc.ptrace(detach, pid, None, None)


def kill(marker: str, number: str) -> None:
    for pid in _processes(marker, int(number)):
        if pid == int(number):
            # Inside another process table that number may be one of our own.
            try:
                if marker.encode() not in open(f"/proc/{pid}/cmdline", "rb").read():
                    continue
            except OSError:
                continue
        try:
            os.kill(pid, signal.SIGKILL)
        except OSError as problem:
            print(pid, problem)


def environ(text: str, into: str) -> None:
    """Copy every environment in /proc that holds ``text``'s variable name."""
    for path in glob.glob("/proc/[0-9]*/environ"):
        try:
            found = open(path, "rb").read()
        except OSError:
            continue
        if text.encode() in found:
            open(into, "ab").write(found)


def parents(into: str) -> None:
    """The environments of the parents of this process, up to the first."""
    pid = os.getpid()
    for _ in range(30):
        try:
            pid = int(open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[1])
            open(into, "ab").write(open(f"/proc/{pid}/environ", "rb").read())
        except (OSError, ValueError):
            break


def memories(text: str, into: str) -> None:
    """Look for ``text`` (hexadecimal) in the memory of every process that can be read."""
    wanted = bytes.fromhex(text)
    for path in glob.glob("/proc/[0-9]*/maps"):
        pid = path.split("/")[2]
        if int(pid) == os.getpid():
            continue
        try:
            lines = open(path).read().splitlines()
            memory = open(f"/proc/{pid}/mem", "rb", buffering=0)
        except OSError:
            continue
        for line in lines:
            if " rw" not in line or "[stack]" not in line:
                continue
            start, end = (int(number, 16) for number in line.split()[0].split("-"))
            try:
                memory.seek(start)
                found = memory.read(end - start)
            except (OSError, ValueError):
                continue
            if (at := found.find(wanted)) >= 0:
                open(into, "ab").write(found[at : at + 120])


def sysv(key: str, words: str) -> None:
    libc.shmat.restype = ctypes.c_void_p
    segment = libc.shmget(int(key), 0, 0)
    address = libc.shmat(segment, None, 0) if segment >= 0 else None
    if segment < 0 or address in (None, ctypes.c_void_p(-1).value):
        print(os.strerror(ctypes.get_errno()))
        return
    ctypes.memmove(address, words.encode(), len(words))


def unix(path: str, words: str) -> None:
    """Send ``words`` to a Unix socket; a leading @ means an abstract name."""
    with socket.socket(socket.AF_UNIX) as made:
        made.settimeout(3)
        made.connect("\0" + path[1:] if path.startswith("@") else path)
        made.sendall(words.encode() + b"\r\n\r\n")
        print(made.recv(10))


def udp(address: str, port: str, words: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.sendto(words.encode(), (address, int(port)))


def tcp(address: str, port: str, words: str) -> None:
    with socket.create_connection((address, int(port)), 3) as made:
        made.sendall(words.encode() + b"\r\n\r\n")
        print(made.recv(10))


def raw(address: str, port: str, words: str) -> None:
    """A datagram with an IP header of our own."""
    said = words.encode()
    datagram = struct.pack("!HHHH", 40000, int(port), 8 + len(said), 0) + said
    there = socket.inet_aton(address)
    header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(datagram), 1, 0, 64, 17, 0, there, there)
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as made:
        made.sendto(header + datagram, (address, 0))


def type_into(words: str, *devices: str) -> None:
    """Push ``words`` into the input of every terminal that can be found (TIOCSTI)."""
    opened = []
    for path in ["/dev/tty", *devices, *glob.glob("/dev/pts/[0-9]*"), *glob.glob("/proc/[0-9]*/fd/[0-9]*")]:
        try:
            if "/fd/" in path and not os.readlink(path).startswith("/dev/pts/"):
                continue
            opened.append(os.open(path, os.O_RDWR | os.O_NOCTTY))
        except OSError:
            continue
    for terminal in opened:
        try:
            for letter in words + "\n":
                fcntl.ioctl(terminal, termios.TIOCSTI, letter.encode())
            return
        except OSError as problem:
            print(problem)


if __name__ == "__main__":
    try:
        globals()[sys.argv[1]](*sys.argv[2:])
    except OSError as problem:
        print(problem)
