"""The launcher with a claude that tells what it sees, behind the real outer fence."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from claude_local.fence import launch
from claude_local.fence.config import INNER, OUTER, FenceConfig, dump
from claude_local.fence.launch import added_directories, arguments, printable, reached_from_inside, wants_worktree
from claude_local.fence.policy import STUB_DIRECTORIES, STUB_FILES
from claude_local.fence.survey import Places

pytestmark = pytest.mark.slow

LAUNCHER = Path(__file__).parents[2] / "claude_local" / "fence" / "launch.py"
BWRAP = "/usr/bin/bwrap"
# It writes down what it sees, and does what its last argument says, as Python.
FAKE_CLAUDE = f"""#!{sys.executable} -IS
import json, os, signal, subprocess, sys, time
def listed(path):
    try:
        return sorted(os.listdir(path))
    except OSError as error:
        return error.strerror
def written(path):
    try:
        open(path, "a").close()
        return "written"
    except OSError as error:
        return error.strerror
seen = {{"argv": sys.argv[1:], "env": dict(os.environ), "cwd": os.getcwd(), "uid": os.getuid(), "pid": os.getpid()}}
heard = []
def put_down():
    # Two sessions may do this at once, and have the same process id each.
    new = "record.new" + str(time.time_ns())
    with open(new, "w") as record:
        json.dump(seen | {{"heard": heard}}, record)
    os.rename(new, "record.json")
if sys.argv[-1].startswith("#"):
    exec(sys.argv[-1])
