"""An agent that has taken the place of the guest's socket: it can cut the link, and change or add nothing."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from conformance.wrong_agents import Patch
from guest.plain_guest import PlainBackend, connected, plain_guest
from guest.relay import WRONG_SEAL, Alter, Connection, Relay, taken_socket

from agenthost.errors import AccessDeniedError, AgentHostError, WireVersionError
from agenthost.link.carriers.command import open_command_carrier
from agenthost.link.client import GuestSandbox
from agenthost.sandbox import Carrier
from agenthost.wire.frames import encode
from agenthost.wire.seals import Seal

SECONDS = 60.0  # until a test is taken to hang

# Gives up what root may more than others, for good, and becomes the program behind it.
AS_ANYBODY = """
import ctypes, os, sys
libc = ctypes.CDLL(None)
for capability in range(64):
    libc.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP
os.execv(sys.argv[1], sys.argv[1:])
"""

SEARCH = """
import ctypes, errno, os, sys
with open("/proc/self/mem", "rb"):
    print("own memory: readable")
try:
    open(f"/proc/{sys.argv[1]}/mem", "rb")
except OSError as exc:
    print("memory:", errno.errorcode[exc.errno])
libc = ctypes.CDLL(None, use_errno=True)
if libc.ptrace(0x4206, int(sys.argv[1]), None, None) != 0:  # PTRACE_SEIZE, which stops nothing
    print("attach:", errno.errorcode[ctypes.get_errno()])
"""


# What the guest does not do then: compare seals, or make every handshake unlike all others.
NO_SEALS = Patch("guest", "wire/seals.py", "return hmac.compare_digest(line, self.line())", "return True")
ONE_NONCE = Patch("guest", "wire/incoming.py", '"nonce": fresh_nonce(),', '"nonce": "0" * 32,')

SHOWN = "proofs shown at a taken socket, on another connection"
RECORDED = "recorded handshake sent again"
REWRITTEN_UP = "relay that rewrites what the host asks for"
REWRITTEN_DOWN = "relay that rewrites what the guest answers"
ADDED = "relay that adds a call"
IMPOSTOR = "program that answers in the guest's place"
SEARCHED = "guest's memory searched for its key"
DIAL = "dial program replaced by one that rewrites"
ACT = "act as the host inside"
LIE = "lie to the host"


@pytest.fixture
async def box(tmp_path: Path) -> AsyncIterator[GuestSandbox]:
    """Give a guest whose socket lies where programs of its sandbox reach it."""
    async with plain_guest(sys.executable, tmp_path) as sandbox:
        yield sandbox


@asynccontextmanager
async def another_host(
    box: GuestSandbox, directory: Path, backend: PlainBackend | None = None
) -> AsyncGenerator[GuestSandbox]:
    """Give another host's end, which dials whatever listens in the guest's place."""
    way = backend or PlainBackend(directory)
    async with connected(way, box.layout, box.token, budget=5.0) as (_, sandbox):
        yield sandbox


def start(path: Path) -> dict[str, object]:
    """Return a call that would leave a trace."""
    params = {"id": "evil", "argv": ["sh", "-c", f"touch {path}"]}
    return {"t": "call", "i": 1000, "m": "start", "p": params}


async def show_what_was_shown(box: GuestSandbox, directory: Path) -> tuple[Relay, list[Any]]:
    """Keep what a host sends first from the guest, and send it there; return what the guest answers."""
    with anyio.fail_after(SECONDS):
        async with taken_socket(directory) as relay:
            relay.withholds = True
            async with another_host(box, directory) as sandbox:
                with pytest.raises(AgentHostError):
                    await sandbox.session.wait_ready()
            assert relay.heard[0].startswith(b'{"t":"auth"')
            async with await relay.connect() as guest:
                said = await guest.speak(relay.heard[0], {"t": "have"}, start(directory / "evil"))
                return relay, said


@pytest.mark.attack(ACT, SHOWN)
async def test_what_a_host_shows_at_a_taken_socket_is_worth_nothing_at_the_guest(
    box: GuestSandbox, tmp_path: Path
) -> None:
    relay, answers = await show_what_was_shown(box, tmp_path)
    assert {frame["t"] for frame in answers} <= {"hello", "deny"}
    assert (await box.exec(["ls"])).exit_code == 0
    assert not (tmp_path / "evil").exists()
    assert box.token.control().encode() not in relay.heard[0]


async def repeat_what_was_recorded(box: GuestSandbox, directory: Path) -> list[Any]:
    """Record a host's whole session and send it again, with a call behind it; return what is answered."""
    with anyio.fail_after(SECONDS):
        async with taken_socket(directory) as relay:
            async with another_host(box, directory) as sandbox:
                assert (await sandbox.exec(["echo", "honest"])).stdout == b"honest\n"
            async with await relay.connect() as guest:
                return await guest.speak(relay.heard[0], start(directory / "evil"))


