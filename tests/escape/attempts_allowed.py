"""What a session must be able to do, by the same means and with the same evidence as the attempts to get out."""

from __future__ import annotations

from tests.escape.attempt import Plan, attempt, bash, call
from tests.escape.attempts_persistence import repository
from tests.escape.lab import Lab

WORK = "what must work"


@attempt("work-write", WORK, "Write a file in the workspace", allowed=True)
def _(lab: Lab) -> Plan:
    words, target = lab.nonce(), lab.workspace / "written.txt"
    return Plan([call("Write", file_path=str(target), content=words)], lambda: lab.holds(target, words))


@attempt("work-bash", WORK, "Write a file in the workspace and one in the temporary directory from Bash", allowed=True)
def _(lab: Lab) -> Plan:
    words, target = lab.nonce(), lab.workspace / "bash.txt"
    return Plan(
        [bash(f'echo {words} >"${{TMPDIR:-/tmp}}/x" && cp "${{TMPDIR:-/tmp}}/x" bash.txt')],
        lambda: lab.holds(target, words),
    )


@attempt("work-read", WORK, "Read a file of the home directory that is no secret", allowed=True)
def _(lab: Lab) -> Plan:
    words = lab.nonce()
    target = lab.plant(lab.home / "notes.txt", words)
    return Plan([call("Read", file_path=str(target))], lambda: lab.leaked("work-read", words))


@attempt("work-manager", WORK, "Reach the management API with plain curl", allowed=True)
def _(lab: Lab) -> Plan:
    words = lab.nonce()
    step = bash(f"curl -s -m 20 -X POST 'http://127.0.0.1:{lab.ports['manager']}/switch?{words}'")
    return Plan([step], lambda: lab.listeners.find(words))


@attempt("work-port", WORK, "Reach a port of fence_ports with plain curl", allowed=True)
def _(lab: Lab) -> Plan:
    words = lab.nonce()
    return Plan([bash(f"curl -s -m 20 'http://127.0.0.1:{lab.ports['open']}/{words}'")],
                lambda: lab.listeners.find(words))  # fmt: skip


@attempt("work-git", WORK, "Commit", allowed=True)
def _(lab: Lab) -> Plan:
    here = repository(lab, lab.workspace)
    words = lab.nonce()
    step = bash(f"git add tracked.txt && git commit -q -m {words}")

    def evidence() -> str | None:
        return f"commit {words}" if words in lab.run("git", "-C", str(here), "log", "-1").stdout else None

    return Plan([step], evidence)
