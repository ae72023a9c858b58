"""claude-local and llama-server: which server it accepts, waiting for it, starting it, and the messages."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pexpect
import pytest

from claude_local.fence.config import INNER, FenceConfig, dump
from claude_local.verify import processes
from claude_local.verify.scripted_backend import ScriptedBackend
from tests.claude.wrapper_home import PROJECT, TOKEN, Home, quiet

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    "address",
    [
        "http://192.168.1.5:8080",
        "https://127.0.0.1:8080",
        "http://127.0.0.1@example.org:80",
        "http://127.0.0.1.example.org",
        "http://127.0.0.256:8080",
        "http://0.0.0.0:8080",
        "http://localhost.example.org",
        "http://127.0.0.1:8080/path",
        "http://127.0.0.1:99999",
        "http://127.0.0.1:80\nhttp://example.org",
        "127.0.0.1:8080",
        "ftp://localhost",
    ],
)
def test_only_a_loopback_server_is_accepted(home: Home, address: str) -> None:
    done = home.run("-p", "x", server=address)
    assert done.returncode == 2
    assert "only http:// and a loopback address are allowed" in done.stderr
    assert not home.record.exists()


def test_localhost_and_a_trailing_slash_are_fine(home: Home, backend: ScriptedBackend) -> None:
    assert home.run("-p", "x", server=f"http://localhost:{backend.port}/").returncode == 0
    assert home.started["env"]["ANTHROPIC_BASE_URL"] == f"http://localhost:{backend.port}"


def test_a_wrong_token_names_the_fix(home: Home, backend: ScriptedBackend) -> None:
    home.add(home.paths.token, "another")
    done = home.run("-p", "x", server=backend.url)
    assert done.returncode == 1
    assert f"refuses the token in {home.paths.token}" in done.stderr and "./provision" in done.stderr
    assert not home.record.exists()


def test_a_missing_token_names_the_fix(home: Home, backend: ScriptedBackend) -> None:
    Path(home.paths.token).unlink()
    done = home.run("-p", "x", server=backend.url)
    assert done.returncode == 1 and "is missing or empty" in done.stderr


def test_a_loading_server_is_waited_for_with_progress_on_stderr(home: Home) -> None:
    with ScriptedBackend(loading=3, token=TOKEN) as backend:
        done = home.run("-p", "x", server=backend.url)
    assert done.returncode == 0 and done.stdout == ""
    assert "claude-local: loading small (" in done.stderr
    assert home.started["env"]["CLAUDE_CODE_MAX_CONTEXT_TOKENS"] == "32768"


@contextmanager
def answering(answer: Callable[[str], tuple[int, str]]) -> Iterator[str]:
    """A program that answers each GET with the status and the body from ``answer(path)``; its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answer(self.path.partition("?")[0])
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, ""),
        (200, "<html>Grafana</html>"),
        (302, ""),
        (401, '{"detail": "Grafana"}'),
        (403, "<html>\n<b>Grafana\033[2J</b>"),
        (404, '{"error": "Grafana"}'),
        (501, "[]"),
    ],
)
def test_another_program_on_the_port_is_called_that(home: Home, status: int, body: str) -> None:
    with answering(lambda _: (status, body)) as url:
        done = home.run("-p", "x", server=url)
    assert done.returncode == 1 and f"another program answers at {url}" in done.stderr and str(status) in done.stderr
    assert "Grafana" not in body or "Grafana" in done.stderr
    assert "\033" not in done.stderr and "provision" not in done.stderr and "token" not in done.stderr


def test_another_program_on_the_servers_own_port_can_be_looked_up(tmp_path: Path) -> None:
    with answering(lambda _: (403, "Forbidden")) as url:
        home = Home(tmp_path, int(url.rpartition(":")[2]))
        done = home.run("-p", "x")
    assert done.returncode == 1 and "Forbidden" in done.stderr and "sudo ss -ltnp" in done.stderr.splitlines()[-1]


