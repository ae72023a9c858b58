"""Rows about Claude Code through the real wrapper: first start, whom it talks to, tools, credentials, context window."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

from claude_local.verify import processes, terminal
from claude_local.verify.checks import Check, Failed, Skipped, one_line
from claude_local.verify.configuration import fence_config
from claude_local.verify.fingerprint import differences, fingerprint
from claude_local.verify.network import Destinations
from claude_local.verify.scripted_backend import ScriptedBackend, text, tool_use
from claude_local.verify.server import MODEL, context_window
from claude_local.verify.session import Session, home, tool_answers
from claude_local.verify.terminal import Terminal
from claude_local.verify.workbench import Workbench

# Words that a model can copy and that it would not say by chance.
WORDS = ("pelican", "walnut", "lantern", "harbour", "cinnamon", "glacier", "trumpet", "meadow", "saffron", "anchor")
# Seconds: a session with the scripted backend; one with the real model, cold, on two cores (a prompt of 3,000 to 6,000
# tokens at 80 tokens a second, twice, and a few answers); the terminal.
SCRIPTED, MODEL_SESSION, START = 90.0, 600.0, 60.0
# Profiles whose model uses Glob, Read and Write reliably (benchmarks/tool_use.py); with any other, failing at it is
# reported and does not fail the machine.
PROVEN = frozenset({"qwen2.5-coder-1.5b"})
WEAK = "the machine works if the scripted rows pass; this model is too weak for tools: choose another default_profile"
WRAPPER = "./provision"


def _word(*, but: str = "") -> str:
    return secrets.choice([word for word in WORDS if word != but])


# --- the first start, in a terminal -------------------------------------------------------------------------------


def _terminal(bench: Workbench) -> str:
    return bench.once("terminal", lambda: _first_start(bench))


def _first_start(bench: Workbench) -> str:
    place = home(bench)
    place.fresh_workspace({})
    watch = place.watch()
    argv = place.inside([*watch.prefix(), bench.paths.wrapper])
    env = {**place.environment(), **terminal.columns_environment()}
    try:
        with Terminal(argv, env=env, cwd=str(place.root)) as screen:
            return _walk_in(screen)
    finally:
        bench.once("terminal.peers", watch.stop)


def _walk_in(screen: Terminal) -> str:
    def something(lines: list[str]) -> bool:
        return bool(terminal.question(lines)) or terminal.asks_for_trust(lines) or terminal.at_prompt(lines)

    def look(seconds: float) -> None:
        if not screen.wait_for(something, seconds):
            ended = "claude-local ended" if screen.ended else f"no prompt after {seconds:.0f} s"
            raise Failed(f"{ended}; the screen shows: {screen.tail()}", WRAPPER)
        if (asked := terminal.question(screen.lines())) is not None:
            raise Failed(f"the first start asks for {asked}: {screen.tail(3)}", WRAPPER)

    look(START)
    trust = ""
    if terminal.asks_for_trust(screen.lines()):
        if not terminal.choose(screen, "Yes"):
            raise Failed(f"the folder-trust question cannot be answered: {screen.tail()}", WRAPPER)
        screen.wait_for(lambda lines: not terminal.asks_for_trust(lines), 10)
        trust = ", after the folder-trust question (answered yes)"
        look(START)
    screen.read(1.0)
    look(5)
    screen.send("verify types here")
    if not screen.wait_for(lambda lines: any(re.search(r"❯\sverify types here", line) for line in lines), 10):
        raise Failed(f"the prompt takes no input: {screen.tail()}", WRAPPER)
    mode = next((line.strip().split("(")[0].strip(" ⏸⏵·") for line in screen.lines() if "mode on" in line), "")
    screen.send("\x15")
    screen.read(0.5)
    screen.send("/exit")
    screen.read(1.0)
    screen.send("\r")
    screen.wait_for(lambda lines: screen.ended, 10)
    return f"straight to the prompt{trust}" + (f", {mode}" if mode else "")


# --- the scripted backend -----------------------------------------------------------------------------------------


class Scripted:
    """One session of three tool calls that the scripted backend asks for, and everything that it saw."""

    def __init__(self, bench: Workbench) -> None:
        place = home(bench)
        self.secret, self.written = _word(), _word()
        self.note = f"{self.secret}-note.txt"
        place.fresh_workspace({self.note: f"The secret word is {self.secret}.\n", "other.md": "nothing\n"})
        inside = place.workspace_inside
        self.target = place.workspace / "written.txt"
        turns = [
            tool_use("Glob", {"pattern": "*.txt"}),
            tool_use("Read", {"file_path": str(inside / self.note)}),
            tool_use("Write", {"file_path": str(inside / "written.txt"), "content": f"{self.written}\n"}),
            text("All three tools have run."),
        ]
        with ScriptedBackend(turns, n_ctx=32768) as backend:
            self.url = backend.url
            self.port = int(backend.url.rpartition(":")[2])
            self.session = place.claude(
                "-p", "Run the three tools.", "--permission-mode", "acceptEdits", "--output-format", "stream-json",
                "--verbose", timeout=SCRIPTED, server=backend.url, watched=True,
            )  # fmt: skip
            self.requests: list[dict[str, Any]] = list(backend.requests)
        self.on_disk = self.target.read_text(encoding="utf-8") if self.target.exists() else None

    def offered(self) -> set[str]:
        """The names of the tools that Claude Code offered to the model."""
        bodies = [request["body"] for request in self.requests if isinstance(request["body"], dict)]
        return {tool.get("name", "") for body in bodies for tool in body.get("tools") or []}

    def result(self, tool: str) -> str:
        """What ``tool`` returned, as the backend received it. Raises Failed or Skipped."""
        found = {answer.tool: answer for answer in tool_answers(self.requests).values()}
        if tool not in found:
            if self.offered() and tool not in self.offered():
                raise Skipped(f"the profile's tool set has no {tool} ({', '.join(sorted(self.offered()))})")
            raise Failed(self.session.trouble() or f"{tool} was asked for and never ran", WRAPPER)
        if found[tool].bad:
            raise Failed(f"{tool} failed: {one_line(found[tool].said, 160)}", WRAPPER)
        return found[tool].said


def _scripted(bench: Workbench) -> Scripted:
    return bench.once("scripted", lambda: Scripted(bench))


def _scripted_glob(bench: Workbench) -> str:
    run = _scripted(bench)
    said = run.result("Glob")
    if run.note not in said or "other.md" in said:
        raise Failed(f"Glob *.txt found {one_line(said, 120)!r}, {run.note} was expected", WRAPPER)
    return f"Glob *.txt found {run.note}; the backend received it"


def _scripted_read(bench: Workbench) -> str:
    run = _scripted(bench)
    said = run.result("Read")
    if run.secret not in said:
        raise Failed(f"Read {run.note} gave {one_line(said, 120)!r} without the word {run.secret}", WRAPPER)
    return f"Read {run.note}: the backend received the word {run.secret!r}"


def _scripted_write(bench: Workbench) -> str:
    run = _scripted(bench)
    run.result("Write")
    if run.on_disk is None or run.on_disk.strip() != run.written:
        raise Failed(f"Write: written.txt on disk is {run.on_disk!r} instead of {run.written!r}", WRAPPER)
    return f"Write: written.txt is on disk with {run.written!r}"


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
    if (trouble := session.trouble()) is not None:
        raise Failed(trouble, bench.logs_command)
    if not session.answer.strip():
        raise Failed("the session ended without an answer", bench.logs_command)
    usage = session.result.get("usage") or {}
    prompt = sum(int(usage.get(name) or 0) for name in ("input_tokens", "cache_read_input_tokens"))
    return (
        f"{bench.parameters.default} answered {one_line(session.answer, 60)!r} in {session.ended.seconds:.0f} s "
        f"({prompt} prompt tokens, {usage.get('cache_read_input_tokens') or 0} of them cached)"
    )


def _window(bench: Workbench) -> str:
    session = _chat_session(bench)
    usage = session.result.get("modelUsage") or {}
    believed = {name: entry.get("contextWindow") for name, entry in usage.items() if isinstance(entry, dict)}
    wanted = bench.once("window", lambda: context_window(bench))
    if not believed:
        raise Failed("the session reported no context window (modelUsage is empty)", WRAPPER)
    if set(believed.values()) != {wanted}:
        raise Failed(f"Claude Code believes in {believed}, the server's n_ctx is {wanted}", WRAPPER)
    if set(believed) != {MODEL}:
        raise Failed(f"the session used the models {', '.join(believed)}, only {MODEL} was expected", WRAPPER)
    return f"Claude Code and the server agree on {wanted} tokens"


Judge = Callable[[Session, Path, str], str]


# Model requests that one task may take: the longest right way is two; a weak model that repeats its call ends here.
TURNS = "6"


def _with_model(bench: Workbench, prompt: str, judge: Judge, *, with_files: bool = True) -> str:
    """Let the real model do one thing, at most twice; ``judge`` returns the evidence or raises Failed."""
    place = home(bench)
    first: Failed | None = None
    for attempt in (1, 2):
        secret = _word()
        files = {"hello.txt": f"The secret word is {secret}.\n"} if with_files else {}
        place.fresh_workspace(files)
        bench.say(f"the real model works, attempt {attempt}")
        session = place.claude(
            "-p", prompt.format(secret=secret), "--permission-mode", "acceptEdits", "--output-format", "stream-json",
            "--verbose", "--max-turns", TURNS, timeout=MODEL_SESSION,
        )  # fmt: skip
        try:
            if (trouble := session.trouble()) is not None:
                raise Failed(trouble, bench.logs_command)
            evidence = judge(session, place.workspace, secret)
            again = "" if first is None else f"; second attempt, the first: {one_line(first.what, 80)}"
            return f"{evidence} ({session.ended.seconds:.0f} s){again}"
        except Failed as failed:
            if first is not None:
                raise too_weak(bench, failed) from None
            first = failed
    raise AssertionError("unreachable")


def too_weak(bench: Workbench, failed: Failed) -> Exception:
    """What a model's second failure at a tool means. These rows run only where the scripted one passed, so the machine
    works: a fault with a profile that is known to use tools, else no more than a remark on the model."""
    if bench.parameters.default in PROVEN:
        return Failed(f"twice: {failed.what}", failed.fix)
    return Skipped(
        f"the machine works (the scripted row passed), {bench.parameters.default} is too weak: {failed.what}"
    )


def _what_it_did(session: Session) -> str:
    return f"called {', '.join(session.all_tools()) or 'no tool'}, answered {one_line(session.answer, 80)!r}"


def _model_glob(bench: Workbench) -> str:
    def judge(session: Session, workspace: Path, secret: str) -> str:
        good = [said for _, said, bad in session.uses("Glob") if not bad and "hello.txt" in said]
        if not good:
            raise Failed(f"Glob did not find hello.txt; it {_what_it_did(session)}", WEAK)
        if "hello.txt" not in session.answer:
            raise Failed(f"the answer does not name hello.txt; it {_what_it_did(session)}", WEAK)
        return f"Glob found hello.txt, answered {one_line(session.answer, 60)!r}"

    return _with_model(bench, "Find all files matching *.txt with the Glob tool and tell me their names.", judge)


def _model_read(bench: Workbench) -> str:
    def judge(session: Session, workspace: Path, secret: str) -> str:
        good = [said for _, said, bad in session.uses("Read") if not bad and secret in said]
        if not good or secret not in session.answer.lower():
            raise Failed(f"the secret word is {secret!r}; it {_what_it_did(session)}", WEAK)
        return f"Read hello.txt, answered {one_line(session.answer, 60)!r}"

    return _with_model(bench, "Read the file hello.txt and tell me the secret word.", judge)


def _model_write(bench: Workbench) -> str:
    def judge(session: Session, workspace: Path, secret: str) -> str:
        target = workspace / "out.txt"
        found = target.read_text(encoding="utf-8", errors="replace") if target.is_file() else None
        if found is None or secret not in found:
            raise Failed(f"out.txt on disk is {found!r}, it should hold {secret!r}; it {_what_it_did(session)}", WEAK)
        if not any(not bad for _, _, bad in session.uses("Write")):
            raise Failed(f"out.txt is there, but not by the Write tool; it {_what_it_did(session)}", WEAK)
        return f"Write: out.txt is on disk with {one_line(found, 40)!r}"

    prompt = "Create a file named out.txt containing the word {secret}."
    return _with_model(bench, prompt, judge, with_files=False)


# --- whom it talks to, and what it gives away ---------------------------------------------------------------------


def _connections(bench: Workbench) -> str:
    port = bench.parameters.server_port
    scripted: Scripted | None = bench.known("scripted")
    chat: Session | None = bench.known("chat")
    seen: list[tuple[str, Destinations | None, int]] = [
        ("first start", bench.known("terminal.peers"), port),
        ("scripted session", scripted.session.peers if scripted else None, scripted.port if scripted else 0),
        ("chat", chat.peers if chat else None, port),
    ]
    evidence, method = [], ""
    for what, peers, allowed in seen:
        if peers is None:
            continue
        if strange := peers.other_than(allowed):
            raise Failed(f"the {what} also talks to {', '.join(strange)} (seen with {peers.method})", WRAPPER)
        if not peers.peers:
            raise Failed(f"the {what} talked to nobody, not even to 127.0.0.1:{allowed} ({peers.method})", WRAPPER)
        if peers.uring:
            raise Failed(f"the {what} uses io_uring, whose connections strace cannot see", "report this row as a bug")
        evidence.append(f"{what}: 127.0.0.1:{allowed} {peers.peers[('127.0.0.1', allowed)]} times")
        method = peers.method
    if not evidence:
        raise Skipped("no session ran")
    return f"{'; '.join(evidence)}; nothing else ({method}: IPv4 and IPv6)"


def _planted(bench: Workbench) -> str:
    run = _scripted(bench)
    place = home(bench)
    for name, content in place.login.files.items():
        path = place.root / name
        if not path.exists() or path.read_bytes() != content:
            raise Failed(f"~/{name} was changed by a session", WRAPPER)
    new = {str(path.relative_to(place.root)): path for path in (place.root / ".claude").rglob("*")}
    # The inner sandbox alone makes its mount points there, directories with nothing in them (seen with 2.1.330, whatever
    # CLAUDE_CONFIG_DIR says); the outer fence keeps them away.
    stubs = [] if fence_config(bench).outer else sorted(name for name, path in new.items() if path.is_dir())
    extra = sorted(new.keys() - place.login.files.keys() - set(stubs))
    if extra:
        raise Failed(f"sessions left {', '.join(extra[:4])} in ~/.claude", WRAPPER)
    if not run.requests:
        raise Failed(run.session.trouble() or "no request reached the scripted backend", WRAPPER)
    for number, request in enumerate(run.requests, 1):
        whole = json.dumps(request, ensure_ascii=False)
        if any(secret in whole for secret in place.login.secrets):
            raise Failed(
                f"request {number} ({request['method']} {request['path']}) carries a planted cloud secret", WRAPPER
            )
    return (
        f"{len(place.login.files)} planted files byte-identical, nothing new in ~/.claude"
        + (f" but the sandbox's empty {', '.join(stubs[:3])}" if stubs else "")
        + "; "
        f"{len(place.login.secrets)} secrets (one in ANTHROPIC_API_KEY) in none of {len(run.requests)} requests"
    )


def real_login(bench: Workbench) -> dict[str, str]:
    """The fingerprint of the user's own ~/.claude and ~/.claude.json."""
    return fingerprint(Path(bench.paths.home) / ".claude", Path(bench.paths.home) / ".claude.json")


