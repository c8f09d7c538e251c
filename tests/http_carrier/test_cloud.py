"""A cloud's adapter on the kit, whose guests have a port: its backend brings ``endpoint`` alone."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import anyio
import pytest
from acceptance.directory_cloud import Machine
from acceptance.directory_provider import DirectoryProvider, DirectoryVendor, Running

from agenthost.adapter.cloud import CloudBackend
from agenthost.errors import SandboxGoneError
from agenthost.link.layout import GuestLayout
from agenthost.sandbox import Boot, SandboxInfo
from agenthost.spec import SandboxSpec
from agenthost.supports import Endpoint

SECONDS = 60.0  # until a test is taken to hang


class PortBackend(CloudBackend[DirectoryVendor]):
    """A sandbox whose port is reached on loopback."""

    async def endpoint(self, port: int) -> Endpoint:
        await self.reached()  # a machine that has ended is SandboxGoneError
        return Endpoint(url=f"http://127.0.0.1:{port}")


class CountingVendor(DirectoryVendor):
    """A vendor that notes what it runs."""

    runs: list[Sequence[str]]

    async def run(self, handle: Machine, argv: Sequence[str], *, env: Mapping[str, str]) -> Running:
        self.runs.append(argv)
        return await super().run(handle, argv, env=env)


class PortCloud(DirectoryProvider):
    """Sandboxes of the directory cloud, reached through a port."""

    def __init__(self, *, root: str) -> None:
        super().__init__(root=root)
        self.runs: list[Sequence[str]] = []
        with socket.socket() as chosen:
            chosen.bind(("127.0.0.1", 0))
            self.number: int = chosen.getsockname()[1]

    def make_vendor(self) -> DirectoryVendor:
        vendor = CountingVendor(self._root)
        vendor.runs = self.runs
        return vendor

    def layout(self, spec: SandboxSpec) -> GuestLayout:
        return replace(super().layout(spec), port=self.number, address="127.0.0.1")

    def backend(self, known: SandboxInfo, handle: Any, boot: Boot | None = None) -> PortBackend:
        return PortBackend(self, known, handle, boot)


async def test_a_backend_with_an_endpoint_dials_the_port_and_runs_no_other_program() -> None:
    # The path of a unix socket is short, and that of pytest's own directories may be long.
    with anyio.fail_after(SECONDS), tempfile.TemporaryDirectory() as root:
        async with PortCloud(root=root) as cloud:
            sandbox = await cloud.create(SandboxSpec())
            try:
                assert (await sandbox.exec(["echo", "in"])).stdout == b"in\n"
                assert (await (await cloud.get(sandbox.id)).exec(["echo", "again"])).stdout == b"again\n"
                assert len(cloud.runs) == 1  # the bootstrap
            finally:
                await sandbox.terminate()
            with pytest.raises(SandboxGoneError):
                await sandbox.exec(["true"])
