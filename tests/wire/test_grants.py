"""Roles that come and go on a link, and a host that observes what it also drives."""

from __future__ import annotations

from wire.simulation.content import token
from wire.simulation.pair import (
    happened,
    join,
    journal,
    make_host,
    make_hub,
    received,
)

from agenthost.wire.events import (
    Answered,
    Ended,
    Granted,
    Missing,
    Opened,
    Received,
    Refused,
)
from agenthost.wire.streams import RecvStream, SendStream
from agenthost.wire.tokens import CONTROL, DRIVER, OBSERVER

# ---- a host that observes what it also drives


def test_who_also_observes_goes_on_reading_when_it_is_superseded() -> None:
    hub = make_hub("a")
    out = journal(hub, "a")
    host = make_host("1", drives="a", observes="a")
    host.subscribe("a/a/out")
    joint = join(host, hub)
    out.write(b"before ")
    joint.run()
    join(make_host("2", drives="a"), hub)
    out.write(b"after")
    joint.run()
    assert Refused("a", DRIVER, "superseded") in host.events
    assert received(host, "a/a/out") == b"before after"
    host.acknowledge("a/a/out", 12)
    joint.run()
    assert out.acked == 0


def test_who_only_drove_is_told_that_it_reads_no_more() -> None:
    hub = make_hub("a")
    journal(hub, "a")
    host = make_host("1", drives="a")
    host.subscribe("a/a/out")
    joint = join(host, hub)
    join(make_host("2", drives="a"), hub)
    joint.run()
    assert happened(host, Missing, Refused) == [
        Refused("a", DRIVER, "superseded"),
        Missing("a/a/out"),
    ]


def test_an_observer_may_become_the_driver_and_go_back() -> None:
    hub = make_hub("a")
    out = journal(hub, "a")
    host = make_host(observes="a")
    host.subscribe("a/a/out")
    joint = join(host, hub)
    host.grant("a", DRIVER, token("a", DRIVER))
    joint.run()
    assert hub.doors["a"].driver == "link"
    host.drop("a", DRIVER)
    joint.run()
    assert hub.doors["a"].driver is None
    out.write(b"x")
    joint.run()
    assert received(host, "a/a/out") == b"x"
    host.drop("a", OBSERVER)
    joint.run()
    assert happened(host) == [Missing("a/a/out")]


def test_roles_that_are_not_shown_again_are_gone() -> None:
    hub = make_hub("a", "b")
    host = make_host(control=True, drives="a", observes="ab")
    join(host, hub).cut()
    host.drop("a", DRIVER)
    host.drop("b", OBSERVER)
    host.drop("", CONTROL)
    joint = join(host, hub)
    assert joint.guest.roles == {"a": OBSERVER}
    assert not joint.guest.control
    assert hub.doors["a"].driver is None


def test_control_can_be_given_back() -> None:
    hub = make_hub("a")
    host = make_host(control=True, observes="a")
    joint = join(host, hub)
    host.drop("", CONTROL)
    joint.run()
    call = host.call("start", {})
    joint.run()
    assert happened(joint.guest) == []
    assert [event.call for event in host.events if isinstance(event, Answered)] == [call]


# ---- grants on a link that is up


def test_more_roles_come_while_the_link_is_up() -> None:
    hub = make_hub("a")
    out = journal(hub, "a")
    out.write(b"x")
    host = make_host(control=True)
    joint = join(host, hub)
    hub.offer("a", "a/a/m/1/q", {"answer": "a/a/m/1/r"}, RecvStream("a/a/m/1/r", offset=0, window=100))
    happened(host)
    host.grant("a", DRIVER, token("a", DRIVER))
    host.subscribe("a/a/out")
    joint.run()
    assert happened(host) == [
        Granted("a", DRIVER, 1, 0),
        Opened("a/a/m/1/q", "a", {"answer": "a/a/m/1/r"}),
        Received("a/a/out", b"x"),
    ]


def test_a_wrong_token_on_a_link_that_is_up_is_refused_and_the_link_stays() -> None:
    hub = make_hub("a")
    host = make_host(control=True)
    joint = join(host, hub)
    host.grant("a", DRIVER, "wrong")
    host.grant("nobody", DRIVER, token("a", DRIVER))
    joint.run()
    assert happened(host, Refused) == [
        Refused("a", DRIVER, "token"),
        Refused("nobody", DRIVER, "unknown"),
    ]
    assert host.flowing
    assert hub.doors["a"].driver is None


def test_an_agent_that_is_removed_is_missing_for_its_readers() -> None:
    hub = make_hub("a")
    out = journal(hub, "a")
    host = make_host(drives="a")
    host.subscribe("a/a/out")
    joint = join(host, hub)
    out.write(b"last words")
    hub.remove_agent("a")
    joint.run()
    assert Missing("a/a/out") in happened(host)


def test_a_journal_that_has_ended_is_read_to_its_end_when_its_agent_is_removed() -> None:
    hub = make_hub("a")
    out = SendStream("a/a/out", bound=1 << 20)
    hub.add_stream(out, link="link")
    host = make_host(control=True)
    host.subscribe("a/a/out")
    joint = join(host, hub)
    out.write(b"last words")
    out.end()
    hub.remove_stream("a/a/out")
    joint.run()
    assert happened(host, Received, Ended, Missing) == [Received("a/a/out", b"last words"), Ended("a/a/out")]
