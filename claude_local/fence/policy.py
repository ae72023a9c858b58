"""The lists of what the outer fence masks and guards. docs/fence.md tells the user about them."""

from __future__ import annotations

from collections.abc import Mapping

# --- what a session does not see ------------------------------------------------------------------------------------

# Below the home directory: what holds a login, a key, a token or what the user has typed. A name that does not exist
# costs nothing.
MASKED_IN_HOME = (
    ".claude.json", ".claude.json.backup", ".ssh", ".gnupg", ".aws", ".config/gh", ".docker", ".kube",
    # our own token, and llama-server's copy of it
    ".config/claude-local", ".local/share/claude-local/server",
    # what was said in other sessions, and the paths of their workspaces
    ".local/share/claude-local/prompts",
    ".local/share/claude-local/state/sessions", ".local/share/claude-local/state/fence",
    # clouds, forges, registries, secret stores
    ".azure", ".boto", ".s3cfg", ".oci", ".config/gcloud", ".config/doctl", ".config/hcloud", ".config/rclone",
    ".config/hub", ".config/glab-cli", ".config/op", ".config/sops", ".config/containers/auth.json", ".config/helm",
    # connections of ssh that are logged in
    ".ansible/cp",
    ".netrc", ".authinfo", ".authinfo.gpg", ".git-credentials", ".config/git/credentials", ".npmrc", ".yarnrc",
    ".yarnrc.yml", ".pypirc",
    ".config/pypoetry/auth.toml", ".config/composer/auth.json", ".composer/auth.json", ".nuget/NuGet/NuGet.Config",
    ".config/configstore", ".databrickscfg", ".pulumi/credentials.json", ".fly/config.yml", ".cloudflared",
    ".config/ngrok", ".config/stripe", ".netlify", ".config/netlify", ".vercel", ".config/com.vercel.cli",
    ".local/share/com.vercel.cli", ".wrangler", ".config/.wrangler", ".supabase", ".config/supabase",
    ".config/io.datasette.llm", ".config/borg", ".subversion/auth", ".mutt", ".muttrc", ".config/mutt", ".neomutt",
    ".neomuttrc", ".config/neomutt",
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

# Besides these, files of ~/.config that look as if they hold a secret (secret_shapes.py): so many directories deep, and
# so many files at most.
SETTINGS_DEPTH, SETTINGS_LIMIT = 2, 2_000
# Bytes of such a file that are read.
SETTINGS_SIZE = 16 << 10
# What git in a session needs.
VISIBLE_SETTINGS = ("git/config", "git/ignore", "git/attributes")

# Variables that move such things: the names below the path that they hold, "" for that path itself. KUBECONFIG holds
# several paths with colons between them.
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
    """The absolute paths to which ``env`` moves something of MASKED_IN_HOME. They need not exist, or make sense."""
    paths = []
    for variable, names in MOVED.items():
        for place in env.get(variable, "").split(":"):
            paths += [f"{place}/{name}" if name else place for name in names if place.startswith("/")]
    for variable, usual in _BASES.items():
        if (place := env.get(variable, "")).startswith("/"):
            paths += [f"{place}/{name.removeprefix(usual)}" for name in MASKED_IN_HOME if name.startswith(usual)]
    return paths


# Masked where the user can read them, which is mostly root.
MASKED_IN_SYSTEM = (
    "/etc/shadow", "/etc/shadow-", "/etc/gshadow", "/etc/gshadow-", "/etc/security/opasswd", "/etc/sudoers",
    "/etc/sudoers.d", "/etc/ssl/private", "/etc/ssh/ssh_host_rsa_key", "/etc/ssh/ssh_host_ecdsa_key",
    "/etc/ssh/ssh_host_ed25519_key", "/etc/krb5.keytab", "/etc/wireguard", "/etc/openvpn",
    "/etc/NetworkManager/system-connections", "/etc/letsencrypt", "/etc/docker/key.json", "/etc/kubernetes",
    "/var/lib/docker", "/var/lib/containerd", "/var/lib/kubelet", "/var/lib/libvirt", "/var/lib/NetworkManager",
    "/var/spool/cron", "/var/spool/at", "/var/backups",
)  # fmt: skip

# A tmpfs in each session: the sockets of Docker, D-Bus, systemd, tmux, X11, Wayland and agents lie in them.
TMPFS = ("/tmp", "/var/tmp", "/run")

# Desktops mount disks at USER/DISK below this: those are no part of the system.
REMOVABLE = "/run/media"
# Directories of the distribution. A session that starts in one of them, or could write one, is refused.
SYSTEM_DIRECTORIES = (
    "/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/run", "/sbin", "/sys",
    "/usr/bin", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/libexec", "/usr/sbin", "/usr/share", "/var/lib",
    "/usr/local/bin", "/usr/local/lib", "/usr/local/sbin", "/var/spool", "/var/run", "/var/cache",
    "/snap",
)  # fmt: skip
# No workspaces themselves, but directories below them may be.
SHARED_DIRECTORIES = ("/home", "/opt")
# Below the home directory: programs that shells find, although perhaps not the one that starts the session. No
# workspace may hold one.
PROGRAMS_IN_HOME = (
    "bin", ".local/bin", ".cargo/bin", "go/bin", ".npm-global/bin", ".yarn/bin", ".bun/bin", ".deno/bin", ".volta/bin",
    ".dotnet/tools", ".krew/bin", ".pyenv/shims", ".rbenv/shims", ".asdf/shims", ".local/share/mise/shims",
)  # fmt: skip

# --- what is guarded in a workspace -----------------------------------------------------------------------------------

# Files and directories that a program outside the fence runs or obeys later. Those that exist are read-only, down to
# SCAN_DEPTH directories below the workspace.
GUARDED = frozenset({
    ".claude", ".mcp.json", ".claude.json", ".vscode", ".idea", ".husky", ".envrc", ".gitconfig", ".bashrc",
    ".bash_profile", ".bash_login", ".bash_logout", ".bash_aliases", ".profile", ".zshrc", ".zprofile", ".zshenv",
    ".zlogin", ".zlogout", ".config/fish", ".cursor", ".zed", ".devcontainer", ".devcontainer.json", ".ripgreprc",
})  # fmt: skip
# Directories that must not appear at the top of a workspace: a program outside would obey what is in them at once. git
# shows no empty directory, so stubs of ours are in nobody's way.
STUB_DIRECTORIES = (".claude", ".vscode", ".idea", ".cursor", ".zed")
# Files that must not appear there. A stub would show in git status, and Claude Code and direnv would complain of it. So
# the watch renames them.
FORBIDDEN_FILES = (
    ".mcp.json", ".envrc", ".gitconfig", ".bashrc", ".bash_profile", ".bash_login", ".bash_logout", ".bash_aliases",
    ".profile", ".zshrc", ".zprofile", ".zshenv", ".zlogin", ".zlogout", ".ripgreprc",
)  # fmt: skip
# Not searched for guarded files: large, and no tool looks for its settings there.
NOT_SCANNED = frozenset({
    ".git", "node_modules", ".venv", "venv", "__pycache__", "target", "dist", "build", ".tox", ".mypy_cache",
    ".pytest_cache", ".cache", "site-packages",
})  # fmt: skip
SCAN_DEPTH = 3
# Directory entries that are read in one workspace at most; that many take about 50 ms (benchmarks/fence_startup.py).
SCAN_LIMIT = 20_000
# Repositories in a workspace that are guarded at most. Each takes about six mounts: with 50 a start takes 0.7 s, with
# 200 2.2 s, with 600 20 s (measured on two cores).
REPOSITORIES = 100

# What installed git hooks read, at the top of a workspace. Changing these is everyday work, so it is only reported at
# the end.
HOOK_MANAGERS = (
    ".pre-commit-config.yaml", ".pre-commit-config.yml", "lefthook.yml", "lefthook.yaml", ".lefthook.yml",
    ".lefthook.yaml",
    "lefthook-local.yml", ".lefthook-local.yml", "lefthook.toml", "lefthook.json", ".overcommit.yml", ".huskyrc",
    ".lintstagedrc", ".lintstagedrc.json", ".lintstagedrc.yaml", ".lintstagedrc.yml", ".simple-git-hooks.json",
)  # fmt: skip

# Read-only in a repository's git directory. A session may write everything else in it: objects, refs, index, logs.
GIT_GUARDED = ("hooks", "config", "config.worktree", "info/attributes", "info/exclude", "commondir", "gitdir")
# The same in further repositories in a workspace. A mount on each info/exclude would double the time that a hundred
# take.
GIT_GUARDED_NESTED = tuple(name for name in GIT_GUARDED if name != "info/exclude")

# Empty files and directories that Claude Code (2.1.330) leaves in a git directory, also where the outer layer holds
# files.
LEFTOVERS_IN_GIT = (
    "glab-cli", "remotes", "branches", "worktrees", "config.worktree", "info/.claude-sandbox-noreplace",
    "objects/info/.claude-sandbox-noreplace", "objects/info/alternates", "objects/info/commit-graphs",
    "objects/info/commit-graphs/.claude-sandbox-noreplace",
)  # fmt: skip
