"""Sandboxes and providers that are wrong in one thing of what only some can do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from anyio.abc import TaskGroup
from conformance.wrapping import WrappedBackend, WrappedProvider, WrappedSandbox, wrong

from agenthost import ExecResult, Sandbox, SandboxProvider, SandboxSpec
from agenthost.errors import ProviderError
from agenthost.supports import Endpoint


@wrong("7.1")
class BeginsWithNothing(WrappedProvider):
    async def create(self, spec: SandboxSpec) -> Sandbox:
        return await super().create(replace(spec, image=None))


@wrong(
    "7.1",
    test_a_port_is_reached_with_what_its_endpoint_says="it has no method at all",
    test_a_paused_sandbox_stays_so_until_it_is_resumed="it has no method at all",
)
class OnlySaysThatItCan(WrappedSandbox):
    @property
    def backend(self) -> Any:
        return object()


class Later(WrappedBackend):
    async def snapshot(self, name: str | None = None) -> str:
        del name
        return "later"


class KeptAtItsEnd(WrappedSandbox):
    @property
    def backend(self) -> Any:
        return Later(self.inner)

    async def terminate(self) -> None:
        assert isinstance(self.maker, KeepsWhatIsThereLater)
        if self.maker.kept is None and self.capabilities.snapshot:
            self.maker.kept = await super().backend.snapshot()
        await super().terminate()


@wrong("7.1")
class KeepsWhatIsThereLater(WrappedProvider):
    sandbox = KeptAtItsEnd

    def __init__(self, inner: SandboxProvider, tasks: TaskGroup, stack: ExitStack) -> None:
        super().__init__(inner, tasks, stack)
        self.kept: str | None = None

    async def create(self, spec: SandboxSpec) -> Sandbox:
        return await super().create(replace(spec, image=self.kept) if spec.image == "later" else spec)


class SaysNoHeaders(WrappedBackend):
    async def endpoint(self, port: int) -> Endpoint:
        return replace(await super().endpoint(port), headers={})


@wrong("7.2")
class KeepsTheHeadersToItself(WrappedSandbox):
    @property
    def backend(self) -> Any:
        return SaysNoHeaders(self.inner)


class AsksForNoHeaders(WrappedBackend):
    async def endpoint(self, port: int) -> Endpoint:
        headers: Mapping[str, str] = {"x-token": "that nobody looks at"}
        # It shares this machine's network.
        return Endpoint(url=f"http://127.0.0.1:{port}", headers=headers)


@wrong("7.2")
class LetsEverybodyIn(WrappedSandbox):
    @property
    def backend(self) -> Any:
        return AsksForNoHeaders(self.inner)


class NeverStands(WrappedBackend):
    async def pause(self) -> None:
        pass


@wrong("7.3")
class RunsOn(WrappedSandbox):
    @property
    def backend(self) -> Any:
        return NeverStands(self.inner)


@wrong("7.3")
class IsWokenByACall(WrappedSandbox):
    async def exec(self, argv: Sequence[str], **options: Any) -> ExecResult:
        if self.capabilities.pause:
            await self.backend.resume()
        return await super().exec(argv, **options)


class ResumesOnce(WrappedBackend):
    async def resume(self) -> None:
        if (await self.inner.info()).state == "running":
            raise ProviderError("it runs")
        await super().resume()


@wrong("7.3")
class IsResumedOnceAlone(WrappedSandbox):
    @property
    def backend(self) -> Any:
        return ResumesOnce(self.inner)


@wrong("7.3")
class IsWokenByWhoFindsIt(WrappedProvider):
    async def get(self, sandbox_id: str) -> Sandbox:
        for sandbox in self.made:
            if sandbox.id == sandbox_id and sandbox.capabilities.pause:
                await WrappedBackend(sandbox).resume()
        return await super().get(sandbox_id)
