"""A program in a sandbox of Vercel: input by offset, output as a followed log.

Output is text in which bytes that are not UTF-8 are replaced: only lines of ASCII pass. Every connection to
the log replays it from its beginning.
"""

from __future__ import annotations

from base64 import b64encode
from collections import Counter
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, aclosing, suppress
from typing import Any

import anyio

from agenthost.adapter.calls import Calls
from agenthost.adapter.rest import RestClient, RestError, json_lines
from agenthost.errors import ProviderError

_PIECE = 512 * 1024  # bytes of input in one call, whose body must stay below 1 MB in base64
_AGAIN = (429, 502, 503, 504)  # statuses with which input is refused that is sent again
_SENDING, _PAUSE = 30.0, 0.4  # seconds for input, and before it is sent again, doubled each time
_MOST_PAUSE = 20.0  # seconds that Vercel may ask to wait
_MOST_CUTS = 5  # of a log, before anything new came
_CLOSING = 4.0  # seconds that ending a program may take
_KEPT = 4000  # characters of stderr


class VercelCommand:
    """See Running. Call ``open`` first.

    Args:
        api: The account's calls.
        calls: Bounds and translates them.
        path: Of the program.
    """

    binary = False

    def __init__(self, api: RestClient, calls: Calls, path: str) -> None:
        self.stderr = b""
        self._api, self._calls, self._path = api, calls, path
        self._log = AsyncExitStack()
        self._events: AsyncGenerator[Mapping[str, Any]] | None = None
        self._seen = Counter[str]()  # characters of each stream that were delivered
        self._skip = Counter[str]()  # of these, what a replay repeats
        self._sent = 0  # bytes of input that the program has accepted
        self._cuts = 0  # of the log, in a row
        self._closed = False

    async def open(self) -> None:
        """Open the log of the program, which has started. Raises RestError, TransportError."""
        try:
            await self._follow()
        except BaseException:
            await self.aclose()
            raise

    async def send(self, data: bytes) -> None:
        """Send all bytes.

        Raises:
            anyio.BrokenResourceError: The program has ended, reads nothing, or is not reached. Its cause is
                what Vercel answered.
        """
        begin, pause = self._sent, _PAUSE
        with anyio.move_on_after(_SENDING):
            while not self._closed:
                if not (piece := data[self._sent - begin :][:_PIECE]):
                    return
                try:
                    # With an offset: what was accepted already is not written again.
                    body = {"data": b64encode(piece).decode(), "offset": self._sent}
                    answer = await self._api.ask("POST", f"{self._path}/stdin", body=body)
                    self._sent, pause = int(answer["bytesWritten"]), _PAUSE
                    continue
                except OSError:
                    wait = pause
                except RestError as error:
                    self._sent = max(self._sent, int(error.details.get("bytesWritten") or 0))
                    wait = error.retry_after or pause
                    if error.status_code not in _AGAIN or wait > _MOST_PAUSE:
                        raise anyio.BrokenResourceError from error
                await anyio.sleep(wait)
                pause *= 2
        raise anyio.BrokenResourceError

    async def receive(self) -> bytes:
        """Return the next bytes; ``b""`` at the end. OSError where the log was cut off."""
        while True:
            try:
                async for event in self._events or await self._follow():
                    if text := self._take(event):
                        self._cuts = 0
                        return text.encode("ascii", "replace")
                if self._sent or not await self._is_running():
                    return b""
            except (OSError, RestError) as error:
                # The log of a program that gets input is a carrier's: it only grows, and is never opened
                # again, since another program takes over.
                self._cuts += 1
                is_refused = getattr(error, "status_code", _AGAIN[0]) < _AGAIN[0]
                if self._sent or is_refused or self._cuts > _MOST_CUTS:
                    raise ConnectionResetError(f"the output was lost: {error}") from error
            await self._forget()
            await anyio.sleep(_PAUSE)

    async def wait(self) -> int:
        """Return the exit code."""
        async with self._calls.bounded("waiting for the end of a program"):
            code = (await self._api.ask("GET", self._path, query={"wait": "true"}))["command"]["exitCode"]
        if code is None:
            raise ProviderError("Vercel does not know the exit code of a program", outcome="unknown")
        return int(code)

    async def aclose(self) -> None:
        """End the program: it would run on when its log is closed. Idempotent."""
        if self._closed:
            return
        self._closed = True
        with anyio.move_on_after(_CLOSING, shield=True), suppress(OSError, RestError):
            await self._api.ask("POST", f"{self._path}/kill", body={"signal": 9})
        with anyio.move_on_after(_CLOSING, shield=True):
            await self._forget()

    async def _follow(self) -> AsyncGenerator[Mapping[str, Any]]:
        answer = await self._log.enter_async_context(self._api.stream("GET", f"{self._path}/logs"))
        self._events = events = await self._log.enter_async_context(aclosing(json_lines(answer.chunks)))
        return events

    def _take(self, event: Mapping[str, Any]) -> str:
        stream, data = event["stream"], event["data"]
        if stream == "error":
            raise ConnectionResetError(f"{data['code']}: {data['message']}")
        skipped = min(self._skip[stream], len(data))
        self._skip[stream] -= skipped
        self._seen[stream] += len(data) - skipped
        if stream == "stderr":
            self.stderr = (self.stderr + data[skipped:].encode())[-_KEPT:]
            return ""
        return str(data[skipped:])

    async def _is_running(self) -> bool:
        with suppress(OSError, RestError):
            return (await self._api.ask("GET", self._path))["command"]["exitCode"] is None
        return False

    async def _forget(self) -> None:
        self._events, self._skip = None, self._seen.copy()
        log, self._log = self._log, AsyncExitStack()
        with suppress(OSError):
            await log.aclose()
