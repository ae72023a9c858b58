"""One run of the battery, one way: the home with its secrets, the decoys, the sessions, and what they left behind.

Runs inside the namespaces of world.py, as root; whatever belongs to the account is started as that account.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pexpect

from claude_local.paths import Paths
from claude_local.verify.scripted_backend import ScriptedBackend, text
from tests.escape.attempt import ROOT, Attempt, Plan, attempts_of
from tests.escape.decoys import Listeners
from tests.escape.world import DNS_ADDRESS, HOST_ADDRESS

HERE = Path(__file__).parent
PYTHON = "/usr/bin/python3"
# The ways of running: layers of the fence, or no fence at all (the control that shows that the attempts are real).
LAYERS = {"both": ["outer", "inner"], "outer": ["outer"], "inner": ["inner"], "none": []}
STOPPED, THROUGH, CANNOT = "stopped", "THROUGH", "cannot succeed here"
MANAGER_PORT = 8081
OPEN_PORT = "a port of fence_ports"
# Seconds that one session may take, a guard; the longest has some eighty tool calls.
SESSION = 900
# Tool calls in one turn.
TOGETHER = 6
# Sessions at the same time: one mostly waits.
AT_ONCE = 5
TOOLS = ("Bash", "Read", "Write", "Edit", "NotebookEdit", "Glob", "Grep")
# Answers every permission question with yes: the test is about the fence, not the questions.
ALLOW = json.dumps({"hookSpecificOutput": {"hookEventName": "PermissionRequest", "decision": {"behavior": "allow"}}})

# Paths of credentials in a home, and their contents.
SECRETS = {
    "ssh": (".ssh/id_ed25519", "-----BEGIN OPENSSH PRIVATE KEY-----\n{}\n-----END OPENSSH PRIVATE KEY-----\n"),
    "aws": (".aws/credentials", "[default]\naws_secret_access_key = {}\n"),
    "gh": (".config/gh/hosts.yml", "github.com:\n    oauth_token: {}\n"),
    "claude-login": (".claude/.credentials.json", '{{"claudeAiOauth": {{"accessToken": "{}"}}}}\n'),
    "claude-history": (".claude/history.jsonl", '{{"display": "{}"}}\n'),
    "claude-json": (".claude.json", '{{"oauthAccount": {{"emailAddress": "{}"}}}}\n'),
    "netrc": (".netrc", "machine example.org login me password {}\n"),
    "git-credentials": (".git-credentials", "https://me:{}@example.org\n"),
    "bash-history": (".bash_history", "export PASSWORD={}\n"),
    "browser": (".mozilla/firefox/x.default/logins.json", '{{"logins": "{}"}}\n'),
    "chrome": (".config/google-chrome/Default/Cookies", "{}\n"),
    "keyring": (".local/share/keyrings/login.keyring", "{}\n"),
    "docker": (".docker/config.json", '{{"auths": {{"example.org": {{"auth": "{}"}}}}}}\n'),
    "kube": (".kube/config", "users:\n- user: {{token: {}}}\n"),
    "gnupg": (".gnupg/private-keys-v1.d/key.key", "{}\n"),
    "npmrc": (".npmrc", "//example.org/:_authToken={}\n"),
    "yarn": (".yarnrc.yml", "npmAuthToken: {}\n"),
    "poetry": (".config/pypoetry/auth.toml", '[http-basic.x]\npassword = "{}"\n'),
    "claude-backup": (".claude.json.backup", '{{"oauthAccount": {{"emailAddress": "{}"}}}}\n'),
    "pypirc": (".pypirc", "[pypi]\npassword = {}\n"),
    "stripe": (".config/stripe/config.toml", "[default]\nlive_mode_api_key = '{}'\n"),
    "netlify": (".config/netlify/config.json", '{{"users": {{"x": {{"auth": {{"token": "{}"}}}}}}}}\n'),
    "vercel": (".local/share/com.vercel.cli/auth.json", '{{"token": "{}"}}\n'),
    "wrangler": (".wrangler/config/default.toml", 'oauth_token = "{}"\n'),
    "supabase": (".supabase/access-token", "{}\n"),
    "llm": (".config/io.datasette.llm/keys.json", '{{"openai": "{}"}}\n'),
    "borg": (".config/borg/keys/backup", "BORG_KEY {}\n"),
    "mutt": (".muttrc", "set imap_pass = '{}'\n"),
    "subversion": (".subversion/auth/svn.simple/x", "K 8\npassword\nV 30\n{}\n"),
    "unknown": (".config/some-tool/settings.yml", "user: me\naccess_token: {}\n"),
}


@dataclass(frozen=True)
class Account:
    """The account that runs the sessions."""

    kind: str
    name: str
    uid: int
    gid: int
    password: str = ""

    def prefix(self) -> list[str]:
        """The arguments that start a command as this account."""
        if self.kind == ROOT:
            return []
        return ["setpriv", f"--reuid={self.uid}", f"--regid={self.gid}", "--init-groups"]


def own_cgroup(account: Account) -> Path | None:
    """A cgroup (v2) for the sessions, which the account owns; None where this machine gives none."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    for place in (Path(words[1]) for words in mounts if words[2] == "cgroup2"):
        # Those of earlier runs: a run itself ends with processes in its own.
        for each in [*place.glob("claude-local-escape-*/*/"), *place.glob("claude-local-escape-*/")]:
            with contextlib.suppress(OSError):
                each.rmdir()
        with contextlib.suppress(OSError):
            made = place / f"claude-local-escape-{secrets.token_hex(4)}"
            made.mkdir()
            for each in (made, *made.iterdir()):
                os.chown(each, account.uid, account.gid)
            return made
    return None


