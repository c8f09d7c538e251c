"""Every adapter is opened and closed in any order, and leaves what runs alone. See test_every_adapter."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import anyio
import pytest
from providers.row import Row, World, every
from providers.rows import ROWS, USUAL

from agenthost.adapter.provider import GuestProvider
from agenthost.errors import (
    ConfigError,
    LinkError,
    SandboxNotFoundError,
)
from agenthost.link.client import GuestSandbox
from agenthost.spec import SandboxSpec

LIMIT = 120  # seconds for what has to happen; nothing waits that long


async def in_a_task_of_its_own(step: Callable[[], Awaitable[object]]) -> None:
    async def run() -> None:
        await step()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)


async def end(row: Row, world: World, box: GuestSandbox) -> None:
    async with row.make(**world.options) as other:
        await (await other.get(box.id)).terminate()
    assert await world.running() == []


@every(ROWS, normal=USUAL)
async def test_it_is_opened_and_closed_in_any_task_and_its_sandboxes_run_on(row: Row, world: World) -> None:
    provider = row.make(**world.options)
    with anyio.fail_after(LIMIT):
        await in_a_task_of_its_own(provider.connect)
        box = await provider.create(SandboxSpec())
        try:
            assert (await box.exec(["echo", "here"])).stdout == b"here\n"
            await in_a_task_of_its_own(provider.aclose)
            with pytest.raises(LinkError):
                await box.exec(["true"])
        finally:
            await end(row, world, box)


@every(ROWS)
async def test_it_is_opened_again_after_a_close_and_closed_as_often_as_one_likes(
    row: Row, world: World
) -> None:
    provider = row.make(**world.options)
    await provider.aclose()
    for _ in range(2):
        assert await provider.connect() is provider
        with pytest.raises(ConfigError, match=f"this {row.name} provider is connected already"):
            await provider.connect()
        assert [info async for info in provider.list()] == []
        await provider.aclose()
        await provider.aclose()


@every(ROWS, normal=USUAL)
async def test_a_closed_provider_makes_and_reaches_nothing_without_any_call(row: Row, world: World) -> None:
    provider = row.make(**world.options)
    await provider.connect()
    box = await provider.create(SandboxSpec())
    try:
        await provider.aclose()
        before = len(world.calls)
        for step in (partial(provider.create, SandboxSpec()), partial(provider.get, box.id)):
            with pytest.raises(RuntimeError, match=f"the {row.name} provider is not connected"):
                await step()
        assert len(world.calls) == before
        assert len(await world.running()) == 1
    finally:
        await end(row, world, box)


@every(ROWS, normal=USUAL)
async def test_terminating_twice_is_no_error_and_an_ended_sandbox_is_not_found(
    world: World, provider: GuestProvider
) -> None:
    box = await provider.create(SandboxSpec())
    await box.terminate()
    await box.terminate()
    assert await world.running() == []
    assert [info async for info in provider.list()] == []
    with pytest.raises(SandboxNotFoundError):
        await provider.get(box.id)
