"""Runs Claude Code behind the outer fence: sets it up, checks its mounts, serves its ports, waits and reports."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from os.path import abspath, dirname, join
from socket import socket

from claude_local.fence import bubblewrap, mount_check, plan, remount, seccomp
from claude_local.fence.claude_sandbox import ClaudeSandbox, session_settings
from claude_local.fence.config import FenceConfig
from claude_local.fence.config_copies import ConfigCopies
from claude_local.fence.environment import session_environment
from claude_local.fence.files import realpath
from claude_local.fence.ledger import Ledger
from claude_local.fence.messages import PROVISION, fail, note
from claude_local.fence.network import Network, server_address, session_network
from claude_local.fence.options import Options, asks_for_worktree, prints
from claude_local.fence.prepare import (
    add_config_dir,
    add_writable_paths,
    close_sockets,
    make_worktree_directory,
    requested_workspaces,
    session_places,
    survey_home,
    survey_workspaces,
    writable_workspaces,
)
from claude_local.fence.proxy import proxy
from claude_local.fence.refusals import RefusedHosts
from claude_local.fence.relay import relay
from claude_local.fence.server_requests import filter_for, manager_filter
from claude_local.fence.session_report import (
    look_back,
    report_changes,
    report_configs,
    report_guards,
    report_watch,
    report_weaknesses,
)
from claude_local.fence.stubs import make_stubs
from claude_local.fence.survey import Places, Survey
from claude_local.fence.unwanted import FilteredErrors
from claude_local.fence.watch import Watch

# How often the fence is set up anew when its mounts are not as planned.
TRIES = 3
# How often, and after how many seconds, the mounts are checked again: a file that was replaced just now is covered
# again in a moment.
CHECKS, CHECK_PAUSE = 5, 0.02


class MountsChanged(Exception):
    """The mounts behind the fence are not as planned, and nothing runs there yet. A container was started just then, a
    disk was mounted, or another session replaces directories with links. The message says which mount."""


@dataclass
class FencedSession:
    """One session behind the outer fence. ``git_dirs``: the git directories that it may write."""

    config: FenceConfig
    options: Options
    enforced: dict[str, object]
    cwd: str
    places: Places
    workspaces: list[str]
    survey: Survey
    ledger: Ledger
    git_dirs: list[str] = field(default_factory=list)

    @property
    def as_root(self) -> bool:
        return os.getuid() == 0

    @property
    def uid(self) -> int:
        """The user id that the session sees as its own."""
        return plan.MAPPED_UID if self.as_root else os.getuid()

    @property
    def runtime_dir(self) -> str:
        return f"/run/user/{self.uid}"


def run_fenced(config: FenceConfig, options: Options, enforced: dict[str, object]) -> int:
    """Run Claude Code behind the outer fence, with the inner one where it works; its exit status.

    Raises WorkspaceRefused, and OSError when the fence cannot be set up.
    """
    # As the kernel knows it: a path with links could lead elsewhere a moment later.
    cwd = os.getcwd()
    places = session_places(options)
    requested = requested_workspaces(options, cwd)
    survey = survey_home(config, places, requested)
    workspaces = writable_workspaces(survey, places, requested, required=bool(options.server))
    if workspaces and asks_for_worktree(options.command[1:]):
        make_worktree_directory(workspaces[0])
    ledger = Ledger(options.state, cwd)
    try:
        session = FencedSession(config, options, enforced, cwd, places, workspaces, survey, ledger)
        if ledger.interrupted is not None:
            look_back(workspaces, ledger.interrupted)
        guard(session)
        for remark in survey.remarks:
            note(remark)
        return start_and_wait(session)
    finally:
        ledger.close()


def guard(session: FencedSession) -> None:
    """Complete the session's survey, and make the stubs that its mounts need."""
    survey, places, config = session.survey, session.places, session.config
    session.git_dirs = survey_workspaces(survey, session.workspaces, places, session.ledger.recorded())
    add_config_dir(survey, places)
    add_writable_paths(survey, config, places)
    survey.settle([*survey.fence.rw_bind, *session.git_dirs])
    close_sockets(survey, config)
    stubs = [*survey.fence.stub_directories, *survey.fence.stub_files, *survey.leftovers]
    session.ledger.record(stubs, [*survey.repositories, *survey.existing_files], session.workspaces)
    make_stubs(survey.fence.stub_files)


def start_and_wait(session: FencedSession) -> int:
    """Start the session, again where its mounts are not as planned; Claude Code's exit status."""
    wrong = ""
    for _ in range(TRIES):
        try:
            return run_once(session)
        except MountsChanged as changed:
            wrong = str(changed)
    fail(
        f"the fence could not be set up: its mounts changed {TRIES} times in a row ({wrong}). Something changes the "
        "workspace or mounts disks meanwhile",
        "end the other sessions in this workspace, and start again",
    )


