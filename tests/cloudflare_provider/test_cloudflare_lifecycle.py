"""A sandbox at Cloudflare is made whole, once or not at all; what is put in its place is not the sandbox."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import anyio
import pytest
from support.waiting import until, until_true

from agenthost.errors import (
    AgentHostError,
    ConfigError,
    ProviderError,
    QuotaError,
    SandboxGoneError,
    SandboxNotFoundError,
    SandboxStartError,
    UnsupportedError,
)
from agenthost.link.client import GuestSandbox
from agenthost.providers.cloudflare.provider import CloudflareProvider
from agenthost.spec import NetworkPolicy, SandboxSpec
from agenthost.testing.edge import seeded_faults
from agenthost.testing.emulators.cloudflare import Emulator, Fault, emulator

SANDBOXES = "/agenthost/v1/sandboxes"
LIMIT = 120  # seconds for what has to happen; nothing waits that long


async def until_gone(box: GuestSandbox) -> None:
    with anyio.fail_after(LIMIT), pytest.raises(SandboxGoneError):
        while True:
            await box.exec(["true"])


# ---- how it is made


async def test_a_create_starts_one_container_although_parallel_first_calls_would_start_more(
    cloudflare: Emulator, provider: CloudflareProvider
) -> None:
    before = cloudflare.started
    box = await provider.create(SandboxSpec())
    try:
        async with CloudflareProvider(**cloudflare.options) as other, anyio.create_task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(partial(box.exec, ["true"]))
                tasks.start_soon(other.get, box.id)
        assert cloudflare.started - before == 1
        assert cloudflare.running() == [box.id]
    finally:
        await box.terminate()


async def test_neither_the_key_nor_a_secret_of_the_spec_is_in_an_argument_or_left_inside(
    cloudflare: Emulator, provider: CloudflareProvider
) -> None:
    spec = SandboxSpec(env={"OF": "canary-of-the-spec", "PIP_INDEX_URL": "http://u:canary-of-pip@127.0.0.1/"})
    box = await provider.create(spec)
    try:
        key = provider.guest_key(await box.info())
        commands = str(cloudflare.containers.commands)
        for secret in ("canary", key.hex(), cloudflare.options["api_key"]):
            assert secret not in commands, secret
        assert (await box.exec(["sh", "-c", "echo $OF"])).stdout == b"canary-of-the-spec\n"
        look = "cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline; cat /root/.agenthost/*"
        inside = (await box.exec(["sh", "-c", look])).stdout
        assert cloudflare.options["api_key"].encode() not in inside
        assert key.hex().encode() not in inside
        names = (await box.exec(["ls", "/root/.agenthost", "/tmp"])).stdout.split()
        assert b"boot.json" not in names
        assert [name for name in names if name.endswith(b".tar")] == []
    finally:
        await box.terminate()


@pytest.mark.parametrize("part", ["start.sh", "tar -xf"])
async def test_an_exit_code_that_cloudflare_invents_is_not_taken_for_a_start(
    cloudflare: Emulator, provider: CloudflareProvider, part: str
) -> None:
    cloudflare.fabricate_exit(part)
    with anyio.fail_after(LIMIT), pytest.raises((ProviderError, SandboxStartError)):
        await provider.create(SandboxSpec())
    assert cloudflare.containers.fabricated == ""
    assert cloudflare.running() == []


async def test_a_start_whose_stream_is_cut_is_an_error_and_leaves_nothing(
    cloudflare: Emulator, provider: CloudflareProvider
) -> None:
    before = len(cloudflare.calls)

    async def cut() -> None:
        await until_true(lambda: [one for one in cloudflare.calls[before:] if one.endswith("/exec")])
        await until_true(cloudflare.cut)

    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(cut)
            with pytest.raises((ProviderError, SandboxStartError)):
                await provider.create(SandboxSpec())
    assert cloudflare.running() == []
    assert [info async for info in provider.list()] == []


async def test_a_container_that_is_replaced_while_it_is_made_is_an_error_and_leaves_nothing(
    cloudflare: Emulator, provider: CloudflareProvider
) -> None:
    async with cloudflare.faults.hold(f"PUT {SANDBOXES}/") as creates:

        async def replace() -> None:
            await creates.struck.wait()
            files = cloudflare.faults.add(Fault(f"PUT {SANDBOXES}/", hold=True))
            creates.release()
            await files.struck.wait()
            (sandbox_id,) = cloudflare.running()
            await cloudflare.replace(sandbox_id)
            files.release()

        cloudflare.faults.clear()
        cloudflare.faults.add(creates)
        creates.times = 1
        with anyio.fail_after(LIMIT):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(replace)
                with pytest.raises((ProviderError, SandboxGoneError, SandboxStartError)):
                    await provider.create(SandboxSpec())
    assert cloudflare.running() == []


async def test_a_create_that_breaks_off_while_its_container_starts_is_found_and_waited_for(
    cloudflare: Emulator, provider: CloudflareProvider
) -> None:
    before = len(cloudflare.calls)
    with anyio.fail_after(LIMIT):
        async with cloudflare.faults.hold("container start") as start, anyio.create_task_group() as tasks:

            async def break_off() -> None:
                await start.struck.wait()
                assert cloudflare.cut_calls() == 1
                looks = f"GET {SANDBOXES}/"
                await until_true(lambda: [one for one in cloudflare.calls[before:] if one.startswith(looks)])
                start.release()

            tasks.start_soon(break_off)
            box = await provider.create(SandboxSpec())
            assert (await box.exec(["echo", "once"])).stdout == b"once\n"
            assert cloudflare.running() == [box.id]
            await box.terminate()


@pytest.mark.full
async def test_a_worker_that_runs_as_many_containers_as_it_may_makes_no_more_and_leaves_nothing() -> None:
    async with emulator(most_running=1) as full, CloudflareProvider(**full.options) as provider:
        box = await provider.create(SandboxSpec())
        with pytest.raises(QuotaError, match="max_instances") as caught:
            await provider.create(SandboxSpec())
        assert caught.value.outcome == "refused"
        assert [info.id async for info in provider.list()] == full.running() == [box.id]
        await box.terminate()
        again = await provider.create(SandboxSpec())
        await again.terminate()


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (SandboxSpec(image="mine"), "image='mine'"),
        (SandboxSpec(cpu=4), "cpu=4"),
        (SandboxSpec(region="weur"), "region='weur'"),
        (SandboxSpec(network=NetworkPolicy.none()), "network=none"),
        (SandboxSpec(network=NetworkPolicy.allow(["pypi.org"])), "network=allow"),
    ],
)
async def test_what_the_worker_decides_is_refused_before_any_call(
    cloudflare: Emulator, provider: CloudflareProvider, spec: SandboxSpec, words: str
) -> None:
    before = len(cloudflare.calls)
    with pytest.raises(UnsupportedError, match=words):
        await provider.create(spec)
    assert len(cloudflare.calls) == before


async def test_another_key_is_refused_and_is_in_no_error(cloudflare: Emulator) -> None:
    wrong: dict[str, Any] = dict(cloudflare.options, api_key="c0ffee")
    async with CloudflareProvider(**wrong) as stranger:
        with pytest.raises(ProviderError, match="refused the key") as caught:
            await stranger.create(SandboxSpec())
        assert "c0ffee" not in str(caught.value)
    assert cloudflare.running() == []


async def test_a_worker_with_bounds_of_its_own_makes_sandboxes_within_these_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    hosts = ["pypi.org", "files.pythonhosted.org"]
    async with emulator(closed_to=hosts, max_lifetime=900) as small:
        opened: dict[str, Any] = dict(small.options, egress="open")
        async with CloudflareProvider(**opened) as provider:
            with pytest.raises(ConfigError, match=r"egress='open'.*closed"):
                await provider.create(SandboxSpec())
        async with CloudflareProvider(**small.options) as provider:
            for spec, words in (
                (SandboxSpec(network=NetworkPolicy.open()), "network=open"),
                (SandboxSpec(network=NetworkPolicy.none()), "reach files.pythonhosted.org, pypi.org"),
                (SandboxSpec(max_lifetime=1000), "this Worker allows 0.25 hours"),
            ):
                with pytest.raises(UnsupportedError, match=words):
                    await provider.create(spec)
            assert small.started == 0
            box = await provider.create(SandboxSpec(network=NetworkPolicy.allow(hosts)))
            expires = (await box.info()).expires_at
            assert expires is not None
            assert expires - time.time() <= 901
            await box.terminate()
        assert "the longest of this plan" in caplog.text


# ---- how it is reached


async def test_a_sandbox_is_reached_through_an_edge_that_loses_doubles_and_cuts_requests(
    cloudflare: Emulator, box: GuestSandbox
) -> None:
    cloudflare.edge.plan(*seeded_faults(11))
    with anyio.fail_after(LIMIT):
        for number in range(5):
            done = await box.exec(["sh", "-c", f"seq 20000; echo {number}"])
            assert done.stdout.endswith(f"20000\n{number}\n".encode())
    assert cloudflare.edge.struck != []


async def test_another_host_finds_it_and_every_byte_passes(cloudflare: Emulator, box: GuestSandbox) -> None:
    data = bytes(range(256)) * 5000
    async with CloudflareProvider(**cloudflare.options) as other:
        again = await other.get(box.id)
        await again.write_file("data", data)
        assert (await box.exec(["cat", "data"])).stdout == data
        assert [info.id async for info in other.list()] == [box.id]


async def test_a_message_from_inside_arrives_while_its_answer_goes_on(box: GuestSandbox) -> None:
    async with box.spawn(["sh", "-c", "while read line; do echo got $line; done"]) as process:
        with anyio.fail_after(LIMIT):
            for number in range(3):
                await process.send_stdin(b"%d\n" % number)
                assert await process.receive_stdout() == b"got %d\n" % number


async def test_nothing_is_lost_when_the_worker_starts_anew(cloudflare: Emulator, box: GuestSandbox) -> None:
    async with box.spawn(["sh", "-c", "while read line; do echo got $line; done"]) as process:
        for number in range(3):
            await cloudflare.start_worker()
            with anyio.fail_after(LIMIT):
                await process.send_stdin(b"%d\n" % number)
                assert await process.receive_stdout() == b"got %d\n" % number
    assert (await box.info()).state == "running"


# ---- how it ends


async def test_a_container_that_was_replaced_is_gone_and_its_successor_is_not_left(
    cloudflare: Emulator, provider: CloudflareProvider, box: GuestSandbox
) -> None:
    assert (await box.exec(["true"])).exit_code == 0
    await cloudflare.replace(box.id)
    await until_gone(box)
    assert (await box.info()).state == "ended"
    with pytest.raises(SandboxNotFoundError):
        await provider.get(box.id)
    with anyio.fail_after(LIMIT):
        await until_true(lambda: not cloudflare.running())


async def test_a_container_that_slept_or_was_lost_is_gone_and_nothing_starts_another_one(
    cloudflare: Emulator, provider: CloudflareProvider, box: GuestSandbox
) -> None:
    before = cloudflare.started
    await cloudflare.lose(box.id)
    await until_gone(box)
    assert (await box.info()).state == "ended"
    for step in (partial(provider.get, box.id), partial(provider.vendor.look_up, box.id)):
        with pytest.raises(SandboxNotFoundError):
            await step()
    assert cloudflare.started == before


@pytest.mark.full
async def test_the_container_ends_with_its_lifetime_also_without_a_guest(
    cloudflare: Emulator, provider: CloudflareProvider
) -> None:
    box = await provider.create(SandboxSpec(max_lifetime=8))
    machine = await cloudflare.machine(box.id)
    await machine.sandbox.exec(["sh", "-c", "kill -9 $(cat /root/.agenthost/guest.sock.pid)"])
    with anyio.fail_after(LIMIT):
        await cloudflare.ended(box.id)
        await until(partial(_listed, provider), lambda found: not found)
    await until_gone(box)


async def _listed(provider: CloudflareProvider) -> list[str]:
    return [info.id async for info in provider.list()]


async def test_a_lease_is_renewed_and_ends_the_sandbox_where_it_is_not(
    cloudflare: Emulator, provider: CloudflareProvider
) -> None:
    box = await provider.create(SandboxSpec(lease=60, max_lifetime=600))
    first = (await box.info()).expires_at
    assert first is not None
    assert 0 < first - time.time() <= 61
    await box.backend.extend(300)  # type: ignore[attr-defined]  # SupportsLease
    second = (await box.info()).expires_at
    assert second is not None
    assert second - first > 200
    cloudflare.clock.advance(100)
    assert (await box.exec(["true"])).exit_code == 0
    cloudflare.clock.advance(300)
    with anyio.fail_after(LIMIT):
        await cloudflare.ended(box.id)
    await until_gone(box)
    await box.terminate()


async def test_an_end_that_is_asked_for_again_after_its_answer_was_lost_is_one_end(
    cloudflare: Emulator, provider: CloudflareProvider
) -> None:
    box = await provider.create(SandboxSpec())
    cloudflare.faults.lose_answer(f"DELETE {SANDBOXES}/{box.id}")
    await box.terminate()
    assert cloudflare.running() == []
    assert [info async for info in provider.list()] == []


async def test_a_credential_that_is_revoked_later_ends_no_sandbox(
    cloudflare: Emulator, box: GuestSandbox
) -> None:
    cloudflare.faults.revoked = True
    try:
        with pytest.raises(AgentHostError, match="refused the key"):
            await box.info()
    finally:
        cloudflare.faults.clear()
    assert cloudflare.running() == [box.id]
    assert (await box.exec(["echo", "here"])).stdout == b"here\n"
