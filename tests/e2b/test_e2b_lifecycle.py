"""A sandbox of E2B is made whole, once or not at all; it ends once and for all, and nothing wakes it up."""

from __future__ import annotations

import logging
import time
from functools import partial

import anyio
import pytest

from agenthost.adapter import cloud
from agenthost.adapter.make_once import make_once
from agenthost.errors import (
    ConfigError,
    ProviderError,
    SandboxGoneError,
    SandboxNotFoundError,
    UnsupportedError,
)
from agenthost.link.client import GuestSandbox
from agenthost.providers.e2b.backend import E2BBackend
from agenthost.providers.e2b.provider import E2BProvider
from agenthost.spec import NetworkPolicy, SandboxSpec
from agenthost.testing.emulators.e2b import Emulator, Fault, emulator

LIMIT = 120  # seconds for what has to happen; nothing waits that long
CREATE = "POST /v2/sandboxes"


def backend_of(box: GuestSandbox) -> E2BBackend:
    assert isinstance(box.backend, E2BBackend)
    return box.backend


async def until_gone(box: GuestSandbox) -> None:
    with anyio.fail_after(LIMIT), pytest.raises(SandboxGoneError):
        while True:
            await box.exec(["true"])


async def test_the_call_that_makes_it_says_name_labels_and_end_and_no_environment(
    provider: E2BProvider, e2b: Emulator
) -> None:
    spec = SandboxSpec(name="the-name", labels={"team": "a b"}, env={"OF": "the-spec"}, max_lifetime=600)
    box = await provider.create(spec)
    try:
        told = e2b.box(box.id)
        assert told.metadata["agenthost-name"] == "the-name"
        assert told.metadata["team"] == "a b"
        assert told.metadata["agenthost-nonce"]
        assert e2b.keys[-1].isalnum()  # some installations take no other keys of idempotency
        assert told.on_timeout == "kill"
        assert not told.auto_resume
        assert round(told.end_at - told.started_at) == 600
        assert told.env == {}
        # E2B lists the environments of programs: the guest has it from a file.
        assert all(set(one.config.get("envs", {})) <= {"HOME"} for one in told.programs.running.values())
        assert (await box.exec(["sh", "-c", "echo $OF"])).stdout == b"the-spec\n"
        assert [info.id async for info in provider.list({"team": "a b"})] == [box.id]
    finally:
        await box.terminate()


async def test_a_sandbox_whose_making_was_lost_and_that_is_not_reached_is_ended(
    provider: E2BProvider, e2b: Emulator
) -> None:
    e2b.faults.add(Fault(CREATE, lose=True))
    e2b.faults.add(Fault(f"{CREATE}/", status=500))  # the call that connects to what was found
    with pytest.raises(ProviderError, match="connecting to sandbox"):
        await provider.create(SandboxSpec())
    assert e2b.boxes.all == {}


@pytest.mark.parametrize("status", [429, 502, 503])
async def test_a_busy_e2b_is_asked_again_for_the_same_sandbox(
    provider: E2BProvider, e2b: Emulator, status: int
) -> None:
    e2b.faults.add(Fault(CREATE, status=status, headers={"retry-after": "0"}, times=2))
    box = await provider.create(SandboxSpec())
    try:
        assert list(e2b.boxes.all) == [box.id]
    finally:
        await box.terminate()


async def test_an_answer_that_is_lost_behind_a_retry_is_the_same_sandbox(
    provider: E2BProvider, e2b: Emulator
) -> None:
    # The proxy says 502 although the sandbox was made: the key of the call makes the second one the same.
    e2b.faults.add(Fault(CREATE, status=502, after=True, headers={"retry-after": "0"}))
    box = await provider.create(SandboxSpec())
    try:
        assert list(e2b.boxes.all) == [box.id]
    finally:
        await box.terminate()


@pytest.mark.parametrize(
    ("status", "words"), [(429, "too many requests"), (503, "no capacity"), (401, "refused the API key")]
)
async def test_an_e2b_that_goes_on_to_refuse_is_told_without_the_key(
    provider: E2BProvider, e2b: Emulator, status: int, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cloud, "make_once", partial(make_once, looks=(0.0,)))
    e2b.faults.add(Fault(CREATE, status=status, headers={"retry-after": "0"}, times=4))
    with pytest.raises(ProviderError, match=words) as caught:
        await provider.create(SandboxSpec())
    assert e2b.options["api_key"] not in str(caught.value)
    assert e2b.boxes.all == {}
    e2b.faults.clear()


