"""What a sandbox may reach, and headers that E2B adds: told exactly, or refused before anything is made."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agenthost.adapter.network import check_allowed_hosts, refuse_unreachable
from agenthost.errors import ConfigError, UnsupportedError
from agenthost.providers.e2b.network import check_headers, network_options
from agenthost.providers.e2b.provider import E2BProvider
from agenthost.spec import HeaderInjection, NetworkPolicy, SandboxSpec
from agenthost.testing.emulators.e2b import Emulator, Fault

KEY = HeaderInjection(host="api.anthropic.com", header="x-api-key", secret="sk-ant-canary")
CLOSED = {"allow_public_traffic": False}
SHOUTED, OTHER = replace(KEY, host="API.Anthropic.com"), replace(KEY, header="x-other")
BOTH = [{"transform": {"headers": {KEY.header: KEY.secret, "x-other": KEY.secret}}}]


def check_policy(spec: SandboxSpec) -> None:
    check_allowed_hosts(spec.network)
    refuse_unreachable(spec.inject, spec.network)


def only(host: str) -> dict[str, Any]:
    """Return how it is told that a sandbox reaches one host."""
    return {"allow_out": [host], "deny_out": ["0.0.0.0/0"]}


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        (SandboxSpec(), {"network": CLOSED}),
        (SandboxSpec(network=NetworkPolicy.open()), {"network": CLOSED, "allow_internet_access": True}),
        (SandboxSpec(network=NetworkPolicy.none()), {"network": CLOSED, "allow_internet_access": False}),
        (
            SandboxSpec(network=NetworkPolicy.allow(["pypi.org", "192.0.2.0/24"])),
            {"network": {**CLOSED, "allow_out": ["pypi.org", "192.0.2.0/24"], "deny_out": ["0.0.0.0/0"]}},
        ),
        (
            SandboxSpec(inject=(KEY,)),
            {
                "network": {
                    **CLOSED,
                    "rules": {KEY.host: [{"transform": {"headers": {KEY.header: KEY.secret}}}]},
                }
            },
        ),
        (
            SandboxSpec(network=NetworkPolicy.allow([KEY.host.title()]), inject=(SHOUTED, OTHER)),
            {"network": {**CLOSED, **only(KEY.host), "rules": {KEY.host: BOTH}}},
        ),
        (
            SandboxSpec(network=NetworkPolicy.allow(["*.anthropic.com"]), inject=(KEY, OTHER)),
            {"network": {**CLOSED, **only("*.anthropic.com"), "rules": {KEY.host: BOTH}}},
        ),
    ],
    ids=["default", "open", "none", "allow", "inject", "cases", "wildcard"],
)
def test_a_policy_is_told_as_e2b_wants_it(spec: SandboxSpec, told: dict[str, Any]) -> None:
    check_policy(spec)
    assert network_options(spec) == told


@pytest.mark.parametrize(
    "spec",
    [
        SandboxSpec(network=NetworkPolicy.allow(["https://pypi.org"])),
        SandboxSpec(network=NetworkPolicy.allow([""])),
        SandboxSpec(network=NetworkPolicy.none(), inject=(KEY,)),
        SandboxSpec(network=NetworkPolicy.allow(["pypi.org"]), inject=(KEY,)),
        SandboxSpec(network=NetworkPolicy.allow(["*.api.anthropic.com"]), inject=(KEY,)),
    ],
    ids=["url", "empty", "headers-without-network", "headers-for-a-denied-host", "wildcard"],
)
def test_a_policy_that_makes_no_sense_is_refused(spec: SandboxSpec) -> None:
    with pytest.raises(ConfigError):
        check_policy(spec)


@pytest.mark.parametrize(
    ("host", "header", "secret", "error"),
    [
        ("10.0.0.1/8", "x-api-key", "canary", UnsupportedError),
        ("*.example.org", "x-api-key", "canary", UnsupportedError),
        ("example.org", "x api key", "canary", ConfigError),
        ("example.org", "x-api-key", "canary\r\nx: y", ConfigError),
        ("example.org", "x-api-key", "", ConfigError),
    ],
)
def test_a_header_that_cannot_be_added_is_refused_without_its_value(
    host: str, header: str, secret: str, error: type[Exception]
) -> None:
    with pytest.raises(error) as caught:
        check_headers((HeaderInjection(host=host, header=header, secret=secret),))
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ((replace(KEY, header="x" * 65),), "longer than the 64"),
        ((replace(KEY, secret="canary" * 400),), "longer than the 2048"),
        ((KEY, replace(SHOUTED, header="X-API-Key", secret="canary")), "there 2 times"),
        (tuple(replace(KEY, header=f"x-{number}") for number in range(21)), "20 at most"),
        (tuple(replace(KEY, host=f"a{number}.example.org") for number in range(11)), "10 at most"),
        ((replace(KEY, host=f"{'a' * 121}.example"),), "longer than the 128"),
    ],
    ids=["name", "value", "twice", "many", "hosts", "long-host"],
)
def test_more_than_e2b_takes_is_refused_and_no_header_gets_lost(
    headers: tuple[HeaderInjection, ...], words: str
) -> None:
    with pytest.raises((ConfigError, UnsupportedError), match=words) as caught:
        check_headers(headers)
    assert "canary" not in str(caught.value)


def test_as_much_as_e2b_takes_is_taken() -> None:
    longest = [replace(KEY, header=f"x-{number:062}", secret="v" * 2048) for number in range(20)]
    check_headers([*longest, replace(KEY, host="example.org")])


async def test_the_rules_arrive_and_the_secret_is_in_nothing_that_is_shown(
    provider: E2BProvider, e2b: Emulator
) -> None:
    spec = SandboxSpec(network=NetworkPolicy.allow([KEY.host]), inject=(KEY,))
    box = await provider.create(spec)
    try:
        told = e2b.box(box.id).network
        assert told["rules"] == {KEY.host: [{"transform": {"headers": {KEY.header: KEY.secret}}}]}
        assert told["denyOut"] == ["0.0.0.0/0"]
        assert told["allowPublicTraffic"] is False
        assert KEY.secret not in repr(await box.info()) + repr(e2b.box(box.id).metadata)
    finally:
        await box.terminate()


async def test_a_refusal_that_quotes_the_secret_is_told_without_it(
    provider: E2BProvider, e2b: Emulator
) -> None:
    e2b.faults.add(Fault("POST /v2/sandboxes", status=400, message=f"header value {KEY.secret} is wrong"))
    with pytest.raises(ConfigError) as caught:
        await provider.create(SandboxSpec(inject=(KEY,)))
    error: BaseException | None = caught.value
    while error is not None:
        assert KEY.secret not in str(error)
        error = error.__cause__ or error.__context__
