"""One local sandbox, seen from a host."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

import anyio
import anyio.lowlevel

from agenthost.errors import SandboxGoneError, SandboxStartError
from agenthost.providers.local import state
from agenthost.providers.local.ending import end
from agenthost.providers.local.keeper.cgroups import oom_kills
from agenthost.providers.local.leases import boot_seconds, leased_for, write_keep, write_lease
from agenthost.providers.local.start import LastWords, Report
from agenthost.sandbox import Carrier, Isolation, SandboxInfo, SandboxState

# A guest that has ended is followed by its keeper, which has files to remove.
_WORDS_SECONDS = 10.0
_CLOCKS_AGREE = 1.0  # seconds that two clocks differ by while nobody sets one of them

Connect = Callable[[str], Awaitable[Carrier]]


class LocalBackend:
    """A sandbox with a keeper. Made by this process, or found by its state file."""

    def __init__(
        self, directory: str, record: state.Record, *, connect: Connect, report: Report | None = None
    ) -> None:
        self._directory = directory
        self._record = record
        self._connect = connect
        self._report = report

    @property
    def directory(self) -> str:
        """The sandbox's own directory on this machine."""
        return self._directory

    @property
    def listening(self) -> bool:
        """Whether it still hears from its keeper."""
        return self._report is not None

    async def boot(self) -> None:
        """The guest starts with the sandbox, and its socket is listening before: wait for nothing."""
        await anyio.lowlevel.checkpoint()

    async def dial(self) -> Carrier:
        """Connect to the guest.

        Raises:
            SandboxStartError: The isolation or the guest could not be started; with the end of its log.
            SandboxGoneError: The sandbox has ended.
        """
        try:
            # An address of a unix socket has 108 bytes. Through an open directory it is always short.
            handle = os.open(self._directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise await self._ended() from None
        try:
            return await self._connect(f"/proc/self/fd/{handle}/sock")
        except (FileNotFoundError, ConnectionRefusedError):
            raise await self._ended() from None
        finally:
            os.close(handle)

    async def info(self) -> SandboxInfo:
        """Tell from the state file whether it lives and what it got; ``resources["ended"]`` says why not.

        ``resources["oom_kills"]`` is the number of its processes that the kernel killed for want of memory.

        Raises:
            SandboxStartError: It could not be set up; with the end of its log.
        """
        await anyio.lowlevel.checkpoint()
        if state.is_alive(self._directory):
            info = to_info(self._record, "running")
            if kills := oom_kills(list(self._record.cgroups)):
                info = replace(info, resources={**info.resources, "oom_kills": str(kills)})
            leased = leased_for(self._directory)
            if leased is None or info.expires_at is None:
                return info
            return replace(info, expires_at=min(info.expires_at, time.time() + leased))
        ended = await self._ended()
        if isinstance(ended, SandboxStartError):
            raise ended
        info = to_info(self._record, "ended")
        return replace(info, resources={**info.resources, "ended": str(ended)})

    async def terminate(self) -> None:
        """End it: SIGTERM to the guest, two seconds later SIGKILL to all; then remove its files."""
        await end(self._directory)
        self.close()

    async def extend(self, seconds: float) -> None:
        """Lease the sandbox until so many seconds from now; its lifetime stays.

        One that was made without a lease has none to extend: this changes nothing.

        Raises:
            SandboxGoneError: It has ended.
        """
        await anyio.lowlevel.checkpoint()
        try:
            if leased_for(self._directory) is not None:
                write_lease(self._directory, seconds)
            elif not state.is_alive(self._directory):
                raise await self._ended()
        except FileNotFoundError:
            raise await self._ended() from None

    async def keep(self, seconds: float | None) -> None:
        """Have the keeper end it after ``keep_for``. See SupportsKeep."""
        try:
            write_keep(self._directory, seconds)
        except FileNotFoundError:
            raise await self._ended() from None

    async def last_words(self) -> LastWords | None:
        """Wait until the keeper has ended, and return what it says. None: killed, or not started by us."""
        return None if self._report is None else await self._report.last_words()

    def close(self) -> None:
        """Stop listening to the keeper. Ends nothing. Idempotent."""
        if self._report is not None:
            self._report.close()
        self._report = None

    async def _ended(self) -> SandboxGoneError | SandboxStartError:
        words = None
        if self._report is not None:
            with anyio.move_on_after(_WORDS_SECONDS):
                words = await self._report.last_words()
        name = self._record.name
        if words is None:
            return SandboxGoneError(f"sandbox {name} has ended")
        said = f"its log ends: {words.log.strip()}" if words.log.strip() else "it printed nothing"
        if not words.set_up:
            return SandboxStartError(
                f"sandbox {name} could not be set up (exit code {words.exit_code}); {said}"
            )
        reasons = {
            "lifetime": "its lifetime was over",
            "lease": "its lease was not renewed",
            "disk": (
                "its files took more than they may, {disk} in {inodes} files (SandboxSpec(limits="
                "ResourceLimits(disk_mib=..., inodes=...)))".format_map(self._record.resources)
            ),
            "keep": "no driver came within keep_for",
            "terminated": "it was terminated",
        }
        reason = reasons.get(words.why, f"its guest ended with exit code {words.exit_code}; {said}")
        if words.oom_kills:
            reason += (
                f". Its memory was used up, {self._record.resources.get('memory', '')}: the kernel killed "
                f"{words.oom_kills} of its processes. Give it more, SandboxSpec(limits=ResourceLimits("
                "memory_mib=...)), or let it do less at once"
            )
        return SandboxGoneError(f"sandbox {name} has ended: {reason}")


def _expires_at(record: state.Record) -> float:
    """Return the end on the wall clock: as it was written down, unless the clock has been set since."""
    if record.lives_until is None:
        return record.expires_at
    expires_at = time.time() + record.lives_until - boot_seconds()
    return expires_at if abs(expires_at - record.expires_at) > _CLOCKS_AGREE else record.expires_at


def to_info(record: state.Record, alive: SandboxState) -> SandboxInfo:
    """Return a state file's content as the public value."""
    isolation: Isolation = "namespaces" if record.isolation == "namespaces" else "none"
    return SandboxInfo(
        id=record.name,
        name=record.name,
        provider=record.provider,
        state=alive,
        labels=record.labels,
        created_at=record.created_at,
        expires_at=_expires_at(record),
        isolation=isolation,
        resources=record.resources,
    )
