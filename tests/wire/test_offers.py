"""Streams that the guest opens by itself, and the answers to them: a model exchange is such a pair."""

from __future__ import annotations

import pytest
from wire.simulation.content import token
from wire.simulation.pair import Joint, happened, join, make_host, make_hub, received

from agenthost.wire.events import Ended, Event, Missing, Opened, Received, Shut, Stopped
from agenthost.wire.guest import GuestHub
from agenthost.wire.settings import WireSettings
from agenthost.wire.streams import RecvStream, SendStream
from agenthost.wire.tokens import DRIVER

Q, R = "a/a/m/1/q", "a/a/m/1/r"
SETTINGS = WireSettings()
TOLD = Opened(Q, "a", {"answer": R})


def _offer(hub: GuestHub, number: int = 1, *, bound: int = 1000) -> tuple[SendStream, RecvStream]:
    question = SendStream(f"a/a/m/{number}/q", bound=bound)
    answer = RecvStream(f"a/a/m/{number}/r", offset=0, window=1000)
    hub.add_stream(question, agent="a")
    hub.offer("a", question.sid, {"answer": answer.sid}, answer)
    return question, answer


def _driven() -> tuple[GuestHub, Joint]:
    hub = make_hub("a")
    joint = join(make_host("1", drives="a"), hub)
    happened(joint.host)
    return hub, joint


def test_the_driver_is_told_reads_and_answers() -> None:
    hub, joint = _driven()
    question, _ = _offer(hub)
    joint.run()
    assert happened(joint.host) == [TOLD]
    question.write(b"2 + 2?")
    joint.host.subscribe(Q)
    joint.host.send_stream(R).write(b"4")
    joint.run()
    assert received(joint.host, Q) == b"2 + 2?"
    assert received(joint.guest, R) == b"4"


def test_an_observer_is_not_told_and_cannot_answer() -> None:
    hub = make_hub("a")
    joint = join(make_host(observes="a"), hub)
    happened(joint.host)
    _offer(hub)
    stream = joint.host.send_stream(R)
    stream.write(b"evil")
    joint.run()
    assert happened(joint.host) == [Stopped(R)]
    assert happened(joint.guest) == []


def test_an_offer_made_while_nobody_drives_waits_for_the_next_driver() -> None:
    hub = make_hub("a")
    _offer(hub)
    joint = join(make_host(drives="a"), hub)
    assert happened(joint.host, Opened) == [TOLD]


def test_it_is_told_once_whatever_is_cut() -> None:
    hub, joint = _driven()
    _offer(hub)
    told: list[Event] = []
    for _ in range(3):
        joint.run()
        told += happened(joint.host, Opened)
        joint.cut()
        joint = join(joint.host, hub)
    assert told == [TOLD]


def test_a_new_driver_is_told_of_what_is_open() -> None:
    hub, joint = _driven()
    _, answer = _offer(hub)
    joint.run()
    joint.host.send_stream(R).write(b"half")
    joint.run()
    second = join(make_host("2", drives="a"), hub)
    assert happened(second.host, Opened) == [TOLD]
    assert answer.offset == 4
    second.host.send_stream(R, base=4).write(b" and half")
    second.run()
    assert received(second.guest, R) == b" and half"


def test_taken_back_it_is_shut_and_its_answer_stopped() -> None:
    hub, joint = _driven()
    _offer(hub)
    joint.run()
    answer = joint.host.send_stream(R)
    answer.write(b"x")
    joint.host.subscribe(Q)
    joint.run()
    happened(joint.host)
    hub.withdraw("a", Q, R)
    joint.run()
    assert answer.stopped
    assert happened(joint.host) == [Missing(Q), Stopped(R), Shut(Q)]
    hub.withdraw("nobody", Q, R)


def test_taken_back_while_the_driver_was_away_it_is_shut_when_it_is_back() -> None:
    hub, joint = _driven()
    _offer(hub)
    joint.run()
    joint.cut()
    hub.withdraw("a", Q, R)
    happened(joint.host)
    join(joint.host, hub)
    assert happened(joint.host, Shut) == [Shut(Q)]


def test_taken_back_before_it_was_told_it_is_never_told() -> None:
    hub = make_hub("a")
    _offer(hub)
    hub.withdraw("a", Q, R)
    joint = join(make_host(drives="a"), hub)
    assert happened(joint.host, Opened, Shut) == []


