"""Roles: what control, a driver and an observer may do, and tokens in the wrong hands."""

from __future__ import annotations

from typing import Any

import pytest
from wire.simulation.pair import (
    HandMadeHost,
    happened,
    join,
    journal,
    make_host,
    make_hub,
    received,
    shown,
)

from agenthost.wire.doors import AGENT_METHODS
from agenthost.wire.events import (
    Answered,
    Called,
    Missing,
    Opened,
    Received,
)
from agenthost.wire.streams import RecvStream, SendStream
from agenthost.wire.tokens import OBSERVER

# ---- reading


def test_driver_and_observer_read_their_agent() -> None:
    hub = make_hub("a")
    journal(hub, "a").write(b"news")
    for host in (make_host("1", drives="a"), make_host("2", observes="a")):
        host.subscribe("a/a/out")
        join(host, hub)
        assert received(host, "a/a/out") == b"news"


@pytest.mark.parametrize("roles", [{"drives": "b"}, {"observes": "b"}, {"control": True}])
def test_nobody_else_reads_an_agent(roles: dict[str, Any]) -> None:
    hub = make_hub("a", "b")
    journal(hub, "a").write(b"secret")
    host = make_host(**roles)
    host.subscribe("a/a/out")
    join(host, hub)
    assert received(host, "a/a/out") == b""
    host.subscribe("a/a/out")
    join(host, hub)
    assert happened(host, Missing, Received) == [Missing("a/a/out")]


def test_a_programs_output_is_read_by_the_link_that_started_it_and_only_with_control() -> None:
    hub = make_hub("a")
    out = SendStream("p/1/out", bound=1000)
    hub.add_stream(out, link="mine")
    out.write(b"x")
    for host, may in (
        (make_host("other", control=True), False),
        (make_host("mine", drives="a"), False),
        (make_host("mine", control=True), True),
    ):
        host.subscribe("p/1/out")
        join(host, hub)
        assert (received(host, "p/1/out") == b"x") is may


# ---- sending


@pytest.mark.parametrize("roles", [{"observes": "a"}, {"drives": "b"}, {"control": True}])
def test_only_the_driver_sends_input(roles: dict[str, Any]) -> None:
    hub = make_hub("a", "b")
    host = make_host(**roles)
    stream = host.send_stream("a/a/in")
    stream.write(b"do evil\n")
    joint = join(host, hub)
    assert happened(joint.guest) == []
    assert stream.stopped
    assert hub.doors["a"].input.offset == 0


def test_only_the_drivers_acknowledgements_count() -> None:
    hub = make_hub("a")
    out = journal(hub, "a")
    out.write(b"x" * 10)
    observer, driver = make_host("o", observes="a"), make_host("d", drives="a")
    for host in (observer, driver):
        host.subscribe("a/a/out")
    joints = [join(observer, hub), join(driver, hub)]
    observer.acknowledge("a/a/out", 10)
    joints[0].run()
    assert out.acked == 0
    driver.acknowledge("a/a/out", 7)
    joints[1].run()
    assert out.acked == 7


def test_an_observer_that_wants_no_more_stops_nobody() -> None:
    hub = make_hub("a")
    out = journal(hub, "a")
    observer, driver = make_host("o", observes="a"), make_host("d", drives="a")
    for host in (observer, driver):
        host.subscribe("a/a/out")
    joints = [join(observer, hub), join(driver, hub)]
    observer.unsubscribe("a/a/out")
    joints[0].run()
    driver.unsubscribe("a/a/out")
    joints[1].run()
    assert not out.stopped
    out.write(b"on")
    driver.subscribe("a/a/out")
    joints[1].run()
    assert received(driver, "a/a/out") == b"on"


# ---- calling


def _call(roles: dict[str, Any], method: str, params: dict[str, Any]) -> tuple[bool, bool]:
    """Return whether the guest was asked to do it, and whether the host was told AccessDenied."""
    hub = make_hub("a", "b")
    host = make_host(**roles)
    call = host.call(method, params)
    joint = join(host, hub)
    done = happened(joint.guest) == [Called(call, method, params)]
    denied = [
        e for e in happened(host, Answered) if isinstance(e, Answered) and e.value["type"] == "AccessDenied"
    ]
    assert not denied or (denied[0].call == call and not denied[0].ok)
    return done, bool(denied)


@pytest.mark.parametrize("method", ["start", "read", "write", "about", "signal", "release"])
def test_control_calls_anything(method: str) -> None:
    assert _call({"control": True}, method, {"agent": "a"}) == (True, False)


