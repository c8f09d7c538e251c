"""A sandbox of Fly is made whole, once or not at all; it ends itself, and nothing wakes it up."""

from __future__ import annotations

import base64
import json
import math
import time
from collections.abc import Mapping
from typing import Any

import anyio
import pytest
from support.waiting import until_true

from agenthost.errors import (
    ConfigError,
    ProviderError,
    QuotaError,
    SandboxGoneError,
    SandboxNotFoundError,
    SandboxStartError,
    UnsupportedError,
)
from agenthost.link.client import GuestSandbox
from agenthost.providers.fly.backend import FlyBackend
from agenthost.providers.fly.errors import CapacityError
from agenthost.providers.fly.provider import FlyProvider
from agenthost.spec import NetworkPolicy, SandboxSpec
from agenthost.testing.edge import seeded_faults
from agenthost.testing.emulators.fly import Emulator, Fault

LIMIT = 120  # seconds for what has to happen; nothing waits that long
MACHINES = "/v1/apps/sandboxes/machines"
CREATE = f"POST {MACHINES}"


def backend_of(box: GuestSandbox) -> FlyBackend:
    assert isinstance(box.backend, FlyBackend)
    return box.backend


async def until_gone(box: GuestSandbox) -> None:
    with anyio.fail_after(LIMIT), pytest.raises(SandboxGoneError):
        while True:
            await box.exec(["true"])


def everything_readable(fly: Emulator, sandbox_id: str) -> str:
    """Return what everyone who may use the app reads of a machine, with its files as text."""
    described = fly.box(sandbox_id).described()
    files = [base64.b64decode(one["raw_value"]) for one in described["config"]["files"]]
    return json.dumps(described) + "".join(data.decode("latin-1") for data in files)


# ---- how it is made


async def test_the_config_that_everyone_with_the_app_can_read_holds_no_secret(
    provider: FlyProvider, fly: Emulator
) -> None:
    spec = SandboxSpec(env={"OF": "canary-of-the-spec", "PIP_INDEX_URL": "http://u:canary-of-pip@127.0.0.1/"})
    box = await provider.create(spec)
    try:
        readable = everything_readable(fly, box.id)
        key = provider.guest_key(await box.info())
        for secret in ("canary", "PIP_INDEX_URL", key.hex(), fly.options["token"], 'control_verifier": "'):
            assert secret not in readable, secret
        assert fly.box(box.id).config.get("env") is None
        assert (await box.exec(["sh", "-c", "echo $OF"])).stdout == b"canary-of-the-spec\n"
    finally:
        await box.terminate()


async def test_no_token_of_fly_and_nothing_of_the_start_is_left_inside(
    box: GuestSandbox, fly: Emulator
) -> None:
    done = await box.exec(
        ["sh", "-c", "cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline; cat /root/.agenthost/* "]
    )
    assert fly.options["token"].encode() not in done.stdout
    assert b"guest_key" not in done.stdout.replace(done.stdout[done.stdout.find(b"PK") :], b"")
    found = (await box.exec(["ls", "/root/.agenthost"])).stdout.split()
    assert {b"boot.json", b"run.sh", b"run.new"}.isdisjoint(found)


async def test_a_machine_neither_stops_by_itself_nor_starts_again_nor_stays(
    box: GuestSandbox, fly: Emulator
) -> None:
    config = fly.box(box.id).config
    assert (config["auto_destroy"], config["restart"]) == (True, {"policy": "no"})
    (service,) = config["services"]
    assert (service["autostop"], service["autostart"]) == ("off", False)
    assert [port["port"] for port in service["ports"]] == [443]


async def test_a_sandbox_without_a_host_is_not_taken_for_idle(fly: Emulator) -> None:
    async with FlyProvider(**fly.options) as host:
        box = await host.create(SandboxSpec())
    await fly.look_for_idle()
    async with FlyProvider(**fly.options) as other:
        again = await other.get(box.id)
        assert (await again.exec(["echo", "here"])).stdout == b"here\n"
        await again.terminate()


