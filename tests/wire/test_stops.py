"""Ends and stops of a stream, also across a cut, and what ends a carrier."""

from __future__ import annotations

import pytest
from wire.simulation.content import content
from wire.simulation.pair import (
    ALL,
    HandMadeHost,
    happened,
    join,
    journal,
    make_hub,
    received,
    shown,
)
from wire.simulation.program import SMALL, program

from agenthost.wire.events import Ended, Missing, Received, Stopped
from agenthost.wire.frames import ProtocolError
from agenthost.wire.streams import SendStream
from agenthost.wire.tokens import CONTROL, DRIVER, OBSERVER

# ---- ends and stops


def test_an_end_is_told_once_behind_the_last_byte_also_after_a_cut() -> None:
    joint, out, _ = program(settings=SMALL)
    host, hub = joint.host, vars(joint.carrier)["_hub"]
    host.subscribe("p/1/out")
    out.write(bytes(100))
    out.end()
    ends: list[object] = []
    got = 0
    while got < 100 or not ends:
        joint.run()
        for event in happened(host, Received, Ended):
            if isinstance(event, Received):
                assert not ends
                got += len(event.data)
                host.consume("p/1/out", len(event.data))
            else:
                ends.append(event)
        joint.cut()
        joint = join(host, hub)
    joint.run()
    assert (got, ends) == (100, [Ended("p/1/out")])
    assert happened(host, Ended) == []


def test_input_goes_on_where_the_guest_is() -> None:
    joint, _, stdin = program(settings=SMALL)
    host, hub = joint.host, vars(joint.carrier)["_hub"]
    stream = host.send_stream("p/1/in")
    got = b""
    while len(got) < 300:
        if stream.room > 0 and stream.end_offset < 300:
            stream.write(content("p/1/in", stream.end_offset, min(stream.room, 300 - stream.end_offset)))
        if stream.end_offset == 300:
            stream.end()
        joint.carrier.receive(host.take(15, 0.0), 0.0)
        host.take(15, 0.0)  # lost
        new = received(joint.guest, "p/1/in")
        got += new
        joint.guest.consume("p/1/in", len(new))
        joint.cut()
        joint = join(host, hub)
        new = received(joint.guest, "p/1/in")
        got += new
        joint.guest.consume("p/1/in", len(new))
    assert got == content("p/1/in", 0, 300)
    joint.run()
    assert stdin.ended
    assert stream.acked == 300


def test_who_wants_no_more_of_a_programs_output_stops_it() -> None:
    joint, out, _ = program()
    joint.host.subscribe("p/1/out")
    joint.run()
    joint.host.unsubscribe("p/1/out")
    joint.run()
    assert out.stopped
    assert happened(joint.guest) == [Stopped("p/1/out")]


@pytest.mark.parametrize("when", ["said and cut", "said while away", "never asked for"])
def test_that_a_host_wants_no_more_is_told_whatever_is_cut(when: str) -> None:
    joint, out, _ = program()
    host, hub = joint.host, vars(joint.carrier)["_hub"]
    if when == "never asked for":
        joint.cut()
    host.subscribe("p/1/out")
    if when == "said and cut":
        joint.run()
    elif when == "said while away":
        joint.run()
        joint.cut()
    host.unsubscribe("p/1/out")
    if host.connected:
        assert host.take(ALL, 0.0)  # lost
        joint.cut()
    joint = join(host, hub)
    assert out.stopped
    assert happened(joint.guest) == [Stopped("p/1/out")]
    assert not vars(host)["_stopping"]


def test_a_stop_that_comes_twice_is_told_once_and_confirmed_twice() -> None:
    hub = make_hub()
    out = SendStream("p/1/out", bound=1000)
    hub.add_stream(out, link="link")
    raw = HandMadeHost(hub)
    raw.shake(shown("", CONTROL))
    stop = {"t": "stop", "s": "p/1/out"}
    assert raw.send(stop, stop) == [{"t": "stopped", "s": "p/1/out"}] * 2
    assert raw.carrier.link is not None
    assert happened(raw.carrier.link) == [Stopped("p/1/out")]


def test_a_stream_stopped_before_its_bytes_were_taken_sends_none_of_them() -> None:
    joint, out, _ = program()
    joint.host.subscribe("p/1/out")
    joint.run()
    out.write(b"x")
    out.stop()
    joint.run()
    assert received(joint.host, "p/1/out") == b""