class Lab:
    """``home``: a home with an installed claude-local. ``way``: a key of LAYERS."""

    def __init__(self, home: Path, account: Account, way: str) -> None:
        self.home, self.account, self.way = home, account, way
        self.paths = Paths(home=str(home), model_dir=str(home / "models"), bin_dir=str(home / "bin"))
        self.scratch = Path(str(home) + ".lab")
        self.outside = home / "outside"
        self.workspace = home
        self.token = Path(self.paths.token).read_text().strip()
        self.secrets: dict[str, str] = {}
        self.variables: dict[str, str] = {}
        self.settings: dict[str, dict[str, Any]] = {}
        self.listeners = Listeners()
        self.ports: dict[str, int] = {}
        self.said: dict[str, str] = {}
        # What claude-local printed, by session.
        self.shown: dict[str, str] = {}
        self.server_requests: list[dict[str, Any]] = []
        self.cgroup = own_cgroup(account)
        self._decoys: list[subprocess.Popen[bytes]] = []

    # --- for the attempts' plans ---------------------------------------------------------------------------------

    def nonce(self) -> str:
        """A text that appears nowhere else."""
        return f"escape{secrets.token_hex(10)}"

    def plant(self, path: Path, words: str, mode: int = 0o644) -> Path:
        """A file of the account, with the folders above it; the path."""
        made = [path, *(each for each in path.parents if not each.exists())]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(words)
        path.chmod(mode)
        for each in made:
            os.chown(each, self.account.uid, self.account.gid)
        return path

    def project_settings(self, **more: Any) -> None:
        """Put ``more`` into the .claude/settings.json of the current session's workspace."""
        wanted = self.settings.setdefault(str(self.workspace), {})
        for key, value in more.items():
            both = isinstance(value, dict) and isinstance(wanted.get(key), dict)
            wanted[key] = {**wanted[key], **value} if both else value
        self.plant(self.workspace / ".claude" / "settings.json", json.dumps(wanted, indent=1))

    def probe(self, *words: object) -> str:
        """The shell command that runs a program of probes.py."""
        quoted = " ".join("'" + str(word).replace("'", "'\\''") + "'" for word in words)
        return f"{PYTHON} '{self.workspace}/probes.py' {quoted}"

    def victim(self, marker: str, *more: str, uid: int | None = None) -> dict[str, Any]:
        """Start a process outside whose command line holds ``marker``: its pid, address, secret."""
        secret = self.nonce()
        report = self.scratch / "reports" / f"{marker}.json"
        prefix = (
            self.account.prefix() if uid is None else ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
        )
        self.start([*prefix, PYTHON, str(self.scratch / "victim.py"), marker, secret, str(report), *more],
                   {"CLAUDE_LOCAL_VICTIM": secret})  # fmt: skip
        if not wait_until(report.exists):
            raise RuntimeError(f"{marker} did not start")
        return {**json.loads(report.read_text()), "secret": secret, "marker": marker}

    def start(self, command: Sequence[str], variables: dict[str, str]) -> None:
        """A process of the account outside the fence, ended with the lab."""
        self._decoys.append(subprocess.Popen(
            list(command), env={**self.environment(), **variables}, cwd="/", stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        ))  # fmt: skip

    def run(self, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run as the account, outside the fence."""
        return subprocess.run(
            [*self.account.prefix(), *command], env={**self.environment(), **variables}, cwd=self.home, timeout=60,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, errors="replace",
        )  # fmt: skip

    # --- evidence ------------------------------------------------------------------------------------------------

    def exists(self, path: Path) -> str | None:
        return f"{self._short(path)} was made" if os.path.lexists(path) else None

    def holds(self, path: Path, words: str) -> str | None:
        """Whether the file at ``path`` contains ``words`` now."""
        try:
            return f"{self._short(path)} has the planted words" if words in path.read_text(errors="replace") else None
        except OSError:
            return None

    def changed(self, path: Path, words: str) -> str | None:
        """Whether ``path``, which held ``words``, is different now."""
        try:
            return None if path.read_text(errors="replace") == words else f"{self._short(path)} was changed"
        except OSError:
            return f"{self._short(path)} is gone"

    def leaked(self, name: str, secret: str) -> str | None:
        """Whether ``secret`` reached the model through attempt ``name``, or lies in a file that it left."""
        if secret in self.said.get(name, ""):
            return "the secret's text reached the backend"
        for path in self.workspaces(f"loot-{name}"):
            if secret.encode() in path.read_bytes():
                return f"the secret's text lies in {self._short(path)}"
        return None

    def asked_server(self, method: str, path: str, words: str) -> str | None:
        """Whether a request with ``words`` in its body reached the server of a session."""
        for each in list(self.server_requests):
            if (each["method"], each["path"]) == (method, path) and words in json.dumps(each["body"]):
                return f"the server got {method} {path}"
        return None

    def runs(self, path: Path) -> str | None:
        """Whether a process that has ``path`` in its command line is alive."""
        for each in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                if str(path).encode() in each.read_bytes():
                    return "it still runs"
        return None

    def memory(self, pid: int, address: int, size: int = 64) -> bytes:
        """The memory of the process ``pid`` at ``address``."""
        with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
            memory.seek(address)
            return memory.read(size)

    def workspaces(self, name: str) -> list[Path]:
        """What lies in any of the workspaces under a name that begins with ``name``."""
        return sorted(self.home.glob(f"work/*/{name}*"))

    def _short(self, path: Path) -> str:
        return str(path).replace(str(self.home), "~", 1)

    # --- the run -------------------------------------------------------------------------------------------------

    def furnish(self) -> None:
        """Plant the secrets, start the listeners, and write which layers the fence has."""
        shutil.copy(HERE / "victim.py", self.scratch)
        shutil.copy(HERE / "typist.py", self.scratch)
        self.outside.mkdir()
        (self.home / "work").mkdir()
        (self.scratch / "reports").mkdir()
        (self.scratch / "reports").chmod(0o1777)
        for name, (place, form) in SECRETS.items():
            self.secrets[name] = self.nonce()
            self.plant(self.home / place, form.format(self.secrets[name]), 0o600)
        self.secrets["variable"] = self.nonce()
        here, host = "127.0.0.1", HOST_ADDRESS
        self.ports = {
            "loopback": self.listeners.tcp("another loopback port", here),
            "server": self.listeners.tcp("another server", here),
            "loopback6": self.listeners.tcp("IPv6 loopback", "::1"),
            "host": self.listeners.tcp("another address", host),
            "udp": self.listeners.udp("UDP", host),
            "dns": self.listeners.udp("DNS", DNS_ADDRESS, 53),
            "manager": self.listeners.tcp("the manager's port", here, MANAGER_PORT),
            "open": self.listeners.tcp(OPEN_PORT, here),
        }
        run = Path("/run/user") / str(self.account.uid)
        for name, path in {
            "docker": "/run/docker.sock", "podman": f"{run}/podman/podman.sock", "session bus": f"{run}/bus",
            "system bus": "/run/dbus/system_bus_socket", "systemd": f"{run}/systemd/private",
            "ssh agent": f"{run}/agent.sock", "wayland": f"{run}/wayland-0", "containerd": "/run/containerd.sock",
            "abstract": "\0claude-local-escape", "X11 abstract": "\0/tmp/.X11-unix/X0",
        }.items():  # fmt: skip
            self.listeners.unix(name, path)
        Path("/tmp/.X11-unix").mkdir(mode=0o1777)
        self.listeners.unix("X11", "/tmp/.X11-unix/X0")
        self.variables = {
            "XDG_RUNTIME_DIR": str(run), "DBUS_SESSION_BUS_ADDRESS": f"unix:path={run}/bus",
            "SSH_AUTH_SOCK": f"{run}/agent.sock", "DISPLAY": ":0", "WAYLAND_DISPLAY": "wayland-0",
            "GITHUB_TOKEN": self.secrets["variable"], "AWS_SECRET_ACCESS_KEY": self.secrets["variable"],
            "PGPASSWORD": self.secrets["variable"], "BW_SESSION": self.secrets["variable"],
            **dict.fromkeys(
                ["DOCKER_AUTH_CONFIG", "CI_JOB_JWT", "GITHUBTOKEN", "GCP_SA_JSON", "SLACK_WEBHOOK_URL"],
                self.secrets["variable"],
            ),
            "DEPLOY": f"glpat-{self.secrets['variable']}",
            "PIP_INDEX_URL": f"https://me:{self.secrets['variable']}@example.org/simple",
        }  # fmt: skip
        if self.way == "none":
            Path(self.paths.enforced_settings).write_text("{}")
        else:
            fence = json.loads(Path(self.paths.fence_config).read_text())
            chosen = {"layers": LAYERS[self.way], "ports": [*fence["ports"], self.ports["open"]]}
            Path(self.paths.fence_config).write_text(json.dumps({**fence, **chosen}))
            enforced = json.loads(Path(self.paths.enforced_settings).read_text())
            hosts = [f"{name}:{self.ports['open']}" for name in ("127.0.0.1", "localhost")]
            enforced["sandbox"]["network"]["allowedDomains"] += hosts
            Path(self.paths.enforced_settings).write_text(json.dumps(enforced))
        user_settings = Path(self.paths.settings)
        settings = json.loads(user_settings.read_text())
        settings["hooks"] = {
            "PermissionRequest": [{"matcher": "*", "hooks": [{"type": "command", "command": f"echo '{ALLOW}'"}]}]
        }
        user_settings.write_text(json.dumps(settings))
        # A project whose folder the user does not trust runs no hooks: these do.
        known = json.loads(Path(self.paths.claude_json).read_text())
        known["projects"] = {"/": {"hasTrustDialogAccepted": True}}
        Path(self.paths.claude_json).write_text(json.dumps(known))
        self.own(self.home)
        # /run/user belongs to the account, as on a real machine.
        for each in run.rglob("*"):
            os.chown(each, self.account.uid, self.account.gid)

    def environment(self) -> dict[str, str]:
        return {
            "HOME": str(self.home), "USER": self.account.name, "LOGNAME": self.account.name, "TERM": "xterm-256color",
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8",
            "SHELL": "/bin/bash", **self.variables,
        }  # fmt: skip

    def own(self, path: Path) -> None:
        subprocess.run(["chown", "-Rh", f"{self.account.uid}:{self.account.gid}", str(path)], check=True, timeout=120)

    def prepare(self, name: str, attempts: Sequence[Attempt]) -> dict[str, Plan]:
        """Make the workspace of one session, with what its attempts need; their plans."""
        self.workspace = self.home / "work" / name
        self.workspace.mkdir(parents=True)
        shutil.copy(HERE / "probes.py", self.workspace)
        plans = {each.name: each.plan(self) for each in attempts}
        self.own(self.workspace)
        self.own(self.outside)
        return plans

    def session(self, name: str, plans: dict[str, Plan]) -> None:
        """Let Claude Code make the attempts of one session. Raises RuntimeError when it did not make all of them."""
        workspace = self.home / "work" / name
        calls = [
            {"type": "tool_use", "id": f"toolu_{attempt}_{number}", "name": step.tool, "input": step.arguments}
            for attempt, plan in plans.items()
            for number, step in enumerate(plan.steps)
        ]
        turns = [calls[at : at + TOGETHER] for at in range(0, len(calls), TOGETHER)]
        started = time.monotonic()
        with ScriptedBackend([*turns, text("Done.")], 900_000, token=self.token) as backend:
            shown = self._claude(backend, workspace / "sub" if name == "subdirectory" else workspace)
            self.shown[name] = shown
            results = _results(backend)
        self.server_requests += backend.requests
        for attempt, plan in plans.items():
            found = [results.get(f"toolu_{attempt}_{number}") for number in range(len(plan.steps))]
            if None in found and name not in BROKEN_ON_PURPOSE:
                said = f"claude-local said: {shown[-1500:]}"
                raise RuntimeError(f"session {name!r}: {attempt} was not played to its end; {said}")
            self.said[attempt] = "\n".join(filter(None, found))
        print(f"{self.way}: session {name}: {len(calls)} calls in {time.monotonic() - started:.1f} s", flush=True)

    def _claude(self, backend: ScriptedBackend, cwd: Path) -> str:
        """Run one ``claude-local -p`` in a terminal of its own; its output."""
        fence = ["--unfenced"] if self.way == "none" else []
        # As in a terminal under systemd, whose cgroup belongs to the user.
        join = f"echo $$ >{self.cgroup}/cgroup.procs; " if self.cgroup else ""
        process = pexpect.spawn(
            "/bin/sh",
            ["-c", f'{join}exec "$@"', "sh", "/usr/bin/env", *self.account.prefix(), PYTHON,
             str(self.scratch / "typist.py"), str(self.outside / "typed"),
             self.paths.wrapper, *fence, "-p", "try", "--permission-mode", "acceptEdits", "--allowedTools",
             ",".join(TOOLS)],
            env={**self.environment(), "CLAUDE_LOCAL_SERVER": backend.url}, cwd=str(cwd), timeout=SESSION,
            dimensions=(40, 120), encoding="utf-8", codec_errors="replace",
        )  # fmt: skip
        try:
            said = str(process.read())
        except pexpect.TIMEOUT:
            said = f"nothing within {SESSION} s"
        finally:
            process.close(force=True)
        return " ".join(said.split())

    def close(self) -> None:
        for process in self._decoys:
            with contextlib.suppress(OSError):
                process.kill()
            process.wait(60)
        self.listeners.close()


# Sessions that try to break Claude Code's own connection to its server or its shell.
BROKEN_ON_PURPOSE = frozenset({"other-server", "own-path", "own-preload"})

# The session that changes the settings for the later ones.
LAST = "own-enforced"


def _results(backend: ScriptedBackend) -> dict[str, str]:
    """The tool results that reached the backend, by the id of the call."""
    found: dict[str, str] = {}
    for request in backend.main_requests:
        for message in request["body"]["messages"]:
            for block in message["content"] if isinstance(message["content"], list) else []:
                if block["type"] == "tool_result":
                    found.setdefault(block["tool_use_id"], json.dumps(block.get("content"), ensure_ascii=False))
    return found


def wait_until(true: Any, seconds: float = 60) -> bool:
    """Whether ``true()`` became true in time."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def run_battery(lab: Lab, only: Sequence[str] = ()) -> dict[str, dict[str, str]]:
    """Every attempt of the account, one way: {name: {"outcome": ..., "evidence": ..., "said": ...}}."""
    lab.furnish()
    wanted = [each for each in attempts_of(lab.account.kind) if not only or each.name in only]
    plans: dict[str, dict[str, Plan]] = {}
    try:
        for session in dict.fromkeys(each.session for each in wanted):
            plans[session] = lab.prepare(session, [each for each in wanted if each.session == session])
        # A session mostly waits: for a start, or for something that must not answer.
        with ThreadPoolExecutor(AT_ONCE) as pool:
            longest_first = sorted(plans, key=lambda name: -len(plans[name]))
            for done in [pool.submit(lab.session, name, plans[name]) for name in longest_first if name != LAST]:
                done.result()
        if LAST in plans:
            lab.session(LAST, plans[LAST])
        time.sleep(1)

        def judge(session: str) -> dict[str, dict[str, str]]:
            return {
                each.name: _judge(lab, each, plans[session][each.name]) for each in wanted if each.session == session
            }

        with ThreadPoolExecutor(AT_ONCE) as pool:
            judged = {name: found for each in pool.map(judge, plans) for name, found in each.items()}
        return {each.name: judged[each.name] for each in wanted}
    finally:
        lab.close()


def _judge(lab: Lab, attempt: Attempt, plan: Plan) -> dict[str, str]:
    evidence = plan.evidence()
    said = " ".join(lab.said[attempt.name].split())[-400:]
    if evidence is None and (reason := attempt.impossible(lab, attempt.name)) is not None:
        return {"outcome": CANNOT, "evidence": reason, "said": said}
    return {"outcome": STOPPED if evidence is None else THROUGH, "evidence": evidence or "", "said": said}
