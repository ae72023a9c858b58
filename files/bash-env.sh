# shellcheck shell=sh
# Read before each command of a claude-local session (CLAUDE_ENV_FILE); written by tasks/home.py, changes are lost.

# The sandbox names every local address in NO_PROXY, so that clients would not ask the sandbox's proxy, the only way to
# llama-server and the management API. The narrowed value names link-local addresses only.
export NO_PROXY=169.254.0.0/16 no_proxy=169.254.0.0/16 NODE_USE_ENV_PROXY=1

# The links to the sandbox's own bwrap and socat are for Claude Code itself, not for commands.
case ${CLAUDE_LOCAL_SANDBOX_BIN:+:$PATH:} in
  *:"$CLAUDE_LOCAL_SANDBOX_BIN":*)
    PATH=:$PATH:
    PATH=${PATH%%:"$CLAUDE_LOCAL_SANDBOX_BIN":*}:${PATH#*:"$CLAUDE_LOCAL_SANDBOX_BIN":}
    PATH=${PATH#:}
    PATH=${PATH%:}
    ;;
esac

# Some files (.bashrc, .mcp.json ...) are blocked by /dev/null in their places. Git takes those for new files and refuses
# to add them, and with them everything else: let it ignore exactly what is mounted here.
claude_local_blocked() (
  own=$(git config --type=path --get core.excludesFile 2>/dev/null) || own=${XDG_CONFIG_HOME:-$HOME/.config}/git/ignore
  if [ -r "$own" ]; then cat -- "$own" && echo; fi
  # Of each mount: its number, its parent's, the device, the place in it, the place here.
  while read -r _ _ _ source place _; do
    case $source$place in /null/* | //*/.claude | //*/.vscode | //*/.idea | //*/.cursor | //*/.zed) ;; *) continue ;; esac
    case $place in *\\*) place=$(printf '%b' "$place") ;; esac
    top=${place%/*}
    while [ -n "$top" ] && ! [ -e "$top/.git" ]; do top=${top%/*}; done
    # No repository yet: where the file is, one may be made in this very command.
    [ -n "$top" ] || top=${place%/*}
    name=${place#"$top"}
    case $name in *[\\*?[]*) name=$(printf '%s' "$name" | sed 's/[\\*?[]/\\&/g') ;; esac
    printf '%s\n' "$name"
  done </proc/self/mountinfo
)
claude_local_git() {
  export "GIT_CONFIG_KEY_${GIT_CONFIG_COUNT:-0}=$1" "GIT_CONFIG_VALUE_${GIT_CONFIG_COUNT:-0}=$2"
  export GIT_CONFIG_COUNT=$((${GIT_CONFIG_COUNT:-0} + 1))
}
if [ -z "${CLAUDE_LOCAL_BLOCKED-}" ] && claude_local_blocked >"${TMPDIR:-/tmp}/claude-local-blocked" 2>/dev/null; then
  export CLAUDE_LOCAL_BLOCKED="${TMPDIR:-/tmp}/claude-local-blocked"
  claude_local_git core.excludesFile "$CLAUDE_LOCAL_BLOCKED"
fi

# The keys are hidden, and git would commit nothing that it is to sign and cannot.
claude_local_signer=gpg-agent
case ${CLAUDE_LOCAL_SOCKETS-} in
  *ssh-agent*) if [ "$(git config --get gpg.format 2>/dev/null)" = ssh ]; then claude_local_signer=ssh-agent; fi ;;
esac
case ${CLAUDE_LOCAL_UNSIGNED-}:${CLAUDE_LOCAL_FENCE:-none}:${CLAUDE_LOCAL_SOCKETS-} in
  ?*:*:* | :none:* | *"$claude_local_signer"*) ;;
  *)
    export CLAUDE_LOCAL_UNSIGNED=1
    claude_local_git commit.gpgSign false
    claude_local_git tag.gpgSign false
    claude_local_git tag.forceSignAnnotated false
    ;;
esac
unset claude_local_signer
