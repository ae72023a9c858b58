"""Rows about the fence: the real Claude Code tries each claim through the real wrapper; the traces are the evidence."""

from __future__ import annotations

from collections.abc import Callable

from claude_local.fence.config import INNER, OUTER
from claude_local.verify.checks import SESSIONS, Check, Failed, Skipped, one_line
from claude_local.verify.fence_session import PROJECT_SETTINGS, VARIABLES, FenceSession, Service, fence_session
from claude_local.verify.fence_terminal import MODES, prompt_result
from claude_local.verify.workbench import Workbench

LAYERS = {OUTER: "bubblewrap around the whole session", INNER: "Claude Code's sandbox around each command"}
REPORT = "report this row as a bug"


def _session(bench: Workbench) -> FenceSession:
    if not bench.fence.layers:
        raise Skipped("there is no fence here, see fence.layers")
    return fence_session(bench)


def _needs(judge: Callable[[FenceSession], str], *layers: str) -> Callable[[Workbench], str]:
    """A row that needs ``layers``: where it fails and the deploy says why one cannot work here, it is skipped."""

    def row(bench: Workbench) -> str:
        config = bench.fence
        try:
            return judge(_session(bench))
        except Failed as failed:
            missing = [layer for layer in layers if layer not in config.layers]
            if not missing or not config.reason:
                raise
            raise Skipped(f"not without the {missing[0]} layer ({config.reason}): {failed.what}") from None

    return row


# --- the layers -----------------------------------------------------------------------------------------------------


def _layers(bench: Workbench) -> str:
    config = bench.fence
    if not config.layers:
        raise Failed(f"no fence works on this machine: {config.reason or 'the deploy gave no reason'}")
    missing = [name for name in LAYERS if name not in config.layers]
    if missing and not config.reason:
        raise Failed(f"the {missing[0]} layer is off and fence.json gives no reason")
    expected = "+".join(config.layers)
    actual = " ".join(_session(bench).bash("layers"))
    if actual != expected:
        raise Failed(f"a session runs behind {actual or 'no known layer'!r}, but fence.json says {expected!r}")
    if missing:
        raise Skipped(f"one layer only, {expected} ({LAYERS[expected]}): {config.reason}")
    return f"two layers: {' and '.join(LAYERS[name] for name in config.layers)}"


def _locked(run: FenceSession) -> str:
    status = dict(line.replace("\t", " ").split(": ", 1) for line in run.bash("process"))
    if status.get("NoNewPrivs", "").strip() != "1" or status.get("Seccomp", "").strip() != "2":
        raise Failed(f"Bash runs without a sandbox: {status or 'nothing in /proc/self/status'}")
    # NoNewPrivs alone would prove nothing: bubblewrap sets it too, and verify's sessions run in one. The filter proves
    # it, and so does Claude Code's own directory, which only the inner sandbox closes to commands.
    if f"wrote {run.place.home}/.claude-local/verify-new" in run.bash("outside"):
        raise Failed(f"a project's settings ({PROJECT_SETTINGS['sandbox']}) switch the sandbox of commands off")
    return "NoNewPrivs 1, Seccomp 2, ~/.claude-local is closed to commands, although the project sets enabled: false"


# --- writing --------------------------------------------------------------------------------------------------------


def _written_outside(run: FenceSession) -> list[str]:
    """What the session left outside the workspace."""
    root = run.place.root
    names = [run.new, ".claude/verify-new", *([".claude-local/verify-new"] if run.config.inner else [])]
    written = [name for name in names if (root / name).exists()]
    if (root / run.old).read_text(encoding="utf-8") != "# as it was\n":
        written.append(run.old)
    return written


def _bash_writes(run: FenceSession) -> str:
    refused = [line for line in run.bash("inside") if not line.startswith("wrote ")]
    if refused or not (run.workspace / "inside.txt").exists():
        raise Failed(f"Bash cannot write in the workspace or its temporary directory: {'; '.join(refused)}")
    wrote = [line for line in run.bash("outside") if line.startswith("wrote ") and _counts(run, line)]
    if written := wrote or _written_outside(run):
        raise Failed(f"Bash writes outside the workspace: {'; '.join(written)}")
    return "Bash wrote in the workspace and its temporary directory; refused and not on disk: in ~/ and in ~/.claude"


def _counts(run: FenceSession, line: str) -> bool:
    """Whether Bash's report counts. ~/.claude may be a tmpfs that is gone with the session: there only the disk counts.
    Only the inner layer closes ~/.claude-local to commands."""
    if line.endswith("/.claude/verify-new"):
        return False
    return not line.endswith("/.claude-local/verify-new") or run.config.inner


