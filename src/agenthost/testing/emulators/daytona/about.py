"""What the emulator of Daytona does and does not do."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agenthost.testing.emulators.base.about import About

# The words with which the emulator refuses each.
REFUSED = {
    "field": "this emulator does not know the field",
    "image": "this emulator makes sandboxes of snapshots only",
    "instruction": "this emulator does not know the instruction",
}
_UNLIKE = [
    "No events are sent: the client's socket for them stays silent, and the client polls.",
    (
        "Starts after a stop, pauses, archives, forks, resizes, volumes, ptys, Git, LSP and SSH "
        "are unknown calls; of files there are folders, uploads and downloads."
    ),
    "Each command of a session has a shell of its own: what one sets, the next one does not see.",
    "Placeholders of secrets stay placeholders: nothing is put in on the way out.",
    "Hosts that a list allows are not reached; a network is open or there is none.",
    (
        "Every image is this machine. A `RUN` that concerns users does nothing; what others write to "
        "/opt/agenthost is kept. Files for a build are not uploaded."
    ),
    "A sandbox reports the size of its snapshot, and has no cap. `sudo` does not work.",
    "Ports are paths of one address, not names of hosts.",
    "The texts of refusals are Daytona's as far as they are known.",
]
_TRAPS = [
    (
        "A sandbox is stopped when nothing from outside has called it for 15 minutes, or for its interval, "
        "however busy it is. Toolbox calls and requests to ports count, unless these ask to be left out."
    ),
    "A stop ends every program. A sandbox whose interval for deletion is 0 is deleted then.",
    (
        "A create is answered while the sandbox is `creating`, and a delete while it is `destroying`; a look "
        "finds what has become of it."
    ),
    "A one-shot command has one stream for output and errors, and reads its own script as its input.",
    "A time limit of a one-shot command loses the output and answers 408.",
    "A session's command that ends its shell with `exit` has no exit code, and its log never ends.",
    "A command's input is text by lines, echoed to its output, and has no end.",
    "Output is text by lines: NUL bytes are dropped and the last line gets a newline.",
    "A followed log comes from its beginning with each connection, and ends after the command.",
    "A port answers 401 without the sandbox's token.",
    "Sandboxes are made 300 at once and 5 a second; then it is a 429 with `Retry-After-sandbox-create`.",
    "An organization below tier 3 is refused every network policy with 400.",
    "An upload of several files makes missing directories, of mode 755.",
]


def about() -> About:
    """Return it for the page."""
    from agenthost.testing.emulators.base.about import About
    from agenthost.testing.emulators.daytona import control, toolbox

    return About(
        client="Daytona's client 0.226, under either of its two names",
        calls=[*control.ROUTES, *toolbox.ROUTES],
        refused=REFUSED,
        unlike=_UNLIKE,
        traps=_TRAPS,
    )
