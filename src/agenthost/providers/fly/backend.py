"""One sandbox at Fly: how its guest is reached, and its pauses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio

from agenthost.adapter.cloud import CloudBackend
from agenthost.errors import ProviderError, SandboxGoneError, SandboxNotFoundError, UnsupportedError
from agenthost.link.carriers.http import HttpDialer
from agenthost.providers.fly.api import Call
from agenthost.providers.fly.client import FlyVendor
from agenthost.providers.fly.machine import MOST_SUSPENDED, port_of
from agenthost.sandbox import Boot, Carrier, SandboxInfo
from agenthost.supports import Endpoint

if TYPE_CHECKING:
    from agenthost.providers.fly.provider import FlyProvider

_PULLING = 300.0  # seconds until a machine has started: its image may have to be pulled
_LOOK = 20  # seconds that Fly holds one call of ``wait``, 60 at most; then the state is looked up
_TURNING = 120.0  # seconds for a pause or its end


class FlyBackend(CloudBackend[FlyVendor]):
    """One sandbox of Fly."""

    def __init__(self, provider: FlyProvider, known: SandboxInfo, handle: Any, boot: Boot | None) -> None:
        super().__init__(provider, known, handle, boot)
        self._url = provider.url
        self._guest_dialer = HttpDialer(self._guest_port, guest_key=provider.guest_key(known))

    async def boot(self) -> None:
        """Wait until the machine has started, and start the guest in it. See CloudBackend.boot."""
        await self._wait("started", within=_PULLING)
        await super().boot()

    async def dial(self) -> Carrier:
        """Return a carrier through the sandbox's port. See Backend.

        Fly's proxy answers for itself while a new machine is not known everywhere: that is an OSError, too.
        """
        return await self._guest_dialer.dial()

    async def pause(self) -> None:
        """Suspend the machine, with its memory. See SupportsPause.

        Raises:
            UnsupportedError: The machine has more memory than Fly suspends well.
            SandboxGoneError: The sandbox has ended.
        """
        info = await self.info()
        if info.state == "paused":
            return
        if info.state == "ended":
            raise SandboxGoneError(f"sandbox {info.name} has ended")
        memory = int(info.resources["memory"].partition(" ")[0])
        if memory > MOST_SUSPENDED:
            raise UnsupportedError(
                f"sandbox {info.name} has {memory} MiB of memory: Fly suspends machines of {MOST_SUSPENDED} "
                "MiB at most"
            )
        await self._turn("suspend", "suspended")

    async def resume(self) -> None:
        """Let the machine run again. See SupportsPause.

        Fly may have lost its memory: its main program then ends it, and calls raise SandboxGoneError.
        """
        info = await self.info()
        if info.state == "running":
            return
        if info.state == "ended" or self.lifetime_left() < 1:
            raise SandboxGoneError(f"sandbox {info.name} has ended")
        await self._turn("start", "started")

    async def _turn(self, action: str, state: str) -> None:
        doing = f"asking Fly to {action} sandbox {self.known.name}"
        path = self.vendor.path(self.known.id, action)
        try:
            await self.vendor.api.once(doing, Call(f"{action} machine", "POST", path))
        except (ProviderError, SandboxNotFoundError) as error:
            if (await self.info()).state == "ended":
                raise SandboxGoneError(f"sandbox {self.known.name} has ended") from error
            if isinstance(error, ProviderError) and error.outcome == "refused":
                raise
        await self._wait(state, within=_TURNING)

    async def _wait(self, state: str, *, within: float) -> None:
        """Return when the machine has a state, ``started`` or ``suspended``.

        Raises:
            SandboxGoneError: The machine has ended.
            ProviderError: The machine does not have the state in time.
        """
        doing = f"waiting until sandbox {self.known.name} is {state}"
        query = {"state": state, "timeout": _LOOK}
        call = Call("wait machine", "GET", self.vendor.path(self.known.id, "wait"), query)
        with anyio.move_on_after(within):
            while True:
                try:
                    await self.vendor.api.once(doing, call)
                    return
                except (ProviderError, SandboxNotFoundError) as error:
                    if isinstance(error, ProviderError) and error.outcome == "refused":
                        raise
                # A machine that has ended would be waited for in vain.
                if (await self.info()).state == "ended":
                    raise SandboxGoneError(f"sandbox {self.known.name} has ended")
        raise ProviderError(f"{doing}: it was not within {within:g} s", outcome="unknown")

    async def _guest_port(self) -> Endpoint:
        if self._url is not None:
            # The other header of this kind, ``fly-prefer-instance-id``, leads to any machine of the app.
            return Endpoint(url=self._url, headers={"fly-force-instance-id": self.known.id})
        address = (await self.info()).resources["private_ip"]
        return Endpoint(url=f"http://[{address}]:{port_of(self.known.labels)}")
