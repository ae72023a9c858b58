"""The machine that the battery runs on: namespaces of its own, so that nothing real can be reached or hurt.

``unshare`` gives a network with invented addresses, a process table that ends with the test, System V objects, a host
name, and a mount table in which /etc is an overlay and /run, /tmp, /dev/shm and /var/spool are empty. As root an
attempt without any fence may then do what it likes.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

# From the ranges for documentation (RFC 5737): in use nowhere.
HOST_ADDRESS = "198.51.100.77"
DNS_ADDRESS = "198.51.100.53"
EMPTIED = {"/run": "755", "/tmp": "1777", "/dev/shm": "1777", "/var/spool": "755"}  # with their modes
# Paths that the battery itself runs from; they may lie in an emptied directory.
NEEDED = (Path(__file__).resolve().parents[2], Path(sys.prefix), Path(sys.base_prefix))
UNSHARE = (
    "unshare", "--net", "--mount", "--ipc", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc",
)  # fmt: skip


def _run(*command: str) -> None:
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, timeout=30)


def furnish(scratch: Path, uid: int) -> None:
    """Set up the namespaces that this process was started in (UNSHARE). ``scratch`` holds what /etc gets."""
    _run("ip", "link", "set", "lo", "up")
    _run("ip", "link", "add", "wire0", "type", "veth", "peer", "name", "wire1")
    for address in (HOST_ADDRESS, DNS_ADDRESS):
        _run("ip", "addr", "add", f"{address}/24", "dev", "wire0")
    for end in ("wire0", "wire1"):
        _run("ip", "link", "set", end, "up")
    _run("hostname", "lab")
    upper, work = scratch / "etc", scratch / "etc.work"
    upper.mkdir()
    work.mkdir()
    _run("mount", "-t", "overlay", "overlay", "-o", f"lowerdir=/etc,upperdir={upper},workdir={work}", "/etc")
    held = {}
    for path in NEEDED:
        if any(path.is_relative_to(place) for place in EMPTIED):
            held[path] = scratch / f"held{len(held)}"
            held[path].mkdir()
            _run("mount", "-o", "bind,ro", str(path), str(held[path]))
    for place, mode in EMPTIED.items():
        _run("mount", "-t", "tmpfs", "-o", f"mode={mode}", "tmpfs", place)
    for path, hold in held.items():
        path.mkdir(parents=True, exist_ok=True)
        _run("mount", "-o", "bind,ro", str(hold), str(path))
        _run("umount", str(hold))
        hold.rmdir()
    # Terminals of its own too: root may type into any.
    _run("mount", "-t", "devpts", "-o", "newinstance,ptmxmode=0666,mode=620,gid=5", "devpts", "/dev/pts")
    _run("mount", "--bind", "/dev/pts/ptmx", "/dev/ptmx")
    resolver = Path("/etc/resolv.conf")
    resolver.unlink(missing_ok=True)
    resolver.write_text(f"nameserver {DNS_ADDRESS}\noptions timeout:1 attempts:1\n")
    for folder in ("/run/dbus", "/run/systemd", "/run/screen", "/var/spool/cron/crontabs", "/var/spool/cron/atjobs",
                   "/etc/cron.d", f"/run/user/{uid}/systemd", f"/run/user/{uid}/podman"):  # fmt: skip
        Path(folder).mkdir(parents=True, exist_ok=True)
    _run("chown", "-R", str(uid), f"/run/user/{uid}")