@pytest.mark.parametrize("status", [409, 429, 503])
async def test_a_refusal_behind_a_try_that_was_done_is_no_proof_that_there_is_nothing(
    provider: E2BProvider, e2b: Emulator, status: int
) -> None:
    # The client tries again after the 502 by itself, and tells only how that went.
    e2b.faults.add(Fault(CREATE, status=502, after=True, headers={"retry-after": "0"}))
    e2b.faults.add(Fault(CREATE, status=status, headers={"should-retry": "false"}))
    box = await provider.create(SandboxSpec())
    try:
        assert list(e2b.boxes.all) == [box.id]
        assert (await box.exec(["echo", "ours"])).stdout == b"ours\n"
    finally:
        await box.terminate()


async def test_what_a_refused_try_has_made_is_ended_where_it_cannot_be_reached(
    provider: E2BProvider, e2b: Emulator
) -> None:
    e2b.faults.add(Fault(CREATE, status=502, after=True, headers={"retry-after": "0"}))
    e2b.faults.add(Fault(CREATE, status=429, headers={"should-retry": "false"}))
    e2b.faults.add(Fault(f"{CREATE}/", status=500))  # the call that connects to what was found
    with pytest.raises(ProviderError, match="connecting to sandbox"):
        await provider.create(SandboxSpec())
    assert e2b.boxes.all == {}


async def test_who_is_cancelled_in_a_create_that_nobody_answers_waits_for_a_bounded_time(
    provider: E2BProvider, e2b: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cloud, "make_once", partial(make_once, within=0.5, cleanup=0.5))
    faults = [e2b.faults.add(Fault(CREATE, hold=True))]
    with anyio.fail_after(LIMIT / 4):  # each single call may take a minute
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(provider.create, SandboxSpec())
            await faults[0].struck.wait()
            faults.append(e2b.faults.add(Fault("GET /v2/sandboxes", hold=True, times=9)))
            tasks.cancel_scope.cancel()
    e2b.faults.clear()
    for fault in faults:
        fault.release()
    await e2b.settled()
    # Nobody was there to end it: its own end does.
    for sandbox_id in list(e2b.boxes.all):
        await e2b.lose(sandbox_id)


async def test_a_template_that_is_not_there_is_named(provider: E2BProvider, e2b: Emulator) -> None:
    with pytest.raises(ConfigError, match="no-such-template"):
        await provider.create(SandboxSpec(image="no-such-template"))
    assert e2b.boxes.all == {}


@pytest.mark.parametrize(
    ("spec", "error", "words"),
    [
        (SandboxSpec(region="eu"), UnsupportedError, "region"),
        (SandboxSpec(cpu=4), UnsupportedError, "size of its template"),
        (SandboxSpec(memory_mib=1024, image="base"), UnsupportedError, "size of its template"),
        (SandboxSpec(provider_options={"public_ports": 1}), ConfigError, "public_ports"),
        (SandboxSpec(network=NetworkPolicy.allow(["a b"])), ConfigError, "a b"),
    ],
)
async def test_what_e2b_cannot_do_is_refused_before_it_is_asked(
    provider: E2BProvider, e2b: Emulator, spec: SandboxSpec, error: type[Exception], words: str
) -> None:
    before = len(e2b.calls)
    with pytest.raises(error, match=words):
        await provider.create(spec)
    assert len(e2b.calls) == before


