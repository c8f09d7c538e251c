"""A program without a key cannot take the guest's descriptors, on whichever of its sockets."""
# ruff: noqa: SLF001
# pyright: reportPrivateUsage=false, reportUnknownLambdaType=false, reportUnknownArgumentType=false
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import asyncio  # noqa: TID251 - the guest runs on it
import contextlib
import resource
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Self

import anyio
import pytest
from wire.simulation.content import GUEST_KEY, token
from wire.simulation.pair import make_hub

from agenthost.guest import carrier, model
from agenthost.guest.carrier import Carriers
from agenthost.guest.http import port as http_port
from agenthost.guest.http.port import Port
from agenthost.guest.lobby import MOST, Lobby
from agenthost.guest.model import ModelEndpoint
from agenthost.link.carriers.socket import connect_unix
from agenthost.link.session import Session
from agenthost.sandbox import Carrier, SandboxInfo
from agenthost.wire.tokens import CONTROL

LIMIT = 60
FLOOD = 300  # connections that are held open at once, above every bound
HONEST = 32
KEY = "sk-ant-agenthost-of-this-agent"
REQUEST = f"POST /v1/messages HTTP/1.1\r\nx-api-key: {KEY}\r\ncontent-length: 2\r\n\r\n{{}}".encode()

BEGUN = b"POST /v1/messages HTTP/1.1\r\nx: "
attack, control = pytest.mark.attack, pytest.mark.control
TAKES_DESCRIPTORS = "take the guest's file descriptors"

Connect = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


@pytest.fixture(autouse=True)
def enough_descriptors() -> Any:
    """Let this process hold both ends of a flood."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard if hard < 65536 else max(soft, 4096), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Flood:
    """Connections without a key. One that is closed for another is opened again."""

    def __init__(self, connect: Connect, say: bytes = b"") -> None:
        self._connect = connect
        self._say = say
        self._writers: list[asyncio.StreamWriter] = []
        self._tasks: list[asyncio.Task[None]] = []
        self.refused = 0

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._hold()) for _ in range(FLOOD)]
        while len(self._writers) + self.refused < FLOOD:  # noqa: ASYNC110
            await asyncio.sleep(0)
        return self

    async def _hold(self) -> None:
        try:
            reader, writer = await self._connect()
        except OSError:
            self.refused += 1
            return
        self._writers.append(writer)
        with contextlib.suppress(ConnectionError):
            writer.write(self._say)
            await reader.read()

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._writers:
            writer.close()


# ---- the model's port


@asynccontextmanager
async def endpoint(tmp_path: Path) -> AsyncGenerator[ModelEndpoint]:
    """Run the model endpoint of a guest with one agent."""
    hub = make_hub("a")
    served = ModelEndpoint(hub, str(tmp_path))
    await served.listen()
    served.add_agent("a", KEY)
    try:
        yield served
    finally:
        served.remove_agent("a")
        assert served._server is not None
        served._server.close()


async def waiting_at_the_port(tmp_path: Path, say: bytes = b"") -> tuple[int, int]:
    """Flood the port; return the connections that it holds without a key, and the requests it has taken."""
    async with endpoint(tmp_path) as served:
        connect = partial(asyncio.open_connection, "127.0.0.1", served.port)
        async with Flood(connect, say):
            writers: list[asyncio.StreamWriter] = []
            for _ in range(HONEST):
                _, writer = await connect()
                writer.write(REQUEST)
                writers.append(writer)
            with anyio.move_on_after(LIMIT):
                while len(served._exchanges) < HONEST:  # noqa: ASYNC110 - the guest tells of none
                    await asyncio.sleep(0)
            found = len(served._lobby), len(served._exchanges)
            for writer in writers:
                writer.close()
            return found


@attack(TAKES_DESCRIPTORS, "connections to the model's port that say nothing")
def test_a_flood_of_the_models_port_is_bounded_and_honest_requests_pass(tmp_path: Path) -> None:
    waiting, taken = asyncio.run(waiting_at_the_port(tmp_path))
    assert waiting <= MOST
    assert taken == HONEST


@control("connections to the model's port that say nothing")
def test_without_the_bound_every_connection_of_a_flood_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "Lobby", lambda: Lobby(1 << 30))
    waiting, _ = asyncio.run(waiting_at_the_port(tmp_path))
    assert waiting > MOST + HONEST


@attack(TAKES_DESCRIPTORS, "heads that never end, on the model's port")
def test_a_flood_of_begun_heads_is_bounded_and_honest_requests_pass(tmp_path: Path) -> None:
    waiting, taken = asyncio.run(waiting_at_the_port(tmp_path, BEGUN))
    assert waiting <= MOST
    assert taken == HONEST


@control("heads that never end, on the model's port")
def test_without_the_bound_every_begun_head_of_a_flood_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "Lobby", lambda: Lobby(1 << 30))
    waiting, _ = asyncio.run(waiting_at_the_port(tmp_path, BEGUN))
    assert waiting > MOST + HONEST


async def closes_a_slow_head(tmp_path: Path) -> bool:
    """Send a head byte by byte; return whether the port has closed before the head was whole."""
    async with endpoint(tmp_path) as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        closed = asyncio.create_task(reader.read())
        with anyio.move_on_after(1.0):
            while not closed.done():
                writer.write(b"x")
                await asyncio.sleep(0.01)
        is_closed = closed.done()
        closed.cancel()
        await asyncio.gather(closed, return_exceptions=True)
        writer.close()
        return is_closed


@attack(TAKES_DESCRIPTORS, "a head that arrives byte by byte")
def test_a_head_that_takes_too_long_closes_its_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "HEAD_SECONDS", 0.1)
    assert asyncio.run(closes_a_slow_head(tmp_path))


@control("a head that arrives byte by byte")
def test_without_the_deadline_a_slow_head_keeps_its_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "HEAD_SECONDS", 1e9)
    assert not asyncio.run(closes_a_slow_head(tmp_path))


# ---- the socket of the hosts


class Dialer:
    """The backend of a guest that listens on a socket of this machine."""

    def __init__(self, path: str) -> None:
        self._path = path

    async def boot(self) -> None:
        """It runs."""

    async def dial(self) -> Carrier:
        """Connect."""
        return await connect_unix(self._path)

    async def info(self) -> SandboxInfo:
        """Tell that it runs."""
        return SandboxInfo(id="box", name="box", provider="none", state="running")

    async def terminate(self) -> None:
        """There is nothing to end."""


async def held_by_the_guest(tmp_path: Path) -> int:
    """Flood the guest's socket, connect two hosts meanwhile, and return the connections that it holds."""
    path = str(tmp_path / "sock")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    listener.listen(16)
    carriers = Carriers(make_hub("a"), listener)
    held = 0
    try:
        async with Flood(partial(asyncio.open_unix_connection, path)):
            async with anyio.create_task_group() as tasks:
                hosts = [Session(Dialer(path), name="box", guest_key=GUEST_KEY) for _ in range(2)]
                for host in hosts:
                    host.link.grant("", CONTROL, token("", CONTROL))
                    tasks.start_soon(host.run)
                with anyio.fail_after(LIMIT):
                    for host in hosts:
                        await host.wait_ready()
                held = len(carriers._open)
                for host in hosts:
                    host.close()
            return held
    finally:
        carriers.close()


