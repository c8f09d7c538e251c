"""The handshake: nothing but hello before auth, nothing but have before the host's have."""

from __future__ import annotations

from typing import Any

import pytest
from wire.simulation.content import token
from wire.simulation.pair import (
    ALL,
    HandMadeGuest,
    HandMadeHost,
    Joint,
    happened,
    hello,
    join,
    journal,
    make_host,
    make_hub,
    parse,
    received,
    shown,
)

from agenthost.wire.events import (
    Granted,
    Hello,
    Opened,
    Ready,
    Refused,
    WireVersion,
)
from agenthost.wire.frames import ProtocolError, encode
from agenthost.wire.streams import RecvStream, SendStream
from agenthost.wire.tokens import CONTROL, DRIVER, OBSERVER, private_key, verifier

# ---- as the guest sees it


def test_a_guest_says_nothing_but_hello_before_a_token_was_proved() -> None:
    hub = make_hub("a")
    journal(hub, "a").write(b"secret")
    (first,) = HandMadeHost(hub).answers()
    assert first.keys() == {"t", "wire", "boot", "nonce", "key"}
    assert (first["t"], first["wire"], first["boot"]) == ("hello", 2, "boot")
    (second,) = HandMadeHost(hub).answers()
    assert second["nonce"] != first["nonce"]


def test_it_then_says_what_it_has_for_what_is_granted() -> None:
    hub = make_hub("a")
    raw = HandMadeHost(hub)
    raw.answers()
    (have,) = raw.auth(shown("a", DRIVER))
    assert have["t"] == "have"
    assert have["granted"] == [["a", DRIVER, 1, 1]]
    assert have["in"] == {"a/a/in": [0, hub.settings.window, False]}


@pytest.mark.parametrize("first", ["have", "ping", "call", "d", "grant", "sub", "hello", "nonsense"])
def test_a_first_frame_that_is_not_auth_closes_the_carrier(first: str) -> None:
    hub = make_hub("a")
    raw = HandMadeHost(hub)
    with pytest.raises(ProtocolError):
        raw.send({"t": first, "s": "a/a/out", "o": 0, "subs": [], "b": ""} if first == "d" else {"t": first})
    assert raw.carrier.closing
    assert not hub.links


@pytest.mark.parametrize(
    "spoilt",
    [
        {"grants": [], "proofs": []},
        {"grants": None},
        {"grants": {"agent": "a"}},
        {"grants": [7]},
        {"grants": [{"agent": "", "role": CONTROL}]},
        {"grants": [{"agent": "", "role": CONTROL, "n": -1}]},
        {"grants": [{"agent": ["a"], "role": DRIVER, "n": 1}]},
        {"proofs": []},
        {"proofs": ["0" * 64] * 2},
        {"proofs": [None]},
        {"proofs": ["\ud800"]},
        {"proofs": None},
        {"link": ""},
        {"link": 7},
        {"nonce": None},
        {"key": None},
        {"key": "00"},
        {"key": "x" * 64},
        {"key": "00" * 32},
        {"key": ["0" * 64]},
    ],
)
def test_a_malformed_auth_closes_the_carrier(spoilt: dict[str, Any]) -> None:
    hub = make_hub("a")
    raw = HandMadeHost(hub)
    with pytest.raises(ProtocolError):
        raw.auth(shown("", CONTROL), **spoilt)
    assert raw.carrier.closing
    assert not hub.links


@pytest.mark.parametrize("missing", ["link", "raw", "nonce", "key", "grants", "proofs"])
def test_an_auth_that_lacks_something_closes_the_carrier(missing: str) -> None:
    hub = make_hub("a")
    raw = HandMadeHost(hub)
    raw.answers()
    auth: dict[str, Any] = {"t": "auth", "link": "1", "raw": True, "nonce": "n", "key": "09" + "0" * 62}
    auth.update(grants=[shown("", CONTROL)], proofs=["0" * 64])
    del auth[missing]
    with pytest.raises(ProtocolError):
        raw.send(auth)
    assert not hub.links


