"""Checks of making, finding and ending sandboxes: section 4 of the contract."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import anyio
import pytest

from agenthost.errors import ConfigError, SandboxGoneError, SandboxNotFoundError, UnsupportedError
from agenthost.sandbox import Sandbox, SandboxProvider
from agenthost.spec import (
    HeaderInjection,
    Mount,
    NetworkPolicy,
    ResourceLimits,
    SandboxSpec,
    generate_name,
)
from agenthost.testing.conformance.clauses import clause
from agenthost.testing.conformance.kit import Conformance

_ENDING = 60.0  # seconds that ending a sandbox may take
_SHORT = 5.0  # seconds of a lifetime that is to be over soon
_MOMENTS = (0.0, 0.02, 0.1, 0.5)  # seconds after which a create is cancelled
_CLOCK = 60.0  # seconds by which two clocks may differ


def fresh_labels() -> dict[str, str]:
    """Return labels that no other sandbox has."""
    return {"conformance": secrets.token_hex(8)}


@asynccontextmanager
async def made(provider: SandboxProvider, spec: SandboxSpec) -> AsyncGenerator[Sandbox]:
    """Yield a sandbox that ends with the block."""
    sandbox = await provider.create(spec)
    try:
        yield sandbox
    finally:
        with anyio.move_on_after(_ENDING, shield=True):
            await sandbox.terminate()


async def living(provider: SandboxProvider, labels: dict[str, str]) -> list[str]:
    """Return the ids of what is there with these labels."""
    return [info.id async for info in provider.list(labels) if info.state != "ended"]


async def until_none_lives(provider: SandboxProvider, labels: dict[str, str]) -> None:
    """Return when none is there any more; a provider's own view may lag behind."""
    while await living(provider, labels):  # noqa: ASYNC110 - a provider tells only who asks
        await anyio.sleep(0.05)


