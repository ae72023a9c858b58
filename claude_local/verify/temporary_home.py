"""A home that exists only for verify's sessions of the real Claude Code through the real wrapper.

A mount namespace (bubblewrap) puts a temporary directory in the place of the user's home: the paths are the same, but
what sessions write goes there and is deleted afterwards. It holds a copy of the settings in ~/.claude-local, the
installed programs (read-only), a workspace, and a decoy of a Claude Code login whose secrets must never leave. The
workspace has the same path in every run: the prompt names it, so llama-server's cache stays valid.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from claude_local.verify import network, processes
from claude_local.verify.checks import Failed
from claude_local.verify.session import Session, parse_events
from claude_local.verify.workbench import Workbench

# What sessions get of ~/.claude-local; everything else there is the user's history.
CONFIGURATION = ("settings.json", "enforced.json", "bash-env.sh")
# Variables of the caller that sessions must not inherit.
FOREIGN_PREFIXES = ("CLAUDE", "ANTHROPIC")


@dataclass(frozen=True)
class DecoyLogin:
    """A planted login: its secrets, and the content of each file below the home."""

    secrets: list[str]
    files: dict[str, bytes]


def make_login() -> DecoyLogin:
    """A subscription login as Claude Code stores it; the keys are random and belong to nobody."""
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
    return DecoyLogin(
        [access, refresh, key],
        {
            ".claude/.credentials.json": json.dumps(credentials).encode(),
            ".claude/settings.json": b'{"model": "opus"}\n',
            ".claude.json": json.dumps(account, indent=2).encode(),
        },
    )


def link_chain(path: Path) -> list[Path]:
    """``path`` and the target of every link on the way to the real file; [] when it leads nowhere."""
    chain: list[Path] = []
    while len(chain) < 40:
        if not os.path.lexists(path):
            return []
        chain.append(path)
        if not path.is_symlink():
            return chain
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
        """Make it, in the place of one that a killed run has left; it is removed when the run ends."""
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
        """The user's .claude.json without the list of their projects."""
        try:
            value = json.loads(Path(self.bench.paths.claude_json).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return {key: value[key] for key in value if key != "projects"} if isinstance(value, dict) else {}

    def remove(self) -> None:
        """Delete it, read-only directories too."""
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
        claude_json = json.loads(file.read_text(encoding="utf-8"))
        claude_json.setdefault("projects", {})[str(folder)] = {"hasTrustDialogAccepted": True}
        file.write_text(json.dumps(claude_json), encoding="utf-8")

    def _programs(self) -> list[Path]:
        """The directories that must be visible inside: the runtime, the commands, the token, and each Claude Code."""
        paths = self.bench.paths
        directories = [Path(paths.share), Path(paths.wrapper).parent, Path(paths.token).parent]
        for claude in (paths.claude, paths.native_claude, shutil.which("claude")):
            for step in link_chain(Path(claude)) if claude else []:
                directories.append(step if step.parent == self.home else step.parent)
        programs: list[Path] = []
        for path in directories:
            hidden = path.is_relative_to(self.home) or path.is_relative_to("/tmp")
            if hidden and path.exists() and not any(path.is_relative_to(other) for other in programs):
                programs.append(path)
        return sorted(programs, key=lambda path: len(path.parts))

    def inside(self, argv: Sequence[str], folder: Path | None = None) -> list[str]:
        """``argv`` under bubblewrap with the temporary home, in ``folder`` (default: the workspace).

        Everything in it ends with bubblewrap. The state directory is an empty tmpfs, where sessions may write.
        """
        binds = [argument for path in self._programs() for argument in ("--ro-bind", str(path), str(path))]
        return [
            self.bench.bwrap, "--die-with-parent", "--dev-bind", "/", "/",
            "--tmpfs", "/tmp", "--bind", str(self.root), str(self.home), *binds, "--tmpfs", self.bench.paths.state,
            "--chdir", str(folder or self.workspace_inside), "--", *argv,
        ]  # fmt: skip

    def environment(self, server: str | None = None) -> dict[str, str]:
        """A user's environment. It holds an API key of a cloud account, which must not be used."""
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

    def record_peers(self) -> network.PeerRecord:
        """A record of the peers of the next program. Its file lies in the home, inside and outside."""
        self._runs += 1
        file = self.root / f"peers-{self._runs}"
        return network.PeerRecord(file, self.bench.marker, use_strace=self.strace, inside=self.home)

    def claude(
        self, *arguments: str, timeout: float, server: str | None = None, watched: bool = False,
        folder: Path | None = None, variables: Mapping[str, str] | None = None,
    ) -> Session:  # fmt: skip
        """Run ``claude-local ARGUMENTS`` to its end, in ``folder`` (a path inside; default: the workspace).

        ``server``: another server's URL. ``watched``: record the peers. ``variables``: added to its environment.
        Raises Failed when bubblewrap cannot be started.
        """
        record = self.record_peers() if watched else None
        argv = [*(record.prefix() if record else []), self.bench.paths.wrapper, *arguments]
        peers = None
        try:
            env = {**self.environment(server), **(variables or {})}
            ended = processes.run(self.inside(argv, folder), timeout=timeout, env=env, cwd=str(self.root))
        except OSError as error:
            raise Failed(f"bwrap cannot be started: {error.strerror}") from None
        finally:
            if record is not None:
                peers = record.stop()
        return Session(ended, parse_events(ended.stdout), peers)


def home(bench: Workbench) -> TemporaryHome:
    """The run's temporary home, built when it is first needed."""
    return bench.once("home", lambda: TemporaryHome(bench).build())
