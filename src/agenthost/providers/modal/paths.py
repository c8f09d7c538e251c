"""Where things are inside, and the two programs of a sandbox that are no guest."""

from __future__ import annotations

HOME = "/root"
WORKDIR = "/workspace"
BOOT = f"{HOME}/.agenthost"
SPOOL = f"{BOOT}/spool"

# Seconds until a sandbox without a guest ends itself: an installation is over by then. One that was made
# after its host had given up is found by nobody else.
UNCLAIMED = 1200

# The sandbox's main program, which ends with the guest, and with it the sandbox: $1 the boot directory, $2
# the mark of this sandbox, $3 how many seconds the guest may take. Without the mark what lies there is
# another sandbox's, in a snapshot of its files. Without ``seen`` what exec starts is in another namespace,
# and the lifetime alone ends the sandbox: a guest that is not seen has not ended.
MAIN = """
n=0
until [ -e "$1/$2" ] && pid=$(cat "$1/guest.sock.pid"); do
    [ "$n" -lt "$3" ] || exit 1
    n=$((n + 1))
    sleep 1
done 2>/dev/null
[ -e "$1/seen" ] || exec sleep infinity
while kill -0 "$pid"; do sleep 2; done 2>/dev/null
"""

# $1 the working directory, $2 the boot directory, then what is run; on stdin an archive of the boot
# directory. One that is there already is another sandbox's, in a snapshot of its files. It looks for the main
# program by the mark among its arguments; in brackets, so that it does not find itself.
PUT = (
    'exec 2>&1; mkdir -p "$1" && umask 077 && rm -rf "$2" && mkdir -p "$2" && tar -xof - -C "$2" || exit; '
    'for f in "$2"/made-for-*; do '
    'grep -qs "[m]ade-for-${f##*/made-for-}" /proc/[0-9]*/cmdline && : > "$2/seen"; done; '
    'shift 2; cd / && exec "$@"'
)


def mark(nonce: str) -> str:
    """Return the name of the file that tells for which sandbox a boot directory was made."""
    return f"made-for-{nonce}"
