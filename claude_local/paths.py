"""Where things are on the workstation. The one place that knows; no I/O, no pyinfra."""

from __future__ import annotations

from dataclasses import dataclass
from posixpath import join


@dataclass(frozen=True)
class Paths:
    """Every path of claude-local on a workstation, absolute, derived from the user's home directory.

    ``home`` is the user's home, ``model_dir`` and ``bin_dir`` are the settings of those names with ``~`` already
    expanded (see :func:`expand`).
    """

    home: str
    model_dir: str
    bin_dir: str

    # Claude Code's configuration directory: the user's file space for local sessions.
    @property
    def config_dir(self) -> str:
        return join(self.home, ".claude-local")

    @property
    def settings(self) -> str:
        return join(self.config_dir, "settings.json")

    @property
    def claude_json(self) -> str:
        return join(self.config_dir, ".claude.json")

    @property
    def enforced_settings(self) -> str:
        return join(self.config_dir, "enforced.json")

    @property
    def bash_env(self) -> str:
        return join(self.config_dir, "bash-env.sh")

    # The API token, mode 0600.
    @property
    def token(self) -> str:
        return join(self.home, ".config", "claude-local", "token")

    # Commands.
    @property
    def wrapper(self) -> str:
        return join(self.bin_dir, "claude-local")

    @property
    def llama_local(self) -> str:
        return join(self.bin_dir, "llama-local")

    # Claude Code itself: the native installer's layout, and the link that says which binary claude-local runs.
    @property
    def native_claude(self) -> str:
        return join(self.home, ".local", "bin", "claude")

    @property
    def native_versions(self) -> str:
        return join(self.home, ".local", "share", "claude", "versions")

    @property
    def claude(self) -> str:
        """A link to the Claude Code that was found or installed."""
        return join(self.share, "claude")

    # What the deploy owns: runtime, server configuration, state.
    @property
    def share(self) -> str:
        return join(self.home, ".local", "share", "claude-local")

    @property
    def lib(self) -> str:
        """The copy of this package that runs on the workstation (``lib/claude_local``)."""
        return join(self.share, "lib")

    @property
    def venv(self) -> str:
        return join(self.share, "venv")

    @property
    def python(self) -> str:
        """The runtime's interpreter; ``claude_local`` and requirements-runtime.lock are importable in it."""
        return join(self.venv, "bin", "python")

    @property
    def server_dir(self) -> str:
        """Mounted read-only into the container: presets.ini, the key file, chat templates."""
        return join(self.share, "server")

    @property
    def presets(self) -> str:
        return join(self.server_dir, "presets.ini")

    @property
    def api_key_file(self) -> str:
        """llama-server's copy of the token, owned by the container's user, mode 0400."""
        return join(self.server_dir, "api-key")

    @property
    def chat_templates(self) -> str:
        return join(self.server_dir, "chat-templates")

    @property
    def fence_config(self) -> str:
        """fence.json: which layers of the fence work here and what they let through (claude_local.fence.config)."""
        return join(self.share, "fence.json")

    @property
    def fence_state(self) -> str:
        """Where running sessions leave word of each other's stubs."""
        return join(self.state, "fence")

    @property
    def fence_launcher(self) -> str:
        """The program that puts Claude Code behind the outer fence; the wrapper ends in it."""
        return join(self.lib, "claude_local", "fence", "launch.py")

    @property
    def status_line(self) -> str:
        """The program that tells below the prompt of a session how it is fenced."""
        return join(self.share, "status-line")

    @property
    def sandbox_bin(self) -> str:
        """Links to the bwrap and the socat of Claude Code's sandbox: it takes the first ones on its PATH, so this comes first."""
        return join(self.share, "sandbox-bin")

    @property
    def profiles(self) -> str:
        """profiles.json: what the wrapper needs to know of each placed profile."""
        return join(self.share, "profiles.json")

    @property
    def state(self) -> str:
        return join(self.share, "state")

    @property
    def placements(self) -> str:
        """models.json: each GGUF that was verified, with the stamp that spares the next hash."""
        return join(self.state, "models.json")

    @property
    def verify_report(self) -> str:
        return join(self.state, "verify.json")

    @property
    def settings_applied(self) -> str:
        """What the last deploy wanted in settings.json: a difference from it is the user's change."""
        return join(self.state, "settings.applied.json")

    @property
    def versions(self) -> str:
        return join(self.state, "versions.json")

    # May be deleted at any time.
    @property
    def cache(self) -> str:
        return join(self.home, ".cache", "claude-local")

    @property
    def image_context(self) -> str:
        """The docker build context: our Dockerfile and the llama.cpp tree."""
        return join(self.cache, "image")


def expand(path: str, home: str) -> str:
    """Expand a leading ``~`` to ``home`` (pyinfra 3.10 does not: ``files.directory("~/x")`` makes ``./~``)."""
    if path == "~":
        return home
    if path.startswith("~/"):
        return join(home, path[2:])
    return path
