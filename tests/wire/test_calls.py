"""Calls: done at most once, answered once, repeated after a cut, forgotten when the host is done."""

from __future__ import annotations

import pytest
from wire.simulation.pair import (
    ALL,
    HandMadeGuest,
    HandMadeHost,
    Joint,
    happened,
    join,
    make_host,
    make_hub,
    parse,
    shown,
)

from agenthost.wire.events import Answered, Called
from agenthost.wire.guest import GuestLink
from agenthost.wire.settings import WireSettings
from agenthost.wire.tokens import CONTROL, DRIVER


def _called(link: GuestLink) -> list[int]:
    return [event.call for event in happened(link) if isinstance(event, Called)]


def test_a_call_is_done_and_answered() -> None:
    host = make_host(control=True)
    joint = join(host, make_hub())
    happened(host)
    call = host.call("read", {"path": "/x"})
    joint.run()
    assert happened(joint.guest) == [Called(call, "read", {"path": "/x"})]
    joint.guest.answer(call, ok=False, value={"type": "OSError"})
    joint.run()
    assert happened(host) == [Answered(call, False, {"type": "OSError"})]


def test_a_call_made_before_there_is_a_carrier_is_done_when_there_is_one() -> None:
    host = make_host(control=True)
    calls = [host.call("x", {}), host.call("y", {})]
    assert _called(join(host, make_hub()).guest) == calls


def test_a_call_repeated_after_a_cut_is_done_once_and_answered_once() -> None:
    hub, host = make_hub(), make_host(control=True)
    call = host.call("slow", {})
    joint = join(host, hub)
    done = _called(joint.guest)
    for _ in range(3):
        joint.cut()
        joint = join(host, hub)
        done += _called(joint.guest)
    joint.cut()
    joint.guest.answer(call, ok=True, value=1)
    happened(host)
    joint = Joint(host, hub)
    joint.run()
    assert done == [call]
    assert happened(host, Answered) == [Answered(call, True, 1)]


def test_an_answer_that_was_cut_comes_again() -> None:
    hub, host = make_hub(), make_host(control=True)
    joint = join(host, hub)
    call = host.call("x", {})
    joint.run()
    joint.guest.answer(call, ok=True, value=1)
    assert joint.carrier.take(ALL, 0.0)  # lost
    joint.cut()
    join(host, hub)
    assert happened(host, Answered) == [Answered(call, True, 1)]


def test_each_frame_says_which_calls_are_still_open() -> None:
    host = make_host(control=True)
    raw = HandMadeGuest(host)
    assert [frame["z"] for frame in raw.shake()] == [1]
    calls = [host.call("x", {}) for _ in range(3)]
    assert {frame["z"] for frame in raw.send()} == {1}
    for call, lowest in ((calls[1], 1), (calls[0], 3), (calls[2], 4)):
        (pong,) = raw.send({"t": "ans", "i": call, "ok": True, "v": 1}, {"t": "ping"})
        assert pong["z"] == lowest


def test_answers_below_the_lowest_open_call_are_forgotten() -> None:
    hub, host = make_hub(), make_host(control=True)
    joint = join(host, hub)
    calls = [host.call("x", {"n": number}) for number in range(50)]
    joint.run()
    for call in calls:
        joint.guest.answer(call, ok=True, value="x" * 100)
    joint.run()
    host.call("next", {})
    joint.run()
    assert len(vars(joint.guest)["_answers"]) == 1


def test_a_call_below_what_is_done_is_ignored() -> None:
    raw = HandMadeHost(make_hub())
    raw.shake(shown("", CONTROL))
    assert raw.send({"t": "call", "i": 3, "m": "x", "p": {}, "z": 4}) == []
    assert raw.carrier.link is not None
    assert _called(raw.carrier.link) == []


def test_an_abandoned_call_is_neither_answered_nor_asked_for_again() -> None:
    hub, host = make_hub(), make_host(control=True)
    joint = join(host, hub)
    call = host.call("x", {})
    joint.run()
    host.abandon(call)
    joint.guest.answer(call, ok=True, value=1)
    joint.run()
    joint.cut()
    happened(host)
    again = join(host, hub)
    assert happened(host, Answered) == []
    assert _called(again.guest) == [call]  # told before, and not taken from the queue until now


