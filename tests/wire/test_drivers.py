"""Drivers of an agent, one after the other: epochs, superseding, and where the input goes on."""

from __future__ import annotations

from wire.simulation.content import token
from wire.simulation.pair import (
    ALL,
    HandMadeHost,
    happened,
    join,
    make_host,
    make_hub,
    received,
    shown,
)

from agenthost.wire.events import (
    DriverChanged,
    Granted,
    Refused,
    Stopped,
)
from agenthost.wire.tokens import DRIVER


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


def test_a_driver_whose_answer_was_lost_does_not_take_the_agent_back_from_a_later_one() -> None:
    hub = make_hub("a")
    for expected in ([], [["a", DRIVER, "superseded", 1]]):
        raw = HandMadeHost(hub)
        raw.answers()
        (have,) = raw.auth(shown("a", DRIVER), link="1")  # the same question: nobody heard the answer
        assert have["refused"] == expected
        if not expected:
            join(make_host("2", drives="a"), hub)
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
