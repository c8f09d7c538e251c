"""A program in a sandbox of Daytona: a command of a session, whose logs are asked for until it has ended.

A session keeps both streams apart and its command runs on when a client goes away. It has no end of input,
passes lines of text only, and its followed logs come from their beginning with each connection: the link
does not use it. It starts the guest, whose port carries the link. The last line of each stream is a mark with
the exit code: Daytona's own one may be known before the last lines of output are.
"""

from __future__ import annotations

import secrets
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Self

import anyio

from agenthost.adapter.calls import Calls
from agenthost.errors import AgentHostError, ProviderError

_FIRST_LOOK, _MOST_PAUSE = 0.05, 1.0  # seconds between two looks at the logs, doubled each time
_CLOSING = 8.0  # seconds; Daytona waits for 5 between SIGTERM and SIGKILL
_KEPT = 4000  # bytes of stderr


class SessionCommand:
    """See Running. Programs have no input. Call ``open`` first.

    Args:
        process: The vendor's calls about programs in one sandbox.
        calls: Bounds and translates them.
    """

    binary = False

    def __init__(self, process: Any, calls: Calls) -> None:
        self.stderr = b""
        self._process, self._calls = process, calls
        self._session = f"agenthost-{secrets.token_hex(8)}"
        self._mark = f"agenthost-end-{secrets.token_hex(8)}"
        self._command = ""
        self._seen = 0  # characters of stdout
        self._code: int | None = None
        self._closed = False

    async def open(self, kit: Any, argv: Sequence[str], env: Mapping[str, str]) -> Self:
        """Start the program and return this. ``kit`` is the vendor's package."""
        words = ["env", *(f"{name}={value}" for name, value in env.items()), *argv]
        # The session's shell reads this text itself: an `exit` in it would end that shell, and no exit code
        # would ever be known. Without an input of its own the program would take what the shell is to read.
        text = (
            f"( {shlex.join(words)} ) </dev/null; agenthost_code=$?; "
            f'echo "{self._mark} $agenthost_code"; echo {self._mark} >&2'
        )
        try:
            await self._process.create_session(self._session)
            asked = kit.SessionExecuteRequest(command=text, run_async=True, suppress_input_echo=True)
            self._command = (await self._process.execute_session_command(self._session, asked)).cmd_id
        except BaseException:
            await self.aclose()
            raise
        return self

    async def send(self, data: bytes) -> None:
        """Refuse input. Raises anyio.ClosedResourceError."""
        del data
        raise anyio.ClosedResourceError

    async def receive(self) -> bytes:
        """Return the next bytes; ``b""`` at the end. OSError where Daytona lost the output."""
        pause = _FIRST_LOOK
        while self._code is None:
            try:
                # A look does no harm: one that fails is repeated, as an installation takes hundreds of them.
                logs = await self._calls.repeat("reading the output of a program", self._look, within=20)
            except AgentHostError as error:
                raise ConnectionResetError(f"the output was lost: {error}") from error
            if (new := self._take(logs.stdout or "", logs.stderr or "")) or self._code is not None:
                return new
            await anyio.sleep(pause)
            pause = min(2 * pause, _MOST_PAUSE)
        return b""

    async def wait(self) -> int:
        """Return the exit code, once ``receive`` has returned ``b""``. Raises ProviderError."""
        if self._code is None:
            raise ProviderError("Daytona does not know the exit code of a program", outcome="unknown")
        return self._code

    async def aclose(self) -> None:
        """End the program with its session: it would run on. Idempotent."""
        if self._closed:
            return
        self._closed = True
        with anyio.move_on_after(_CLOSING, shield=True), suppress(AgentHostError):
            async with self._calls.bounded("ending a session", within=None):
                await self._process.delete_session(self._session)

    async def _look(self) -> Any:
        return await self._process.get_session_command_logs(self._session, self._command)

    def _take(self, stdout: str, stderr: str) -> bytes:
        # Only whole lines arrive: the mark stands behind the last one, or at the end of what is none.
        text, mark, rest = stdout.partition(f"{self._mark} ")
        last, has_ended, _ = stderr.partition(self._mark)
        self.stderr = last.encode()[-_KEPT:]
        if not mark:
            text = text[: text.rfind("\n") + 1]
        new, self._seen = text[self._seen :], max(self._seen, len(text))
        if "\n" in rest and has_ended:
            self._code = int(rest.split("\n")[0])
        return new.encode()
