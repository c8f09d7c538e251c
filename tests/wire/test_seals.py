"""Sealed carriers: what is in between can pass bytes on or cut, whatever it knows but the tokens."""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import Any

import pytest
from wire.simulation.content import GUEST_KEY, KEYS, token
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
    sealed,
    shown,
)

from agenthost.wire.events import Called, Granted, Hello, Ready, Refused, Unproven
from agenthost.wire.frames import Decoder, ProtocolError, SealError, encode, encode_data
from agenthost.wire.guest import GuestHub
from agenthost.wire.handshake import make_seals, make_transcript
from agenthost.wire.host import HostLink
from agenthost.wire.seals import Seal
from agenthost.wire.settings import WireSettings
from agenthost.wire.streams import SendStream
from agenthost.wire.tokens import CONTROL, DRIVER
from agenthost.wire.x25519 import agree, public_key

# ---- seals


def test_a_seal_is_an_hmac_of_all_that_came_before_it() -> None:
    seal = Seal(b"key")
    whole = hmac.new(b"key", digestmod=hashlib.sha256)
    for data in (b"first\n", b"", b"second\n"):
        seal.add(data)
        whole.update(data)
        assert seal.line() == b"=" + whole.hexdigest()[:32].encode()


def test_frames_are_handed_out_when_their_seal_has_come() -> None:
    sender, receiver = Seal(b"key"), Seal(b"key")
    decoder = Decoder(max_line=1000, max_payload=1000)
    decoder.expect_seals(receiver)
    frames = [encode({"t": "ping"}), encode_data({"t": "d", "s": "x", "o": 0}, b"=\n=\n", binary=True)]
    for frame in frames:
        sender.add(frame)
    assert list(decoder.feed(b"".join(frames))) == []
    assert list(decoder.feed(b"\n")) == [], "an empty line is padding, and not sealed"
    line = sender.line() + b"\n"
    assert list(decoder.feed(line[:9])) == []
    assert [(header["t"], bytes(data)) for header, data in decoder.feed(line[9:])] == [
        ("ping", b""),
        ("d", b"=\n=\n"),
    ]


def test_a_large_payload_that_comes_in_pieces_is_not_put_together() -> None:
    sender, decoder = Seal(b"key"), Decoder(max_line=1000, max_payload=1000)
    decoder.expect_seals(Seal(b"key"))
    frame = encode_data({"t": "d", "s": "x", "o": 5}, bytes(range(100)), binary=True)
    whole = sealed(sender, frame)
    found = [one for start in range(0, len(whole), 30) for one in decoder.feed(whole[start : start + 30])]
    assert len(found) > 2
    assert b"".join(data for _, data in found) == bytes(range(100))
    at = 5
    for header, data in found:
        assert header["o"] == at
        at += len(data)


def test_without_a_seal_only_so_much_is_kept() -> None:
    decoder = Decoder(max_line=1000, max_payload=1000, max_unsealed=3000)
    decoder.expect_seals(Seal(b"key"))
    with pytest.raises(SealError, match="in time"):
        for _ in range(400):
            list(decoder.feed(encode({"t": "ping"})))
    assert sum(len(str(one)) for one in vars(decoder)["_waiting"]) < 20_000


def test_a_line_that_moved_between_frames_is_noticed() -> None:
    """The same bytes, cut into other lines."""
    frame = encode_data({"t": "d", "s": "x", "o": 0}, b"  ab\n", binary=True)
    sender, decoder = Seal(b"key"), Decoder(max_line=1000, max_payload=1000)
    decoder.expect_seals(Seal(b"key"))
    whole = sealed(sender, frame).replace(b"}\n  ab\n", b"}  \nab\n", 1)
    with pytest.raises(ProtocolError):
        list(decoder.feed(whole + encode({"t": "ping"}) * 2))


@pytest.mark.parametrize("binary", [True, False])
def test_a_flood_has_a_seal_every_64_kib_or_one_frame(binary: bool) -> None:
    hub, host = make_hub("a"), make_host(drives="a", control=True)
    joint = join(host, hub, binary=binary)
    out = journal(hub, "a", bound=1 << 24)
    host.subscribe("a/a/out")
    joint.run()
    for _ in range(3000):
        out.write(b"x" * 700)
    data = joint.carrier.take(1 << 20, 0.0)
    lengths = [len(part) for part in re.split(rb"=[0-9a-f]{32}\n", data)]
    assert len(lengths) > 2
    assert max(lengths) < 64 * 1024 + 2 * (256 if binary else 88) * 1024
    assert lengths[-1] == 0
    host.receive(data, 0.0)
    assert len(received(host, "a/a/out")) > 1 << 19


def test_small_settings_have_small_seals_at_both_ends() -> None:
    settings = WireSettings(seal_every=1)
    hub = make_hub("a", settings=settings)
    host = make_host(drives="a", settings=settings)
    joint = join(host, hub)
    out = journal(hub, "a")
    host.subscribe("a/a/out")
    joint.run()
    out.write(b"x")
    out.end()
    assert joint.carrier.take(ALL, 0.0).count(b"\n=") == 1, "an end travels with the bytes before it"


