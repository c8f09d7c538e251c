"""The machines behind every emulator: sandboxes of the ``local`` provider, each with a root of its own.

An emulator only translates its provider's wire onto them. They live in a state directory of their own, so
that nothing which lists or reaps local sandboxes sees them.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Self

import anyio
import anyio.abc

from agenthost.background import BackgroundTasks
from agenthost.errors import AgentHostError
from agenthost.link.client import GuestSandbox
from agenthost.providers.local.bwrap import Account
from agenthost.providers.local.provider import LocalProvider
from agenthost.sandbox import Process
from agenthost.spec import NetworkPolicy, SandboxSpec
from agenthost.supports import SupportsLease

_log = logging.getLogger("agenthost.testing.emulators")

_LONG = 24 * 3600.0  # seconds; the emulator ends its machines itself, before
_LEASE = 120.0  # seconds that they live on when it was killed
_ENDING = 30.0  # seconds that ending one may take

__all__ = ["Account", "Machine", "Machines"]


class _Local(LocalProvider):
    """Sandboxes whose user is called as the emulated provider calls it."""

    def __init__(self, account: Account, site: Path, state_dir: str) -> None:
        super().__init__(site=str(site), state_dir=state_dir, secret=b"of an emulator, on loopback alone")
        self.account = account


class Machine:
    """One machine. Programs run on, whoever goes away, until they end or the machine does.

    Attributes:
        sandbox: What it is made of: files, programs that are waited for, its end.
    """

    def __init__(self, sandbox: GuestSandbox, tasks: BackgroundTasks) -> None:
        self.sandbox = sandbox
        self._tasks = tasks
        self._end = anyio.Event()

    @property
    def has_ended(self) -> bool:
        """Whether ``end`` was called."""
        return self._end.is_set()

    async def start(
        self, argv: Sequence[str], *, cwd: str | None = None, env: Mapping[str, str] | None = None
    ) -> Process:
        """Start a program, and keep what it leaves behind until the machine ends.

        Raises:
            OSError: It cannot be started.
            AgentHostError: The machine has ended.
        """
        process: Process | Exception = await self._tasks.start(self._hold, argv, cwd, env)
        if isinstance(process, Exception):
            raise process
        return process

    async def end(self) -> None:
        """End it and all its programs. Idempotent."""
        self._end.set()
        with anyio.move_on_after(_ENDING, shield=True):
            await self.sandbox.terminate()

    async def _hold(
        self,
        argv: Sequence[str],
        cwd: str | None,
        env: Mapping[str, str] | None,
        *,
        task_status: anyio.abc.TaskStatus[Process | OSError | AgentHostError],
    ) -> None:
        started = False
        try:
            async with self.sandbox.spawn(argv, cwd=cwd, env=env) as process:
                started = True
                task_status.started(process)
                await self._end.wait()
        except (OSError, AgentHostError) as error:
            # It goes with the machine, whichever is faster. A task that raised would end all the others.
            if not started:
                task_status.started(error)


class Machines:
    """Makes machines; leaving its block ends all of them.

    Args:
        account: Who programs are on them.
    """

    def __init__(self, account: Account) -> None:
        self._account = account
        self._stack = AsyncExitStack()
        self._providers: dict[Path, _Local] = {}
        self._made: list[Machine] = []
        self._closing = anyio.Event()

    async def __aenter__(self) -> Self:
        """Open."""
        self._directory = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="ah-emu-")))
        self._directory.chmod(0o711)  # a host that is root runs them as other users
        self._bare = self._directory / "bare"
        self._bare.mkdir()
        self._tasks = await self._stack.enter_async_context(BackgroundTasks())
        self._tasks.start_soon(self._renew_leases)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """End every machine."""
        try:
            with anyio.CancelScope(shield=True):
                for machine in self._made:
                    if not machine.has_ended:
                        await _end(machine)
        finally:
            self._closing.set()
            await self._stack.__aexit__(None, None, None)

    @property
    def directory(self) -> Path:
        """A directory that goes with the machines; for images, for instance."""
        return self._directory

    async def make(
        self,
        *,
        workdir: str,
        network: bool,
        site: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Machine:
        """Return a new machine, running.

        Args:
            workdir: Absolute path; programs start there.
            network: Whether it shares this machine's network; otherwise it has none.
            site: What an image brought to /opt/agenthost/site; None is an image without the SDK.
            env: Added to the environment of every program.
        """
        provider = await self._provider(site or self._bare)
        policy = NetworkPolicy.open() if network else NetworkPolicy.none()
        spec = SandboxSpec(
            workdir=workdir, network=policy, env=dict(env or {}), max_lifetime=_LONG, lease=_LEASE
        )
        machine = Machine(await provider.create(spec), self._tasks)
        self._made.append(machine)
        return machine

    async def _provider(self, site: Path) -> _Local:
        if site not in self._providers:
            self._providers[site] = await self._tasks.start(self._keep_open, site)
        return self._providers[site]

    async def _renew_leases(self) -> None:
        while not self._closing.is_set():
            for machine in self._made:
                if not machine.has_ended and isinstance(backend := machine.sandbox.backend, SupportsLease):
                    with suppress(AgentHostError, OSError):  # it ends in this moment
                        await backend.extend(_LEASE)
            with anyio.move_on_after(_LEASE / 4):
                await self._closing.wait()

    async def _keep_open(self, site: Path, *, task_status: anyio.abc.TaskStatus[_Local]) -> None:
        # In a task of its own: its block is left when all machines are, and not where it was entered.
        async with _Local(self._account, site, str(self._directory / "state")) as provider:
            task_status.started(provider)
            await self._closing.wait()


async def _end(machine: Machine) -> None:
    try:
        await machine.end()
    except (AgentHostError, OSError) as error:  # the others are still to be ended; its lease ends this one
        _log.warning("machine %s of an emulator did not end: %s", machine.sandbox.name, error)