@dataclass
class Running:
    """A fence that is up. ``process``: bubblewrap's process id. ``claude``: Claude Code's. ``first``: see
    bubblewrap.first_process. ``sockets``: the session's listening sockets. ``errors``: its standard error, with -p."""

    process: int
    claude: int
    first: int | None
    sockets: list[socket]
    remounter: remount.Remounter
    protection: remount.Protection
    errors: FilteredErrors | None
    copies: ConfigCopies


def run_once(session: FencedSession) -> int:
    """Set up the fence, run Claude Code behind it and report; its exit status. Raises MountsChanged."""
    survey = session.survey
    network = session_network(session.config, session.options, session.places)
    env, swap = environment_and_token(session, network)
    watch = Watch(
        session.workspaces, survey.forbidden, survey.symlinks, survey.repositories, survey.unguarded, session.ledger,
        [*session.git_dirs, session.places.config_dir],
    )  # fmt: skip
    running = set_up(session, network, env)
    refused = RefusedHosts(env["CLAUDE_LOCAL_REFUSED"])
    serve(session, network, running.sockets, swap, refused)
    watch.copies = running.copies
    watch.start()
    status = bubblewrap.wait(running.process, running.claude)
    refused.close()
    if not bubblewrap.are_gone(running.first):
        note(
            "a process that this session started cannot be killed and may still write in the workspace: "
            "look for it with ps"
        )
    if running.errors:
        running.errors.close()
    # Before the ledger removes the stubs: it would make them again.
    complete, unguarded = running.remounter.stop()
    if running.protection.remounts:
        report_guards(complete, unguarded)
    report_watch(watch)
    report_configs(running.copies)
    report_changes(watch)
    return status if status >= 0 else 128 - status


def set_up(session: FencedSession, network: Network, env: dict[str, str]) -> Running:
    """Start bubblewrap, check the mounts behind it, and let inside.py become Claude Code. Raises MountsChanged."""
    survey = session.survey
    copies = ConfigCopies([path for path in survey.git_configs if path in survey.fence.ro_bind])
    ours, theirs = bubblewrap.control_sockets()
    argv = bubblewrap_argv(session, network, theirs)
    mounts_before = bubblewrap.mounts_of("self")
    errors = FilteredErrors() if prints(session.options.command[1:]) else None
    process = bubblewrap.start(argv, env, errors.writing if errors else 2)
    theirs.close()
    if errors:
        errors.close_writing()
    # Forked while bubblewrap works, and before there are threads.
    remounter = start_remounting(survey, copies.links)
    if errors:
        errors.start()
    message = bubblewrap.receive(ours, len(network.listeners))
    if message is None:
        remounter.stop()
        status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        if errors:
            errors.close()
        fail(f"bubblewrap cannot set up the outer fence (exit {status}; its own message is above)", PROVISION)
    first = bubblewrap.first_process(message.process)
    copies.make(message.process)
    protection = remounter.attach(message.process)
    report_weaknesses(protection, survey.masked_sockets)
    if wrong := wrong_mount(survey, [*copies.links], message.process, mounts_before):
        ours.close()
        remounter.stop()
        os.waitpid(process, 0)
        raise MountsChanged(wrong)
    ours.send(b"1")
    ours.close()
    return Running(process, message.process, first, message.sockets, remounter, protection, errors, copies)


Swap = tuple[bytes, bytes]


def environment_and_token(session: FencedSession, network: Network) -> tuple[dict[str, str], Swap | None]:
    """The session's environment, and the stand-in for the token in it with the token itself.

    With a network namespace of its own the session knows only the stand-in, and the relay puts the token in its place.
    """
    # Hooks for the next sessions could be planted in the first, and Claude Code trusts its temporary files.
    temporary = [session.runtime_dir, *filter(None, [os.environ.get("CLAUDE_CODE_TMPDIR")])]
    read_only = [session.places.config_dir, *(join(path, f"claude-{session.uid}") for path in temporary)]
    env = session_environment(session.config, session.options.sandbox_bin, read_only) | {
        "XDG_RUNTIME_DIR": session.runtime_dir,
        "CLAUDE_LOCAL_REFUSED": join(dirname(session.options.state), "refused", str(os.getpid())),
    }
    choose_tmpdir(env, session)
    token = env.get("ANTHROPIC_AUTH_TOKEN")
    if not (network.own_namespace and token):
        return env, None
    stand_in = os.urandom(32).hex()
    return env | {"ANTHROPIC_AUTH_TOKEN": stand_in}, (stand_in.encode(), token.encode())