def test_a_private_carrier_has_no_seals() -> None:
    hub, host = make_hub("a", guest_key=None), make_host(control=True, guest_key=None)
    joint = Joint(host, hub)
    said = b""
    for _ in range(4):
        down = joint.carrier.take(ALL, 0.0)
        host.receive(down, 0.0)
        up = host.take(ALL, 0.0)
        joint.carrier.receive(up, 0.0)
        said += down + up
    assert host.flowing
    assert b"\n=" not in said


def test_a_carrier_that_only_one_end_takes_for_private_does_not_come_up() -> None:
    for host_key, guest_key in ((None, GUEST_KEY), (GUEST_KEY, None)):
        host = make_host(control=True, guest_key=host_key)
        joint = Joint(host, make_hub("a", guest_key=guest_key))
        with pytest.raises(ProtocolError):
            joint.run()
        assert not host.flowing


# ---- in between


class Between:
    """A relay that knows the guest's key, every verifier and all that passes. It lacks the tokens."""

    def __init__(self, host: HostLink, hub: GuestHub) -> None:
        self.host, self.hub = host, hub
        self.carrier = hub.open_carrier(now=0.0)
        host.attach(binary=True, now=0.0)
        self.greeting = self.carrier.take(ALL, 0.0)

    def ask_host(self, greeting: bytes) -> dict[str, Any]:
        """Greet the host and return what it shows."""
        self.host.receive(greeting, 0.0)
        (auth,) = parse(self.host.take(ALL, 0.0))
        return auth

    def is_let_in(self, auth: dict[str, Any]) -> bool:
        """Show this to the guest."""
        try:
            self.carrier.receive(encode(auth), 0.0)
        except ProtocolError:
            return False
        return bool(self.hub.links)


def test_a_proof_is_good_for_the_hosts_own_key_alone() -> None:
    between = Between(make_host(control=True, drives="a"), make_hub("a"))
    auth = between.ask_host(between.greeting)
    assert not between.is_let_in({**auth, "key": public_key(KEYS[2]).hex()})


@pytest.mark.parametrize(
    "changed", [{"link": "another"}, {"raw": False}, {"nonce": "another"}, {"extra": 1}], ids=str
)
def test_a_proof_is_good_for_what_the_host_said_alone(changed: dict[str, Any]) -> None:
    between = Between(make_host(control=True), make_hub())
    assert not between.is_let_in({**between.ask_host(between.greeting), **changed})


def test_a_proof_is_good_for_its_grant_alone() -> None:
    hub, host = make_hub("a", "b"), make_host(control=True, drives="ab")
    between = Between(host, hub)
    auth = between.ask_host(between.greeting)
    (control, driver, other) = auth["proofs"]
    assert not between.is_let_in({**auth, "proofs": [driver, control, other]})
    epoch = [dict(grant) for grant in auth["grants"]]
    epoch[1]["epoch"] = 7
    assert not Between(host, hub).is_let_in({**auth, "grants": epoch})


def test_who_plays_the_guest_with_its_key_gets_no_proof_that_the_guest_takes() -> None:
    """It has read the guest's memory: it can deceive a host, and is still not one."""
    hub = make_hub("a")
    between = Between(make_host(control=True, drives="a"), hub)
    own = hello(key=public_key(KEYS[3]).hex(), nonce=parse(between.greeting)[0]["nonce"])
    auth = between.ask_host(encode(own))
    assert not between.is_let_in(auth)
    deceived = HandMadeGuest(make_host(control=True))
    deceived.shake()
    assert Ready() in deceived.host.events, "this is what the guest's key gives"


def test_a_key_that_makes_every_secret_the_same_proves_nothing() -> None:
    for weak in ("00" * 32, "01" + "00" * 31):
        with pytest.raises(ProtocolError):
            HandMadeGuest(make_host(control=True)).send(hello(key=weak))
        with pytest.raises(ProtocolError):
            HandMadeHost(make_hub()).auth(shown("", CONTROL), key=weak)


def test_who_knows_all_but_the_private_keys_cannot_seal() -> None:
    hub, host = make_hub("a"), make_host(control=True)
    between = Between(host, hub)
    auth = between.ask_host(between.greeting)
    assert between.is_let_in(auth)
    transcript = make_transcript(parse(between.greeting)[0], auth)
    for shared in (bytes(32), bytes.fromhex(auth["key"]), agree(KEYS[2], bytes.fromhex(auth["key"]))):
        up, _ = make_seals(GUEST_KEY, shared, transcript)
        carrier = between.carrier
        with pytest.raises(SealError):
            carrier.receive(sealed(up, encode({"t": "have", "z": 1})), 0.0)
        assert carrier.closing
        assert not happened(hub.links["link"], Called)
        between = Between(host, hub)
        auth = between.ask_host(between.greeting)
        between.is_let_in(auth)
        transcript = make_transcript(parse(between.greeting)[0], auth)


