"""The launcher with a fake Claude Code that writes down what it sees, behind the real outer fence."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from claude_local.fence import environment, session
from claude_local.fence.config import INNER, OUTER
from claude_local.fence.policy import FORBIDDEN_FILES, STUB_DIRECTORIES
from claude_local.fence.quarantine import SUFFIX
from tests.fence.station import BWRAP, LAUNCHER, Station

pytestmark = pytest.mark.slow


@pytest.fixture
def station(tmp_path: Path) -> Station:
    return Station(tmp_path)


def test_claude_gets_arguments_directory_and_environment_unchanged(station: Station) -> None:
    hard = ["-p", 'say "hi" $HOME `id` \\', "", "two\nlines", "*", "é ☃", "--", "--home", "x"]
    found = station.saw("", *hard, COLOUR="blue é", EMPTY="")
    assert found["argv"][1:-1] == hard
    assert found["argv"][0].startswith("--settings={")
    assert found["cwd"] == str(station.workspace)
    env = found["env"]
    assert (env["COLOUR"], env["EMPTY"], env["HOME"]) == ("blue é", "", str(station.home))
    assert env["CLAUDE_LOCAL_FENCE"] == "outer" and env["XDG_RUNTIME_DIR"].startswith("/run/user/")


def test_a_session_knows_its_layers(station: Station) -> None:
    station.configure(layers=(OUTER, INNER), reason="")
    found = station.saw()
    assert found["env"]["CLAUDE_LOCAL_FENCE"] == "outer+inner"
    assert json.loads(found["argv"][0].removeprefix("--settings="))["sandbox"]["enabled"] is True


def test_the_sandboxs_programs_come_first_on_the_path_with_the_inner_layer(station: Station) -> None:
    sandbox_bin = station.add(station.share / "sandbox-bin" / "x").parent
    station.sandbox_bin = sandbox_bin
    assert station.saw()["env"]["PATH"] == os.environ["PATH"]
    station.configure(layers=(OUTER, INNER), reason="")
    env = station.saw()["env"]
    assert env["PATH"] == f"{sandbox_bin}:{os.environ['PATH']}" and env["CLAUDE_LOCAL_SANDBOX_BIN"] == str(sandbox_bin)


@pytest.mark.parametrize("arguments", [["-p"], ["--print", "hello"], []])
@pytest.mark.parametrize(
    "line",
    [
        '[claude-code:unrecognized_model] {"model":"claude-local"}',
        "CLAUDE_CODE_DISABLE_1M_CONTEXT is set, but the 200K limit is not enforced for x",
    ],
)
def test_with_p_lines_about_an_unknown_model_are_left_out_of_stderr(
    station: Station, arguments: list[str], line: str
) -> None:
    program = f"os.write(2, b'first\\n' + {line.encode()!r} + b'\\nlast')\nsys.exit(7)"
    done = station.run(*arguments, "#\n" + program)
    expected = ["first", "last"] if arguments else ["first", line, "last"]
    assert (done.returncode, done.stdout, done.stderr.split("\n")) == (7, "", expected)


@pytest.mark.parametrize("inside", [False, True])
def test_a_temporary_directory_that_a_session_cannot_write_is_ignored_with_a_note(
    station: Station, inside: bool
) -> None:
    place = (station.workspace if inside else station.home) / "temporary"
    place.mkdir()
    done = station.run("x", env={"CLAUDE_CODE_TMPDIR": str(place)})
    assert done.returncode == 0
    env = station.record()["env"]
    assert env["CLAUDE_CODE_TMPDIR"] == (str(place) if inside else env["XDG_RUNTIME_DIR"])
    assert ("fence_writable" in done.stderr and str(place) in done.stderr) is not inside


OPEN_FILES = """
for process in sorted(each for each in os.listdir('/proc') if each.isdecimal()):
    for each in listed(f'/proc/{process}/fd'):
        try: seen.setdefault('open', {})[f'{process}/{each}'] = os.readlink(f'/proc/{process}/fd/{each}')
        except OSError: pass