def choose_tmpdir(env: dict[str, str], session: FencedSession) -> None:
    """Set the directory of Claude Code's own temporary files and sockets: the user's, if the session can write there,
    else its runtime directory. /tmp is for commands."""
    env["TMPDIR"] = session.runtime_dir
    value = env.setdefault("CLAUDE_CODE_TMPDIR", session.runtime_dir)
    if value != session.runtime_dir and not any(
        plan.covers(each, realpath(value)) for each in session.survey.fence.rw_bind
    ):
        note(f"CLAUDE_CODE_TMPDIR is ignored: a session cannot write to {value} (the setting fence_writable allows it)")
        env["CLAUDE_CODE_TMPDIR"] = session.runtime_dir


def claude_settings(session: FencedSession, network: Network) -> dict[str, object]:
    """The settings that Claude Code gets with ``--settings``."""
    config = session.config
    ports = [f"{host}:{port}" for port in config.ports for host in ("127.0.0.1", "localhost")]
    sandbox = ClaudeSandbox(
        enabled=config.inner, files=False, weaker_nested=session.as_root,
        allowed_domains=[*config.domains, *ports], all_unix_sockets=bool(config.sockets), proxy_port=network.proxy_port,
        auto_allow=config.auto_allow,
    )  # fmt: skip
    return session_settings(session.enforced, sandbox)


def bubblewrap_argv(session: FencedSession, network: Network, control: socket) -> list[str]:
    """The whole command: bubblewrap, inside.py in it, and Claude Code. ``control``: inside.py's end of the control
    socket."""
    claude, *arguments = session.options.command
    rules = seccomp.program(os.uname().machine, session.as_root)
    argv = plan.bubblewrap_argv(
        session.config.bwrap, session.survey.fence, session.cwd, own_network=network.own_namespace,
        runtime_dir=session.runtime_dir,
        seccomp=bubblewrap.memory_file("seccomp", rules) if rules is not None else None,
        accounts=bubblewrap.account_files(session.places.home) if session.as_root else None,
        empty=bubblewrap.empty_files(), ignore=bubblewrap.ignore_files(),
    )  # fmt: skip
    inside = join(dirname(abspath(__file__)), "inside.py")
    addresses = ",".join(f"{host} {port}" for host, port in network.listeners)
    return [
        *argv, abspath(sys.executable), "-I", "-S", inside, str(control.fileno()), addresses,
        claude, "--settings=" + json.dumps(claude_settings(session, network)), *arguments,
    ]  # fmt: skip


def start_remounting(survey: Survey, links: Mapping[str, str]) -> remount.Remounter:
    """Start the process that keeps the session's mounts up. ``links``: see remount.Remounter."""
    mounts = {kind: getattr(survey.fence, kind) for kind in remount.KINDS}
    mounts["masked_files"] = [*survey.fence.masked_files, *survey.masked_sockets]
    return remount.Remounter(mounts, survey.future_secrets, links)


def wrong_mount(survey: Survey, links: Sequence[str], claude: int, before: str) -> str | None:
    """What is mounted behind the fence and should not be, or the other way round; None when all is as planned.
    ``links``: where symlinks may be mounted. ``before``: the launcher's mountinfo from before bubblewrap started."""
    passing, wrong = [*survey.masked_sockets, *survey.future_secrets, *links], None
    for _ in range(CHECKS):
        outside, inside = bubblewrap.mounts_of("self"), bubblewrap.mounts_of(claude)
        wrong = mount_check.find_problem(outside, inside, survey.fence, passing, before)
        if wrong is None:
            break
        time.sleep(CHECK_PAUSE)
    return wrong


def serve(
    session: FencedSession, network: Network, sockets: list[socket], swap: Swap | None, refused: RefusedHosts
) -> None:
    """Answer the sockets that inside.py listens on, as many as ``network.listeners``."""
    listeners = list(sockets)
    server = server_address(session.options.server)
    # llama-server's also when this session uses another server or none.
    server_ports = {server[1], session.config.server_port}
    filters = dict.fromkeys(server_ports, filter_for(None))
    filters |= {session.config.manager_port: manager_filter(swap[1] if swap else None, os.getpid())}
    if network.proxy_port is not None:
        proxy(listeners.pop(), session.config.ports, filters, refused.add)
    for listener, address in zip(listeners, network.addresses, strict=True):
        request = filter_for(swap) if address == server else filters.get(address[1])
        relay(listener, address, request=request)
