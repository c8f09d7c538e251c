"""What all emulators share: one clock, one API for faults, streams that can be cut, stalled and slow."""

from __future__ import annotations

import json
import math
import time
from collections.abc import AsyncIterator
from typing import Any

import anyio
import anyio.abc
import httpx
import pytest

from agenthost.background import BackgroundTasks
from agenthost.testing.emulators.base.boxes import Box, Boxes, page
from agenthost.testing.emulators.base.clock import Clock
from agenthost.testing.emulators.base.emulator import HttpEmulator
from agenthost.testing.emulators.base.faults import Fault, Faults
from agenthost.testing.emulators.base.rest import Answer, Asked, RestApi
from agenthost.testing.emulators.base.streams import Streams
from agenthost.testing.loopback import Exchange, LoopbackServer

LIMIT = 60


@pytest.fixture
async def tasks() -> AsyncIterator[BackgroundTasks]:
    async with BackgroundTasks() as running:
        yield running


def box_until(end_at: float, box_id: str = "one") -> Box:
    return Box(id=box_id, started_at=time.time(), end_at=end_at, machine=None)


@pytest.fixture
def expired() -> list[str]:
    return []


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def boxes(tasks: BackgroundTasks, clock: Clock, expired: list[str]) -> Boxes[Box]:
    async def expire(box: Box) -> None:
        expired.append(box.id)
        made.mark_ended(box, forget=True)

    made = Boxes[Box](tasks, clock, expire, list_lag=10)
    return made


async def test_a_box_expires_when_the_clock_is_moved_behind_its_end_and_not_before(
    boxes: Boxes[Box], clock: Clock, expired: list[str]
) -> None:
    soon, late = box_until(time.time() + 1000, "soon"), box_until(time.time() + 5000, "late")
    boxes.add(soon)
    boxes.add(late)
    clock.advance(1001)
    with anyio.fail_after(LIMIT):
        await soon.ended.wait()
    late.move_end(clock.now() + 9000)
    clock.advance(8000)
    await anyio.wait_all_tasks_blocked()
    assert expired == ["soon"]
    clock.advance(1001)
    with anyio.fail_after(LIMIT):
        await late.ended.wait()


async def test_a_paused_box_does_not_expire(boxes: Boxes[Box], clock: Clock, expired: list[str]) -> None:
    box = box_until(time.time() + 1000)
    box.state = "paused"
    boxes.add(box)
    clock.advance(10**6)
    await anyio.wait_all_tasks_blocked()
    assert expired == []
    boxes.mark_ended(box, forget=True)


def test_the_clock_does_not_go_back(clock: Clock) -> None:
    with pytest.raises(ValueError, match="does not go back"):
        clock.advance(-1)


async def test_a_list_that_lags_has_a_new_box_later(boxes: Boxes[Box], clock: Clock) -> None:
    boxes.add(box_until(time.time() + 1000))
    assert boxes.listed() == []
    clock.advance(10)
    assert [box.id for box in boxes.listed()] == ["one"]
    boxes.mark_ended(boxes.all["one"], forget=True)


def test_pages_have_all_and_the_last_one_no_token() -> None:
    boxes = [box_until(0, str(number)) for number in range(5)]
    found: list[str] = []
    token: str | None = None
    for _ in range(3):
        some, token = page(boxes, token, 2)
        found += [box.id for box in some]
    assert found == ["0", "1", "2", "3", "4"]
    assert token is None


async def test_a_fault_strikes_as_often_as_planned_and_then_the_next_one_does() -> None:
    faults = Faults()
    first = faults.refuse("Create", "RESOURCE_EXHAUSTED", times=2, retry_after=3)
    second = faults.lose_answer("Create")
    assert [await faults.strike("CreateOne") for _ in range(4)] == [first, first, second, None]
    assert await faults.strike("Delete") is None


async def test_a_call_that_comes_too_often_is_refused_with_the_time_to_come_again() -> None:
    faults = Faults()
    faults.limit("Create", 1, 0.001)
    assert await faults.strike("Create") is None
    assert await faults.strike("CreateAnother") is None
    refused = await faults.strike("Create")
    assert refused is not None
    assert (refused.http_status, refused.grpc_status) == (429, "RESOURCE_EXHAUSTED")
    assert 900 < float(refused.http_headers["retry-after"]) <= 1000


