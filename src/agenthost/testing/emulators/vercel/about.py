"""What the emulator of Vercel does and does not do."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agenthost.testing.emulators.base.about import About

# The words with which the emulator refuses each.
REFUSED = {
    "field": "this emulator does not know the field",
    "source": "this emulator begins a sandbox with an image or a snapshot only",
}
_UNLIKE = [
    "Forks, updates, drives, ptys, regions and changes of a running sandbox's network are unknown calls.",
    "A program with `sudo` keeps what it writes to /opt/agenthost alone, and has no input.",
    "`sudo` inside a program does not work.",
    "Hosts that a policy allows by name are not reached; a network is open or there is none.",
    "Headers of a network policy are kept, and not added.",
    "Every image is this machine. A snapshot keeps the home, the working directory and /opt/agenthost.",
    "A sandbox reports the size that was asked for, and has no cap.",
    "The texts of refusals are Vercel's as far as they are known.",
]
_TRAPS = [
    "The log of a program comes from its beginning with every connection, in any pieces.",
    "Output is text: bytes that are not UTF-8 are replaced.",
    "A stream is cut after 5 minutes; the program runs on, as it does when its client has gone.",
    "Input that a program does not read is refused with 504 and the bytes that were accepted.",
    "A call with input takes less than 1 MB.",
    "A stopped sandbox answers 410, its logs too, and keeps its name; a resumed one is another machine.",
    "A new sandbox is `pending`, and refuses commands with 422, until a look finds it running.",
    "A sandbox is persistent unless its client says otherwise: a stop then takes a snapshot.",
    "A snapshot stops its sandbox, and expires after 7 days.",
    "Sandboxes are made twenty at once and one a second; then it is a 429 with `Retry-After`.",
    "A sandbox has five tags of 256 characters; a list is filtered by one, and has 50 sandboxes at most.",
    "A name that is taken is a 400; so is a lifetime above the plan's.",
]


def about() -> About:
    """Return it for the page."""
    from agenthost.testing.emulators.base.about import About
    from agenthost.testing.emulators.vercel import commands, control

    return About(
        client="Vercel's client for Python and the provider's own calls",
        calls=[*control.ROUTES, *commands.ROUTES],
        refused=REFUSED,
        unlike=_UNLIKE,
        traps=_TRAPS,
    )
