"""What the emulator of Cloudflare does and does not do."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agenthost.testing.emulators.base.about import About

# The words with which the emulator refuses each.
REFUSED = {
    "call": "this emulator does not know this call to a container",
}
_UNLIKE = [
    "The Worker is what `agenthost cloudflare init` writes, in `workerd` on this machine.",
    "The class that extends `@cloudflare/sandbox` is not in it: a stub asks the emulator's engine instead.",
    "Every image is the same: what this machine has. With `site` it has the SDK; nothing is built.",
    "All containers share the network of this machine; their guests have ports of their own.",
    "Closed egress is stated, and not enforced.",
    "Alarms of the Worker follow real time; the engine ends a container by `clock`, too.",
    "The routes of Cloudflare's own bridge are unknown calls.",
    "There is no TLS, and no location: everything is near.",
]
_TRAPS = [
    "A command or a file for a sandbox without a container starts one, which is empty, without a word.",
    "Of several first calls at once each starts a container; all but one are left until they end.",
    "A container that was lost or replaced has lost its files and its programs.",
    "Commands get no input, and run on when their stream is closed; nothing ends one but its timeout.",
    "Output is text: what is not UTF-8 is replaced. One printed line may come as two events.",
    "An exit code 0 may be reported while the command runs on (after `fabricate_exit`).",
    "A command without a program is the exit code 127 with the shell's message; one that is too long fails.",
    "A file of more than 12 MiB is refused.",
]
_CALLS = [
    "GET /agenthost/v1",
    "GET /agenthost/v1/sandboxes",
    "PUT /agenthost/v1/sandboxes/{id}",
    "GET /agenthost/v1/sandboxes/{id}",
    "DELETE /agenthost/v1/sandboxes/{id}",
    "POST /agenthost/v1/sandboxes/{id}/lifetime",
    "POST /agenthost/v1/sandboxes/{id}/exec",
    "PUT /agenthost/v1/sandboxes/{id}/files",
    "ANY /agenthost/v1/sandboxes/{id}/guest/{path}",
]


def about() -> About:
    """Return it for the page."""
    from agenthost.testing.emulators.base.about import About
    from agenthost.testing.emulators.cloudflare.containers import CALLS

    return About(
        client="plain HTTP, by a Worker on `@cloudflare/sandbox` 0.12.10",
        calls=[*_CALLS, *(f"container {call}" for call in CALLS)],
        refused=REFUSED,
        unlike=_UNLIKE,
        traps=_TRAPS,
    )
