"""People with claude-local in a home of their own: the real wrapper, the real Claude Code, their fence.json.

Root gets a temporary home, an ordinary user a throw-away account; both outside /tmp, where homes are in real life.
Nothing outside those homes is changed.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from claude_local.paths import Paths
from claude_local.verify import processes
from claude_local.verify.scripted_backend import ScriptedBackend
from tests.integration.accounts import sudoer
from tests.integration.tty import PROMPT, Tty

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "token-of-a-temporary-home"
SECONDS = 180.0  # the longest that any one program here may take; a guard, also on a busy machine


def real_claude() -> Path:
    """The installed Claude Code; skips, with the reason, where there is none."""
    own = Paths(home=str(Path.home()), model_dir="", bin_dir="")
    for candidate in (own.claude, own.native_claude):
        if os.access(candidate, os.X_OK):
            return Path(candidate).resolve()
    pytest.skip("Claude Code is not installed for this user: run tasks/claude.py first")


@dataclass
class Person:
    """Somebody with claude-local. ``uid`` 0 is root, else ``name`` is an account of this machine."""

    name: str
    uid: int
    gid: int
    home: Path
    paths: Paths = field(init=False)

    def __post_init__(self) -> None:
        self.paths = Paths(home=str(self.home), model_dir=str(self.home / "models"), bin_dir=str(self.home / "bin"))

    def become(self) -> None:
        """In a child that is about to run a program: be this person, also for the terminal it has."""
        if self.uid == 0:
            return
        if os.isatty(0):
            os.fchown(0, self.uid, self.gid)
        os.initgroups(self.name, self.gid)
        os.setgid(self.gid)
        os.setuid(self.uid)

    def own(self, path: Path) -> Path:
        """Give ``path`` and what is in it to this person."""
        if self.uid:
            subprocess.run(["chown", "-hR", f"{self.uid}:{self.gid}", str(path)], check=True, timeout=60)
        return path

    def write(self, path: Path, words: str = "", mode: int = 0o644) -> Path:
        """A file of theirs; its missing parent directories too."""
        first = path
        while not first.parent.exists():
            first = first.parent
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(words, encoding="utf-8")
        path.chmod(mode)
        self.own(first)
        return path

    def workspace(self, name: str, parent: Path | None = None) -> Path:
        """A new directory of theirs that they trust, in the home by default."""
        path = (parent or self.home) / name
        path.mkdir(parents=True)
        self.trust(path)
        return self.own(path)

    def environment(self, backend: ScriptedBackend | None = None, **more: str) -> dict[str, str]:
        """What a login session of theirs has; no trace of the session that runs these tests."""
        env = {
            "HOME": str(self.home),
            "USER": self.name,
            "LOGNAME": self.name,
            "SHELL": "/bin/bash",
            "LANG": "C.UTF-8",
            "TERM": "xterm-256color",
            "COLORTERM": "truecolor",
            "PATH": f"{self.paths.bin_dir}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        }
        if backend is not None:
            env["CLAUDE_LOCAL_SERVER"] = backend.url
        return env | more

    def run(
        self,
        argv: Sequence[str],
        cwd: Path,
        env: dict[str, str] | None = None,
        *,
        stdin: str | None = None,
        timeout: float = SECONDS,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program as this person. ``stdin``: its input; None is /dev/null."""
        given: dict[str, Any] = {"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}
        return subprocess.run(
            list(argv), cwd=cwd, env=env or self.environment(), preexec_fn=self.become, capture_output=True, text=True,
            check=False, timeout=timeout, errors="replace", **given,
        )  # fmt: skip

    def sh(self, script: str, cwd: Path, env: dict[str, str] | None = None) -> str:
        """Run a shell script as this person that must succeed; its output."""
        done = self.run(["bash", "-euc", script], cwd, env)
        assert done.returncode == 0, f"{script}: {done.stdout}{done.stderr}"
        return done.stdout

    def session(
        self, backend: ScriptedBackend, *arguments: str, cwd: Path, stdin: str | None = None, **more: str
    ) -> subprocess.CompletedProcess[str]:
        """``claude-local ARGUMENTS`` against the scripted backend."""
        return self.run(
            [self.paths.wrapper, *arguments], cwd, self.environment(backend, PWD=str(cwd), **more), stdin=stdin
        )

    def bash(
        self, backend: ScriptedBackend, cwd: Path, *arguments: str, **more: str
    ) -> subprocess.CompletedProcess[str]:
        """A session in which the script's commands and edits run without a question."""
        free = ("--permission-mode", "acceptEdits", "--allowedTools", "Bash,Write,Edit,Read")
        return self.session(backend, "-p", "go", *free, *arguments, cwd=cwd, **more)

    def at_terminal(self, backend: ScriptedBackend, *arguments: str, cwd: Path, **more: str) -> Tty:
        """``claude-local ARGUMENTS`` alone on a terminal of theirs."""
        env = self.environment(backend, PWD=str(cwd), **more)
        return Tty([self.paths.wrapper, *arguments], env=env, cwd=str(cwd), become=self.become)

    def shell(self, backend: ScriptedBackend, cwd: Path) -> Tty:
        """An interactive shell on a terminal of theirs, at its prompt."""
        env = self.environment(backend, PS1=PROMPT, PWD=str(cwd))
        tty = Tty(["/bin/bash", "--norc", "--noprofile", "-i"], env=env, cwd=str(cwd), become=self.become)
        tty.wait_for_shell(0)
        return tty

    def processes(self) -> dict[int, str]:
        """The processes in whose environment this home is, with their command lines."""
        found = {}
        for pid in processes.pids():
            with suppress(OSError):
                if f"HOME={self.home}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                    found[pid] = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        return found

    def claudes(self) -> list[int]:
        """The running Claude Code processes of this home: also a child that is about to become another program."""
        found = []
        for pid in self.processes():
            with suppress(OSError):
                if os.path.samefile(f"/proc/{pid}/exe", self.paths.claude):
                    found.append(pid)
        return found

    def claude(self) -> int:
        """The one running Claude Code of this home; its children are left out."""
        parents = parents_of(self.claudes())
        (one,) = (pid for pid, parent in parents.items() if parent not in parents)
        return one

    def assert_fenced(self) -> None:
        """Fail unless every Claude Code of this home has mounts and a network of its own."""
        checked = 0
        for pid in self.claudes():
            # A process that has ended since the list was made has no namespaces any more.
            with suppress(FileNotFoundError, ProcessLookupError):
                theirs = {kind: os.readlink(f"/proc/{pid}/ns/{kind}") for kind in ("mnt", "net", "pid")}
                shared = [kind for kind, name in theirs.items() if name == os.readlink(f"/proc/self/ns/{kind}")]
                assert not shared, f"{pid} has our {shared}"
                checked += 1
        assert checked, "no Claude Code is running"

    def wait_until_gone(self, seconds: float = 60, *, but: Sequence[int] = ()) -> None:
        """Wait until no process of this home is left; an AssertionError that names them."""
        until = time.monotonic() + seconds
        while left := {pid: words for pid, words in self.processes().items() if pid not in but}:
            assert time.monotonic() < until, f"after {seconds:.0f} s these still run: {left}"
            time.sleep(0.05)

    def hook(self, event: str, command: str) -> None:
        """Add a hook of the user's own to settings.json."""
        path = Path(self.paths.settings)
        known = json.loads(path.read_text())
        known.setdefault("hooks", {})[event] = [{"hooks": [{"type": "command", "command": command}]}]
        path.write_text(json.dumps(known))

    def deploy(self) -> None:
        """Run the stages that prepare a home: configuration, fence, command."""
        done = subprocess.run(
            [Path(sys.executable).with_name("pyinfra"), "-y", "--json", "@local",
             "tasks/home.py", "tasks/fence.py", "tasks/commands.py"],
            cwd=ROOT, env=self.environment() | {"PATH": os.environ["PATH"]}, capture_output=True, text=True,
            check=False, timeout=180,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]

    def trust(self, directory: Path) -> None:
        """Answer the folder-trust question for ``directory``, and what is below it up to the next repository."""
        path = Path(self.paths.claude_json)
        known = json.loads(path.read_text())
        known.setdefault("projects", {})[str(directory)] = {"hasTrustDialogAccepted": True}
        path.write_text(json.dumps(known))

    @property
    def fence(self) -> dict[str, Any]:
        """fence.json as it is."""
        found: dict[str, Any] = json.loads(Path(self.paths.fence_config).read_text())
        return found

    @contextmanager
    def fence_with(self, **changes: Any) -> Iterator[None]:
        """fence.json with ``changes`` for the time of a block."""
        path = Path(self.paths.fence_config)
        before = path.read_text()
        path.write_text(json.dumps(json.loads(before) | changes))
        try:
            yield
        finally:
            path.write_text(before)


def _install(person: Person) -> Person:
    """What other stages of the deploy would have put into the home, and then the stages of the fence themselves."""
    paths, home = person.paths, person.home
    for path, words in {
        paths.token: TOKEN,
        paths.profiles: json.dumps({"default": "p", "profiles": {"p": {"tools": "full"}}}),
    }.items():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(words)
    versions = Path(paths.native_versions)
    versions.mkdir(parents=True)
    claude = versions / real_claude().name
    try:
        os.link(real_claude(), claude)
    except OSError:
        shutil.copy2(real_claude(), claude)
    Path(paths.native_claude).parent.mkdir(parents=True)
    Path(paths.native_claude).symlink_to(claude)
    Path(paths.claude).symlink_to(paths.native_claude)
    shutil.copytree(
        ROOT / "claude_local", Path(paths.lib) / "claude_local", ignore=shutil.ignore_patterns("__pycache__")
    )
    # The system's interpreter: root's own may lie where nobody else can read.
    subprocess.run(["/usr/bin/python3", "-m", "venv", "--without-pip", paths.venv], check=True, timeout=60)
    person.deploy()
    (home / ".gitconfig").write_text("[user]\n\tname = Ada Example\n\temail = ada@example.org\n")
    _give(person)
    return person


def _give(person: Person) -> None:
    """Give an ordinary user the home, but not the program, which may be a hard link to somebody else's."""
    if person.uid:
        program = str(Path(person.paths.native_versions) / real_claude().name)
        give = ["find", str(person.home), "!", "-path", program, "-exec", "chown", "-h",
                f"{person.uid}:{person.gid}", "{}", "+"]  # fmt: skip
        subprocess.run(give, check=True, timeout=60)


def snapshot(directory: Path) -> dict[str, str]:
    """Everything below ``directory``: relative path -> kind, permissions and content or target."""
    found = {}
    for path in sorted(directory.rglob("*")):
        mode = path.lstat().st_mode
        content = os.readlink(path) if path.is_symlink() else path.read_bytes().hex() if stat.S_ISREG(mode) else ""
        found[str(path.relative_to(directory))] = f"{stat.filemode(mode)} {content}"
    return found


def parents_of(pids: Iterable[int]) -> dict[int, int]:
    """The parent of each of these processes that has not ended."""
    found = {}
    for pid in pids:
        with suppress(OSError):
            found[pid] = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return found


# Copies of the homes that this run has prepared, by account: to prepare one takes seconds, to copy one a tenth.
_PREPARED: dict[str, Path] = {}


def _copy(source: Path, target: Path) -> None:
    """Copy a home, with a hard link to Claude Code."""

    def copy(each: str, to: str) -> None:
        if os.path.getsize(each) > 50 << 20:
            os.link(each, to)
        else:
            shutil.copy2(each, to)

    shutil.copytree(source, target, symlinks=True, copy_function=copy, dirs_exist_ok=True)


def _prepared(somebody: Person) -> Person:
    """``somebody`` with an installed claude-local: from a copy, where this run has made one."""
    if somebody.home.name in _PREPARED:
        _copy(_PREPARED[somebody.home.name], somebody.home)
        _give(somebody)
        return somebody
    _install(somebody)
    copy = Path(tempfile.mkdtemp(prefix="claude-local-copy-", dir="/home"))
    atexit.register(shutil.rmtree, copy, ignore_errors=True)
    _copy(somebody.home, copy)
    _PREPARED[somebody.home.name] = copy
    return somebody


@contextmanager
def root() -> Iterator[Person]:
    """Root, in a temporary home."""
    place = Path("/home/claude-local-root")
    home = Path(tempfile.mkdtemp(prefix="claude-local-", dir="/home")) if place.exists() else place
    home.mkdir(mode=0o700, exist_ok=True)
    try:
        yield _prepared(Person("root", 0, 0, home))
    finally:
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def person(kind: str, account: str = "claude-local-ada") -> Iterator[Person]:
    """``root`` or an ``ordinary`` user; ``account`` is the name of the latter's throw-away account."""
    with root() if kind == "root" else ordinary(account) as somebody:
        yield somebody


@contextmanager
def ordinary(name: str) -> Iterator[Person]:
    """An ordinary user with a throw-away account."""
    with sudoer(name) as home:
        found = home.stat()
        yield _prepared(Person(name, found.st_uid, found.st_gid, home))