def test_a_program_that_does_not_speak_http_is_called_that(home: Home) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=lambda: listener.accept()[0].sendall(b"SSH-2.0-OpenSSH_9.2\r\n"), daemon=True).start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        done = home.run("-p", "x", server=url)
    assert done.returncode == 1 and f"another program answers at {url}: SSH-2.0-OpenSSH_9.2" in done.stderr


@pytest.mark.parametrize(("status", "token"), [(401, True), (403, False)])
def test_a_refusal_of_llama_server_shows_its_message(home: Home, status: int, token: bool) -> None:
    with answering(lambda _: (status, json.dumps({"error": {"message": "No entry on Sundays"}}))) as url:
        done = home.run("-p", "x", server=url)
    assert done.returncode == 1 and "No entry on Sundays" in done.stderr
    assert (home.paths.token in done.stderr) is token, "only 401 speaks of the token"


def busy_twice(refusal: tuple[int, str], states: dict[str, str]) -> Callable[[str], tuple[int, str]]:
    """The answers of a llama-server that refuses /props twice, while its models are in ``states``."""
    props = [(refusal[0], json.dumps({"error": {"message": refusal[1]}}))] * 2
    props.append((200, json.dumps({"default_generation_settings": {"n_ctx": 32768}})))
    models = json.dumps({"data": [{"id": name, "status": {"value": value}} for name, value in states.items()]})
    return lambda path: (200, models) if path == "/models" else props.pop(0) if len(props) > 1 else props[0]


@contextmanager
def session_elsewhere(home: Home, workspace: Path, profile: str) -> Iterator[None]:
    """Another session of this user in ``workspace``, started with --model ``profile``."""
    record = f"record_session({home.paths.sessions!r}, {str(workspace)!r}, {profile!r})"
    program = (
        f"from claude_local.claude.running_sessions import *; import time; kept = {record}; print(); time.sleep(60)"
    )
    session = subprocess.Popen([sys.executable, "-u", "-c", program], cwd=PROJECT, stdout=subprocess.PIPE)
    try:
        assert session.stdout is not None
        session.stdout.readline()
        yield
    finally:
        session.kill()
        session.communicate()


BUSY = {
    "no place": (500, "model limit reached, try again later"),
    "place taken": (400, "model name=small is not running"),
}


@pytest.mark.parametrize("refusal", BUSY.values(), ids=BUSY.keys())
def test_a_server_busy_with_another_profile_is_waited_for(home: Home, refusal: tuple[int, str]) -> None:
    states = {"small": "unloaded", "large": "loaded"}
    with answering(busy_twice(refusal, states)) as url, session_elsewhere(home, home.home / "work", "large"):
        done = home.run("-p", "x", server=url)
    assert done.returncode == 0
    assert "waiting for large, in use by the session in ~/work (" in done.stderr


def test_a_model_that_is_being_loaded_is_called_that(home: Home) -> None:
    states = {"small": "loading", "large": "unloaded"}
    with answering(busy_twice(BUSY["place taken"], states)) as url:
        done = home.run("-p", "x", server=url)
    assert done.returncode == 0 and "claude-local: loading small (" in done.stderr


@pytest.mark.parametrize(
    ("earlier", "words"), [([20.0], "loading small 43%, 11 s left ("), ([], "loading small 43% (")]
)
def test_a_load_shows_how_far_it_is_and_how_long_it_takes_from_earlier_ones(
    home: Home, earlier: list[float], words: str
) -> None:
    wish = {"active": "large", "default": "small", "stopped": False, "loads": {"small": earlier}}
    home.add(home.paths.manager_wish, json.dumps(wish))
    loading = {"value": "loading", "progress": {"value": 0.43}}
    props = [(503, json.dumps({"error": {"message": "Loading model"}}))] * 4
    props.append((200, json.dumps({"default_generation_settings": {"n_ctx": 32768}})))
    models = json.dumps({"data": [{"id": "small", "status": loading}]})
    with answering(lambda path: (200, models) if path == "/models" else props.pop(0)) as url:
        done = home.run("--model", "small", "-p", "x", server=url)
    (line,) = [line for line in done.stderr.splitlines() if "loading" in line]
    assert done.returncode == 0 and line.startswith(f"claude-local: {words}")


