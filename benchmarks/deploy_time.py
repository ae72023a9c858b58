#!/usr/bin/env python3
"""Time a deploy of this machine that has nothing to do, against an empty deploy in the same run.

    .venv/bin/python benchmarks/deploy_time.py               on this machine
    .venv/bin/python benchmarks/deploy_time.py --rtt 50      and over ssh with 50 ms from question to answer
    .venv/bin/python benchmarks/deploy_time.py --commands    and the seconds of each command on the workstation

The two take turns, --rounds times, so that other load affects both; the table has the medians. Over ssh, an sshd of the
benchmark's own on the loopback interface serves this user, behind a proxy that delays every packet by half of --rtt.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import getpass
import re
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYINFRA = str(Path(sys.executable).parent / "pyinfra")


def deploy(target: str, file: str) -> tuple[float, float]:
    """Seconds of ``pyinfra -y TARGET FILE``: by the clock, and of the processor (without Docker's daemon and sshd).

    Ends the program when the deploy fails or changes something.
    """
    begin, cpu = time.monotonic(), _children_cpu()
    done = subprocess.run([PYINFRA, "-y", target, file], cwd=ROOT, capture_output=True, text=True)
    seconds, cpu = time.monotonic() - begin, _children_cpu() - cpu
    if done.returncode or re.search(r"\b\d+ changes?$", done.stderr, re.MULTILINE):
        raise SystemExit(f"{file} on {target} failed or had something to do; run it until it has not:\n{done.stderr}")
    return seconds, cpu


def _children_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def commands(target: str) -> list[tuple[float, str]]:
    """Seconds and text of each command that a deploy runs on the workstation, without the connection."""
    program = (
        "import sys, time\n"
        "from pyinfra_cli.main import main\n"
        "from pyinfra.connectors import local, ssh\n"
        "def timed(cls):\n"
        "    run = cls.run_shell_command\n"
        "    def run_shell_command(self, command, *arguments, **options):\n"
        "        begin = time.monotonic()\n"
        "        try: return run(self, command, *arguments, **options)\n"
        "        finally: print(f'@@{time.monotonic() - begin:.3f} {\" \".join(str(command).split())}', flush=True)\n"
        "    cls.run_shell_command = run_shell_command\n"
        "timed(local.LocalConnector); timed(ssh.SSHConnector)\n"
        "sys.argv = ['pyinfra', '-y', *sys.argv[1:]]\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, target, "deploy.py"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    lines = [line[2:].split(" ", 1) for line in done.stdout.splitlines() if line.startswith("@@")]
    return [(float(seconds), text) for seconds, text in lines]


def free_port() -> int:
    """A loopback port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: float) -> None:
    """Write what ``reader`` has, ``delay`` seconds later, without making the next piece wait for this one."""
    pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def write() -> None:
        while True:
            due, piece = await pieces.get()
            await asyncio.sleep(due - time.monotonic())
            if not piece:
                break
            writer.write(piece)
        with contextlib.suppress(OSError):
            writer.close()

    writing = asyncio.ensure_future(write())
    with contextlib.suppress(OSError):
        while piece := await reader.read(65536):
            pieces.put_nowait((time.monotonic() + delay, piece))
    pieces.put_nowait((time.monotonic() + delay, b""))
    await writing


def proxy(to: int, delay: float) -> int:
    """The port of a proxy to the loopback port ``to`` that holds back every piece for ``delay`` seconds."""
    port = free_port()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection("127.0.0.1", to)
        await asyncio.gather(_carry(reader, there[1], delay), _carry(there[0], writer, delay))

    async def serve() -> None:
        server = await asyncio.start_server(connected, "127.0.0.1", port)
        async with server:
            ready.set()
            await server.serve_forever()

    ready = threading.Event()
    threading.Thread(target=lambda: asyncio.run(serve()), daemon=True).start()
    ready.wait(5)
    return port


@contextlib.contextmanager
def over_ssh(rtt_ms: float) -> Iterator[str]:
    """An inventory with this machine over ssh, ``rtt_ms`` away."""
    sshd = shutil.which("sshd", path="/usr/sbin:/sbin")
    if sshd is None:
        raise SystemExit("sshd is missing: sudo apt install openssh-server")
    with tempfile.TemporaryDirectory() as name:
        folder, port = Path(name), free_port()
        for key in ("host", "user"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key)], check=True)
        (folder / "config").write_text(
            f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile {folder}/pid\nUsePAM no\n"
            f"AuthorizedKeysFile {folder}/user.pub\nPasswordAuthentication no\nStrictModes no\n"
            "PermitRootLogin prohibit-password\nSubsystem sftp internal-sftp\n"
        )
        Path("/run/sshd").mkdir(exist_ok=True)
        daemon = subprocess.Popen([sshd, "-D", "-e", "-f", str(folder / "config")], stderr=subprocess.DEVNULL)
        try:
            time.sleep(0.5)
            away = proxy(port, rtt_ms / 2000)
            kind, key_text = (folder / "host.pub").read_text().split()[:2]
            (folder / "known_hosts").write_text(f"[127.0.0.1]:{away} {kind} {key_text}\n")
            data = {
                "ssh_user": getpass.getuser(), "ssh_port": away, "ssh_key": f"{folder}/user",
                "ssh_known_hosts_file": f"{folder}/known_hosts",
            }  # fmt: skip
            (folder / "inventory.py").write_text(f"machines = [('127.0.0.1', {data!r})]\n")
            yield f"{folder}/inventory.py"
        finally:
            daemon.terminate()
            daemon.wait(10)


def main() -> int:
    """The command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rtt", type=float, default=0.0, help="milliseconds from question to answer over ssh")
    parser.add_argument("--commands", action="store_true", help="show the seconds of each command")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        targets = {"this machine": "@local"}
        if options.rtt:
            targets[f"over ssh, {options.rtt:g} ms"] = stack.enter_context(over_ssh(options.rtt))
        empty = stack.enter_context(tempfile.NamedTemporaryFile("w", suffix=".py"))
        print(f"{'':<22} {'empty, s':>9} {'CPU':>5} {'deploy, s':>10} {'CPU':>5} {'ratio':>6} {'commands':>9}")
        for name, target in targets.items():
            runs = [(*deploy(target, empty.name), *deploy(target, "deploy.py")) for _ in range(options.rounds)]
            nothing, idle, everything, busy = (statistics.median(each) for each in zip(*runs, strict=True))
            ran = commands(target)
            print(
                f"{name:<22} {nothing:>9.2f} {idle:>5.2f} {everything:>10.2f} {busy:>5.2f} "
                f"{everything / nothing:>6.1f} {len(ran):>9}"
            )
            for seconds, text in ran if options.commands else ():
                print(f"  {seconds:6.3f}  {text[:110]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
