"""What a sandbox of Vercel can do beyond a start: a lease, and a link that names what helps."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import suppress

import anyio

from agenthost.adapter.cloud import CloudBackend
from agenthost.errors import ConfigError, ProviderError, SandboxNotFoundError, UnsupportedError
from agenthost.providers.vercel.client import VercelVendor
from agenthost.sandbox import Carrier
from agenthost.supports import Endpoint

_HELLO = 10.0  # seconds until the program of a link has to print its first line
_LEAST = 1.0  # seconds; less is not worth a call
_TRIES = 3
_LOOK_AGAIN = 0.2  # seconds
_NO_INPUT = (400, 404)  # statuses with which Vercel refuses input that it does not pass, or not any more
_CERTAIN = 2  # one refusal may be that of a program which has just ended
_HINT = 'use provider option carrier="http", whose port is public and asks for a token of agenthost'


class VercelBackend(CloudBackend[VercelVendor]):
    """One sandbox of Vercel."""

    _refusals = 0  # carriers in a row of which Vercel has passed no input

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

    async def endpoint(self, port: int) -> Endpoint:
        """Return where the guest's own port is reached; Vercel has no other. See SupportsPorts.

        Raises:
            ConfigError: The port was not declared when the sandbox was made.
            SandboxGoneError: The sandbox has ended.
        """
        self.refuse_unless_running(await self.info())
        doing, path = f"looking up port {port}", self.vendor.session_path(self.known.id, "")
        for route in (await self.vendor.ask(doing, "GET", path.rstrip("/")))["routes"]:
            if route["port"] == port:
                return Endpoint(url=route["url"], headers={})
        raise ConfigError(f"port {port} of sandbox {self.known.name} was not declared when it was made")

    async def dial(self) -> Carrier:
        """Start a ``dial`` program and wait for its first line, or dial the port. See CloudBackend.

        Raises:
            UnsupportedError: Vercel passes no input to programs of this account.
        """
        if self._refusals >= _CERTAIN:
            raise UnsupportedError(f"Vercel passes no input to programs of this account: {_HINT}")
        carrier = await super().dial()
        if carrier.binary:  # a port's
            return carrier
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
        return _Heard(carrier, first, self._learn)

    def _learn(self, *, is_passed: bool) -> None:
        self._refusals = 0 if is_passed else self._refusals + 1


async def until_running(vendor: VercelVendor, sandbox_id: str) -> None:
    """Return when a new sandbox is no longer pending: until then it accepts no program."""
    while (await vendor.look_up(sandbox_id)).resources["status"] == "pending":  # noqa: ASYNC110 - it tells only who asks
        await anyio.sleep(_LOOK_AGAIN)


class _Heard:
    """A carrier whose first bytes were received already, and whose first input is watched.

    Args:
        carrier: The carrier.
        first: These bytes.
        learn: Called when it is known whether Vercel passes input.
    """

    def __init__(self, carrier: Carrier, first: bytes, learn: Callable[..., None]) -> None:
        self.binary, self.aclose = carrier.binary, carrier.aclose
        self._carrier, self._first, self._learn = carrier, first, learn
        self._is_known = False

    async def send(self, data: bytes) -> None:
        """Send all bytes."""
        try:
            await self._carrier.send(data)
        except anyio.BrokenResourceError as error:
            if getattr(error.__cause__, "status_code", None) in _NO_INPUT:
                self._tell(is_passed=False)
            raise
        self._tell(is_passed=True)

    async def receive(self) -> bytes:
        """Return these, then the next ones."""
        first, self._first = self._first, b""
        data = first or await self._carrier.receive()
        if not data:  # its program found its input ended before there was any
            self._tell(is_passed=False)
        return data

    def _tell(self, *, is_passed: bool) -> None:
        if not self._is_known:
            self._is_known = True
            self._learn(is_passed=is_passed)