@pytest.mark.attack(ACT, RECORDED)
async def test_a_handshake_that_was_recorded_opens_nothing(box: GuestSandbox, tmp_path: Path) -> None:
    answers = await repeat_what_was_recorded(box, tmp_path)
    assert {frame["t"] for frame in answers} <= {"hello", "deny"}
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize(
    "attack",
    [
        pytest.param(show_what_was_shown, marks=pytest.mark.control(SHOWN), id=SHOWN),
        pytest.param(repeat_what_was_recorded, marks=pytest.mark.control(RECORDED), id=RECORDED),
    ],
)
async def test_a_guest_whose_handshakes_are_alike_takes_a_recorded_one(
    tmp_path: Path, attack: Callable[[GuestSandbox, Path], Awaitable[Any]]
) -> None:
    async with plain_guest(sys.executable, tmp_path, patches=[ONE_NONCE, NO_SEALS]) as box:
        await attack(box, tmp_path)
        with anyio.fail_after(SECONDS):
            await box.exec(["sh", "-c", "until [ -e evil ]; do sleep 0.01; done"])


def rewriting(old: bytes, new: bytes, rewritten: list[bytes]) -> Alter:
    """Return what rewrites the first bytes that hold ``old``."""

    def rewrite(data: bytes) -> bytes:
        if old in data and not rewritten:
            rewritten.append(data)
            return data.replace(old, new)
        return data

    return rewrite


async def asked_through_a_relay(box: GuestSandbox, directory: Path) -> tuple[bytes, int]:
    """Have a relay rewrite what a host asks for; return what comes of it, and the number of carriers."""
    rewritten: list[bytes] = []
    with anyio.fail_after(SECONDS):
        async with taken_socket(directory) as relay, another_host(box, directory) as sandbox:
            relay.up = rewriting(b"honest", b"forged", rewritten)
            said = (await sandbox.exec(["echo", "honest"])).stdout
        assert rewritten
        return said, len(relay.heard)


@pytest.mark.attack(ACT, REWRITTEN_UP)
async def test_what_a_relay_rewrites_on_its_way_to_the_guest_is_not_done(
    box: GuestSandbox, tmp_path: Path
) -> None:
    said, carriers = await asked_through_a_relay(box, tmp_path)
    assert said == b"honest\n"
    assert carriers == 2, "the carrier was closed, and the next one was left alone"


@pytest.mark.control(REWRITTEN_UP)
async def test_a_guest_that_looks_at_no_seal_does_what_a_relay_rewrites(tmp_path: Path) -> None:
    async with plain_guest(sys.executable, tmp_path, patches=[NO_SEALS]) as box:
        assert await asked_through_a_relay(box, tmp_path) == (b"forged\n", 1)


async def answered_through_a_relay(box: GuestSandbox, directory: Path) -> tuple[bytes, int]:
    """Have a relay rewrite what the guest answers; return what the host gets, and the number of carriers."""
    rewritten: list[bytes] = []
    with anyio.fail_after(SECONDS):
        async with taken_socket(directory) as relay, another_host(box, directory) as sandbox:
            relay.down = rewriting(b"HONEST", b"FORGED", rewritten)
            said = (await sandbox.exec(["sh", "-c", "echo honest | tr a-z A-Z"])).stdout
        assert rewritten
        return said, len(relay.heard)


@pytest.mark.attack(LIE, REWRITTEN_DOWN)
async def test_what_a_relay_rewrites_on_its_way_to_the_host_is_not_believed(
    box: GuestSandbox, tmp_path: Path
) -> None:
    assert await answered_through_a_relay(box, tmp_path) == (b"HONEST\n", 2)


