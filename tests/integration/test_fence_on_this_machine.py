"""The fence's probe with the real bubblewrap: on this machine, and in surroundings that are made bad for real."""

from __future__ import annotations

import io
import json
import os
import shlex
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from claude_local.deploy.facts.fence import FenceExperiments, FenceRootView
from claude_local.deploy.operations.fence import COPY_SCRIPT
from claude_local.fence import apparmor
from claude_local.fence.config import INNER, OUTER
from claude_local.fence.probe import BOTH, COPY, Decision, SetSysctls, Symptoms, decide
from claude_local.paths import Paths
from tests.integration.accounts import sudoer
from tests.integration.machine import docker, need

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("docker_daemon")]

PROJECT = Path(__file__).parents[2]

# A bubblewrap that allows no further user namespace, as a sandbox around the whole system does.
NO_MORE_NAMESPACES = [
    "bwrap", "--unshare-user", "--disable-userns",
    "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp",
]  # fmt: skip


@pytest.fixture(scope="module")
def account() -> Iterator[str]:
    with sudoer("fence-on-this"):
        yield "fence-on-this"


def look(*surroundings: str) -> tuple[Symptoms, Decision]:
    """What the deploy's two facts see in ``surroundings`` (a command that runs the words after it)."""
    seen, view = (_asked(fact, surroundings) for fact in (FenceExperiments(), FenceRootView()))
    whole = replace(seen, apparmor=view.apparmor, settable=view.settable)
    return whole, decide(whole)


def _asked(fact: FenceExperiments | FenceRootView, surroundings: tuple[str, ...]) -> Any:
    command = fact.command().get_raw_value()
    done = subprocess.run(
        [*surroundings, "sh", "-c", command],
        cwd="/", capture_output=True, text=True, check=False, timeout=120, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0 and done.stderr == "", done.stderr
    return fact.process(done.stdout.splitlines()) if done.stdout else fact.default()


def as_user(name: str) -> list[str]:
    return ["sudo", "-u", name, "-H"]


def with_limits(**limits: int) -> list[str]:
    """A user namespace of its own, where the kernel's limits on namespaces are ``limits``."""
    settings = "".join(f"echo {value} >/proc/sys/user/max_{kind}_namespaces; " for kind, value in limits.items())
    return ["unshare", "--user", "--map-root-user", "sh", "-c", f'{settings} exec "$@"', "sh"]


def running(account: str) -> list[str]:
    """The processes of ``account`` that have not ended (those that only wait to be buried have)."""
    command = ["ps", "-o", "stat=,args=", "-u", account]
    lines = subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()
    return [line for line in lines if not line.startswith("Z")]


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.1)


# --- this machine


def test_root_gets_both_fences() -> None:
    seen, decision = look()
    assert seen.uid == 0 and decision.complete, decision
    assert decision.actions == ()


def test_an_ordinary_user_gets_both_fences_and_the_probe_leaves_nothing(account: str) -> None:
    before = set(Path("/tmp").iterdir())
    seen, decision = look(*as_user(account))
    assert seen.uid != 0 and decision.complete, decision
    wait_until(lambda: not running(account))
    assert [path for path in set(Path("/tmp").iterdir()) - before if path.lstat().st_uid == seen.uid] == []


def test_a_machine_whose_var_tmp_is_a_link_gets_both_fences(tmp_path: Path) -> None:
    """As hardening guides have it: bubblewrap mounts nothing over a link."""
    (tmp_path / "tmp").symlink_to("/tmp")
    _, decision = look("unshare", "--mount", "sh", "-c", 'mount --bind "$0" /var && exec "$@"', str(tmp_path))
    assert decision.complete, decision


def test_a_bubblewrap_that_lacks_what_one_fence_needs_is_noticed(tmp_path: Path) -> None:
    """A bubblewrap that lacks what one of the fences needs: the probe tries it, so it notices."""
    for lost, broken in (("--perms", OUTER), ("--new-session", INNER)):
        program = tmp_path / f"without{lost}"
        program.write_text(
            f'#!/bin/sh\nfor word do if test "$word" = {lost}; then\n'
            f'echo "bwrap: Unknown option {lost}" >&2; exit 1; fi; done\nexec /usr/bin/bwrap "$@"\n'
        )
        program.chmod(0o755)
        fact = FenceExperiments()
        command = fact.command(bwrap=str(program)).get_raw_value()
        done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True, timeout=120)
        found = fact.process(done.stdout.splitlines()).distribution
        assert found is not None and not found.results[broken].works and not found.results[BOTH].works
        assert "Unknown option" in found.results[broken].stderr
        other = OUTER if broken == INNER else INNER
        assert found.results[other].works, found.results[other]


# --- bad surroundings, made for real


@pytest.mark.parametrize("who", ["root", "user"])
def test_inside_a_sandbox_that_allows_no_user_namespaces(who: str, account: str) -> None:
    words = NO_MORE_NAMESPACES if who == "root" else [*as_user(account), *NO_MORE_NAMESPACES]
    _, decision = look(*words)
    assert decision.layers == () and decision.actions == ()
    assert "forbids it user namespaces" in decision.reason and "ENOSPC" in decision.reason


@pytest.mark.parametrize("who", ["root", "user"])
def test_with_the_limit_on_user_namespaces_at_nought(who: str, account: str) -> None:
    words = with_limits(user=0) if who == "root" else [*as_user(account), *with_limits(user=0)]
    _, decision = look(*words)
    assert decision.layers == () and "user.max_user_namespaces = 0" in decision.reason
    assert decision.actions == (SetSysctls({"user.max_user_namespaces": "16384"}),)


def test_only_the_inner_fence_is_possible_where_ipc_namespaces_are_off() -> None:
    _, decision = look(*with_limits(ipc=0))
    assert decision.layers == (INNER,) and "user.max_ipc_namespaces = 0" in decision.reason


