"""Streams over a link: credit, readers at their own pace, gaps, stops, ends, and going on after a cut."""

from __future__ import annotations

import pytest
from support.wire_content import content
from support.wire_pair import (
    ALL,
    HandMadeHost,
    Joint,
    happened,
    join,
    journal,
    make_host,
    make_hub,
    parse,
    received,
    shown,
)

from agenthost.wire.events import Ended, Gap, Missing, Received, Stopped
from agenthost.wire.frames import ProtocolError
from agenthost.wire.settings import WireSettings
from agenthost.wire.spool import MemorySpool
from agenthost.wire.streams import RecvStream, SendStream
from agenthost.wire.tokens import CONTROL, DRIVER, OBSERVER

SMALL = WireSettings(text_payload=10, binary_payload=10, initial_window=20, window=40)


def _program(
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
    joint, out, _ = _program(settings=SMALL)
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
    joint, _, stdin = _program(settings=SMALL)
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
    hub = make_hub(settings=SMALL)
    host = make_host(control=True, settings=SMALL)
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
    joint, out, _ = _program()
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


# ---- readers


def test_each_reader_has_its_own_place() -> None:
    hub = make_hub("a")
    out = journal(hub, "a")
    out.write(b"0123456789")
    for number, offset, expected in (
        (1, 0, b"0123456789"),
        (2, 4, b"456789"),
        (3, 10, b""),
        (4, None, b"0123456789"),
    ):
        host = make_host(str(number), observes="a")
        host.subscribe("a/a/out", offset=offset)
        join(host, hub)
        assert received(host, "a/a/out") == expected


def test_who_asks_for_what_has_gone_gets_a_gap_and_then_what_there_is() -> None:
    hub = make_hub("a")
    out = journal(hub, "a", bound=0)
    driver = make_host("d", drives="a")
    driver.subscribe("a/a/out")
    joint = join(driver, hub)
    out.write(b"x" * 100)
    joint.run()
    driver.acknowledge("a/a/out", 100)
    joint.run()

    late = make_host("o", observes="a")
    late.subscribe("a/a/out")
    joint = join(late, hub)
    assert happened(late, Gap) == [Gap("a/a/out", 0, 100)]
    late.subscribe("a/a/out", offset=None)
    out.write(b"new")
    joint.run()
    assert received(late, "a/a/out") == b"new"


def test_an_observer_that_falls_behind_gets_a_gap_and_holds_up_nobody() -> None:
    hub = make_hub("a", settings=SMALL)
    out = journal(hub, "a", bound=100)
    driver, observer = (
        make_host("d", drives="a", settings=SMALL),
        make_host("o", observes="a", settings=SMALL),
    )
    for host in (driver, observer):
        host.subscribe("a/a/out")
    joints = [join(driver, hub), join(observer, hub)]
    total = 0
    while total < 1000:
        out.write(bytes(min(out.room, 50)))
        for joint in joints:
            joint.run()
        new = len(received(driver, "a/a/out"))
        assert new, "the driver is held up"
        total += new
        driver.consume("a/a/out", new)
        driver.acknowledge("a/a/out", total)
        joints[0].run()
    *came, told = happened(observer, Received, Gap)
    assert isinstance(told, Gap)
    assert told.wanted == sum(len(event.data) for event in came if isinstance(event, Received))
    assert told.wanted < told.oldest <= out.spool.base


def test_who_asks_for_the_oldest_byte_is_never_told_a_gap() -> None:
    hub = make_hub("a")
    out = journal(hub, "a", bound=10)
    driver, observer = make_host("d", drives="a"), make_host("o", observes="a")
    driver.subscribe("a/a/out")
    joint = join(driver, hub)
    late = join(observer, hub)
    out.write(b"1" * 5000)
    joint.run()
    observer.subscribe("a/a/out", offset=None)
    late.carrier.receive(observer.take(ALL, 0.0), 0.0)  # asked for, and nothing sent yet
    driver.acknowledge("a/a/out", 5000)
    joint.run()
    out.write(b"2" * 5000)
    late.run()
    assert received(observer, "a/a/out") == b"2" * 5000


def test_a_cursor_beyond_the_end_is_a_gap_and_not_the_end_of_every_carrier() -> None:
    hub = make_hub("a")
    journal(hub, "a").write(b"abc")
    host = make_host(drives="a")
    host.subscribe("a/a/out", offset=4)
    join(host, hub)
    assert happened(host, Gap) == [Gap("a/a/out", 4, 0)]
    assert host.flowing


def test_a_stream_that_is_not_there_is_missing() -> None:
    host = make_host(control=True)
    host.subscribe("p/9/out")
    join(host, make_hub())
    assert happened(host, Missing) == [Missing("p/9/out")]


def test_what_is_asked_for_in_the_same_breath_as_the_call_that_makes_it_is_there() -> None:
    hub, host = make_hub(), make_host(control=True)
    out = SendStream("p/1/out", bound=1000)
    hub.look = lambda _link: hub.add_stream(out, link="link")
    host.call("start", {})
    host.subscribe("p/1/out")
    joint = Joint(host, hub)
    joint.run()
    out.write(b"x")
    joint.run()
    assert received(host, "p/1/out") == b"x"


def test_what_was_on_its_way_for_an_older_subscription_does_not_disturb_the_new_one() -> None:
    hub = make_hub("a", settings=SMALL)
    out = journal(hub, "a")
    host = make_host(drives="a", settings=SMALL)
    host.subscribe("a/a/out")
    joint = join(host, hub)
    out.write(content("a/a/out", 0, 100))
    joint.run()
    host.consume("a/a/out", 40)
    joint.carrier.receive(host.take(ALL, 0.0), 0.0)
    late = joint.carrier.take(ALL, 0.0)
    assert late
    host.unsubscribe("a/a/out")
    happened(host)
    host.subscribe("a/a/out", offset=5)
    host.receive(late, 0.0)
    joint.run()
    assert received(host, "a/a/out") == content("a/a/out", 5, 40)


def test_a_gap_of_an_older_subscription_does_not_end_the_new_one() -> None:
    hub = make_hub("a")
    out = SendStream("a/a/out", bound=0, spool=MemorySpool(50))
    hub.add_stream(out, agent="a")
    out.write(b"new")
    host = make_host(observes="a")
    joint = join(host, hub)
    happened(host)
    host.subscribe("a/a/out", offset=0)
    joint.carrier.receive(host.take(ALL, 0.0), 0.0)
    host.unsubscribe("a/a/out")
    host.subscribe("a/a/out", offset=50)
    joint.run()
    assert happened(host) == [Received("a/a/out", b"new")]


# ---- acknowledging


def test_only_what_arrived_can_be_acknowledged() -> None:
    joint, out, _ = _program()
    joint.host.subscribe("p/1/out")
    out.write(b"abc")
    joint.run()
    with pytest.raises(ValueError, match="acknowledged"):
        joint.host.acknowledge("p/1/out", 4)
    joint.host.acknowledge("p/1/out", 3)
    joint.host.acknowledge("p/1/out", 1)
    joint.run()
    assert out.acked == 3


def test_what_was_acknowledged_before_a_cut_is_told_after_it() -> None:
    joint, out, _ = _program()
    joint.host.subscribe("p/1/out")
    out.write(b"abcdef")
    joint.run()
    joint.host.acknowledge("p/1/out", 6)
    joint.cut()
    assert out.acked == 0
    hub = vars(joint.carrier)["_hub"]
    join(joint.host, hub)
    assert out.acked == 6


def test_the_last_acknowledgement_of_a_stream_that_has_ended_survives_a_cut() -> None:
    joint, out, _ = _program()
    joint.host.subscribe("p/1/out")
    out.write(b"abc")
    out.end()
    joint.run()
    assert happened(joint.host) == [Received("p/1/out", b"abc"), Ended("p/1/out")]
    joint.cut()
    joint = join(joint.host, vars(joint.carrier)["_hub"])
    joint.host.acknowledge("p/1/out", 3)
    joint.run()
    assert out.acked == 3
    assert happened(joint.host, Ended) == []


def test_a_stream_read_to_its_end_and_acknowledged_costs_the_link_nothing_more() -> None:
    hub = make_hub("a")
    joint = join(make_host(control=True, observes="a"), hub)
    host = joint.host
    for number in range(20):
        for sid, options in ((f"p/{number}/out", {"link": "link"}), (f"a/a/{number}", {"agent": "a"})):
            out = SendStream(sid, bound=1000)
            hub.add_stream(out, **options)
            host.subscribe(sid)
            out.write(b"x")
            out.end()
            joint.run()
            host.acknowledge(sid, 1)
            joint.run()
    assert not vars(joint.guest)["_reading"]


def test_a_stream_may_be_removed_by_the_word_that_all_of_it_arrived() -> None:
    joint, out, _ = _program()
    hub = vars(joint.carrier)["_hub"]
    out.on_room = lambda: hub.remove_stream("p/1/out")
    joint.host.subscribe("p/1/out")
    out.write(b"abc")
    joint.run()
    joint.host.consume("p/1/out", 3)
    joint.host.acknowledge("p/1/out", 3)
    joint.run()
    assert happened(joint.host) == [Received("p/1/out", b"abc"), Missing("p/1/out")]


# ---- ends and stops


def test_an_end_is_told_once_behind_the_last_byte_also_after_a_cut() -> None:
    joint, out, _ = _program(settings=SMALL)
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
    joint, _, stdin = _program(settings=SMALL)
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
    joint, out, _ = _program()
    joint.host.subscribe("p/1/out")
    joint.run()
    joint.host.unsubscribe("p/1/out")
    joint.run()
    assert out.stopped
    assert happened(joint.guest) == [Stopped("p/1/out")]


@pytest.mark.parametrize("when", ["said and cut", "said while away", "never asked for"])
def test_that_a_host_wants_no_more_is_told_whatever_is_cut(when: str) -> None:
    joint, out, _ = _program()
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
    joint, out, _ = _program()
    joint.host.subscribe("p/1/out")
    joint.run()
    out.write(b"x")
    out.stop()
    joint.run()
    assert received(joint.host, "p/1/out") == b""


def test_stopping_what_has_ended_and_arrived_is_no_news() -> None:
    joint, _, stdin = _program()
    stream = joint.host.send_stream("p/1/in")
    stream.write(b"x")
    stream.end()
    joint.run()
    assert stdin.ended
    joint.guest.refuse("p/1/in")
    joint.run()
    assert happened(joint.host) == []


def test_a_program_that_closes_its_stdin_stops_the_sender() -> None:
    joint, _, _ = _program()
    stream = joint.host.send_stream("p/1/in")
    stream.write(b"x")
    joint.run()
    joint.guest.refuse("p/1/in")
    joint.run()
    assert stream.stopped
    assert happened(joint.host) == [Stopped("p/1/in")]


def test_a_stop_to_the_sender_that_was_cut_is_said_again() -> None:
    joint, _, _ = _program()
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
    joint, _, stdin = _program()
    stream = joint.host.send_stream("p/1/in")
    joint.host.drop_send_stream("p/1/in")
    stream.write(b"x")
    joint.run()
    assert stdin.offset == 0


def test_a_removed_stream_is_missing_for_who_has_not_read_it_to_its_end() -> None:
    joint, out, _ = _program()
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
