"""A sandbox in a container is made whole or not at all, and ends once and for all."""

from __future__ import annotations

from contextlib import suppress

import anyio
import pytest
from docker.docker_engine import DockerEngine
from docker.engine_proxy import Fault, engine_proxy

from agenthost.errors import SandboxGoneError, SandboxNotFoundError, SandboxStartError
from agenthost.link.client import GuestSandbox
from agenthost.providers.docker.engine import Engine
from agenthost.providers.docker.errors import EngineError
from agenthost.providers.docker.provider import DockerProvider
from agenthost.spec import Limits, ResourceLimits, SandboxSpec

LIMIT = 60  # seconds for what has to happen; nothing waits that long


async def gone(engine: Engine, box: GuestSandbox) -> None:
    """Return when the engine has removed a sandbox's container."""
    query = {"condition": "removed"}
    with anyio.fail_after(LIMIT), suppress(EngineError):  # it may have gone already
        await engine.ask("POST", f"/containers/{box.id}/wait", query=query, within=None)
    with pytest.raises(EngineError, match=r"(?i)no such container"):
        await engine.ask("GET", f"/containers/{box.id}/json")


async def test_its_lifetime_ends_it_with_all_that_it_holds_though_nobody_is_there(
    provider: DockerProvider, engine: Engine, docker_engine: DockerEngine
) -> None:
    async with DockerProvider(host=docker_engine.host) as short:
        box = await short.create(SandboxSpec(max_lifetime=8))
    # That host is gone. Its container goes with its volumes, as every test here checks.
    await gone(engine, box)
    with pytest.raises(SandboxNotFoundError):
        await provider.get(box.id)


@pytest.mark.parametrize("request_", ["POST /containers/create", "PUT /containers/", "POST /containers/"])
async def test_cancelled_in_the_middle_nothing_is_left_of_it(
    docker_engine: DockerEngine, request_: str, provider: DockerProvider
) -> None:
    del provider  # the fixture that looks for what is left begins with it
    # ``POST /containers/`` without create: the streams, and the start.
    fault = Fault(request_, "hold")
    async with (
        engine_proxy(docker_engine.host, fault) as address,
        DockerProvider(host=address) as behind,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(behind.create, SandboxSpec())
        with anyio.fail_after(LIMIT):
            await fault.struck.wait()
        tasks.cancel_scope.cancel()
        fault.release.set()


async def test_what_cannot_start_says_why_and_leaves_nothing(provider: DockerProvider) -> None:
    # So few processes that the guest itself cannot be.
    with pytest.raises(SandboxStartError, match=r"could not be started|did not come up"):
        await provider.create(SandboxSpec(limits=ResourceLimits(pids=1, memory_mib=6)))


async def test_a_sandbox_that_somebody_removed_is_gone(provider: DockerProvider, engine: Engine) -> None:
    box = await provider.create(SandboxSpec())
    try:
        await engine.ask("DELETE", f"/containers/{box.id}", query={"force": True, "v": True})
        with anyio.fail_after(LIMIT), pytest.raises(SandboxGoneError):
            while True:
                await box.exec(["true"])
        assert (await box.info()).state == "ended"
    finally:
        await box.terminate()


async def test_a_container_that_somebody_started_anew_is_another_machine(
    docker_engine: DockerEngine, engine: Engine, provider: DockerProvider
) -> None:
    del provider
    async with DockerProvider(host=docker_engine.host, limits=Limits(link_budget=30)) as own:
        box = await own.create(SandboxSpec())
        try:
            with suppress(EngineError):  # podman takes it away instead, and complains
                await engine.ask("POST", f"/containers/{box.id}/restart", query={"t": 0})
            with anyio.fail_after(LIMIT), pytest.raises(SandboxGoneError, match=r"another machine|has ended"):
                while True:
                    await box.exec(["true"])
        finally:
            await box.terminate()


async def test_its_guests_end_is_its_end(provider: DockerProvider, engine: Engine) -> None:
    box = await provider.create(SandboxSpec())
    try:
        await engine.ask("POST", f"/containers/{box.id}/kill")
        await gone(engine, box)
        with anyio.fail_after(LIMIT), pytest.raises(SandboxGoneError):
            while True:
                await box.exec(["true"])
    finally:
        await box.terminate()


async def test_two_hosts_that_terminate_at_once_both_succeed(provider: DockerProvider) -> None:
    box = await provider.create(SandboxSpec())
    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(box.backend.terminate)
    await box.terminate()
