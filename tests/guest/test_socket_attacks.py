"""An agent that has taken the place of the guest's socket: it can cut the link, and change or add nothing."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from guest.plain_guest import PlainBackend, connected, plain_guest
from guest.relay import Connection, Relay, taken_socket

from agenthost.errors import AccessDeniedError, AgentHostError, WireVersionError
from agenthost.link.client import GuestSandbox
from agenthost.wire.frames import encode

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


@pytest.fixture
async def box(tmp_path: Path) -> AsyncIterator[GuestSandbox]:
    """Give a guest whose socket lies where programs of its sandbox reach it."""
    async with plain_guest(sys.executable, tmp_path) as sandbox:
        yield sandbox


@asynccontextmanager
async def another_host(box: GuestSandbox, directory: Path) -> AsyncGenerator[GuestSandbox]:
    """Give another host's end, which dials whatever listens in the guest's place."""
    async with connected(PlainBackend(directory), box.layout, box.token, budget=5.0) as (_, sandbox):
        yield sandbox


def start(path: Path) -> dict[str, object]:
    """Return a call that would leave a trace."""
    params = {"id": "evil", "argv": ["sh", "-c", f"touch {path}"]}
    return {"t": "call", "i": 1000, "m": "start", "p": params}


async def test_what_a_host_shows_at_a_taken_socket_is_worth_nothing_at_the_guest(
    box: GuestSandbox, tmp_path: Path
) -> None:
    with anyio.fail_after(SECONDS):
        async with taken_socket(tmp_path) as relay:
            relay.withholds = True
            async with another_host(box, tmp_path) as sandbox:
                with pytest.raises(AgentHostError):
                    await sandbox.session.wait_ready()
            assert relay.heard[0].startswith(b'{"t":"auth"')
            async with await relay.connect() as guest:
                answers = await guest.speak(relay.heard[0], {"t": "have"}, start(tmp_path / "evil"))
        assert {frame["t"] for frame in answers} <= {"hello", "deny"}
        assert (await box.exec(["ls"])).exit_code == 0
    assert not (tmp_path / "evil").exists()
    assert box.token.control().encode() not in relay.heard[0]


async def test_a_handshake_that_was_recorded_opens_nothing(box: GuestSandbox, tmp_path: Path) -> None:
    with anyio.fail_after(SECONDS):
        async with taken_socket(tmp_path) as relay:
            async with another_host(box, tmp_path) as sandbox:
                assert (await sandbox.exec(["echo", "honest"])).stdout == b"honest\n"
            async with await relay.connect() as guest:
                answers = await guest.speak(relay.heard[0], start(tmp_path / "evil"))
        assert {frame["t"] for frame in answers} <= {"hello", "deny"}
    assert not (tmp_path / "evil").exists()


async def test_what_a_relay_rewrites_on_its_way_to_the_guest_is_not_done(
    box: GuestSandbox, tmp_path: Path
) -> None:
    rewritten: list[bytes] = []

    def rewrite(data: bytes) -> bytes:
        if b"honest" in data and not rewritten:
            rewritten.append(data)
            return data.replace(b"honest", b"forged")
        return data

    with anyio.fail_after(SECONDS):
        async with taken_socket(tmp_path) as relay, another_host(box, tmp_path) as sandbox:
            relay.up = rewrite
            assert (await sandbox.exec(["echo", "honest"])).stdout == b"honest\n"
        assert rewritten
        assert len(relay.heard) == 2, "the carrier was closed, and the next one was left alone"


async def test_what_a_relay_rewrites_on_its_way_to_the_host_is_not_believed(
    box: GuestSandbox, tmp_path: Path
) -> None:
    rewritten: list[bytes] = []

    def rewrite(data: bytes) -> bytes:
        if b"HONEST" in data and not rewritten:
            rewritten.append(data)
            return data.replace(b"HONEST", b"FORGED")
        return data

    with anyio.fail_after(SECONDS):
        async with taken_socket(tmp_path) as relay, another_host(box, tmp_path) as sandbox:
            relay.down = rewrite
            assert (await sandbox.exec(["sh", "-c", "echo honest | tr a-z A-Z"])).stdout == b"HONEST\n"
        assert rewritten
        assert len(relay.heard) == 2


async def test_what_a_relay_adds_is_not_done(box: GuestSandbox, tmp_path: Path) -> None:
    added: list[bytes] = []

    def add(data: bytes) -> bytes:
        if b'"t":"call"' in data and data.endswith(b"\n") and not added:
            params = {"path": str(tmp_path / "evil"), "mode": 0o644, "data": "eA=="}
            added.append(
                json.dumps({"t": "call", "i": 1000, "m": "write", "p": params, "z": 1}).encode() + b"\n"
            )
            return data + added[0]
        return data

    with anyio.fail_after(SECONDS):
        async with taken_socket(tmp_path) as relay, another_host(box, tmp_path) as sandbox:
            relay.up = add
            assert (await sandbox.exec(["ls", str(tmp_path / "evil")])).exit_code != 0
        assert added
    assert not (tmp_path / "evil").exists()


async def answer_by_itself(relay: Relay, host: Connection) -> None:
    """Play the guest: with its own greeting, and whatever the host asks for."""
    await host.send(await relay.greeting())
    auth = json.loads(await host.read_line())
    granted = [[grant["agent"], grant["role"], 1, grant["n"]] for grant in auth["grants"]]
    have: dict[str, Any] = {"t": "have", "link": 1, "granted": granted, "refused": []}
    await host.send(encode({**have, "in": {}, "open": {}}))
    await host.send(b"=" + b"0" * 32 + b"\n")
    await host.read_line()


async def test_what_answers_by_itself_in_the_guests_place_is_refused(
    box: GuestSandbox, tmp_path: Path
) -> None:
    with anyio.fail_after(SECONDS):
        async with taken_socket(tmp_path, answer_by_itself), another_host(box, tmp_path) as sandbox:
            with pytest.raises(AccessDeniedError, match="cannot prove that it is the guest"):
                await sandbox.session.wait_ready()
        assert (await box.exec(["echo", "still here"])).stdout == b"still here\n"


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


async def test_a_program_of_the_guests_own_user_finds_nowhere_what_proves_the_guest(tmp_path: Path) -> None:
    """Neither in files nor in the guest's memory, by /proc or as its tracer."""
    wrapper = [sys.executable, "-I", "-c", AS_ANYBODY] if os.getuid() == 0 else []
    with anyio.fail_after(SECONDS):
        async with plain_guest(sys.executable, tmp_path, wrapper=wrapper) as sandbox:
            key = sandbox.token.guest_key()
            assert (await sandbox.exec(["ls", "boot.json"])).exit_code != 0
            found = await sandbox.exec(["sh", "-c", "cat ./* */*"])
            pid = (await sandbox.exec(["sh", "-c", "echo $PPID"])).stdout.decode().strip()
            # The program knows its own memory, so that the search is known to work.
            looked = await sandbox.exec([sys.executable, "-I", "-c", SEARCH, pid])
    assert looked.stdout.splitlines() == [b"own memory: readable", b"memory: EACCES", b"attach: EPERM"]
    assert key not in found.stdout
    assert key.hex().encode() not in found.stdout
