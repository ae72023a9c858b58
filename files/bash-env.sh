# shellcheck shell=sh
# Read before each command of a claude-local session (CLAUDE_ENV_FILE); written by tasks/home.py, changes are lost.

# A command has a network of its own, and only the sandbox's proxy leads out. On the ports of this machine that a
# session may reach, socat listens here and asks that proxy, so that every client reaches them, also one that knows no
# proxy. It is no job of this shell (`wait` would wait for it), and it ends with the command, as everything in the
# sandbox does. Other names of this machine are the command's own network, too: a server of a test's listens there.
if [ -n "${SANDBOX_RUNTIME-}" ]; then
  export NODE_USE_ENV_PROXY=1
  # bash sets HOSTNAME, zsh HOST.
  # shellcheck disable=SC3028
  export NO_PROXY="${NO_PROXY:+$NO_PROXY,}127.0.0.0/8,0.0.0.0,.localhost,${HOSTNAME:-${HOST-localhost}}"
  export no_proxy="$NO_PROXY"
fi
claude_local_sockets() {
  claude_local_open=0
  # /proc/net/tcp would name them, and takes milliseconds.
  while read -r claude_local_kind _ claude_local_now _; do
    case $claude_local_kind in TCP:) claude_local_open=$claude_local_now ;; esac
  done </proc/net/sockstat
}
claude_local_ports=${SANDBOX_RUNTIME:+${CLAUDE_LOCAL_PORTS-}}
claude_local_wanted=0
# http://localhost:PORT, with Claude Code's own proxy http://NAME:PASSWORD@localhost:PORT.
claude_local_proxy=${HTTP_PROXY-}
claude_local_proxy=${claude_local_proxy#*://}
case $claude_local_proxy in
  *@*) claude_local_proxy=proxyport=${claude_local_proxy##*:},proxyauth=${claude_local_proxy%@*} ;;
  *) claude_local_proxy=proxyport=${claude_local_proxy##*:} ;;
esac
if [ -n "$claude_local_ports" ] && claude_local_sockets; then claude_local_wanted=$claude_local_open; fi
while [ -n "$claude_local_ports" ]; do
  claude_local_port=${claude_local_ports%% *}
  claude_local_ports=${claude_local_ports#"$claude_local_port"}
  claude_local_ports=${claude_local_ports# }
  claude_local_wanted=$((claude_local_wanted + 1))
  (socat "TCP4-LISTEN:$claude_local_port,bind=127.0.0.1,reuseaddr,fork,backlog=128" \
    "PROXY:127.0.0.1:127.0.0.1:$claude_local_port,$claude_local_proxy" </dev/null >/dev/null 2>&1 &)
done

# Claude Code's own temporary files are elsewhere, and read-only.
case ${CLAUDE_LOCAL_FENCE-} in outer*) export TMPDIR=/tmp ;; esac

# The links to the sandbox's own bwrap and socat are for Claude Code itself, not for commands.
case ${CLAUDE_LOCAL_SANDBOX_BIN:+:$PATH:} in
  *:"$CLAUDE_LOCAL_SANDBOX_BIN":*)
    PATH=:$PATH:
    PATH=${PATH%%:"$CLAUDE_LOCAL_SANDBOX_BIN":*}:${PATH#*:"$CLAUDE_LOCAL_SANDBOX_BIN":}
    PATH=${PATH#:}
    PATH=${PATH%:}
    ;;
esac

claude_local_git() {
  export "GIT_CONFIG_KEY_${GIT_CONFIG_COUNT:-0}=$1" "GIT_CONFIG_VALUE_${GIT_CONFIG_COUNT:-0}=$2"
  export GIT_CONFIG_COUNT=$((${GIT_CONFIG_COUNT:-0} + 1))
}

# Without the outer fence, the sandbox mounts /dev/null over files that must not appear (.bashrc, .mcp.json ...). Git
# takes those for new files and refuses to add them, and with them everything else: let it ignore exactly these.
claude_local_blocked() (
  own=$(git config --type=path --get core.excludesFile 2>/dev/null) || own=${XDG_CONFIG_HOME:-$HOME/.config}/git/ignore
  if [ -r "$own" ]; then cat -- "$own" && echo; fi
  # Of each mount: its number, its parent's, the device, the place in it, the place here.
  while read -r _ _ _ source place _; do
    [ "$source" = /null ] || continue
    case $place in *\\*) place=$(printf '%b' "$place") ;; esac
    top=${place%/*}
    while [ -n "$top" ] && ! [ -e "$top/.git" ]; do top=${top%/*}; done
    # No repository yet: where the file is, one may be made in this very command.
    [ -n "$top" ] || top=${place%/*}
    printf '%s\n' "${place#"$top"}" | sed 's/[\\*?[]/\\&/g'
  done </proc/self/mountinfo
)
case ${CLAUDE_LOCAL_FENCE-}:${CLAUDE_LOCAL_BLOCKED-} in
  inner:)
    export CLAUDE_LOCAL_BLOCKED="${TMPDIR:-/tmp}/claude-local-blocked"
    claude_local_blocked >"$CLAUDE_LOCAL_BLOCKED" 2>/dev/null &&
      claude_local_git core.excludesFile "$CLAUDE_LOCAL_BLOCKED"
    ;;
esac

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

# Wait until the ports above are open, a third of a second at most: one may be in use already.
claude_local_since=
while [ "$claude_local_wanted" -gt 0 ]; do
  claude_local_sockets
  [ "$claude_local_open" -lt "$claude_local_wanted" ] || break
  read -r claude_local_now _ </proc/uptime || break
  claude_local_now=${claude_local_now%.*}${claude_local_now#*.}
  [ "$((claude_local_now - ${claude_local_since:=$claude_local_now}))" -lt 33 ] || break
done
unset claude_local_wanted claude_local_open claude_local_proxy claude_local_port claude_local_since claude_local_now

# At the end of a command that the fence refused something, one line says what, and the setting that allows it. The
# first line of the list counts the addresses that the proxy refused in this session. The output is a file.
claude_local_refused() {
  claude_local_number=0
  if [ -r "${CLAUDE_LOCAL_REFUSED-}" ]; then read -r claude_local_number <"$CLAUDE_LOCAL_REFUSED"; fi
}
claude_local_end() {
  { claude_local_status=$? && set +x; } 2>/dev/null
  claude_local_refused
  if [ -f /proc/self/fd/2 ] && { [ "$claude_local_number" != "$claude_local_seen" ] ||
    command grep -aqiE 'read-only file system|erofs|resol|eai_again|enotfound|unreach|unknownhost|refused|403|allowlist|127\.|localhost' \
      </proc/self/fd/2 2>/dev/null; }; then
    "$CLAUDE_LOCAL_PYTHON" -I -S "$CLAUDE_LOCAL_COMMAND_END" "$claude_local_status" "$claude_local_seen" \
      </proc/self/fd/2
  fi
}
claude_local_refused
claude_local_seen=$claude_local_number
if [ -n "${CLAUDE_LOCAL_COMMAND_END-}" ]; then trap claude_local_end EXIT; fi
