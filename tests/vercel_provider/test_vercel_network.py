"""What Vercel's firewall cannot do exactly is refused, and no header's value is shown."""

from __future__ import annotations

import traceback

import pytest

from agenthost.errors import ConfigError, ProviderError, UnsupportedError
from agenthost.providers.vercel.provider import VercelProvider
from agenthost.spec import HeaderInjection, NetworkPolicy, SandboxSpec
from agenthost.testing.emulators.vercel import Emulator, Fault, emulator
from agenthost.testing.emulators.vercel.emulator import CREATE

SECRET = "sk-ant-of-this-test"
INJECT = (HeaderInjection(host="api.anthropic.com", header="x-api-key", secret=SECRET),)


@pytest.mark.parametrize("address", ["10.0.0.1", "10.0.0.0/8"])
async def test_an_address_in_a_list_of_hosts_is_refused_since_it_opens_dns(
    vercel: Emulator, provider: VercelProvider, address: str
) -> None:
    before = len(vercel.calls)
    with pytest.raises(UnsupportedError, match="leaves DNS open"):
        await provider.create(SandboxSpec(network=NetworkPolicy.allow(["pypi.org", address])))
    assert len(vercel.calls) == before


async def test_headers_that_make_no_sense_are_refused_before_any_call(
    vercel: Emulator, provider: VercelProvider
) -> None:
    before = len(vercel.calls)
    bad = HeaderInjection(host="api.anthropic.com", header="x api key", secret=SECRET)
    for spec in (
        SandboxSpec(inject=(bad,)),
        SandboxSpec(inject=INJECT, network=NetworkPolicy.none()),
        SandboxSpec(inject=(*INJECT, *INJECT)),
    ):
        with pytest.raises(ConfigError) as caught:
            await provider.create(spec)
        assert SECRET not in str(caught.value)
    assert len(vercel.calls) == before


async def test_a_plan_without_added_headers_is_named() -> None:
    async with emulator(header_rules=False) as vercel, VercelProvider(**vercel.options) as provider:
        with pytest.raises(UnsupportedError, match="plan does not include this"):
            await provider.create(SandboxSpec(inject=INJECT))
        assert vercel.running() == []


async def test_a_refusal_that_quotes_a_header_does_not_show_its_value(
    vercel: Emulator, provider: VercelProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provider, "looks", (0.0,))
    vercel.faults.add(Fault(CREATE, status=500, message=f"cannot add {SECRET}"))
    try:
        with pytest.raises(ProviderError) as caught:
            await provider.create(SandboxSpec(inject=INJECT))
    finally:
        vercel.faults.clear()
    assert SECRET not in "".join(traceback.format_exception(caught.value))


async def test_a_sandbox_without_a_network_is_reached_and_reaches_nothing(
    vercel: Emulator, provider: VercelProvider
) -> None:
    box = await provider.create(SandboxSpec(network=NetworkPolicy.none()))
    try:
        reach = ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/$0", vercel.options["base_url"].split(":")[2][:-4]]
        assert (await box.exec(reach)).exit_code != 0
    finally:
        await box.terminate()