"""


def test_no_process_of_a_session_has_a_descriptor_of_the_caller(station: Station) -> None:
    """Nor one of the launcher's: a session opens what it finds in /proc/PID/fd, outside the fence's mounts."""
    command = 'exec 3<. 9</ 250>>"$HOME/log"; "$@"'
    done = subprocess.run(
        ["bash", "-c", command, "x", *station.words(f"#{OPEN_FILES}")], cwd=station.workspace,
        env=station.environment(), text=True, capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    opened = {
        number: path
        for number, path in station.record()["open"].items()
        if not path.startswith(("/proc/", "pipe:", "/dev/null", "anon_inode:"))
    }
    assert opened == {}


def test_a_session_cannot_write_its_record(station: Station) -> None:
    """The management API and the next sessions believe it."""
    program = (
        f"import sys; sys.path.insert(0, {str(LAUNCHER.parents[2])!r})\n"
        "from claude_local.claude.running_sessions import record_session\n"
        "from claude_local.fence.launch import launch\n"
        "from claude_local.fence.options import Options, parse_arguments\n"
        f"kept = record_session({str(station.share / 'state')!r}, '/a', '')\n"
        "sys.exit(launch(parse_arguments(sys.argv[1:], Options), {'sandbox': {}}, keep=kept))"
    )
    words = [sys.executable, "-I", "-c", program, *station.words(f"#{OPEN_FILES}")[3:]]
    done = subprocess.run(
        words, cwd=station.workspace, env=station.environment(), text=True, stdin=subprocess.DEVNULL,
        capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "") and len(list((station.share / "state").iterdir())) == 1
    assert [path for path in station.record()["open"].values() if str(station.share) in path] == []


def test_a_pipe_that_an_argument_names_stays_open(station: Station) -> None:
    """As in ``claude-local --mcp-config <(...)``."""
    command = '"${@:1:$#-1}" <(echo piped) "${@: -1}"'
    program = "seen['piped'] = open(sys.argv[-2]).read()"
    done = subprocess.run(
        ["bash", "-c", command, "x", *station.words("#\n" + program)], cwd=station.workspace,
        env=station.environment(), text=True, capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert station.record()["piped"] == "piped\n"


def test_the_inner_layer_uses_the_systems_programs(station: Station) -> None:
    """Claude Code takes the first bwrap and socat on PATH, and .venv/bin is often the first directory there."""
    sandbox_bin, planted = station.share / "sandbox-bin", station.workspace / ".venv" / "bin"
    copy = station.add(station.home / "copy" / "bwrap", '#!/bin/sh\nexec /usr/bin/bwrap "$@"\n')
    copy.chmod(0o755)
    for name in ("bwrap", "socat"):
        station.add(planted / name, "#!/bin/sh\n").chmod(0o755)
    station.sandbox_bin = sandbox_bin
    which = "import shutil; seen['found'] = [shutil.which(name) for name in ('bwrap', 'socat')]"
    for bwrap in (BWRAP, str(copy)):
        station.configure(layers=(OUTER, INNER), reason="", bwrap=bwrap)
        assert station.saw(which, PATH=f"{planted}:{os.environ['PATH']}")["found"] == [
            str(sandbox_bin / "bwrap"), str(sandbox_bin / "socat"),
        ]  # fmt: skip
        assert f"\nexec {shlex.quote(bwrap)} " in (sandbox_bin / "bwrap").read_text()
        assert os.path.realpath(sandbox_bin / "socat") == os.path.realpath("/usr/bin/socat")
    assert sorted(os.listdir(sandbox_bin)) == ["bwrap", "socat"]


@pytest.mark.parametrize("layers", [(OUTER, INNER), (INNER,)])
def test_no_session_starts_where_the_fence_of_commands_cannot_be_written(
    station: Station, layers: tuple[str, ...]
) -> None:
    """With the system's bwrap in its place, commands could write ~/.claude-local."""
    sandbox_bin = station.share / "sandbox-bin"
    sandbox_bin.write_text("in the way")
    station.sandbox_bin = sandbox_bin
    station.configure(layers=layers, reason="")
    done = station.run("x")
    assert done.returncode == 1 and f"Fix: make {sandbox_bin} writable" in done.stderr
    assert not (station.workspace / "record.json").exists()


