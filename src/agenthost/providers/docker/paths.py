"""Where things are in a container, and who owns them."""

from __future__ import annotations

UID = 1000  # of every program inside but the guest's own
GUEST = "0:0"  # the guest's user
WORKDIR = "/workspace"
HOME = "/home/agent"
BOOT = "/var/lib/agenthost"  # the guest's own: its program, its socket, what it keeps of streams
SPOOL = f"{BOOT}/spool"
RUN = f"{BOOT}/run"
SOCKET_NAME = "guest.sock"
SITE = "/opt/agenthost/site"  # the SDK of a baked image
TMP_MIB = 1024

# Nothing of the user's may lie over these, nor around them.
_TAKEN = ("/proc", "/sys", "/dev", "/etc", "/tmp", "/opt/agenthost", BOOT, HOME)


def find_conflict(path: str) -> str | None:
    """Return which of the sandbox's own places a path would cover or lie in; ``/`` covers them all."""
    for taken in _TAKEN:
        if path == taken or path.startswith(taken + "/") or taken.startswith(path.rstrip("/") + "/"):
            return taken
    return None
