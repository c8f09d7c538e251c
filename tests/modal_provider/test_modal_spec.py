"""What is asked for: taken as Modal has it, or refused before any call."""

from __future__ import annotations

from typing import Any

import pytest

from agenthost.agent.credentials import let_provider_add
from agenthost.errors import ConfigError, UnsupportedError
from agenthost.providers.modal import spec as modal_spec
from agenthost.providers.modal.headers import replacements_of
from agenthost.providers.modal.network import DOMAINS
from agenthost.spec import HeaderInjection, NetworkPolicy, SandboxSpec


def header(secret: str, host: str = "api.example.com", name: str = "x-api-key") -> HeaderInjection:
    return HeaderInjection(host=host, header=name, secret=secret)


@pytest.mark.parametrize(
    ("spec", "error", "said"),
    [
        (SandboxSpec(disk_mib=5120), UnsupportedError, "disk_mib=5120"),
        (SandboxSpec(network=NetworkPolicy.allow(["example.org"])), UnsupportedError, "not enforced exactly"),
        (SandboxSpec(provider_options={"cloud": 3}), ConfigError, "name of a cloud"),
        (SandboxSpec(provider_options={DOMAINS: "example.org"}), ConfigError, "list of domains"),
        (SandboxSpec(provider_options={DOMAINS: ["no domain"]}), ConfigError, "list of domains"),
        (
            SandboxSpec(network=NetworkPolicy.none(), provider_options={DOMAINS: ["example.org"]}),
            ConfigError,
            "has a network",
        ),
        (
            SandboxSpec(network=NetworkPolicy.none(), inject=(header("${a/B}"),)),
            UnsupportedError,
            "open network",
        ),
        (
            SandboxSpec(provider_options={DOMAINS: ["example.org"]}, inject=(header("${a/B}"),)),
            UnsupportedError,
            "without a list of domains",
        ),
    ],
    ids=["disk", "allow", "cloud", "text", "no-domain", "none-and-list", "none", "listed"],
)
def test_what_modal_does_not_do_is_refused_by_name(
    spec: SandboxSpec, error: type[Exception], said: str
) -> None:
    with pytest.raises(error) as caught:
        modal_spec.check_spec(spec)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("given", "cpu", "memory", "timeout"),
    [
        ({}, 0.5, 1024, 3600),
        ({"cpu": 2, "memory_mib": 2048, "max_lifetime": 86400}, 1.0, 2048, 86400),
        ({"cpu": 0.01, "memory_mib": 1, "max_lifetime": 0.5}, 0.125, 1, 1),
    ],
    ids=["nothing", "more", "least"],
)
def test_cores_are_those_that_programs_see_and_times_are_whole_seconds(
    given: dict[str, Any], cpu: float, memory: int, timeout: int
) -> None:
    spec = SandboxSpec(**given)
    made = modal_spec.arguments(spec)
    assert (made["cpu"], made["memory"], made["timeout"]) == (cpu, memory, timeout)


@pytest.mark.parametrize(
    ("secret", "name", "template"),
    [
        ("${anthropic/ANTHROPIC_API_KEY}", "anthropic", "$ANTHROPIC_API_KEY"),
        ("Bearer ${my.own-one/TOKEN}", "my.own-one", "Bearer $TOKEN"),
        ("costs $5: ${a/B}!", "a", "costs $$5: $B!"),
        ("${a/B}:${a/C}", "a", "$B:$C"),
    ],
)
def test_a_header_is_made_of_what_a_secret_of_modals_holds(secret: str, name: str, template: str) -> None:
    (made,) = replacements_of([header(secret)])
    assert (made.secret, made.template, made.domain) == (name, template, "api.example.com")


@pytest.mark.parametrize("name", ["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"])
def test_an_agents_key_that_modal_is_to_add_is_named_in_its_place(name: str) -> None:
    env = {name: "${anthropic/KEY}"}
    (made,) = replacements_of(let_provider_add(env))
    assert (made.domain, made.secret) == ("api.anthropic.com", "anthropic")
    assert made.template in ("$KEY", "Bearer $KEY")
    assert "anthropic/KEY" not in env[name]


@pytest.mark.parametrize(
    ("one", "said"),
    [
        (header("sk-ant-api03-of-mine"), "takes no value"),
        (header("${a/B}${c/D}"), "takes no value"),
        (header("${a/B}sk-ant-api03-of-mine"), "would be taken for the key's"),
        (header("sk-ant-api03-of-mine\n${a/B}"), "printable ASCII"),
        (header("${a/B}", host="127.0.0.1:80"), "host names only"),
        (header("${a/B}", name="x key"), "not a valid header name"),
    ],
    ids=["value", "two-secrets", "would be taken for the key's", "control", "host", "name"],
)
def test_a_header_that_modal_cannot_add_is_refused_without_a_word_of_its_value(
    one: HeaderInjection, said: str
) -> None:
    with pytest.raises((ConfigError, UnsupportedError)) as caught:
        replacements_of([one])
    assert said in str(caught.value)
    assert "sk-ant" not in str(caught.value)


def test_more_headers_than_modal_takes_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="25 at most"):
        replacements_of([header("${a/B}", name=f"x-{number}") for number in range(26)])
