"""Run a command's async part so that Ctrl-C, and a CI system's SIGTERM, leave nothing behind."""

from __future__ import annotations

import signal
import sys
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

T = TypeVar("T")

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StoppedError(Exception):
    """A signal ended the command; what it had made is gone.

    Attributes:
        signal: The signal's number.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}")
        self.signal = signum


def run_until_stopped(main: Callable[[], Awaitable[T]]) -> T:
    """Run an async function to its end, or until a signal asks to stop, and then until it has cleaned up.

    Raises:
        StoppedError: A signal came.
        Exception: What ``main`` raised, as it is.
    """
    return anyio.run(_watched, main)


async def _watched(main: Callable[[], Awaitable[T]]) -> T:
    # `nohup` and a shell's background jobs have some ignored, and mean it.
    watched = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    stopped_by: list[int] = []
    results: list[T] = []
    errors: list[Exception] = []
    async with anyio.create_task_group() as tasks:
        with anyio.open_signal_receiver(*watched) as signals, anyio.CancelScope() as working:

            async def watch() -> None:
                async for number in signals:
                    stopped_by.append(number)
                    if len(stopped_by) > 1:
                        _say("still ending the sandbox; this takes some seconds at most")
                    else:
                        _say("stopping: the sandbox is being ended")
                        working.cancel()

            tasks.start_soon(watch)
            try:
                results.append(await main())
            except Exception as error:  # noqa: BLE001 - raised below, outside of the group that would wrap it
                errors.append(error)
        tasks.cancel_scope.cancel()
    if stopped_by:
        raise StoppedError(stopped_by[0]) from (errors[0] if errors else None)
    if errors:
        raise errors[0]
    return results[0]


def _say(text: str) -> None:
    print(f"\nagenthost: {text}", file=sys.stderr, flush=True)
