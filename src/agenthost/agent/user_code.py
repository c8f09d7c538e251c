"""Functions of the user: whatever one raises is an ordinary exception to the agent that called it."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

import anyio

from agenthost.background import is_cancelled

T = TypeVar("T")


class CallbackError(Exception):
    """A function of the user was cancelled by somebody else, or raised a group that is not an Exception.

    The text is that of the original exception, which is the cause.
    """


async def of_user(work: Awaitable[T]) -> T:
    """Await what a function of the user returned, and turn what is not an Exception into a CallbackError.

    A CancelledError is one when nobody has cancelled this task: an awaited future was cancelled elsewhere, as
    when a browser leaves. A cancellation of this task stays one, and so do KeyboardInterrupt and SystemExit.

    Raises:
        CallbackError: See above.
        Exception: What the function raised.
    """
    try:
        return await work
    except anyio.get_cancelled_exc_class() as error:
        if is_cancelled():
            raise
        raise CallbackError(str(error) or f"{type(error).__name__}, raised in the function itself") from error
    except BaseExceptionGroup as error:
        if isinstance(error, Exception) or is_cancelled():
            raise
        if error.subgroup((KeyboardInterrupt, SystemExit)) is not None:
            raise
        raise CallbackError(str(error)) from error
