"""Every call to Modal: within a time of ours, with an error of ours."""

from __future__ import annotations

import asyncio  # noqa: TID251 - Modal's client is asyncio's, and so are the tasks that wait for it
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import anyio

from agenthost.providers.modal.errors import (
    THROTTLED,
    VENDOR_ERRORS,
    ModalLateError,
    ModalThrottledError,
    ModalUnclearError,
    translate,
)
from agenthost.providers.modal.throttling import throttled

T = TypeVar("T")
_LETTING_GO = 2.0  # seconds that a cancelled call may take to let go
_AGAIN = (0.2, 0.8)  # seconds before an idempotent call that failed is made again


async def bridged(call: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Return what a call returns; cancelled, cancel it once and wait until it has let go.

    anyio cancels again and again until a task gives in. Modal's client takes the second one for the word to
    leave everything as it is, and what its own thread comes to say then is heard by nobody.
    """
    task = asyncio.ensure_future(call())
    done = anyio.Event()
    task.add_done_callback(_look_at)  # it may fail in the moment in which this is cancelled
    task.add_done_callback(lambda _: done.set())
    try:
        await done.wait()
    finally:
        if not task.done():
            task.cancel()
            with anyio.move_on_after(_LETTING_GO, shield=True):
                await done.wait()
    return task.result()


def _look_at(task: asyncio.Task[Any]) -> None:
    """Take note of an error that nobody waits for any more: asyncio complains of those that nobody sees."""
    if not task.cancelled():
        task.exception()


class Caller:
    """Calls Modal.

    Args:
        secret: Of the credential; no error holds it.
    """

    def __init__(self, secret: str) -> None:
        self._secret = secret

    async def once(self, doing: str, within: float, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Return what a call returns.

        Args:
            doing: What is to be done, as it follows ``could not``.
            within: Seconds; the call is cancelled then.
            call: Makes what is awaited.

        Raises:
            ModalLateError: It took longer than ``within``.
            ModalError: Or what else the table of errors says.
        """
        before = throttled()
        with anyio.move_on_after(within) as scope:
            try:
                return await bridged(call)
            except VENDOR_ERRORS as error:
                failure = translate(error, doing, hide=self._secret)
                # The vendor's own may hold what ours must not.
                raise failure from (None if self._secret in str(error) else error)
        assert scope.cancelled_caught
        put_off = THROTTLED if throttled() > before else ""
        raise ModalLateError(f"Modal did not {doing} within {within:g} s{put_off}")

    async def repeatedly(self, doing: str, within: float, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Do the same for a call that may be made twice: it is made up to three times.

        Not where our own time was over, or Modal said when to ask again: its client has waited as it was
        told, or was told to wait for longer.
        """
        for delay in _AGAIN:
            try:
                return await self.once(doing, within, call)
            except ModalLateError:
                raise
            except ModalThrottledError as error:
                if error.says_when:
                    raise
            except ModalUnclearError:
                pass
            await anyio.sleep(delay)
        return await self.once(doing, within, call)
