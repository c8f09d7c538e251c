"""The program that starts a guest, by the Worker's ``exec``: a stream of events, without input.

Output is text, so that only ASCII passes. The Worker reports an exit code only with the record that its shell
prints at the end of a program: Cloudflare's own exit event may come while a program runs on.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, suppress
from typing import Any

import anyio

from agenthost.adapter.rest import RestClient, json_lines

_KEPT = 4000  # bytes of stderr
_CLOSING = 4.0  # seconds
# An installation may print nothing for minutes, and what is between would cut its stream: Cloudflare's inner
# server after 255 seconds.
_RUN = """
while sleep 20 >/dev/null 2>&1; do echo; done & beat=$!
"$@"; code=$?
kill $beat 2>/dev/null
exit $code
"""


class CloudflareProgram:
    """See Running. Call ``open`` first.

    Args:
        rest: The Worker.
        path: Of the ``exec`` of a sandbox.
        headers: By which the Worker recognises the container.
    """

    binary = False

    def __init__(self, rest: RestClient, path: str, headers: Mapping[str, str]) -> None:
        self.stderr = b""
        self._rest, self._path, self._headers = rest, path, headers
        self._exit_code: int | None = None
        self._stream = AsyncExitStack()
        self._events: AsyncGenerator[Mapping[str, Any]] | None = None

    async def open(self, argv: Sequence[str], env: Mapping[str, str], timeout: float) -> None:
        """Start the program.

        Args:
            argv: The program. Arguments are logged by Cloudflare.
            env: Added to its environment. May be secret.
            timeout: Seconds after which Cloudflare kills the program, whether this stream is open or not.

        Raises:
            RestError, TransportError: The program was not started, or it is not known whether.
        """
        body = {"argv": ["sh", "-c", _RUN, "sh", *argv], "env": dict(env), "timeout": timeout}
        answer = await self._stream.enter_async_context(
            self._rest.stream("POST", self._path, body=body, headers=self._headers)
        )
        self._events = await self._stream.enter_async_context(aclosing(json_lines(answer.chunks)))

    async def send(self, data: bytes) -> None:
        """Refuse: the program has no input."""
        del data
        raise anyio.ClosedResourceError

    async def receive(self) -> bytes:
        """Return the next bytes of stdout; ``b""`` at the end. OSError where the output was lost."""
        while self._exit_code is None:
            if self._events is None:
                raise ConnectionResetError("the output of the program was closed")
            event = await anext(self._events, None)
            if event is None or "error" in event:
                raise ConnectionResetError(f"the program was lost: {event and event['error']}")
            self.stderr = (self.stderr + b64decode(event.get("stderr", "")))[-_KEPT:]
            self._exit_code = event.get("exit")
            if data := b64decode(event.get("stdout", "")):
                return data
        return b""

    async def wait(self) -> int:
        """Return the exit code. Called when ``receive`` has returned ``b""``."""
        assert self._exit_code is not None
        return self._exit_code

    async def aclose(self) -> None:
        """Close the stream. The program would run on until its time is over; it starts a guest, and ends."""
        self._events = None
        with anyio.move_on_after(_CLOSING, shield=True), suppress(OSError):
            await self._stream.aclose()