def test_the_line_that_waits_fits_a_narrow_terminal_and_is_erased(home: Home) -> None:
    states = {"small": "unloaded", "large": "loaded"}
    with (
        answering(busy_twice(BUSY["no place"], states)) as url,
        session_elsewhere(home, home.home / "a-directory-with-a-long-name", "large"),
    ):
        terminal = pexpect.spawn(
            home.paths.wrapper, ["-p", "x"], env=home.environment(url), dimensions=(24, 50), timeout=60
        )
        terminal.expect(pexpect.EOF)
        first, *waits, last = terminal.before.decode().split("\r\x1b[K")
        terminal.close()
    assert terminal.exitstatus == 0 and first == "" and not last.startswith("claude-local: waiting")
    assert waits and all(line.startswith("claude-local: waiting for large, in use by") for line in waits)
    assert all(len(line) < 50 and line.endswith(" s)") for line in waits)


def test_another_session_with_another_model_is_named_at_the_start(home: Home, closed_port: int) -> None:
    with ScriptedBackend(port=closed_port, token=TOKEN), session_elsewhere(home, home.home / "work", "large"):
        other, same = home.run("-p", "x"), home.run("--model", "large", "-p", "x")
    problem, fix, *_ = other.stderr.splitlines()
    assert "~/work uses large" in problem and fix == "  Fix: claude-local --model large"
    assert "~/work" not in same.stderr


def test_two_models_that_fit_in_memory_together_are_no_reason_to_speak(home: Home, closed_port: int) -> None:
    profiles = {"small": {"tools": "lean"}, "large": {"tools": "lean"}}
    home.add(home.paths.profiles, json.dumps({"default": "small", "models_at_once": 2, "profiles": profiles}))
    with ScriptedBackend(port=closed_port, token=TOKEN), session_elsewhere(home, home.home / "work", "large"):
        assert "~/work" not in home.run("-p", "x").stderr


def test_a_server_that_never_gets_ready_names_the_log_command(tmp_path: Path, closed_port: int) -> None:
    impatient = Home(tmp_path, closed_port, start_timeout=1)
    with ScriptedBackend(loading=10_000, token=TOKEN) as backend:
        done = impatient.run("-p", "x", server=backend.url)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "  Fix: sudo docker logs --tail 40 the-server"


@pytest.mark.parametrize("n_ctx", [0, -1, None, True, "4096", [1]])
def test_a_server_without_a_context_window_names_the_fix(home: Home, n_ctx: object) -> None:
    with ScriptedBackend(n_ctx=n_ctx, token=TOKEN) as backend:  # type: ignore[arg-type]
        done = home.run("-p", "x", server=backend.url)
    assert done.returncode == 1 and "how large its context window is" in done.stderr and "./provision" in done.stderr
    assert not home.record.exists() and "Traceback" not in done.stderr


def living_in_the_group(group: int) -> list[int]:
    """The processes that still run in the process group."""
    running = []
    for pid in processes.pids():
        with suppress(OSError):
            words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            if int(words[2]) == group and words[0] != "Z":
                running.append(pid)
    return running


def wait_until_asked(backend: ScriptedBackend, times: int) -> None:
    """Wait for requests. They come every 0.3 s, so after a few the launcher has started."""
    until = time.monotonic() + 60
    while len(backend.requests) < times:
        assert time.monotonic() < until, "nobody asks whether the server is ready"
        time.sleep(0.02)


