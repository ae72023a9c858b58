"""Docker, for what the management API cannot do: it runs in a container itself."""

from __future__ import annotations

import subprocess

# Seconds that docker may take to restart a container: it kills the server after 10.
PATIENCE = 90


class DockerFailed(Exception):
    """Docker did not do it; the message is its last line."""


def docker(*words: str, password: bool = True) -> str:
    """What ``docker WORDS`` prints, run with sudo where the user may not use Docker. Raises DockerFailed.

    ``password``: sudo may ask for it.
    """
    problem = ""
    for client in (["docker"], ["sudo", *([] if password else ["-n"]), "docker"]):
        try:
            done = subprocess.run([*client, *words], capture_output=True, text=True, timeout=PATIENCE)
        except (OSError, subprocess.TimeoutExpired) as error:
            problem = str(error)
            continue
        if done.returncode == 0:
            return done.stdout
        problem = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        if "permission denied" not in done.stderr.lower():
            break
    raise DockerFailed(problem)
