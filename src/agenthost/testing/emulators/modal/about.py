"""What the emulator of Modal does and does not do."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agenthost.testing.emulators.base.about import About

# The words with which the emulator refuses each.
REFUSED = {
    "pty": "the emulator has no terminals",
    "joined": "the emulator does not join stderr and stdout",
    "ports": "the emulator does not do: open ports",
    "watch": "this emulator does not do Watch",
}
_UNLIKE = [
    "More than image, name, tags, environment, network, size and time of a sandbox is refused by its name.",
    "Blocked networks are blocked. Lists of domains and headers of a policy are kept, and not enforced.",
    "Steps of an image are run; a base is taken for built, and has a `python` where its name says so.",
    "An image is one step, and its logs have the time of their request.",
    "Modal's client remembers the image builder of the first server of a process.",
    "A token for a port comes in the `Authorization` header, for whole requests and answers: no WebSockets.",
    "Idle timeouts, probes, volumes, tunnels, memory snapshots and V1 sandboxes are not there.",
]
_TRAPS = [
    "Output comes in any pieces, and streams break off in the middle: the client takes them up by offset.",
    "Output without a reader holds its program up after 1 MiB, in a friendly one, too.",
    "Tokens for a worker run out after 15 seconds.",
    "Lists have pages of two.",
    "Tags have the signs and the length that Modal's client allows for apps; ids have other signs, too.",
    "The first look at an image that is being built goes by without a word.",
    "A program whose time is over ends without a word, a second later than its client thinks.",
    "Nothing kills a program but its time and the end of its sandbox.",
    "A refusal of a credential holds the credential.",
]


def about() -> About:
    """Return it for the page. ImportError: Modal's client is not installed."""
    from agenthost.testing.emulators.base.about import About
    from agenthost.testing.emulators.modal.control import Control
    from agenthost.testing.emulators.modal.router import Router

    calls: list[str] = [*Control.answered, *Router.answered]
    return About(client="Modal's client 1.6", calls=calls, refused=REFUSED, unlike=_UNLIKE, traps=_TRAPS)
