"""What ``fence_sockets`` opens: a real ssh-agent, asked from a sandboxed command, and signed commits with and without
it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import create_server

import pytest

from tests.integration.fenced_home import Person, person
from tests.integration.machine import need
from tests.integration.test_fence_workspaces import commands

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("claude_code")]


@pytest.fixture(scope="module", params=["root", "ordinary"])
def somebody(request: pytest.FixtureRequest) -> Iterator[Person]:
    with person(request.param) as who:
        who.sh("mkdir -m 700 .ssh && ssh-keygen -q -t ed25519 -N '' -C the-key -f .ssh/id_ed25519", who.home)
        who.write(who.home / ".ssh" / "known_hosts", "known.example ssh-ed25519 AAAA\n")
        yield who


@contextmanager
def agent(who: Person, socket: Path) -> Iterator[str]:
    """An ssh-agent of theirs that holds their key; the path of its socket."""
    said = who.sh(f"eval $(ssh-agent -s -a '{socket}') >&2; ssh-add -q .ssh/id_ed25519; echo $SSH_AGENT_PID", who.home)
    try:
        yield str(socket)
    finally:
        os.kill(int(said), signal.SIGTERM)


@pytest.fixture(params=["/tmp", ".ssh", "."])
def socket(somebody: Person, request: pytest.FixtureRequest) -> Iterator[str]:
    """The agent's socket in a directory that sessions see empty, in one that is hidden, and in the home directory."""
    directory = Path(tempfile.mkdtemp(prefix="agent-", dir=somebody.home / request.param))
    try:
        with agent(somebody, somebody.own(directory) / "s") as path:
            yield path
    finally:
        # The agent, too, removes its socket at its end.
        shutil.rmtree(directory, ignore_errors=True)


def test_a_command_asks_the_agent_where_that_is_wanted_and_reads_no_key(somebody: Person, socket: str) -> None:
    work = somebody.workspace(Path(socket).parent.name + " work")
    lines = ("ssh-add -l", "cat ~/.ssh/known_hosts ~/.ssh/id_ed25519.pub", "cat ~/.ssh/id_ed25519")
    with somebody.fence_with(sockets=["ssh-agent"]):
        listed, public, private = commands(somebody, work, *lines, SSH_AUTH_SOCK=socket)
    assert "the-key" in listed
    assert "known.example" in public and "the-key" in public
    assert "No such file" in private and "BEGIN" not in private
    listed, public, private = commands(somebody, work, *lines, SSH_AUTH_SOCK=socket)
    assert "the-key" not in listed and "known.example" not in public and "BEGIN" not in private


SIGNS = """
git init -q && git config commit.gpgSign true && git config tag.gpgSign true
git config gpg.format {form} && git config user.signingKey {key}
"""
COMMIT = "git add -A && git commit -q -m {0} --allow-empty && git tag -m x {0} && git cat-file commit HEAD"


@pytest.mark.parametrize(("form", "key"), [("openpgp", "ABCDEF0123456789"), ("ssh", "~/.ssh/id_ed25519.pub")])
def test_commits_that_are_to_be_signed_are_made_unsigned(somebody: Person, form: str, key: str) -> None:
    """The keys are hidden; without more, git would refuse to commit at all."""
    work = somebody.workspace(f"unsigned {form}")
    somebody.sh(SIGNS.format(form=form, key=key), work)
    (said,) = commands(somebody, work, COMMIT.format("one"))
    assert "author Ada" in said and "SIGNATURE" not in said


def test_with_the_agent_they_are_signed(somebody: Person, socket: str) -> None:
    work = somebody.workspace(Path(socket).parent.name + " signed")
    somebody.sh(SIGNS.format(form="ssh", key="~/.ssh/id_ed25519.pub"), work)
    with somebody.fence_with(sockets=["ssh-agent"]):
        (said,) = commands(somebody, work, COMMIT.format("one"), SSH_AUTH_SOCK=socket)
    assert "BEGIN SSH SIGNATURE" in said


@contextmanager
def ssh_server(who: Person) -> Iterator[int]:
    """An sshd on 127.0.0.1 that lets them in with their key, and that they know; its port."""
    need(sshd="openssh-server")
    with create_server(("127.0.0.1", 0)) as reserved:
        port = int(reserved.getsockname()[1])
    who.sh("mkdir sshd && ssh-keygen -q -t ed25519 -N '' -f sshd/host && cp .ssh/id_ed25519.pub sshd/keys", who.home)
    own = who.home / "sshd"
    text = (
        f"ListenAddress 127.0.0.1:{port}\nHostKey {own}/host\nAuthorizedKeysFile {own}/keys\n"
        "StrictModes no\nPidFile none\n"
    )
    who.write(own / "conf", text)
    kind, key = (own / "host.pub").read_text().split()[:2]
    who.write(who.home / ".ssh" / "known_hosts", f"known.example ssh-ed25519 AAAA\n[127.0.0.1]:{port} {kind} {key}\n")
    Path("/run/sshd").mkdir(exist_ok=True)
    words = ["/usr/sbin/sshd", "-D", "-e", "-f", str(own / "conf")]
    with subprocess.Popen(words, preexec_fn=who.become, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None and "listening" in server.stderr.readline()
            yield port
        finally:
            server.terminate()


def test_git_pushes_over_ssh_with_the_agent_and_the_hosts_name(somebody: Person) -> None:
    work = somebody.workspace("push")
    somebody.sh("git init -q --bare remote.git", somebody.home)
    with ssh_server(somebody) as port, agent(somebody, somebody.home / "push.sock") as path:
        remote = f"ssh://{somebody.name}@127.0.0.1:{port}{somebody.home}/remote.git"
        somebody.sh(f"git init -q && git remote add origin '{remote}'", work)
        push = "git commit -q --allow-empty -m x; git push origin HEAD 2>&1"
        with somebody.fence_with(sockets=["ssh-agent"], domains=[f"127.0.0.1:{port}"]):
            (said,) = commands(somebody, work, push, SSH_AUTH_SOCK=path)
    assert "[new branch]" in said, said


def test_with_gpgs_agent_they_are_signed_and_its_keys_stay_hidden() -> None:
    with person("ordinary", "claude-local-gpg") as who:
        # Where systemd has it; gpg puts its sockets there.
        runtime = Path(f"/run/user/{who.uid}")
        runtime.mkdir(parents=True, mode=0o700)
        try:
            who.own(runtime)
            who.sh(
                "mkdir -m 700 .gnupg && gpg --batch --passphrase '' --quick-gen-key ada@example.org ed25519 sign 0",
                who.home,
            )
            work = who.workspace("signed by gpg")
            who.sh(SIGNS.format(form="openpgp", key="ada@example.org"), work)
            with who.fence_with(sockets=["gpg-agent"]):
                said, listed = commands(who, work, COMMIT.format("one"), "ls ~/.gnupg", XDG_RUNTIME_DIR=str(runtime))
            who.sh("gpgconf --kill gpg-agent", who.home)
        finally:
            shutil.rmtree(runtime, ignore_errors=True)
    assert "BEGIN PGP SIGNATURE" in said
    assert "pubring.kbx" in listed and "private-keys-v1.d" not in listed