def test_commands_do_not_write_claude_codes_configuration_and_temporary_files(station: Station) -> None:
    """Claude Code's sandbox leaves files to the outer layer, which lets Claude Code write these."""
    station.configure(layers=(OUTER, INNER), reason="")
    station.sandbox_bin = station.share / "sandbox-bin"
    found = station.saw(
        "import subprocess\n"
        "temporary = os.environ['CLAUDE_CODE_TMPDIR'] + f'/claude-{os.getuid()}'\n"
        f"places = [{str(station.config_dir)!r}, temporary, '/tmp', {str(station.workspace)!r}]\n"
        "os.makedirs(places[1], exist_ok=True)\n"
        "touch = ['/bin/sh', '-c', 'for each; do touch \"$each/--\" && echo \"$each\"; done', '--', *places]\n"
        "argv = ['bwrap', '--bind', '/', '/', '--dev', '/dev', '--unshare-user', '--', *touch]\n"
        "os.environ['added'] = '1'\n"
        "seen['written'] = subprocess.run(argv, capture_output=True, text=True).stdout.splitlines()\n"
        "seen['places'] = places\n"
    )
    assert found["written"] == found["places"][2:]
    (station.workspace / "--").unlink()


def test_a_missing_system_program_is_taken_from_a_path_directory_that_no_session_writes(
    station: Station, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(environment, "SYSTEM_PATH", ())
    places = [station.workspace / "bin", station.home / "bin", tmp_path / "opt"]
    for place in places:
        station.add(place / "a-tool", "#!/bin/sh\n").chmod(0o755)
    monkeypatch.setenv("HOME", str(station.home))
    monkeypatch.setenv("PATH", ":".join(["", "bin", *map(str, places)]))
    monkeypatch.chdir(station.workspace)
    assert environment.system_program("a-tool") == str(tmp_path / "opt" / "a-tool")
    assert environment.system_program("another-tool") is None


def test_a_session_sees_no_secrets_of_the_environment_and_the_home_directory(station: Station) -> None:
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


def test_settings_that_look_like_a_secret_are_hidden_unless_they_are_visible(station: Station) -> None:
    path = station.add(station.home / ".config" / "tool" / "config", "token = abcdefgh1234")
    station.add(path.parent / "theme", "colour = blue")
    read = "seen['read'] = [open(os.path.expanduser(f'~/.config/tool/{name}')).read() for name in ('config', 'theme')]"
    assert station.saw(read)["read"] == ["", "colour = blue"]
    station.configure(visible=(str(path),))
    assert station.saw(read)["read"] == ["token = abcdefgh1234", "colour = blue"]


def test_secrets_that_a_variable_moves_are_hidden_too(station: Station) -> None:
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


def test_a_login_made_during_a_session_is_hidden_from_it(station: Station) -> None:
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


def test_a_login_behind_a_symlink_is_hidden_too(station: Station) -> None:
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


def test_a_session_writes_only_its_workspace_and_claudes_directory(station: Station) -> None:
    names = [station.home / "x", station.share / "x", Path("/etc/x"), station.workspace / "x", station.config_dir / "x"]
    station.add(station.workspace / ".envrc", "mine")
    names += [station.workspace / ".envrc", station.workspace / ".claude" / "x"]
    found = station.saw(f'seen["written"] = [written(path) for path in {[str(each) for each in names]!r}]')
    assert [each == "written" for each in found["written"]] == [False, False, False, True, True, False, False]
    assert (station.workspace / ".envrc").read_text() == "mine"


def test_a_session_sees_no_other_processes_and_no_other_network(station: Station) -> None:
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


def test_a_session_reaches_the_server(station: Station) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        program = (
            "import socket\n"
            f"with socket.create_connection(('127.0.0.1', {server.getsockname()[1]}), timeout=10) as connection:\n"
            '    connection.sendall(b"GET /health HTTP/1.1\\r\\n\\r\\n")\n'
            '    seen["answer"] = connection.recv(100).decode()\n'
        )
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        with subprocess.Popen(
            station.words("#\n" + program, server=address), cwd=station.workspace, env=station.environment()
        ) as process:
            server.settimeout(20)
            connection, _ = server.accept()
            with connection:
                assert connection.recv(100).startswith(b"GET /health HTTP/1.1\r\n")
                connection.sendall(b"told")
            assert process.wait(timeout=60) == 0
    assert station.record()["answer"] == "told"


def test_commands_reach_only_the_users_ports_through_the_proxy(station: Station) -> None:
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
            '        connection.sendall(b"CONNECT localhost:%d HTTP/1.1\\r\\n\\r\\n" % port)\n'
            '        connection.sendall(b"GET /health HTTP/1.1\\r\\n\\r\\n")\n'
            '        return b"".join(iter(lambda: connection.recv(100), b"")).decode()\n'
            f'seen["answers"] = [ask(port) for port in {ports}]\n'
        )
        with subprocess.Popen(
            station.words("#\n" + program), cwd=station.workspace, env=station.environment()
        ) as process:
            server.settimeout(20)
            connection, _ = server.accept()
            with connection:
                assert connection.recv(100).startswith(b"GET /health HTTP/1.1\r\n")
                connection.sendall(b"told")
            assert process.wait(timeout=60) == 0
        other.settimeout(0)
        with pytest.raises(BlockingIOError):
            other.accept()
    found = station.record()
    assert found["answers"][0].endswith("told") and found["answers"][1].startswith("HTTP/1.1 403 ")
    assert found["network"]["httpProxyPort"] == found["network"]["socksProxyPort"] not in ports


