"""Providers that are wrong in one thing of a sandbox's life or bounds."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
from conformance.wrapping import WrappedProvider, WrappedSandbox, wrong

from agenthost import ExecResult, NetworkPolicy, Sandbox, SandboxInfo, SandboxSpec
from agenthost.errors import SandboxGoneError, SandboxNotFoundError
from agenthost.spec import generate_name

_SOON = 60.0  # seconds; what the checks take for a short life is below


@wrong("4.1")
class ForgetsLabels(WrappedSandbox):
    async def info(self) -> SandboxInfo:
        return replace(await self.inner.info(), labels={})


@wrong("4.2")
class RenamesWhatIsTaken(WrappedProvider):
    async def create(self, spec: SandboxSpec) -> Sandbox:
        taken = [info.name async for info in self.inner.list()]
        return await super().create(replace(spec, name=generate_name()) if spec.name in taken else spec)


class Elsewhere(WrappedSandbox):
    @property
    def workdir(self) -> str:
        return "/"


@wrong("4.3")
class FindsItChanged(WrappedProvider):
    async def get(self, sandbox_id: str) -> Sandbox:
        return Elsewhere(await self.inner.get(sandbox_id), self)


@wrong("4.4")
class ListsOldestFirst(WrappedProvider):
    def list(self, labels: Mapping[str, str] | None = None) -> AsyncIterator[SandboxInfo]:
        async def oldest_first() -> AsyncIterator[SandboxInfo]:
            for info in reversed([info async for info in self.inner.list(labels)]):
                yield info

        return oldest_first()


@wrong("4.5")
class TakesGoneForEmpty(WrappedSandbox):
    async def read_file(self, path: str, **options: Any) -> bytes:
        try:
            return await self.inner.read_file(path, **options)
        except SandboxGoneError:
            raise FileNotFoundError(2, "no such file", path) from None


@wrong("4.5")
class FindsWhatHasEnded(WrappedProvider):
    async def get(self, sandbox_id: str) -> Sandbox:
        try:
            return await super().get(sandbox_id)
        except SandboxNotFoundError:
            for sandbox in self.made:
                if sandbox.id == sandbox_id:
                    return sandbox
            raise


@wrong("4.6")
class LivesOn(WrappedProvider):
    async def create(self, spec: SandboxSpec) -> Sandbox:
        short = spec.max_lifetime is not None and spec.max_lifetime < _SOON
        return await super().create(replace(spec, max_lifetime=_SOON) if short else spec)


@wrong("4.7")
class LeavesACancelledOne(WrappedProvider):
    async def create(self, spec: SandboxSpec) -> Sandbox:
        made: list[Sandbox | Exception] = []
        done = anyio.Event()

        async def make() -> None:
            try:
                made.append(await super(LeavesACancelledOne, self).create(spec))
            except Exception as error:  # noqa: BLE001 - the caller's, if there is one still
                made.append(error)
            done.set()

        self.tasks.start_soon(make)
        await done.wait()
        if isinstance(made[0], Exception):
            raise made[0]
        return made[0]


@wrong("4.8")
class LeavesHeadersOut(WrappedProvider):
    async def create(self, spec: SandboxSpec) -> Sandbox:
        return await super().create(replace(spec, inject=()))


@wrong("4.9")
class IgnoresOptions(WrappedProvider):
    async def create(self, spec: SandboxSpec) -> Sandbox:
        return await super().create(replace(spec, provider_options={}))


@wrong("4.10")
class SharesFiles(WrappedSandbox):
    async def read_file(self, path: str, **options: Any) -> bytes:
        try:
            return await self.inner.read_file(path, **options)
        except FileNotFoundError:
            for other in self.maker.made:
                if other is not self.inner:
                    return await other.read_file(path, **options)
            raise


@wrong("4.11")
class BoastsOfItsIsolation(WrappedSandbox):
    async def info(self) -> SandboxInfo:
        return replace(await self.inner.info(), isolation="microvm")


@wrong("5.1")
class ShowsTheHostsFiles(WrappedSandbox):
    async def read_file(self, path: str, **options: Any) -> bytes:
        try:
            return await self.inner.read_file(path, **options)
        except FileNotFoundError:
            if not path.startswith("/"):
                raise
            return await anyio.Path(path).read_bytes()


@wrong("5.2")
class ShowsTheHostsProcesses(WrappedSandbox):
    async def exec(self, argv: Sequence[str], **options: Any) -> ExecResult:
        result = await self.inner.exec(argv, **options)
        if "/proc/[0-9]*/cmdline" not in " ".join(argv):
            return result
        seen = await anyio.run_process(["sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' '\\n'"], check=False)
        return replace(result, stdout=result.stdout + b"\n" + seen.stdout)


@wrong("5.3")
class LeavesTheNetworkOpen(WrappedProvider):
    async def create(self, spec: SandboxSpec) -> Sandbox:
        none = spec.network == NetworkPolicy.none() and "none" in self.capabilities.networks
        return await super().create(replace(spec, network=NetworkPolicy.open()) if none else spec)


class ClosesTheLoopback(WrappedSandbox):
    async def exec(self, argv: Sequence[str], **options: Any) -> ExecResult:
        return await self.inner.exec([word for word in argv if not word.startswith("127.")], **options)


@wrong("5.3")
class ClosesNothingButTheLoopback(LeavesTheNetworkOpen):
    sandbox = ClosesTheLoopback


@wrong("5.4")
class CapsNoMemory(WrappedProvider):
    async def create(self, spec: SandboxSpec) -> Sandbox:
        if "memory_mib" in self.capabilities.limits:
            spec = replace(spec, limits=replace(spec.limits, memory_mib=None))
        return await super().create(spec)


@wrong("5.5")
class CapsNoProcesses(WrappedProvider):
    async def create(self, spec: SandboxSpec) -> Sandbox:
        if "pids" in self.capabilities.limits:
            spec = replace(spec, limits=replace(spec.limits, pids=None))
        return await super().create(spec)


@wrong("5.6")
class MountsACopy(WrappedProvider):
    async def create(self, spec: SandboxSpec) -> Sandbox:
        if self.capabilities.mounts:
            mounts = [replace(mount, source=self._copy(mount.source)) for mount in spec.mounts]
            spec = replace(spec, mounts=tuple(mounts))
        return await super().create(spec)

    def _copy(self, source: str) -> str:
        directory = self.stack.enter_context(tempfile.TemporaryDirectory())
        Path(directory).chmod(0o755)
        return shutil.copytree(source, Path(directory, "copy")).as_posix()


@wrong("5.7")
class NeverEndsALease(WrappedProvider):
    async def create(self, spec: SandboxSpec) -> Sandbox:
        short = spec.lease is not None and spec.lease < _SOON
        return await super().create(replace(spec, lease=_SOON) if short else spec)


@wrong("5.8")
class LetsALeaseOutliveTheSandbox(WrappedProvider):
    async def create(self, spec: SandboxSpec) -> Sandbox:
        if spec.lease is not None and spec.lease > _SOON:
            spec = replace(spec, max_lifetime=max(spec.lease, spec.max_lifetime or 0))
        return await super().create(spec)
