"""A third party's adapter for its own cloud, written from docs/write-an-adapter.md alone."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import suppress

import anyio
from acceptance.directory_cloud import Client, CloudError, Machine, Program

from agenthost import Capabilities, Limits, SandboxSpec
from agenthost.adapter.bootstrap import bootstrap_layout
from agenthost.adapter.calls import Calls, ErrorRow
from agenthost.adapter.checks import refuse_fields
from agenthost.adapter.cloud import CloudProvider, Found
from agenthost.errors import NameTakenError, ProviderError, SandboxNotFoundError
from agenthost.link.layout import GuestLayout

ROWS = (
    ErrorRow(CloudError, NameTakenError, "the name is taken", status=409),
    ErrorRow(CloudError, SandboxNotFoundError, "there is no such machine", status=404),
    ErrorRow(CloudError, ProviderError, "the cloud refused this"),
    ErrorRow(OSError, ProviderError, "the cloud failed", "unknown"),
)


class Running:
    """See agenthost.adapter.dial_carrier."""

    binary = True

    def __init__(self, program: Program) -> None:
        self._process, self._log = program.process, program.log

    @property
    def stderr(self) -> bytes:
        size = os.fstat(self._log.fileno()).st_size
        return os.pread(self._log.fileno(), 4000, max(0, size - 4000))

    async def send(self, data: bytes) -> None:
        assert self._process.stdin is not None
        await self._process.stdin.send(data)

    async def receive(self) -> bytes:
        assert self._process.stdout is not None
        try:
            return await self._process.stdout.receive()
        except (anyio.EndOfStream, anyio.ClosedResourceError, anyio.BrokenResourceError):
            return b""

    async def wait(self) -> int:
        return await self._process.wait()

    async def aclose(self) -> None:
        with anyio.CancelScope(shield=True):
            if self._process.returncode is None:
                with suppress(ProcessLookupError):
                    self._process.send_signal(signal.SIGKILL)
            await self._process.aclose()
            self._log.close()


class DirectoryVendor:
    names_are_unique = True

    def __init__(self, root: str) -> None:
        self.client = Client(root)
        self.calls = Calls("the directory cloud", lambda: ROWS)

    async def create(self, spec: SandboxSpec, labels: Mapping[str, str]) -> Machine:
        async with self.calls.bounded(f"making sandbox {spec.name}"):
            return await self.client.create(spec.name or "", labels, spec.max_lifetime or 3600)

    async def find(self, labels: Mapping[str, str]) -> AsyncGenerator[Found]:
        async with self.calls.bounded("listing the sandboxes"):
            machines = await self.client.machines()
        for machine in machines:
            if labels.items() <= machine.tags.items():
                yield found_of(machine)

    async def look_up(self, sandbox_id: str) -> Found:
        async with self.calls.bounded(f"looking up sandbox {sandbox_id}"):
            return found_of(await self.client.get(sandbox_id))

    async def connect(self, found: Found) -> Machine:
        async with self.calls.bounded(f"connecting to sandbox {found.id}"):
            return await self.client.get(found.id)

    def id_of(self, handle: Machine) -> str:
        return handle.id

    async def kill(self, sandbox_id: str) -> None:
        async with self.calls.bounded(f"ending sandbox {sandbox_id}"):
            await self.client.delete(sandbox_id)

    async def put_files(self, handle: Machine, directory: str, files: Mapping[str, bytes]) -> None:
        async with self.calls.bounded(f"writing files into sandbox {handle.id}"):
            for name, data in files.items():
                await self.client.upload(f"{directory}/{name}", data)

    async def run(self, handle: Machine, argv: Sequence[str], *, env: Mapping[str, str]) -> Running:
        async with self.calls.bounded(f"starting a program in sandbox {handle.id}"):
            return Running(await self.client.start(handle, argv, env))

    async def aclose(self) -> None:
        """Do nothing: the client keeps nothing open."""


class DirectoryProvider(CloudProvider[DirectoryVendor]):
    """Sandboxes of the directory cloud."""

    name = "directories"
    capabilities = Capabilities(isolation="none", networks=frozenset({"open"}))
    longest = 24 * 3600.0
    home = ""  # each machine has one of its own

    def __init__(self, *, root: str, limits: Limits | None = None) -> None:
        super().__init__(limits=limits)
        self._root = root

    def make_vendor(self) -> DirectoryVendor:
        return DirectoryVendor(self._root)

    def check(self, spec: SandboxSpec) -> None:
        super().check(spec)
        refuse_fields(spec, self.name, "image", "cpu", "memory_mib", "disk_mib", "workdir", "region")

    def layout(self, spec: SandboxSpec) -> GuestLayout:
        home = f"{self._root}/{spec.name}"
        return bootstrap_layout(f"{home}/.agenthost", home=home, workdir=f"{home}/work", isolation="none")


def found_of(machine: Machine) -> Found:
    return Found(id=machine.id, labels=machine.tags, created_at=machine.created, expires_at=machine.end)
