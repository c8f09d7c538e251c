"""What a sandbox of Modal can do beyond a start: snapshots and ports. Imports the vendor's client."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import modal

from agenthost.adapter.checks import check_port
from agenthost.adapter.cloud import CloudBackend
from agenthost.errors import ProviderError, SandboxNotFoundError, UnsupportedError
from agenthost.providers.modal.client import ModalVendor
from agenthost.supports import Endpoint

_SNAPSHOT = 300  # seconds that a snapshot may take
_KEPT = 30 * 24 * 3600  # seconds that Modal keeps a snapshot


class ModalBackend(CloudBackend[ModalVendor]):
    """One sandbox of Modal."""

    async def snapshot(self, name: str | None = None) -> str:
        """Return an image of all its files. See SupportsSnapshot. Modal keeps the image for 30 days.

        Raises:
            UnsupportedError: A name was given: Modal's snapshots have an id.
            SandboxGoneError: The sandbox has ended.
        """
        if name is not None:
            raise UnsupportedError(f"snapshot {name!r}: Modal's snapshots have no names, use the id")
        async with self._running() as sandbox:
            image = await self.vendor.calls.once(
                f"keeping the files of sandbox {self.known.id}",
                lambda: sandbox.snapshot_filesystem.aio(timeout=_SNAPSHOT, ttl=_KEPT),
                within=_SNAPSHOT,
            )
        return image.object_id

    async def endpoint(self, port: int) -> Endpoint:
        """Return where a port is reached with its token, which is made for this one port.

        See SupportsPorts. The token is Modal's header: a server behind it does not see ``authorization``.

        Raises:
            ConfigError: ``port`` is not a valid TCP port.
            SandboxGoneError: The sandbox has ended.
        """
        check_port(port)
        async with self._running() as sandbox:
            made = await self.vendor.calls.repeated(
                f"making a token for port {port} of sandbox {self.known.id}",
                lambda: sandbox.create_connect_token.aio(port=port),
            )
        return Endpoint(url=made.url.rstrip("/"), headers={"authorization": f"Bearer {made.token}"})

    @asynccontextmanager
    async def _running(self) -> AsyncGenerator[modal.Sandbox]:
        """Yield the handle; where a call fails because the sandbox has ended, raise SandboxGoneError."""
        try:
            yield await self.reached()
        except (ProviderError, SandboxNotFoundError) as error:
            self.refuse_unless_running(await self.info())
            raise ProviderError(str(error)) from error
