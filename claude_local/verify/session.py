"""Sessions of the real Claude Code through the real wrapper, in a home that exists only for them.

A mount namespace (bubblewrap) puts a temporary directory in the place of the user's home: the same paths, but what is
written goes there and is deleted afterwards. Into it go copies of ~/.claude-local, the installed programs (read-only),
a workspace at a path that stays the same from run to run (the prompt names it, so llama-server's cache keeps its
worth), and a false Claude Code login, whose secrets must never leave.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from claude_local.verify import network, processes
from claude_local.verify.checks import Failed
from claude_local.verify.network import Destinations
from claude_local.verify.workbench import Workbench

# What sessions get of ~/.claude-local; everything else there is the user's history.
CONFIGURATION = ("settings.json", "enforced.json", "bash-env.sh")
# Variables of the caller that would make this no plain user's session.
FOREIGN_PREFIXES = ("CLAUDE", "ANTHROPIC")


@dataclass(frozen=True)
class Session:
    """What one ``claude -p`` did. ``events`` are the JSON objects it printed, ``peers`` whom it talked to."""

    ended: processes.Finished
    events: list[dict[str, Any]]
    peers: Destinations | None

    @property
    def result(self) -> dict[str, Any]:
        """The closing ``result`` object; empty when there is none."""
        return next((event for event in reversed(self.events) if event.get("type") == "result"), {})

    @property
    def answer(self) -> str:
        return str(self.result.get("result") or "")

    def uses(self, tool: str) -> list[tuple[dict[str, Any], str, bool]]:
        """Every call of ``tool``: its input, the text of its result, and whether that was an error."""
        calls: dict[str, dict[str, Any]] = {}
        results: dict[str, tuple[str, bool]] = {}
        for event in self.events:
            content = (event.get("message") or {}).get("content")
            for block in content if isinstance(content, list) else []:
                if block.get("type") == "tool_use" and block.get("name") == tool:
                    calls[str(block.get("id"))] = block.get("input") or {}
                elif block.get("type") == "tool_result":
                    results[str(block.get("tool_use_id"))] = (words(block.get("content")), bool(block.get("is_error")))
        return [(given, *results.get(name, ("", True))) for name, given in calls.items()]

    def all_tools(self) -> list[str]:
        """The names of the tools that were called, in order."""
        found = []
        for event in self.events:
            content = (event.get("message") or {}).get("content")
            for block in content if isinstance(content, list) else []:
                if block.get("type") == "tool_use":
                    found.append(str(block.get("name")))
        return found

    def trouble(self) -> str | None:
        """Why the session as such failed, in one line; None when it ended well."""
        if not self.ended.ok:
            return f"claude-local: {self.ended.ending()}: {self.answer or self.ended.said or 'it said nothing'}"
        if self.result.get("is_error") or not self.result:
            return f"claude-local reported an error: {self.answer or self.ended.said or 'no result'}"
        return None


def words(content: Any) -> str:
    """The text in a message's content (a string, or blocks)."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(str(block.get("text", "")) for block in content if isinstance(block, dict))
    return ""


@dataclass(frozen=True)
class ToolAnswer:
    """What one tool call returned, as the backend received it."""

    tool: str
    said: str
    bad: bool


def tool_answers(requests: Sequence[dict[str, Any]]) -> dict[str, ToolAnswer]:
    """The tool results in what a scripted backend recorded, by the call's id."""
    names: dict[str, str] = {}
    found: dict[str, ToolAnswer] = {}
    for request in requests:
        body = request["body"] if isinstance(request["body"], dict) else {}
        for message in body.get("messages") or []:
            for block in message["content"] if isinstance(message.get("content"), list) else []:
                if block.get("type") == "tool_use":
                    names[block["id"]] = block["name"]
                elif block.get("type") == "tool_result":
                    name = str(block.get("tool_use_id"))
                    found[name] = ToolAnswer(
                        names.get(name, ""), words(block.get("content")), bool(block.get("is_error"))
                    )
    return found


