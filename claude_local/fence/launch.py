"""Starts Claude Code behind the fence and stays as its parent: passes signals on, gives back its exit status.

Run as a program by templates/claude-local: ``python -I -S launch.py --config FILE --home DIR ... -- CLAUDE ARGUMENTS``.
Exit status 1: the fence cannot be set up or the workspace is refused; else Claude Code's own (128 + number when a signal
ended it).
"""

from __future__ import annotations

import argparse
import json
import os
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from os.path import abspath, basename, dirname, exists, isdir, isfile, islink, join
from typing import NoReturn

if __name__ == "__main__":
    # Until there is something to clean up, Ctrl-C ends the launcher without a traceback.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.path.insert(0, dirname(dirname(dirname(abspath(__file__)))))

from claude_local.fence import git_config, model, mount_check, plan, policy, remount, seccomp
from claude_local.fence.config import ConfigError, FenceConfig, parse
from claude_local.fence.credentials import fresh_directories, hide, keep_programs, moved_secrets
from claude_local.fence.files import read_text, realpath
from claude_local.fence.git_guard import guard_repository, guard_untrusted
from claude_local.fence.git_repository import find_repository
from claude_local.fence.ide import ide_ports
from claude_local.fence.ledger import Interrupted, Ledger, make_stubs
from claude_local.fence.plan import covers
from claude_local.fence.proxy import proxy
from claude_local.fence.quarantine import Blocked
from claude_local.fence.relay import relay
from claude_local.fence.sockets import blank_sockets, control_directories
from claude_local.fence.survey import Places, Survey
from claude_local.fence.watch import Watch
from claude_local.fence.workspace import WorkspaceRefused, check_workspace, guard_workspace

