#!/bin/sh
# Run apt-get: wait for another apt, and finish what an interrupted one left.
#
#   apt.sh SECONDS ARGUMENT...     e.g. apt.sh 300 install --yes socat
#
# `install` fetches the package lists first. A repository that fails is named in a warning, there and in `update`: what
# matters is whether apt can install. Options before the command (-o ...) leave everything as apt-get does it.
#
# It waits at most SECONDS. apt's own DPkg::Lock::Timeout covers only dpkg's locks. On the lock of the package lists,
# which apt's timer holds just after a boot, or of the archives, apt fails at once. An interrupted dpkg (a power cut,
# kill -9) is finished first; no package is removed for that. Run it as root.
set -eu

deadline=$(($(date +%s) + $1))
shift
# The script searches apt's messages in English.
export LC_ALL=C DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
configured='' repaired='' waits=0

left() {
    seconds=$((deadline - $(date +%s)))
    echo $((seconds > 0 ? seconds : 0))
}

# Run apt-get; show its output and keep it.
try() {
    {
        status=0
        apt-get -q -o "DPkg::Lock::Timeout=$(left)" -o Dpkg::Use-Pty=0 "$@" 2>&1 || status=$?
        echo "$status" >"$scratch/status"
    } | tee "$scratch/output"
    return "$(cat "$scratch/status")"
}

reports() { grep -q "^E: .*$1" "$scratch/output"; }

# Try again until it works, or cannot work.
insist() {
    until try "$@"; do
        status=$(cat "$scratch/status")
        if reports 'ould not get lock' && [ "$(left)" -gt 0 ]; then
            # A line every half minute.
            [ $((waits % 10)) -ne 0 ] || echo "waiting for another apt to finish (at most $(left) s more) ..."
            waits=$((waits + 1))
            sleep 3
        elif reports 'dpkg was interrupted' && [ -z "$configured" ]; then
            configured=yes
            echo "finishing an interrupted dpkg ..."
            dpkg --configure -a || :
        elif reports '--fix-broken' && [ -z "$repaired" ]; then
            repaired=yes
            echo "finishing an interrupted apt ..."
            try --fix-broken --no-remove --yes install || :
        else
            return "$status"
        fi
    done
}

case $1 in
    update | install)
        insist update || {
            status=$?
            ! reports 'ould not get lock' && ! reports 'list of sources could not be read' || exit "$status"
            sed -n '/^E: Some index files/d; s/^E: /warning: apt-get update: /p' "$scratch/output"
        }
        ;;
esac
[ "$1" = update ] || insist "$@"
