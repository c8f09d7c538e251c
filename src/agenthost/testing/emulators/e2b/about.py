"""What the emulator of E2B does and does not do."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agenthost.testing.emulators.base.about import About

# The words with which the emulator refuses each.
REFUSED = {
    "pty": "this emulator has no ptys",
    "root": "this emulator has no root: its machines have one user",
    "wake": "sandboxes of this emulator do not wake up by themselves",
    "memory": "this emulator keeps no memory: ask for a snapshot of the files alone",
    "fixed": "this emulator takes no snapshot for a template that was there before",
    "volumeMounts": "this emulator has no volumeMounts",
    "mcp": "this emulator has no mcp",
    "iam": "this emulator has no iam",
    "WatchDir": "this emulator has no call WatchDir",
}
_UNLIKE = [
    "sudo does not work, and the steps of a template run as one user.",
    "Hosts that a policy allows by name are not reached; a network is open or there is none.",
    "Headers of `network.rules` are checked as E2B checks them, kept, and not added.",
    "A port takes one whole request and gives one whole answer: no WebSockets. Headers name the sandbox.",
    "Templates know the step RUN alone; they are built on `base` or a template of their own.",
    "A sandbox reports the size of its template, and has no cap.",
    "Programs stand still in a pause and while a snapshot is made; connections between them do not.",
]
_TRAPS = [
    "What a program prints without a listener is lost; a listener that does not read holds up all others.",
    "Output comes in any pieces; its end is lost after a kill by the API, which hits one process alone.",
    "A program runs on when its client has gone, and has the time that its first client gave.",
    "The end of a program is known for 30 seconds.",
    "Sandboxes are made five a second and ten at once; then it is a 429 with `Retry-After`.",
    "Keys of idempotency have letters and digits alone; the second of two calls at once is a 409.",
    "A timeout behind the plan's limit is cut without a word; a paused sandbox is 404 to many calls.",
    "A refusal may hold what was sent, secrets among that.",
]


def about() -> About:
    """Return it for the page."""
    from agenthost.testing.emulators.base.about import About
    from agenthost.testing.emulators.e2b import control, daemon, filesystem

    processes = [f"POST /process.Process/{name}" for name in daemon.PROCESS_CALLS]
    files = [f"POST /filesystem.Filesystem/{name}" for name in filesystem.CALLS]
    return About(
        client=f"E2B's client, and by the wire of its daemon {control.ENVD}",
        calls=[*control.ROUTES, *daemon.HTTP_CALLS, *processes, *files],
        refused=REFUSED,
        unlike=_UNLIKE,
        traps=_TRAPS,
    )
