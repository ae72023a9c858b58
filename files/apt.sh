#!/bin/sh
# apt-get, patient and forgiving:
#
#   apt.sh SECONDS ARGUMENT...     e.g. apt.sh 300 install --yes socat
#
# It waits SECONDS for another apt to finish. apt's own DPkg::Lock::Timeout is for dpkg's locks only; with the one on the
# package lists, which apt's timer holds just after a machine has started, or on the archives it fails at once. What an
# interrupted dpkg has left (a power cut, kill -9) is finished first; nothing is removed for that. Run it as root.
set -eu

deadline=$(($(date +%s) + $1))
shift
# The messages below are looked for in English.
export LC_ALL=C DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
configured='' repaired='' waits=0

left() {
    seconds=$((deadline - $(date +%s)))
    echo $((seconds > 0 ? seconds : 0))
}

# Runs apt-get; what it says is shown and kept.
try() {
    {
        status=0
        apt-get -q -o "DPkg::Lock::Timeout=$(left)" -o Dpkg::Use-Pty=0 "$@" 2>&1 || status=$?
        echo "$status" >"$scratch/status"
    } | tee "$scratch/said"
    return "$(cat "$scratch/status")"
}

said() { grep -q "^E: .*$1" "$scratch/said"; }

until try "$@"; do
    status=$(cat "$scratch/status")
    if said 'ould not get lock' && [ "$(left)" -gt 0 ]; then
        # One line in half a minute.
        [ $((waits % 10)) -ne 0 ] || echo "another apt is at work, waiting for it (at most $(left) s more) ..."
        waits=$((waits + 1))
        sleep 3
    elif said 'dpkg was interrupted' && [ -z "$configured" ]; then
        configured=yes
        echo "an earlier dpkg was interrupted, finishing its work ..."
        dpkg --configure -a || :
    elif said '--fix-broken' && [ -z "$repaired" ]; then
        repaired=yes
        echo "an earlier apt was interrupted, finishing its work ..."
        try --fix-broken --no-remove --yes install || :
    else
        exit "$status"
    fi
done
