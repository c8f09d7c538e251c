"""Run a command's async part so that Ctrl-C, and a CI system's SIGTERM, leave nothing behind."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

T = TypeVar("T")

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StoppedError(Exception):
    """A signal ended the command, which has cleaned up.

    Attributes:
        signal: The signal's number.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}")
        self.signal = signum


def run_until_stopped(
    main: Callable[[], Awaitable[T]],
    *,
    ending: str = "the sandbox is being ended",
    on_interrupt: Callable[[], bool] | None = None,
) -> T:
    """Run an async function to its end, or until a signal asks to stop, and then until it has cleaned up.

    Args:
        main: What to run; it is cancelled to stop it.
        ending: What is told to happen then; nothing is told when it is empty.
        on_interrupt: Asked first when Ctrl-C is pressed: True means that it was taken care of, and that
            nothing is to be stopped.

    Raises:
        StoppedError: A signal came.
        Exception: What ``main`` raised, as it is.
    """
    return anyio.run(_watched, main, ending, on_interrupt)


async def _watched(
    main: Callable[[], Awaitable[T]], ending: str, on_interrupt: Callable[[], bool] | None
) -> T:
    # `nohup` and a shell's background jobs have some ignored, and mean it.
    watched = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    stopped_by: list[int] = []
    results: list[T] = []
    errors: list[Exception] = []
    async with anyio.create_task_group() as tasks:
        with anyio.open_signal_receiver(*watched) as signals, anyio.CancelScope() as working:

            async def watch() -> None:
                async for number in signals:
                    pressed = number == signal.SIGINT and not stopped_by
                    if pressed and on_interrupt is not None and on_interrupt():
                        continue
                    stopped_by.append(number)
                    working.cancel()
                    if ending:
                        again = "still stopping; this takes some seconds at most"
                        _say(again if len(stopped_by) > 1 else f"stopping: {ending}")

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
    with contextlib.suppress(OSError):  # the terminal may have gone, and be the reason
        print(f"\nagenthost: {text}", file=sys.stderr, flush=True)
