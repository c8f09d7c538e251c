"""Time: pings, silence, and the numbers of the design."""

from __future__ import annotations

import pytest
from wire.simulation.pair import ALL, HandMadeGuest, Joint, join, make_host, make_hub, parse

from agenthost.wire.frames import encode
from agenthost.wire.settings import KIB, MIB, WireSettings


def test_the_numbers_are_those_of_the_design() -> None:
    settings = WireSettings()
    assert settings.text_payload == 64 * KIB
    assert settings.binary_payload == 256 * KIB
    assert (settings.ping_every, settings.silence) == (15.0, 23.0)
    assert (settings.auth_within, settings.forget_link_after) == (5.0, 600.0)
    assert settings.inline_body == 32 * KIB
    assert (settings.journal_bound, settings.output_bound) == (256 * MIB, 16 * MIB)


def test_a_window_smaller_than_the_credit_that_every_sender_begins_with_is_refused() -> None:
    with pytest.raises(ValueError, match="initial_window"):
        WireSettings(initial_window=100, window=99)


def _kinds(data: bytes) -> list[str]:
    return [frame["t"] for frame in parse(data)]


def test_an_end_that_has_sent_nothing_for_fifteen_seconds_pings() -> None:
    host = make_host(control=True, guest_key=None)
    joint = join(host, make_hub(guest_key=None), now=100.0)
    for end in (host, joint.guest):
        assert end.next_tick() == 115.0
        assert end.tick(114.9)
        assert end.take(ALL, 114.9) == b""
        assert end.tick(115.0)
        assert _kinds(end.take(ALL, 115.0)) == ["ping"]


def test_a_ping_is_answered() -> None:
    host = make_host(control=True, guest_key=None)
    joint = join(host, make_hub(guest_key=None))
    host.tick(15.0)
    joint.carrier.receive(host.take(ALL, 15.0), 15.0)
    assert _kinds(joint.carrier.take(ALL, 15.0)) == ["pong"]


def test_only_one_ping_and_one_answer_wait_for_a_carrier_that_takes_nothing() -> None:
    host = make_host(control=True, guest_key=None)
    joint = join(host, make_hub(guest_key=None))
    for second in range(15, 22):
        assert host.tick(float(second))
        joint.carrier.receive(encode({"t": "ping", "z": 1}), 15.0)
        host.receive(encode({"t": "ping"}), 0.0)
    assert host.next_tick() == 23.0, "only the silence is left to wait for"
    assert _kinds(host.take(ALL, 22.0)) == ["ping", "pong"]
    assert _kinds(joint.carrier.take(ALL, 22.0)) == ["pong"]
    assert host.next_tick() == 23.0


def test_a_carrier_that_was_silent_for_23_seconds_is_dead_for_both_ends() -> None:
    host = make_host(control=True)
    joint = join(host, make_hub())
    closed: list[bool] = []
    joint.carrier.on_close = lambda: closed.append(True)
    assert host.tick(22.9)
    joint.carrier.tick(22.9)
    assert not closed
    assert not host.tick(23.0)
    joint.carrier.tick(23.0)
    joint.carrier.tick(24.0)
    assert closed == [True]
    assert joint.carrier.closing


def test_a_carrier_that_never_brought_a_hello_is_dead_after_that_time_too() -> None:
    host = make_host(control=True)
    host.attach(binary=True, now=100.0)
    assert host.next_tick() == 123.0
    assert host.tick(122.9)
    assert not host.tick(123.0)


def test_part_of_a_frame_is_a_sign_of_life() -> None:
    host = make_host(control=True)
    joint = join(host, make_hub())
    frame = encode({"t": "ping", "z": 1})
    for index in range(len(frame) - 1):
        now = 20.0 * (index + 1)
        joint.carrier.receive(frame[index : index + 1], now)
        host.receive(frame[index : index + 1], now)
        joint.carrier.tick(now + 19.0)
        assert host.tick(now + 19.0)
    assert not joint.carrier.closing


def test_nothing_is_due_without_a_carrier() -> None:
    host = make_host(control=True)
    assert host.next_tick() is None
    assert host.tick(1e9)
    assert not host.has_output


def test_a_displaced_carrier_is_not_ticked_for_its_link() -> None:
    hub = make_hub()
    host = make_host(control=True)
    old = join(host, hub)
    host.detach()
    new = join(host, hub, now=20.0)
    old.carrier.tick(30.0)
    assert not new.carrier.closing
    assert new.guest.take(ALL, 30.0) == b""


def test_what_concerns_no_stream_of_a_link_changes_nothing() -> None:
    host = make_host(control=True)
    joint = join(host, make_hub())
    host.unsubscribe("nothing")
    host.drop_send_stream("nothing")
    host.drop("nobody", "driver")
    host.consume("nothing", 5)
    host.acknowledge("nothing", 5)
    joint.guest.tell_credit("nothing")
    joint.guest.refuse("nothing")
    host.abandon(99)
    assert not host.has_output
    assert not joint.guest.has_output


def test_the_owner_is_woken_when_there_is_something_to_send() -> None:
    host = make_host(control=True, drives="a")
    hub = make_hub("a")
    joint = join(host, hub)
    woken: list[str] = []
    host.wake = lambda: woken.append("host")
    joint.guest.wake = lambda: woken.append("guest")
    stream = host.send_stream("a/a/in")
    for action in (
        lambda: host.call("x", {}),
        lambda: stream.write(b"x\n"),
        lambda: host.subscribe("a/a/out"),
        lambda: host.tick(16.0),
    ):
        woken.clear()
        action()
        assert woken == ["host"]
        assert host.has_output
        host.take(ALL, 0.0)
    woken.clear()
    joint.guest.answer(99, ok=True, value=1)
    assert woken == []


def test_a_new_carrier_begins_with_nothing_of_the_old_one() -> None:
    hub = make_hub("a")
    host = make_host(control=True, drives="a")
    joint = join(host, hub)
    host.call("x", {})
    host.tick(16.0)
    host.receive(b'{"t":"pi', 16.0)  # half a frame
    host.detach()
    assert host.take(ALL, 16.0) == b""
    again = Joint(host, hub, now=16.0)
    again.run(16.0)
    assert host.flowing
    assert joint.carrier.closing


def test_a_detached_host_queues_nothing_for_a_carrier_that_is_not_there() -> None:
    host = make_host(control=True)
    raw = HandMadeGuest(host)
    raw.shake()
    host.detach()
    for _ in range(100):
        host.call("x", {})
    assert not vars(host)["_control"]
