#!/bin/sh
# Give Docker a base image under our own name.
#
#   base-image.sh pull      DOCKER TAG REFERENCE                 from the registry
#   base-image.sh bootstrap DOCKER TAG DISTRO CODENAME SCRATCH HOST
#                                                                from this machine's own package mirror
#
# DOCKER is the docker client, TAG the image's name here (claude-local/base:bookworm), REFERENCE the image to pull
# (debian:bookworm-slim).
#
# "pull" exits with status 3 when the registry refuses, does not answer within 25 seconds, or stops sending.
#
# "bootstrap" needs root and debootstrap. It makes a minimal system of the release CODENAME in SCRATCH (several hundred
# MB, removed afterwards) from the mirror that this machine's own apt uses for its release HOST. debootstrap and apt
# check the signatures.
set -eu

verb=$1 docker=$2 tag=$3
answer_seconds=${CLAUDE_LOCAL_REGISTRY_SECONDS:-25}
# A pull is given up when docker prints nothing new for this time and fewer than these bytes arrive. At that speed the
# image of a GPU would take days.
stall_seconds=${CLAUDE_LOCAL_STALL_SECONDS:-1800}
stall_bytes=20000000
network=${CLAUDE_LOCAL_NET_DEV:-/proc/net/dev}

say() { echo "[base image] $*"; }

# How many bytes the busiest network interface has received. The loopback interface does not count.
received() {
    awk -F: 'NF > 1 && $1 !~ /^ *lo$/ { split($2, count, " "); if (count[1] > most) most = count[1] }
        END { printf "%.0f\n", most }' "$network"
}

# ", 3 of 11 layers", as far as docker has printed it.
layers() {
    all=$(grep -c -e 'Pulling fs layer' -e 'Already exists' "$log" || true)
    [ "$all" -eq 0 ] || echo ", $(grep -c -e 'Pull complete' -e 'Already exists' "$log" || true) of $all layers"
}

pull() {
    reference=$1
    log=$(mktemp)
    "$docker" pull "$reference" >"$log" 2>&1 &
    pulling=$!
    trap 'kill "$pulling" 2>/dev/null; rm -f "$log"; exit 130' INT TERM HUP
    waited=0 moved_at=0 lines=0 why=
    start=$(received)
    mark=$start
    # Docker prints "Pulling from" when the registry has answered. From then on a pull may take any time while data
    # arrives, because docker keeps nothing of a pull that is broken off. Docker prints nothing while it loads a layer,
    # so the network interfaces are watched.
    while kill -0 "$pulling" 2>/dev/null; do
        if grep -q "Pulling from" "$log"; then
            now=$(received)
            if [ "$(wc -l <"$log")" -gt "$lines" ] || [ $((now - mark)) -ge "$stall_bytes" ]; then
                lines=$(wc -l <"$log") mark=$now moved_at=$waited
            elif [ $((waited - moved_at)) -ge "$stall_seconds" ]; then
                why="nothing arrived for $((stall_seconds / 60)) minutes"
            fi
        elif [ "$waited" -ge "$answer_seconds" ]; then
            why="it did not answer in $answer_seconds s"
        fi
        if [ -n "$why" ]; then
            kill "$pulling" 2>/dev/null || true
            break
        fi
        sleep 1
        waited=$((waited + 1))
        # Report every 15 seconds, after five minutes every minute.
        every=$((waited < 300 ? 15 : 60))
        [ $((waited % every)) -ne 0 ] ||
            say "pulling $reference, $waited s$(layers), $((($(received) - start) / 1000000)) MB received"
    done
    status=0
    wait "$pulling" || status=$?
    trap - INT TERM HUP
    [ "$status" -eq 0 ] || say "no $reference from the registry: ${why:-$(tail -n 1 "$log" | cut -c1-200)}"
    rm -f "$log"
    [ "$status" -eq 0 ] || return 3
    [ "$reference" = "$tag" ] || "$docker" tag "$reference" "$tag"
    say "$tag is $reference"
}

# Print the sources of this distribution's archive, as apt knows them from both file formats, one "MIRROR SUITE
# COMPONENT" a line. For a source that says "stable", SUITE is the codename that the archive gives it. The mirror of
# the release HOST has CODENAME too, in suites of the same form.
archive() {
    # shellcheck disable=SC2016  # apt expands these names
    apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT) $(ORIGIN) $(CODENAME)' 'Created-By: Packages' |
        awk -v codename="$codename" -v host="$host" -v distro="$distro" '
            { suite = $2 ~ /^(oldstable|stable|testing)(-|$)/ ? $5 : $2 }
            tolower($4) == distro &&
            (suite == host || suite == host "-updates" || suite == host "-security") &&
            ($3 == "main" || $3 == "universe") {
                sub(host, codename, suite)
                line = $1 " " suite " " $3
                if (!seen[line]++) print line
            }' |
        while read -r mirror suite component; do
            # Cloud images have a source that names a file with mirrors.
            case $mirror in
            mirror+file:*)
                list=${mirror#mirror+file:}
                mirror=$(awk '/^[a-z]/ { print $1; exit }' "${list%/}")
                ;;
            esac
            echo "$mirror $suite $component"
        done
}

