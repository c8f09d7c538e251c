"""What a sandbox of Daytona can do beyond a start: ports, one of which carries the link, and a lease."""

from __future__ import annotations

import shlex
from contextlib import suppress

from agenthost.adapter.bootstrap import dial_command
from agenthost.adapter.checks import check_port
from agenthost.adapter.cloud import CloudBackend
from agenthost.errors import AgentHostError, SandboxGoneError, SandboxNotFoundError
from agenthost.providers.daytona.client import DaytonaVendor, minutes
from agenthost.sandbox import Carrier
from agenthost.supports import Endpoint

TOKEN = "x-daytona-preview-token"
# The link's requests get no page with a warning, and leave the idle timer alone: a lease is moved by
# ``extend``, and not by a host that merely stays connected.
_OF_LINK = {"X-Daytona-Skip-Preview-Warning": "true", "X-Daytona-Skip-Last-Activity-Update": "true"}
_NO_GUEST = "the guest does not answer"  # printed by the ``dial`` program
_LOOKING = 10  # seconds
_MOST = 400  # bytes of what that program prints; an agent may have put another one in its place


class DaytonaBackend(CloudBackend[DaytonaVendor]):
    """One sandbox of Daytona."""

    async def dial(self) -> Carrier:
        """Dial the guest's port. See CloudBackend.

        Raises:
            SandboxGoneError: The sandbox has ended, or was started again without its guest.
        """
        try:
            return await super().dial()
        except OSError as error:
            if await self._has_no_guest():
                name = self.known.name
                raise SandboxGoneError(
                    f"the guest of sandbox {name} has ended, or its sandbox was restarted"
                ) from error
            raise

    async def endpoint(self, port: int) -> Endpoint:
        """Return where a port is reached, with a token that changes when the sandbox restarts.

        Raises:
            ConfigError: ``port`` is not a valid TCP port.
            SandboxGoneError: The sandbox has ended.
            SandboxPausedError: The sandbox is paused.
        """
        check_port(port)
        handle, doing = await self.reached(), f"looking up port {port}"
        try:
            link = await self.vendor.calls.repeat(doing, lambda: handle.get_preview_link(port))
        except SandboxNotFoundError as error:
            raise SandboxGoneError(f"sandbox {self.known.name} has ended") from error
        more = _OF_LINK if port == self._layout.port else {}
        return Endpoint(url=link.url, headers={TOKEN: link.token, **more})

    async def extend(self, seconds: float) -> None:
        """Move the end of the lease, in whole minutes, at most to the end of the lifetime. See SupportsLease.

        The lease is Daytona's auto-stop, which counts from the last activity.

        Raises:
            SandboxGoneError: The sandbox has ended.
            SandboxPausedError: The sandbox is paused.
        """
        if (left := self.lifetime_left()) <= 0:
            return  # the sandbox ends in this very moment
        handle, wanted = await self.reached(), minutes(min(seconds, left))

        async def move() -> None:
            if handle.auto_stop_interval != wanted:
                await handle.set_autostop_interval(wanted)
            await handle.refresh_activity()

        try:
            await self.vendor.calls.repeat(f"extending sandbox {self.known.name}", move)
        except SandboxNotFoundError as error:
            raise SandboxGoneError(f"sandbox {self.known.name} has ended") from error

    async def _has_no_guest(self) -> bool:
        with suppress(AgentHostError):
            handle, program = await self.reached(), shlex.join(dial_command(self._layout.boot_dir))
            async with self.vendor.calls.bounded("looking for the guest", within=_LOOKING):
                # Without `</dev/null` the program would take the rest of the shell's own script.
                command = f"{program} </dev/null 2>&1 | head -c {_MOST}"
                done = await handle.process.exec(command, timeout=_LOOKING // 2)
            return _NO_GUEST in done.result
        return False