def test_stopping_what_has_ended_and_arrived_is_no_news() -> None:
    joint, _, stdin = program()
    stream = joint.host.send_stream("p/1/in")
    stream.write(b"x")
    stream.end()
    joint.run()
    assert stdin.ended
    joint.guest.refuse("p/1/in")
    joint.run()
    assert happened(joint.host) == []


def test_a_program_that_closes_its_stdin_stops_the_sender() -> None:
    joint, _, _ = program()
    stream = joint.host.send_stream("p/1/in")
    stream.write(b"x")
    joint.run()
    joint.guest.refuse("p/1/in")
    joint.run()
    assert stream.stopped
    assert happened(joint.host) == [Stopped("p/1/in")]


def test_a_stop_to_the_sender_that_was_cut_is_said_again() -> None:
    joint, _, _ = program()
    host, hub = joint.host, vars(joint.carrier)["_hub"]
    stream = host.send_stream("p/1/in")
    stream.write(b"x")
    joint.run()
    joint.guest.refuse("p/1/in")
    joint.cut()
    stream.write(b"y")
    join(host, hub)
    assert stream.stopped


def test_bytes_for_nobody_are_answered_by_a_stop() -> None:
    raw = HandMadeHost(make_hub("a"))
    raw.shake(shown("", CONTROL))
    assert raw.send_data("p/7/in", 0, b"x") == [{"t": "stop", "s": "p/7/in"}]
    assert raw.send({"t": "end", "s": "p/7/in", "o": 0}) == [{"t": "stop", "s": "p/7/in"}]


def test_a_dropped_stream_sends_nothing_more() -> None:
    joint, _, stdin = program()
    stream = joint.host.send_stream("p/1/in")
    joint.host.drop_send_stream("p/1/in")
    stream.write(b"x")
    joint.run()
    assert stdin.offset == 0


def test_a_removed_stream_is_missing_for_who_has_not_read_it_to_its_end() -> None:
    joint, out, _ = program()
    hub = vars(joint.carrier)["_hub"]
    joint.host.subscribe("p/1/out")
    out.write(b"x")
    joint.run()
    out.stop()
    hub.remove_stream("p/1/out")
    hub.remove_stream("p/1/out")
    joint.run()
    assert happened(joint.host) == [Received("p/1/out", b"x"), Missing("p/1/out")]


# ---- rules that end a carrier


@pytest.mark.parametrize(
    "frame",
    [
        {"t": "ack", "s": "a/a/out", "o": 4, "c": 100},  # more than was sent
        {"t": "end", "s": "a/a/in", "o": 5},  # not where the bytes stopped
    ],
)
def test_what_cannot_be_is_a_protocol_error(frame: dict[str, object]) -> None:
    hub = make_hub("a")
    journal(hub, "a").write(b"abc")
    raw = HandMadeHost(hub)
    raw.shake(shown("a", DRIVER))
    raw.send({"t": "sub", "subs": [["a/a/out", 0, 100]]})
    with pytest.raises(ProtocolError):
        raw.send(frame)


def test_bytes_above_the_offset_or_beyond_the_credit_are_protocol_errors() -> None:
    for offset, size in ((1, 1), (0, 41)):
        raw = HandMadeHost(make_hub("a", settings=SMALL))
        raw.shake(shown("a", DRIVER))
        with pytest.raises(ProtocolError):
            raw.send_data("a/a/in", offset, b"x" * size)


def test_bytes_behind_the_end_are_a_protocol_error() -> None:
    raw = HandMadeHost(make_hub("a"))
    raw.shake(shown("a", DRIVER))
    raw.send({"t": "end", "s": "a/a/in", "o": 0})
    with pytest.raises(ProtocolError):
        raw.send_data("a/a/in", 0, b"x")


def test_old_news_and_repeats_are_harmless() -> None:
    hub = make_hub("a")
    out = journal(hub, "a")
    out.write(b"abc")
    raw = HandMadeHost(hub)
    raw.shake(shown("a", DRIVER), shown("a", OBSERVER, number=2))
    raw.send({"t": "sub", "subs": [["a/a/out", 0, 100]]})
    for _ in range(2):
        raw.send({"t": "ack", "s": "a/a/out", "o": 3, "c": 100})
        raw.send({"t": "ack", "s": "a/a/out", "o": 1, "c": 5})
        raw.send_data("a/a/in", 0, b"line\n")
        raw.send({"t": "end", "s": "a/a/in", "o": 5})
        raw.send({"t": "ack", "s": "unknown", "o": 0, "c": 0})
    assert out.acked == 3
    assert raw.carrier.link is not None
    assert happened(raw.carrier.link) == [Received("a/a/in", b"line\n"), Ended("a/a/in")]
