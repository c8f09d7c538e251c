"""What the emulator of Fly does and does not do."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agenthost.testing.emulators.base.about import About

# The words with which the emulator refuses each.
REFUSED = {
    "config": "this emulator does not know this part of a machine's config",
    "files": "this emulator has files with raw_value alone",
    "filter": "this emulator does not know this filter",
    "ports": "this emulator leads requests over TLS to one service of a machine",
    "restart": "this emulator restarts no machine: ask for the policy no",
    "container": "this emulator has no containers",
    "addresses": "this emulator has addresses of the types shared_v4 and v6 alone",
}
_UNLIKE = [
    "Every image is the same: what this machine has. Images of `images` have the SDK; nothing is pulled.",
    "All machines share the network of this machine: the port of a service must be free on its loopback.",
    "There is no TLS, and all apps have one address: it is `app_url`. Private addresses are `::1`.",
    "Updates of machines, volumes, leases, secrets, network policies and certificates are unknown calls.",
    "A program that runs too long for `exec` is killed.",
    "The proxy stops idle machines when a test calls `look_for_idle`, not every few minutes.",
    "Programs stand still while a machine is suspended; connections between them do not.",
]
_TRAPS = [
    "A machine is `created` at first, and `started` is not ready: the proxy answers 404, 502 and 503.",
    "Calls of one kind for one machine or app: three at once, then one a second (`GET` of a machine 10, 5).",
    "More calls are refused with 429, which does not state when to come again.",
    "`wait` takes 60 seconds at most, and answers 408 then; `exec` answers 408 after 30 seconds.",
    "`exec` returns all output at its end, as text, with status 200; what is 0 or empty is left out.",
    "The config, files and environment included, is in every answer about a machine.",
    "A lack of room has six forms, with the statuses 400, 403, 409, 412 and 422.",
    "Names of machines are unique in their app (409), and those of apps everywhere (422; `GET` is a 403).",
    "Without `fly-force-instance-id` a request reaches any machine, also with `fly-prefer-instance-id`.",
    "A machine without `auto_destroy` is kept when its main program ends. None has an end of its own.",
    "The proxy stops what gets no requests and starts what gets one, as `autostop` and `autostart` say.",
    "A suspended machine may start without its memory, with its files (after `forget_memory`).",
]


def about() -> About:
    """Return it for the page."""
    from agenthost.testing.emulators.base.about import About
    from agenthost.testing.emulators.fly import control

    return About(
        client="plain HTTP, by the Machines API of August 2026",
        calls=list(control.ROUTES),
        refused=REFUSED,
        unlike=_UNLIKE,
        traps=_TRAPS,
    )
