"""Roles: what control, a driver and an observer may do, and how drivers follow one another."""

from __future__ import annotations

from typing import Any

import pytest
from support.wire_content import token
from support.wire_pair import (
    ALL,
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
    DriverChanged,
    Ended,
    Granted,
    Missing,
    Opened,
    Received,
    Refused,
    Stopped,
)
from agenthost.wire.streams import RecvStream, SendStream
from agenthost.wire.tokens import CONTROL, DRIVER, OBSERVER

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


# ---- drivers


def test_epochs_are_assigned_by_the_guest_and_a_new_driver_supersedes_the_old() -> None:
    hub = make_hub("a")
    first, second = make_host("1", drives="a"), make_host("2", drives="a")
    joint = join(first, hub)
    assert happened(first, Granted) == [Granted("a", DRIVER, 1, 0)]
    join(second, hub)
    assert happened(second, Granted) == [Granted("a", DRIVER, 2, 0)]
    assert happened(hub) == [DriverChanged("a", 1), DriverChanged("a", 2)]
    joint.run()
    assert happened(first, Refused) == [Refused("a", DRIVER, "superseded")]


def test_a_reconnect_shows_its_epoch_and_never_raises_it() -> None:
    hub = make_hub("a")
    host = make_host(drives="a")
    for _ in range(3):
        join(host, hub).cut()
    assert hub.doors["a"].epoch == 1
    assert happened(hub) == [DriverChanged("a", 1)]


def test_a_superseded_driver_that_comes_back_is_told_and_never_tries_again() -> None:
    hub = make_hub("a")
    first, second = make_host("1", control=True, drives="a"), make_host("2", drives="a")
    join(first, hub).cut()
    stream = first.send_stream("a/a/in")
    join(second, hub)
    happened(first)
    for expected in ([Refused("a", DRIVER, "superseded")], []):
        join(first, hub).cut()
        assert happened(first, Refused) == expected
    assert stream.stopped
    assert hub.doors["a"].driver == "2"
    assert hub.doors["a"].epoch == 2


def test_an_epoch_of_the_past_or_the_future_is_refused() -> None:
    hub = make_hub("a")
    join(make_host("1", drives="a"), hub)
    for epoch in (0, 2, "1", True, -1, [1]):
        raw = HandMadeHost(hub)
        raw.answers()
        (have,) = raw.auth(shown("a", DRIVER, epoch=epoch), link="2")
        assert have["refused"] == [["a", DRIVER, "superseded", 1]], epoch
        assert hub.doors["a"].driver == "1"


def test_a_superseded_driver_does_not_come_back_when_its_successor_was_forgotten() -> None:
    hub = make_hub("a")
    first = make_host("1", drives="a", observes="a")
    join(first, hub).cut()
    join(make_host("2", drives="a"), hub).cut()
    hub.links["1"].heard(600.0)
    hub.tick(600.0)
    assert hub.doors["a"].driver is None
    join(first, hub, now=601.0)
    assert happened(first, Refused) == [Refused("a", DRIVER, "superseded")]


def test_another_link_cannot_take_over_with_the_drivers_epoch() -> None:
    hub = make_hub("a")
    join(make_host("1", drives="a"), hub)
    raw = HandMadeHost(hub)
    raw.answers()
    (have,) = raw.auth(shown("a", DRIVER, epoch=1), link="2")
    assert have["refused"] == [["a", DRIVER, "superseded", 1]]


def test_the_same_question_asked_again_after_a_cut_makes_no_new_driver() -> None:
    hub = make_hub("a")
    raws = [HandMadeHost(hub) for _ in range(3)]
    for raw in raws:
        raw.auth(shown("a", DRIVER))
    assert hub.doors["a"].epoch == 1


def test_a_new_driver_goes_on_with_the_input_where_whole_lines_end() -> None:
    hub = make_hub("a")
    first = make_host("1", drives="a")
    joint = join(first, hub)
    first.send_stream("a/a/in").write(b"whole\nhalf of a li")
    joint.run()
    assert received(joint.guest, "a/a/in") == b"whole\n"

    second = make_host("2", drives="a")
    joint = join(second, hub)
    (granted,) = happened(second, Granted)
    assert granted == Granted("a", DRIVER, 2, 6)
    second.send_stream("a/a/in", base=6).write(b"next\n")
    joint.run()
    assert received(joint.guest, "a/a/in") == b"next\n"


