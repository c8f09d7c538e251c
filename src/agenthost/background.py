"""Tasks that belong to the event loop and not to a block of the caller.

A task group must be left in the task that entered it. A fixture of a test framework, a web framework's
lifespan and a notebook cell enter in one task and leave in another, and ``query`` is iterated without a
block around it. What they open keeps its tasks here instead. This is the only module of the host that knows
the event loops by name: anyio has no word for such a task.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - anyio has no task that belongs to the loop and not to a block
import contextvars
import logging
import math
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any, Generic, Self, TypeVar, cast

import anyio
import anyio.abc

T = TypeVar("T")

_log = logging.getLogger("agenthost")

_running: set[asyncio.Task[None]] = set()  # asyncio itself holds its tasks only weakly


def start_detached(function: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run ``function`` in a task of its own. It must raise nothing."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        import trio

        trio.lowlevel.spawn_system_task(function, context=contextvars.copy_context())
    else:
        task = loop.create_task(function())
        _running.add(task)
        task.add_done_callback(_running.discard)


def is_cancelled() -> bool:
    """Return whether this task has been asked to end, by a cancel scope or by asyncio itself."""
    if anyio.current_effective_deadline() == -math.inf:
        return True
    try:
        task = asyncio.current_task()
    except RuntimeError:
        return False  # trio has cancel scopes alone
    return task is not None and task.cancelling() > 0


async def close_behind(block_error: BaseException | None, aclose: Callable[[], Awaitable[None]]) -> None:
    """Close what a block held, without replacing the exception of the block.

    Args:
        block_error: The exception of the block. An Exception of ``aclose`` is then logged, not raised.
        aclose: Closes.
    """
    try:
        await aclose()
    except Exception:
        if block_error is None:
            raise
        _log.exception("closing failed, after a block that failed, too")


class BackgroundTasks:
    """A task group that may be closed in another task than the one that opened it.

    Use it as ``async with``, or call ``open`` and ``aclose``. Leaving cancels its tasks and returns when all
    have ended, also when the caller is cancelled meanwhile. When a task raises, the others are cancelled; the
    error is raised by ``aclose``. An exception of the block is never wrapped in a group.
    """

    def __init__(self) -> None:
        self._group: anyio.abc.TaskGroup | None = None
        self._leave: anyio.Event | None = None
        self._error: BaseException | None = None
        self._lost = False  # the event loop has ended first

    async def open(self) -> Self:
        """Open it. RuntimeError when it was opened before."""
        if self._leave is not None:
            raise RuntimeError("these tasks have been opened already")
        self._opened, self._leave, self._ended = anyio.Event(), anyio.Event(), anyio.Event()
        start_detached(self._run)
        try:
            await self._opened.wait()
        except BaseException:
            await self.aclose()
            raise
        return self

    def start_soon(self, function: Callable[..., Coroutine[Any, Any, Any]], *args: object) -> None:
        """Start a task. Raises RuntimeError when this is not open."""
        self._open_group().start_soon(function, *args)

    async def start(self, function: Callable[..., Coroutine[Any, Any, Any]], *args: object) -> Any:
        """Start a task and return what it reports as started; see ``TaskGroup.start``."""
        return await self._open_group().start(function, *args)

    async def aclose(self) -> None:
        """Cancel the tasks and wait for their end. Raises what one of them raised. Idempotent."""
        if self._leave is None:
            return
        self._leave.set()
        raised: BaseException | None = None
        with anyio.CancelScope(shield=True):
            while not self._ended.is_set():
                try:
                    await self._ended.wait()
                except anyio.get_cancelled_exc_class() as cancelled:
                    raised = cancelled  # asyncio's own cancel() knows no shield; it is obeyed afterwards
        raised, self._error = raised or self._error, None
        if raised is not None:
            raise raised

    async def __aenter__(self) -> Self:
        """Open."""
        return await self.open()

    async def __aexit__(self, exc_type: object, exc: BaseException | None, trace: object) -> None:
        """Close. An error of a task is logged where the block itself raised."""
        await close_behind(exc, self.aclose)

    def _open_group(self) -> anyio.abc.TaskGroup:
        if self._lost:
            raise RuntimeError("the event loop in which this was opened has ended: open another in this loop")
        if self._group is None or self._leave is None or self._leave.is_set():
            raise RuntimeError("these tasks are not open")
        return self._group

    async def _run(self) -> None:
        assert self._leave is not None
        try:
            async with anyio.create_task_group() as group:
                self._group = group
                self._opened.set()
                await self._leave.wait()
                group.cancel_scope.cancel()
        except anyio.get_cancelled_exc_class():
            self._lost = True
            raise
        except BaseException as error:  # noqa: BLE001 - raised again by ``aclose``: also a test's failure
            self._error = _only(error)
        finally:
            self._opened.set()
            self._leave.set()
            self._ended.set()


class HeldBlock(Generic[T]):
    """A context manager that is entered and left in one task of its own.

    For a context manager that others have written and that may hold a task group or a cancel scope. ``open``
    and ``aclose`` may be called in any task, and in any scope.
    """

    def __init__(self, context: AbstractAsyncContextManager[T]) -> None:
        self._context = context
        self._tasks = BackgroundTasks()
        self._leave = anyio.Event()
        self._left = anyio.Event()

    async def open(self) -> T:
        """Enter and return what the context manager returns. Raises what entering raises."""
        await self._tasks.open()
        try:
            value: T = await self._tasks.start(self._hold)
        except BaseException:
            await self._tasks.aclose()
            raise
        return value

    async def aclose(self) -> None:
        """Leave and wait for that. Being cancelled cancels the leaving. Raises what leaving raises."""
        self._leave.set()
        try:
            await self._left.wait()
        finally:
            await self._tasks.aclose()

    async def _hold(self, *, task_status: anyio.abc.TaskStatus[T]) -> None:
        try:
            async with self._context as value:
                task_status.started(value)
                await self._leave.wait()
        finally:
            self._left.set()


def _only(error: BaseException) -> BaseException:
    """Return the exception in a group of one."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    inside = cast("BaseExceptionGroup[BaseException]", error).exceptions
    return _only(inside[0]) if len(inside) == 1 else cast("BaseException", error)
