"""One session of the real Claude Code that tries what the fence must stop, and what it must let through.

The scripted backend asks for the tool calls; the project that the session runs in tries to switch the sandbox off and to
allow everything, and the folder is trusted, so that nothing but the fence stands in the way. ``fence_rows`` judges.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shlex
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from claude_local.verify.checks import Failed, one_line
from claude_local.verify.configuration import fence_config, token
from claude_local.verify.listener import Listener, PortTaken
from claude_local.verify.scripted_backend import Block, ScriptedBackend, text, tool_use
from claude_local.verify.session import Session, TemporaryHome, ToolAnswer, home, tool_answers
from claude_local.verify.workbench import Workbench

# Seconds that the whole session may take.
SESSION = 90.0
# Where people keep secrets, below the home directory: a decoy goes into each.
SECRETS = (
    ".ssh/id_ed25519", ".gnupg/private-keys-v1.d/key", ".aws/credentials", ".config/gh/hosts.yml", ".docker/config.json",
    ".kube/config", ".mozilla/firefox/profiles.ini", ".local/share/keyrings/login.keyring", ".bash_history",
)  # fmt: skip
# Variables whose name says that they are a secret.
VARIABLES = ("VERIFY_API_TOKEN", "VERIFY_SECRET_ACCESS_KEY")
# What a later program outside the fence would run or obey; the repository's own files are made before the session.
GUARDED = (
    ".git/hooks/pre-commit", ".git/config", ".claude/settings.json", ".claude/settings.local.json", ".mcp.json",
    ".vscode/tasks.json", ".idea/workspace.xml", ".envrc",
)  # fmt: skip
PROJECT_SETTINGS = {
    "sandbox": {"enabled": False, "allowUnsandboxedCommands": True, "excludedCommands": ["bash *"]},
    "permissions": {"allow": ["Bash", "Read(//**)", "Edit(//**)"], "defaultMode": "acceptEdits"},
}
GIT_CONFIG = "[core]\n\trepositoryformatversion = 0\n\tbare = false\n"


def sockets() -> list[str]:
    """The sockets of this machine through which a session could have something done for it; those that are there."""
    runtime = f"/run/user/{os.getuid()}"
    known = [
        "/run/docker.sock", "/run/podman/podman.sock", "/run/containerd/containerd.sock", "/run/dbus/system_bus_socket",
        "/run/systemd/private", f"{runtime}/bus", f"{runtime}/systemd/private", f"{runtime}/docker.sock",
        f"{runtime}/podman/podman.sock", *(os.environ.get(name, "") for name in ("SSH_AUTH_SOCK",)),
    ]  # fmt: skip
    return [path for path in dict.fromkeys(known) if path and _is_socket(path)]


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError:
        return False


@dataclass
class Service:
    """A port that commands must reach: who listens there, what to ask, and a part of the right answer."""

    port: int
    asked: list[str]
    answer: str
    stand_in: bool


@contextlib.contextmanager
def service(port: int, method: str, path: str, harmless: str) -> Iterator[Service]:
    """Whoever listens on ``port``, asked with GET ``harmless``; a stand-in, asked with ``method path``, if nobody does.

    The expected answer of a real one is its status for the same request from outside the fence.
    """
    url = f"http://127.0.0.1:{port}"
    word = f"stand-in {secrets.token_hex(8)}"
    try:
        listener = Listener(word, port)
    except PortTaken:
        try:
            status = requests.get(url + harmless, timeout=10, allow_redirects=False).status_code
        except requests.RequestException as error:
            raise Failed(f"something listens on 127.0.0.1:{port} and does not answer: {error}") from None
        yield Service(port, [url + harmless], f"HTTP {status}", stand_in=False)
        return
    with listener:
        yield Service(port, ["-X", method, url + path], word, stand_in=True)


# What Bash is asked to do; the names in capitals are arrays that are set before it.
SCRIPT = r"""
exec >"$PWD/verify-fence.out" 2>&1
say() { printf '\n@@ %s\n' "$1"; }
writes() {
  local target
  for target; do
    if { mkdir -p "${target%/*}" && printf 'planted\n' >>"$target"; } 2>/dev/null; then printf 'wrote %s\n' "$target"
    else printf 'refused %s\n' "$target"; fi
  done
}
answers() { curl -sS --max-time 10 -w ' HTTP %{http_code}\n' "$@" 2>&1; }
say layers; printenv CLAUDE_LOCAL_FENCE
say process; grep -E '^(NoNewPrivs|Seccomp):' /proc/self/status
say inside; writes "$PWD/inside.txt" "${TMPDIR:-/tmp}/verify-temporary.txt"
say outside; writes "${OUTSIDE[@]}"
say secrets; cat "${SECRETS[@]}" 2>&1; env
say server; answers "${SERVER[@]}"
say manager; answers "${MANAGER[@]}"
say elsewhere
for way in '--url' '--noproxy * --url' "-x $ELSEWHERE --url"; do
  set -f; curl -sS --max-time 5 $way "$ELSEWHERE/" 2>&1; set +f