async def test_every_request_to_a_guest_names_its_machine(fly: Emulator, provider: FlyProvider) -> None:
    first, second = await provider.create(SandboxSpec()), await provider.create(SandboxSpec())
    try:
        for box in (first, second):
            assert (await box.exec(["sh", "-c", "echo $FLY_MACHINE_ID"])).stdout.decode().strip() == box.id
        assert {request.get("fly-force-instance-id") for request in fly.proxied} >= {first.id, second.id}
        assert all("fly-force-instance-id" in request for request in fly.proxied)
        # The token of Fly is for its API alone, and so is the header of its scheme.
        assert not any("authorization" in request for request in fly.proxied)
    finally:
        await first.terminate()
        await second.terminate()


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (SandboxSpec(cpu=9), "at most 8 cores and 16384 MiB"),
        (SandboxSpec(memory_mib=17_000), "at most 8 cores and 16384 MiB"),
        (SandboxSpec(network=NetworkPolicy.allow(["pypi.org"])), "network=allow: the fly provider cannot"),
        (SandboxSpec(network=NetworkPolicy.none()), "network=none: the fly provider cannot"),
        (SandboxSpec(lease=60), "lease=60"),
    ],
)
async def test_what_fly_does_not_have_is_refused_before_any_call(
    provider: FlyProvider, fly: Emulator, spec: SandboxSpec, words: str
) -> None:
    before = len(fly.calls)
    with pytest.raises(UnsupportedError, match=words):
        await provider.create(spec)
    with pytest.raises(ConfigError, match=r"cpu_kind.*shared, performance"):
        await provider.create(SandboxSpec(provider_options={"cpu_kind": "quantum"}))
    assert len(fly.calls) == before


async def test_a_sandbox_is_reached_through_a_proxy_that_loses_doubles_and_cuts_requests(
    box: GuestSandbox, fly: Emulator
) -> None:
    fly.edge.plan(*seeded_faults(11))
    with anyio.fail_after(LIMIT):
        for number in range(5):
            done = await box.exec(["sh", "-c", f"seq 20000; echo {number}"])
            assert done.stdout.endswith(f"20000\n{number}\n".encode())
    assert fly.edge.struck != []


async def test_within_the_private_network_the_guest_is_reached_without_the_proxy(fly: Emulator) -> None:
    before = len(fly.proxied)
    async with FlyProvider(**fly.options, private=True) as provider:
        box = await provider.create(SandboxSpec())
        assert (await box.exec(["echo", "here"])).stdout == b"here\n"
        await box.terminate()
    assert len(fly.proxied) == before


# ---- room


@pytest.mark.parametrize(("coat", "raises"), [("quota", QuotaError), ("reserve", CapacityError)])
async def test_a_region_without_room_is_said_and_the_next_one_is_tried(
    provider: FlyProvider, fly: Emulator, coat: str, raises: type[ProviderError]
) -> None:
    fly.full["ams"] = coat
    try:
        with pytest.raises(raises) as caught:
            await provider.create(SandboxSpec(region="ams"))
        assert caught.value.outcome == "refused"
        assert fly.running() == []
        async with FlyProvider(**fly.options, regions=["ams", "fra"]) as other:
            box = await other.create(SandboxSpec())
            assert fly.box(box.id).region == (await box.info()).resources["region"] == "fra"
            await box.terminate()
    finally:
        fly.full.clear()


async def test_a_create_whose_outcome_is_unknown_is_not_tried_in_the_next_region(fly: Emulator) -> None:
    fly.faults.add(Fault(CREATE, status=500, after=True))
    async with FlyProvider(**fly.options, regions=["ams", "fra"]) as provider:
        box = await provider.create(SandboxSpec())
        assert fly.running() == [box.id]
        assert fly.box(box.id).region == "ams"
        await box.terminate()


# ---- calls


async def test_calls_that_come_too_often_for_another_hosts_are_made_again(
    provider: FlyProvider, fly: Emulator
) -> None:
    fly.faults.add(Fault(CREATE, status=429, times=2))
    fly.faults.add(Fault(f"GET {MACHINES}", status=429, retry_after=0, times=2))
    box = await provider.create(SandboxSpec())
    assert [info.id async for info in provider.list()] == [box.id]
    await box.terminate()
    fly.faults.clear()


async def test_an_exec_whose_answer_is_lost_brings_back_no_file_that_the_guest_has_removed(
    provider: FlyProvider, fly: Emulator
) -> None:
    async def trouble_it() -> None:
        (sandbox_id,) = await until_true(fly.running)
        call = f"{CREATE}/{sandbox_id}/exec"
        for fault in (Fault(call, lose=True), Fault(call), Fault(call, status=408, after=True)):
            fly.faults.add(fault)  # the files, again the files, and the first program

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(trouble_it)
        box = await provider.create(SandboxSpec())
        inside = (await box.exec(["ls", "/root/.agenthost"])).stdout.split()
        assert b"boot.json" not in inside
        assert b"run.sh" not in inside
        # A call that Fly carries out after it was made again.
        await provider.vendor.put_files(box.id, "/root/.agenthost", {"boot.json": b"late"})
        assert b"boot.json" not in (await box.exec(["ls", "/root/.agenthost"])).stdout.split()
        await box.terminate()
        assert fly.calls.count(f"{CREATE}/{box.id}/exec") > 4  # of which two are made again