def _file_writes(run: FenceSession) -> str:
    inside = run.result("write-inside")
    if inside.is_error or run.content("written.txt") != run.word.encode():
        raise Failed(f"Write cannot write in the workspace: {one_line(inside.output or '', 160)}")
    for name in ("write-new", "write-dots", "write-link", "edit-old"):
        if not run.result(name).is_error:
            raise Failed(f"{run.result(name).tool} ({name}) reports that it wrote outside the workspace")
    if written := _written_outside(run):
        raise Failed(f"the file tools wrote outside the workspace: {', '.join(written)}")
    return (
        "Write wrote in the workspace; outside (by absolute path, through .., through a link) Write and Edit were "
        "refused, nothing is on disk"
    )


def _guarded(run: FenceSession) -> str:
    if changed := [name for name, before in run.guarded.items() if run.content(name) != before]:
        raise Failed(f"a session planted or changed {', '.join(changed)}")
    if names := run.unexpected_files():
        raise Failed(f"the session left {', '.join(names)} in the workspace")
    run.bash("guarded")
    names = list(run.guarded)
    return f"{len(names)} files that run later ({', '.join(names[:3])} ...): what Bash and Write did is gone"


def _claude_home(run: FenceSession) -> str:
    root, files = run.place.root, run.place.login.files
    changed = [name for name, content in files.items() if (root / name).read_bytes() != content]
    names = [str(path.relative_to(root)) for path in (root / ".claude").rglob("*")]
    if changed := [*changed, *(name for name in names if name not in files)]:
        raise Failed(f"the session changed {', '.join(changed)}")
    return f"~/.claude and ~/.claude.json: {len(files)} files unchanged, nothing new, although Bash and Write tried"


# --- secrets --------------------------------------------------------------------------------------------------------


def _bash_secrets(run: FenceSession) -> str:
    run.bash("secrets")
    if leaked := [name for name, secret in run.secrets().items() if secret in run.outcome.printed]:
        raise Failed(f"Bash reads {', '.join(leaked)}")
    return f"cat of {len(run.read_names)} planted secrets and env with {len(VARIABLES)} more showed none of them"


def _read_secrets(run: FenceSession) -> str:
    outputs = [run.result(f"read-{number}").output or "" for number in range(len(run.read_names))]
    if leaked := [name for name, secret in run.secrets().items() if any(secret in output for output in outputs)]:
        raise Failed(f"Read reads {', '.join(leaked)}")
    if asked := [output for output in outputs if "haven't granted" in output]:
        raise Failed(
            f"Read asked for permission, but the fence should have stopped it: {one_line(asked[0], 120)}", REPORT
        )
    if leaked := run.leaked():
        raise Failed(f"the model was sent {', '.join(leaked)}")
    requests = len(run.outcome.requests)
    return f"Read of {len(outputs)} planted secrets showed none, and none is in {requests} requests to the server"


# --- the network ----------------------------------------------------------------------------------------------------


def _claude_server(run: FenceSession) -> str:
    if (failure := run.outcome.session.failure()) is not None:
        raise Failed(failure)
    turns, expected = run.outcome.main_requests, len(run.calls) + 1
    if turns != expected:
        raise Failed(f"{turns} requests reached the server instead of {expected}")
    return f"the server answered {turns} requests of one session, {run.outcome.session.ended.seconds:.1f} s"


def _reaches(name: str, section: str, service: Service, run: FenceSession) -> str:
    output = " ".join(run.bash(section))
    if service.answer not in output or "blocked by network allowlist" in output:
        raise Failed(f"Bash does not reach {name} on port {service.port}: {one_line(output, 200)}")
    stand_in = " (a stand-in for the test)" if service.stand_in else ""
    return f"curl {' '.join(service.curl)}: {one_line(output, 80)}{stand_in}"


def _bash_server(run: FenceSession) -> str:
    return _reaches("llama-server", "server", run.server, run)


def _bash_manager(run: FenceSession) -> str:
    return _reaches("the management API", "manager", run.manager, run)


def _bash_elsewhere(run: FenceSession) -> str:
    output, connections = " ".join(run.bash("elsewhere")), run.outcome.elsewhere
    if connections or run.word in output:
        raise Failed(f"Bash reaches another port of this machine: {connections} connections, {one_line(output, 120)}")
    return "another port on 127.0.0.1 got no connection: by curl, past the proxy, as a proxy, and by a bare connection"