def test_what_answers_without_the_guests_key_is_unproven() -> None:
    host = make_host(control=True)
    raw = HandMadeGuest(host, guest_key=b"another")
    with pytest.raises(SealError):
        raw.shake()
    assert happened(host) == [Hello("boot"), Unproven()]
    assert not host.flowing
    assert host.boot_id is None, "nothing that it said is kept"


def test_a_boot_that_was_not_proved_does_not_keep_the_guest_out() -> None:
    hub, host = make_hub(), make_host(control=True)
    with pytest.raises(SealError):
        HandMadeGuest(host, guest_key=b"another").shake(boot="invented")
    host.detach()
    join(host, hub)
    assert host.flowing
    assert host.boot_id == "boot"


def test_a_denial_that_was_not_sealed_is_none() -> None:
    host = make_host(control=True)
    host.attach(binary=True, now=0.0)
    host.receive(encode(hello()), 0.0)
    host.take(ALL, 0.0)
    denial = {"t": "deny", "agent": "", "role": CONTROL, "number": 1, "reason": "token"}
    host.receive(encode(denial), 0.0)
    assert happened(host, Refused) == []
    with pytest.raises(SealError):
        host.receive(b"=" + b"0" * 32 + b"\n", 0.0)
    assert happened(host, Refused, Unproven) == [Unproven()]


def _conversation() -> tuple[Joint, list[bytes]]:
    """Return a joint and batches on their way to the guest."""
    host = make_host(control=True)
    joint = join(host, make_hub())
    batches: list[bytes] = []
    for number in range(3):
        host.call(f"call {number}", {})
        batches.append(host.take(ALL, 0.0))
    return joint, batches


def test_batches_pass_as_they_are_in_whatever_pieces() -> None:
    joint, batches = _conversation()
    for byte in b"".join(batches):
        joint.carrier.receive(bytes([byte]), 0.0)
    assert [event.method for event in happened(joint.guest, Called) if isinstance(event, Called)] == [
        "call 0",
        "call 1",
        "call 2",
    ]


@pytest.mark.parametrize("order", [(1, 0, 2), (0, 0), (0, 2), (1,), (0, 1, 0)])
def test_batches_in_another_order_left_out_or_twice_close_the_carrier(order: tuple[int, ...]) -> None:
    joint, batches = _conversation()
    with pytest.raises(SealError):
        for index in order:
            joint.carrier.receive(batches[index], 0.0)
    assert joint.carrier.closing
    assert len(happened(joint.guest, Called)) < 3


def test_what_was_sealed_for_one_carrier_is_nothing_on_the_next() -> None:
    joint, batches = _conversation()
    joint.cut()
    again = join(joint.host, make_hub())
    happened(again.guest)
    with pytest.raises(SealError):
        again.carrier.receive(batches[0], 0.0)
    assert not happened(again.guest)


def test_what_one_direction_carries_is_nothing_in_the_other() -> None:
    host, hub = make_host(control=True), make_hub()
    joint = join(host, hub)
    host.tick(15.0)
    ping = host.take(ALL, 15.0)
    with pytest.raises(SealError):
        host.receive(ping, 15.0)
    assert joint.carrier.link is not None


def test_after_a_changed_byte_the_link_goes_on_over_the_next_carrier() -> None:
    hub, host = make_hub("a"), make_host(control=True)
    joint = join(host, hub)
    out = SendStream("p/1/out", bound=1000)
    hub.add_stream(out, link="link")
    host.subscribe("p/1/out")
    joint.run()
    out.write(b"what was printed")
    data = joint.carrier.take(ALL, 0.0)
    with pytest.raises(SealError):
        host.receive(data.replace(b"printed", b"PRINTED"), 0.0)
    assert received(host, "p/1/out") == b""
    joint.cut()
    join(host, hub)
    assert received(host, "p/1/out") == b"what was printed"


def test_a_role_that_is_asked_for_later_is_proved_too() -> None:
    hub, host = make_hub("a"), make_host(control=True)
    joint = join(host, hub)
    host.grant("a", DRIVER, token("a", DRIVER))
    data = host.take(ALL, 0.0)
    assert token("a", DRIVER).encode() not in data
    joint.carrier.receive(data, 0.0)
    joint.run()
    assert Granted("a", DRIVER, 1, 0) in host.events
    raw = HandMadeHost(hub)
    raw.shake(shown("", CONTROL), link="another")
    wanted = raw.grant(shown("a", DRIVER, number=2) | {"token": "wrong"})
    (answer,) = raw.send({"t": "grant", **wanted})
    assert answer["refused"] == [["a", DRIVER, "token", 2]]
    assert hub.doors["a"].driver == "link"
