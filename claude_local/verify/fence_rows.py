"""Rows about the fence: each claim is tried by the real Claude Code through the real wrapper, the traces are the proof."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from claude_local.fence.config import INNER, OUTER
from claude_local.verify.checks import Check, Failed, Skipped, one_line
from claude_local.verify.configuration import fence_config
from claude_local.verify.fence_session import PROJECT_SETTINGS, VARIABLES, FenceSession, Service, fence_session
from claude_local.verify.fence_terminal import MODES, asked
from claude_local.verify.workbench import Workbench

LAYERS = {OUTER: "bubblewrap around the whole session", INNER: "Claude Code's sandbox around each command"}
REPORT = "report this row as a bug"


def _with(judge: Callable[[FenceSession], str], *layers: str) -> Callable[[Workbench], str]:
    """A row that needs ``layers``. Where the deploy found out why one of them cannot work here, the fault is a remark."""

    def row(bench: Workbench) -> str:
        config = fence_config(bench)
        try:
            return judge(_session(bench))
        except Failed as failed:
            missing = [layer for layer in layers if layer not in config.layers]
            if not missing or not config.reason:
                raise
            raise Skipped(f"not without the {missing[0]} layer ({config.reason}): {failed.what}") from None

    return row


def _session(bench: Workbench) -> FenceSession:
    config = fence_config(bench)
    if not config.layers:
        raise Skipped("there is no fence here, see fence.layers")
    return fence_session(bench)


# --- which layers there are ------------------------------------------------------------------------------------------


def _layers(bench: Workbench) -> str:
    config = fence_config(bench)
    if not config.layers:
        raise Failed(f"no fence works on this machine: {config.reason or 'the deploy gave no reason'}")
    missing = [name for name in LAYERS if name not in config.layers]
    if missing and not config.reason:
        raise Failed(f"the {missing[0]} layer is off and fence.json gives no reason")
    wanted = "+".join(config.layers)
    told = " ".join(_session(bench).bash("layers"))
    if told != wanted:
        raise Failed(f"a session runs behind {told or 'nothing that it knows of'!r}, fence.json says {wanted!r}")
    if missing:
        raise Skipped(f"one layer only, {wanted} ({LAYERS[wanted]}): {config.reason}")
    return f"two layers: {' and '.join(LAYERS[name] for name in config.layers)}"


def _locked(run: FenceSession) -> str:
    found = dict(line.replace("\t", " ").split(": ", 1) for line in run.bash("process"))
    if found.get("NoNewPrivs", "").strip() != "1" or found.get("Seccomp", "").strip() != "2":
        raise Failed(f"Bash runs without a sandbox: {found or 'nothing in /proc/self/status'}")
    # NoNewPrivs alone would prove nothing: bubblewrap sets it too, and verify's sessions run in one (session.py). The
    # filter does, and so does Claude Code's own directory, which only the inner sandbox closes to commands.
    wrote = [line for line in run.bash("outside") if line == f"wrote {run.place.home}/.claude-local/verify-new"]
    if wrote:
        raise Failed(f"a project's settings ({PROJECT_SETTINGS['sandbox']}) switch the sandbox of commands off")
    return (
        "NoNewPrivs 1, Seccomp 2, ~/.claude-local closed to commands, though the project's settings say enabled: false"
    )


# --- writing -----------------------------------------------------------------------------------------------------------


def _outside(run: FenceSession) -> list[str]:
    """What lies outside the workspace and should not."""
    root = run.place.root
    found = [name for name in (run.new, ".claude/verify-new") if (root / name).exists()]
    if run.config.inner and (root / ".claude-local/verify-new").exists():
        found.append(".claude-local/verify-new")
    if (root / run.old).read_text(encoding="utf-8") != "# as it was\n":
        found.append(run.old)
    return found


def _bash_writes(run: FenceSession) -> str:
    refused = [line for line in run.bash("inside") if not line.startswith("wrote ")]
    if refused or not (run.workspace / "inside.txt").exists():
        raise Failed(f"Bash cannot write in the workspace or its temporary directory: {'; '.join(refused)}")
    wrote = [line for line in run.bash("outside") if line.startswith("wrote ") and _counts(run, line)]
    if wrote or (found := _outside(run)):
        raise Failed(f"Bash writes outside the workspace: {'; '.join(wrote or found)}")
    return (
        "Bash wrote in the workspace and its temporary directory; ~/, ~/.claude and files there: refused, not on disk"
    )


def _counts(run: FenceSession, line: str) -> bool:
    """What Bash says of ~/.claude means nothing: it may be an empty place that is gone with the session; the disk counts.
    ~/.claude-local is closed to commands by the inner layer alone."""
    if line.endswith("/.claude/verify-new"):
        return False
    return not line.endswith("/.claude-local/verify-new") or run.config.inner


def _file_writes(run: FenceSession) -> str:
    written = run.workspace / "written.txt"
    if run.answer("write-inside").bad or not written.is_file() or written.read_text(encoding="utf-8") != run.word:
        raise Failed(f"Write cannot write in the workspace: {one_line(run.answer('write-inside').said, 160)}")
    for name in ("write-new", "write-dots", "write-link", "edit-old"):
        if not run.answer(name).bad:
            raise Failed(f"{run.answer(name).tool} ({name}) wrote outside the workspace and says so")
    if found := _outside(run):
        raise Failed(f"the file tools wrote outside the workspace: {', '.join(found)}")
    return "Write wrote in the workspace; absolute, through .. and through a link out of it, and Edit: refused, not on disk"


def _guarded(run: FenceSession) -> str:
    changed = [name for name, before in run.guarded.items() if run.now(name) != before]
    if changed:
        raise Failed(f"a session planted or changed {', '.join(changed)}")
    if left := run.left_over():
        raise Failed(f"the session left {', '.join(left)} in the workspace")
    run.bash("guarded")
    return f"{len(run.guarded)} files that run later ({', '.join(list(run.guarded)[:3])} ...): neither Bash nor Write changed one"


def _claude_home(run: FenceSession) -> str:
    login = run.place.login
    root = run.place.root
    changed = [name for name, content in login.files.items() if (root / name).read_bytes() != content]
    known = {Path(name) for name in login.files}
    new = [str(path.relative_to(root)) for path in (root / ".claude").rglob("*") if path.relative_to(root) not in known]
    if changed or new:
        raise Failed(f"the session changed {', '.join([*changed, *new])}")
    return f"~/.claude and ~/.claude.json: {len(login.files)} files byte-identical, nothing new, though Bash and Write tried"


# --- secrets -----------------------------------------------------------------------------------------------------------


def _bash_secrets(run: FenceSession) -> str:
    run.bash("secrets")
    leaked = [name for name, word in run.secrets().items() if word in run.printed]
    if leaked:
        raise Failed(f"Bash reads {', '.join(leaked)}")
    return f"cat of {len(run.read_names)} planted secrets and {len(VARIABLES)} variables with secrets: nothing seen"


def _read_secrets(run: FenceSession) -> str:
    answers = [run.answer(f"read-{number}") for number in range(len(run.read_names))]
    leaked = [name for name, word in run.secrets().items() if any(word in answer.said for answer in answers)]
    if leaked:
        raise Failed(f"Read reads {', '.join(leaked)}")
    if undecided := [answer.said for answer in answers if "haven't granted" in answer.said]:
        raise Failed(f"Read asked instead of being stopped: {one_line(undecided[0], 120)}", REPORT)
    if anything := run.leaked():
        raise Failed(f"the model was sent {', '.join(anything)}")
    return (
        f"Read of {len(answers)} planted secrets: nothing seen, and none in {len(run.requests)} requests to the server"
    )


# --- the network -------------------------------------------------------------------------------------------------------


def _claude_server(run: FenceSession) -> str:
    if (trouble := run.session.trouble()) is not None:
        raise Failed(trouble)
    if run.turns != len(run.calls) + 1:
        raise Failed(f"{run.turns} requests reached the server, {len(run.calls) + 1} were expected")
    return (
        f"{run.turns} requests of one session reached the server and were answered, {run.session.ended.seconds:.1f} s"
    )


def _reaches(who: str, section: str, service: Service, run: FenceSession) -> str:
    said = " ".join(run.bash(section))
    if service.answer not in said or "blocked by network allowlist" in said:
        raise Failed(f"Bash does not reach {who} on port {service.port}: {one_line(said, 200)}")
    how = " (a stand-in for the test)" if service.stand_in else ""
    return f"plain curl {' '.join(service.asked)}: {one_line(said, 80)}{how}"


def _bash_server(run: FenceSession) -> str:
    return _reaches("llama-server", "server", run.server, run)


def _bash_manager(run: FenceSession) -> str:
    return _reaches("the management API", "manager", run.manager, run)


def _bash_elsewhere(run: FenceSession) -> str:
    said = " ".join(run.bash("elsewhere"))
    if run.elsewhere or run.word in said:
        raise Failed(f"Bash reaches another port of this machine: {run.elsewhere} connections, {one_line(said, 120)}")
    return "another port on 127.0.0.1, by curl, past the proxy, as a proxy, and by a bare connection: nobody came"


# --- the machine -------------------------------------------------------------------------------------------------------


def _sudo(run: FenceSession) -> str:
    # For an ordinary user verify's own bubblewrap would be enough to end it: tests/escape tries it without.
    said = run.bash("sudo")
    if "0" in said or not said:
        raise Failed(f"sudo works in the sandbox: {' '.join(said) or 'it said nothing'}")
    words = next((line for line in said if "no new privileges" in line), said[-1])
    return one_line(words, 160)


def _sockets(run: FenceSession) -> str:
    said = run.bash("sockets")
    if reached := [line.partition(" ")[2] for line in said if not line.startswith("refused ")]:
        raise Failed(f"Bash can talk to {', '.join(reached)}")
    if len(said) != len(run.sockets):
        raise Failed(f"{len(said)} of {len(run.sockets)} sockets were tried", REPORT)
    if not run.sockets:
        return "no socket of Docker, D-Bus, systemd, Podman or ssh-agent is on this machine"
    return f"refused: {', '.join(run.sockets)}"


def _processes(run: FenceSession) -> str:
    said = run.bash("processes")
    if any(run.word in line for line in said):
        raise Failed("Bash sees the processes of others in /proc")
    if not run.neighbour_lives:
        raise Failed("the session ended a process of verify's that ran beside it")
    return f"{len(said)} processes in /proc, all of the session; the one beside it was not among them and lives"


# --- in a terminal -----------------------------------------------------------------------------------------------------


def _prompt(bench: Workbench) -> str:
    _session(bench)
    found = asked(bench)
    if found.ran:
        raise Failed(f"a command ran without a question in {' and '.join(found.ran)} mode")
    if found.asked != list(MODES):
        raise Failed(f"a command asked in {' and '.join(found.asked) or 'no'} mode only")
    return f"in {' and '.join(found.asked)} mode the screen asks before a command; refused, it did not run"


def _status_line(bench: Workbench) -> str:
    config = _session(bench).config
    found = asked(bench).status_line
    wanted = "two layers" if len(config.layers) == 2 else f"one layer ({config.layers[0]} only)"
    if wanted not in found:
        raise Failed(f"the status line is {found!r}, it should tell {wanted!r}")
    return f"the screen shows: {found}"


def checks() -> list[Check]:
    """The rows of this subject, in order. One session serves all but the last two, which share one in a terminal."""
    ready = ("claude.version", "settings", "settings.first-start", "token")

    def row(name: str, title: str, run: Callable[[Workbench], str]) -> Check:
        return Check(f"fence.{name}", title, run, needs=ready, limit=120)

    return [
        # It needs nothing: without any layer not even `claude-local --version` works, and this row says why.
        Check("fence.layers", "two layers of the fence work here", _layers, limit=120),
        row("locked", "the sandbox is on, and a project cannot switch it off", _with(_locked, INNER)),
        row("bash-writes", "Bash writes in the workspace only", _with(_bash_writes, INNER)),
        row("file-writes", "Write and Edit write in the workspace only", _with(_file_writes, OUTER)),
        row("bash-secrets", "Bash sees no secrets", _with(_bash_secrets, OUTER, INNER)),
        row("read-secrets", "Read sees no secrets", _with(_read_secrets, OUTER)),
        row("claude-server", "Claude reaches the server", _with(_claude_server, OUTER)),
        row("bash-server", "Bash reaches the server", _with(_bash_server, INNER)),
        row("bash-manager", "Bash reaches the management API", _with(_bash_manager, INNER)),
        row("bash-elsewhere", "Bash reaches nothing else", _with(_bash_elsewhere, INNER)),
        row("sudo", "sudo is dead", _with(_sudo, INNER)),
        row("sockets", "no Docker, no D-Bus", _with(_sockets, INNER)),
        row("processes", "other people's processes are invisible", _with(_processes, INNER)),
        row("guarded", "what runs later outside cannot be planted", _with(_guarded, OUTER)),
        row("claude-home", "~/.claude is untouched", _with(_claude_home, OUTER)),
        row("prompt", "Bash still asks in a terminal", _prompt),
        row("status-line", "the session shows its fence", _status_line),
    ]
