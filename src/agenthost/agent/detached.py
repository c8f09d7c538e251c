"""A task that belongs to the event loop and not to a block.

ClaudeSDKClient may be connected in one task and disconnected in another, and ``query`` is iterated without
a block around it: neither leaves room for a task group in the caller's own task. So an agent's life has a
task of its own, and whoever opened the agent waits for that task's end when leaving. This is the one place
of the host that knows the event loops by name: anyio has no word for it.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - anyio has no task that belongs to the loop and not to a block
import contextvars
from collections.abc import Callable, Coroutine
from typing import Any

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
