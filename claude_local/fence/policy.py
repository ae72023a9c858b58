"""What the outer fence hides, empties and guards: the lists, and which environment passes. docs/guide.md shows them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

# --- what a session does not see ------------------------------------------------------------------------------------

# Below the home directory; a name that is not there costs nothing. The plan's list first, then what else holds a login,
# a key, a token or what the user has typed.
MASKED_IN_HOME = (
    ".claude.json", ".claude.json.backup", ".ssh", ".gnupg", ".aws", ".config/gh", ".docker", ".kube",
    # our own token, and llama-server's copy of it
    ".config/claude-local", ".local/share/claude-local/server",
    # clouds, forges, registries, secret stores
    ".azure", ".boto", ".s3cfg", ".oci", ".config/gcloud", ".config/doctl", ".config/hcloud", ".config/rclone",
    ".config/hub", ".config/glab-cli", ".config/op", ".config/sops", ".config/containers/auth.json", ".config/helm",
    # connections of ssh that are logged in
    ".ansible/cp",
    ".netrc", ".authinfo", ".authinfo.gpg", ".git-credentials", ".config/git/credentials", ".npmrc", ".yarnrc", ".yarnrc.yml", ".pypirc",
    ".config/pypoetry/auth.toml", ".config/composer/auth.json", ".composer/auth.json", ".nuget/NuGet/NuGet.Config",
    ".config/configstore", ".databrickscfg", ".pulumi/credentials.json", ".fly/config.yml", ".cloudflared", ".config/ngrok",
    ".ngrok2", ".msmtprc", ".config/JetBrains", ".local/share/jupyter/runtime", ".local/share/jupyter/notebook_secret",
    ".config/pip/pip.conf", ".pip/pip.conf", ".cargo/credentials", ".cargo/credentials.toml", ".gem/credentials",
    ".m2/settings.xml", ".m2/settings-security.xml", ".gradle/gradle.properties", ".terraform.d", ".terraformrc",
    ".vault-token", ".password-store", ".config/age", ".age", ".pgpass", ".my.cnf", ".mylogin.cnf", ".config/rbw",
    ".config/Bitwarden", ".config/Bitwarden CLI", ".config/1Password", ".local/share/keybase", ".config/keybase",
    ".huggingface/token", ".cache/huggingface/token", ".cache/huggingface/stored_tokens", ".kaggle", ".config/wandb",
    # other assistants' logins
    ".codex", ".gemini", ".copilot", ".config/github-copilot", ".cursor", ".config/Cursor", ".config/opencode",
    ".local/share/opencode", ".aider.conf.yml",
    # browsers, mail, messengers, wallets
    ".mozilla", ".librewolf", ".config/google-chrome", ".config/google-chrome-beta", ".config/chromium",
    ".config/BraveSoftware", ".config/microsoft-edge", ".config/vivaldi", ".config/opera", ".cache/mozilla",
    ".cache/google-chrome", ".cache/chromium", ".thunderbird", ".config/evolution", ".local/share/evolution",
    ".config/Signal", ".config/Slack", ".config/discord", ".config/Element", ".local/share/TelegramDesktop",
    ".purple", ".bitcoin", ".ethereum", ".electrum", ".monero", "snap", ".var/app",
    # keyrings and desktop sessions
    ".local/share/keyrings", ".local/share/kwalletd", ".pki", ".Xauthority", ".ICEauthority", ".dbus", ".vnc",
    ".config/pulse/cookie", ".cache/ibus", ".config/remmina", ".local/share/remmina", ".wine",
    # container engines and virtual machines: their sockets and credentials
    ".local/share/containers", ".local/share/docker", ".colima", ".lima", ".rd", ".minikube", ".orbstack",
    # histories
    ".bash_history", ".zsh_history", ".zhistory", ".histfile", ".history", ".sh_history", ".ksh_history",
    ".local/share/fish/fish_history", ".python_history", ".node_repl_history", ".irb_history", ".psql_history",
    ".mysql_history", ".mariadb_history", ".sqlite_history", ".rediscli_history", ".dbshell", ".mongosh", ".lesshst",
    ".viminfo", ".local/state/nvim", ".local/share/nvim/shada", ".wget-hsts", ".local/share/recently-used.xbel",
    ".local/share/atuin", ".local/share/mcfly", ".zsh_sessions", ".config/Code/User/History", ".config/Code/Cookies",
    ".config/Code/User/globalStorage", ".config/Code - Insiders/User/History", ".config/Code - Insiders/Cookies",
    ".config/Code - Insiders/User/globalStorage", ".config/VSCodium/User/History", ".config/VSCodium/Cookies",
    ".config/VSCodium/User/globalStorage", ".emacs.d/server", ".local/share/zoxide",
)  # fmt: skip

# Where a variable puts such things elsewhere: the names below the path in it, "" for that path itself. KUBECONFIG holds
# several, with colons.
MOVED = {
    "AWS_CONFIG_FILE": ("",), "AWS_SHARED_CREDENTIALS_FILE": ("",), "AZURE_CONFIG_DIR": ("",), "BOTO_CONFIG": ("",),
    "CARGO_HOME": ("credentials", "credentials.toml"), "CLOUDSDK_CONFIG": ("",), "CODEX_HOME": ("",),
    "DOCKER_CONFIG": ("",), "GH_CONFIG_DIR": ("",), "GLAB_CONFIG_DIR": ("",), "GNUPGHOME": ("",),
    "GOOGLE_APPLICATION_CREDENTIALS": ("",), "GRADLE_USER_HOME": ("gradle.properties",), "HF_TOKEN_PATH": ("",),
    "HF_HOME": ("token", "stored_tokens"), "HISTFILE": ("",), "KAGGLE_CONFIG_DIR": ("",), "KUBECONFIG": ("",),
    "LESSHISTFILE": ("",), "MYSQL_HISTFILE": ("",), "NETRC": ("",), "NODE_REPL_HISTORY": ("",),
    "NPM_CONFIG_USERCONFIG": ("",), "PASSWORD_STORE_DIR": ("",), "PGPASSFILE": ("",), "PIP_CONFIG_FILE": ("",),
    "PSQL_HISTORY": ("",), "PYTHON_HISTORY": ("",), "REDISCLI_HISTFILE": ("",), "SOPS_AGE_KEY_FILE": ("",),
    "SQLITE_HISTORY": ("",), "TF_CLI_CONFIG_FILE": ("",), "ZDOTDIR": (".zsh_history", ".zsh_sessions"),
    "npm_config_userconfig": ("",),
}  # fmt: skip
_BASES = {
    "XDG_CONFIG_HOME": ".config/", "XDG_DATA_HOME": ".local/share/", "XDG_STATE_HOME": ".local/state/",
    "XDG_CACHE_HOME": ".cache/",
}  # fmt: skip


def moved(env: Mapping[str, str]) -> list[str]:
    """The absolute paths at which ``env`` says that something of MASKED_IN_HOME is kept; whether it is there, or sensible,
    nobody has looked."""
    found = []
    for variable, names in MOVED.items():
        for place in env.get(variable, "").split(":"):
            found += [f"{place}/{name}" if name else place for name in names if place.startswith("/")]
    for variable, usual in _BASES.items():
        if (place := env.get(variable, "")).startswith("/"):
            found += [f"{place}/{name.removeprefix(usual)}" for name in MASKED_IN_HOME if name.startswith(usual)]
    return found


# Hidden where the user could read them, which is root's case.
MASKED_IN_SYSTEM = (
    "/etc/shadow", "/etc/shadow-", "/etc/gshadow", "/etc/gshadow-", "/etc/security/opasswd", "/etc/sudoers",
    "/etc/sudoers.d", "/etc/ssl/private", "/etc/ssh/ssh_host_rsa_key", "/etc/ssh/ssh_host_ecdsa_key",
    "/etc/ssh/ssh_host_ed25519_key", "/etc/krb5.keytab", "/etc/wireguard", "/etc/openvpn",
    "/etc/NetworkManager/system-connections", "/etc/letsencrypt", "/etc/docker/key.json", "/etc/kubernetes",
    "/var/lib/docker", "/var/lib/containerd", "/var/lib/kubelet", "/var/lib/libvirt", "/var/lib/NetworkManager",
    "/var/spool/cron", "/var/spool/at", "/var/backups",
)  # fmt: skip

# Fresh and empty in each session: sockets of Docker, D-Bus, systemd, tmux, X11, Wayland, agents live in them.
TMPFS = ("/tmp", "/var/tmp", "/run")

# Disks that a desktop mounts for somebody: USER/DISK below it are no part of the system.
REMOVABLE = "/run/media"
# Where commands of the distribution come from; a session that starts in one of them, or could write them, is refused.
SYSTEM_DIRECTORIES = (
    "/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/run", "/sbin", "/sys",
    "/usr/bin", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/libexec", "/usr/sbin", "/usr/share", "/var/lib", "/var/spool",
    "/var/run", "/var/cache",
)  # fmt: skip

# --- what is guarded in a workspace -----------------------------------------------------------------------------------

# Files and directories that a program outside the fence runs or obeys later. Read-only where they are there, down to
# SCAN_DEPTH directories below the workspace.
GUARDED = frozenset({
    ".claude", ".mcp.json", ".claude.json", ".vscode", ".idea", ".husky", ".envrc", ".gitconfig", ".bashrc",
    ".bash_profile", ".bash_login", ".bash_logout", ".bash_aliases", ".profile", ".zshrc", ".zprofile", ".zshenv",
    ".zlogin", ".zlogout", ".config/fish", ".cursor", ".zed", ".devcontainer", ".devcontainer.json",
})  # fmt: skip
# Of these, what is kept from appearing at the top of a workspace; the others mean nothing there until somebody reads
# them. Directories get an empty directory, files an empty device.
STUB_DIRECTORIES = (".claude", ".vscode", ".idea", ".cursor", ".zed")
STUB_FILES = (".mcp.json", ".envrc")
# Not looked into for guarded files: large, and never a place where a tool looks for its settings.
NOT_SCANNED = frozenset({
    ".git", "node_modules", ".venv", "venv", "__pycache__", "target", "dist", "build", ".tox", ".mypy_cache",
    ".pytest_cache", ".cache", "site-packages",
})  # fmt: skip
SCAN_DEPTH = 3
# Directory entries that are looked at in one workspace: about 50 ms (benchmarks/fence_startup.py).
SCAN_LIMIT = 20_000
# Repositories inside a workspace that are guarded. Each takes about six mounts: 50 made a start take 0.7 s, 200 took
# 2.2 s, 600 took 20 s (two cores).
REPOSITORIES = 100

# At the top of a workspace: what installed git hooks read. Changing it is everyday work, so that is only told at the end.
HOOK_MANAGERS = (
    ".pre-commit-config.yaml", ".pre-commit-config.yml", "lefthook.yml", "lefthook.yaml", ".lefthook.yml", ".lefthook.yaml",
    "lefthook-local.yml", ".lefthook-local.yml", "lefthook.toml", "lefthook.json", ".overcommit.yml", ".huskyrc",
    ".lintstagedrc", ".lintstagedrc.json", ".lintstagedrc.yaml", ".lintstagedrc.yml", ".simple-git-hooks.json",
)  # fmt: skip

# Inside a repository's git directory. Everything else in it (objects, refs, index, logs) a session may write.
GIT_GUARDED = ("hooks", "config", "config.worktree", "info/attributes", "info/exclude", "commondir", "gitdir")
# In one that lies in the workspace besides its own; a mount on each info/exclude would double the time that a hundred take.
GIT_GUARDED_NESTED = tuple(name for name in GIT_GUARDED if name != "info/exclude")

# Empty files and directories that Claude Code's own sandbox leaves behind (2.1.330): at the top of a workspace when it is
# killed while a command runs, in a git directory always.
SANDBOX_LEFTOVERS = (
    ".gitconfig", ".gitmodules", ".bashrc", ".bash_profile", ".zshrc", ".zprofile", ".profile", ".ripgreprc",
    ".mcp.json", ".vscode", ".idea", ".claude/.cc-writes", ".claude/commands", ".claude/agents", ".claude/hooks", ".claude",
)  # fmt: skip
SANDBOX_LEFTOVERS_IN_GIT = (
    "glab-cli", "remotes", "branches", "worktrees", "config.worktree", "config.lock", "info/.claude-sandbox-noreplace",
    "objects/info/.claude-sandbox-noreplace", "objects/info/alternates", "objects/info/commit-graphs",
    "objects/info/commit-graphs/.claude-sandbox-noreplace",
)  # fmt: skip

# --- which environment passes ------------------------------------------------------------------------------------------

# They name sockets and sessions outside; TMPDIR a directory that is not there inside.
POINTERS = frozenset({
    "SSH_AUTH_SOCK", "SSH_AGENT_PID", "SSH_ASKPASS", "SUDO_ASKPASS", "GIT_ASKPASS", "GPG_AGENT_INFO",
    "DBUS_SESSION_BUS_ADDRESS", "DBUS_SYSTEM_BUS_ADDRESS", "DBUS_STARTER_ADDRESS", "DISPLAY", "WAYLAND_DISPLAY",
    "XAUTHORITY", "ICEAUTHORITY", "SESSION_MANAGER", "TMUX", "TMUX_PANE", "TMUX_TMPDIR", "STY", "ZELLIJ",
    "ZELLIJ_SESSION_NAME", "DOCKER_HOST", "DOCKER_CONFIG", "CONTAINER_HOST", "KUBECONFIG", "PULSE_SERVER",
    "GNOME_KEYRING_CONTROL", "NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "JOURNAL_STREAM", "INVOCATION_ID",
    "VSCODE_IPC_HOOK_CLI", "VSCODE_GIT_IPC_HANDLE", "VSCODE_GIT_ASKPASS_NODE", "VSCODE_GIT_ASKPASS_MAIN",
    "VSCODE_GIT_ASKPASS_EXTRA_ARGS", "NVIM", "NVIM_LISTEN_ADDRESS", "EMACS_SERVER_FILE", "KITTY_LISTEN_ON",
    "ALACRITTY_SOCKET", "WEZTERM_UNIX_SOCKET", "SWAYSOCK", "I3SOCK", "HYPRLAND_INSTANCE_SIGNATURE", "TMPDIR", "TMP",
    "TEMP", "LD_PRELOAD", "LD_AUDIT",
})  # fmt: skip
_CREDENTIAL = re.compile(
    r"(^|_)(TOKEN|TOKENS|SECRET|SECRETS|PASS|CREDENTIAL|CREDENTIALS|PAT|COOKIE|APIKEY)(_|$)"
    r"|(PASSWORD|PASSWORDS|PASSWD|PASSPHRASE|SSHPASS)(_|$)|_PWD(_|$)|CONNECTION_?STRING(_|$)|_SESSION$|^OP_SESSION_"
    r"|(^|_)(API|ACCESS|SECRET|PRIVATE|SIGNING|ENCRYPTION|AUTH|MASTER|ACCOUNT|SERVICE)_?KEY(_|$)|_KEY$|^AWS_|_DSN$|_AUTH$"
    r"|(^|_)(DATABASE|DB|MONGO|MONGODB|REDIS|POSTGRES|POSTGRESQL|MYSQL|AMQP|RABBITMQ|BROKER)_UR[LI]$",
    re.IGNORECASE,
)
# They match the pattern above and are no secrets, or the session cannot do without.
_NO_SECRETS = re.compile(
    r"^(ANTHROPIC_|CLAUDE_|MAX_.*TOKENS|AWS_(DEFAULT_)?REGION$|AWS_PAGER$|(XDG|DESKTOP|GNOME|KDE|KONSOLE|TMUX|SHELL)\w*SESSION$"
    r"|(\w+_)?(PUBLIC|PUB|CACHE|SORT|PRIMARY|FOREIGN|PARTITION|PREFIX|META|MOD|COMPOSE)_KEY$)",
    re.IGNORECASE,
)
# An address with a password in it, or with something as long as a token in the place of the user's name.
_LOGIN_IN_ADDRESS = re.compile(r"://([^/\s@:]*:[^/\s@]+|[^/\s@:]{20,})@")
# The sockets that a user may ask for, and the variables that name them.
SOCKET_VARIABLES = {
    "ssh-agent": ("SSH_AUTH_SOCK",),
    "gpg-agent": (),
    "display": ("DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY"),
}


def looks_like_a_credential(name: str) -> bool:
    """Whether an environment variable's name says that its value is a secret."""
    return _CREDENTIAL.search(name) is not None and _NO_SECRETS.match(name) is None


def holds_a_login(value: str) -> bool:
    """Whether an environment variable's value is an address with a password (``https://user:password@host``)."""
    return "://" in value and _LOGIN_IN_ADDRESS.search(value) is not None


def environment(given: Mapping[str, str], keep: Iterable[str] = (), sockets: Iterable[str] = ()) -> dict[str, str]:
    """What of ``given`` a session gets: without credentials and without pointers to what lies outside.

    ``keep``: names that pass in any case. ``sockets``: of SOCKET_VARIABLES' keys, whose variables pass.
    """
    kept = set(keep) | {name for each in sockets for name in SOCKET_VARIABLES[each]}
    return {
        name: value
        for name, value in given.items()
        if name in kept or not (name in POINTERS or looks_like_a_credential(name) or holds_a_login(value))
    }