PASSED_ON = (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
# Commands of Claude Code that fetch something.
FETCHING = ("plugin", "plugins", "install", "update", "upgrade")
# Notes of one kind that are shown, and seconds that what a session started may take to be gone when it is killed.
NOTES, GONE = 20, 30.0
# siginfo's code of a signal that the kernel itself sent, as a terminal does to everything in its foreground.
BY_THE_KERNEL = 0x80
# Where the distribution's programs are.
SYSTEM_PATH = ("/usr/bin", "/bin", "/usr/local/bin", "/usr/sbin", "/sbin", "/usr/local/sbin")
# How often the outer fence is set up, where something is mounted meanwhile.
TRIES = 3
PROVISION = "./provision   (in the claude-local project)"


def fail(what: str, fix: str) -> NoReturn:
    print(f"claude-local: {printable(what)}\n  Fix: {printable(fix)}", file=sys.stderr)
    raise SystemExit(1)


def note(text: str) -> None:
    # Nobody may be reading any more; the exit status is Claude Code's all the same.
    with suppress(OSError):
        print(f"claude-local: {printable(text)}", file=sys.stderr)


def told(lines: Iterable[str]) -> None:
    """Notes, but no more of a kind than anybody reads."""
    lines = list(lines)
    for line in lines[:NOTES]:
        note(line)
    if len(lines) > NOTES:
        note(f"... and {len(lines) - NOTES} more like that")


def printable(text: str) -> str:
    """``text`` without anything that a terminal obeys: file names come from strangers."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


@dataclass
class Options:
    """What templates/claude-local says. ``config``: fence.json. ``own``: claude-local's own directories. ``state``: where
    sessions leave word of each other. ``sandbox_bin``: a directory that comes first on Claude Code's PATH. ``server``: its address; empty: the session talks to none. ``answer``,
    ``profiles``, ``profile``: see :mod:`claude_local.fence.model`. ``settings``: the enforced ones, a file or JSON. ``command``: claude and its arguments."""

    config: str = ""
    home: str = ""
    config_dir: str = ""
    own: list[str] = field(default_factory=list)
    state: str = ""
    sandbox_bin: str = ""
    server: str = ""
    answer: str = ""
    profiles: str = ""
    profile: str = ""
    settings: str = ""
    unfenced: bool = False
    command: list[str] = field(default_factory=list)


def arguments(argv: list[str]) -> Options:
    """The launcher's options, and behind the first ``--`` the command that it runs.

    Ends the program when ``argv`` has an option that it does not know: the wrapper is older or newer than the launcher.
    """
    parser = argparse.ArgumentParser(prog="launch.py", allow_abbrev=False)
    for name in (
        "config",
        "home",
        "config-dir",
        "state",
        "sandbox-bin",
        "server",
        "answer",
        "profiles",
        "profile",
        "settings",
    ):
        parser.add_argument(f"--{name}")
    parser.add_argument("--own", action="append")
    parser.add_argument("--unfenced", action="store_true")
    first = argv.index("--")
    options, unknown = parser.parse_known_args(argv[:first], Options(command=argv[first + 1 :]))
    if unknown:
        fail(f"wrapper and launcher versions differ: the launcher does not know {unknown[0]}", PROVISION)
    return options


def read_config(path: str) -> FenceConfig:
    try:
        with open(path, encoding="utf-8") as file:
            return parse(file.read())
    except FileNotFoundError:
        fail(f"the fence is not set up: {path} is missing", PROVISION)
    except (OSError, ConfigError) as error:
        fail(f"the fence's configuration {path} cannot be used: {error}", PROVISION)


def read_settings(given: str) -> dict[str, object]:
    try:
        if given.lstrip().startswith("{"):
            found = json.loads(given)
        else:
            with open(given, encoding="utf-8") as file:
                found = json.load(file)
    except (OSError, ValueError) as error:
        fail(f"the enforced settings cannot be read: {error}", PROVISION)
    if not isinstance(found, dict):
        fail("the enforced settings are no JSON object", PROVISION)
    return found


def before_dashes(words: list[str]) -> list[str]:
    """What of a command line may be options."""
    return words[: words.index("--")] if "--" in words else words


def added_directories(words: list[str]) -> Iterator[str]:
    """The values of claude's ``--add-dir``, which takes one or more."""
    taking = False
    for word in before_dashes(words):
        if word.startswith("--add-dir="):
            yield word.partition("=")[2]
        elif word == "--add-dir":
            taking = True
        elif word.startswith("-"):
            taking = False
        elif taking:
            yield word


def wants_worktree(words: list[str]) -> bool:
    return any(word in ("-w", "--worktree") or word.startswith("--worktree=") for word in before_dashes(words))


def server_address(server: str) -> tuple[str, int]:
    """Host and port of the server's address."""
    place = server.partition("://")[2].rstrip("/")
    if place.startswith("["):
        host, _, port = place[1:].partition("]")
        return host, int(port.removeprefix(":") or 80)
    host, _, port = place.partition(":")
    return "127.0.0.1" if host == "localhost" else host, int(port or 80)


def reached_from_inside(
    config: FenceConfig, places: Places, server: str, env: Mapping[str, str]
) -> list[tuple[str, int]]:
    """The addresses that are carried into the session's network namespace."""
    found = [("127.0.0.1", port) for port in config.ports]
    if server:
        found.append(server_address(server))
    directories = [join(places.home, ".claude", "ide")]
    if not islink(join(places.config_dir, "ide")):
        directories.append(join(places.config_dir, "ide"))
    # Below 1024 nobody without rights can listen: that is no IDE, and inside nobody could offer it.
    ports = ide_ports(directories, env.get("CLAUDE_CODE_SSE_PORT"))
    found += [("127.0.0.1", port) for port in ports if port >= 1024]
    return list(dict.fromkeys(found))


def accepted(found: Survey, places: Places, workspaces: list[str], *, all_of_them: bool) -> list[str]:
    """The directories that the session may write; raises WorkspaceRefused when it must have ``all_of_them``.

    ``claude-local doctor`` in the home directory works, and writes nothing there.
    """
    fine = []
    for workspace in workspaces:
        try:
            check_workspace(workspace, places, found)
            fine.append(workspace)
        except WorkspaceRefused:
            if all_of_them:
                raise
    return fine


def describe_workspaces(found: Survey, workspaces: list[str], places: Places, stubs: list[str]) -> list[str]:
    """Guard the workspaces and their repositories; the git directories outside them that a session may write."""
    outside = []
    # A link may lead from one to another.
    found.fence.writable += workspaces
    for workspace in workspaces:
        found.leftovers += [join(workspace, name) for name in policy.SANDBOX_LEFTOVERS
                            if not os.path.lexists(join(workspace, name))]  # fmt: skip
        guard_workspace(found, workspace, stubs, places.home)
        repo, remark = find_repository(workspace)
        if repo is None:
            guard_untrusted(found, workspace)
        else:
            guard_repository(found, repo, places)
            outside += [repo.git_dir, repo.common_dir]
        if remark:
            found.remarks.append(remark)
    return outside


def allow_the_rest(found: Survey, config: FenceConfig, places: Places) -> None:
    """What a session may write besides its workspaces; what decides about the next session stays closed."""
    fence = found.fence
    fence.writable.append(places.config_dir)
    for name in ("enforced.json", "bash-env.sh"):
        if exists(join(places.config_dir, name)):
            fence.guarded.append(join(places.config_dir, name))
    # It is there from the first session on: a lock file of a session's own would open a port to the next one.
    with suppress(OSError):
        os.makedirs(join(places.config_dir, "ide"), mode=0o700, exist_ok=True)
    if isdir(join(places.config_dir, "ide")):
        fence.guarded.append(join(places.config_dir, "ide"))
    for path in config.writable:
        real = realpath(path)
        kept = [each for each in [places.home, *places.own, *places.programs] if covers(real, each)]
        if not exists(path):
            found.remarks.append(f"{path} (fence_writable) is not there")
        elif kept:
            found.remarks.append(f"{path} (fence_writable) stays read-only: {kept[0]} in it decides what runs outside")
        else:
            fence.writable.append(real)


def socket_paths(config: FenceConfig, env: Mapping[str, str]) -> list[str]:
    """The sockets and files of ``fence_sockets`` that exist."""
    wanted: list[str] = []
    runtime = env.get("XDG_RUNTIME_DIR", f"/run/user/{os.getuid()}")
    if "ssh-agent" in config.sockets:
        wanted.append(env.get("SSH_AUTH_SOCK", ""))
    if "gpg-agent" in config.sockets:
        wanted.append(join(runtime, "gnupg"))
    if "display" in config.sockets:
        wanted += [
            "/tmp/.X11-unix",
            env.get("XAUTHORITY", ""),
            join(runtime, env.get("WAYLAND_DISPLAY") or "wayland-0"),
        ]
    return [path for path in wanted if path and exists(path)]


def public_keys(config: FenceConfig, home: str) -> list[str]:
    """What the agents of ``fence_sockets`` are of no use without, and is no secret: known hosts and public keys."""
    names = ["trustdb.gpg", "pubring.kbx", "pubring.gpg"] if "gpg-agent" in config.sockets else []
    wanted = [join(home, ".gnupg", name) for name in names]
    if "ssh-agent" in config.sockets:
        with suppress(OSError):
            found = sorted(os.listdir(join(home, ".ssh")))
            wanted += [join(home, ".ssh", name) for name in found if name == "known_hosts" or name.endswith(".pub")]
    return [path for path in wanted if isfile(path)]


# Descriptors that bubblewrap reads from, until it has them.
_handed_over: list[int] = []


def _for_bubblewrap(descriptor: int) -> int:
    os.set_inheritable(descriptor, True)
    _handed_over.append(descriptor)
    return descriptor


def memory_file(name: str, content: bytes) -> int:
    descriptor = os.memfd_create(name)
    os.write(descriptor, content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return _for_bubblewrap(descriptor)


def empty_files() -> Iterator[int]:
    while True:
        yield _for_bubblewrap(os.open("/dev/null", os.O_RDONLY))


def account_files(home: str) -> tuple[int, int]:
    passwd, group = plan.accounts(read_text("/etc/passwd"), read_text("/etc/group"), home)
    return memory_file("passwd", os.fsencode(passwd)), memory_file("group", os.fsencode(group))


def start(words: list[str], env: Mapping[str, str]) -> int:
    """Start bubblewrap in this process group, deaf to what Claude Code has to hear; its process id."""
    for number in PASSED_ON:
        signal.signal(number, signal.SIG_IGN)
    try:
        return os.posix_spawn(words[0], words, dict(env), setsigmask=[])
    except OSError as error:
        fail(f"{words[0]} cannot be started: {error.strerror}", PROVISION)
    finally:
        while _handed_over:
            os.close(_handed_over.pop())


def receive(control: socket.socket, count: int) -> tuple[list[socket.socket], int | None]:
    """The listening sockets from inside and Claude Code's process id out here; no id when the fence did not come up."""
    room = socket.CMSG_SPACE(max(count, 1) * 4) + socket.CMSG_SPACE(12)
    message, ancillary, _, _ = control.recvmsg(16, room)
    if not message:
        return [], None
    sockets, process = [], None
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            usable = len(data) - len(data) % 4
            sockets = [socket.socket(fileno=each) for each in struct.unpack(f"{usable // 4}i", data[:usable])]
        elif level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
            process = struct.unpack("3i", data)[0]
    return sockets, process


def first_process(claude: int) -> int | None:
    """A descriptor of the first process of Claude Code's process namespace; it becomes readable when no other one is left
    there. None when it cannot be had."""
    with suppress(OSError, ValueError, IndexError):
        return os.pidfd_open(int(read_text(f"/proc/{claude}/stat").rpartition(")")[2].split()[1]))
    return None


def wait(bubblewrap: int, claude: int) -> int:
    """Pass signals on until bubblewrap ends; its exit status, which is Claude Code's."""
    handle = None
    with suppress(OSError):
        handle = os.pidfd_open(claude)
    waited = {signal.SIGCHLD, *PASSED_ON}
    while True:
        ended, status = os.waitpid(bubblewrap, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        info = signal.sigwaitinfo(waited)
        # What a terminal sends, it sends to everything in the foreground: Claude Code has it already.
        if info.si_signo != signal.SIGCHLD and info.si_code != BY_THE_KERNEL and handle is not None:
            with suppress(OSError):
                signal.pidfd_send_signal(handle, info.si_signo)


def say_what_is_open(kept: remount.Kept, sockets: list[str]) -> None:
    """Tell what the process that keeps the fence whole (remount.py) cannot do; ``sockets`` are blanked by it alone."""
    if not kept.cut_off:
        note("what is mounted on this machine while this session runs (a disk, a vault) can be written by it, "
             "if you can write it")  # fmt: skip
    if not kept.mounts:
        note("logins that are made while this session runs can be read by it")
        note(
            "files that other programs replace while this session runs lose their guard (its mounts cannot be changed)"
        )
        for path in sockets:
            note(f"this session can talk to {path}")


def programs_named(guarded: list[str]) -> dict[str, set[str]]:
    """What the git configurations among ``guarded`` name to be run. While another program replaces such a file, a
    session that tries all the time can write it before its guard is back."""
    texts = {path: read_text(path) for path in guarded if basename(path) in ("config", "config.worktree")}
    return {path: {*git_config.named_files(text), *git_config.named_directories(text)} for path, text in texts.items()}


def mounts_of(process: int | str) -> str:
    try:
        with open(f"/proc/{process}/mountinfo", encoding="utf-8", errors="surrogateescape", newline="\n") as file:
            return file.read()
    except OSError as error:
        fail(f"the fence cannot be looked at: {error}", PROVISION)


def layers_name(config: FenceConfig) -> str:
    return "+".join(config.layers) or "none"


def system_program(name: str) -> str | None:
    """Where ``name`` is, in the system's directories or else in one on PATH that no session can have written: not below the
    home directory, nor where we are."""
    elsewhere = [each for each in os.environ.get("PATH", "").split(os.pathsep) if each.startswith("/")]
    for directory in [*SYSTEM_PATH, *elsewhere]:
        path = join(directory, name)
        if not (isfile(path) and os.access(path, os.X_OK)):
            continue
        if directory in SYSTEM_PATH:
            return path
        with suppress(OSError):
            ours = [os.environ.get("HOME") or "/root", os.getcwd()]
            if not any(covers(realpath(each), realpath(directory)) for each in ours):
                return path
    return None


def link_programs(config: FenceConfig, sandbox_bin: str) -> list[str]:
    """Let the bwrap and the socat that come first on Claude Code's PATH be the system's, or the copy that AppArmor wants: it
    makes the inner fence of the first that it finds, and a project's ``.venv/bin`` or ``node_modules/.bin`` may be on PATH.
    The directories to put first: ``sandbox_bin`` with links to both, or the programs' own where no links can be made (verify
    starts sessions where nothing can be written)."""
    programs = {"bwrap": config.bwrap, "socat": system_program("socat")}
    found = {name: program for name, program in programs.items() if program is not None}
    try:
        os.makedirs(sandbox_bin, exist_ok=True)
        for name, program in found.items():
            link = join(sandbox_bin, name)
            if not (islink(link) and os.readlink(link) == program):
                new = f"{link}.{os.getpid()}"
                os.symlink(program, new)
                os.rename(new, link)
    except OSError:
        return [*dict.fromkeys(dirname(program) for program in found.values()), sandbox_bin]
    return [sandbox_bin]


def session_environment(config: FenceConfig, sandbox_bin: str = "") -> dict[str, str]:
    """What of our environment a session gets; all of it when there is no fence. ``sandbox_bin``: see Options."""
    env = dict(os.environ)
    if config.layers:
        env = policy.environment(env, config.environment, config.sockets)
        # Only the inner fence takes them from PATH. Commands get the rest of it alone (files/bash-env.sh).
        if config.inner and sandbox_bin:
            env["CLAUDE_LOCAL_SANDBOX_BIN"] = sandbox_bin
            env["PATH"] = os.pathsep.join([*link_programs(config, sandbox_bin), env.get("PATH", "/usr/bin:/bin")])
    return env | {"CLAUDE_LOCAL_FENCE": layers_name(config), "CLAUDE_LOCAL_SOCKETS": " ".join(config.sockets)}


def without_outer(config: FenceConfig, options: Options, enforced: dict[str, object]) -> NoReturn:
    """Become Claude Code, with the inner fence or, by the user's word, with none."""
    home = realpath(options.home)
    hidden: list[str] = []
    guarded: list[str] = []
    if config.inner:
        try:
            workspace = os.getcwd()
        except OSError as error:
            fail(f"the fence cannot be set up: {error}", "cd to a directory that is there, and start again")
        names = [join(home, name) for name in (*policy.HIDDEN_IN_HOME, ".claude")]
        names += moved_secrets(os.environ, [workspace])
        hidden = [path for path in [*names, *config.hidden] if exists(path) and path not in config.visible]
        guarded = [join(workspace, name) for name in (*policy.STUB_DIRECTORIES, *policy.STUB_FILES)]
    settings = plan.session_settings(
        enforced, inner=config.inner, outer=False, root=os.getuid() == 0, writable=config.writable, hidden=hidden,
        guarded=guarded, allowed=config.domains, sockets=bool(config.sockets),
    )  # fmt: skip
    env = session_environment(config, options.sandbox_bin)
    claude, *rest = options.command
    os.execve(claude, [claude, "--settings=" + json.dumps(settings), *rest], env)


def fenced(config: FenceConfig, options: Options, enforced: dict[str, object]) -> int:
    """Run Claude Code behind the outer fence, with the inner one where it works; the exit status."""
    claude, *rest = options.command
    # Without links, as it is: another look could follow one that has taken its place meanwhile.
    cwd = os.getcwd()
    lib = realpath(dirname(dirname(dirname(abspath(__file__)))))
    programs = {
        realpath(claude),
        dirname(realpath(sys.executable)),
        realpath(dirname(sys.executable)),
        realpath(sys.prefix),
        realpath(sys.base_prefix),
        lib,
        realpath(join(lib, "claude_local")),
    }
    places = Places(
        home=realpath(options.home),
        config_dir=realpath(options.config_dir),
        own=[realpath(each) for each in [*options.own, options.config_dir]],
        programs=sorted(programs),
    )
    workspaces = list(dict.fromkeys([cwd, *(realpath(each) for each in added_directories(rest) if isdir(each))]))
    found = Survey(fence=plan.Fence(fresh=fresh_directories()))
    keep_programs(found, places)
    hidden = [
        *config.hidden,
        *moved_secrets(os.environ, workspaces),
        *control_directories(places.home),
    ]
    hide(found, places, hidden, [*config.visible, *public_keys(config, places.home)])
    workspaces = accepted(found, places, workspaces, all_of_them=bool(options.server))
    if wants_worktree(rest) and workspaces:
        with suppress(OSError):
            if not islink(join(workspaces[0], ".claude")):
                os.makedirs(join(workspaces[0], ".claude", "worktrees"), exist_ok=True)
    ledger = Ledger(options.state, cwd)
    try:
        if ledger.interrupted is not None:
            look_back(workspaces, ledger.interrupted)
        outside = describe_workspaces(found, workspaces, places, ledger.recorded())
        allow_the_rest(found, config, places)
        found.settle([*found.fence.writable, *outside])
        lasting = list(found.fence.blanked)
        blank_sockets(found, read_text("/proc/net/unix"), found.fence.writable)
        # A socket may be gone in a moment, and bubblewrap would stumble over it.
        found.passing, found.fence.blanked = found.fence.blanked[len(lasting) :], lasting
        wanted = socket_paths(config, os.environ)
        found.passing = [path for path in found.passing if path not in wanted]
        # Newer versions of ssh-agent listen below ~/.ssh.
        secret = [*found.fence.emptied, *found.fence.scratch]
        found.fence.shown += [path for path in wanted if any(covers(each, path) for each in secret)]
        found.fence.sockets = [path for path in wanted if path not in found.fence.shown]
        stubs = [*found.fence.stub_directories, *found.fence.stub_files, *found.leftovers]
        ledger.record(stubs, found.repositories, workspaces)
        make_stubs(found.fence.stub_files)
        for remark in found.remarks:
            note(remark)
        wrong = ""
        for _ in range(TRIES):
            try:
                return _run(config, options, enforced, found, places, workspaces, cwd, ledger, outside)
            except _OtherMounts as other:
                wrong = str(other)
        fail(f"the fence did not come up as it should, {TRIES} times: {wrong}. Something changes while it is looked at: in the "
             "workspace, or disks are mounted", "end the other sessions in this workspace, and start again")  # fmt: skip
    finally:
        ledger.close()


def last_look(watch: Watch, interrupted: Interrupted | None = None) -> list[Blocked]:
    """What the watch put aside, see watch.py. Whatever stops it: what it has found is told, and that it was stopped."""
    try:
        watch.stop() if interrupted is None else watch.look_back(interrupted.began, interrupted.ended)
    except Exception as error:
        note(f"not everything that a session left here could be looked at ({type(error).__name__}: {error}). Look for new "
             "hooks and settings of git's before you use git here")  # fmt: skip
    return watch.blocked


def look_back(workspaces: list[str], interrupted: Interrupted) -> None:
    """What the last session here would have been told at its end, had it come to one; in what it could write, too."""
    then = [path for path in interrupted.workspaces if isdir(path) and realpath(path) == path]
    watch = Watch(list(dict.fromkeys([*workspaces, *then])), {}, {}, interrupted.known)
    told(f"the last session here was cut short and had made {path}; {what}. It is now called {new}"
         for path, what, new in last_look(watch, interrupted))  # fmt: skip


class _OtherMounts(Exception):
    """What is mounted behind the fence is not what was to be, before anything ran there: a container was started just then, a
    disk plugged in, or another session puts links in the place of directories. The words say what."""


def _run(
    config: FenceConfig, options: Options, enforced: dict[str, object], found: Survey, places: Places,
    workspaces: list[str], cwd: str, ledger: Ledger, outside: list[str],
) -> int:  # fmt: skip
    claude, *rest = options.command
    root = os.getuid() == 0
    # By the user's own hand, and without a session. Not `mcp` or `doctor`: they start the servers that a session wrote
    # down in its configuration.
    fetches = not options.server and rest[:1] != [] and rest[0] in FETCHING
    own_network = not config.domains and not fetches
    addresses = reached_from_inside(config, places, options.server, os.environ) if own_network else []
    for_commands = plan.proxy_port(port for _, port in addresses) if own_network and config.inner else None
    offered = [*addresses, *([("127.0.0.1", for_commands)] if for_commands is not None else [])]
    settings = plan.session_settings(
        enforced, inner=config.inner, outer=True, root=root,
        writable=[path for path in [*found.fence.writable, *found.fence.pinned]
                  if path != places.config_dir and not any(plan.covers(each, path) for each in workspaces)],
        allowed=[*config.domains, *(f"{host}:{port}" for port in config.ports for host in ("127.0.0.1", "localhost"))],
        sockets=bool(config.sockets), proxy=for_commands,
    )  # fmt: skip
    runtime_dir = f"/run/user/{plan.MAPPED_UID if root else os.getuid()}"
    env = session_environment(config, options.sandbox_bin) | {"XDG_RUNTIME_DIR": runtime_dir}
    # The session knows a stand-in only: the relay puts the token in its place on the way to the server.
    swap = None
    if own_network and (token := env.get("ANTHROPIC_AUTH_TOKEN")):
        env["ANTHROPIC_AUTH_TOKEN"] = os.urandom(32).hex()
        swap = (env["ANTHROPIC_AUTH_TOKEN"].encode(), token.encode())
    rules = seccomp.program(os.uname().machine)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    os.set_inheritable(theirs.fileno(), True)
    inside = join(dirname(abspath(__file__)), "inside.py")
    words = plan.command(
        config.bwrap, found.fence, cwd, own_network=own_network, runtime_dir=runtime_dir,
        seccomp=memory_file("seccomp", rules) if rules is not None else None,
        accounts=account_files(places.home) if root else None, empty=empty_files(),
    )  # fmt: skip
    words += [abspath(sys.executable), "-I", "-S", inside, str(theirs.fileno()),
              ",".join(f"{host} {port}" for host, port in offered),
              claude, "--settings=" + json.dumps(settings), *rest]  # fmt: skip
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD, *PASSED_ON})
    ran_before = programs_named(found.fence.guarded)
    mounts_before = mounts_of("self")
    bubblewrap = start(words, env)
    theirs.close()
    wanted = {name: getattr(found.fence, name) for name in remount.KINDS}
    helper = remount.Helper({**wanted, "blanked": [*found.fence.blanked, *found.passing]}, found.late)
    elsewhere = [*outside, places.config_dir]
    watch = Watch(workspaces, found.unwanted, found.links, found.repositories, found.unguarded, ledger, elsewhere)
    sockets, process = receive(ours, len(offered))
    if process is None:
        helper.end()
        status = os.waitstatus_to_exitcode(os.waitpid(bubblewrap, 0)[1])
        fail(f"bubblewrap cannot set up the outer fence (exit {status}; its words are above)", PROVISION)
    everything = first_process(process)
    kept = helper.keep(process)
    say_what_is_open(kept, found.passing)
    for _ in range(5):
        passing = [*found.passing, *found.late]
        wrong = mount_check.difference(mounts_of("self"), mounts_of(process), found.fence, passing, mounts_before)
        if wrong is None:
            break
        # A file that was replaced just now is covered again in a moment.
        time.sleep(0.02)
    if wrong:
        ours.close()
        helper.end()
        os.waitpid(bubblewrap, 0)
        raise _OtherMounts(wrong)
    ours.send(b"1")
    if for_commands is not None:
        proxy(sockets.pop(), config.ports)
    for listener, address in zip(sockets, addresses, strict=True):
        relay(listener, address, swap=swap if address == server_address(options.server) else None)
    watch.start()
    status = wait(bubblewrap, process)
    # bubblewrap does not wait for what the session has left in the background.
    if everything is not None and not select.select([everything], [], [], GONE)[0]:
        note(
            "something that this session started cannot be ended, and may still write in the workspace: look for it with ps"
        )
    # Before the stubs are cleared away: it would make them again.
    to_the_end, doubtful = helper.end()
    if kept.mounts and not to_the_end:
        note(
            "what keeps this session's fence whole ended before it: files that other programs replaced meanwhile had no guard"
        )
    told(f"while this session ran, {path} was removed or replaced outside, and lost its guard: the session can have "
          "changed it. Read it before you use it" for path in doubtful if kept.mounts)  # fmt: skip
    told(f"this session made {path}; {what}. It is now called {new}" for path, what, new in last_look(watch))
    for path, programs in programs_named(found.fence.guarded).items():
        if new_ones := programs - ran_before.get(path, set()):
            note(f"while this session ran, {path} came to name what git runs or obeys: {', '.join(sorted(new_ones))}. "
                 "If that was not you, take it out before you use git here")  # fmt: skip
    told(f"while this session ran, {path} changed or came here, which git runs or obeys. Read it before you use git there"
         for path in dict.fromkeys(watch.changed))  # fmt: skip
    told(f"this session made git say nothing of changes to {', '.join(names[:5])}{' and more' * (len(names) > 5)} ({git_dir}). "
         "To see them again: git update-index --no-skip-worktree --no-assume-unchanged NAME"
         for git_dir, names in watch.hidden.items())  # fmt: skip
    told(f"{path} is too large, or closed to reading, to look for repositories that this session made deep in it: git would "
         "run their hooks" for path in watch.unseen)  # fmt: skip
    return status if status >= 0 else 128 - status


def tell_of_the_model(options: Options) -> None:
    """Wait for the server, and put what Claude Code has to know of the model into the environment and the command."""
    known = model.server_answer(options.answer)
    if known is None:
        fail(f"llama-server at {options.server} does not say how large its context window is", PROVISION)
    tools = model.tools_of(options.profiles, options.profile)
    if any(word == "--tools" or word.startswith("--tools=") for word in before_dashes(options.command)):
        tools = []
    for name, value in model.defaults(known, tools).items():
        if not os.environ.get(name):
            os.environ[name] = value
    if tools:
        options.command.insert(1, "--tools=" + ",".join(tools))


def check_programs(config: FenceConfig) -> None:
    """What the fences are made of; Claude Code's own words for a missing socat would name no way out."""
    if config.outer and not isfile(config.bwrap):
        fail(f"the fence cannot be set up: {config.bwrap} is missing", PROVISION)
    for name, program in (("bwrap", config.bwrap), ("socat", system_program("socat"))) if config.inner else ():
        if program is None or not os.access(program, os.X_OK):
            fail(f"the fence around commands cannot be set up: {name} is not installed", PROVISION)


def main(argv: list[str]) -> int:
    # Ignored by who called, it would take the ends of our own children away.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    options = arguments(argv)
    if options.answer:
        tell_of_the_model(options)
    # From here on there is something to put away at an interruption.
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config = read_config(options.config)
    enforced = read_settings(options.settings)
    if options.unfenced:
        config = FenceConfig(layers=())
        note("no fence for this call: everything you may do, the session may do")
        without_outer(config, options, enforced)
    if not config.layers:
        fail(
            f"no fence can be set up on this machine: {config.reason or 'no reason is known'}",
            "./provision verify   names what is missing; claude-local --unfenced   does without, for one call",
        )
    check_programs(config)
    if config.outer:
        try:
            return fenced(config, options, enforced)
        except WorkspaceRefused as refused:
            fail(str(refused), refused.fix)
        except OSError as error:
            fail(f"the fence cannot be set up: {error}", "cd to a directory that is there, and start again")
    why = config.reason or "fence.json says no more"
    note(f"one layer of the fence only ({layers_name(config)}): {why}")
    if os.getuid() == 0:
        note("as root this layer does not keep commands from the kernel's settings: work as an ordinary user")
    without_outer(config, options, enforced)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
