"""Rows about Claude Code through the real wrapper: the first start, the real model, and the network."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

from claude_local.server.presets import ACTIVE
from claude_local.verify import terminal
from claude_local.verify.checks import EVERYTHING, Check, Failed, Skipped, one_line
from claude_local.verify.network import Destinations
from claude_local.verify.scripted_rows import WORDS, ScriptedSession
from claude_local.verify.session import Session
from claude_local.verify.temporary_home import home
from claude_local.verify.terminal import Terminal
from claude_local.verify.workbench import Workbench

# Seconds: for a prompt in the terminal; for a session with the real model, cold, on two cores (a prompt of 3,000 to
# 6,000 tokens at 80 tokens a second, twice, and a few answers).
START, MODEL_SESSION = 60.0, 600.0
# Profiles whose model uses Glob, Read and Write reliably (benchmarks/tool_use.py). Any other may fail at it: that is
# reported, and it is no fault of the machine.
PROVEN = frozenset({"qwen2.5-coder-1.5b"})
WEAK = (
    "choose another default_profile: if the scripted rows pass, the machine works and this model is too weak for tools"
)
# Model requests that one task may take: the longest right way is two; a weak model that repeats its call ends here.
TURNS = "6"


# --- the first start, in a terminal -------------------------------------------------------------------------------


def _terminal(bench: Workbench) -> str:
    place = home(bench)
    place.fresh_workspace({})
    record = place.record_peers()
    argv = place.inside([*record.prefix(), bench.paths.wrapper])
    env = {**place.environment(), **terminal.columns_environment()}
    try:
        with Terminal(argv, env=env, cwd=str(place.root)) as screen:
            return first_start(screen)
    finally:
        bench.once("terminal peers", record.stop)


def first_start(screen: Terminal) -> str:
    """Walk a new session to its prompt, type there, and leave. Raises Failed for a question or a missing prompt."""
    _next_screen(screen, START)
    trust = ""
    if terminal.asks_for_trust(screen.lines()):
        if not terminal.choose(screen, "Yes"):
            raise Failed(f"the folder-trust question takes no answer: {screen.tail()}")
        screen.wait_for(lambda lines: not terminal.asks_for_trust(lines), 10)
        trust = ", after the folder-trust question (answered yes)"
        _next_screen(screen, START)
    screen.read(1.0)
    _next_screen(screen, 5)
    screen.send("verify types here")
    if not screen.wait_for(lambda lines: any(re.search(r"❯\sverify types here", line) for line in lines), 10):
        raise Failed(f"the prompt takes no input: {screen.tail()}")
    mode = next((line.strip().split("(")[0].strip(" ⏸⏵·") for line in screen.lines() if "mode on" in line), "")
    screen.send("\x15")
    screen.wait_for(lambda lines: not any("verify types here" in line for line in lines), 5)
    screen.enter("/exit")
    screen.wait_for(lambda lines: screen.ended, 10)
    return f"straight to the prompt{trust}" + (f", {mode}" if mode else "")


def _next_screen(screen: Terminal, seconds: float) -> None:
    """Wait for the prompt or the folder-trust question. Raises Failed for any other question, or when nothing comes."""

    def arrived(lines: list[str]) -> bool:
        return bool(terminal.question(lines)) or terminal.asks_for_trust(lines) or terminal.at_prompt(lines)

    if not screen.wait_for(arrived, seconds):
        ended = "claude-local ended" if screen.ended else f"no prompt after {seconds:.0f} s"
        raise Failed(f"{ended}; the screen shows: {screen.tail()}")
    if (question := terminal.question(screen.lines())) is not None:
        raise Failed(f"the first start asks for {question}: {screen.tail(3)}")


# --- the real model -----------------------------------------------------------------------------------------------


def _chat_session(bench: Workbench) -> Session:
    def ask() -> Session:
        place = home(bench)
        place.fresh_workspace({})
        bench.say("the real model reads its prompt")
        return place.claude(
            "-p", "What is the capital of France? Answer in one word.", "--output-format", "json",
            "--permission-mode", "acceptEdits", timeout=MODEL_SESSION, watched=True,
        )  # fmt: skip

    return bench.once("chat", ask)


def _chat(bench: Workbench) -> str:
    session = _chat_session(bench)
    if (failure := session.failure()) is not None:
        raise Failed(failure, bench.logs_command)
    if not session.answer.strip():
        raise Failed("the session ended without an answer", bench.logs_command)
    usage = session.result.get("usage") or {}
    cached = int(usage.get("cache_read_input_tokens") or 0)
    return (
        f"{bench.active} answered {one_line(session.answer, 60)!r} in {session.ended.seconds:.0f} s "
        f"({int(usage.get('input_tokens') or 0) + cached} prompt tokens, {cached} of them cached)"
    )


def _context(bench: Workbench) -> str:
    usage = _chat_session(bench).result.get("modelUsage") or {}
    windows = {name: entry.get("contextWindow") for name, entry in usage.items() if isinstance(entry, dict)}
    n_ctx = bench.context_window
    if not windows:
        raise Failed("the session reported no context window (modelUsage is empty)")
    if set(windows.values()) != {n_ctx}:
        raise Failed(f"Claude Code assumes {windows}, but the server's n_ctx is {n_ctx}")
    if set(windows) != {ACTIVE}:
        raise Failed(f"the session used the models {', '.join(windows)} instead of {ACTIVE} only")
    return f"Claude Code and the server agree on {n_ctx} tokens"


# The session, the workspace and the secret word -> the evidence; raises Failed.
Judge = Callable[[Session, Path, str], str]


def _with_model(bench: Workbench, prompt: str, judge: Judge, *, with_files: bool = True) -> str:
    """Let the real model do one thing, in at most two attempts."""
    try:
        return _attempt(bench, prompt, judge, with_files, 1)
    except Failed as failed:
        first = failed
    try:
        evidence = _attempt(bench, prompt, judge, with_files, 2)
    except Failed as failed:
        raise _too_weak(bench, failed) from None
    return f"{evidence}; second attempt, the first: {one_line(first.what, 80)}"


def _attempt(bench: Workbench, prompt: str, judge: Judge, with_files: bool, number: int) -> str:
    place, secret = home(bench), secrets.choice(WORDS)
    place.fresh_workspace({"hello.txt": f"The secret word is {secret}.\n"} if with_files else {})
    bench.say(f"the real model works, attempt {number}")
    session = place.claude(
        "-p", prompt.format(secret=secret), "--permission-mode", "acceptEdits", "--output-format", "stream-json",
        "--verbose", "--max-turns", TURNS, timeout=MODEL_SESSION,
    )  # fmt: skip
    bench.once("later session", lambda: session)
    if (failure := session.failure()) is not None:
        raise Failed(failure, bench.logs_command)
    return f"{judge(session, place.workspace, secret)} ({session.ended.seconds:.0f} s)"


def _too_weak(bench: Workbench, failed: Failed) -> Exception:
    """What a model's second failure means. These rows run only where the scripted one passed, so the machine works: it
    is a fault with a profile that is known to use tools, else only a remark on the model."""
    if bench.active in PROVEN:
        return Failed(f"twice: {failed.what}", failed.fix)
    works = "the machine works (the scripted row passed)"
    return Skipped(f"{works}, but {bench.active} is too weak: {failed.what}")


def _actions(session: Session) -> str:
    tools = ", ".join(call.tool for call in session.calls())
    return f"called {tools or 'no tool'}, answered {one_line(session.answer, 80)!r}"


def _outputs(session: Session, tool: str) -> list[str]:
    """What the calls of ``tool`` that worked have returned."""
    return [call.output or "" for call in session.calls() if call.tool == tool and not call.is_error]


def _glob(bench: Workbench) -> str:
    def judge(session: Session, workspace: Path, secret: str) -> str:
        if not any("hello.txt" in output for output in _outputs(session, "Glob")):
            raise Failed(f"Glob did not find hello.txt; the model {_actions(session)}", WEAK)
        if "hello.txt" not in session.answer:
            raise Failed(f"the answer does not name hello.txt; the model {_actions(session)}", WEAK)
        return f"Glob found hello.txt, answered {one_line(session.answer, 60)!r}"

    return _with_model(bench, "Find all files matching *.txt with the Glob tool and tell me their names.", judge)


def _read(bench: Workbench) -> str:
    def judge(session: Session, workspace: Path, secret: str) -> str:
        read = any(secret in output for output in _outputs(session, "Read"))
        if not read or secret not in session.answer.lower():
            raise Failed(f"the secret word is {secret!r}; the model {_actions(session)}", WEAK)
        return f"Read hello.txt, answered {one_line(session.answer, 60)!r}"

    return _with_model(bench, "Read the file hello.txt and tell me the secret word.", judge)


def _write(bench: Workbench) -> str:
    def judge(session: Session, workspace: Path, secret: str) -> str:
        file = workspace / "out.txt"
        content = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else None
        if content is None or secret not in content:
            raise Failed(f"out.txt on disk is {content!r} without {secret!r}; the model {_actions(session)}", WEAK)
        if not _outputs(session, "Write"):
            raise Failed(f"the Write tool did not make out.txt; the model {_actions(session)}", WEAK)
        return f"Write: out.txt is on disk with {one_line(content, 40)!r}"

    prompt = "Create a file named out.txt containing the word {secret}."
    return _with_model(bench, prompt, judge, with_files=False)


def _reuse(bench: Workbench) -> str:
    later: Session | None = bench.known("later session")
    if later is None or (counts := later.first_prompt()) is None:
        raise Skipped("no session came after the first one")
    cached, read = counts
    evidence = f"a session in a new folder read {read} tokens of its first prompt, {cached} were cached"
    if cached < read:
        version = "a Claude Code other than claude_version (group_data/all.py) may change its prompt in each session"
        raise Failed(evidence, f"{version}; llama-local status shows the cause of the last turn")
    return evidence


# --- the network --------------------------------------------------------------------------------------------------


def _recorded_peers(bench: Workbench) -> Iterator[tuple[str, Destinations, int]]:
    """Each session of this run that was watched, its peers, and the port of its llama-server."""
    scripted: ScriptedSession | None = bench.known("scripted")
    chat: Session | None = bench.known("chat")
    port = bench.parameters.server_port
    for what, peers, allowed in (
        ("first start", bench.known("terminal peers"), port),
        ("scripted session", scripted.session.peers if scripted else None, scripted.port if scripted else 0),
        ("chat", chat.peers if chat else None, port),
    ):
        if peers is not None:
            yield what, peers, allowed


def _connections(bench: Workbench) -> str:
    evidence, method = [], ""
    for what, peers, allowed in _recorded_peers(bench):
        # The line below the prompt asks the management API.
        if others := peers.other_than(allowed, bench.parameters.manager_port):
            raise Failed(f"the {what} also talks to {', '.join(others)} (recorded with {peers.method})")
        if not peers.peers:
            raise Failed(f"the {what} talked to nobody, not even to 127.0.0.1:{allowed} ({peers.method})")
        if peers.uring:
            raise Failed(f"the {what} uses io_uring, whose connections strace cannot see", "report this row as a bug")
        evidence.append(f"{what}: 127.0.0.1:{allowed} {peers.peers[('127.0.0.1', allowed)]} times")
        method = peers.method
    if not evidence:
        raise Skipped("no session ran")
    return f"{'; '.join(evidence)}; nothing else ({method}: IPv4 and IPv6)"


def checks(default: str) -> list[Check]:
    """The rows of this subject, in order: those that need no answer of a model first."""
    ready = ("claude.version", "settings", "settings.first-start", "token")
    model = (*ready, "server.model", f"model.{default}")
    once = MODEL_SESSION + 60
    return [
        Check("claude.terminal", "the first start goes straight to the prompt", _terminal,
              needs=(*ready, "server.model"), limit=3 * START, about=EVERYTHING),
        Check("claude.chat", "chat works with the real model", _chat, needs=model, limit=once, about=EVERYTHING),
        Check("claude.context", "Claude Code knows the true context window", _context, needs=("claude.chat",),
              about=EVERYTHING),
        Check("claude.glob", "the real model uses Glob", _glob,
              needs=("claude.chat", "scripted.glob"), limit=2 * once, about=EVERYTHING),
        Check("claude.read", "the real model uses Read", _read,
              needs=("claude.chat", "scripted.read"), limit=2 * once, about=EVERYTHING),
        Check("claude.write", "the real model uses Write", _write,
              needs=("claude.chat", "scripted.write"), limit=2 * once, about=EVERYTHING),
        Check("claude.reuse", "a new session reads only what is new", _reuse, needs=("claude.chat",), about=EVERYTHING),
        Check("claude.connections", "sessions talk to the local server and to nothing else", _connections, needs=ready,
              about=EVERYTHING),
    ]  # fmt: skip