@contextmanager
def waiting(
    home: Home, backend: ScriptedBackend, stderr: int = subprocess.DEVNULL
) -> Iterator[subprocess.Popen[bytes]]:
    """claude-local in a process group of its own, while the server loads the model."""
    with subprocess.Popen(
        [home.paths.wrapper, "-p", "x"], env=home.environment(backend.url), stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=stderr, start_new_session=True,
    ) as process:  # fmt: skip
        try:
            wait_until_asked(backend, 4)
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def read_all(terminal: int) -> bytes:
    """The output of a terminal that was not read yet."""
    output = b""
    with suppress(BlockingIOError, OSError):
        while piece := os.read(terminal, 4096):
            output += piece
    return output


@pytest.mark.parametrize(
    ("number", "to_all"),
    [(signal.SIGINT, True), (signal.SIGQUIT, True), (signal.SIGTERM, False), (signal.SIGKILL, False)],
)
def test_a_signal_while_waiting_ends_silently_and_leaves_no_process(home: Home, number: int, to_all: bool) -> None:
    """Keys reach the whole group, ``kill`` reaches one process. Afterwards the terminal is the shell's again."""
    terminal, theirs = os.openpty()
    os.set_blocking(terminal, False)
    with ScriptedBackend(loading=10_000, token=TOKEN) as backend, waiting(home, backend, theirs) as process:
        shown, until = b"", time.monotonic() + 60
        while b"loading small" not in shown:
            assert time.monotonic() < until, shown
            shown += read_all(terminal)
        os.killpg(process.pid, signal.SIGSTOP)
        read_all(terminal)
        (os.killpg if to_all else os.kill)(process.pid, number)
        if number != signal.SIGKILL:
            os.kill(process.pid, signal.SIGCONT)
        assert process.wait(timeout=60) == -number
        until = time.monotonic() + 60
        while left := living_in_the_group(process.pid):
            assert time.monotonic() < until, f"these still run: {left}"
            time.sleep(0.05)
        assert read_all(terminal) == b""
    os.close(terminal)
    os.close(theirs)
    assert not home.record.exists()


def test_ctrl_c_during_the_load_of_another_profile_brings_the_active_one_back(home: Home, closed_port: int) -> None:
    with (
        ScriptedBackend(loading=10_000, port=closed_port, token=TOKEN) as backend,
        ScriptedBackend(token=TOKEN) as manager,
    ):
        home.add(home.paths.fence_config, dump(FenceConfig(layers=(INNER,), manager_port=manager.port)))
        for arguments, asked in ((["--model", "large"], ["/start"]), ([], [])):
            manager.requests.clear()
            before = len(backend.requests)
            argv = [home.paths.wrapper, *arguments, "-p", "x"]
            process = subprocess.Popen(argv, env=home.environment(None), stdin=subprocess.DEVNULL)
            wait_until_asked(backend, before + 4)
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=60) == -signal.SIGINT
            assert [request["path"] for request in manager.requests] == asked


