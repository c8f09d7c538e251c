"""A program's streams over a link whose numbers are small."""

from __future__ import annotations

from wire.simulation.pair import (
    Joint,
    happened,
    join,
    make_host,
    make_hub,
)

from agenthost.wire.settings import WireSettings
from agenthost.wire.streams import RecvStream, SendStream

SMALL = WireSettings(text_payload=10, binary_payload=10, initial_window=20, window=40)


def program(
    *, settings: WireSettings | None = None, bound: int = 1000
) -> tuple[Joint, SendStream, RecvStream]:
    """Return a joint with a program's output and stdin."""
    hub = make_hub(settings=settings)
    joint = join(make_host(control=True, settings=settings), hub)
    out = SendStream("p/1/out", bound=bound)
    hub.add_stream(out, link="link")
    stdin = RecvStream("p/1/in", offset=0, window=hub.settings.window)
    joint.guest.expect(stdin)
    happened(joint.host)
    return joint, out, stdin