def test_an_answer_to_no_call_is_ignored() -> None:
    host = make_host(control=True)
    raw = HandMadeGuest(host)
    raw.shake()
    happened(host)
    raw.send({"t": "ans", "i": 99, "ok": True, "v": 1})
    assert happened(host) == []


def test_the_owner_acts_on_a_call_before_the_next_frame_is_looked_at() -> None:
    hub, host = make_hub(), make_host(control=True)
    seen: list[list[int]] = []

    def look(link: GuestLink | None) -> None:
        if link is not None and link.events:
            seen.append(_called(link))

    hub.look = look
    join(host, hub)
    calls = [host.call("x", {}), host.call("y", {})]
    join(host, hub)
    assert seen == [[calls[0]], [calls[1]]]


def test_parameters_that_fit_no_frame_are_refused_to_the_caller_and_harm_nobody() -> None:
    settings = WireSettings(max_line=2000)
    hub, host = make_hub(settings=settings), make_host(control=True, settings=settings)
    joint = join(host, hub)
    with pytest.raises(ValueError, match="too long"):
        host.call("write", {"data": "x" * 2000})
    with pytest.raises(TypeError):
        host.call("write", {"data": b"bytes"})
    longest = host.call("write", {"data": "x" * 1800})
    joint.run()
    assert _called(joint.guest) == [longest]


def test_an_answer_that_fits_no_frame_is_refused_to_the_one_who_answers() -> None:
    settings = WireSettings(max_line=2000)
    hub, host = make_hub(settings=settings), make_host(control=True, settings=settings)
    joint = join(host, hub)
    call = host.call("read", {})
    joint.run()
    happened(host)
    with pytest.raises(ValueError, match="too long"):
        joint.guest.answer(call, ok=True, value="x" * 2000)
    with pytest.raises(TypeError):
        joint.guest.answer(call, ok=True, value=b"bytes")
    joint.guest.answer(call, ok=False, value="too long")
    joint.run()
    assert happened(host) == [Answered(call, False, "too long")]


def test_a_drivers_call_that_was_done_is_answered_also_when_another_driver_has_come() -> None:
    hub = make_hub("a")
    host = make_host("1", drives="a", observes="a")
    joint = join(host, hub)
    call = host.call("signal", {"agent": "a"})
    joint.run()
    assert _called(joint.guest) == [call]
    joint.cut()
    joint.guest.answer(call, ok=True, value="done")
    join(make_host("2", drives="a"), hub)
    joint = join(host, hub)
    assert happened(host, Answered) == [Answered(call, True, "done")]
    denied = host.call("signal", {"agent": "a"})
    joint.run()
    assert [(e.call, e.ok) for e in host.events if isinstance(e, Answered)] == [(denied, False)]


def test_calls_of_two_links_have_nothing_to_do_with_each_other() -> None:
    hub = make_hub()
    hosts = [make_host("1", control=True), make_host("2", control=True)]
    joints = [join(host, hub) for host in hosts]
    for host in hosts:
        happened(host)
        assert host.call("x", {}) == 1
    for joint in joints:
        joint.run()
    joints[0].guest.answer(1, ok=True, value="first")
    for joint in joints:
        joint.run()
    assert [happened(host) for host in hosts] == [[Answered(1, True, "first")], []]


def test_a_denied_call_is_not_remembered() -> None:
    hub = make_hub("a")
    raw = HandMadeHost(hub)
    raw.shake(shown("a", DRIVER))
    for number in range(1, 100):
        (answer,) = raw.send({"t": "call", "i": number, "m": "start", "p": {}})
        assert not answer["ok"]
    assert raw.carrier.link is not None
    assert not vars(raw.carrier.link)["_answers"]


def test_control_frames_go_before_bytes() -> None:
    hub, host = make_hub("a", guest_key=None), make_host(control=True, drives="a", guest_key=None)
    join(host, hub)
    host.send_stream("a/a/in").write(b"x\n")
    host.call("x", {})
    assert [frame["t"] for frame in parse(host.take(ALL, 0.0))] == ["call", "d"]
