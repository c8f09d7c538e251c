"""A context manager of others is entered and left in one task, whichever tasks ask for that."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
import pytest

from agenthost.background import HeldBlock


class OpenError(Exception):
    """Raised by what is entered."""


class LeaveError(Exception):
    """Raised by what is left."""


@asynccontextmanager
async def task_group(events: list[str]) -> AsyncGenerator[str]:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anyio.sleep_forever)
        try:
            yield "value"
        finally:
            events.append("left")
            tasks.cancel_scope.cancel()


async def test_a_task_group_is_left_in_another_task_and_in_another_scope() -> None:
    events: list[str] = []
    block = HeldBlock(task_group(events))

    async def leave() -> None:
        await block.aclose()

    with anyio.fail_after(5):
        assert await block.open() == "value"
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(leave)
    assert events == ["left"]


async def test_what_entering_raises_arrives_as_it_is() -> None:
    error = OpenError()

    @asynccontextmanager
    async def broken() -> AsyncGenerator[None]:
        raise error
        yield

    with pytest.raises(OpenError) as caught:
        await HeldBlock(broken()).open()
    assert caught.value is error


async def test_what_leaving_raises_arrives_as_it_is() -> None:
    error = LeaveError()

    @asynccontextmanager
    async def broken() -> AsyncGenerator[None]:
        yield
        raise error

    block = HeldBlock(broken())
    await block.open()
    with pytest.raises(LeaveError) as caught:
        await block.aclose()
    assert caught.value is error


async def test_entering_that_is_cancelled_ends_before_the_caller_goes_on() -> None:
    events: list[str] = []

    @asynccontextmanager
    async def slow() -> AsyncGenerator[None]:
        scope.cancel()
        try:
            await anyio.sleep_forever()
        finally:
            events.append("ended")
        yield

    with anyio.CancelScope() as scope:
        await HeldBlock(slow()).open()
    assert scope.cancelled_caught
    assert events == ["ended"]


async def test_leaving_that_is_cancelled_is_cut_short() -> None:
    events: list[str] = []

    @asynccontextmanager
    async def slow() -> AsyncGenerator[None]:
        try:
            yield
        finally:
            scope.cancel()
            try:
                await anyio.sleep_forever()
            finally:
                events.append("ended")

    block = HeldBlock(slow())
    await block.open()
    with anyio.CancelScope() as scope:
        await block.aclose()
    assert scope.cancelled_caught
    assert events == ["ended"]