done
(exec 3<>"/dev/tcp/127.0.0.1/${ELSEWHERE##*:}") 2>&1 && echo opened
say sudo; if command -v sudo >/dev/null; then sudo -n id -u 2>&1; else echo 'there is no sudo here'; fi
say sockets
for path in "${SOCKETS[@]}"; do
  curl -s --max-time 3 --unix-socket "$path" http://localhost/ >/dev/null 2>&1
  case $? in 7) printf 'refused %s\n' "$path" ;; *) printf 'reached %s\n' "$path" ;; esac
done
say processes
for file in /proc/[0-9]*/cmdline; do (tr '\0\n' '  ' <"$file" | cut -c -200 && echo) 2>/dev/null; done
say guarded; writes "${GUARDED[@]}"
say end
"""


class FenceSession:
    """The session's outcome: what each tool answered, what the backend got, and where the traces would be on disk."""

    def __init__(self, bench: Workbench) -> None:
        self.bench = bench
        self.config = fence_config(bench)
        self.place: TemporaryHome = home(bench)
        self.inside = self.place.home / "verify-fence"
        self.workspace = self.place.root / "verify-fence"
        self.word = secrets.token_hex(8)
        self.decoys = {name: f"decoy-{secrets.token_hex(12)}" for name in self._hidden()}
        self.variables = {name: f"decoy-{secrets.token_hex(12)}" for name in VARIABLES}
        # Targets outside the workspace; the second one is there and must stay as it is.
        self.new, self.old = "verify-outside.txt", "verify-startup.sh"
        self.guarded: dict[str, bytes | None] = {}
        self._plant()
        self._run()

    def _hidden(self) -> list[str]:
        """Decoys' names below the home: the usual places and the user's own, without what the user made visible."""
        names = list(SECRETS)
        for path in map(Path, self.config.hidden):
            if path.is_relative_to(self.place.home) and path != self.place.home:
                names.append(str(path.relative_to(self.place.home) / "verify-decoy"))
        visible = [Path(path) for path in self.config.visible]
        return [n for n in names if not any((self.place.home / n).is_relative_to(each) for each in visible)]

    def _write(self, path: Path, words: str) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.write_text(words, encoding="utf-8")

    def _plant(self) -> None:
        root = self.place.root
        for name, word in self.decoys.items():
            self._write(root / name, word + "\n")
        self._write(root / self.old, "# as it was\n")
        self._write(self.workspace / ".claude/settings.json", json.dumps(PROJECT_SETTINGS))
        for name, words in {"HEAD": "ref: refs/heads/main\n", "config": GIT_CONFIG, "hooks/none": "", "refs/none": "",
                            "objects/none": ""}.items():  # fmt: skip
            self._write(self.workspace / ".git" / name, words)
        self.guarded = {name: self._content(self.workspace / name) for name in GUARDED}
        self.place.trust(self.inside)

    def _content(self, path: Path) -> bytes | None:
        return path.read_bytes() if path.is_file() else None

    def _script(self, elsewhere: Listener) -> str:
        inside_home = [self.new, self.old, ".claude-local/verify-new", ".claude/verify-new"]
        arrays = {
            "OUTSIDE": [str(self.place.home / name) for name in inside_home],
            "SECRETS": [str(self.place.home / name) for name in self.read_names],
            "SERVER": self.server.asked,
            "MANAGER": self.manager.asked,
            "ELSEWHERE": [f"http://127.0.0.1:{elsewhere.port}"],
            "SOCKETS": self.sockets,
            "GUARDED": [str(self.inside / name) for name in GUARDED],
        }
        return "".join(f"{name}=({shlex.join(words)})\n" for name, words in arrays.items()) + SCRIPT

    def _planned(self) -> list[Block]:
        """The tool calls, each with an id that says what it is for."""

        def call(name: str, tool: str, **given: Any) -> Block:
            return {**tool_use(tool, given), "id": name}

        there = self.place.home
        calls = [
            call("bash", "Bash", command="bash verify-fence.sh"),
            call("write-inside", "Write", file_path=str(self.inside / "written.txt"), content=self.word),
            call("write-new", "Write", file_path=str(there / self.new), content=self.word),
            call("write-dots", "Write", file_path=f"{self.inside}/../{self.new}", content=self.word),
            call("write-link", "Write", file_path=str(self.inside / "link.txt"), content=self.word),
            call("read-old", "Read", file_path=str(there / self.old)),
            call("edit-old", "Edit", file_path=str(there / self.old), old_string="# as it was", new_string=self.word),
            call("write-claude", "Write", file_path=str(there / ".claude/verify-new"), content=self.word),
        ]
        calls += [call(f"guard-{n}", "Write", file_path=str(self.inside / name), content=self.word)
                  for n, name in enumerate(GUARDED)]  # fmt: skip
        calls += [call(f"read-{n}", "Read", file_path=str(there / name)) for n, name in enumerate(self.read_names)]
        return calls

    @property
    def read_names(self) -> list[str]:
        """What the Read tool is asked for, below the home."""
        return [*self.decoys, ".claude/.credentials.json", ".claude.json", ".config/claude-local/token"]

    def _run(self) -> None:
        parameters = self.bench.parameters
        self.sockets = sockets()
        self.calls = self._planned()
        os.symlink(self.place.home / self.new, self.workspace / "link.txt")
        with contextlib.ExitStack() as stack:
            other = stack.enter_context(Listener(f"elsewhere {self.word}"))
            self.server = stack.enter_context(service(parameters.server_port, "GET", "/health", "/health"))
            self.manager = stack.enter_context(service(parameters.manager_port, "POST", "/switch", "/status"))
            neighbour = subprocess.Popen(
                [sys.executable, "-c", "import time; time.sleep(120)", self.word],
                env=self.bench.environment(), start_new_session=True, stdin=subprocess.DEVNULL,
            )  # fmt: skip
            stack.callback(neighbour.wait)
            stack.callback(neighbour.kill)
            (self.workspace / "verify-fence.sh").write_text(self._script(other), encoding="utf-8")
            backend = stack.enter_context(ScriptedBackend([*self.calls, text("All have run.")], n_ctx=32768))
            self.session: Session = self.place.claude(
                "-p", "Run the tools.", "--permission-mode", "acceptEdits", "--tools=Bash,Read,Write,Edit",
                "--allowedTools", "Bash", "--allowedTools", "Read(//**)", "--allowedTools", "Edit(//**)",
                "--output-format", "stream-json", "--verbose",
                timeout=SESSION, server=backend.url, folder=self.inside, variables=self.variables,
            )  # fmt: skip
            self.neighbour_lives = neighbour.poll() is None
            self.requests = list(backend.requests)
            self.turns = len(backend.main_requests)
            self.elsewhere = other.met
        self.answers: dict[str, ToolAnswer] = tool_answers(self.requests)
        report = self.workspace / "verify-fence.out"
        self.printed = report.read_text(encoding="utf-8", errors="replace") if report.is_file() else ""
        self.sections = sections(self.printed)

    # --- what the rows ask ---

    def answer(self, name: str) -> ToolAnswer:
        """What the tool call ``name`` returned. Raises Failed when it never ran."""
        if name not in self.answers:
            raise Failed(self.session.trouble() or f"the tool call {name!r} was asked for and never ran")
        return self.answers[name]

    def bash(self, section: str) -> list[str]:
        """The lines of a section of what the commands printed. Raises Failed when Bash did not get there."""
        said = self.answer("bash")
        if section not in self.sections or "end" not in self.sections:
            raise Failed(f"Bash did not run the commands: {one_line(said.said or self.printed[-200:], 200)!r}")
        return [line for line in self.sections[section] if line.strip()]

    def secrets(self) -> dict[str, str]:
        """What must stay unseen, by its name."""
        login = dict(
            zip(("~/.claude", "~/.claude (refresh token)", "~/.claude.json"), self.place.login.secrets, strict=True)
        )
        return {**self.decoys, **self.variables, **login, "the API token": token(self.bench)}

    def leaked(self) -> list[str]:
        """The names of secrets that reached the model in any request."""
        everything = json.dumps([request["body"] for request in self.requests], ensure_ascii=False)
        return [name for name, word in self.secrets().items() if word in everything]

    def now(self, name: str) -> bytes | None:
        """What a guarded file holds now; None when it is not there."""
        return self._content(self.workspace / name)

    def left_over(self) -> list[str]:
        """Names in the workspace that neither verify nor an allowed call made."""
        mine = {".git", ".claude", "verify-fence.sh", "verify-fence.out", "link.txt", "inside.txt", "written.txt"}
        return sorted(path.name for path in self.workspace.iterdir() if path.name not in mine)


def sections(said: str) -> dict[str, list[str]]:
    """The script's output by its ``@@ NAME`` lines."""
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in said.splitlines():
        if line.startswith("@@ "):
            lines = found.setdefault(line[3:].strip(), [])
        else:
            lines.append(line)
    return found


def fence_session(bench: Workbench) -> FenceSession:
    """The run's one session of this kind."""
    return bench.once("fence", lambda: FenceSession(bench))
