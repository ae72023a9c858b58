"""A Debian in a folder, run by a systemd of its own: booted, used through login sessions, rebooted, and killed as by a
power cut.

It has mounts, processes, a host name, devices and control groups of its own, and this machine's kernel, time and
network. What would change those is masked or read-only there.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.integration.debian_root import NETWORK, USER, Debian, bootstrapped
from tests.integration.machine import run

# dbus-user-session and libpam-systemd: a login has a session, a systemd and a bus of its own, as on a desktop.
PACKAGES = (
    "ca-certificates", "dbus", "dbus-user-session", "libpam-systemd", "python3", "sudo", "systemd", "systemd-sysv",
)  # fmt: skip
# The cgroup in each hierarchy that is the whole of them for the machine.
GROUP = "claude-local-systemd"
# What changes the kernel, takes the lock of dpkg or waits for a terminal.
MASKED = (
    "apt-daily.timer", "apt-daily-upgrade.timer", "console-getty.service", "dev-hugepages.mount", "fstrim.timer",
    "getty.target", "proc-sys-fs-binfmt_misc.automount", "sys-fs-fuse-connections.mount", "sys-kernel-config.mount",
    "sys-kernel-debug.mount", "sys-kernel-tracing.mount", "systemd-binfmt.service", "systemd-journald-audit.socket",
    "systemd-modules-load.service", "systemd-pstore.service", "systemd-sysctl.service",
)  # fmt: skip

# $1 the root; $2 cgroup v1 hierarchies, as "NAME OPTIONS" lines; then pairs of a directory here and where it is seen
# there, read-only.
# PID 1 and packages would raise limits of this machine in /proc/sys. Bubblewrap for an ordinary user wants a /proc that
# nothing covers: it need not be the one that is used, so another one lies where nobody but root comes.
# All mounts are shared, as systemd makes them on a real machine. Told that it is in a container, it leaves clock and
# kernel alone.
BOOT = r"""
set -e
root=$1 hierarchies=$2
shift 2
mount --make-rprivate /
mount --bind "$root" "$root"
cd "$root"
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t tmpfs -o mode=755 tmpfs run
mkdir -m 700 run/whole
mkdir run/whole/proc
mount -t proc proc run/whole/proc
for place in proc/sys proc/sysrq-trigger; do
  test -e $place || continue
  mount --bind $place $place
  mount -o remount,bind,ro $place
done
mount -t tmpfs -o mode=755 tmpfs sys/fs/cgroup
echo "$hierarchies" | while read -r name options; do
  mkdir -p "sys/fs/cgroup/$name"
  mount -t cgroup -o "$options" cgroup "sys/fs/cgroup/$name"
