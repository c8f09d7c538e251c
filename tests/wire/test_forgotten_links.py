"""A link whose host is silent for long is forgotten, with its calls and streams."""

from __future__ import annotations

from wire.simulation.pair import (
    ALL,
    Joint,
    happened,
    join,
    make_host,
    make_hub,
)

from agenthost.wire.events import (
    Called,
    Forgotten,
    LinkForgotten,
    Stopped,
)
from agenthost.wire.streams import RecvStream, SendStream


def test_a_link_silent_for_ten_minutes_is_forgotten_with_its_calls_and_streams() -> None:
    hub = make_hub("a")
    host = make_host(control=True, drives="a")
    joint = join(host, hub)
    out = SendStream("p/1/out", bound=1000)
    hub.add_stream(out, link="link")
    sent = host.call("slow", {})
    joint.run()
    joint.cut()
    unsent = host.call("later", {})
    happened(host)

    hub.tick(599.9)
    assert "link" in hub.links
    hub.tick(600.0)
    assert happened(hub, LinkForgotten) == [LinkForgotten("link")]
    assert hub.doors["a"].driver is None
    joint.guest.answer(sent, ok=True, value="too late")

    again = join(host, hub, now=700.0)
    assert happened(host, Forgotten) == [Forgotten((sent,))]
    assert happened(again.guest) == [Called(unsent, "later", {})]
    assert hub.doors["a"].driver == "link"
    assert hub.doors["a"].epoch == 1, "a reconnect never raises the epoch"


def test_a_host_hears_that_it_was_forgotten_even_when_that_answer_is_cut() -> None:
    hub = make_hub()
    host = make_host(control=True)
    joint = join(host, hub)
    call = host.call("once", {})
    joint.run()
    joint.cut()
    hub.tick(600.0)
    cut = Joint(host, hub, now=601.0)
    host.receive(cut.carrier.take(ALL, 601.0), 601.0)
    cut.carrier.receive(host.take(ALL, 601.0), 601.0)
    cut.cut()  # the guest knows this link again, and the host does not know that it had not
    happened(host)
    again = join(host, hub, now=602.0)
    assert happened(host, Forgotten) == [Forgotten((call,))]
    assert happened(again.guest) == [], "the call is not done again"


def test_a_cut_in_the_first_handshake_is_not_taken_for_being_forgotten() -> None:
    hub = make_hub()
    host = make_host(control=True)
    call = host.call("once", {})
    for _ in range(3):
        cut = Joint(host, hub)
        host.receive(cut.carrier.take(ALL, 0.0), 0.0)
        cut.carrier.receive(host.take(ALL, 0.0), 0.0)
        host.receive(cut.carrier.take(ALL, 0.0), 0.0)  # it has sent its have and the call: lost
        cut.cut()
    joint = join(host, hub)
    assert happened(host, Forgotten) == []
    joint.guest.answer(call, ok=True, value=1)
    joint.run()
    assert len(happened(host)) == 1


def test_a_connected_link_is_never_forgotten() -> None:
    hub = make_hub()
    join(make_host(control=True), hub)
    hub.tick(10_000.0)
    assert "link" in hub.links


def test_streams_to_a_forgotten_link_are_stopped() -> None:
    hub = make_hub()
    host = make_host(control=True)
    joint = join(host, hub)
    stdin = RecvStream("p/1/in", offset=0, window=100)
    joint.guest.expect(stdin)
    stream = host.send_stream("p/1/in")
    stream.write(b"x")
    joint.run()
    joint.cut()
    hub.tick(600.0)
    stream.write(b"y")
    join(host, hub, now=601.0)
    assert stream.stopped
    assert Stopped("p/1/in") in happened(host)