def test_a_session_cannot_manage_llama_servers_models(station: Station) -> None:
    """Neither through its own port, whatever server it uses, nor through the proxy of commands."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_server(("127.0.0.1", 0)) as another:
        port = server.getsockname()[1]
        station.configure(layers=(OUTER, INNER), reason="", ports=(port,), server_port=port)
        program = (
            "import http.client\n"
            'network = json.loads(sys.argv[1].removeprefix("--settings="))["sandbox"]["network"]\n'
            "def ask(port, url, tunnel):\n"
            '    client = http.client.HTTPConnection("127.0.0.1", port, timeout=10)\n'
            "    if tunnel: client.set_tunnel(*tunnel)\n"
            "    client.request('POST', url, body=json.dumps({'model': 'owner/repo'}) + ' ' * 300_000)\n"
            "    reply = client.getresponse()\n"
            "    return reply.status, json.loads(reply.read())\n"
            f"port = {server.getsockname()[1]}\n"
            "proxy = network['httpProxyPort']\n"
            "seen['answers'] = [ask(port, '/models', None), ask(proxy, f'http://localhost:{port}/models', None),\n"
            "                   ask(proxy, '/models', ('localhost', port)),\n"
            f"                   ask({another.getsockname()[1]}, '/models', None)]\n"
        )
        done = station.run("#\n" + program, server=f"http://127.0.0.1:{another.getsockname()[1]}")
        assert (done.returncode, done.stderr) == (0, "")
        for status, body in station.record()["answers"]:
            assert (status, body["type"], body["error"]["type"]) == (403, "error", "permission_error")
            assert "POST /models" in body["error"]["message"]
        for each in (server, another):
            each.setblocking(False)
            with pytest.raises(BlockingIOError):
                while True:
                    assert each.accept()[0].recv(100) == b""


@pytest.mark.parametrize("config", [{"layers": (OUTER,)}, {"layers": (OUTER, INNER), "domains": ("example.org",)}])
def test_with_domains_claude_code_uses_its_own_proxy(station: Station, config: dict[str, Any]) -> None:
    station.configure(**config, reason="", ports=(8080,))
    found = json.loads(station.saw()["argv"][0].removeprefix("--settings="))
    assert "httpProxyPort" not in found["sandbox"].get("network", {})


@pytest.mark.parametrize("status", [0, 1, 42, 255])
def test_the_exit_status_is_claudes(station: Station, status: int) -> None:
    assert station.run(f"#\nsys.exit({status})").returncode == status


@pytest.mark.parametrize("name", ["SIGTERM", "SIGKILL", "SIGSEGV"])
def test_an_end_by_a_signal_gives_the_shells_status(station: Station, name: str) -> None:
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


def test_a_terminated_session_ends_with_its_children(station: Station) -> None:
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
        assert process.wait(timeout=60) == 128 + signal.SIGTERM
        assert not children()


def test_a_killed_launcher_ends_its_session(station: Station) -> None:
    with station.running("") as process:
        station.kill(process)


def test_stubs_exist_only_during_a_session(station: Station) -> None:
    with station.running("") as process:
        found = set(os.listdir(station.workspace))
        assert set(STUB_DIRECTORIES) <= found and not found & set(FORBIDDEN_FILES)
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)
    assert {name for name in os.listdir(station.workspace) if not name.startswith("record")} == set()


def test_the_user_can_write_to_stubs_outside(station: Station) -> None:
    with station.running("") as process:
        station.add(station.workspace / ".vscode" / "settings.json", "{}\n")
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)
    assert (station.workspace / ".vscode" / "settings.json").read_text() == "{}\n"
    assert not (station.workspace / ".idea").exists()


def test_the_fence_works_where_var_tmp_is_a_symlink(station: Station) -> None:
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


def test_the_next_session_removes_the_stubs_of_a_killed_one(station: Station) -> None:
    with station.running("") as process:
        station.kill(process)
    assert (station.workspace / ".vscode").is_dir()
    station.saw()
    assert [name for name in os.listdir(station.workspace) if not name.startswith("record.")] == []


def test_the_next_session_renames_what_a_killed_one_planted(station: Station) -> None:
    plant = "os.makedirs('lib/.git/hooks'); open('lib/.git/hooks/pre-commit', 'w').close()\n"
    with station.running(plant) as process:
        station.kill(process)
    hook = station.workspace / "lib" / ".git" / "hooks" / "pre-commit"
    assert hook.exists()
    done = station.run()
    assert "was cut short" in done.stderr and str(hook) in done.stderr and not hook.exists()
    assert "was cut short" not in station.run().stderr


def test_a_file_that_programs_outside_would_obey_is_renamed_at_once(station: Station) -> None:
    envrc = station.add(station.workspace / ".envrc", "mine")
    planted = station.workspace / ".mcp.json"
    with station.running("open('.mcp.json', 'w').write('{}')\n") as process:
        station.wait_for(lambda: Path(f"{planted}{SUFFIX}").exists())
        assert not planted.exists()
        process.send_signal(signal.SIGTERM)
        assert str(planted) in process.communicate(timeout=60)[1]
    assert envrc.read_text() == "mine"


def test_the_next_session_renames_such_a_file_of_a_killed_one(station: Station) -> None:
    envrc, planted = station.add(station.workspace / ".envrc", "mine"), station.workspace / ".mcp.json"
    with station.running("") as process:
        process.send_signal(signal.SIGSTOP)
        # Nobody looks from here on. The session itself, which goes on, cannot be told to plant at this moment.
        station.add(planted)
        station.add(envrc, "mine, and changed")
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=60)
    done = station.run()
    assert "was cut short" in done.stderr and str(planted) in done.stderr and not planted.exists()
    assert envrc.read_text() == "mine, and changed", "it existed before"


def test_a_planted_hook_is_renamed_and_reported(station: Station) -> None:
    done = station.run("#\nos.mkdir('.git'); os.mkdir('.git/hooks'); open('.git/hooks/pre-commit', 'w').close()")
    assert done.returncode == 0 and ".git/hooks/pre-commit" in done.stderr
    assert not (station.workspace / ".git" / "hooks" / "pre-commit").exists()


def test_a_claude_code_worktree_is_writable_and_guarded(station: Station) -> None:
    tree = station.workspace / ".claude" / "worktrees" / "x"
    git = ["git", "-C", str(station.workspace), "-c", "user.name=a", "-c", "user.email=a@b.example"]
    for words in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "x"], ["worktree", "add", "-q", str(tree)]):
        subprocess.run([*git, *words], check=True, timeout=30, capture_output=True)
    link = (tree / ".git").read_text()
    found = station.saw(
        f"os.chdir({str(tree)!r})\n"
        "seen['file'] = written('file')\n"
        "seen['guarded'] = [written(name) for name in ('.git', '.vscode/tasks.json')]\n"
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


def test_a_session_cannot_write_ide_lock_files(station: Station) -> None:
    found = station.saw(f"seen['written'] = written({str(station.config_dir / 'ide' / '22.lock')!r})")
    assert found["written"] == "Read-only file system"


# --- what cannot be started -------------------------------------------------------------------------------------------


def refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode == 1 and done.stdout == ""
    assert "Traceback" not in done.stderr
    lines = done.stderr.splitlines()
    assert lines[-2].startswith("claude-local: ") and lines[-1].startswith("  Fix: ")
    for word in words:
        assert word in done.stderr


def test_a_refused_workspace_is_reported_with_a_fix(station: Station) -> None:
    refused(station.run(cwd=station.home), "your home directory", "cd into")
    refused(station.run(cwd=station.share), "claude-local's own files")
    refused(station.run(cwd=Path("/")), "everything on this machine")
    refused(station.run(cwd=Path("/usr/share")), "part of the system")
    assert not (station.home / "record.json").exists()


def test_an_added_directory_is_refused_like_a_workspace(station: Station) -> None:
    station.add(station.home / ".ssh" / "id_rsa")
    refused(station.run("--add-dir", str(station.home)), "your home directory")


def test_a_command_without_the_server_runs_anywhere_and_writes_nothing_there(station: Station) -> None:
    done = station.run("#\nsys.exit(7 if written('x') != 'written' else 8)", cwd=station.home, server="")
    assert done.returncode == 7


def test_a_command_that_downloads_reads_no_settings_that_a_session_may_have_written(station: Station) -> None:
    done = station.run("plugin", "#\nseen['net'] = open('/proc/net/dev').read()", server="")
    assert (done.returncode, done.stderr) == (0, "")
    found = station.record()
    assert found["argv"][1:3] == ["--setting-sources=", "plugin"]
    names = [line.partition(":")[0] for line in Path("/proc/net/dev").read_text().splitlines()]
    assert [line.partition(":")[0] for line in found["net"].splitlines()] == names, "it has the machine's network"


@pytest.mark.parametrize("name", [".claude.json", ".config.json"])
@pytest.mark.parametrize("text", ['{"env": {"GIT_SSH_COMMAND": "x"}}', '\ufeff{"env": {"PATH": "x"}}', "[]", "{"])
def test_a_command_that_downloads_takes_no_variables_from_a_session(station: Station, name: str, text: str) -> None:
    path = station.add(station.config_dir / name, text)
    refused(station.run("plugin", "marketplace", "add", "x", server=""), str(path), 'remove "env"')
    assert not (station.workspace / "record.json").exists()
    path.write_text('{"env": {}}', encoding="utf-8")
    assert station.run("plugin", "#", server="").returncode == 0


@pytest.mark.parametrize(
    "text", ["#!/bin/sh\necho 'bwrap: no namespaces here' >&2\nexit 1\n", "#!/no/such/shell\n", "x"]
)
def test_a_broken_bubblewrap_is_reported_with_a_fix(station: Station, text: str) -> None:
    broken = station.add(station.home / "bin" / "bwrap", text)
    broken.chmod(0o755)
    station.configure(bwrap=str(broken))
    refused(station.run(), "./provision")
    assert not (station.workspace / "record.json").exists()
    assert os.listdir(station.workspace) == []


def test_a_missing_bubblewrap_is_reported_with_a_fix(station: Station) -> None:
    station.configure(bwrap=str(station.home / "none"))
    refused(station.run(), "none is missing", "./provision")


def test_a_missing_claude_is_named(station: Station) -> None:
    station.claude.unlink()
    done = station.run()
    assert done.returncode != 0 and "Traceback" not in done.stderr and str(station.claude) in done.stderr


def test_a_second_session_leaves_the_firsts_stubs(station: Station) -> None:
    with station.running("") as process:
        assert station.run("#").returncode == 0
        assert (station.workspace / ".vscode").is_dir(), "they are the other one's, too"
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)
    assert not (station.workspace / ".vscode").exists()


def test_a_guarded_file_that_is_replaced_outside_stays_guarded(station: Station) -> None:
    """Editors write a file by renaming a new one over it, and the mount on the old one goes with it."""
    envrc = station.add(station.workspace / ".envrc")
    program = (
        "import threading\n"
        "def look():\n"
        "    while True:\n"
        "        seen['envrc'] = [written('.envrc'), os.stat('.envrc').st_size]\n"
        "        time.sleep(0.02)\n"
        "threading.Thread(target=look, daemon=True).start()\n"
        "while 'envrc' not in seen: time.sleep(0.01)\n"
    )
    with station.running(program):
        assert station.record()["envrc"][0] == "Read-only file system"
        for _ in range(3):
            new = station.add(envrc.with_name("new"), envrc.read_text() + "# changed outside\n")
            new.rename(envrc)
            size = envrc.stat().st_size
            station.wait_for(lambda size=size: station.record()["envrc"] == ["Read-only file system", size])
            time.sleep(0.3)
            assert station.record()["envrc"] == ["Read-only file system", size]


def test_a_session_that_keeps_opening_a_replaced_file_cannot_stop_its_guard(station: Station) -> None:
    """A mount that is in its place cannot be made read-only while a file on it is open for writing (EBUSY)."""
    envrc = station.add(station.workspace / ".envrc")
    program = (
        "import threading\n"
        "parent = os.getpid()\n"
        "if os.fork() == 0:\n"
        "    while os.getppid() == parent:\n"
        "        try: os.close(os.open('.envrc', os.O_WRONLY))\n"
        "        except OSError: pass\n"
        "    os._exit(0)\n"
        "def look():\n"
        "    while True:\n"
        "        seen['envrc'] = [written('.envrc'), os.stat('.envrc').st_ino]\n"
        "        time.sleep(0.01)\n"
        "threading.Thread(target=look, daemon=True).start()\n"
        "while 'envrc' not in seen: time.sleep(0.01)\n"
    )
    with station.running(program):
        for _ in range(30):
            new = station.add(envrc.with_name("new"), envrc.read_text() + "# changed outside\n")
            new.rename(envrc)
            number = envrc.stat().st_ino
            station.wait_for(lambda number=number: station.record()["envrc"] == ["Read-only file system", number])


@pytest.mark.parametrize("times", [1, 3])
def test_the_fence_is_set_up_again_when_a_mount_appears_meanwhile(station: Station, times: int) -> None:
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
    if times == session.TRIES:
        refused(done, f"{session.TRIES} times", f"something is mounted at {disk}", "start again")
        assert not (station.workspace / "record.json").exists()
    else:
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        # What was for the first bubblewrap is not handed on by the second one.
        assert len(station.record()["open"]) == 3, station.record()["open"]
    assert len(count.read_text()) == min(times + 1, session.TRIES)


def test_a_session_cannot_write_a_disk_that_is_mounted_later(station: Station) -> None:
    """systemd makes every mount shared, and then what is mounted outside comes into other namespaces too."""
    disk = station.add(station.home / "disk" / "below").parent
    # In a mount namespace of the test's own, which has shared mounts as systemd's has.
    apart = ["unshare", "--mount", "--propagation", "shared", "--", "sh", "-c"]
    if os.getuid() != 0:
        apart[1:1] = ["--user", "--map-root-user"]
    mounts = (
        "until test -e ready; do kill -0 $! || exit; sleep 0.05; done; "
        'mount -t tmpfs tmpfs "$0"; touch "$0/here" mounted; wait $!'
    )
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


def test_what_claude_codes_sandbox_leaves_in_a_git_directory_is_removed(station: Station) -> None:
    subprocess.run(["git", "init", "-q", str(station.workspace)], check=True, timeout=30)
    before = sorted(str(each) for each in (station.workspace / ".git").rglob("*"))
    station.saw("os.mkdir('.git/glab-cli'); open('.git/info/.claude-sandbox-noreplace', 'w').close()")
    assert sorted(str(each) for each in (station.workspace / ".git").rglob("*")) == before