@pytest.mark.parametrize(
    "grants",
    [
        [shown("", CONTROL) | {"token": "wrong"}],
        [shown("a", DRIVER) | {"token": token("a", OBSERVER)}],
        [shown("a", OBSERVER) | {"token": token("b", OBSERVER)}],
        [shown("a", CONTROL)],
        [shown("", CONTROL), shown("a", DRIVER) | {"token": token("", CONTROL)}],
        [shown("a", DRIVER) | {"role": "root"}],
    ],
)
def test_a_wrong_token_is_denied_and_the_carrier_closed(grants: list[dict[str, Any]]) -> None:
    hub = make_hub("a", "b")
    raw = HandMadeHost(hub)
    *answers, last = raw.auth(*grants)
    assert not answers
    assert (last["t"], last["reason"], last["agent"], last["role"]) == (
        "deny",
        "token",
        grants[-1]["agent"],
        grants[-1]["role"],
    )
    assert raw.carrier.closing
    assert raw.send({"t": "call", "i": 1, "m": "start", "p": {}}) == []
    assert not hub.links
    assert hub.doors["a"].driver is None


def test_what_follows_a_denial_in_the_same_breath_is_not_looked_at() -> None:
    hub = make_hub("a")
    wrong, right = make_host(guest_key=None), make_host(control=True, guest_key=None)
    wrong.grant("", CONTROL, "wrong")
    hub = make_hub("a", guest_key=None)
    carrier = hub.open_carrier(now=0.0)
    greeting = carrier.take(ALL, 0.0)
    said = b""
    for host in (wrong, right):
        host.attach(binary=True, now=0.0)
        host.receive(greeting, 0.0)
        said += host.take(ALL, 0.0)
    assert said.count(b'"t":"auth"') == 2
    carrier.receive(said, 0.0)
    assert carrier.closing
    assert not hub.links


def test_an_unknown_agent_is_no_way_in() -> None:
    hub = make_hub("a")
    raw = HandMadeHost(hub)
    raw.answers()
    (denied,) = raw.auth(shown("nobody", DRIVER))
    assert (denied["t"], denied["reason"]) == ("deny", "unknown")
    assert raw.carrier.closing
    assert not hub.links


def test_an_unknown_agent_beside_a_right_token_is_refused_alone() -> None:
    raw = HandMadeHost(make_hub("a"))
    raw.answers()
    (have,) = raw.auth(shown("a", OBSERVER), shown("gone", OBSERVER, number=2))
    assert have["granted"] == [["a", OBSERVER, 0, 1]]
    assert have["refused"] == [["gone", OBSERVER, "unknown", 2]]


def test_a_carrier_that_does_not_authenticate_within_five_seconds_is_closed() -> None:
    hub = make_hub()
    closed: list[bool] = []
    carrier = hub.open_carrier(now=100.0)
    carrier.on_close = lambda: closed.append(True)
    carrier.tick(104.9)
    assert not closed
    carrier.tick(105.0)
    carrier.tick(106.0)
    assert closed == [True]


@pytest.mark.parametrize(
    "kind", ["call", "sub", "grant", "drop", "ack", "end", "stop", "d", "gap", "nonsense"]
)
def test_between_its_have_and_the_hosts_a_guest_takes_nothing_else(kind: str) -> None:
    hub = make_hub("a")
    raw = HandMadeHost(hub)
    raw.auth(shown("", CONTROL), shown("a", DRIVER, number=2))
    with pytest.raises(ProtocolError):
        raw.send({"t": kind, "s": "a/a/in", "o": 0} | ({"b": ""} if kind == "d" else {}))
    assert raw.carrier.closing


def test_a_second_handshake_on_one_carrier_closes_it() -> None:
    raw = HandMadeHost(make_hub("a"))
    raw.shake(shown("", CONTROL))
    with pytest.raises(ProtocolError):
        raw.send({"t": "have"})


