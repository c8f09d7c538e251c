"""One sandbox behind a Worker: where its guest is reached, and its lease."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import anyio

from agenthost.adapter.cloud import CloudBackend
from agenthost.adapter.record import NONCE_LABEL, PORT_LABEL
from agenthost.errors import ProviderError, SandboxGoneError, SandboxNotFoundError, UnsupportedError
from agenthost.providers.cloudflare.client import MAKING, CloudflareVendor, Container
from agenthost.sandbox import Boot, SandboxInfo
from agenthost.supports import Endpoint

if TYPE_CHECKING:
    from agenthost.providers.cloudflare.provider import CloudflareProvider

_LOOK_AGAIN = 0.2  # seconds


class CloudflareBackend(CloudBackend[CloudflareVendor]):
    """One sandbox of Cloudflare."""

    def __init__(
        self, provider: CloudflareProvider, known: SandboxInfo, handle: Any, boot: Boot | None
    ) -> None:
        super().__init__(provider, known, handle, boot)
        container, api = Container(known.id, known.labels[NONCE_LABEL]), self.vendor.api
        # The Worker takes its own key off a request to the guest.
        headers = {**api.authorization, **container.headers}
        self._guest = Endpoint(url=f"{api.url}{container.path}/guest", headers=headers)

    async def boot(self) -> None:
        """Wait until the container has started, and start the guest in it. See CloudBackend.boot."""
        await self.until_started()
        await super().boot()

    async def until_started(self) -> None:
        """Return when the container has started or has ended.

        It has started when a create is answered. A create whose answer was lost may still be under way.

        Raises:
            ProviderError: It has not started in time.
        """
        with anyio.move_on_after(MAKING) as scope:
            while (await self.info()).state == "starting":  # noqa: ASYNC110 - the Worker answers only when asked
                await anyio.sleep(_LOOK_AGAIN)
        if scope.cancelled_caught:
            raise ProviderError(
                f"the container of sandbox {self.known.name} has not started within {MAKING:g} s"
            )

    async def endpoint(self, port: int) -> Endpoint:
        """Return where the guest's own port is reached, through the Worker. See SupportsPorts.

        Raises:
            UnsupportedError: The port is another one: the Worker leads to the guest alone.
        """
        if self.known.labels.get(PORT_LABEL) != str(port):
            raise UnsupportedError(
                f"port {port} of sandbox {self.known.name}: the Worker leads to its guest alone"
            )
        return self._guest

    async def extend(self, seconds: float) -> None:
        """Move the end of the container, at most to the end of its lifetime. See SupportsLease.

        Raises:
            SandboxGoneError: The sandbox has ended.
        """
        if (left := self.lifetime_left()) <= 0:
            return  # the sandbox ends in this very moment, and the Worker refuses an end that is over
        ends_at = time.time() + min(seconds, left)
        path = f"/sandboxes/{self.known.id}/lifetime"
        doing = f"extending sandbox {self.known.name}"
        try:
            await self.vendor.api.ask(doing, "POST", path, body={"ends_at": ends_at})
        except SandboxNotFoundError as error:
            raise SandboxGoneError(f"sandbox {self.known.name} has ended") from error
