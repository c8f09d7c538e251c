"""Streams over a link: frames, credit, and that no stream starves another."""

from __future__ import annotations

import pytest
from wire.simulation.content import content
from wire.simulation.pair import (
    ALL,
    Joint,
    happened,
    join,
    journal,
    make_host,
    make_hub,
    parse,
    received,
)
from wire.simulation.program import SMALL, program

from agenthost.wire.events import Received
from agenthost.wire.streams import SendStream

# ---- frames and credit


@pytest.mark.parametrize(("binary", "size"), [(True, 256 * 1024), (False, 64 * 1024)])
def test_a_payload_has_at_most_the_size_that_its_carrier_takes(*, binary: bool, size: int) -> None:
    hub, host = make_hub("a"), make_host(drives="a")
    journal(hub, "a").write(bytes(600 * 1024))
    host.subscribe("a/a/out")
    join(host, hub, binary=binary)
    found = [len(event.data) for event in happened(host) if isinstance(event, Received)]
    assert max(found) == size


def test_a_text_carrier_brings_nothing_but_ascii_lines() -> None:
    hub, host = make_hub("a"), make_host(drives="a")
    journal(hub, "a").write(bytes(range(256)) * 10)
    joint = join(host, hub, binary=False)
    host.send_stream("a/a/in").write(b"\xff\x00\n")
    host.subscribe("a/a/out")
    up = host.take(ALL, 0.0)
    joint.carrier.receive(up, 0.0)
    down = joint.carrier.take(ALL, 0.0)
    assert (up + down).isascii()
    host.receive(down, 0.0)
    assert received(host, "a/a/out") == bytes(range(256)) * 10


def test_a_sender_never_goes_beyond_the_credit() -> None:
    joint, out, _ = program(settings=SMALL)
    joint.host.subscribe("p/1/out")
    out.write(bytes(1000))
    joint.run()
    assert len(received(joint.host, "p/1/out")) == SMALL.window
    joint.host.consume("p/1/out", 19)
    joint.run()
    assert received(joint.host, "p/1/out") == b""
    joint.host.consume("p/1/out", 1)
    joint.run()
    assert len(received(joint.host, "p/1/out")) == 20


def test_a_host_begins_with_the_initial_window_and_learns_of_more() -> None:
    joint, _, stdin = program(settings=SMALL)
    stream = joint.host.send_stream("p/1/in")
    stream.write(bytes(100))
    assert (
        sum(len(payload) for payload in _payloads(joint.host.take(ALL, 0.0), joint)) == SMALL.initial_window
    )
    joint.run()
    assert stdin.offset == SMALL.window
    joint.guest.consume("p/1/in", 100)
    joint.run()
    assert stdin.offset == 100


def _payloads(data: bytes, joint: Joint) -> list[bytes]:
    joint.carrier.receive(data, 0.0)
    return [bytes(event.data) for event in happened(joint.guest) if isinstance(event, Received)]


def test_a_slow_reader_stalls_only_its_own_stream() -> None:
    hub = make_hub("a", settings=SMALL)
    host = make_host(control=True, drives="a", settings=SMALL)
    out = journal(hub, "a")
    other = SendStream("p/1/out", bound=1000)
    hub.add_stream(other, link="link")
    for sid in ("a/a/out", "p/1/out"):
        host.subscribe(sid)
    joint = join(host, hub)
    out.write(bytes(500))
    other.write(bytes(500))
    joint.run()
    got = 0
    while got < 500:
        new = len(received(host, "p/1/out"))
        assert new
        got += new
        host.consume("p/1/out", new)
        joint.run()
    assert out.end_offset == 500


def test_every_stream_gets_its_turn() -> None:
    hub = make_hub(settings=SMALL, guest_key=None)
    host = make_host(control=True, settings=SMALL, guest_key=None)
    for name in "123":
        stream = SendStream(name, bound=1000)
        hub.add_stream(stream, link="link")
        stream.write(bytes(30))
        host.subscribe(name)
    joint = Joint(host, hub)
    for _ in range(2):
        host.receive(joint.carrier.take(ALL, 0.0), 0.0)
        joint.carrier.receive(host.take(ALL, 0.0), 0.0)
    sent = [frame["s"] for frame in parse(joint.carrier.take(ALL, 0.0)) if frame["t"] == "d"]
    assert sent == ["1", "2", "3"] * 3


def test_take_stops_soon_after_its_budget() -> None:
    joint, out, _ = program()
    joint.host.subscribe("p/1/out")
    joint.run()
    out.write(bytes(900))
    first = joint.carrier.take(1, 0.0)
    assert joint.guest.has_output is False
    assert len(first) < 1000


def test_credit_that_was_told_before_a_driver_began_to_write_is_not_lost() -> None:
    hub = make_hub("a", settings=SMALL)
    first, second = make_host("1", drives="a", settings=SMALL), make_host("2", drives="a", settings=SMALL)
    lines = content("a/a/in", 0, 39).replace(b"\n", b"?") + b"\n"
    first.send_stream("a/a/in").write(lines)
    assert received(join(first, hub).guest, "a/a/in") == lines
    joint = join(second, hub)
    assert hub.doors["a"].input.limit == 40
    hub.consumed(hub.doors["a"].input, 40)
    joint.run()
    second.send_stream("a/a/in", base=40).write(b"next\n")
    joint.run()
    assert received(joint.guest, "a/a/in") == b"next\n"