@pytest.mark.parametrize("method", sorted(AGENT_METHODS))
def test_a_driver_calls_what_is_about_its_agent(method: str) -> None:
    assert _call({"drives": "a"}, method, {"agent": "a"}) == (True, False)


@pytest.mark.parametrize(
    ("roles", "method", "params"),
    [
        ({"drives": "a"}, "start", {"agent": "a"}),
        ({"drives": "a"}, "read", {"path": "/etc/passwd"}),
        ({"drives": "a"}, "write", {"agent": "a"}),
        ({"drives": "a"}, "signal", {"id": "1"}),
        ({"drives": "a"}, "signal", {"agent": "b"}),
        ({"drives": "a"}, "signal", {"agent": ["a"]}),
        ({"drives": "a"}, "signal", {"agent": None}),
        ({"drives": "a"}, "signal", {"agent": "a", "$body": "c/1"}),  # its stream may name another agent
        ({"observes": "a"}, "signal", {"agent": "a"}),
        ({"observes": "a"}, "start", {}),
        ({"drives": "b", "observes": "a"}, "wait", {"agent": "a"}),
    ],
)
def test_everything_else_is_denied_and_not_done(
    roles: dict[str, Any], method: str, params: dict[str, Any]
) -> None:
    assert _call(roles, method, params) == (False, True)


# ---- tokens that come into wrong hands


def test_a_stolen_observer_token_with_the_drivers_link_id_gives_an_observer() -> None:
    hub = make_hub("a")
    host = make_host("driver's", control=True, drives="a")
    joint = join(host, hub)
    secret = host.call("read", {"path": "/secret"})
    joint.run()
    joint.guest.answer(secret, ok=True, value="the secret")
    happened(joint.guest)

    thief = HandMadeHost(hub)
    thief.shake(shown("a", OBSERVER), link="driver's")
    link = hub.links["driver's"]
    assert hub.doors["a"].driver is None
    # Answers to the driver's calls, its input, its agent's questions: nothing of it.
    (answer,) = thief.send({"t": "call", "i": secret, "m": "read", "p": {"path": "/secret"}})
    assert answer["v"]["type"] == "AccessDenied"
    (answer,) = thief.send({"t": "call", "i": secret, "m": "signal", "p": {"agent": "a"}})
    assert answer["v"]["type"] == "AccessDenied"
    assert [frame["t"] for frame in thief.send_data("a/a/in", 0, b"evil\n")] == ["stop"]
    hub.offer("a", "a/a/m/1/q", {"answer": "a/a/m/1/r"}, RecvStream("a/a/m/1/r", offset=0, window=100))
    assert thief.answers() == []
    assert [frame["t"] for frame in thief.send_data("a/a/m/1/r", 0, b"evil")] == ["stop"]
    assert happened(link) == []

    host.detach()
    happened(host)
    back = join(host, hub)
    assert thief.carrier.closing
    assert hub.doors["a"].driver == "driver's"
    assert Opened("a/a/m/1/q", "a", {"answer": "a/a/m/1/r"}) in host.events
    assert Answered(secret, True, "the secret") in host.events
    host.send_stream("a/a/in").write(b"good\n")
    back.run()
    assert received(back.guest, "a/a/in") == b"good\n"


def test_an_empty_link_id_is_not_taken_for_the_missing_driver() -> None:
    hub = make_hub("a")
    raw = HandMadeHost(hub)
    with pytest.raises(Exception, match="auth"):
        raw.auth(shown("a", OBSERVER), link="")
    hub.offer("a", "a/a/m/1/q", {}, RecvStream("a/a/m/1/r", offset=0, window=100))
    assert hub.links == {}


def test_another_agent_under_an_old_name_is_not_readable_with_the_old_ones_roles() -> None:
    hub = make_hub("a")
    host = make_host(drives="a")
    joint = join(host, hub)
    hub.remove_agent("a")
    hub.add_agent("a", {})
    journal(hub, "a").write(b"other")
    host.subscribe("a/a/out")
    host.send_stream("a/a/in").write(b"x\n")
    call = host.call("signal", {"agent": "a"})
    joint.run()
    assert received(host, "a/a/out") == b""
    assert happened(joint.guest) == []
    assert call == 1


@pytest.mark.parametrize("name", ["", "a/b", "/"])
def test_a_name_that_would_mix_up_streams_is_no_agents_name(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        make_hub(name)


def test_two_agents_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="already"):
        make_hub("a", "a")