async def test_the_plans_limit_refuses_a_lifetime_and_shortens_a_default_with_one_warning(
    e2b_template: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    del e2b_template
    caplog.set_level(logging.WARNING, logger="agenthost")
    async with emulator(longest=1800) as small, E2BProvider(**small.options) as provider:
        with pytest.raises(UnsupportedError, match=r"allows 0\.5 hours at most"):
            await provider.create(SandboxSpec(max_lifetime=2000))
        with pytest.raises(UnsupportedError, match=r"allows 0\.5 hours at most"):
            await provider.create(SandboxSpec(max_lifetime=2000, lease=60))  # which the plan would allow
        for _ in range(2):
            box = await provider.create(SandboxSpec())
            info = await box.info()
            assert info.expires_at is not None
            assert info.expires_at - time.time() <= 1800
            await box.terminate()
        assert small.boxes.all == {}
    assert len([one for one in caplog.records if "longest of this plan" in one.message]) == 1


async def test_a_lease_is_moved_and_never_behind_the_lifetime(provider: E2BProvider, e2b: Emulator) -> None:
    box = await provider.create(SandboxSpec(lease=300, max_lifetime=600))
    try:
        made = e2b.box(box.id)
        assert 290 < made.end_at - time.time() <= 300
        await backend_of(box).extend(450)
        assert 440 < made.end_at - time.time() <= 450
        await backend_of(box).extend(6000)
        assert made.end_at <= made.started_at + 601
        await backend_of(box).extend(30)
        assert made.end_at - time.time() <= 30
    finally:
        await box.terminate()


@pytest.mark.parametrize("call", ["GET", "POST", "DELETE"])
async def test_a_call_that_came_too_often_is_made_again_when_e2b_says(
    e2b: Emulator, box: GuestSandbox, call: str
) -> None:
    made = {
        "GET": ("", box.info),
        "POST": ("/timeout", lambda: backend_of(box).extend(60)),
        "DELETE": ("", box.backend.terminate),
    }
    path, ask = made[call]
    wanted = f"{call} /sandboxes/{box.id}{path}"
    before = e2b.calls.count(wanted)
    e2b.faults.add(Fault(wanted, status=429, headers={"retry-after": "1"}))
    began = anyio.current_time()
    await ask()
    assert e2b.calls.count(wanted) == before + 2
    assert anyio.current_time() - began >= 1  # of its own accord the client waits for a tenth of that


async def test_a_program_that_was_refused_as_one_too_many_is_started_again(
    e2b: Emulator, box: GuestSandbox
) -> None:
    start = "POST /process.Process/Start"
    before = e2b.calls.count(start)
    e2b.faults.add(Fault(start, status=429, headers={"retry-after": "1"}))
    e2b.cut()
    with anyio.fail_after(LIMIT):
        assert (await box.exec(["echo", "here"])).stdout == b"here\n"
    assert e2b.calls.count(start) >= before + 2


async def test_a_lease_that_cannot_be_set_leaves_nothing(provider: E2BProvider, e2b: Emulator) -> None:
    e2b.faults.add(Fault("POST /sandboxes/", status=500, times=3))  # each attempt
    with pytest.raises(ProviderError, match="extending sandbox"):
        await provider.create(SandboxSpec(lease=300))
    assert e2b.boxes.all == {}


async def test_a_sandbox_whose_labels_were_changed_is_not_moved_and_says_so(
    provider: E2BProvider, e2b: Emulator, box: GuestSandbox
) -> None:
    del provider
    e2b.box(box.id).metadata["agenthost-end"] = "soon"
    e2b.box(box.id).metadata.pop("agenthost-created")
    assert (await box.info()).created_at == pytest.approx(e2b.box(box.id).started_at, abs=1)
    with pytest.raises(ProviderError, match="when its lifetime ends"):
        await backend_of(box).extend(30)


async def test_a_sandbox_that_was_started_anew_is_gone_and_not_taken_for_the_old_one(
    provider: E2BProvider, e2b: Emulator, box: GuestSandbox
) -> None:
    del provider
    await e2b.box(box.id).reboot(60)
    await until_gone(box)


async def test_a_sandbox_whose_time_is_over_is_gone(e2b: Emulator, box: GuestSandbox) -> None:
    e2b.expire(box.id)
    await until_gone(box)
    assert (await box.info()).state == "ended"


async def test_a_sandbox_that_e2b_lost_is_gone(
    provider: E2BProvider, e2b: Emulator, box: GuestSandbox
) -> None:
    await e2b.lose(box.id)
    await until_gone(box)
    with pytest.raises(SandboxNotFoundError):
        await provider.get(box.id)
    for call in (backend_of(box).extend(30), backend_of(box).pause(), backend_of(box).resume()):
        with pytest.raises(SandboxGoneError):
            await call


@pytest.mark.full
async def test_more_sandboxes_than_fit_one_answer_are_all_listed(e2b: Emulator, box: GuestSandbox) -> None:
    made = e2b.box(box.id)
    e2b.page = 1
    async with E2BProvider(**e2b.options) as provider:
        second = await provider.create(SandboxSpec())
        try:
            assert [info.id async for info in provider.list()] == [second.id, made.id]
        finally:
            await second.terminate()
            e2b.page = 100