def remember_real_login(bench: Workbench) -> None:
    """Take the fingerprint that the last row compares with, before anything runs."""
    bench.once("real.before", lambda: real_login(bench))
    bench.once("real.others", lambda: processes.others_named("claude", bench.marker))


def _real(bench: Workbench) -> str:
    before = bench.once("real.before", lambda: real_login(bench))
    changed = differences(before, real_login(bench))
    if changed:
        others = set(bench.known("real.others") or []) | set(processes.others_named("claude", bench.marker))
        if others:
            running = ", ".join(map(str, sorted(others)))
            raise Skipped(f"another claude of yours runs (process {running}) and changes ~/.claude itself")
        raise Failed(f"{len(changed)} changes in ~/.claude: {', '.join(changed[:3])}", WRAPPER)
    if not before:
        return "neither ~/.claude nor ~/.claude.json was there, and neither is now"
    return f"{len(before)} files and directories of ~/.claude and ~/.claude.json are unchanged (sha256)"


def checks(default: str) -> list[Check]:
    """The rows of this subject, in order: what needs no model first."""
    ready = ("claude.version", "settings", "settings.first-start", "token")
    model = (*ready, "server.model", f"model.{default}")
    once = MODEL_SESSION + 60
    return [
        Check("scripted.glob", "Glob works (scripted backend)", _scripted_glob, needs=ready, limit=SCRIPTED + 30),
        Check("scripted.read", "Read works (scripted backend)", _scripted_read, needs=ready, limit=SCRIPTED + 30),
        Check("scripted.write", "Write works (scripted backend)", _scripted_write, needs=ready, limit=SCRIPTED + 30),
        Check("claude.terminal", "the first start goes straight to the prompt", _terminal,
              needs=(*ready, "server.model"), limit=3 * START),
        Check("claude.chat", "chat works with the real model", _chat, needs=model, limit=once),
        Check("claude.context", "Claude Code knows the true context window", _window, needs=("claude.chat",)),
        Check("claude.glob", "the real model uses Glob", _model_glob,
              needs=("claude.chat", "scripted.glob"), limit=2 * once),
        Check("claude.read", "the real model uses Read", _model_read,
              needs=("claude.chat", "scripted.read"), limit=2 * once),
        Check("claude.write", "the real model uses Write", _model_write,
              needs=("claude.chat", "scripted.write"), limit=2 * once),
        Check("claude.connections", "sessions talk to the local server and to nothing else", _connections, needs=ready),
        Check("credentials.planted", "a cloud login is neither touched nor sent", _planted, needs=ready,
              limit=SCRIPTED + 30),
        Check("credentials.own", "the user's own ~/.claude is unchanged", _real, limit=300),
    ]  # fmt: skip