def parse_events(text: str) -> list[dict[str, Any]]:
    """The JSON objects among the lines of ``text`` (``--output-format stream-json`` and ``json``)."""
    found = []
    for line in text.splitlines():
        with contextlib.suppress(ValueError):
            value = json.loads(line)
            if isinstance(value, dict):
                found.append(value)
    return found


@dataclass
class FalseLogin:
    """A planted login: its secrets, and the bytes of the two files that hold them."""

    secrets: list[str] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)


def make_login() -> FalseLogin:
    """A false subscription login as Claude Code stores it; the keys are random and belong to nobody."""
    access, refresh, key = (secrets.token_urlsafe(40) for _ in range(3))
    credentials = {
        "claudeAiOauth": {
            "accessToken": f"sk-ant-oat01-{access}",
            "refreshToken": f"sk-ant-ort01-{refresh}",
            "expiresAt": 4102444800000,
            "scopes": ["user:inference", "user:profile"],
            "subscriptionType": "max",
        }
    }
    account = {
        "hasCompletedOnboarding": True,
        "primaryApiKey": f"sk-ant-api03-{key}",
        "oauthAccount": {"accountUuid": "00000000-0000-4000-8000-000000000000", "emailAddress": "nobody@example.org"},
    }
    return FalseLogin(
        [access, refresh, key],
        {
            ".claude/.credentials.json": json.dumps(credentials).encode(),
            ".claude/settings.json": b'{"model": "opus"}\n',
            ".claude.json": json.dumps(account, indent=2).encode(),
        },
    )


def link_chain(path: Path) -> list[Path]:
    """``path`` and every link's target on the way to the real file; [] when it leads nowhere."""
    found: list[Path] = []
    while len(found) < 40:
        if not os.path.lexists(path):
            return []
        found.append(path)
        if not path.is_symlink():
            return found
        path = Path(os.path.normpath(path.parent / os.readlink(path)))
    return []