def test_what_a_driver_sends_after_it_was_superseded_never_happens() -> None:
    hub = make_hub("a")
    first = make_host("1", drives="a")
    old = join(first, hub)
    stream = first.send_stream("a/a/in")
    stream.write(b"late\n")
    late = first.take(ALL, 0.0)
    new = join(make_host("2", drives="a"), hub)
    old.carrier.receive(late, 0.0)
    old.run()
    assert happened(old.guest) == happened(new.guest) == []
    assert stream.stopped


def test_a_role_given_back_and_asked_for_again_makes_a_new_driver_in_the_same_process() -> None:
    hub = make_hub("a")
    host = make_host(drives="a")
    joint = join(host, hub)
    old = host.send_stream("a/a/in")
    old.write(b"whole\nhalf")
    joint.run()
    happened(host)
    host.drop("a", DRIVER)
    assert old.stopped
    assert happened(host, Stopped) == [Stopped("a/a/in")]
    joint.run()
    assert hub.doors["a"].driver is None

    host.grant("a", DRIVER, token("a", DRIVER))
    joint.run()
    assert happened(host, Granted) == [Granted("a", DRIVER, 2, 6)]
    host.send_stream("a/a/in", base=6).write(b"new\n")
    joint.run()
    assert received(joint.guest, "a/a/in") == b"whole\nnew\n"


def test_what_is_granted_to_an_older_question_is_not_taken_for_the_answer_to_the_new_one() -> None:
    hub = make_hub("a")
    host = make_host(control=True)
    joint = join(host, hub)
    happened(host)
    host.grant("a", DRIVER, token("a", DRIVER))
    joint.carrier.receive(host.take(ALL, 0.0), 0.0)
    host.grant("a", DRIVER, token("a", DRIVER))
    joint.run()
    assert happened(host) == [Granted("a", DRIVER, 2, 0)]


def test_a_role_given_back_while_away_and_asked_for_again_makes_a_new_driver_too() -> None:
    hub = make_hub("a")
    host = make_host(drives="a")
    joint = join(host, hub)
    host.send_stream("a/a/in").write(b"half")
    joint.run()
    joint.cut()
    host.drop("a", DRIVER)
    host.grant("a", DRIVER, token("a", DRIVER))
    happened(host)
    join(host, hub)
    assert happened(host, Granted) == [Granted("a", DRIVER, 2, 0)]


def test_asking_again_without_giving_back_replaces_the_driver_too() -> None:
    hub = make_hub("a")
    host = make_host(drives="a")
    joint = join(host, hub)
    happened(host)
    host.grant("a", DRIVER, token("a", DRIVER))
    joint.run()
    assert happened(host, Granted) == [Granted("a", DRIVER, 2, 0)]


def test_a_new_driver_is_told_that_an_earlier_one_has_ended_the_input() -> None:
    hub = make_hub("a")
    first = make_host("1", drives="a")
    joint = join(first, hub)
    stream = first.send_stream("a/a/in")
    stream.write(b"all\n")
    stream.end()
    joint.run()
    second = make_host("2", drives="a")
    joint = join(second, hub)
    assert happened(second, Granted) == [Granted("a", DRIVER, 2, 4, input_ended=True)]
    more = second.send_stream("a/a/in", base=4)
    assert more.stopped
    more.write(b"x\n")
    joint.run()
    join(second, hub)
    assert second.flowing


def test_a_stream_that_was_begun_before_the_input_was_known_to_have_ended_is_stopped() -> None:
    hub = make_hub("a")
    first = make_host("1", drives="a")
    joint = join(first, hub)
    first.send_stream("a/a/in").end()
    joint.run()
    second = make_host("2", drives="a")
    stream = second.send_stream("a/a/in")
    stream.write(b"x\n")
    join(second, hub)
    assert stream.stopped
    assert second.flowing


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
