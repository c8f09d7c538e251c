"""What a sandbox of Vercel can do beyond a start: a lease, and a link that names what helps."""

from __future__ import annotations

import math
import time
from contextlib import suppress

import anyio

from agenthost.adapter.cloud import CloudBackend
from agenthost.errors import ProviderError, SandboxNotFoundError, UnsupportedError
from agenthost.providers.vercel.client import VercelVendor
from agenthost.sandbox import Carrier

_HELLO = 10.0  # seconds until the program of a link has to print its first line
_LEAST = 1.0  # seconds; less is not worth a call
_TRIES = 3
_LOOK_AGAIN = 0.2  # seconds
_HINT = 'use provider option carrier="http", whose port is public and asks for a token of agenthost'


class VercelBackend(CloudBackend[VercelVendor]):
    """One sandbox of Vercel."""

    async def boot(self) -> None:
        """Wait until the sandbox runs, and start its guest. See CloudBackend."""
        with suppress(SandboxNotFoundError):  # said by the next call, with what it means
            await until_running(self.vendor, self.known.id)
        await super().boot()

    async def extend(self, seconds: float) -> None:
        """Move the end of the sandbox, at most to the end of its lifetime. See SupportsLease.

        Vercel adds to what there is: before each try the end is looked up, so that nothing is added twice.

        Raises:
            SandboxGoneError: The sandbox has ended.
        """
        doing = f"extending sandbox {self.known.name}"
        path = self.vendor.session_path(self.known.id, "extend-timeout")
        for attempt in range(_TRIES):
            info = await self.info()
            self.refuse_unless_running(info)
            missing = time.time() + min(seconds, self.lifetime_left()) - (info.expires_at or math.inf)
            if missing < _LEAST:
                return
            body = {"duration": math.ceil(missing * 1000)}
            try:
                async with self.vendor.calls.bounded(doing):
                    await self.vendor.api.ask("POST", path, body=body)
                return
            except SandboxNotFoundError:
                continue  # the next look says that it has ended
            except ProviderError as error:
                if error.outcome == "refused" or attempt == _TRIES - 1:
                    raise

    async def dial(self) -> Carrier:
        """Start a ``dial`` program and wait for its first line. See CloudBackend.

        Raises:
            UnsupportedError: Vercel passes no input to programs of this account.
        """
        if self.vendor.refuses_input:
            raise UnsupportedError(f"Vercel passes no input to programs of this account: {_HINT}")
        carrier = await super().dial()
        first = b""
        try:
            with anyio.move_on_after(_HELLO) as scope:
                first = await carrier.receive()
            if scope.cancelled_caught:
                self.refuse_unless_running(await self.info())
                raise ProviderError(
                    f"the program of the link printed nothing within {_HELLO:g} s. If this goes on, {_HINT}"
                )
        except BaseException:
            await carrier.aclose()
            raise
        return _Heard(carrier, first)


async def until_running(vendor: VercelVendor, sandbox_id: str) -> None:
    """Return when a new sandbox is no longer pending: until then it accepts no program."""
    while (await vendor.look_up(sandbox_id)).resources["status"] == "pending":  # noqa: ASYNC110 - it tells only who asks
        await anyio.sleep(_LOOK_AGAIN)


class _Heard:
    """A carrier whose first bytes were received already."""

    def __init__(self, carrier: Carrier, first: bytes) -> None:
        self.binary = carrier.binary
        self.send, self.aclose = carrier.send, carrier.aclose
        self._carrier, self._first = carrier, first

    async def receive(self) -> bytes:
        """Return these, then the next ones."""
        first, self._first = self._first, b""
        return first or await self._carrier.receive()