def test_only_the_outer_fence_is_possible_where_namespaces_do_not_nest_deep_enough() -> None:
    """bubblewrap makes two user namespaces each time, and Claude Code's helper one more: each fence alone needs
    four."""
    _, decision = look(*with_limits(user=5))
    assert decision.layers == (OUTER,) and "the inner fence does not work inside the outer one" in decision.reason
    assert look(*with_limits(user=3))[1].reason.startswith("the inner fence does not work: ")


def test_what_the_decision_asks_for_helps() -> None:
    """The whole way in one namespace: the limit is nought, the setting is made, both fences work."""
    action = decide(look(*with_limits(user=0))[0]).actions[0]
    assert isinstance(action, SetSysctls)
    helped = ["sysctl", "--quiet", *(f"{name}={value}" for name, value in action.values.items())]
    after = [*with_limits(user=0), "sh", "-c", f'{shlex.join(helped)} >&2; exec "$@"', "sh"]
    assert look(*after)[1].complete


@pytest.fixture(scope="module")
def image() -> Iterator[str]:
    """An image with nothing in it but the places where this machine's /usr goes."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name in ("usr", "etc", "proc", "sys", "dev", "run", "tmp", "var/tmp"):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if "tmp" in name else 0o755
            tar.addfile(entry)
        for name in ("bin", "sbin", "lib", "lib64"):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, f"usr/{name}"
            tar.addfile(entry)
        for name in ("etc/passwd", "etc/group"):
            tar.addfile(tarfile.TarInfo(name))
    tag = "claude-local-test/fence"
    subprocess.run([docker(), "import", "-", tag], input=archive.getvalue(), check=True, timeout=120, stdout=2)
    yield tag
    subprocess.run([docker(), "rmi", tag], check=False, timeout=120, stdout=2)


@pytest.mark.parametrize("user", ["0:0", "1234:1234"])
def test_a_container_without_nesting_says_how_to_start_it_and_that_works(image: str, user: str) -> None:
    started = [docker(), "run", "--rm", "--network", "none", "--user", user, "-v", "/usr:/usr:ro"]
    seen, decision = look(*started, image)
    assert seen.container == "docker" and decision.layers == () and decision.actions == ()
    assert "container (docker) may not make nested" in decision.reason
    (advice,) = decision.advice
    assert look(*started, *shlex.split(advice.partition(": ")[2]), image)[1].complete


# --- AppArmor


def test_this_machines_parser_compiles_our_profile(tmp_path: Path) -> None:
    need(apparmor_parser="apparmor")
    view = _asked(FenceRootView(), ())
    file = tmp_path / apparmor.NAME
    file.write_text(apparmor.profile(COPY, view.apparmor.abi_4))
    compiled = subprocess.run(
        ["apparmor_parser", "--skip-kernel-load", "--skip-cache", "--stdout", str(file)],
        capture_output=True, check=False, timeout=60,
    )  # fmt: skip
    assert compiled.returncode == 0, compiled.stderr.decode()
    assert apparmor.NAME.encode() in compiled.stdout
    named = subprocess.run(["apparmor_parser", "--names", str(file)], capture_output=True, text=True, check=True)
    assert named.stdout.split() == [apparmor.NAME], "one profile, under our own name"


def test_a_kernel_that_takes_no_profile_leaves_nothing_behind(tmp_path: Path) -> None:
    """In a user namespace nobody may load profiles, whatever this machine's kernel has."""
    copy, profile = tmp_path / "libexec/bwrap", tmp_path / "profile"
    text = apparmor.profile(str(copy), _asked(FenceRootView(), ()).apparmor.abi_4)
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "sh", "-c", COPY_SCRIPT, "sh", "/usr/bin/bwrap", copy, profile, text],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0 and "the kernel refuses our AppArmor profile" in done.stderr
    assert not copy.exists() and not profile.exists()


# --- the stage


def stage(home: Path, *surroundings: str) -> tuple[subprocess.CompletedProcess[str], dict[str, int]]:
    command = [str(Path(sys.executable).with_name("pyinfra")), "-y", "--json", "@local", "tasks/fence.py"]
    done = subprocess.run(
        [*surroundings, *command],
        cwd=PROJECT, env=os.environ | {"HOME": str(home)}, capture_output=True, text=True, check=False, timeout=120,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done, json.loads(done.stdout)["results"]["totals"]


def test_the_stage_writes_what_works_and_a_second_run_changes_nothing(tmp_path: Path) -> None:
    done, totals = stage(tmp_path)
    assert totals["success"] == 1 and "incomplete" not in done.stderr
    found = json.loads(Path(Paths(str(tmp_path), "", "").fence_config).read_text())
    assert found["layers"] == [OUTER, INNER] and found["ports"] == [8080, 8081]
    assert stage(tmp_path)[1]["success"] == 0


def test_where_nothing_helps_the_deploy_goes_on_and_says_why(tmp_path: Path) -> None:
    inside = list(NO_MORE_NAMESPACES)
    # Its /tmp is empty: what the stage needs of this project and of the test may lie there.
    for needed in (PROJECT, sys.prefix, tmp_path):
        inside += ["--bind", str(needed), str(needed)]
    done, totals = stage(tmp_path, *inside)
    assert totals["success"] == 1
    assert done.stderr.count("The fence is incomplete on this machine") == 1
    assert "forbids it user namespaces" in done.stderr and "refuse to start" in done.stderr
    found = json.loads(Path(Paths(str(tmp_path), "", "").fence_config).read_text())
    assert found["layers"] == [] and "forbids it user namespaces" in found["reason"]
    assert stage(tmp_path, *inside)[1]["success"] == 0