async def test_the_wait_for_a_start_is_repeated_and_ends_with_the_machine(
    provider: FlyProvider, fly: Emulator
) -> None:
    first = fly.faults.add(Fault(f"GET {MACHINES}/", status=408, hold=True))

    async def lose_it() -> None:
        await first.struck.wait()
        (sandbox_id,) = fly.running()
        fly.faults.add(Fault(f"GET {MACHINES}/{sandbox_id}/wait", status=408, times=math.inf))
        first.release()
        await until_true(lambda: fly.calls.count(f"GET {MACHINES}/{sandbox_id}/wait") >= 3)
        await fly.lose(sandbox_id)

    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lose_it)
            with pytest.raises((SandboxStartError, SandboxGoneError)):
                await provider.create(SandboxSpec())
    fly.faults.clear()
    assert fly.running() == []


# ---- how it ends


async def test_a_machine_ends_with_its_guest_since_nothing_else_ends_it(
    box: GuestSandbox, fly: Emulator
) -> None:
    machine = await fly.machine(box.id)
    await machine.sandbox.exec(["sh", "-c", "kill -9 $(cat /root/.agenthost/guest.sock.pid)"])
    with anyio.fail_after(LIMIT):
        await fly.ended(box.id)
    await until_gone(box)
    assert (await box.info()).state == "ended"


async def test_a_sandbox_is_ended_by_its_guest_when_its_lifetime_is_over(
    provider: FlyProvider, fly: Emulator
) -> None:
    begin = time.time()
    box = await provider.create(SandboxSpec(max_lifetime=8))
    end = float(fly.box(box.id).config["init"]["exec"][3])
    assert begin + 8 <= end <= time.time() + 8 + 61  # the main program's own end, where the guest hangs
    with anyio.fail_after(LIMIT):
        await fly.ended(box.id)
    await until_gone(box)


async def test_a_machine_that_fly_starts_again_is_another_sandbox(box: GuestSandbox, fly: Emulator) -> None:
    backend = backend_of(box)
    await backend.pause()
    fly.forget_memory(box.id)
    with anyio.fail_after(LIMIT):
        await backend.resume()
        await fly.ended(box.id)
    await until_gone(box)


# ---- pauses


async def test_a_paused_sandbox_is_woken_up_by_no_request_and_goes_on_where_it_was(
    box: GuestSandbox, fly: Emulator, provider: FlyProvider
) -> None:
    backend = backend_of(box)
    async with box.spawn(["sh", "-c", "echo before; read line; echo after $line"]) as process:
        assert await process.receive_stdout() == b"before\n"
        await backend.pause()
        assert fly.box(box.id).state == "suspended"
        assert [info.state async for info in provider.list()] == ["paused"]
        with pytest.raises(OSError, match="503"):
            await backend.dial()
        assert fly.box(box.id).state == "suspended"
        await backend.resume()
    assert (await box.exec(["echo", "here"])).stdout == b"here\n"


async def test_a_sandbox_with_more_memory_than_fly_suspends_well_is_not_paused(
    provider: FlyProvider, fly: Emulator
) -> None:
    box = await provider.create(SandboxSpec(memory_mib=4096))
    try:
        with pytest.raises(UnsupportedError, match=r"4096 MiB of memory.*2048"):
            await backend_of(box).pause()
        assert fly.box(box.id).state == "started"
    finally:
        await box.terminate()


async def test_neither_a_pause_nor_a_resume_brings_back_what_has_ended(
    box: GuestSandbox, fly: Emulator
) -> None:
    await fly.lose(box.id)
    for step in (backend_of(box).pause, backend_of(box).resume):
        with pytest.raises(SandboxGoneError):
            await step()


async def test_an_id_of_another_app_is_not_found(provider: FlyProvider) -> None:
    with pytest.raises(SandboxNotFoundError):
        await provider.get("00000000000000")


async def test_an_app_that_is_not_there_is_named_with_the_command_that_makes_it(fly: Emulator) -> None:
    options: Mapping[str, Any] = {**fly.options, "app": "not-made-yet"}
    async with FlyProvider(**options) as provider:
        with pytest.raises(ConfigError, match="`agenthost fly init` makes it"):
            await provider.create(SandboxSpec())
