"""Cancelling an operation at each of its await points in turn."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from typing import Any, TypeVar

import anyio
import anyio.lowlevel

T = TypeVar("T")


class _Steps(Awaitable[T]):
    """Runs a coroutine and cancels a scope when it waits for the n-th time."""

    def __init__(self, inner: Awaitable[T], scope: anyio.CancelScope, waits: int) -> None:
        self._inner = inner
        self._scope = scope
        self._waits = waits

    def __await__(self) -> Generator[Any, Any, T]:
        iterator = self._inner.__await__()
        step: Callable[[], Any] = lambda: next(iterator)  # noqa: E731 - replaced below
        while True:
            try:
                asked = step()
            except StopIteration as end:
                return end.value
            self._waits -= 1
            if self._waits == 0:
                self._scope.cancel()
            try:
                value = yield asked
            except BaseException as exc:  # noqa: BLE001 - handed on to where it belongs
                thrown = exc
                step = lambda: _throw(iterator, thrown)  # noqa: B023, E731 - used before the next turn
            else:
                step = lambda: _send(iterator, value)  # noqa: B023, E731 - used before the next turn


def _throw(iterator: Any, exc: BaseException) -> Any:
    return iterator.throw(exc)


def _send(iterator: Any, value: Any) -> Any:
    return next(iterator) if value is None else iterator.send(value)


async def cancelled_at(waits: int, operation: Callable[[], Awaitable[object]]) -> bool:
    """Run an operation and cancel it when it waits for the n-th time. False: it ended before that."""
    with anyio.CancelScope() as scope:
        await _Steps(operation(), scope, waits)
    return scope.cancel_called


async def cancelled_after(turns: int, operation: Callable[[], Awaitable[object]]) -> bool:
    """Run an operation and cancel it from another task, turns of the loop later. False: it ended before."""
    async with anyio.create_task_group() as tasks:

        async def run() -> None:
            await operation()
            tasks.cancel_scope.cancel()

        tasks.start_soon(run)
        for _ in range(turns):
            await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
        return True
    return False


async def at_every_await(operation: Callable[[], Awaitable[object]]) -> int:
    """Cancel an operation at each of its awaits, and in between; return how many awaits there were."""
    waits = 1
    while await cancelled_at(waits, operation):
        waits += 1
    turns, more = 1, 1
    while await cancelled_after(turns, operation):
        turns, more = turns + more, turns
    return waits - 1