# Make $1 an empty folder, and keep other runs out of it until this script ends. Waits for an earlier run.
begin() {
    mkdir -p "$(dirname "$1")"
    exec 8<"$(dirname "$1")"
    flock -n 8 || {
        say "waiting for an earlier run that is still making a base image"
        flock 8
    }
    # A killed debootstrap leaves its mounts, at which rm would stop.
    awk -v below="$1/" 'index($2, below) == 1 { print $2 }' /proc/mounts | sort -r | while read -r mounted; do
        umount "$mounted"
    done
    rm -rf --one-file-system "$1"
    mkdir "$1"
}

bootstrap() {
    distro=$1 codename=$2 scratch=$3 host=$4
    command -v debootstrap >/dev/null 2>&1 || {
        say "debootstrap is not installed"
        return 1
    }
    sources=$(archive)
    if [ -z "$sources" ]; then
        apt-get -q update
        sources=$(archive)
    fi
    mirror=$(echo "$sources" | awk -v codename="$codename" '$2 == codename && $3 == "main" { print $1; exit }')
    if [ -z "$mirror" ]; then
        say "apt's sources name no $distro mirror with $host main"
        return 1
    fi
    # A container cannot read a file: or cdrom: source of the host.
    case $mirror in
        http://* | https://*) ;;
        *)
            say "$mirror is not an http mirror"
            return 1
            ;;
    esac
    begin "$scratch"
    say "making it with debootstrap from $mirror"
    # In namespaces of its own, debootstrap ends when this script ends, and so do its mounts below $scratch. Where the
    # kernel allows no namespaces, debootstrap inherits the lock (8), and the next run waits for it.
    isolate=
    ! unshare --mount --pid --fork --kill-child true 2>/dev/null ||
        isolate="setpriv --pdeathsig KILL unshare --mount --pid --fork --kill-child"
    # Without --force-check-gpg, debootstrap checks no signature when the keyring's package is missing.
    $isolate debootstrap --force-check-gpg --variant=minbase --include=ca-certificates \
        "$codename" "$scratch/root" "$mirror" >"$scratch/log" 2>&1 &
    making=$!
    waited=0
    while kill -0 "$making" 2>/dev/null; do
        sleep 1
        waited=$((waited + 1))
        [ $((waited % 5)) -ne 0 ] || say "$waited s: $(tail -n 1 "$scratch/log" | cut -c1-100)"
    done
    if ! wait "$making"; then
        tail -n 5 "$scratch/log"
        return 1
    fi
    # debootstrap writes no security and update suites, so the sources are written here.
    rm -f "$scratch/root/etc/apt/sources.list.d/"*
    # The keyring is named because not every release installs its keys where apt finds them by itself.
    keyring=/usr/share/keyrings/$distro-archive-keyring.gpg
    [ -e "$scratch/root$keyring" ] || keyring=
    echo "$sources" | awk -v signed="${keyring:+[signed-by=$keyring] }" '
        $1 ~ /^https?:/ {
            entry = $1 " " $2; components[entry] = components[entry] " " $3; if (!known[entry]++) order[++n] = entry
        }
        END { for (i = 1; i <= n; i++) print "deb " signed order[i] components[order[i]] }' \
        >"$scratch/root/etc/apt/sources.list"
    # A container never reads these.
    cat >"$scratch/root/etc/dpkg/dpkg.cfg.d/claude-local" <<'END'
path-exclude /usr/share/doc/*
path-include /usr/share/doc/*/copyright
path-exclude /usr/share/man/*
path-exclude /usr/share/info/*
path-exclude /usr/share/locale/*
END
    (
        cd "$scratch/root"
        rm -rf var/lib/apt/lists/* var/cache/apt/*.bin var/cache/apt/archives/*.deb var/cache/debconf/*-old \
            var/lib/dpkg/*-old var/log/* usr/share/man/* usr/share/info/* usr/share/locale/* tmp/*
        find usr/share/doc -type f ! -name copyright -delete
        find usr/share/doc -type l -delete
        find usr/share/doc -depth -type d -empty -delete
        # These belong to the host that runs the container.
        rm -f etc/hostname etc/resolv.conf
    )
    tar -C "$scratch/root" --numeric-owner -c . |
        "$docker" import --change "LABEL claude-local.base=debootstrap" --change 'CMD ["/bin/sh"]' - "$tag"
    rm -rf --one-file-system "$scratch"
    say "$tag was made from $mirror"
}

shift 3
case $verb in
pull) pull "$@" ;;
bootstrap) bootstrap "$@" ;;
*)
    say "unknown command: $verb"
    exit 2
    ;;
esac
