"""The rows about Claude Code: what counts as evidence; each row is red for its own fault. The sessions are made up."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests

from claude_local.fence.config import FenceConfig, dump
from claude_local.verify import claude_rows, credentials_rows, network, processes, terminal
from claude_local.verify.catalogue import catalogue
from claude_local.verify.checks import Failed, Skipped
from claude_local.verify.fingerprint import differences, fingerprint
from claude_local.verify.network import Destinations, from_strace
from claude_local.verify.session import Session, parse_events
from claude_local.verify.temporary_home import TemporaryHome, home, link_chain
from claude_local.verify.workbench import Workbench
from tests.verify.verify_lab import deployed, write

Play = Callable[[TemporaryHome, tuple[str, ...], str | None], Session]


def run_row(bench: Workbench, name: str) -> str:
    return next(check for check in catalogue(bench.parameters) if check.id == name).run(bench)


def events(answer: str, *calls: tuple[str, dict[str, Any], str, bool], **result: Any) -> list[dict[str, Any]]:
    """What ``claude -p --output-format stream-json`` prints: tool calls (name, input, result, is_error), an answer."""
    found: list[dict[str, Any]] = []
    for number, (name, given, said, bad) in enumerate(calls):
        use = {"type": "tool_use", "id": f"t{number}", "name": name, "input": given}
        back = {
            "type": "tool_result",
            "tool_use_id": f"t{number}",
            "content": [{"type": "text", "text": said}],
            "is_error": bad,
        }
        found += [
            {"type": "assistant", "message": {"content": [use]}},
            {"type": "user", "message": {"content": [back]}},
        ]
    return [*found, {"type": "result", "result": answer, "is_error": False, **result}]


def played(
    found: list[dict[str, Any]], status: int | None = 0, peers: Destinations | None = None, err: str = ""
) -> Session:
    text = "\n".join(json.dumps(event) for event in found)
    return Session(processes.Finished(status, text, err, 1.0), parse_events(text), peers)


def talked(*peers: tuple[str, int], uring: bool = False) -> Destinations:
    return Destinations("strace", Counter(peers), uring)


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Play], Workbench]:
    """A workbench whose sessions are played by a function instead of Claude Code."""

    def make(play: Play) -> Workbench:
        def claude(
            self: TemporaryHome, *arguments: str, timeout: float, server: str | None = None, watched: bool = False
        ) -> Session:
            return play(self, arguments, server)

        monkeypatch.setattr(TemporaryHome, "claude", claude)
        monkeypatch.setattr(network, "strace_works", lambda directory: False)
        return deployed(tmp_path / "home")

    return make


# --- the real model's rows ------------------------------------------------------------------------------------------


def secret_word(place: TemporaryHome) -> str:
    return (place.workspace / "hello.txt").read_text().split()[-1].strip(".")


def good(place: TemporaryHome, arguments: tuple[str, ...], server: str | None) -> Session:
    prompt = arguments[1]
    if "Glob" in prompt:
        return played(events("There is hello.txt.", ("Glob", {"pattern": "*.txt"}, "/w/hello.txt", False)))
    if "Read" in prompt:
        word = secret_word(place)
        return played(
            events(f"It is {word}.", ("Read", {"file_path": "hello.txt"}, f"1 The secret word is {word}.", False))
        )
    if "Create" in prompt:
        word = prompt.rstrip(".").split()[-1]
        (place.workspace / "out.txt").write_text(word)
        return played(events("Done.", ("Write", {"file_path": "out.txt", "content": word}, "created", False)))
    usage = {"input_tokens": 10, "cache_read_input_tokens": 90}
    model = {"claude-local": {"contextWindow": 4096}}
    return played(events("Paris", usage=usage, modelUsage=model), peers=talked(("127.0.0.1", 8080)))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("claude.chat", "small answered 'Paris' in 1 s (100 prompt tokens, 90 of them cached)"),
        ("claude.context", "agree on 4096 tokens"),
        ("claude.glob", "Glob found hello.txt"),
        ("claude.read", "Read hello.txt, answered 'It is"),
        ("claude.write", "Write: out.txt is on disk with"),
        ("claude.connections", "chat: 127.0.0.1:8080 1 times; nothing else (strace: IPv4 and IPv6)"),
    ],
)
def test_good_sessions_pass(stage: Callable[[Play], Workbench], name: str, words: str) -> None:
    with stage(good) as bench:
        bench.once("context window", lambda: 4096)
        run_row(bench, "claude.chat")
        assert words in run_row(bench, name)


def says(answer: str, *calls: tuple[str, dict[str, Any], str, bool]) -> Play:
    return lambda place, arguments, server: played(events(answer, *calls))


@pytest.mark.parametrize(
    ("name", "play", "words"),
    [
        ("claude.chat", says(""), "without an answer"),
        ("claude.chat", lambda *a: played(events("API Error: 500", is_error=True)), "API Error: 500"),
        (
            "claude.chat",
            lambda *a: played([], status=1, err="claude-local: no server"),
            "exit 1: claude-local: no server",
        ),
        ("claude.chat", lambda *a: played([], status=None), "still running after 1 s"),
        ("claude.chat", lambda *a: played([]), "no result"),
        ("claude.glob", says("There is hello.txt."), "called no tool"),
        ("claude.glob", says("Nothing.", ("Glob", {}, "/w/hello.txt", False)), "does not name hello.txt"),
        ("claude.glob", says("hello.txt", ("Glob", {}, "hello.txt is not allowed", True)), "Glob did not find"),
        ("claude.read", says("It is pelican, or walnut."), "the secret word is"),
        ("claude.write", says("Done.", ("Write", {}, "created", False)), "out.txt on disk is None"),
    ],
)
def test_a_session_without_the_evidence_fails(
    stage: Callable[[Play], Workbench], name: str, play: Play, words: str
) -> None:
    with stage(play) as bench, pytest.raises(Failed) as caught:
        run_row(bench, name)
    assert words in caught.value.what and caught.value.fix


def test_a_file_that_another_tool_wrote_is_no_evidence_for_write(stage: Callable[[Play], Workbench]) -> None:
    def by_bash(place: TemporaryHome, arguments: tuple[str, ...], server: str | None) -> Session:
        (place.workspace / "out.txt").write_text(arguments[1])
        return played(events("Done.", ("Bash", {}, "", False)))

    with stage(by_bash) as bench, pytest.raises(Failed, match="the Write tool did not make"):
        run_row(bench, "claude.write")


def test_a_second_attempt_is_allowed_and_reported_a_third_is_not(stage: Callable[[Play], Workbench]) -> None:
    tries = []

    def clumsy(place: TemporaryHome, arguments: tuple[str, ...], server: str | None) -> Session:
        tries.append(1)
        return good(place, arguments, server) if len(tries) == 2 else played(events("I cannot."))

    with stage(clumsy) as bench:
        assert "second attempt, the first: the secret word is" in run_row(bench, "claude.read")
        with pytest.raises(Failed, match=r"^twice: "):
            run_row(bench, "claude.read")
    assert len(tries) == 4


def test_a_weak_model_of_the_users_choice_is_not_mistaken_for_a_broken_machine(
    stage: Callable[[Play], Workbench], monkeypatch: pytest.MonkeyPatch
) -> None:
    with stage(says("I cannot.")) as bench:
        with pytest.raises(Failed) as caught:
            run_row(bench, "claude.write")
        assert "too weak" in caught.value.fix and "scripted" in caught.value.fix
        monkeypatch.setattr(claude_rows, "PROVEN", frozenset())
        with pytest.raises(Skipped, match="the machine works .* small is too weak: out.txt on disk is None"):
            run_row(bench, "claude.write")


@pytest.fixture(autouse=True)
def _the_labs_profile_is_known_to_use_tools(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claude_rows, "PROVEN", frozenset({"small"}))


@pytest.mark.parametrize(
    ("usage", "words"),
    [
        ({}, "no context window"),
        ({"claude-local": {"contextWindow": 1_000_000}}, "the server's n_ctx is 4096"),
        (
            {"claude-local": {"contextWindow": 4096}, "claude-haiku-4-5": {"contextWindow": 4096}},
            "instead of claude-local only",
        ),
    ],
)
def test_a_wrong_context_window_is_a_fault(
    stage: Callable[[Play], Workbench], usage: dict[str, Any], words: str
) -> None:
    with stage(lambda *a: played(events("Paris", modelUsage=usage))) as bench, pytest.raises(Failed, match=words):
        bench.once("context window", lambda: 4096)
        run_row(bench, "claude.context")


@pytest.mark.parametrize(
    ("peers", "words"),
    [
        (talked(("127.0.0.1", 8080), ("93.184.216.34", 443)), "93.184.216.34:443"),
        (talked(("127.0.0.1", 8080), ("10.0.0.1", 53)), "10.0.0.1:53"),
        (talked(("127.0.0.1", 8080), ("127.0.0.1", 9)), "127.0.0.1:9"),
        (talked(("127.0.0.1", 8080), ("::1", 8080)), r"\[::1\]:8080"),
        (talked(), "talked to nobody"),
        (talked(("127.0.0.1", 8080), uring=True), "io_uring"),
    ],
)
def test_every_other_peer_is_a_fault(stage: Callable[[Play], Workbench], peers: Destinations, words: str) -> None:
    with stage(lambda *a: played(events("Paris"), peers=peers)) as bench:
        run_row(bench, "claude.chat")
        with pytest.raises(Failed, match=words):
            run_row(bench, "claude.connections")


def test_without_sessions_the_connections_are_not_judged(stage: Callable[[Play], Workbench]) -> None:
    with stage(good) as bench, pytest.raises(Skipped, match="no session ran"):
        run_row(bench, "claude.connections")


# --- the scripted rows ----------------------------------------------------------------------------------------------

TOOLS = ("Glob", "Read", "Write")


def scripted_play(
    *, tools: tuple[str, ...] = TOOLS, leak: str = "", leaves: str = "", breaks: str = "", writes: bool = True
) -> Play:
    """A session that behaves like Claude Code towards the scripted backend; the arguments are its faults."""

    def play(place: TemporaryHome, arguments: tuple[str, ...], server: str | None) -> Session:
        assert server is not None
        messages: list[dict[str, Any]] = [{"role": "user", "content": "go"}]
        offered = [{"name": name, "input_schema": {"type": "object"}} for name in tools]
        secret = place.login.secrets[("access", "refresh", "key").index(leak)] if leak else "harmless"
        for _ in range(4):
            body = {"model": "claude-local", "max_tokens": 9, "tools": offered, "messages": messages}
            answer = requests.post(f"{server}/v1/messages", json=body, headers={"X-Api-Key": secret}, timeout=10).json()
            messages.append({"role": "assistant", "content": answer["content"]})
            results = []
            for block in answer["content"]:
                if block["type"] == "tool_use" and block["name"] in tools:
                    results.append({"type": "tool_result", "tool_use_id": block["id"], **work(place, block)})
            if not results:
                break
            messages.append({"role": "user", "content": results})
        if leaves:
            write(place.root / leaves, "x")
        return played(events("All done."), peers=talked(("127.0.0.1", int(server.rpartition(":")[2]))))

    def work(place: TemporaryHome, block: dict[str, Any]) -> dict[str, Any]:
        name, given = block["name"], block["input"]
        if name == breaks:
            return {"content": "EROFS: read-only file system", "is_error": True}
        if name == "Glob":
            return {"content": "\n".join(str(path) for path in place.workspace.glob(given["pattern"]))}
        target = place.root / Path(given["file_path"]).relative_to(place.home)
        if name == "Read":
            return {"content": [{"type": "text", "text": target.read_text()}]}
        if writes:
            target.write_text(given["content"])
        return {"content": "created"}

    return play


@pytest.mark.parametrize("name", ["scripted.glob", "scripted.read", "scripted.write", "credentials.planted"])
def test_the_scripted_rows_pass(stage: Callable[[Play], Workbench], name: str) -> None:
    with stage(scripted_play()) as bench:
        assert run_row(bench, name)


@pytest.mark.parametrize(
    ("name", "play", "words"),
    [
        ("scripted.glob", scripted_play(breaks="Glob"), "Glob failed: EROFS"),
        ("scripted.read", scripted_play(breaks="Read"), "Read failed"),
        ("scripted.write", scripted_play(breaks="Write"), "Write failed"),
        ("scripted.write", scripted_play(writes=False), "written.txt on disk is None"),
        ("scripted.glob", says("I ended early."), "never ran"),
        ("scripted.glob", lambda *a: played([], status=1, err="claude-local: no claude"), "no claude"),
        ("credentials.planted", scripted_play(leak="access"), "holds a planted cloud secret"),
        ("credentials.planted", scripted_play(leak="refresh"), "holds a planted cloud secret"),
        ("credentials.planted", scripted_play(leak="key"), "holds a planted cloud secret"),
        ("credentials.planted", scripted_play(leaves=".claude/projects/x.jsonl"), "sessions left .claude/projects"),
        ("credentials.planted", scripted_play(leaves=".claude/.credentials.json"), "a session changed ~/.claude"),
        ("credentials.planted", scripted_play(leaves=".claude.json"), "a session changed ~/.claude"),
        ("credentials.planted", scripted_play(leaves=".claude/ssh/known_hosts"), "sessions left"),
    ],
)
def test_each_scripted_row_is_red_for_its_own_fault(
    stage: Callable[[Play], Workbench], name: str, play: Play, words: str
) -> None:
    with stage(play) as bench, pytest.raises(Failed) as caught:
        run_row(bench, name)
    assert words in caught.value.what


def test_a_tool_that_the_profile_does_not_offer_is_skipped(stage: Callable[[Play], Workbench]) -> None:
    with stage(scripted_play(tools=("Read", "Edit"))) as bench, pytest.raises(Skipped, match="no Glob"):
        run_row(bench, "scripted.glob")


def test_the_sandboxs_empty_stubs_are_accepted_only_without_the_outer_fence(stage: Callable[[Play], Workbench]) -> None:
    def stub(place: TemporaryHome, arguments: tuple[str, ...], server: str | None) -> Session:
        found = scripted_play()(place, arguments, server)
        (place.root / ".claude/ssh").mkdir()
        return found

    with stage(stub) as bench:
        with pytest.raises(Failed, match=r"sessions left \.claude/ssh in ~/\.claude"):
            run_row(bench, "credentials.planted")
        write(bench.paths.fence_config, dump(FenceConfig(layers=("inner",), reason="no user namespaces")))
        assert "but the sandbox's empty .claude/ssh" in run_row(bench, "credentials.planted")


def test_the_users_own_login_is_compared_over_the_whole_run(
    stage: Callable[[Play], Workbench], monkeypatch: pytest.MonkeyPatch
) -> None:
    with stage(good) as bench:
        own = Path(bench.paths.home)
        write(own / ".claude/settings.json", "{}")
        credentials_rows.remember_own_login(bench)
        assert "2 files and directories" in run_row(bench, "credentials.own")
        monkeypatch.setattr(processes, "others_named", lambda name, marker: [])
        bench._values["other claudes"] = ([], None)
        write(own / ".claude.json", "{}")
        with pytest.raises(Failed, match=r"1 changes in ~/.claude: \+ "):
            run_row(bench, "credentials.own")
        monkeypatch.setattr(processes, "others_named", lambda name, marker: [42])
        with pytest.raises(Skipped, match="process 42"):
            run_row(bench, "credentials.own")


# --- the temporary home ---------------------------------------------------------------------------------------------


def test_the_temporary_home_has_the_settings_but_not_the_history_and_goes_away(tmp_path: Path) -> None:
    bench = deployed(tmp_path)
    write(Path(bench.paths.config_dir) / "history.jsonl", "private")
    with bench:
        place = home(bench)
        config = place.root / ".claude-local"
        assert sorted(os.listdir(config)) == [".claude.json", "bash-env.sh", "enforced.json", "settings.json"]
        assert "projects" not in json.loads((config / ".claude.json").read_text())
        assert place.root.stat().st_mode & 0o777 == 0o700
        (place.workspace / "locked").mkdir(mode=0o500)
    assert not place.root.exists()
    assert (Path(bench.paths.config_dir) / "history.jsonl").read_text() == "private"


def test_a_home_left_by_a_killed_run_is_replaced(tmp_path: Path) -> None:
    bench = deployed(tmp_path)
    write(Path(bench.paths.state) / "verify-home/old/secret", "x")
    with bench:
        assert not (home(bench).root / "old").exists()


def test_sessions_get_no_variables_of_another_claude_and_a_false_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLAUDE_CODE_USE_BEDROCK", "1")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "https://cloud.example")
    with deployed(tmp_path) as bench:
        env = home(bench).environment("http://127.0.0.1:1")
    assert "CLAUDE_CODE_USE_BEDROCK" not in env and "ANTHROPIC_BASE_URL" not in env
    assert env["ANTHROPIC_API_KEY"].startswith("sk-ant-api03-") and env["CLAUDE_LOCAL_SERVER"] == "http://127.0.0.1:1"
    assert env["HOME"] == str(tmp_path) and env["PATH"].startswith(f"{tmp_path}/bin:")


needs_bwrap = pytest.mark.skipif(
    shutil.which("bwrap") is None or not processes.run(["bwrap", "--dev-bind", "/", "/", "--", "true"], timeout=20).ok,
    reason="bubblewrap cannot be used here",
)


@needs_bwrap
@pytest.mark.slow
def test_what_a_session_writes_at_home_never_reaches_the_real_home(tmp_path: Path) -> None:
    bench = deployed(tmp_path)
    write(tmp_path / "private.txt", "mine")
    script = (
        '#!/bin/sh\npwd\ncat "$HOME/.claude/.credentials.json" >/dev/null && echo login\n'
        'ls "$HOME/private.txt" 2>/dev/null\necho new > "$HOME/left-behind"\necho x > "$HOME/.claude-local/session"\n'
        'echo t > /tmp/claude-local-verify-test\n(sleep 300 &)\necho "[$(cat "$HOME/.config/claude-local/token")]"\n'
    )
    write(bench.paths.wrapper, script, 0o755)
    with bench:
        ended = home(bench).claude(timeout=20).ended
        assert ended.stdout.splitlines() == [f"{tmp_path}/verify-workspace", "login", f"[{'t' * 43}]"]
        bench.reap()
        assert processes.marked(bench.marker) == []
    assert not (tmp_path / "left-behind").exists() and not Path("/tmp/claude-local-verify-test").exists()
    assert sorted(os.listdir(bench.paths.config_dir)) == [
        ".claude.json",
        "bash-env.sh",
        "enforced.json",
        "settings.json",
    ]
    assert not (Path(bench.paths.state) / "verify-home").exists()


def test_links_are_followed_to_the_real_program(tmp_path: Path) -> None:
    write(tmp_path / "versions/2.1.330", "#!/bin/sh\n", 0o755)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/claude").symlink_to("../versions/2.1.330")
    (tmp_path / "claude").symlink_to(tmp_path / "bin/claude")
    assert link_chain(tmp_path / "claude") == [
        tmp_path / "claude", tmp_path / "bin/claude", tmp_path / "versions/2.1.330",
    ]  # fmt: skip
    (tmp_path / "loop").symlink_to("loop")
    assert link_chain(tmp_path / "loop") == [] and link_chain(tmp_path / "absent") == []


# --- whom a program talks to ----------------------------------------------------------------------------------------

STRACE = """\
101 connect(17, {sa_family=AF_INET, sin_port=htons(8080), sin_addr=inet_addr("127.0.0.1")}, 16) = -1 EINPROGRESS
101 connect(5, {sa_family=AF_UNIX, sun_path="/run/nscd/socket"}, 110) = -1 ENOENT (No such file or directory)
102 sendto(5, ""..., 20, 0, {sa_family=AF_NETLINK, nl_pid=0, nl_groups=00000000}, 12) = 20
102 sendto(6, ""..., 28, MSG_NOSIGNAL, \
{sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr("10.0.0.53")}, 16) = 28
103 sendmsg(6, {msg_name={sa_family=AF_INET6, sin6_port=htons(443), sin6_flowinfo=htonl(0), \
inet_pton(AF_INET6, "2001:db8::1", &sin6_addr), sin6_scope_id=0}, msg_namelen=28, msg_iov=NULL}, 0) = 0
103 connect(7, {sa_family=AF_INET6, sin6_port=htons(8080), sin6_flowinfo=htonl(0), \
inet_pton(AF_INET6, "::ffff:127.0.0.1", &sin6_addr), sin6_scope_id=0}, 28) = 0
104 sendto(9, "GET / HTTP/1.1"..., 14, MSG_NOSIGNAL, NULL, 0) = 14
105 io_uring_setup(8, {flags=0}) = -1 ENOSYS (Function not implemented)
"""


def test_stracess_output_becomes_peers() -> None:
    found = from_strace(STRACE.splitlines())
    assert found.peers == {("127.0.0.1", 8080): 2, ("10.0.0.53", 53): 1, ("2001:db8::1", 443): 1}
    assert found.other_than(8080) == ["10.0.0.53:53", "[2001:db8::1]:443"]
    assert not found.uring
    assert from_strace(["1 io_uring_setup(8, {flags=0}) = 5"]).uring


CONNECTS = "import socket, time; s = socket.create_connection(('127.0.0.1', {port})); time.sleep(1.5)"


@pytest.mark.slow
@pytest.mark.parametrize("use_strace", [True, False])
def test_a_real_connection_is_recorded(tmp_path: Path, use_strace: bool) -> None:
    import socket
    import sys

    if use_strace and not network.strace_works(tmp_path):
        pytest.skip("strace cannot be used here")
    with socket.create_server(("127.0.0.1", 0)) as listening, deployed(tmp_path) as bench:
        port = listening.getsockname()[1]
        record = network.PeerRecord(tmp_path / "peers", bench.marker, use_strace=use_strace)
        argv = [*record.prefix(), sys.executable, "-c", CONNECTS.format(port=port)]
        assert processes.run(argv, timeout=20, env=bench.environment()).ok
        found = record.stop()
    assert set(found.peers) == {("127.0.0.1", port)}
    assert found.other_than(port) == [] and found.other_than(1) == [f"127.0.0.1:{port}"]


# --- fingerprints ---------------------------------------------------------------------------------------------------


def test_a_fingerprint_sees_content_links_directories_and_what_is_new(tmp_path: Path) -> None:
    write(tmp_path / "a/one", "1")
    (tmp_path / "a/link").symlink_to("one")
    before = fingerprint(tmp_path / "a", tmp_path / "absent")
    os.utime(tmp_path / "a/one")
    assert differences(before, fingerprint(tmp_path / "a", tmp_path / "absent")) == []
    write(tmp_path / "a/one", "2")
    (tmp_path / "a/link").unlink()
    (tmp_path / "a/stub").mkdir()
    assert differences(before, fingerprint(tmp_path / "a", tmp_path / "absent")) == [
        f"~ {tmp_path}/a/one", f"- {tmp_path}/a/link", f"+ {tmp_path}/a/stub",
    ]  # fmt: skip


def test_a_fingerprint_of_a_big_tree_stays_cheap(tmp_path: Path) -> None:
    write(tmp_path / "big", "x" * 100)
    assert "100 bytes of" in fingerprint(tmp_path / "big", budget=10)[str(tmp_path / "big")]


# --- the terminal ---------------------------------------------------------------------------------------------------

RULE = "─" * 80
PROMPT = ["Claude Code v2.1.330", RULE, "❯\u00a0", RULE, "  ⏸ plan mode on (shift+tab to cycle)"]
TRUST = [
    " Accessing workspace:",
    " /home/u/project",
    " Quick safety check",
    " ❯ No, exit",
    "   Yes, I trust this folder",
]


def test_the_prompt_is_not_mistaken_for_the_trust_question() -> None:
    assert terminal.at_prompt(PROMPT) and not terminal.asks_for_trust(PROMPT) and terminal.question(PROMPT) is None
    assert terminal.asks_for_trust(TRUST) and not terminal.at_prompt(TRUST) and terminal.question(TRUST) is None


@pytest.mark.parametrize(
    ("screen", "what"),
    [
        ("Choose the text style that looks best with your terminal", "theme"),
        ("Select login method:", "login"),
        ("Detected a custom API key in your environment", "API key"),
        ("Make auto mode your default permission mode?", "auto mode"),
        ("Security notes:", "security notes"),
    ],
)
def test_each_first_run_question_is_recognised(screen: str, what: str) -> None:
    assert what in str(terminal.question([screen, " ❯ 1. Yes"]))


FAKE = r"""
import sys, termios, tty
tty.setraw(0)
rule = "─" * 80
def show(*lines): sys.stdout.write("\x1b[2J\x1b[H" + "\r\n".join(lines)); sys.stdout.flush()
def key(): return sys.stdin.buffer.raw.read(1).decode(errors="replace")
style = sys.argv[1]
if style == "dies": print("claude-local: llama-server is not installed\r"); sys.exit(1)
if style == "theme": show("Choose the text style that looks best"); key()
if style == "trust":
    place = 0
    while True:
        entries = enumerate(["No, exit", "Yes, I trust"])
        show("Accessing workspace:", *[("❯ " if i == place else "  ") + t for i, t in entries])
        pressed = key()
        if pressed == "\r": break
        if pressed == "B": place = min(1, place + 1)
    if place == 0: sys.exit(0)
typed = ""
while True:
    show("Claude Code", rule, "❯\u00a0" + typed, rule, "  ⏸ plan mode on (shift+tab)")
    pressed = key()
    if pressed == "\x15": typed = ""
    elif pressed == "\r": sys.exit(0)
    elif style != "deaf": typed += pressed
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("style", "words"),
    [
        ("plain", "straight to the prompt, plan mode on"),
        ("trust", "straight to the prompt, after the folder-trust question (answered yes), plan mode on"),
        ("theme", "the first start asks for the theme"),
        ("dies", "claude-local ended; the screen shows: claude-local: llama-server is not installed"),
        ("deaf", "the prompt takes no input"),
    ],
)
def test_a_first_start_is_walked_through_in_a_real_terminal(tmp_path: Path, style: str, words: str) -> None:
    import sys

    program = write(tmp_path / "fake.py", FAKE)
    env = {**os.environ, "TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8"}
    with terminal.Terminal([sys.executable, str(program), style], env=env, cwd=str(tmp_path)) as screen:
        try:
            said = claude_rows.first_start(screen)
        except Failed as failed:
            said = failed.what
    assert words in said