class LifeChecks(Conformance):
    """From create to terminate."""

    @clause("4.1")
    async def test_name_labels_and_end_are_there_from_the_beginning(self, provider: SandboxProvider) -> None:
        """As they were asked for."""
        labels, name = fresh_labels(), generate_name()
        spec = replace(self.spec, name=name, labels={**self.spec.labels, **labels}, max_lifetime=600)
        async with made(provider, spec) as sandbox:
            info = await sandbox.info()
            assert (sandbox.name, info.name, info.id) == (name, name, sandbox.id)
            assert (info.provider, info.state) == (provider.name, "running")
            assert labels.items() <= info.labels.items()
            assert info.expires_at is not None
            assert info.created_at is not None
            assert abs(info.expires_at - info.created_at - 600) < _CLOCK
            assert abs(info.created_at - time.time()) < self.patience + _CLOCK

    @clause("4.2")
    async def test_a_name_that_is_taken_is_refused(self, provider: SandboxProvider) -> None:
        """The first sandbox lives on."""
        spec = replace(self.spec, name=generate_name())
        async with made(provider, spec) as sandbox:
            with pytest.raises(ConfigError):
                await provider.create(spec)
            assert (await sandbox.exec(["echo", "here"])).stdout == b"here\n"

    @clause("4.3")
    async def test_a_sandbox_is_found_by_its_id(self, provider: SandboxProvider) -> None:
        """The same one; and an unknown id is an error that is a LookupError."""
        async with made(provider, self.spec) as sandbox:
            await sandbox.write_file("mark", b"the same")
            found = await provider.get(sandbox.id)
            assert (found.id, found.name, found.workdir) == (sandbox.id, sandbox.name, sandbox.workdir)
            assert await found.read_file("mark") == b"the same"
        with pytest.raises(SandboxNotFoundError) as caught:
            await provider.get(generate_name())
        assert isinstance(caught.value, LookupError)

    @clause("4.4")
    async def test_list_tells_what_is_there_by_labels(self, provider: SandboxProvider) -> None:
        """Newest first, and no more of what has ended."""
        labels = fresh_labels()
        spec = replace(self.spec, labels={**self.spec.labels, **labels})
        async with made(provider, spec) as first:
            async with made(provider, replace(spec, labels={**spec.labels, "more": "2"})) as second:
                assert await living(provider, labels) == [second.id, first.id]
                assert await living(provider, {**labels, "more": "2"}) == [second.id]
                assert await living(provider, {**labels, "more": "3"}) == []
                assert {first.id, second.id} <= set(await living(provider, {}))
            assert await living(provider, labels) == [first.id]
        assert await living(provider, labels) == []

    @clause("4.5")
    async def test_a_sandbox_that_was_ended_is_gone_for_every_call(self, sandbox: Sandbox) -> None:
        """Never silently a fresh one. Ending it again is no error."""
        gone: list[str] = []

        async def run() -> None:
            try:
                async with sandbox.spawn(["cat"]) as process:
                    running.set()
                    await process.wait()
            except SandboxGoneError:
                gone.append("while it ran")

        running = anyio.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run)
            await running.wait()
            await sandbox.terminate()
        assert gone == ["while it ran"]
        await sandbox.terminate()
        with pytest.raises(SandboxGoneError):
            await sandbox.exec(["true"])
        with pytest.raises(SandboxGoneError):
            async with sandbox.spawn(["true"]):
                pass
        with pytest.raises(SandboxGoneError):
            await sandbox.read_file("file")
        with pytest.raises(SandboxGoneError):
            await sandbox.write_file("file", b"")

    @clause("4.5")
    async def test_a_sandbox_that_was_ended_is_not_found(self, provider: SandboxProvider) -> None:
        """By its id."""
        async with made(provider, self.spec) as sandbox:
            pass
        with pytest.raises((SandboxNotFoundError, SandboxGoneError)):
            await provider.get(sandbox.id)

    @clause("4.6", needs="system")
    async def test_a_sandbox_ends_when_its_lifetime_is_over(self, provider: SandboxProvider) -> None:
        """By itself, whatever runs in it."""
        labels = fresh_labels()
        spec = replace(self.spec, labels={**self.spec.labels, **labels}, max_lifetime=_SHORT)
        async with made(provider, spec) as sandbox:
            with pytest.raises(SandboxGoneError):
                await sandbox.exec(["sleep", "100000"])
            await until_none_lives(provider, labels)

    @clause("4.7")
    async def test_a_cancelled_create_leaves_nothing(self, provider: SandboxProvider) -> None:
        """Whenever it comes."""
        labels = fresh_labels()
        spec = replace(self.spec, labels={**self.spec.labels, **labels})
        for moment in _MOMENTS:
            sandbox: Sandbox | None = None
            with anyio.move_on_after(moment):
                sandbox = await provider.create(spec)
            if sandbox is not None:
                await sandbox.terminate()
            await until_none_lives(provider, labels)

    @clause("4.8")
    async def test_what_cannot_be_enforced_is_refused_before_anything_is_made(
        self, provider: SandboxProvider
    ) -> None:
        """By name: never left out in silence."""
        labels = fresh_labels()
        spec = replace(self.spec, labels={**self.spec.labels, **labels})
        able = provider.capabilities
        policies = (NetworkPolicy.open(), NetworkPolicy.none(), NetworkPolicy.allow(["example.org"]))
        limits: dict[str, Any] = {"memory_mib": 2048, "cpu": 1.0, "pids": 512, "disk_mib": 2048}
        asked = [replace(spec, network=policy) for policy in policies if policy.mode not in able.networks]
        asked += [
            replace(spec, limits=ResourceLimits(**{name: value}))
            for name, value in limits.items()
            if name not in able.limits
        ]
        if not able.lease:
            asked.append(replace(spec, lease=60))
        if not able.mounts:
            asked.append(replace(spec, mounts=(Mount(source="/usr", target="/mnt/usr"),)))
        if not able.header_injection:
            inject = HeaderInjection(host="example.org", header="x-key", secret="hidden")
            asked.append(replace(spec, inject=(inject,)))
        for one in asked:
            with pytest.raises(UnsupportedError) as caught:
                await provider.create(one)
            assert "hidden" not in str(caught.value)
            assert await living(provider, labels) == []

    @clause("4.9")
    async def test_options_that_are_not_known_are_refused(self, provider: SandboxProvider) -> None:
        """By name, before anything is made."""
        labels = fresh_labels()
        spec = replace(
            self.spec,
            labels={**self.spec.labels, **labels},
            provider_options={**self.spec.provider_options, "no_such_option": 1},
        )
        with pytest.raises(ConfigError, match="no_such_option"):
            await provider.create(spec)
        assert await living(provider, labels) == []
        # `agenthost config check` asks before a spec has a name or any label of agenthost's own.
        check: Callable[[SandboxSpec], object] = getattr(provider, "check", lambda _: None)
        check(replace(self.spec, name=None))

    @clause("4.10")
    async def test_two_sandboxes_share_nothing(self, provider: SandboxProvider) -> None:
        """Ending one leaves the other alone."""
        async with made(provider, self.spec) as first, made(provider, self.spec) as second:
            assert first.id != second.id
            await first.write_file("mine", b"1")
            with pytest.raises(FileNotFoundError):
                await second.read_file("mine")
            await second.terminate()
            assert await first.read_file("mine") == b"1"

    @clause("4.11")
    async def test_info_changes_nothing_and_tells_the_isolation(self, sandbox: Sandbox) -> None:
        """By mechanism, and the same as the capabilities say."""
        info = await sandbox.info()
        assert info.isolation == sandbox.capabilities.isolation
        assert await sandbox.info() == info