@pytest.fixture
def believing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the host take every seal for right."""

    def check(*_: object) -> bool:
        return True

    monkeypatch.setattr(Seal, "check", check)


@pytest.mark.control(REWRITTEN_DOWN)
@pytest.mark.usefixtures("believing")
async def test_a_host_that_looks_at_no_seal_believes_what_a_relay_rewrites(
    box: GuestSandbox, tmp_path: Path
) -> None:
    assert await answered_through_a_relay(box, tmp_path) == (b"FORGED\n", 1)


async def ask_beside_a_relay_that_adds(box: GuestSandbox, directory: Path) -> bool:
    """Have a relay add a call to what a host sends; return whether it is done."""
    added: list[bytes] = []

    def add(data: bytes) -> bytes:
        if b'"t":"call"' in data and data.endswith(b"\n") and not added:
            params = {"path": str(directory / "evil"), "mode": 0o644, "data": "eA=="}
            added.append(encode({"t": "call", "i": 1000, "m": "write", "p": params, "z": 1}))
            return data + added[0] + WRONG_SEAL
        return data

    with anyio.fail_after(SECONDS):
        async with taken_socket(directory) as relay, another_host(box, directory) as sandbox:
            relay.up = add
            await sandbox.exec(["true"])
            found = await sandbox.exec(["ls", str(directory / "evil")])
        assert added
    return found.exit_code == 0


@pytest.mark.attack(ACT, ADDED)
async def test_what_a_relay_adds_is_not_done(box: GuestSandbox, tmp_path: Path) -> None:
    assert not await ask_beside_a_relay_that_adds(box, tmp_path)
    assert not (tmp_path / "evil").exists()


@pytest.mark.control(ADDED)
async def test_a_guest_that_looks_at_no_seal_does_what_a_relay_adds(tmp_path: Path) -> None:
    async with plain_guest(sys.executable, tmp_path, patches=[NO_SEALS]) as box:
        assert await ask_beside_a_relay_that_adds(box, tmp_path)


class Replaced(PlainBackend):
    """A guest that is reached by a program inside, in whose place the agent has put its own."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.dialled = 0
        self._argv = [sys.executable, "-I", "-c", REWRITING_DIAL, str(directory / "guest.sock")]
        self._argv.append(str(directory / "rewritten"))

    async def dial(self) -> Carrier:
        """Start the program."""
        self.dialled += 1
        return await open_command_carrier(self._argv)


# Passes bytes on as ``dial`` does, but for the first that name what the host asks for.
REWRITING_DIAL = """
import os, select, socket, sys
guest = socket.socket(socket.AF_UNIX)
guest.connect(sys.argv[1])
while True:
    for one in select.select([0, guest], [], [])[0]:
        data = os.read(0, 1 << 20) if one == 0 else guest.recv(1 << 20)
        if not data:
            sys.exit()
        if one != 0:
            os.write(1, data)
            continue
        if b"honest" in data and not os.path.exists(sys.argv[2]):
            open(sys.argv[2], "w").close()
            data = data.replace(b"honest", b"forged")
        guest.sendall(data)
"""


async def asked_through_a_program(box: GuestSandbox, directory: Path) -> tuple[bytes, int]:
    """Ask through a dial program that rewrites; return what comes of it, and how often it was started."""
    way = Replaced(directory)
    with anyio.fail_after(SECONDS):
        async with another_host(box, directory, way) as sandbox:
            said = (await sandbox.exec(["echo", "honest"])).stdout
    assert (directory / "rewritten").exists()
    return said, way.dialled


@pytest.mark.attack(ACT, DIAL)
async def test_what_a_replaced_dial_program_rewrites_is_not_done(box: GuestSandbox, tmp_path: Path) -> None:
    assert await asked_through_a_program(box, tmp_path) == (b"honest\n", 2)


@pytest.mark.control(DIAL)
async def test_a_guest_that_looks_at_no_seal_does_what_a_dial_program_rewrites(tmp_path: Path) -> None:
    async with plain_guest(sys.executable, tmp_path, patches=[NO_SEALS]) as box:
        assert await asked_through_a_program(box, tmp_path) == (b"forged\n", 1)


async def answer_by_itself(relay: Relay, host: Connection) -> None:
    """Play the guest: with its own greeting, and whatever the host asks for."""
    await host.send(await relay.greeting())
    auth = json.loads(await host.read_line())
    granted = [[grant["agent"], grant["role"], 1, grant["n"]] for grant in auth["grants"]]
    have: dict[str, Any] = {"t": "have", "link": 1, "granted": granted, "refused": []}
    await host.send(encode({**have, "in": {}, "open": {}}))
    await host.send(b"=" + b"0" * 32 + b"\n")
    await host.read_line()


