"""Whatever comes, the only thing raised is ProtocolError; and what is malformed changes nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wire.simulation.content import token
from wire.simulation.pair import (
    ALL,
    HandMadeGuest,
    HandMadeHost,
    hello,
    journal,
    make_host,
    make_hub,
    parse,
    shown,
)

from agenthost.wire.frames import ProtocolError
from agenthost.wire.handshake import make_transcript, prove
from agenthost.wire.host import HostLink
from agenthost.wire.incoming import GuestCarrier
from agenthost.wire.streams import RecvStream, SendStream
from agenthost.wire.tokens import CONTROL, DRIVER, OBSERVER, private_key
from agenthost.wire.x25519 import agree

_GRANTS = [
    {"agent": "", "role": CONTROL, "n": 1},
    {"agent": "a", "role": DRIVER, "n": 2},
    {"agent": "a", "role": OBSERVER, "n": 3},
]
_PROVED = ["@"] * 3  # where the right proof goes, which each carrier's hello makes another

# Right frames, in an order in which all are right.
TO_GUEST: list[dict[str, Any]] = [
    {"t": "auth", "link": "link", "raw": False, "nonce": "n", "grants": _GRANTS, "proofs": _PROVED, "z": 1},
    {"t": "have", "z": 1},
    {"t": "call", "i": 1, "m": "start", "p": {"argv": ["x"]}, "z": 1},
    {"t": "call", "i": 2, "m": "signal", "p": {"agent": "a"}, "z": 2},
    {"t": "sub", "subs": [["a/a/out", 0, 100], ["p/1/out", -1, 50]], "z": 2},
    {"t": "ack", "s": "a/a/out", "o": 3, "c": 200, "z": 2},
    {"t": "d", "s": "a/a/in", "o": 0, "b": "bGluZQo=", "z": 2},
    {"t": "end", "s": "a/a/in", "o": 5, "z": 2},
    {"t": "stop", "s": "p/1/out", "z": 2},
    {"t": "gap", "s": "a/a/m/1/r", "w": 0, "o": 3, "z": 2},
    {"t": "grant", "grants": [{"agent": "b", "role": DRIVER, "n": 4}], "proofs": ["@"], "z": 2},
    {"t": "drop", "agent": "b", "role": DRIVER, "z": 2},
    {"t": "ping", "z": 2},
    {"t": "pong", "z": 3},
]

TO_HOST: list[dict[str, Any]] = [
    hello(),
    {
        "t": "have",
        "link": 1,
        "granted": [["", CONTROL, 0, 1], ["a", DRIVER, 1, 2]],
        "refused": [["a", OBSERVER, "unknown", 3]],
        "in": {"a/a/in": [0, 100, False]},
        "open": {"a/a/m/1/q": ["a", {"answer": "a/a/m/1/r"}]},
    },
    {"t": "subbed", "s": "a/a/out"},
    {"t": "subbed", "s": "p/1/out"},
    {"t": "subbed", "s": "p/2/out"},
    {"t": "d", "s": "a/a/out", "o": 0, "b": "eHh4"},
    {"t": "ack", "s": "a/a/in", "o": 2, "c": 300},
    {"t": "ans", "i": 1, "ok": True, "v": {"pid": 1}},
    {"t": "granted", "granted": [["b", DRIVER, 1, 4]], "refused": [], "in": {"a/b/in": [0, 100, False]}},
    {"t": "open", "s": "a/a/m/2/q", "agent": "a", "meta": {"answer": "a/a/m/2/r"}},
    {"t": "shut", "s": "a/a/m/2/q"},
    {"t": "end", "s": "a/a/out", "o": 3},
    {"t": "gap", "s": "p/1/out", "w": 0, "o": 9},
    {"t": "none", "s": "p/2/out"},
    {"t": "stop", "s": "a/a/in"},
    {"t": "stopped", "s": "a/a/in"},
    {"t": "superseded", "agent": "a", "epoch": 1},
    {"t": "ping"},
    {"t": "pong"},
]


def _guest() -> GuestCarrier:
    hub = make_hub("a", "b", guest_key=None)
    journal(hub, "a").write(b"abc")
    out = SendStream("p/1/out", bound=100)
    hub.add_stream(out, link="link")
    out.write(b"x" * 10)
    hub.offer("a", "a/a/m/1/q", {"answer": "a/a/m/1/r"}, RecvStream("a/a/m/1/r", offset=0, window=100))
    return hub.open_carrier(now=0.0)


def _host() -> HostLink:
    host = make_host(control=True, drives="a", observes="a", guest_key=None)
    host.attach(binary=True, now=0.0)
    host.call("start", {})
    host.send_stream("a/a/in").write(b"line\n")
    for sid in ("a/a/out", "p/1/out", "p/2/out"):
        host.subscribe(sid)
    return host


def _feed(end: GuestCarrier | HostLink, lines: list[bytes]) -> int:
    """Feed lines until one is a protocol error; return how many were taken."""
    prover = _Prover(end) if isinstance(end, GuestCarrier) else None
    for index, line in enumerate(lines):
        try:
            end.receive((line if prover is None else prover.prove(line)) + b"\n", 0.0)
        except ProtocolError:
            return index
        end.take(ALL, 0.0)
    return len(lines)


class _Prover:
    """Puts right proofs into frames that are otherwise as they are, right or wrong."""

    def __init__(self, carrier: GuestCarrier) -> None:
        (self._hello,) = parse(carrier.take(ALL, 0.0))
        self._transcript = b""

    def prove(self, line: bytes) -> bytes:
        """Return the frame with its proofs, as far as it has places for them."""
        try:
            frame = json.loads(line)
            if not frame.get("proofs"):
                return line
            if frame["t"] == "auth":
                self._transcript = make_transcript(self._hello, frame)
            proofs = [self._proof(grant) for grant in frame["grants"]]
            frame["proofs"] = [proofs[n] if one == "@" else one for n, one in enumerate(frame["proofs"])]
            return json.dumps(frame).encode()
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
            return line

    def _proof(self, grant: dict[str, Any]) -> str:
        key = private_key(token(grant["agent"], grant["role"]))
        return prove(agree(key, bytes.fromhex(self._hello["key"])), self._transcript, grant)


def _as_json(frame: object) -> str:
    return json.dumps(frame)[:40]


def _lines(frames: list[dict[str, Any]]) -> list[bytes]:
    return [json.dumps(frame).encode() for frame in frames]


def test_the_right_frames_are_all_taken() -> None:
    assert _feed(_guest(), _lines(TO_GUEST)) == len(TO_GUEST)
    host = _host()
    host.grant("b", DRIVER, token("b", DRIVER))
    assert _feed(host, _lines(TO_HOST)) == len(TO_HOST)


_JUNK: list[object] = [
    None,
    True,
    0,
    -1,
    -2,
    1.5,
    1e308,
    2**63,
    10**400,
    "",
    "a",
    "\ud800",
    "x" * 1000,
    [],
    [[]],
    [None],
    ["a", 1],
    [["a", "b"]],
    [["a/a/out", 0]],
    [["a/a/out", 0.5, 1]],
    [["a/a/out", 0, 1e9]],
    [["a/a/out", -3, 1]],
    [[["a"], 0, 1]],
    {},
    {"a": 1},
    {"a/a/in": [0]},
    {"a/a/in": [1e9, 0, 0]},
    {"a/a/m/1/q": []},
    {"a/a/m/1/q": [1, {}]},
]
_RAW = ["NaN", "Infinity", "-Infinity", "1e999", "{", '"\\u0000"']


@st.composite
def _mutations(draw: st.DrawFn, frames: list[dict[str, Any]]) -> list[bytes]:
    """Right frames of which one or two have something wrong in them."""
    lines = _lines(frames)
    for _ in range(draw(st.integers(1, 2))):
        index = draw(st.integers(0, len(frames) - 1))
        frame = json.loads(json.dumps(frames[index]))
        how = draw(st.integers(0, 6))
        if how == 0:
            del frame[draw(st.sampled_from(sorted(frame)))]
        elif how == 1:
            frame[draw(st.sampled_from(sorted(frame)))] = draw(st.sampled_from(_JUNK))
        elif how == 2:
            frame[draw(st.sampled_from(["n", "b", "o", "s", "t", "z", "extra", "grants", "agent"]))] = draw(
                st.sampled_from(_JUNK)
            )
        elif how == 3:
            key, value = draw(st.sampled_from(sorted(frame))), draw(st.sampled_from(_RAW))
            lines[index] = json.dumps(frame | {key: "@@"}).replace('"@@"', value).encode()
            continue
        elif how == 4:
            frame["t"] = draw(st.sampled_from([f["t"] for f in (*TO_GUEST, *TO_HOST)]))
        elif how == 5:
            _spoil_inside(draw, frame)
        else:
            lines.insert(index, draw(st.binary(max_size=40)).replace(b"\n", b""))
            continue
        lines[index] = json.dumps(frame).encode()
    if draw(st.booleans()):
        lines = draw(st.permutations(lines))
    return lines


def _spoil_inside(draw: st.DrawFn, frame: dict[str, Any]) -> None:
    """Put junk somewhere deep in a frame."""
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        keys: list[Any] = list(node) if hasattr(node, "keys") else list(range(len(node)))
        for key in keys:
            places.append((node, key))
            if isinstance(node[key], dict | list):
                walk(node[key])

    walk(frame)
    node, key = draw(st.sampled_from(places))
    node[key] = draw(st.sampled_from(_JUNK))


@given(lines=_mutations(TO_GUEST))
def test_wrong_frames_to_a_guest_raise_nothing_but_protocol_errors(lines: list[bytes]) -> None:
    _feed(_guest(), lines)


@given(lines=_mutations(TO_HOST))
def test_wrong_frames_to_a_host_raise_nothing_but_protocol_errors(lines: list[bytes]) -> None:
    host = _host()
    _feed(host, lines)
    for event in host.events:
        assert isinstance(getattr(event, "sid", ""), str)
        assert isinstance(getattr(event, "agent", ""), str)
        assert isinstance(getattr(event, "meta", {}), dict)


@given(data=st.binary(max_size=300))
def test_noise_raises_nothing_but_protocol_errors(data: bytes) -> None:
    for end in (_guest(), _host()):
        _feed(end, data.split(b"\n"))


@pytest.mark.parametrize("frame", TO_GUEST[1:], ids=_as_json)
def test_a_frame_to_a_guest_that_lacks_a_field_is_a_protocol_error(frame: dict[str, Any]) -> None:
    for key in frame:
        lines = _lines(TO_GUEST)
        index = TO_GUEST.index(frame)
        lines[index] = json.dumps({k: v for k, v in frame.items() if k != key}).encode()
        assert _feed(_guest(), lines) == index, key


@pytest.mark.parametrize("frame", TO_HOST, ids=_as_json)
def test_a_frame_to_a_host_that_lacks_a_field_is_a_protocol_error(frame: dict[str, Any]) -> None:
    for key in frame:
        host = _host()
        host.grant("b", DRIVER, token("b", DRIVER))
        lines = _lines(TO_HOST)
        index = TO_HOST.index(frame)
        lines[index] = json.dumps({k: v for k, v in frame.items() if k != key}).encode()
        assert _feed(host, lines) == index, key


@pytest.mark.parametrize("value", [-1, 0.0, 1.5, 1e9, True, "1", None, [], {}])
@pytest.mark.parametrize(
    ("kind", "field"),
    [
        ("call", "i"),
        ("call", "z"),
        ("ack", "o"),
        ("ack", "c"),
        ("d", "o"),
        ("end", "o"),
        ("gap", "w"),
        ("gap", "o"),
    ],
)
def test_a_number_that_is_no_natural_number_is_a_protocol_error(kind: str, field: str, value: object) -> None:
    index = next(index for index, frame in enumerate(TO_GUEST) if frame["t"] == kind)
    lines = _lines([*TO_GUEST[:index], TO_GUEST[index] | {field: value}])
    assert _feed(_guest(), lines) == index


@pytest.mark.parametrize(
    "sub", [["a/a/out", -2, 1], ["a/a/out", 0.0, 1], ["a/a/out", -1, 1.0], ["a/a/out", True, 1]]
)
def test_a_subscription_with_such_a_number_is_a_protocol_error(sub: list[object]) -> None:
    assert _feed(_guest(), _lines([*TO_GUEST[:2], {"t": "sub", "subs": [sub], "z": 1}])) == 2


@pytest.mark.parametrize("value", ["-1", "0.0", "1.5", "true", '"1"', "null"])
@pytest.mark.parametrize(
    ("kind", "spoilt"),
    [
        ("have", {"link": "@"}),
        ("have", {"in": {"a/a/in": ["@", 100, False]}}),
        ("have", {"in": {"a/a/in": [0, "@", False]}}),
        ("have", {"granted": [["a", DRIVER, "@", 2]]}),
        ("ack", {"o": "@"}),
        ("ack", {"c": "@"}),
        ("d", {"o": "@"}),
        ("end", {"o": "@"}),
        ("gap", {"o": "@"}),
    ],
    ids=_as_json,
)
def test_a_host_takes_natural_numbers_only(kind: str, spoilt: dict[str, Any], value: str) -> None:
    index = next(index for index, frame in enumerate(TO_HOST) if frame["t"] == kind)
    wrong = json.dumps(TO_HOST[index] | spoilt).replace('"@"', value).encode()
    assert _feed(_host(), [*_lines(TO_HOST[:index]), wrong]) == index


def test_a_frame_of_an_unknown_kind_is_a_protocol_error_whose_text_is_short() -> None:
    raw = HandMadeHost(make_hub())
    raw.shake(shown("", CONTROL))
    with pytest.raises(ProtocolError) as caught:
        raw.send({"t": "x" * 100_000})
    assert len(str(caught.value)) < 200
    guest = HandMadeGuest(make_host(control=True))
    guest.shake()
    with pytest.raises(ProtocolError) as caught:
        guest.send({"t": "d" + "x" * 100_000})
    assert len(str(caught.value)) < 200


def test_no_protocol_error_quotes_what_came() -> None:
    secret = token("", CONTROL)
    spoilings: list[dict[str, Any]]
    spoilings = [{"proofs": [secret]}, {"key": secret + "x"}, {"nonce": [secret]}, {"link": ""}]
    for spoilt in spoilings:
        with pytest.raises(ProtocolError) as caught:
            HandMadeHost(make_hub()).auth(shown("", CONTROL) | {"n": secret}, **spoilt)
        assert secret not in str(caught.value) + repr(caught.value.__cause__)