@attack(TAKES_DESCRIPTORS, "connections to the socket of the hosts")
def test_a_flood_of_the_guests_socket_is_bounded_and_hosts_come_in(tmp_path: Path) -> None:
    assert asyncio.run(held_by_the_guest(tmp_path)) <= MOST + 2


@control("connections to the socket of the hosts")
def test_without_the_bound_the_guest_holds_every_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(carrier, "Lobby", lambda: Lobby(1 << 30))
    assert asyncio.run(held_by_the_guest(tmp_path)) > MOST + 2


# ---- the port of the http carrier


async def held_by_the_port() -> int:
    """Flood the port of the http carrier and return the connections that it holds."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    served = Port(make_hub("a"))
    await served.serve(listener)
    try:
        async with Flood(partial(asyncio.open_connection, *listener.getsockname())):
            for _ in range(FLOOD):  # turns of the event loop, in each of which some are taken
                await asyncio.sleep(0)
            return len(served._connections)
    finally:
        served.close()


@attack(TAKES_DESCRIPTORS, "connections to the port of the http carrier")
def test_a_flood_of_the_http_port_is_bounded() -> None:
    assert asyncio.run(held_by_the_port()) <= http_port.CONNECTIONS


@control("connections to the port of the http carrier")
def test_without_the_bound_the_http_port_holds_every_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    http_port_bound = http_port.CONNECTIONS
    monkeypatch.setattr(http_port, "CONNECTIONS", 1 << 30)
    assert asyncio.run(held_by_the_port()) > http_port_bound + HONEST
