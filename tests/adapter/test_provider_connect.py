"""A provider that is opened by ``connect`` and closed by ``aclose``, in whichever task."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import pytest

from agenthost import SandboxSpec, open_provider
from agenthost.providers.local.local_unisolated import UnisolatedProvider

LIMIT = 60


class BodyError(Exception):
    """Raised by the block."""


class CloseError(Exception):
    """Raised while the provider closes."""


class FailsToClose(UnisolatedProvider):
    """A provider whose client cannot be closed."""

    async def close_clients(self) -> None:
        await super().close_clients()
        raise CloseError


async def in_a_task_of_its_own(step: Callable[[], Awaitable[object]]) -> None:
    async def run() -> None:
        await step()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)


async def test_a_provider_that_is_not_connected_says_how_it_is_opened() -> None:
    provider = open_provider("local-unisolated")
    async with open_provider("local-unisolated") as other:
        sandbox = await other.create(SandboxSpec())
        try:
            with pytest.raises(RuntimeError, match=r"not connected: use it as `async with`, or call connect"):
                await provider.get(sandbox.id)
        finally:
            await sandbox.terminate()


async def test_a_connect_that_is_cancelled_leaves_the_provider_closed() -> None:
    provider = open_provider("local-unisolated")
    with anyio.CancelScope() as scope:
        scope.cancel()
        await provider.connect()
    assert scope.cancelled_caught
    await provider.connect()
    await provider.aclose()


async def test_a_failed_close_does_not_replace_the_exception_of_the_block(
    caplog: pytest.LogCaptureFixture,
) -> None:
    error = BodyError()
    with pytest.raises(BodyError) as caught:
        async with FailsToClose():
            raise error
    assert caught.value is error
    assert "CloseError" in caplog.text


async def test_a_failed_close_is_raised_where_the_block_succeeded() -> None:
    with pytest.raises(CloseError):
        async with FailsToClose():
            pass


def test_a_provider_of_an_event_loop_that_has_ended_says_so_and_leaves_no_sandbox() -> None:
    provider = open_provider("local-unisolated")
    anyio.run(provider.connect)

    with pytest.raises(RuntimeError, match="the event loop in which this was opened has ended"):
        anyio.run(provider.create, SandboxSpec())

    anyio.run(provider.aclose)