put_down()
"""


# --- words -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], []),
        (["--add-dir", "a"], ["a"]),
        (["--add-dir", "a", "b c", "-p", "x"], ["a", "b c"]),
        (["--add-dir=a", "x"], ["a"]),
        (["--add-dir", "a", "--model", "m", "--add-dir", "b"], ["a", "b"]),
        (["-p", "x", "--", "--add-dir", "a"], []),
        (["--add-dir", "a", "--", "b"], ["a"]),
        (["--add-dir"], []),
        (["--add-directory", "a"], []),
    ],
)
def test_added_directories_are_read_as_claude_reads_them(words: list[str], expected: list[str]) -> None:
    assert list(added_directories(words)) == expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [(["-w"], True), (["--worktree", "x"], True), (["--worktree=x"], True), (["-p", "x"], False), (["--work"], False)],
)
def test_a_wish_for_a_worktree_is_heard(words: list[str], expected: bool) -> None:
    assert wants_worktree(words) is expected


def test_everything_after_the_first_two_dashes_is_the_command() -> None:
    options = arguments(
        ["--config", "c", "--home", "h", "--own", "a", "--own", "b", "--", "/claude", "--config", "x", "--", "y"]
    )
    assert options.command == ["/claude", "--config", "x", "--", "y"]
    assert (options.config, options.own, options.unfenced) == ("c", ["a", "b"], False)


def test_an_option_of_another_version_is_refused_with_a_way_out(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        arguments(["--config", "c", "--no-such-option", "x", "--", "/claude"])
    assert end.value.code == 1
    said = capsys.readouterr().err
    assert "--no-such-option" in said and "Fix: ./provision" in said


@pytest.fixture
def ide_home(tmp_path: Path) -> Places:
    for name, port in ((".claude", 4001), (".claude-local", 4002)):
        (tmp_path / name / "ide").mkdir(parents=True)
        (tmp_path / name / "ide" / f"{port}.lock").write_text(json.dumps({"pid": os.getpid()}))
    return Places(str(tmp_path), str(tmp_path / ".claude-local"), [], [])


def test_the_server_the_users_ports_and_the_ides_are_reached_from_inside(ide_home: Places) -> None:
    found = reached_from_inside(FenceConfig(ports=(8081, 9000)), ide_home, "http://127.0.0.1:8080", {})
    assert found == [("127.0.0.1", port) for port in (8081, 9000, 8080, 4001, 4002)]


@pytest.mark.parametrize(
    ("server", "address"),
    [("http://localhost:1234", ("127.0.0.1", 1234)), ("http://[::1]:1234", ("::1", 1234)),
     ("http://127.0.0.7:1234/", ("127.0.0.7", 1234)), ("http://127.0.0.1", ("127.0.0.1", 80))],
)  # fmt: skip
def test_the_server_is_reached_at_its_own_address(tmp_path: Path, server: str, address: tuple[str, int]) -> None:
    places = Places(str(tmp_path), str(tmp_path), [], [])
    assert reached_from_inside(FenceConfig(), places, server, {}) == [address]
    assert reached_from_inside(FenceConfig(ports=(1234,)), places, "http://127.0.0.1:1234", {}) == [("127.0.0.1", 1234)]


def test_lock_files_behind_a_link_in_the_sessions_own_directory_open_no_port(ide_home: Places) -> None:
    """A session could have made the link, and the file."""
    own = Path(ide_home.config_dir) / "ide"
    own.rename(own.with_name("planted"))
    own.symlink_to("planted")
    assert reached_from_inside(FenceConfig(), ide_home, "", {}) == [("127.0.0.1", 4001)]


def test_what_strangers_write_is_shown_without_what_a_terminal_obeys() -> None:
    assert printable("a é\x1b[2J\n\u202e") == "a é\\x1b[2J\\n\\u202e"


# --- behind the fence --------------------------------------------------------------------------------------------------


class Station:
    """A home with claude-local's directories, a fake claude, and a workspace."""

    def __init__(self, tmp_path: Path) -> None:
        self.home = Path(os.path.realpath(tmp_path)) / "home é"
        self.workspace = self.home / "projects" / "one two"
        self.workspace.mkdir(parents=True)
        self.config_dir = self.home / ".claude-local"
        self.share = self.home / ".local" / "share" / "claude-local"
        for each in (self.config_dir, self.share):
            each.mkdir(parents=True)
        self.claude = self.home / "bin" / "claude"
        self.add(self.claude, FAKE_CLAUDE).chmod(0o755)
        self.config = self.share / "fence.json"
        self.configure()

    def add(self, path: Path, text: str = "x") -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def configure(self, **settings: Any) -> None:
        chosen: dict[str, Any] = {"layers": (OUTER,), "bwrap": BWRAP, "reason": "a test", **settings}
        self.add(self.config, dump(FenceConfig(**chosen)))

    def words(self, *arguments: str, server: str = "http://127.0.0.1:9999") -> list[str]:
        return [
            sys.executable, "-I", str(LAUNCHER), "--config", str(self.config), "--home", str(self.home),
            "--config-dir", str(self.config_dir), "--own", str(self.share), "--state", str(self.share / "sessions"),
            "--server", server, "--settings", '{"sandbox": {"enabled": true}}', "--", str(self.claude), *arguments,
        ]  # fmt: skip

    def environment(self, **env: str) -> dict[str, str]:
        return {"HOME": str(self.home), "PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"} | env

    def run(
        self, *arguments: str, cwd: Path | None = None, server: str = "http://127.0.0.1:9999", env: Any = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.words(*arguments, server=server), cwd=cwd or self.workspace, env=self.environment(**env or {}), text=True,
            stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False,
        )  # fmt: skip

    def saw(self, program: str = "", *arguments: str, **env: str) -> dict[str, Any]:
        """What claude saw, after it has run ``program``, which may add to ``seen``."""
        done = self.run(*arguments, "#\n" + program, env=env)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        return self.record()

    def record(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.workspace / "record.json").read_text())
        return found

    @contextmanager
    def running(self, program: str) -> Iterator[subprocess.Popen[str]]:
        """A session that has written down what it saw; its launcher leads a process group."""
        words = self.words("#\n" + program + "\nput_down()\nwhile True: time.sleep(0.05); put_down()")
        with subprocess.Popen(
            words, cwd=self.workspace, env=self.environment(), text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        ) as process:  # fmt: skip
            try:
                self.wait_for(lambda: (self.workspace / "record.json").exists() or process.poll() is not None)
                assert process.poll() is None, process.communicate()[1]
                yield process
            finally:
                process.kill()

    def kill(self, launcher: subprocess.Popen[str]) -> None:
        """Kill the launcher, and wait until nothing of its session is left."""
        waiting, below = [launcher.pid], []
        for number in waiting:
            with suppress(OSError):
                found = Path(f"/proc/{number}/task/{number}/children").read_text().split()
                waiting += map(int, found)
                below += found
        assert below
        launcher.kill()
        launcher.wait(timeout=20)

        def lives(number: str) -> bool:
            with suppress(OSError):
                return ") Z " not in Path(f"/proc/{number}/stat").read_text()
            return False

        self.wait_for(lambda: not any(map(lives, below)))

    @staticmethod
    def wait_for(happened: Any, seconds: float = 60) -> None:
        until = time.monotonic() + seconds
        while not happened():
            assert time.monotonic() < until, "it did not happen in time"
            time.sleep(0.02)


@pytest.fixture
def station(tmp_path: Path) -> Station:
    return Station(tmp_path)


