"""Where things are inside, and the two programs of a sandbox that are no guest."""

from __future__ import annotations

HOME = "/root"
WORKDIR = "/workspace"
BOOT = f"{HOME}/.agenthost"
SPOOL = f"{BOOT}/spool"
SOCKET = f"{BOOT}/guest.sock"

# Seconds until a sandbox without a guest ends itself: an installation is over by then. One that was made
# after its host had given up is found by nobody else.
UNCLAIMED = 1200

# The sandbox's main program: $1 the guest's socket, $2 how many seconds it may take to be there.
MAIN = (
    'n=0; until [ -S "$1" ]; do [ "$n" -lt "$2" ] || exit 1; n=$((n + 1)); sleep 1; done; exec sleep infinity'
)

# $1 the working directory, $2 the boot directory, then names and sizes of what comes on stdin, ``--`` and
# what is run. A boot directory that is there is another sandbox's, in a snapshot of its files.
PUT = (
    'mkdir -p "$1" && umask 077 && rm -rf "$2" && mkdir -p "$2" && cd "$2" || exit; shift 2; '
    'while [ "$1" != -- ]; do head -c "$2" > "$1" || exit; shift 2; done; shift; cd / && exec "$@" 2>&1'
)
