"""Every setting and its default, in the order of the stages that read them.

To change one: edit it here, set it for one host in inventory.py, or pass --data KEY=VALUE.
claude_local/settings.schema.json says which values are allowed.
"""

# --- profiles -----------------------------------------------------------------------------------------------------
# The file with the profiles, relative to the project's root.
models_conf = "models.conf"
# The profile that claude-local uses. "auto": the first one that fits this machine, in the order of model_profiles, or
# of models.conf when model_profiles is empty. The deploy prints why.
default_profile = "auto"

# --- packages -----------------------------------------------------------------------------------------------------
# Seconds to wait for another apt or dpkg to finish.
packages_lock_timeout = 300

# --- fence --------------------------------------------------------------------------------------------------------
# Domains that sandboxed commands may reach, e.g. ["example.org", "*.example.com"]. ["*"]: all. When the list is not
# empty, the hooks and MCP servers of a session can reach the whole network.
fence_domains = []
# More ports on 127.0.0.1 that sessions may reach. llama-server and the management API are always reachable.
fence_ports = []
# More paths that sessions may write to, e.g. ["~/.cache/uv", "~/.npm"]. Your other projects build with what they leave.
fence_writable = []
# More paths that sessions must not see.
fence_hidden = []
# Paths that sessions may read although they are hidden by default (docs/fence.md lists those).
fence_visible = []
# Environment variables that sessions get although their names or values look like secrets.
fence_environment = []
# Parts of the desktop that sessions may use: "ssh-agent", "gpg-agent", "display".
fence_sockets = []
# Run the model's commands without asking, where both layers of the fence work. Plan mode still allows no changes.
fence_auto_allow = False

# --- docker -------------------------------------------------------------------------------------------------------
# When Docker is missing, try Docker's own apt repository before the distribution's package.
docker_upstream_repository = True
# Add the user to the docker group. This amounts to root; the deploy does not need it.
docker_group = False

# --- image --------------------------------------------------------------------------------------------------------
# The llama.cpp build that runs. claude_local/image/builds.py pins the sha256 of its sources.
image_llama_build = 11434
# The GPU interface: "cpu", "cuda" (NVIDIA) or "vulkan" (AMD, Intel). "auto": whichever suits the hardware; the deploy
# prints why. "vulkan-software": Mesa's software device, for tests of the Vulkan image without a GPU.
image_variant = "auto"
# "native": compile for this machine's CPU. "all": compile for every x86-64 level; the best one is used at run time.
image_cpu = "native"
# The base image. "auto": the host's own release, e.g. debian:bookworm-slim.
image_base = "auto"
# Parallel compiler jobs. 0: one for each core.
image_jobs = 0
# Keep superseded images. Otherwise those that no container uses are removed once the server runs on the new one.
image_keep_old = False

# --- models -------------------------------------------------------------------------------------------------------
# Where the GGUF files go. Often a big disk.
model_dir = "~/.local/share/claude-local/models"
# Directories that may already hold GGUF files. Files are used in place; nothing is written there.
model_search_dirs = []
# Profiles to install beside the default one. Empty: only the default and, on a machine without a GPU, the other small
# profiles that fit.
model_profiles = []
# The model hub, or a mirror that has the same paths. The environment variable HF_ENDPOINT takes precedence.
model_hub = "https://huggingface.co"

# --- server -------------------------------------------------------------------------------------------------------
# The port of llama-server on 127.0.0.1.
server_port = 8080
# The name of the container. The management API's is the same with "-manager" at its end.
server_container = "claude-local-server"
# The memory limit of the container in MiB. 0: three quarters of the machine's memory. The server keeps as many
# models loaded as fit into it together.
server_memory_mib = 0
# The disk space in MiB for the prompts that llama-server keeps over a restart or a switch: half for the part that all
# sessions share, half for conversations. 0: keep none, so each session reads its whole prompt before its first answer.
server_prompts_mib = 4096
# The limit on processes and threads in the container.
server_pids_limit = 512
# Serve llama-server's own web page on server_port, for a browser on this machine. It asks for the token; llama-local
# open says how to log in.
server_ui = True
# Unload a model after this many minutes without a request; the next request loads it again. 0: never. "auto": 30 on a
# GPU, never on a CPU.
server_idle_unload = "auto"
# Seconds that the default profile may take to load and answer.
server_start_timeout = 600

# --- manager ------------------------------------------------------------------------------------------------------
# The port of the management API on 127.0.0.1.
manager_port = 8081

# --- claude -------------------------------------------------------------------------------------------------------
# The Claude Code version that claude-local is tested with. Installed when Claude Code is missing or too old.
claude_version = "2.1.330"
# The oldest Claude Code that works. It introduced CLAUDE_CODE_MODEL_CAPABILITIES, and it recognizes llama-server's
# message about a full context.
claude_minimum_version = "2.1.330"

# --- home ---------------------------------------------------------------------------------------------------------
# The permission mode that a session starts in.
home_default_mode = "plan"
# The permission mode of claude-local -p. "default": Claude Code's own, which answers and changes nothing unasked.
home_print_mode = "default"
# Keys of ~/.claude-local/settings.json that each deploy sets again, even after you changed them there.
home_enforced_keys = ["permissions.disableAutoMode"]

# --- commands -----------------------------------------------------------------------------------------------------
# Where claude-local and llama-local are installed. The directory is put on PATH for bash, zsh and fish.
commands_dir = "~/bin"

# --- verify -------------------------------------------------------------------------------------------------------
# Run the quick checks, and another check only if its subject has changed since it passed. ./provision sets this.
verify_changed = False
# Hash every model file again, even when its size and times say that nothing changed. Takes about a second for each GB.
verify_deep = False
# Run only these checks and the ones they need, e.g. "server.*,claude.chat". Empty: all.
verify_only = ""