class TemporaryHome:
    """The stand-in for the user's home, at ``state/verify-home`` outside and at the home's own path inside."""

    def __init__(self, bench: Workbench) -> None:
        self.bench = bench
        self.root = Path(bench.paths.state) / "verify-home"
        self.home = Path(bench.paths.home)
        self.login = make_login()
        self.workspace_inside = self.home / "verify-workspace"
        self.workspace = self.root / "verify-workspace"
        self._runs = 0

    def build(self) -> TemporaryHome:
        self.remove()
        self.root.mkdir(mode=0o700, parents=True)
        self.bench.on_close(self.remove)
        config = self.root / Path(self.bench.paths.config_dir).relative_to(self.home)
        config.mkdir(mode=0o700, parents=True)
        for name in CONFIGURATION:
            source = Path(self.bench.paths.config_dir) / name
            if source.exists():
                shutil.copy2(source, config / name)
        (config / ".claude.json").write_text(json.dumps(self._claude_json()))
        for name, content in self.login.files.items():
            file = self.root / name
            file.parent.mkdir(mode=0o700, exist_ok=True)
            file.write_bytes(content)
            file.chmod(0o600)
        self.fresh_workspace({})
        self.strace = network.strace_works(self.root)
        return self

    def _claude_json(self) -> dict[str, Any]:
        """The user's .claude.json without what they did in which project."""
        try:
            found = json.loads(Path(self.bench.paths.claude_json).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return {key: value for key, value in found.items() if key != "projects"} if isinstance(found, dict) else {}

    def remove(self) -> None:
        if not self.root.exists():
            return
        for directory, names, _ in os.walk(self.root):
            for name in [".", *names]:
                with contextlib.suppress(OSError):
                    if not os.path.islink(os.path.join(directory, name)):
                        os.chmod(os.path.join(directory, name), 0o700)
        shutil.rmtree(self.root)

    def fresh_workspace(self, files: dict[str, str]) -> None:
        """Empty the workspace and put ``files`` (name -> text) into it."""
        if self.workspace.exists():
            shutil.rmtree(self.workspace)
        self.workspace.mkdir()
        for name, text in files.items():
            (self.workspace / name).write_text(text, encoding="utf-8")

    def trust(self, folder: Path) -> None:
        """Answer the folder-trust question for ``folder``, a path inside."""
        file = self.root / Path(self.bench.paths.claude_json).relative_to(self.home)
        known = json.loads(file.read_text(encoding="utf-8"))
        known.setdefault("projects", {})[str(folder)] = {"hasTrustDialogAccepted": True}
        file.write_text(json.dumps(known), encoding="utf-8")

    def _programs(self) -> list[Path]:
        """What must be visible inside: the runtime, the commands, the token, Claude Code wherever it is installed."""
        paths = self.bench.paths
        wanted = [Path(paths.share), Path(paths.wrapper).parent, Path(paths.token).parent]
        starts = [Path(paths.claude), Path(paths.native_claude)]
        if on_path := shutil.which("claude"):
            starts.append(Path(on_path))
        for start in starts:
            for step in link_chain(start):
                wanted.append(step if step.parent == self.home else step.parent)
        hidden = (self.home, Path("/tmp"))
        found: list[Path] = []
        for path in wanted:
            covered = any(path.is_relative_to(other) for other in found)
            if path.exists() and not covered and any(path.is_relative_to(root) for root in hidden):
                found.append(path)
        return sorted(found, key=lambda path: len(path.parts))

    def inside(self, argv: Sequence[str], folder: Path | None = None) -> list[str]:
        """``argv`` under bubblewrap with the temporary home, in ``folder`` (the workspace); all of it dies with bubblewrap.

        The state directory is empty and takes what is written: sessions leave word of each other there.
        """
        binds = [word for path in self._programs() for word in ("--ro-bind", str(path), str(path))]
        return [
            self.bench.bwrap, "--die-with-parent", "--dev-bind", "/", "/",
            "--tmpfs", "/tmp", "--bind", str(self.root), str(self.home), *binds, "--tmpfs", self.bench.paths.state,
            "--chdir", str(folder or self.workspace_inside), "--", *argv,
        ]  # fmt: skip

    def environment(self, server: str | None = None) -> dict[str, str]:
        """A user's environment, with an API key of a cloud account in it that must not be used."""
        env = {name: value for name, value in self.bench.environment().items() if not name.startswith(FOREIGN_PREFIXES)}
        env |= {
            "HOME": str(self.home),
            processes.MARKER: self.bench.marker,
            "TERM": "xterm-256color",
            "PATH": f"{self.bench.paths.bin_dir}:{self.home}/.local/bin:{env.get('PATH', '/usr/bin:/bin')}",
            "ANTHROPIC_API_KEY": f"sk-ant-api03-{self.login.secrets[2]}",
        }
        for name in ("TMPDIR", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME"):
            env.pop(name, None)
        if server is not None:
            env["CLAUDE_LOCAL_SERVER"] = server
        return env

    def watch(self) -> network.Watch:
        """A watch over the next program; its file is visible inside under the same name in the home."""
        self._runs += 1
        return network.Watch(
            self.root / f"peers-{self._runs}", self.bench.marker, use_strace=self.strace, inside=self.home
        )

    def claude(
        self, *arguments: str, timeout: float, server: str | None = None, watched: bool = False,
        folder: Path | None = None, variables: Mapping[str, str] | None = None,
    ) -> Session:  # fmt: skip
        """Run ``claude-local ARGUMENTS`` to its end, in ``folder`` (a path inside; the workspace) and with ``variables``
        in its environment. Raises Failed when the wrapper cannot be started at all."""
        watch = self.watch() if watched else None
        argv = [*(watch.prefix() if watch else []), self.bench.paths.wrapper, *arguments]
        peers = None
        try:
            env = {**self.environment(server), **(variables or {})}
            ended = processes.run(self.inside(argv, folder), timeout=timeout, env=env, cwd=str(self.root))
        except OSError as error:
            raise Failed(f"bwrap cannot be started: {error.strerror}") from None
        finally:
            if watch is not None:
                peers = watch.stop()
        return Session(ended, parse_events(ended.stdout), peers)


def home(bench: Workbench) -> TemporaryHome:
    """The run's temporary home, built when it is first needed."""
    return bench.once("home", lambda: TemporaryHome(bench).build())