@pytest.mark.parametrize(("http", "grpc"), [(429, "RESOURCE_EXHAUSTED"), (503, "UNAVAILABLE")])
def test_a_status_has_one_meaning_on_both_wires(http: int, grpc: str) -> None:
    for status in (http, grpc):
        fault = Fault("x", status)
        assert (fault.http_status, fault.grpc_status) == (http, grpc)


async def test_a_call_that_is_held_goes_on_when_it_is_released(tasks: BackgroundTasks) -> None:
    faults = Faults()
    async with faults.hold("Create") as fault:
        tasks.start_soon(faults.strike, "Create")
        with anyio.fail_after(LIMIT):
            await fault.struck.wait()
    assert await faults.strike("Create") is None


async def test_open_streams_are_cut_and_counted(tasks: BackgroundTasks) -> None:
    streams, cut = Streams(), anyio.Event()

    async def stream(*, task_status: anyio.abc.TaskStatus[None]) -> None:
        with streams.opened():
            task_status.started()
            await anyio.sleep(math.inf)
        cut.set()

    await tasks.start(stream)
    assert streams.cut() == 1
    with anyio.fail_after(LIMIT):
        await cut.wait()
    assert streams.cut() == 0


async def test_streams_that_stall_go_on_with_flow(tasks: BackgroundTasks) -> None:
    streams, passed = Streams(), anyio.Event()

    async def send() -> None:
        await streams.passing(10)
        passed.set()

    streams.stall()
    tasks.start_soon(send)
    await anyio.wait_all_tasks_blocked()
    assert not passed.is_set()
    streams.flow()
    with anyio.fail_after(LIMIT):
        await passed.wait()


class Counting(HttpEmulator[Box]):
    """An emulator of one call, which counts."""

    def __init__(self) -> None:
        super().__init__()
        self.done = 0
        self._api = RestApi({"POST /things/{id}": self._make}, lambda _request: None)

    def is_control(self, exchange: Exchange) -> bool:
        del exchange
        return True

    async def route(self, exchange: Exchange, call: str) -> bool:
        del call
        return await self._api.answer(exchange)

    async def lose(self, sandbox_id: str) -> None:
        raise NotImplementedError

    async def _make(self, asked: Asked) -> Answer:
        size = asked.integer("size")
        self.done += 1
        return Answer(201, {"id": asked.parts[0], "size": size})


@pytest.fixture
async def served() -> AsyncIterator[tuple[Counting, httpx.AsyncClient]]:
    emulator = Counting()
    async with (
        LoopbackServer(emulator.handle) as server,
        httpx.AsyncClient(base_url=server.url, trust_env=False) as client,
    ):
        yield emulator, client


async def test_a_call_is_answered_by_its_route_and_a_wrong_field_is_a_400(
    served: tuple[Counting, httpx.AsyncClient],
) -> None:
    emulator, client = served
    answer = await client.post("/things/a%2Fb", json={"size": 3})
    assert (answer.status_code, answer.json()) == (201, {"id": "a/b", "size": 3})
    assert (await client.post("/things/x", json={"size": "3"})).status_code == 400
    assert (await client.post("/things/x", content=b"{")).status_code == 400
    assert (await client.post("/others", json={})).status_code == 501
    assert emulator.unknown == ["POST /others"]


@pytest.mark.parametrize(
    ("fault", "status", "done"),
    [
        (Fault("POST /things", 429, retry_after=2), 429, 0),
        (Fault("POST /things", "UNAVAILABLE", after=True), 503, 1),
        (Fault("POST /things", lose=True), None, 1),
        (Fault("POST /things", drop=True), None, 0),
        (Fault("POST /things", delay=0.01), 201, 1),
    ],
    ids=["status", "after", "lose", "drop", "delay"],
)
async def test_each_kind_of_fault_is_seen_by_the_client(
    served: tuple[Counting, httpx.AsyncClient], fault: Fault, status: int | None, done: int
) -> None:
    emulator, client = served
    emulator.faults.add(fault)
    told: dict[str, Any] = {}
    try:
        answer = await client.post("/things/x", json={"size": 1})
        told = {"status": answer.status_code, "again": answer.headers.get("retry-after")}
        json.loads(answer.content)
    except httpx.RemoteProtocolError:
        told = {"status": None, "again": None}
    assert told == {"status": status, "again": "2" if status == 429 else None}
    assert emulator.done == done
    assert (await client.post("/things/x", json={"size": 1})).status_code == 201
