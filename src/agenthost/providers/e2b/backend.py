"""What a sandbox of E2B can do beyond a start: a lease, pauses, snapshots and ports."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from agenthost.adapter.checks import check_port
from agenthost.adapter.cloud import CloudBackend
from agenthost.errors import ProviderError, SandboxGoneError, SandboxNotFoundError
from agenthost.providers.e2b.client import E2BVendor
from agenthost.providers.e2b.snapshot import snapshot
from agenthost.supports import Endpoint

if TYPE_CHECKING:
    from e2b import AsyncSandbox

TOKEN = "e2b-traffic-access-token"


class E2BBackend(CloudBackend[E2BVendor]):
    """One sandbox of E2B."""

    async def extend(self, seconds: float) -> None:
        """Move the end of the sandbox, at most to the end of its lifetime. See SupportsLease.

        Raises:
            SandboxGoneError: The sandbox has ended.
            SandboxPausedError: The sandbox is paused: it has no end that could be moved.
        """
        left = self.lifetime_left()
        wanted = math.floor(left) if left < seconds else math.ceil(seconds)
        if wanted < 1:
            return  # the sandbox ends in this very second

        async def move() -> None:
            async with self.vendor.calling(f"extending sandbox {self.known.name}") as e2b:
                await e2b.AsyncSandbox.set_timeout(self.known.id, wanted)

        try:
            # While a snapshot is taken E2B refuses this with 409 (infra, keep_alive.go).
            await self.vendor.calls.repeat(f"extending sandbox {self.known.name}", move, within=60)
        except SandboxNotFoundError as exc:
            raise await self._not_running(exc) from exc

    async def pause(self) -> None:
        """Pause the sandbox, with its memory. See SupportsPause."""
        try:
            async with self.vendor.calling(f"pausing sandbox {self.known.name}") as e2b:
                await e2b.AsyncSandbox.pause(self.known.id, mode="full")
        except SandboxNotFoundError as exc:
            raise SandboxGoneError(f"sandbox {self.known.name} has ended") from exc

    async def resume(self) -> None:
        """Let the sandbox run again, with its lease where it has one. See SupportsPause."""
        info = await self.info()
        if info.state == "running":
            return
        if info.state == "ended" or (left := math.floor(self.lifetime_left())) < 1:
            raise SandboxGoneError(f"sandbox {info.name} has ended")
        lease = self.lease()
        async with self.vendor.calling(f"resuming sandbox {info.name}") as e2b:
            self._handle = await e2b.AsyncSandbox.connect(
                info.id, timeout=left if lease is None else min(left, math.ceil(lease)), on_resume="restore"
            )

    async def snapshot(self, name: str | None = None) -> str:
        """Return a template of what is on the sandbox's disk. See SupportsSnapshot.

        The sandbox stands still meanwhile, and its programs go on then. E2B keeps the template until it is
        removed.

        Args:
            name: The template's, ``name`` or ``name:tag``; a template that has the name gets another build.

        Raises:
            ConfigError: E2B does not accept the name.
            UnsupportedError: E2B does not do this for the account.
            SandboxGoneError: The sandbox has ended.
            SandboxPausedError: The sandbox is paused.
        """
        doing = f"keeping the files of sandbox {self.known.name}"
        try:
            return await snapshot(self.vendor, self.known.id, doing, name)
        except SandboxNotFoundError as exc:
            raise await self._not_running(exc) from exc

    async def endpoint(self, port: int) -> Endpoint:
        """Return where a port is reached, also one that listens on loopback only. See SupportsPorts.

        Raises:
            ConfigError: ``port`` is not a valid TCP port.
            SandboxGoneError: The sandbox has ended.
            SandboxPausedError: The sandbox is paused.
        """
        check_port(port)
        return endpoint_of(await self.reached(), port)

    async def _not_running(self, error: SandboxNotFoundError) -> ProviderError:
        """Raise the error of a sandbox that does not run. E2B also answers 404 for paused sandboxes."""
        self.refuse_unless_running(await self.info())
        return ProviderError(str(error))  # resumed meanwhile


def endpoint_of(sandbox: AsyncSandbox, port: int) -> Endpoint:
    """Return where a port is reached, with what E2B's proxy wants."""
    headers: dict[str, str] = {}
    if isinstance(token := sandbox.traffic_access_token, str):  # there is none where ports are public
        headers[TOKEN] = token
    way = sandbox.envd_direct_url
    if way == f"https://{sandbox.get_host(sandbox.connection_config.envd_port)}":
        return Endpoint(url=f"https://{sandbox.get_host(port)}", headers=headers)
    # With ``sandbox_url`` names lead nowhere: the port is behind that address, named by the headers by which
    # the client's own calls find their sandbox.
    headers.update({"e2b-sandbox-id": sandbox.sandbox_id, "e2b-sandbox-port": str(port)})
    return Endpoint(url=way.rstrip("/"), headers=headers)
