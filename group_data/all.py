"""Every setting with its default. Override in group_data/, in inventory.py or with --data KEY=VALUE.

Names are prefixed by the stage that reads them. claude_local/settings.schema.json says what is allowed.
"""

# --- profiles -----------------------------------------------------------------------------------------------------
# The profiles file, relative to the project root.
models_conf = "models.conf"
# Which profile `claude-local` uses. "auto": the first that fits this machine, in the order of models.conf (of
# model_profiles, if that names some); the deploy prints the reason.
default_profile = "auto"

# --- packages -----------------------------------------------------------------------------------------------------
# Seconds to wait for another apt or dpkg to finish.
packages_lock_timeout = 300

# --- docker -------------------------------------------------------------------------------------------------------
# Try Docker's own apt repository first when Docker has to be installed; else the distribution's package.
docker_upstream_repository = True
# Put the user into the docker group (root-equivalent!); the deploy itself does not need it.
docker_group = False

# --- image --------------------------------------------------------------------------------------------------------
# Which llama.cpp build runs; the sha256 of each source stands beside it in claude_local/image/builds.py.
image_llama_build = 11434
# "auto": decided from the hardware, the reason is printed. "cpu", "cuda" (NVIDIA) or "vulkan" (AMD, Intel): that one.
image_variant = "auto"
# "native": compiled for this machine's CPU. "all": every x86-64 level in one image, chosen at start.
image_cpu = "native"
# Base image: "auto" is the host's own release (e.g. debian:bookworm-slim), else any image reference.
image_base = "auto"
# Parallel compiler jobs; 0: one a core.
image_jobs = 0
# Keep the images of earlier builds; else those that no container uses are removed once the server runs on the new one.
image_keep_old = False

# --- model --------------------------------------------------------------------------------------------------------
# Where GGUF files are placed; often a big disk.
model_dir = "~/.local/share/claude-local/models"
# Directories that may already hold GGUF files: used where they are, never written to.
model_search_dirs = []
# Further profiles to place beside the default. Empty: only the default and, on a machine without a GPU, the other small
# profiles that fit.
model_profiles = []
# The model hub; a mirror with the same paths can stand here (the environment variable HF_ENDPOINT wins over it).
model_hub = "https://huggingface.co"

# --- server -------------------------------------------------------------------------------------------------------
# llama-server's port on 127.0.0.1.
server_port = 8080
# The container's name.
server_container = "claude-local-server"
# Memory limit of the container in MiB; 0: three quarters of the machine's memory.
server_memory_mib = 0
# Limit on processes and threads in the container.
server_pids_limit = 512
# Seconds that the default profile may take to load and answer.
server_start_timeout = 600

# --- manager ------------------------------------------------------------------------------------------------------
# The management API's port on 127.0.0.1 (kept free for it).
manager_port = 8081

# --- claude -------------------------------------------------------------------------------------------------------
# The Claude Code version that claude-local is tested with; installed when none or a too old one is there.
claude_version = "2.1.330"
# The oldest version that works: CLAUDE_CODE_MODEL_CAPABILITIES and the overflow wording came with it.
claude_minimum_version = "2.1.330"

# --- home ---------------------------------------------------------------------------------------------------------
# The permission mode that a session starts in.
home_default_mode = "plan"
# Key paths of ~/.claude-local/settings.json where the deploy's value wins over a change made by hand.
home_enforced_keys = ["permissions.disableAutoMode"]

# --- commands -----------------------------------------------------------------------------------------------------
# Where claude-local is installed; put onto PATH for bash, zsh and fish.
commands_dir = "~/bin"

# --- fence --------------------------------------------------------------------------------------------------------
# Domains that sandboxed commands may reach, e.g. ["example.org", "*.example.com"]; ["*"]: all. Not empty: hooks and MCP
# servers of a session reach the whole network.
fence_domains = []
# Further ports on 127.0.0.1 that sessions may reach (llama-server and the management API always).
fence_ports = []
# Further paths that sessions may write, e.g. ["~/.cache/uv", "~/.npm"]: what they leave there, other projects build with.
fence_writable = []
# Further paths that sessions must not see.
fence_hidden = []
# Paths that are hidden by default (docs/guide.md lists them) and that sessions may read all the same.
fence_visible = []
# Environment variables whose name looks like a credential (..._TOKEN, ..._API_KEY) and that sessions get all the same.
fence_environment = []
# What of the desktop sessions may use: "ssh-agent", "gpg-agent", "display".
fence_sockets = []

# --- verify -------------------------------------------------------------------------------------------------------
# Hash every model file again, also those whose stamp says that nothing changed (about a second for each GB).
verify_deep = False
# Only these rows and what they need: patterns with commas between them, e.g. "server.*,claude.chat". Empty: all.
verify_only = ""
