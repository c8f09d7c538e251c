"""One create makes one sandbox or none, whatever becomes of its answer."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from functools import partial

import anyio
import pytest
from modal_provider.accounts import shorten

from agenthost.adapter import cloud
from agenthost.adapter.calls import LateError
from agenthost.adapter.make_once import make_once
from agenthost.errors import (
    ConfigError,
    ProviderBusyError,
    ProviderError,
    SandboxStartError,
    UnsupportedError,
)
from agenthost.providers.modal.provider import ModalProvider
from agenthost.spec import HeaderInjection, NetworkPolicy, SandboxSpec, generate_name
from agenthost.testing.emulators.modal import ModalEmulator

LIMIT = 120
CREATE = "SandboxCreateV2"


@pytest.fixture
async def provider(bare: ModalEmulator) -> AsyncIterator[ModalProvider]:
    """Give a provider that does not look for long; what it leaves is seen."""
    async with ModalProvider(**bare.options) as opened:
        opened.looks = (0.0, 0.05)
        yield opened
    bare.faults.clear()
    assert bare.running() == []


async def test_what_is_asked_for_arrives_as_it_was_asked_for(
    bare: ModalEmulator, provider: ModalProvider
) -> None:
    spec = SandboxSpec(
        name=generate_name(),
        cpu=2,
        memory_mib=2048,
        max_lifetime=601.5,
        labels={"team": "blue"},
        env={"NOT_SHOWN": "at-modal"},
        region="eu-west",
        network=NetworkPolicy.none(),
        provider_options={"cloud": "aws"},
    )
    sandbox = await provider.create(spec)
    try:
        wanted = bare.definition(sandbox.id)
        assert (wanted.name, wanted.timeout_secs, wanted.runtime) == (spec.name, 602, "gvisor")
        assert (wanted.resources.milli_cpu, wanted.resources.memory_mb) == (1000, 2048)
        assert list(wanted.scheduler_placement.regions) == ["eu-west"]
        assert wanted.cloud_provider_str == "aws"
        assert wanted.network_access.network_access_type == wanted.network_access.BLOCKED
        assert bare.tags(sandbox.id)["team"] == "blue"
        assert "at-modal" not in str(wanted) + str(bare.tags(sandbox.id))
        info = await sandbox.info()
        assert info.resources["cpu"] == "1 physical cores (2 vCPU) at least"
        assert (info.resources["memory"], info.resources["network"]) == ("2048 MiB at least", "none")
        assert (await sandbox.exec(["printenv", "NOT_SHOWN"])).stdout == b"at-modal\n"
    finally:
        await sandbox.terminate()


async def test_a_list_of_domains_is_passed_on_as_modals_own_option(
    bare: ModalEmulator, provider: ModalProvider
) -> None:
    options = {"outbound_domain_allowlist": ["api.example.com", "*.example.org"]}
    sandbox = await provider.create(SandboxSpec(provider_options=options))
    try:
        access = bare.definition(sandbox.id).network_access
        assert access.network_access_type == access.ALLOWLIST
        assert list(access.allowed_domains) == ["api.example.com", "*.example.org"]
        assert (await sandbox.info()).resources["network"] == "open, domains by their TLS name"
    finally:
        await sandbox.terminate()


async def test_headers_are_made_of_a_named_secret_whose_value_is_nowhere_inside(
    bare: ModalEmulator, provider: ModalProvider
) -> None:
    bare.add_secret("anthropic", {"KEY": "sk-ant-kept-at-modal"})
    inject = HeaderInjection(host="api.anthropic.com", header="x-api-key", secret="${anthropic/KEY}")
    sandbox = await provider.create(SandboxSpec(inject=(inject,)))
    try:
        (made,) = bare.definition(sandbox.id).experimental_outbound_policy.header_replacements
        assert (made.domain, dict(made.headers)) == ("api.anthropic.com", {"x-api-key": "$KEY"})
        assert made.secret_id
        inside = await sandbox.exec(["sh", "-c", "env; cat /proc/[0-9]*/environ"])
        assert b"sk-ant" not in inside.stdout
    finally:
        await sandbox.terminate()


async def test_a_secret_that_modal_has_not_is_told_before_anything_is_made(
    bare: ModalEmulator, provider: ModalProvider
) -> None:
    inject = HeaderInjection(host="api.anthropic.com", header="x-api-key", secret="${nowhere/KEY}")
    before = bare.calls.count(CREATE)
    with pytest.raises(ConfigError, match="nowhere"):
        await provider.create(SandboxSpec(inject=(inject,)))
    assert bare.calls.count(CREATE) == before


async def test_an_environment_that_modal_has_not_is_a_mistake_of_the_config(
    bare: ModalEmulator, provider: ModalProvider
) -> None:
    bare.faults.refuse("AppGetOrCreate", "NOT_FOUND", times=1)
    with pytest.raises(ConfigError, match="finding or making the app"):
        await provider.create(SandboxSpec())


@pytest.mark.parametrize("status", ["UNAVAILABLE", "INTERNAL", "DEADLINE_EXCEEDED"])
async def test_a_sandbox_whose_create_lost_its_answer_is_found_by_its_name_and_used(
    bare: ModalEmulator, provider: ModalProvider, status: str
) -> None:
    # Modal's client asks again by itself, and hears that the name is taken: by its own first request.
    bare.faults.lose_answer(CREATE, status)
    sandbox = await provider.create(SandboxSpec(name=generate_name()))
    try:
        assert bare.running() == [sandbox.id]
        assert (await sandbox.exec(["echo", "here"])).stdout == b"here\n"
    finally:
        await sandbox.terminate()


async def test_a_create_that_is_not_answered_in_time_ends_in_an_error_of_ours(
    bare: ModalEmulator, provider: ModalProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    await shorten(provider, monkeypatch, create=1.5)
    async with bare.faults.hold(CREATE) as gate:
        with anyio.fail_after(LIMIT), pytest.raises(LateError, match=r"within 1\.5 s$"):
            await provider.create(SandboxSpec())
        assert gate.struck.is_set()


async def test_a_server_that_nobody_reaches_is_given_up_after_our_time_and_not_modals_minute() -> None:
    async with ModalProvider(
        token_id="ak-1", token_secret="as-1", server_url="http://127.0.0.1:9"
    ) as provider:
        provider.vendor.calls.seconds = 0.2
        with pytest.raises(LateError, match=r"within 0\.2 s"):
            await provider.create(SandboxSpec())


async def test_a_worker_that_never_tells_how_the_start_ended_is_not_asked_for_ever(
    bare: ModalEmulator, provider: ModalProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    await shorten(provider, monkeypatch, call=3.0)
    async with bare.faults.hold("TaskExecWait"):
        with anyio.fail_after(LIMIT), pytest.raises(ProviderError, match="waiting for the end of a program"):
            await provider.create(SandboxSpec())


async def test_files_that_are_never_taken_are_told_and_not_waited_for(
    bare: ModalEmulator, provider: ModalProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    await shorten(provider, monkeypatch, call=3.0)
    async with bare.faults.hold("TaskExecStdinWrite"):
        with anyio.fail_after(LIMIT), pytest.raises(ProviderError, match="sending input"):
            await provider.create(SandboxSpec())


async def test_what_was_made_though_its_answer_came_too_late_is_used(
    bare: ModalEmulator, provider: ModalProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    await shorten(provider, monkeypatch, create=2.0)
    bare.faults.lose_answer(CREATE, "RESOURCE_EXHAUSTED", times=1, retry_after=100)
    sandbox = await provider.create(SandboxSpec(name=generate_name()))
    assert bare.running() == [sandbox.id]
    await sandbox.terminate()


async def test_a_create_that_is_cancelled_leaves_nothing_though_modal_made_it(
    bare: ModalEmulator, provider: ModalProvider
) -> None:
    async def create(scope: anyio.CancelScope) -> None:
        with scope:
            await provider.create(SandboxSpec())

    # It is held before the worker tells where it is: the sandbox is there, nobody has heard of it.
    async with bare.faults.hold("SandboxGetCommandRouterAccess") as gate, anyio.create_task_group() as tasks:
        scope = anyio.CancelScope()
        tasks.start_soon(create, scope)
        await gate.struck.wait()
        assert len(bare.running()) == 1
        scope.cancel()
    assert bare.running() == []


async def test_a_cancelled_create_whose_answer_is_lost_is_looked_for_and_ended(
    bare: ModalEmulator, provider: ModalProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cloud, "make_once", partial(make_once, cleanup=2.0))
    bare.faults.lose_answer(CREATE, "RESOURCE_EXHAUSTED", times=1, retry_after=1000)
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:

            async def cancel_when_made() -> None:
                while not bare.running():  # noqa: ASYNC110 - the emulator tells only who asks
                    await anyio.sleep(0.01)
                scope.cancel()

            tasks.start_soon(cancel_when_made)
            await provider.create(SandboxSpec())
    assert scope.cancelled_caught
    assert bare.running() == []


async def test_throttling_is_waited_for_as_long_as_modal_says(
    bare: ModalEmulator, provider: ModalProvider
) -> None:
    bare.faults.refuse(CREATE, "RESOURCE_EXHAUSTED", times=2, retry_after=0.1)
    sandbox = await provider.create(SandboxSpec())
    await sandbox.terminate()


async def test_throttling_without_a_word_of_when_is_an_error_that_says_so(
    bare: ModalEmulator, provider: ModalProvider
) -> None:
    bare.faults.refuse(CREATE, "RESOURCE_EXHAUSTED", times=1)
    with pytest.raises(ProviderError, match="limits how much is requested"):
        await provider.create(SandboxSpec())


async def test_throttling_without_end_is_ended_by_our_own_limit(
    bare: ModalEmulator, provider: ModalProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    await shorten(provider, monkeypatch, create=1.5)
    bare.faults.refuse(CREATE, "RESOURCE_EXHAUSTED", times=10_000, retry_after=0.1)
    with pytest.raises(LateError, match=r"within 1\.5 s; Modal limits how much is requested"):
        await provider.create(SandboxSpec())


async def test_a_look_that_modal_puts_off_for_longer_than_we_wait_is_not_taken_before_its_time(
    bare: ModalEmulator, provider: ModalProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    await shorten(provider, monkeypatch, call=1.0)
    bare.faults.refuse("SandboxListV2", "RESOURCE_EXHAUSTED", times=100, retry_after=1000)
    before = bare.calls.count("SandboxListV2")
    with pytest.raises(LateError, match="limits how much is requested"):
        await anext(provider.list(), None)
    assert bare.calls.count("SandboxListV2") - before == 1


async def test_a_client_that_is_told_not_to_wait_does_not_make_us_ask_before_the_time(
    bare: ModalEmulator, provider: ModalProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODAL_MAX_THROTTLE_WAIT", "0")
    bare.faults.refuse("SandboxListV2", "RESOURCE_EXHAUSTED", times=100, retry_after=1000)
    before = bare.calls.count("SandboxListV2")
    with pytest.raises(ProviderBusyError):
        await anext(provider.list(), None)
    assert bare.calls.count("SandboxListV2") - before == 1


async def test_a_look_that_failed_at_modal_is_taken_again(
    bare: ModalEmulator, provider: ModalProvider
) -> None:
    bare.faults.refuse("SandboxListV2", "INTERNAL", times=5)  # Modal's client asks four times by itself
    before = bare.calls.count("SandboxListV2")
    assert [one async for one in provider.list()] == []
    assert bare.calls.count("SandboxListV2") - before >= 6


async def test_what_is_left_of_a_cancelled_create_is_named_when_it_cannot_be_looked_for(
    bare: ModalEmulator,
    provider: ModalProvider,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cloud, "make_once", partial(make_once, cleanup=0.3))
    async with bare.faults.hold("SandboxGetFromNameV2"), bare.faults.hold(CREATE) as gate:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:

                async def cancel() -> None:
                    await gate.struck.wait()
                    scope.cancel()

                tasks.start_soon(cancel)
                await provider.create(SandboxSpec())
    assert "may be left until its lifetime is over: no answer within" in caplog.text


async def test_a_look_that_is_throttled_is_taken_again(bare: ModalEmulator, provider: ModalProvider) -> None:
    bare.faults.refuse("AppGetOrCreate", "RESOURCE_EXHAUSTED", times=1)
    sandbox = await provider.create(SandboxSpec())
    await sandbox.terminate()


async def test_a_sandbox_that_is_lost_while_its_guest_starts_is_a_start_that_failed(
    bare: ModalEmulator, provider: ModalProvider, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "modal-client")
    async with bare.faults.hold("TaskExecStdinWrite") as gate, anyio.create_task_group() as tasks:

        async def lose() -> None:
            await gate.struck.wait()
            (sandbox,) = bare.running()
            await bare.lose(sandbox)
            gate.release()

        tasks.start_soon(lose)
        with pytest.raises(SandboxStartError):
            await provider.create(SandboxSpec())


async def test_networks_by_host_are_refused_before_any_call(
    bare: ModalEmulator, provider: ModalProvider
) -> None:
    before = len(bare.calls)
    with pytest.raises(UnsupportedError, match="not enforced exactly"):
        await provider.create(SandboxSpec(network=NetworkPolicy.allow(["example.org"])))
    assert len(bare.calls) == before