def test_the_newest_carrier_of_a_link_wins_and_late_bytes_on_the_older_are_ignored() -> None:
    hub = make_hub("a")
    host = make_host(control=True)
    old = join(host, hub)
    host.call("late", {})
    late = host.take(ALL, 0.0)
    host.detach()
    new = join(host, hub)
    assert old.carrier.closing
    assert not new.carrier.closing
    new.guest.events.clear()
    old.carrier.receive(late, 0.0)
    old.carrier.receive(b"whatever", 0.0)
    assert not new.guest.events
    old.carrier.lost()
    assert new.guest.connected
    assert old.carrier.take(ALL, 0.0) == b""


def test_a_protocol_error_closes_the_carrier_and_the_link_lives_on() -> None:
    hub = make_hub("a")
    host = make_host(control=True)
    joint = join(host, hub)
    out = SendStream("p/1/out", bound=1000)
    hub.add_stream(out, link="link")
    out.write(b"before")
    host.subscribe("p/1/out")
    call = host.call("slow", {})
    joint.run()
    with pytest.raises(ProtocolError):
        joint.carrier.receive(b"nonsense\n", 0.0)
    assert joint.carrier.closing
    joint.cut()

    out.write(b" and after")
    joint.guest.answer(call, ok=True, value="done")
    join(host, hub)
    assert received(host, "p/1/out") == b"before and after"


# ---- as the host sees it


def test_a_host_proves_its_tokens_in_answer_to_hello_and_not_before() -> None:
    host = make_host(control=True)
    host.attach(binary=True, now=0.0)
    assert host.take(ALL, 0.0) == b""
    assert not host.has_output
    host.tick(20.0)
    assert host.take(ALL, 20.0) == b""
    host.receive(encode(hello(boot="x")), 21.0)
    (auth,) = parse(host.take(ALL, 21.0))
    assert auth["t"] == "auth"
    assert auth["grants"] == [{"agent": "", "role": CONTROL, "n": 1}]
    assert len(auth["proofs"]) == 1


def test_what_proves_a_token_is_another_each_time_and_never_the_token() -> None:
    said: list[bytes] = []
    for _ in range(2):
        host = make_host(control=True, drives="a")
        host.attach(binary=True, now=0.0)
        host.receive(encode(hello()), 0.0)
        said.append(host.take(ALL, 0.0))
    first, second = (set(parse(data)[0]["proofs"]) for data in said)
    assert len(first) == len(second) == 2
    assert not first & second
    for agent, role in (("", CONTROL), ("a", DRIVER)):
        for data in said:
            assert token(agent, role).encode() not in data
            assert verifier(token(agent, role)).encode() not in data
            assert private_key(token(agent, role)).hex().encode() not in data


def test_an_unknown_wire_is_told_and_gets_no_proof() -> None:
    for wire in (1, 3, 0, "2", None):
        host = make_host(control=True)
        assert HandMadeGuest(host).send(hello(wire=wire)) == []
        assert happened(host) == [WireVersion(wire)]


def test_another_machine_gets_no_proof_and_no_further() -> None:
    host = make_host(control=True, boot_id="first")
    host.call("start", {"argv": ["secret"]})
    raw = HandMadeGuest(host)
    assert raw.send(hello(boot="second")) == []
    assert happened(host) == [Hello("second")]
    assert host.boot_id == "first"
    have: dict[str, Any] = {"t": "have", "link": 1, "granted": [], "refused": [], "in": {}, "open": {}}
    with pytest.raises(ProtocolError):
        raw.send(have)
    assert not host.flowing
    assert host.take(ALL, 0.0) == b""


def test_a_guest_that_skips_hello_gets_nothing() -> None:
    host = make_host(control=True)
    host.call("start", {"argv": ["secret"]})
    with pytest.raises(ProtocolError):
        HandMadeGuest(host).send({"t": "have", "link": 1, "granted": [], "refused": [], "in": {}, "open": {}})
    assert host.take(ALL, 0.0) == b""


def test_a_boot_once_proved_is_the_only_one_that_gets_proofs() -> None:
    host = make_host(control=True)
    HandMadeGuest(host).shake(boot="first")
    host.detach()
    assert HandMadeGuest(host).send(hello(boot="second")) == []


