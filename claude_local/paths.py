"""Where things are on the workstation. The one place that knows; no I/O, no pyinfra."""

from __future__ import annotations

from dataclasses import dataclass
from posixpath import join

# The name of the lock file in the state directory and in model_dir.
LOCK = ".placing.lock"


@dataclass(frozen=True)
class Paths:
    """Every path of claude-local on a workstation, absolute, derived from the user's home directory.

    ``home`` is the user's home. ``model_dir`` and ``bin_dir`` are the settings model_dir and commands_dir with ``~``
    already expanded (see :func:`expand`).
    """

    home: str
    model_dir: str
    bin_dir: str

    # Claude Code's configuration directory, which is the user's.
    @property
    def config_dir(self) -> str:
        """Claude Code's configuration directory for local sessions (CLAUDE_CONFIG_DIR)."""
        return join(self.home, ".claude-local")

    @property
    def settings(self) -> str:
        """The user's settings for Claude Code; the deploy merges its defaults into them."""
        return join(self.config_dir, "settings.json")

    @property
    def claude_json(self) -> str:
        """Claude Code's own state; the deploy answers the first-run questions in it."""
        return join(self.config_dir, ".claude.json")

    @property
    def enforced_settings(self) -> str:
        """The settings that the wrapper passes with --settings: no project can undo them."""
        return join(self.config_dir, "enforced.json")

    @property
    def bash_env(self) -> str:
        """Shell text that Claude Code runs before each sandboxed command (CLAUDE_ENV_FILE)."""
        return join(self.config_dir, "bash-env.sh")

    @property
    def switch_command(self) -> str:
        """Makes ``/switch`` known in sessions; a hook answers it (claude_local.claude.switch_command)."""
        return join(self.config_dir, "commands", "switch.md")

    # Commands and Claude Code.
    @property
    def token(self) -> str:
        """The API token of llama-server, mode 0600."""
        return join(self.home, ".config", "claude-local", "token")

    @property
    def wrapper(self) -> str:
        """The command claude-local."""
        return join(self.bin_dir, "claude-local")

    @property
    def llama_local(self) -> str:
        """The command llama-local."""
        return join(self.bin_dir, "llama-local")

    @property
    def zsh_functions(self) -> str:
        """The directory of llama-local's completion for zsh."""
        return join(self.share, "zsh")

    @property
    def native_claude(self) -> str:
        """The user's own ``claude``, where the native installer puts it."""
        return join(self.home, ".local", "bin", "claude")

    @property
    def native_versions(self) -> str:
        """The native installer's directory of Claude Code binaries, one for each version."""
        return join(self.home, ".local", "share", "claude", "versions")

    @property
    def claude(self) -> str:
        """A link to the Claude Code that claude-local runs."""
        return join(self.share, "claude")

    # What the deploy owns: runtime, server configuration, state.
    @property
    def share(self) -> str:
        """The directory of all that the deploy owns."""
        return join(self.home, ".local", "share", "claude-local")

    @property
    def lib(self) -> str:
        """The copy of this package that runs on the workstation (``lib/claude_local``)."""
        return join(self.share, "lib")

    @property
    def venv(self) -> str:
        """The virtual environment of the runtime."""
        return join(self.share, "venv")

    @property
    def python(self) -> str:
        """The runtime's interpreter; it can import ``claude_local`` and requirements-runtime.lock."""
        return join(self.venv, "bin", "python")

    @property
    def server_dir(self) -> str:
        """Mounted read-only into the container: presets.ini, the key file, chat templates."""
        return join(self.share, "server")

    @property
    def presets(self) -> str:
        """llama-server's configuration: one section for each profile."""
        return join(self.server_dir, "presets.ini")

    @property
    def api_key_file(self) -> str:
        """llama-server's copy of the token, owned by the container's user, mode 0400."""
        return join(self.server_dir, "api-key")

    @property
    def chat_templates(self) -> str:
        """The chat templates that profiles name."""
        return join(self.server_dir, "chat-templates")

    @property
    def fence_config(self) -> str:
        """Which layers of the fence work here, and what they let through (claude_local.fence.config)."""
        return join(self.share, "fence.json")

    @property
    def fence_state(self) -> str:
        """Where running sessions record the stubs that they made."""
        return join(self.state, "fence")

    @property
    def start_program(self) -> str:
        """The program that waits for llama-server and starts Claude Code in the fence; the wrapper runs it."""
        return join(self.lib, "claude_local", "claude", "start.py")

    @property
    def status_line(self) -> str:
        """The program that shows the fence below the prompt of a session."""
        return join(self.share, "status-line")

    @property
    def sandbox_bin(self) -> str:
        """bwrap and socat for Claude Code's sandbox, which takes the first ones on PATH.

        The launcher writes them, so they are state: verify's sessions can write nothing else in the home.
        """
        return join(self.state, "sandbox-bin")

    @property
    def profiles(self) -> str:
        """What the commands and the management API need to know about each installed profile."""
        return join(self.manager_dir, "profiles.json")

    @property
    def manager_dir(self) -> str:
        """Mounted read-only into the management API's container."""
        return join(self.share, "manager")

    @property
    def manager_state(self) -> str:
        """Where the management API remembers what the user wants of the server."""
        return join(self.state, "manager")

    @property
    def manager_wish(self) -> str:
        """What the user wants of the server (claude_local.manager.wish)."""
        return join(self.manager_state, "wish.json")

    @property
    def sessions(self) -> str:
        """Where running sessions keep their records; mounted read-only into the management API's container."""
        return join(self.state, "sessions")

    @property
    def server_logs(self) -> str:
        """The directory of llama-server's log, which its container may write to."""
        return join(self.share, "log")

    @property
    def server_log(self) -> str:
        """llama-server's log; the management API shortens it."""
        return join(self.server_logs, "server.log")

    @property
    def server_prompts(self) -> str:
        """The directory of the prompts that llama-server keeps over a restart."""
        return join(self.share, "prompts")

    @property
    def state(self) -> str:
        """The directory of what the deploy remembers."""
        return join(self.share, "state")

    @property
    def bandwidth(self) -> str:
        """How many bytes a second this machine reads from memory, measured once."""
        return join(self.state, "memory-bandwidth")

    @property
    def placements(self) -> str:
        """Every GGUF file that was verified, with the size and times that make another hash unnecessary."""
        return join(self.state, "models.json")

    @property
    def placing_lock(self) -> str:
        """The lock of whoever places or deletes models (claude_local.models.run_lock); it holds their process id."""
        return join(self.state, LOCK)

    @property
    def verify_report(self) -> str:
        """The report of the last verification."""
        return join(self.state, "verify.json")

    @property
    def verify_passed(self) -> str:
        """Which rows of the verification have passed, and on what."""
        return join(self.state, "verify.passed.json")

    @property
    def verify_parameters(self) -> str:
        """The settings of the deploy that verified last, for ``llama-local verify``."""
        return join(self.state, "verify.parameters.json")

    @property
    def benchmarks(self) -> str:
        """The results of ``llama-local bench``."""
        return join(self.state, "bench")

    @property
    def settings_applied(self) -> str:
        """Our defaults of the last deploy: where settings.json differs, the user changed it."""
        return join(self.state, "settings.applied.json")

    @property
    def versions(self) -> str:
        """The versions of what is installed, and those that were tested."""
        return join(self.state, "versions.json")

    # May be deleted at any time.
    @property
    def cache(self) -> str:
        """Downloads and build files."""
        return join(self.home, ".cache", "claude-local")

    @property
    def image_context(self) -> str:
        """The docker build context: our Dockerfile and the llama.cpp tree."""
        return join(self.cache, "image")


def expand(path: str, home: str) -> str:
    """Expand a leading ``~`` to ``home``. (pyinfra 3.10 does not: ``files.directory("~/x")`` makes ``./~``.)"""
    if path == "~":
        return home
    if path.startswith("~/"):
        return join(home, path[2:])
    return path