# --- the machine ----------------------------------------------------------------------------------------------------


def _sudo(run: FenceSession) -> str:
    # For an ordinary user verify's own bubblewrap is enough to stop sudo: tests/escape tries it without.
    lines = run.bash("sudo")
    if "0" in lines or not lines:
        raise Failed(f"sudo works in the sandbox: {' '.join(lines) or 'it printed nothing'}")
    return one_line(next((line for line in lines if "no new privileges" in line), lines[-1]), 160)


def _sockets(run: FenceSession) -> str:
    lines = run.bash("sockets")
    if reached := [line.partition(" ")[2] for line in lines if not line.startswith("refused ")]:
        raise Failed(f"Bash can talk to {', '.join(reached)}")
    if len(lines) != len(run.sockets):
        raise Failed(f"Bash tried {len(lines)} of {len(run.sockets)} sockets", REPORT)
    if not run.sockets:
        return "this machine has no socket of Docker, D-Bus, systemd, Podman or ssh-agent"
    return f"refused: {', '.join(run.sockets)}"


def _processes(run: FenceSession) -> str:
    lines = run.bash("processes")
    if any(run.word in line for line in lines):
        raise Failed("Bash sees other processes of this machine in /proc")
    if not run.outcome.neighbour_lives:
        raise Failed("the session ended a process of verify's that ran beside it")
    return f"{len(lines)} processes in /proc, all of the session; a process beside it was not among them and still runs"


# --- in a terminal --------------------------------------------------------------------------------------------------


def _prompt(bench: Workbench) -> str:
    _session(bench)
    result = prompt_result(bench)
    # With fence_auto_allow only plan mode asks.
    unasked = [mode for mode in MODES if mode != "plan"] if _session(bench).config.auto_allow else []
    if ran := [mode for mode in result.ran if mode not in unasked]:
        raise Failed(f"a command ran without a question in {' and '.join(ran)} mode")
    if result.asked != [mode for mode in MODES if mode not in unasked]:
        raise Failed(f"a command asked in {' and '.join(result.asked) or 'no'} mode only")
    return f"in {' and '.join(result.asked)} mode the screen asks before a command; refused, it did not run"


def _status_line(bench: Workbench) -> str:
    layers = _session(bench).config.layers
    line = prompt_result(bench).status_line
    expected = "fenced" if len(layers) == 2 else f"fenced by one layer of two ({layers[0]})"
    if line.split(" · ")[0] != expected:
        raise Failed(f"the status line is {line!r} instead of {expected!r}")
    return f"the screen shows: {line}"


def checks() -> list[Check]:
    """The rows of this subject, in order. One session serves all but the last two, which share one in a terminal."""
    ready = ("claude.version", "settings", "settings.first-start", "token")

    def row(name: str, title: str, run: Callable[[Workbench], str]) -> Check:
        return Check(f"fence.{name}", title, run, needs=ready, limit=120, about=SESSIONS)

    return [
        # It needs nothing: without any layer not even `claude-local --version` works, and this row says why.
        Check("fence.layers", "both layers of the fence work here", _layers, limit=120, about=SESSIONS),
        row("locked", "the sandbox is on, and a project cannot switch it off", _needs(_locked, INNER)),
        row("bash-writes", "Bash writes in the workspace only", _needs(_bash_writes, INNER)),
        row("file-writes", "Write and Edit write in the workspace only", _needs(_file_writes, OUTER)),
        row("bash-secrets", "Bash sees no secrets", _needs(_bash_secrets, OUTER, INNER)),
        row("read-secrets", "Read sees no secrets", _needs(_read_secrets, OUTER)),
        row("claude-server", "Claude Code reaches the server", _needs(_claude_server, OUTER)),
        row("bash-server", "Bash reaches the server", _needs(_bash_server, INNER)),
        row("bash-manager", "Bash reaches the management API", _needs(_bash_manager, INNER)),
        row("bash-elsewhere", "Bash reaches nothing else", _needs(_bash_elsewhere, INNER)),
        row("sudo", "sudo does not work", _needs(_sudo, INNER)),
        row("sockets", "Docker and D-Bus are out of reach", _needs(_sockets, INNER)),
        row("processes", "other processes are invisible", _needs(_processes, INNER)),
        row("guarded", "a session cannot plant what runs later", _needs(_guarded, OUTER)),
        row("claude-home", "~/.claude is unchanged", _needs(_claude_home, OUTER)),
        row("prompt", "Bash still asks in a terminal", _prompt),
        row("status-line", "the session shows its fence", _status_line),
    ]