def test_who_takes_the_role_again_in_the_same_process_is_told_anew() -> None:
    hub, joint = _driven()
    _offer(hub)
    joint.run()
    assert happened(joint.host) == [TOLD]
    joint.host.drop("a", DRIVER)
    joint.run()
    assert happened(joint.host) == []
    joint.host.grant("a", DRIVER, token("a", DRIVER))
    joint.run()
    assert happened(joint.host, Opened) == [TOLD]


def test_what_was_on_its_way_when_the_role_was_given_back_is_told_to_the_next_only() -> None:
    hub, joint = _driven()
    _offer(hub)
    joint.host.drop("a", DRIVER)
    joint.host.grant("a", DRIVER, token("a", DRIVER))
    joint.run()
    events = [type(event).__name__ for event in happened(joint.host)]
    assert events == ["Granted", "Opened"]


def test_credit_for_an_answer_goes_to_whoever_sends_it_now() -> None:
    settings = WireSettings(initial_window=1000, window=1000)
    hub = make_hub("a", settings=settings)
    joint = join(make_host("1", drives="a", settings=settings), hub)
    _, answer = _offer(hub)
    joint.run()
    stream = joint.host.send_stream(R)
    stream.write(bytes(1000))
    joint.run()
    assert answer.limit == 1000
    hub.consumed(answer, 700)
    stream.write(bytes(500))
    joint.run()
    assert answer.offset == 1500
    hub.consumed(answer, 800)
    assert [type(event) for event in happened(joint.guest)] == [Received, Received]


def test_a_question_begins_to_arrive_before_it_is_asked_for() -> None:
    hub, joint = _driven()
    question, _ = _offer(hub)
    question.write(b"2 + 2?")
    question.end()
    joint.run()
    assert happened(joint.host) == [TOLD]
    joint.host.subscribe(Q)
    assert happened(joint.host) == [Received(Q, b"2 + 2?"), Ended(Q)]


def test_no_more_comes_unasked_than_the_first_window_and_the_rest_when_it_is_asked_for() -> None:
    size = 3 * SETTINGS.initial_window
    hub, joint = _driven()
    question, _ = _offer(hub, bound=size)
    question.write(bytes(size))
    joint.run()
    assert happened(joint.host) == [TOLD]
    joint.host.subscribe(Q)
    (early,) = happened(joint.host)
    assert isinstance(early, Received)
    assert len(early.data) == SETTINGS.initial_window
    joint.host.consume(Q, SETTINGS.initial_window)
    joint.run()
    assert len(early.data) + len(received(joint.host, Q)) == size


def test_what_came_unasked_is_kept_when_the_carrier_is_cut() -> None:
    hub, joint = _driven()
    question, _ = _offer(hub)
    question.write(b"2 +")
    joint.run()
    joint.cut()
    joint = join(joint.host, hub)
    question.write(b" 2?")
    joint.run()
    joint.host.subscribe(Q)
    joint.run()
    assert received(joint.host, Q) == b"2 + 2?"


def test_only_a_few_questions_of_an_agent_come_unasked() -> None:
    most = SETTINGS.early_offers
    hub, joint = _driven()
    questions = [_offer(hub, number)[0] for number in range(most + 2)]
    for question in questions:
        question.write(b"?")
    joint.run()
    happened(joint.host)
    for question in questions:
        joint.host.subscribe(question.sid)
    assert sum(isinstance(event, Received) for event in happened(joint.host)) == most
    joint.run()
    assert sum(isinstance(event, Received) for event in happened(joint.host)) == 2


@pytest.mark.parametrize("word", ["none", "gap"])
def test_a_question_that_came_unasked_and_is_taken_away_is_missing_where_it_is_asked_for(word: str) -> None:
    hub, joint = _driven()
    question, _ = _offer(hub)
    question.write(b"2 + 2?")
    joint.run()
    happened(joint.host)
    hub.remove_stream(Q)
    joint.host.deliver({"t": word, "s": Q, "w": 0, "o": 1}, b"", 0.0)
    joint.host.subscribe(Q)
    joint.run()
    assert happened(joint.host) == [Missing(Q)]


def test_a_question_that_came_unasked_behind_a_stream_of_its_name_that_is_given_up_can_be_asked_for() -> None:
    hub, joint = _driven()
    joint.host.subscribe(Q)
    joint.run()
    assert happened(joint.host) == [Missing(Q)]
    question, _ = _offer(hub)
    question.write(b"2 + 2?")
    joint.run()
    joint.host.unsubscribe(Q)
    joint.host.subscribe(Q)
    joint.run()
    assert received(joint.host, Q) == b"2 + 2?"
