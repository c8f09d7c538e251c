"""A provider's sandboxes: made, found, left and ended, also where that is cancelled."""

from __future__ import annotations

import gc
import os
import weakref
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from link.faulty_provider import FaultyProvider
from support.cancelling import at_every_await, cancelled_at
from support.inside import end, living
from support.processes import processes_of
from support.waiting import until

from agenthost.errors import AccessDeniedError, LinkError, SandboxNotFoundError, SandboxStartError
from agenthost.link.client import GuestSandbox
from agenthost.providers.local.provider import LocalProvider
from agenthost.spec import Limits, SandboxSpec

SECONDS = 120.0  # until a test is taken to hang


async def test_another_secret_is_refused(box: GuestSandbox) -> None:
    with anyio.fail_after(SECONDS):
        async with LocalProvider(secret="not the one it was made with") as provider:
            with pytest.raises(AccessDeniedError, match=box.name):
                await provider.get(box.id)
        assert (await box.exec(["true"])).exit_code == 0


async def test_a_sandbox_that_is_not_there_is_not_found(provider: LocalProvider) -> None:
    with anyio.fail_after(SECONDS):
        for name in ("ah-000000000000", "..", "", "a/b"):
            with pytest.raises(SandboxNotFoundError):
                await provider.get(name)


async def test_leaving_the_providers_block_closes_links_and_ends_no_sandbox(box: GuestSandbox) -> None:
    errors: list[type[BaseException]] = []

    async def wait(sandbox: GuestSandbox) -> None:
        try:
            await sandbox.exec(["sleep", "74.2"])
        except LinkError as exc:
            errors.append(type(exc))

    sandbox = box
    async with anyio.create_task_group() as tasks, LocalProvider() as provider:
        sandbox = await provider.get(box.id)
        tasks.start_soon(wait, sandbox)
        with anyio.fail_after(SECONDS):
            await until(lambda: living(box, "74.2"), lambda found: len(found) == 1)
    assert errors == [LinkError]
    with pytest.raises(LinkError, match="closed"):
        await sandbox.exec(["true"])
    with anyio.fail_after(SECONDS):
        assert (await box.exec(["true"])).exit_code == 0
        await end(box, "74.2")  # the guest would give that link ten minutes


async def test_a_guest_that_does_not_answer_is_a_start_error_and_leaves_nothing() -> None:
    with anyio.fail_after(SECONDS):
        async with FaultyProvider(limits=Limits(start=0.3, link_budget=0.3)) as provider:
            provider.faults.refuse = True
            with pytest.raises(SandboxStartError, match="ah-never"):
                await provider.create(SandboxSpec(name="ah-never"))
            assert "ah-never" not in [info.name async for info in provider.list()]


async def test_the_links_of_sandboxes_that_ended_are_not_kept(provider: LocalProvider) -> None:
    with anyio.fail_after(SECONDS):
        sandbox = await provider.create(SandboxSpec())
        session = weakref.ref(sandbox.session)
        await sandbox.terminate()
        del sandbox
        while session() is not None:
            await anyio.lowlevel.checkpoint()
            gc.collect()


@pytest.mark.full
async def test_a_cancelled_creation_leaves_no_sandbox(provider: LocalProvider) -> None:
    root = Path(os.environ["AGENTHOST_STATE_DIR"]) / "local"
    names: list[str] = []
    before = set(os.listdir(root))

    async def create() -> None:
        names.append(f"cancelled-{len(names)}")
        sandbox = await provider.create(SandboxSpec(name=names[-1]))
        await sandbox.terminate()

    with anyio.fail_after(SECONDS):
        assert await at_every_await(create) >= 10
        assert set(os.listdir(root)) == before
        directories = tuple(str(root / name) for name in names)
        assert [str(found) for found in processes_of("none", directories)] == []
        assert (await provider.create(SandboxSpec(name=names[0]))).name == names[0]
        await (await provider.get(names[0])).terminate()


async def test_a_cancelled_get_leaves_no_link(provider: LocalProvider, box: GuestSandbox) -> None:
    async def get() -> None:
        sandbox = await provider.get(box.id)
        sandbox.session.close()

    with anyio.fail_after(SECONDS):
        assert await at_every_await(get) >= 2
        assert (await box.exec(["true"])).exit_code == 0


async def test_a_cancelled_end_can_be_asked_for_again(provider: LocalProvider) -> None:
    with anyio.fail_after(SECONDS):
        sandbox = await provider.create(SandboxSpec())
        waits = 1
        while await cancelled_at(waits, sandbox.terminate):
            waits += 1
        assert sandbox.name not in [info.name async for info in provider.list()]
