"""Appends reach the session store in order, and whoever waits for them is told."""

from __future__ import annotations

from typing import Any

import anyio

from agenthost.agent.store import Append, StoreWriter

LIMIT = 10
KEY = {"project_key": "p", "session_id": "s"}


class Store:
    """Takes a batch whenever the test says so."""

    def __init__(self) -> None:
        self.got: list[Any] = []
        self.gate = anyio.Semaphore(0)

    async def append(self, _key: Any, entries: list[Any]) -> None:
        await self.gate.acquire()
        self.got.extend(entries)


def batch(number: int) -> Append:
    return Append(number, KEY, [number], 10)


async def test_whoever_waits_hears_of_batches_that_came_meanwhile() -> None:
    store = Store()
    writer = StoreWriter(store)
    settled = anyio.Event()

    async def wait() -> None:
        await writer.settle()
        settled.set()

    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(writer.run)
            writer.append(batch(1))
            tasks.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            writer.append(batch(2))
            await anyio.wait_all_tasks_blocked()
            store.gate.release()
            store.gate.release()
            await settled.wait()
            assert store.got == [1, 2]
            tasks.cancel_scope.cancel()


async def test_a_batch_that_is_not_written_in_time_is_told_to_its_reader() -> None:
    writer = StoreWriter(Store())
    first, second = batch(1), batch(2)
    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(writer.run)
            writer.append(first)
            writer.append(second)
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
        await second.done.wait()
    assert first.error is not None
    assert second.error is not None