done
mount -t tmpfs -o mode=755 tmpfs dev
mkdir dev/pts dev/shm
while read -r name numbers; do mknod -m 666 "dev/$name" c $numbers; done <<END
null 1 3
zero 1 5
full 1 7
random 1 8
urandom 1 9
tty 5 0
END
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts dev/pts
mount -t tmpfs -o mode=1777 tmpfs dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
for number in 0:stdin 1:stdout 2:stderr; do ln -s "/proc/self/fd/${number%:*}" "dev/${number#*:}"; done
while [ $# -gt 0 ]; do
  mkdir -p "$root$2"
  mount --bind "$1" "$root$2"
  mount -o remount,bind,ro "$root$2"
  shift 2
done
mkdir -p .old
pivot_root . .old
umount -l .old
mount --make-rshared /
cd /
exec env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --unit=multi-user.target
"""


def hierarchies(*kinds: str) -> dict[Path, str]:
    """The cgroup hierarchies of this machine that are of these kinds ("cgroup" is version 1): where each is mounted,
    and its options."""
    found = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        mount, _, rest = line.partition(" - ")
        kind, _, options = rest.split(" ", 2)
        if kind in kinds:
            words = [word for word in options.split(",") if word not in ("rw", "ro") and "agent=" not in word]
            found[Path(mount.split()[4])] = ",".join(words)
    return found


def why_not() -> str:
    """Why this machine cannot run systemd in namespaces beside its own PID 1; empty if it can."""
    if os.getuid() != 0:
        return "only root runs systemd in namespaces"
    missing = [name for name in ("setpriv", "unshare", "nsenter", "ip") if shutil.which(name) is None]
    if missing:
        return f"{', '.join(missing)} are not installed"
    there = {word for options in hierarchies("cgroup").values() for word in options.split(",")}
    wanted = {"name=systemd", "memory", "devices", "pids"} - there
    if wanted:
        return f"no cgroup v1 hierarchies for Debian 12's systemd and Docker here: {', '.join(sorted(wanted))}"
    tried = subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "true"], capture_output=True, text=True, timeout=30
    )
    return tried.stderr.strip()


class Machine:
    """The machine whose disk is ``debian``; ``shown`` maps directories of this one to where it sees them, read-only."""

    def __init__(self, debian: Debian, shown: Mapping[Path, str]) -> None:
        self.debian = debian
        self.home = debian.home
        self._shown = shown
        self._outer: subprocess.Popen[bytes] | None = None
        self._init = 0
        for unit in MASKED:
            (debian.root / "etc/systemd/system" / unit).symlink_to("/dev/null")
        # Here services start when their package is installed.
        (debian.root / "usr/sbin/policy-rc.d").unlink()

    # --- on and off

    def boot(self) -> str:
        """Start systemd; what it says of itself when it has done so: "running", unless units failed."""
        assert self._outer is None, "it runs already"
        clear_groups()
        groups = {place: place / GROUP for place in hierarchies("cgroup", "cgroup2")}
        for place, group in groups.items():
            group.mkdir()
            for name in ("cpuset.cpus", "cpuset.mems"):
                if (group / name).exists() and (place / name).exists():
                    (group / name).write_text((place / name).read_text())
        join = "".join(f"echo $$ >{group}/cgroup.procs\n" for group in groups.values())
        listed = "\n".join(f"{place.name} {options}" for place, options in hierarchies("cgroup").items())
        shown = [str(word) for pair in self._shown.items() for word in pair]
        # It dies with this process, however that ends.
        self._outer = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "sh", "-ec", f'{join}exec "$@"', "sh",
             "unshare", "--mount", "--uts", "--ipc", "--cgroup", "--pid", "--fork", "--kill-child",
             "sh", "-c", BOOT, "sh", str(self.debian.root), listed, *shown],
            stdin=subprocess.DEVNULL, cwd="/",
        )  # fmt: skip
        children = Path(f"/proc/{self._outer.pid}/task/{self._outer.pid}/children")
        until = time.monotonic() + 120
        while True:
            assert self._outer.poll() is None, "the boot script failed, see above"
            assert time.monotonic() < until, "systemd does not start"
            with suppress(FileNotFoundError):
                self._init = int((children.read_text().split() or ["0"])[0])
            if self._init and Path(f"/proc/{self._init}/root/run/systemd/private").exists():
                break
            time.sleep(0.1)
        said = self.root("systemctl", "is-system-running", "--wait", timeout=300).stdout.strip()
        if said != "running":
            self.root("systemctl", "--no-pager", "--failed")
            self.root("journalctl", "--no-pager", "--boot", "--lines=60")
        return said

    def reboot(self) -> str:
        """``sudo systemctl reboot`` by the user, and what :meth:`boot` says."""
        assert self._outer is not None
        self.user("sudo systemctl reboot")
        self._outer.wait(300)
        self._off()
        return self.boot()

    def cut_power(self) -> None:
        """End everything there at once."""
        if self._outer is None:
            return
        if self._init:
            with suppress(ProcessLookupError):
                os.kill(self._init, signal.SIGKILL)
        else:
            self._outer.kill()
        self._outer.wait(60)
        self._off()

    def _off(self) -> None:
        self._outer, self._init = None, 0
        clear_groups()

    # --- using it

    def root(self, *words: str, timeout: int = 180, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run something there as root, outside of systemd's units."""
        namespaces = ["--mount", "--uts", "--ipc", "--cgroup", "--pid"]
        path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        env = {"HOME": "/root", "PATH": path, "LANG": "C.UTF-8"}
        entered = ["nsenter", "--target", str(self._init), *namespaces]
        return run(*entered, *words, timeout=timeout, env=env, cwd="/", **options)

    def user(self, script: str, timeout: int = 180) -> subprocess.CompletedProcess[str]:
        """Run a script in a login session of the user, in the copy of the project."""
        env = {name: os.environ[name] for name in NETWORK if name in os.environ} | {"LANG": "C.UTF-8", "TERM": "dumb"}
        unit = ["systemd-run", "--quiet", "--collect", "--pipe", "--wait", f"--uid={USER}", "--property=PAMName=login"]
        unit += [f"--working-directory=/home/{USER}/claude-local", *[f"--setenv={k}={v}" for k, v in env.items()]]
        return self.root(*unit, "bash", "-lc", script, timeout=timeout)


def clear_groups() -> None:
    """Remove the machine's control groups; those who were in them have just been killed."""
    for place in hierarchies("cgroup", "cgroup2"):
        for group, _, _ in os.walk(place / GROUP, topdown=False):
            for attempt in range(100):
                try:
                    os.rmdir(group)
                    break
                except OSError:
                    if attempt == 99:
                        raise
                    time.sleep(0.1)


@contextmanager
def machine(shown: Mapping[Path, str], daemon_json: str) -> Iterator[Machine]:
    """A Debian 12 with systemd and an ordinary user who has sudo, switched off; removed afterwards. ``daemon_json``:
    the configuration that its Docker will find."""
    with bootstrapped("bookworm", PACKAGES) as debian:
        (debian.root / "etc/docker").mkdir()
        (debian.root / "etc/docker/daemon.json").write_text(daemon_json)
        made = Machine(debian, shown)
        try:
            yield made
        finally:
            made.cut_power()