@pytest.mark.parametrize(
    "frame",
    [
        {"t": "d", "s": "s", "o": 0, "b": "eA=="},
        {"t": "ack", "s": "s", "o": 0, "c": 9},
        {"t": "ans", "i": 1, "ok": True, "v": None},
        {"t": "open", "s": "s", "agent": "a", "meta": {}},
        {"t": "granted", "granted": [], "refused": [], "in": {}},
        {"t": "superseded", "agent": "a", "epoch": 1},
        {"t": "deny", "agent": "", "role": CONTROL, "number": 1, "reason": "token"},
    ],
)
def test_a_host_takes_nothing_before_the_handshake_is_done(frame: dict[str, Any]) -> None:
    host = make_host(control=True)
    host.call("start", {})
    host.subscribe("s")
    with pytest.raises(ProtocolError):
        HandMadeGuest(host).send(frame)


def test_a_second_hello_closes_the_carrier() -> None:
    raw = HandMadeGuest(make_host(control=True))
    raw.shake()
    with pytest.raises(ProtocolError):
        raw.send(hello())


def test_a_denied_token_is_told_and_not_shown_again() -> None:
    hub = make_hub("a")
    host = make_host(control=True)
    host.grant("a", DRIVER, "wrong")
    joint = Joint(host, hub).run()
    assert happened(host, Refused) == [Refused("a", DRIVER, "token")]
    assert not host.connected

    join(host, hub)
    assert host.flowing, "the right tokens of a link work without the wrong one"
    assert not joint.host.events or Ready() in joint.host.events


def test_what_was_asked_for_while_a_handshake_was_under_way_is_asked_for_behind_it() -> None:
    hub = make_hub("a")
    host = make_host(control=True)
    joint = Joint(host, hub)
    host.receive(joint.carrier.take(ALL, 0.0), 0.0)
    joint.carrier.receive(host.take(ALL, 0.0), 0.0)  # the tokens are proved
    host.grant("a", DRIVER, token("a", DRIVER))
    joint.run()
    assert happened(host, Granted) == [Granted("", CONTROL, 0, 0), Granted("a", DRIVER, 1, 0)]


def test_what_was_given_back_while_a_handshake_was_under_way_is_given_back_behind_it() -> None:
    hub = make_hub("a")
    host = make_host(control=True, drives="a")
    joint = Joint(host, hub)
    host.receive(joint.carrier.take(ALL, 0.0), 0.0)
    joint.carrier.receive(host.take(ALL, 0.0), 0.0)
    host.drop("a", DRIVER)
    joint.run()
    assert happened(host, Granted) == [Granted("", CONTROL, 0, 0)]
    assert hub.doors["a"].driver is None


def test_an_offer_made_while_a_handshake_was_under_way_is_told() -> None:
    hub = make_hub("a")
    host = make_host(drives="a")
    joint = Joint(host, hub)
    host.receive(joint.carrier.take(ALL, 0.0), 0.0)
    joint.carrier.receive(host.take(ALL, 0.0), 0.0)
    hub.offer("a", "a/a/m/1/q", {"answer": "a/a/m/1/r"}, RecvStream("a/a/m/1/r", offset=0, window=100))
    joint.run()
    assert happened(host, Opened) == [Opened("a/a/m/1/q", "a", {"answer": "a/a/m/1/r"})]


def test_a_driver_that_is_superseded_while_its_handshake_is_under_way_hears_of_it() -> None:
    hub = make_hub("a")
    first = make_host("first", drives="a")
    joint = Joint(first, hub)
    first.receive(joint.carrier.take(ALL, 0.0), 0.0)
    joint.carrier.receive(first.take(ALL, 0.0), 0.0)
    join(make_host("second", drives="a"), hub)
    joint.run()
    assert happened(first, Granted, Refused) == [
        Granted("a", DRIVER, 1, 0),
        Refused("a", DRIVER, "superseded"),
    ]


def test_granted_is_told_once_not_at_each_handshake() -> None:
    hub = make_hub("a")
    host = make_host(control=True, drives="a")
    join(host, hub).cut()
    assert len(happened(host, Granted)) == 2
    join(host, hub)
    assert happened(host, Granted) == []