def test_arguments_directory_and_environment_reach_claude_as_they_are(station: Station) -> None:
    hard = ["-p", 'say "hi" $HOME `id` \\', "", "two\nlines", "*", "é ☃", "--", "--home", "x"]
    found = station.saw("", *hard, COLOUR="blue é", EMPTY="")
    assert found["argv"][1:-1] == hard
    assert found["argv"][0].startswith("--settings={")
    assert found["cwd"] == str(station.workspace)
    env = found["env"]
    assert (env["COLOUR"], env["EMPTY"], env["HOME"]) == ("blue é", "", str(station.home))
    assert env["CLAUDE_LOCAL_FENCE"] == "outer" and env["XDG_RUNTIME_DIR"].startswith("/run/user/")


def test_the_layers_are_named_to_the_session(station: Station) -> None:
    station.configure(layers=(OUTER, INNER), reason="")
    found = station.saw()
    assert found["env"]["CLAUDE_LOCAL_FENCE"] == "outer+inner"
    assert json.loads(found["argv"][0].removeprefix("--settings="))["sandbox"]["enabled"] is True


def test_the_sandboxs_programs_come_first_on_the_path_with_the_inner_layer(station: Station) -> None:
    sandbox_bin = station.add(station.share / "sandbox-bin" / "x").parent
    words = station.words
    station.words = lambda *a, **k: [*words(*a, **k)[:3], "--sandbox-bin", str(sandbox_bin), *words(*a, **k)[3:]]  # type: ignore[method-assign]
    assert station.saw()["env"]["PATH"] == os.environ["PATH"]
    station.configure(layers=(OUTER, INNER), reason="")
    env = station.saw()["env"]
    assert env["PATH"] == f"{sandbox_bin}:{os.environ['PATH']}" and env["CLAUDE_LOCAL_SANDBOX_BIN"] == str(sandbox_bin)


def test_the_inner_fence_is_made_of_the_systems_programs(station: Station) -> None:
    """Claude Code takes the first bwrap and socat on PATH, and .venv/bin is often the first directory there."""
    sandbox_bin, planted = station.share / "sandbox-bin", station.workspace / ".venv" / "bin"
    copy = station.add(station.home / "copy" / "bwrap", '#!/bin/sh\nexec /usr/bin/bwrap "$@"\n')
    copy.chmod(0o755)
    for name in ("bwrap", "socat"):
        station.add(planted / name, "#!/bin/sh\n").chmod(0o755)
    words = station.words
    station.words = lambda *a, **k: [*words(*a, **k)[:3], "--sandbox-bin", str(sandbox_bin), *words(*a, **k)[3:]]  # type: ignore[method-assign]
    which = "import shutil; seen['found'] = [shutil.which(name) for name in ('bwrap', 'socat')]"
    for bwrap in (BWRAP, str(copy)):
        station.configure(layers=(OUTER, INNER), reason="", bwrap=bwrap)
        assert station.saw(which, PATH=f"{planted}:{os.environ['PATH']}")["found"] == [
            str(sandbox_bin / "bwrap"), str(sandbox_bin / "socat"),
        ]  # fmt: skip
        assert os.readlink(sandbox_bin / "bwrap") == bwrap
        assert os.path.realpath(sandbox_bin / "socat") == os.path.realpath("/usr/bin/socat")
    assert sorted(os.listdir(sandbox_bin)) == ["bwrap", "socat"]
    # Where no links can be made, the programs' own directories come first.
    shutil.rmtree(sandbox_bin)
    sandbox_bin.write_text("in the way")
    assert station.saw(which, PATH=f"{planted}:{os.environ['PATH']}")["found"][0] == str(copy)
    assert os.path.realpath(station.saw(which, PATH=f"{planted}:{os.environ['PATH']}")["found"][1]).startswith("/usr/")