@pytest.mark.attack(LIE, IMPOSTOR)
async def test_what_answers_by_itself_in_the_guests_place_is_refused(
    box: GuestSandbox, tmp_path: Path
) -> None:
    with anyio.fail_after(SECONDS):
        async with taken_socket(tmp_path, answer_by_itself), another_host(box, tmp_path) as sandbox:
            with pytest.raises(AccessDeniedError, match="cannot prove that it is the guest"):
                await sandbox.session.wait_ready()
        assert (await box.exec(["echo", "still here"])).stdout == b"still here\n"


@pytest.mark.control(IMPOSTOR)
@pytest.mark.usefixtures("believing")
async def test_a_host_that_looks_at_no_seal_takes_an_impostor_for_the_guest(
    box: GuestSandbox, tmp_path: Path
) -> None:
    with anyio.fail_after(SECONDS):
        async with taken_socket(tmp_path, answer_by_itself), another_host(box, tmp_path) as sandbox:
            await sandbox.session.wait_ready()


async def answer_as_of_wire_1(relay: Relay, host: Connection) -> None:
    """Greet as a guest of the version before did, and keep what the host says to it."""
    await host.send(b'{"t":"hello","wire":1,"boot":"before"}\n')
    relay.heard.append(await host.read_line())


async def test_a_guest_of_another_wire_is_named_and_hears_nothing(box: GuestSandbox, tmp_path: Path) -> None:
    with anyio.fail_after(SECONDS):
        async with (
            taken_socket(tmp_path, answer_as_of_wire_1) as relay,
            another_host(box, tmp_path) as sandbox,
        ):
            with pytest.raises(WireVersionError, match="speaks wire 1, this agenthost wire 2"):
                await sandbox.session.wait_ready()
            while not relay.heard:
                await anyio.lowlevel.checkpoint()
    assert relay.heard == [b""]


async def test_a_host_of_wire_1_gets_a_greeting_that_names_the_wire_and_no_further(
    box: GuestSandbox, tmp_path: Path
) -> None:
    grant = {"agent": "", "role": "control", "token": box.token.control(), "n": 1}
    auth = encode({"t": "auth", "link": "old", "raw": True, "grants": [grant]})
    with anyio.fail_after(SECONDS):
        async with await Relay(tmp_path / "guest.sock").connect() as guest:
            (greeting,) = await guest.speak(auth, {"t": "have"}, start(tmp_path / "evil"))
    assert (greeting["t"], greeting["wire"]) == ("hello", 2)


@asynccontextmanager
async def searched(directory: Path, *patches: Patch) -> AsyncGenerator[tuple[list[bytes], bytes, bytes]]:
    """Search a guest; give what the search says of its memory, all of its files, and its key."""
    wrapper = [sys.executable, "-I", "-c", AS_ANYBODY] if os.getuid() == 0 else []
    with anyio.fail_after(SECONDS):
        async with plain_guest(sys.executable, directory, wrapper=wrapper, patches=patches) as sandbox:
            assert (await sandbox.exec(["ls", "boot.json"])).exit_code != 0
            found = await sandbox.exec(["sh", "-c", "cat ./* */*"])
            pid = (await sandbox.exec(["sh", "-c", "echo $PPID"])).stdout.decode().strip()
            # The program knows its own memory, so that the search is known to work.
            looked = await sandbox.exec([sys.executable, "-I", "-c", SEARCH, pid])
            yield looked.stdout.splitlines(), found.stdout, sandbox.token.guest_key()


@pytest.mark.attack(LIE, SEARCHED)
async def test_a_program_of_the_guests_own_user_finds_nowhere_what_proves_the_guest(tmp_path: Path) -> None:
    """Neither in files nor in the guest's memory, by /proc or as its tracer."""
    async with searched(tmp_path) as (said, files, key):
        assert said == [b"own memory: readable", b"memory: EACCES", b"attach: EPERM"]
        assert key not in files
        assert key.hex().encode() not in files


@pytest.mark.control(SEARCHED)
async def test_the_memory_of_a_guest_that_has_not_closed_itself_is_open(tmp_path: Path) -> None:
    dumpable = Patch("guest", "guest/hardening.py", "(_PR_SET_DUMPABLE, 0)", "(_PR_SET_DUMPABLE, 1)")
    async with searched(tmp_path, dumpable) as (said, _, _):
        assert b"memory: EACCES" not in said
