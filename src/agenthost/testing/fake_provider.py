"""FakeProvider: makes FakeSandboxes, in memory and in virtual time."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Mapping
from typing import Self

import anyio.lowlevel

from agenthost.errors import ConfigError, SandboxNotFoundError, UnsupportedError
from agenthost.sandbox import Capabilities, SandboxInfo
from agenthost.spec import DEFAULT_LIFETIME, SandboxSpec, generate_name
from agenthost.testing.fake_clock import FakeClock
from agenthost.testing.fake_sandbox import FakeSandbox, Script


class FakeProvider(Script):
    """A ``SandboxProvider`` for tests. ``script`` and ``fail`` hold for each sandbox that it makes.

    Attributes:
        clock: The time of its sandboxes.
        sandboxes: What it made, oldest first; also what has ended.
        specs: What it was asked for, in its order.
        create_seconds: Virtual seconds that ``create`` takes.
    """

    def __init__(
        self,
        name: str = "fake",
        *,
        clock: FakeClock | None = None,
        capabilities: Capabilities | None = None,
        create_seconds: float = 0.0,
    ) -> None:
        """Make one. It refuses what ``capabilities`` lacks, and only says that it has the rest."""
        super().__init__()
        self.clock = clock or FakeClock()
        self.sandboxes: list[FakeSandbox] = []
        self.specs: list[SandboxSpec] = []
        self.create_seconds = create_seconds
        self._name = name
        self._capabilities = capabilities or Capabilities(isolation="none", networks=frozenset({"open"}))

    async def connect(self) -> Self:
        """Return it. See SandboxProvider.connect."""
        await anyio.lowlevel.checkpoint()
        return self

    async def __aenter__(self) -> Self:
        return await self.connect()

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    @property
    def name(self) -> str:
        """Its name."""
        return self._name

    @property
    def capabilities(self) -> Capabilities:
        """What it says that it can do."""
        return self._capabilities

    async def create(self, spec: SandboxSpec) -> FakeSandbox:
        """Make a sandbox. See SandboxProvider.create."""
        await anyio.lowlevel.checkpoint()
        self.specs.append(spec)
        self.raise_fault("create")
        _check(spec, self._name, self._capabilities)
        if self.create_seconds > 0:
            await self.clock.sleep(self.create_seconds)
        name = spec.name or generate_name()
        if any(one.name == name and not one.ended for one in self.sandboxes):
            raise ConfigError(f"there is a sandbox {name!r} already")
        sandbox = FakeSandbox(
            name,
            clock=self.clock,
            env=spec.env,
            workdir=spec.workdir or "/workspace",
            max_lifetime=min(spec.max_lifetime or DEFAULT_LIFETIME, spec.lease or math.inf),
            provider=self._name,
            capabilities=self._capabilities,
            labels=spec.labels,
            above=self,
        )
        self.sandboxes.append(sandbox)
        return sandbox

    async def get(self, sandbox_id: str) -> FakeSandbox:
        """Return a sandbox by its id. SandboxNotFoundError when it is not there, or has ended."""
        await anyio.lowlevel.checkpoint()
        self.raise_fault("get")
        for sandbox in self.sandboxes:
            if sandbox.id == sandbox_id and not sandbox.ended:
                return sandbox
        raise SandboxNotFoundError(f"there is no sandbox {sandbox_id!r}")

    async def list(self, labels: Mapping[str, str] | None = None) -> AsyncGenerator[SandboxInfo]:
        """Yield what is there, newest first, filtered by labels."""
        await anyio.lowlevel.checkpoint()
        self.raise_fault("list")
        for sandbox in reversed(tuple(self.sandboxes)):
            if not sandbox.ended and (labels or {}).items() <= sandbox.told.labels.items():
                yield sandbox.told

    async def aclose(self) -> None:
        """Close. Ends no sandbox."""
        await anyio.lowlevel.checkpoint()


def _check(spec: SandboxSpec, name: str, able: Capabilities) -> None:
    """Refuse what the capabilities do not have, as every provider does."""
    if spec.provider_options:
        raise ConfigError(f"the {name} provider has no option {next(iter(spec.provider_options))!r}")
    if spec.network is not None and spec.network.mode not in able.networks:
        raise UnsupportedError(f"the {name} provider has no network mode {spec.network.mode!r}")
    for cap in ("memory_mib", "cpu", "pids", "disk_mib"):
        if getattr(spec.limits, cap) is not None and cap not in able.limits:
            raise UnsupportedError(f"the {name} provider has no limit {cap!r}")
    for what, wanted, there in (
        ("lease", spec.lease is not None, able.lease),
        ("mounts", bool(spec.mounts), able.mounts),
        ("inject", bool(spec.inject), able.header_injection),
    ):
        if wanted and not there:
            raise UnsupportedError(f"{what}: the {name} provider has none")
