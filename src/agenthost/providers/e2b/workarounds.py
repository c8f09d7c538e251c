"""What E2B's client (2.63) does that a caller has to work around. Each part names what it is for.

A newer client may make a part superfluous; without the part a test in tests/e2b fails.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - the vendor's handle of a program's input is a task of asyncio with its queue
import atexit
import functools
import importlib
import secrets
import shlex
import time
from collections.abc import Callable, Sequence
from typing import Any

from agenthost.errors import ProviderError

# Seconds at the end of the process in which threads of the client's transport (Rust) release Python objects.
# A thread that needs Python later aborts the process: 2 of 25 programs ended so, 0 of 81 with this pause.
_AT_EXIT = 0.1


@functools.cache
def import_client() -> Any:
    """Import the client, with a pause for its threads at the end of the process."""
    atexit.register(time.sleep, _AT_EXIT)
    return importlib.import_module("e2b")


class Opening:
    """Tell what a program prints from what E2B's login shell printed before.

    E2B runs every command by ``bash -l`` (infra, packages/envd: handler.go), so that profiles print into the
    output of the program.

    Attributes:
        command: The line for the shell.
    """

    def __init__(self, argv: Sequence[str]) -> None:
        self._mark = f"agenthost-{secrets.token_hex(8)}\n"
        # ``exec``: E2B kills by process id, which must be the program's and not a shell's.
        self.command = f"printf '\\n%s\\n' {self._mark.strip()}; exec {shlex.join(argv)}"
        self._before: str | None = ""

    def pass_on(self, text: str) -> str:
        """Return the part of the next output that the program printed."""
        if self._before is None:
            return text
        before, found, rest = (self._before + text).partition(f"\n{self._mark}")
        if found:
            self._before = None
            return rest
        self._before = before[-len(self._mark) :]  # the mark may have come in part
        return ""


class GatheringQueue(asyncio.Queue[Any]):
    """A queue that gives out all waiting bytes as one piece, and is full when so many wait.

    The queue of the client's ``stream_input`` has no bound, so that a slow program fills the host's memory,
    and each piece becomes a message of its own, however small.

    Args:
        most: Bytes that wait; one more piece may exceed this.
    """

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most
        self._others: list[Any] = []  # the client's own signs, which follow all bytes
        self._waiting = bytearray()

    def full(self) -> bool:
        """Return whether ``put`` has to wait."""
        return len(self._waiting) >= self._most

    def empty(self) -> bool:
        """Return whether ``get`` has to wait."""
        return self.qsize() == 0

    def qsize(self) -> int:
        """Return how many pieces would come out."""
        return bool(self._waiting) + len(self._others)

    def _put(self, item: Any) -> None:
        if isinstance(item, bytes | bytearray):
            self._waiting += item
        else:
            self._others.append(item)

    def _get(self) -> Any:
        if not self._waiting:
            return self._others.pop(0)
        data, self._waiting = bytes(self._waiting), bytearray()
        return data


class BoundedInput:
    """The client's handle of a program's input, with a bound, and with its task within reach.

    The client reports the end of the task only to the next ``send``, and offers no way to end a task whose
    server does not answer.

    Args:
        handle: What ``stream_input`` returned, before its task has begun.
        most: Bytes that wait to be sent.
        ended: Called when the task has ended.
    """

    def __init__(self, handle: Any, most: int, ended: Callable[[], object]) -> None:
        # The names are private: without a check a renamed one would lose every byte of input silently.
        if not isinstance(getattr(handle, "_queue", None), asyncio.Queue):
            raise ProviderError("this version of the e2b client keeps a program's input in another way")
        self.task: asyncio.Task[None] = handle._task  # noqa: SLF001 - there is no public way to the task
        self._queue = handle._queue = GatheringQueue(most)  # noqa: SLF001 - there is no public way to bound it
        self._ended = ended
        self.task.add_done_callback(self._on_end)

    async def put(self, data: bytes) -> None:
        """Queue bytes; wait while too many are queued."""
        await self._queue.put(data)

    def _on_end(self, task: asyncio.Task[None]) -> None:
        # Cancelled, the client raises an error of its own, which asyncio reports unless it is fetched.
        if not task.cancelled():
            task.exception()
        self._ended()