def test_a_caller_that_ignores_sigchld_does_not_matter(home: Home, backend: ScriptedBackend) -> None:
    done = subprocess.run(
        ["env", "--ignore-signal=CHLD", home.paths.wrapper, "-p", "x"], env=home.environment(backend.url),
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0 and quiet(done)


def test_without_its_launcher_nothing_is_started(home: Home) -> None:
    home.docker("echo exited")
    wrapper = Path(home.paths.wrapper)
    home.add(wrapper, wrapper.read_text().replace("/claude/start.py", "/claude/no.py"), 0o755)
    done = home.run("-p", "x")
    assert done.returncode == 1 and "no.py is missing" in done.stderr and len(done.stderr.splitlines()) == 2
    assert home.docker_log == []


def test_a_stopped_wait_continues_later(home: Home) -> None:
    with ScriptedBackend(loading=8, token=TOKEN) as backend, waiting(home, backend) as process:
        os.killpg(process.pid, signal.SIGSTOP)
        asked = len(backend.requests)
        time.sleep(1)
        assert len(backend.requests) <= asked + 1, "what asks is stopped too"
        os.killpg(process.pid, signal.SIGCONT)
        assert process.wait(timeout=60) == 0
    assert home.started["argv"][1:] == ["--tools=Read,Write", "-p", "x"]


def test_docker_is_not_used_for_another_server_that_is_down(home: Home, closed_port: int) -> None:
    home.docker("exit 1")
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        other = reserved.getsockname()[1]
    done = home.run("-p", "x", server=f"http://127.0.0.1:{other}")
    assert done.returncode == 1 and "nothing answers" in done.stderr
    assert home.docker_log == []


def test_the_installed_server_is_started_when_it_is_down(home: Home, closed_port: int) -> None:
    """The docker of this test starts a scripted backend on the server's own port."""
    program = f"{sys.executable} -m claude_local.verify.scripted_backend --port {closed_port}"
    root = Path(__file__).parents[2]
    pid = home.home / "pid"
    home.docker(
        f"""case $1 in
inspect) test -e '{pid}' && echo running || echo exited ;;
start) cd '{root}' && {program} --token-file '{home.paths.token}' >/dev/null 2>&1 & echo $! > '{pid}'; echo "$2" ;;
esac"""
    )
    try:
        done = home.run("-p", "x")
        assert done.returncode == 0, done.stderr
        assert "start the-server" in home.docker_log
        assert "llama-server" in done.stderr and done.stdout == ""
        assert home.started["env"]["ANTHROPIC_BASE_URL"] == f"http://127.0.0.1:{closed_port}"
    finally:
        os.kill(int(pid.read_text()), signal.SIGTERM)


def test_a_warning_of_docker_is_not_the_containers_state(home: Home) -> None:
    home.docker("echo 'WARNING: Error loading config file' >&2; case $1 in inspect) echo running ;; *) exit 1 ;; esac")
    process = subprocess.Popen(
        [home.paths.wrapper, "-p", "x"], env=home.environment(None), stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        assert process.stderr is not None
        line = next(line for line in process.stderr if "layer" not in line)
        process.terminate()
    assert "waiting for llama-server" in line and not any(call.startswith("start") for call in home.docker_log)


def test_a_user_without_docker_rights_uses_sudo(home: Home) -> None:
    told = f"env >>'{home.home}/environment'"
    home.docker(f'{told}; test -n "$SUDO" && {{ echo exited; exit 0; }}; echo "permission denied while" >&2; exit 1')
    done = home.run("-p", "x", FAKE_CLAUDE_EXIT="0")
    assert "start the-server" in home.docker_log and TOKEN not in (home.home / "environment").read_text()
    assert done.returncode == 1 and "sudo -n docker logs --tail 40 the-server" in done.stderr


@pytest.mark.parametrize(
    ("output", "problem", "fix"),
    [
        ("Error: No such object: the-server", "not installed", "./provision"),
        ("Cannot connect to the Docker daemon at unix:///x", "Docker is not running", "sudo service docker start"),
        ("permission denied while trying to connect", "permission denied", "sudo docker start the-server"),
    ],
)
def test_a_server_that_cannot_be_started_names_the_command(home: Home, output: str, problem: str, fix: str) -> None:
    home.docker(f'echo "{output}" >&2; exit 1')
    done = home.run("-p", "x")
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 2
    assert problem in done.stderr and done.stderr.splitlines()[-1].startswith(f"  Fix: {fix}")
    assert not home.record.exists()


@pytest.mark.parametrize("words", [["--version"], ["doctor"], ["mcp", "list"], ["mcp", "--help"]])
def test_commands_that_need_no_model_run_while_the_server_is_down(home: Home, words: list[str]) -> None:
    done = home.run(*words)
    assert done.returncode == 0 and quiet(done)
    assert home.started["argv"][1:] == words
