"""Work in a thread that does not hold up the program's end.

anyio's own worker threads wait for more work and are not daemons: where a second and a third Ctrl-C broke the
event loop off, nobody tells them to end, and the interpreter waits for them for ever, before it has come to
what ends the sandboxes.
"""

from __future__ import annotations

import contextvars
import os
import threading
from collections.abc import Callable
from typing import TypeVar

import anyio

T = TypeVar("T")


async def in_thread(function: Callable[[], T], *, abandon: bool = False) -> T:
    """Return what a function returns that is called in a thread of its own. Raises what it raises.

    Args:
        function: Must be content with being cut off where the program ends without waiting for it.
        abandon: Being cancelled does not wait for it; it goes on, and nobody hears of its end.
    """
    result: list[T] = []
    failure: list[BaseException] = []
    context = contextvars.copy_context()
    read, write = os.pipe()

    def run() -> None:
        try:
            result.append(context.run(function))
        except BaseException as error:  # noqa: BLE001 - raised again by who waits
            failure.append(error)
        finally:
            os.close(write)  # makes the other end readable, whichever event loop waits for it

    try:
        try:
            threading.Thread(target=run, name=f"agenthost-{function!r:.60}", daemon=True).start()
        except RuntimeError:
            # There are too many already. What is done in threads also ends sandboxes and removes what is left
            # of them: better it holds up this one than it is not done.
            run()
        with anyio.CancelScope(shield=not abandon):
            await anyio.wait_readable(read)
    finally:
        os.close(read)
    if failure:
        try:
            raise failure[0]
        finally:
            failure.clear()  # else the error, its traceback and this frame hold each other
    return result[0]
