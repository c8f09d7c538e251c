"""Readers of a stream at their own pace: gaps, what is missing, and what they acknowledge."""

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
    received,
)
from wire.simulation.program import SMALL, program

from agenthost.wire.events import Ended, Gap, Missing, Received
from agenthost.wire.spool import MemorySpool
from agenthost.wire.streams import SendStream

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
    joint, out, _ = program()
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
    joint, out, _ = program()
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
    joint, out, _ = program()
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
    joint, out, _ = program()
    hub = vars(joint.carrier)["_hub"]
    out.on_room = lambda: hub.remove_stream("p/1/out")
    joint.host.subscribe("p/1/out")
    out.write(b"abc")
    joint.run()
    joint.host.consume("p/1/out", 3)
    joint.host.acknowledge("p/1/out", 3)
    joint.run()
    assert happened(joint.host) == [Received("p/1/out", b"abc"), Missing("p/1/out")]