def test_a_program_that_the_system_lacks_is_taken_from_path_where_no_session_writes(
    station: Station, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(launch, "SYSTEM_PATH", ())
    places = [station.workspace / "bin", station.home / "bin", tmp_path / "opt"]
    for place in places:
        station.add(place / "a-tool", "#!/bin/sh\n").chmod(0o755)
    monkeypatch.setenv("HOME", str(station.home))
    monkeypatch.setenv("PATH", ":".join(["", "bin", *map(str, places)]))
    monkeypatch.chdir(station.workspace)
    assert launch.system_program("a-tool") == str(tmp_path / "opt" / "a-tool")
    assert launch.system_program("another-tool") is None


def test_secrets_in_the_environment_and_in_the_home_directory_are_not_there(station: Station) -> None:
    station.add(station.home / ".ssh" / "id_rsa")
    station.add(station.home / ".bash_history", "secret")
    station.add(station.home / ".claude" / "settings.json")
    found = station.saw(
        'seen["listed"] = listed(os.path.expanduser("~/.ssh")), listed(os.path.expanduser("~/.claude"))\n'
        'seen["history"] = written(os.path.expanduser("~/.bash_history"))\n'
        'seen["read"] = open(os.path.expanduser("~/.bash_history")).read()',
        GITHUB_TOKEN="x", SSH_AUTH_SOCK="/x", DISPLAY=":0", HARMLESS="1",
    )  # fmt: skip
    assert found["listed"] == [[], []]
    assert (found["history"], found["read"]) == ("Read-only file system", ""), "an empty file in the place of the file"
    assert not {"GITHUB_TOKEN", "SSH_AUTH_SOCK", "DISPLAY"} & set(found["env"])
    assert found["env"]["HARMLESS"] == "1"


def test_secrets_that_a_variable_puts_elsewhere_are_not_there_either(station: Station) -> None:
    history = station.add(station.home / "state" / "history", "secret")
    keys = station.add(station.home / "keys" / "private", "secret").parent
    gh = station.add(station.home / "xdg" / "gh" / "hosts.yml", "secret")
    own = station.add(station.workspace / "service.json", "of the project")
    found = station.saw(
        f"for name in {[str(history), str(gh), str(own)]!r}: seen[name] = written(name)\n"
        f'seen["keys"] = listed({str(keys)!r}), listed("/usr/bin") != [], written("/dev/null")',
        HISTFILE=str(history), GNUPGHOME=str(keys), XDG_CONFIG_HOME=str(gh.parents[1]), LESSHISTFILE="/dev/null",
        GOOGLE_APPLICATION_CREDENTIALS=str(own), DOCKER_CONFIG="/usr", GH_CONFIG_DIR=str(station.home),
    )  # fmt: skip
    assert found[str(history)] == "Read-only file system" and found[str(gh)] != "written"
    assert found[str(own)] == "written"
    assert found["keys"] == [[], True, "written"]


def test_a_login_that_is_made_while_a_session_runs_is_hidden_from_it(station: Station) -> None:
    netrc, aws = station.home / ".netrc", station.home / ".aws"
    program = (
        "import threading\n"
        "def look():\n"
        "    while True:\n"
        f"        seen['netrc'], seen['aws'] = os.path.exists({str(netrc)!r}), listed({str(aws)!r})\n"
        "        with suppress(OSError):\n"
        f"            seen['text'] = os.stat({str(netrc)!r}).st_size\n"
        "        time.sleep(0.02)\n"
        "from contextlib import suppress\n"
        "threading.Thread(target=look, daemon=True).start()\n"
        "while 'aws' not in seen: time.sleep(0.01)\n"
    )
    with station.running(program):
        assert (station.record()["netrc"], station.record()["aws"]) == (False, "No such file or directory")
        station.add(netrc, "machine example.org password secret")
        station.add(aws / "credentials", "secret")
        station.wait_for(lambda: station.record()["aws"] == [] and station.record().get("text") == 0)
    assert netrc.read_text().endswith("secret")


def test_a_login_that_a_link_leads_to_is_hidden_too(station: Station) -> None:
    """Dotfiles that lie elsewhere."""
    netrc, real = station.home / ".netrc", station.home / "dotfiles" / "netrc"
    real.parent.mkdir()
    program = (
        "import threading\n"
        "def look():\n"
        "    while True:\n"
        f"        seen['size'] = os.path.exists({str(netrc)!r}) and os.stat({str(netrc)!r}).st_size\n"
        "        time.sleep(0.02)\n"
        "threading.Thread(target=look, daemon=True).start()\n"
    )
    with station.running(program):
        station.add(real, "secret")
        netrc.symlink_to(real)
        station.wait_for(lambda: repr(station.record().get("size")) == "0")


def test_only_the_workspace_and_claudes_directory_are_written(station: Station) -> None:
    names = [station.home / "x", station.share / "x", Path("/etc/x"), station.workspace / "x", station.config_dir / "x"]
    station.add(station.workspace / ".envrc", "mine")
    names += [station.workspace / ".envrc", station.workspace / ".claude" / "x", station.workspace / ".mcp.json"]
    found = station.saw(f'seen["written"] = [written(path) for path in {[str(each) for each in names]!r}]')
    assert [each == "written" for each in found["written"]] == [False, False, False, True, True, False, False, False]
    assert not (station.workspace / ".mcp.json").exists()
    assert (station.workspace / ".envrc").read_text() == "mine"


def test_nobody_elses_processes_and_no_other_network_are_there(station: Station) -> None:
    with socket.create_server(("127.0.0.1", 0)) as outside:
        found = station.saw(
            'seen["processes"] = [name for name in listed("/proc") if name.isdigit()]\n'
            "import socket\n"
            "try:\n"
            f"    socket.create_connection(('127.0.0.1', {outside.getsockname()[1]}), timeout=5)\n"
            "except OSError as error:\n"
            '    seen["connected"] = error.strerror\n'
        )
    assert len(found["processes"]) <= 3
    assert found["connected"] == "Connection refused"


def test_the_servers_port_leads_outside(station: Station) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        program = (
            "import socket\n"
            f"with socket.create_connection(('127.0.0.1', {server.getsockname()[1]}), timeout=10) as connection:\n"
            '    connection.sendall(b"ask")\n'
            '    seen["answer"] = connection.recv(100).decode()\n'
        )
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        with subprocess.Popen(
            station.words("#\n" + program, server=address), cwd=station.workspace, env=station.environment()
        ) as process:
            server.settimeout(20)
            connection, _ = server.accept()
            with connection:
                assert connection.recv(100) == b"ask"
                connection.sendall(b"told")
            assert process.wait(timeout=20) == 0
    assert station.record()["answer"] == "told"


def test_commands_reach_the_users_ports_through_a_proxy_and_no_other(station: Station) -> None:
    """The inner fence gets it by Claude Code's settings; it is there from the start."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_server(("127.0.0.1", 0)) as other:
        ports = [each.getsockname()[1] for each in (server, other)]
        station.configure(layers=(OUTER, INNER), reason="", ports=(ports[0],))
        program = (
            "import socket\n"
            'network = json.loads(sys.argv[1].removeprefix("--settings="))["sandbox"]["network"]\n'
            'seen["network"] = network\n'
            "def ask(port):\n"
            '    with socket.create_connection(("127.0.0.1", network["httpProxyPort"]), timeout=10) as connection:\n'
            '        connection.sendall(b"CONNECT localhost:%d HTTP/1.1\\r\\n\\r\\nask" % port)\n'
            '        return b"".join(iter(lambda: connection.recv(100), b"")).decode()\n'
            f'seen["answers"] = [ask(port) for port in {ports}]\n'
        )
        with subprocess.Popen(
            station.words("#\n" + program), cwd=station.workspace, env=station.environment()
        ) as process:
            server.settimeout(20)
            connection, _ = server.accept()
            with connection:
                assert connection.recv(100) == b"ask"
                connection.sendall(b"told")
            assert process.wait(timeout=20) == 0
        other.settimeout(0)
        with pytest.raises(BlockingIOError):
            other.accept()
    found = station.record()
    assert found["answers"][0].endswith("told") and found["answers"][1].startswith("HTTP/1.1 403 ")
    assert found["network"]["httpProxyPort"] == found["network"]["socksProxyPort"] not in ports


@pytest.mark.parametrize("config", [{"layers": (OUTER,)}, {"layers": (OUTER, INNER), "domains": ("example.org",)}])
def test_claude_code_filters_domains_itself(station: Station, config: dict[str, Any]) -> None:
    station.configure(**config, reason="", ports=(8080,))
    found = json.loads(station.saw()["argv"][0].removeprefix("--settings="))
    assert "httpProxyPort" not in found["sandbox"].get("network", {})


@pytest.mark.parametrize("status", [0, 1, 42, 255])
def test_the_exit_status_is_claudes(station: Station, status: int) -> None:
    assert station.run(f"#\nsys.exit({status})").returncode == status


@pytest.mark.parametrize("name", ["SIGTERM", "SIGKILL", "SIGSEGV"])
def test_an_end_by_a_signal_is_told_as_shells_tell_it(station: Station, name: str) -> None:
    done = station.run(f"#\nos.kill(os.getpid(), signal.{name})")
    assert done.returncode == 128 + getattr(signal, name)


LISTENS = "signal.signal(signal.{0}, lambda *_: heard.append('{0}'))\n"


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2"])
def test_a_signal_to_the_launcher_reaches_claude_once(station: Station, name: str) -> None:
    with station.running(LISTENS.format(name)) as process:
        process.send_signal(getattr(signal, name))
        station.wait_for(lambda: station.record()["heard"])
        time.sleep(0.3)
        assert station.record()["heard"] == [name]
        assert process.poll() is None, "claude lives, and so does its launcher"


def test_a_session_that_is_ended_takes_its_children_with_it(station: Station) -> None:
    mark = f"claude-local-test-{os.getpid()}"

    def children() -> list[str]:
        found = []
        for each in Path("/proc").iterdir():
            if each.name.isdigit():
                with suppress(OSError):
                    found += [each.name] if mark.encode() in (each / "cmdline").read_bytes().split(b"\0") else []
        return found

    program = (
        f"for _ in range(2): subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(120)', '{mark}'],"
        " start_new_session=True)\n"
    )
    with station.running(program) as process:
        station.wait_for(lambda: len(children()) == 2)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 128 + signal.SIGTERM
        assert not children()


def test_a_launcher_that_is_killed_takes_its_session_with_it(station: Station) -> None:
    with station.running("") as process:
        station.kill(process)


def test_stubs_are_there_during_a_session_and_gone_after_it(station: Station) -> None:
    with station.running("") as process:
        assert {*STUB_DIRECTORIES, *STUB_FILES} <= set(os.listdir(station.workspace))
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=20)
    assert {name for name in os.listdir(station.workspace) if not name.startswith("record")} == set()


def test_outside_the_stubs_are_the_users_to_write(station: Station) -> None:
    with station.running("") as process:
        for name in STUB_FILES:
            assert (station.workspace / name).stat().st_mode & 0o200
        station.add(station.workspace / ".envrc", "use flake\n")
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=20)
    assert (station.workspace / ".envrc").read_text() == "use flake\n"
    assert not (station.workspace / ".mcp.json").exists()


def test_a_machine_whose_var_tmp_is_a_link_has_the_fence(station: Station) -> None:
    """As hardening guides have it; no mount goes over a link."""
    hidden = station.add(station.home / "var" / "kept").parent
    (hidden / "tmp").symlink_to("/tmp")
    alone = ["unshare", "--mount", *([] if os.getuid() == 0 else ["--user", "--map-root-user"]), "sh", "-c"]
    program = "seen['tmp'] = [written('/var/tmp/x'), listed('/var/tmp'), listed('/tmp')]"
    done = subprocess.run(
        [*alone, 'mount --bind "$0" /var && exec "$@"', str(hidden), *station.words("#\n" + program)],
        cwd=station.workspace, env=station.environment(), text=True, capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    (first, *seen) = station.record()["tmp"]
    # The home of this test may itself lie in /tmp.
    assert first == "written" and seen[0] == seen[1] and "x" in seen[0]


def test_stubs_of_a_killed_session_are_gone_after_the_next(station: Station) -> None:
    with station.running("") as process:
        station.kill(process)
    assert (station.workspace / ".vscode").is_dir()
    station.saw()
    assert [name for name in os.listdir(station.workspace) if not name.startswith("record.")] == []


def test_what_a_killed_session_planted_is_put_aside_before_the_next(station: Station) -> None:
    plant = "os.makedirs('lib/.git/hooks'); open('lib/.git/hooks/pre-commit', 'w').close()\n"
    with station.running(plant) as process:
        station.kill(process)
    hook = station.workspace / "lib" / ".git" / "hooks" / "pre-commit"
    assert hook.exists()
    done = station.run()
    assert "was cut short" in done.stderr and str(hook) in done.stderr and not hook.exists()
    assert "was cut short" not in station.run().stderr


def test_what_a_session_plants_is_named_after_it(station: Station) -> None:
    done = station.run("#\nos.mkdir('.git'); os.mkdir('.git/hooks'); open('.git/hooks/pre-commit', 'w').close()")
    assert done.returncode == 0 and ".git/hooks/pre-commit" in done.stderr
    assert not (station.workspace / ".git" / "hooks" / "pre-commit").exists()


def test_a_worktree_of_claude_codes_keeps_its_repository_and_gets_no_new_programs(station: Station) -> None:
    tree = station.workspace / ".claude" / "worktrees" / "x"
    git = ["git", "-C", str(station.workspace), "-c", "user.name=a", "-c", "user.email=a@b.example"]
    for words in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "x"], ["worktree", "add", "-q", str(tree)]):
        subprocess.run([*git, *words], check=True, timeout=30, capture_output=True)
    link = (tree / ".git").read_text()
    found = station.saw(
        f"os.chdir({str(tree)!r})\n"
        "seen['file'] = written('file')\n"
        "seen['guarded'] = [written(name) for name in ('.git', '.envrc', '.vscode/tasks.json', '.mcp.json')]\n"
        "for act in (lambda: os.rename('../x', '../y'), lambda: os.unlink('.git'), lambda: os.rename('.git', 'g')):\n"
        "    try:\n        act()\n        seen['guarded'].append('done')\n"
        "    except OSError as error:\n        seen['guarded'].append(error.strerror)\n"
        "os.chdir('../../..')"
    )
    assert found["file"] == "written" and not {"written", "done"} & set(found["guarded"]), found["guarded"]
    assert (tree / ".git").read_text() == link
    assert sorted(os.listdir(tree)) == [".git", "file"]


def test_an_added_directory_is_writable(station: Station) -> None:
    other = station.home / "projects" / "other"
    other.mkdir()
    found = station.saw(f"seen['written'] = written({str(other / 'x')!r})", "--add-dir", "../other")
    assert found["written"] == "written" and (other / "x").exists()


def test_the_ide_directory_of_claudes_own_cannot_be_filled_by_a_session(station: Station) -> None:
    found = station.saw(f"seen['written'] = written({str(station.config_dir / 'ide' / '22.lock')!r})")
    assert found["written"] == "Read-only file system"


# --- what cannot be started --------------------------------------------------------------------------------------------


def refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode == 1 and done.stdout == ""
    assert "Traceback" not in done.stderr
    lines = done.stderr.splitlines()
    assert lines[-2].startswith("claude-local: ") and lines[-1].startswith("  Fix: ")
    for word in words:
        assert word in done.stderr


def test_a_refused_workspace_is_named_with_a_way_out(station: Station) -> None:
    refused(station.run(cwd=station.home), "your home directory", "cd into")
    refused(station.run(cwd=station.share), "claude-local's own files")
    refused(station.run(cwd=Path("/")), "everything on this machine")
    refused(station.run(cwd=Path("/usr/share")), "part of the system")
    assert not (station.home / "record.json").exists()


def test_an_added_directory_is_refused_like_a_workspace(station: Station) -> None:
    station.add(station.home / ".ssh" / "id_rsa")
    refused(station.run("--add-dir", str(station.home)), "your home directory")


def test_a_command_without_a_session_runs_anywhere_and_writes_nothing_there(station: Station) -> None:
    done = station.run("#\nsys.exit(7 if written('x') != 'written' else 8)", cwd=station.home, server="")
    assert done.returncode == 7


@pytest.mark.parametrize(
    "text", ["#!/bin/sh\necho 'bwrap: no namespaces here' >&2\nexit 1\n", "#!/no/such/shell\n", "x"]
)
def test_a_broken_bubblewrap_is_told_in_words(station: Station, text: str) -> None:
    broken = station.add(station.home / "bin" / "bwrap", text)
    broken.chmod(0o755)
    station.configure(bwrap=str(broken))
    refused(station.run(), "./provision")
    assert not (station.workspace / "record.json").exists()
    assert os.listdir(station.workspace) == []


def test_a_missing_bubblewrap_is_told_in_words(station: Station) -> None:
    station.configure(bwrap=str(station.home / "none"))
    refused(station.run(), "none is missing", "./provision")


def test_a_missing_claude_is_told_by_its_name(station: Station) -> None:
    station.claude.unlink()
    done = station.run()
    assert done.returncode != 0 and "Traceback" not in done.stderr and str(station.claude) in done.stderr


@pytest.mark.parametrize("settings", ["{", "[]", "/no/such/file"])
def test_unreadable_settings_are_no_reason_to_start_without_them(station: Station, settings: str) -> None:
    words = station.words()
    words[words.index("--settings") + 1] = settings
    done = subprocess.run(words, cwd=station.workspace, capture_output=True, text=True, check=False, timeout=60)
    refused(done, "enforced settings")
    assert not (station.workspace / "record.json").exists()


def test_a_session_beside_another_one_keeps_its_stubs(station: Station) -> None:
    with station.running("") as process:
        assert station.run("#").returncode == 0
        assert (station.workspace / ".vscode").is_dir(), "they are the other one's, too"
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=20)
    assert not (station.workspace / ".vscode").exists()


def test_a_guarded_file_that_is_replaced_outside_is_guarded_again(station: Station) -> None:
    """Git and editors write a file by renaming a new one over it, and the mount on the old one goes with it."""
    subprocess.run(["git", "init", "-q", str(station.workspace)], check=True, timeout=30)
    config = station.workspace / ".git" / "config"
    program = (
        "import threading\n"
        "def look():\n"
        "    while True:\n"
        "        seen['config'] = [written('.git/config'), os.stat('.git/config').st_size]\n"
        "        time.sleep(0.02)\n"
        "threading.Thread(target=look, daemon=True).start()\n"
        "while 'config' not in seen: time.sleep(0.01)\n"
    )
    with station.running(program):
        assert station.record()["config"][0] == "Read-only file system"
        for _ in range(3):
            new = station.add(config.with_name("new"), config.read_text() + "# changed outside\n")
            new.rename(config)
            size = config.stat().st_size
            station.wait_for(lambda size=size: station.record()["config"] == ["Read-only file system", size])
            time.sleep(0.3)
            assert station.record()["config"] == ["Read-only file system", size]


def test_a_session_that_opens_a_replaced_file_all_the_time_does_not_keep_its_guard_away(station: Station) -> None:
    """A mount that is in its place cannot be made read-only while a file on it is open for writing (EBUSY)."""
    subprocess.run(["git", "init", "-q", str(station.workspace)], check=True, timeout=30)
    config = station.workspace / ".git" / "config"
    program = (
        "import threading\n"
        "parent = os.getpid()\n"
        "if os.fork() == 0:\n"
        "    while os.getppid() == parent:\n"
        "        try: os.close(os.open('.git/config', os.O_WRONLY))\n"
        "        except OSError: pass\n"
        "    os._exit(0)\n"
        "def look():\n"
        "    while True:\n"
        "        seen['config'] = [written('.git/config'), os.stat('.git/config').st_ino]\n"
        "        time.sleep(0.01)\n"
        "threading.Thread(target=look, daemon=True).start()\n"
        "while 'config' not in seen: time.sleep(0.01)\n"
    )
    with station.running(program):
        for _ in range(30):
            new = station.add(config.with_name("new"), config.read_text() + "# changed outside\n")
            new.rename(config)
            number = config.stat().st_ino
            station.wait_for(lambda number=number: station.record()["config"] == ["Read-only file system", number])


@pytest.mark.parametrize("times", [1, 3])
def test_a_fence_that_something_is_mounted_in_meanwhile_is_set_up_again(station: Station, times: int) -> None:
    """A container that starts just then is enough, and no reason to send its user away; again and again is one."""
    disk = station.add(station.home / "disk" / "x").parent
    count = station.home / "count"
    bwrap = station.add(
        station.home / "tools" / "bwrap",
        f"#!{sys.executable} -IS\n"
        "import os, sys\n"
        "words = sys.argv[1:]\n"
        f"with open({str(count)!r}, 'a+') as file:\n"
        "    file.write('x')\n"
        f"    if file.tell() <= {times}: words[words.index('--'):0] = ['--tmpfs', {str(disk)!r}]\n"
        "os.execv('/usr/bin/bwrap', ['bwrap', *words])\n",
    )
    bwrap.chmod(0o755)
    station.configure(bwrap=str(bwrap))
    program = (
        "for each in os.listdir('/proc/self/fd'):\n"
        "    try: seen.setdefault('open', []).append(os.readlink('/proc/self/fd/' + each))\n"
        "    except OSError: pass\n"
    )
    done = station.run("#\n" + program)
    if times == launch.TRIES:
        refused(done, f"{launch.TRIES} times: something is mounted at {disk}", "start again")
        assert not (station.workspace / "record.json").exists()
    else:
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        # What was for the first bubblewrap is not handed on by the second one.
        assert len(station.record()["open"]) == 3, station.record()["open"]
    assert len(count.read_text()) == min(times + 1, launch.TRIES)


def test_a_disk_that_is_mounted_later_cannot_be_written_by_a_session(station: Station) -> None:
    """systemd makes every mount shared, and then what is mounted outside comes into other namespaces too."""
    disk = station.add(station.home / "disk" / "below").parent
    # In a mount namespace of the test's own, which has shared mounts as systemd's has.
    apart = ["unshare", "--mount", "--propagation", "shared", "--", "sh", "-c"]
    if os.getuid() != 0:
        apart[1:1] = ["--user", "--map-root-user"]
    mounts = 'until test -e ready; do kill -0 $! || exit; sleep 0.05; done; mount -t tmpfs tmpfs "$0"; touch "$0/here" mounted; wait $!'
    program = (
        "open('ready', 'w').close()\n"
        "while not os.path.exists('mounted'): time.sleep(0.02)\n"
        "time.sleep(0.2)\n"
        f"seen['disk'] = [written({str(disk / 'x')!r}), listed({str(disk)!r})]\n"
    )
    done = subprocess.run(
        [*apart, f'"$@" & {mounts}', str(disk), *station.words("#\n" + program)],
        cwd=station.workspace, env=station.environment(), text=True, capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert station.record()["disk"] == ["Read-only file system", ["below"]]
