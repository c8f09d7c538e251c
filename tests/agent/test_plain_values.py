"""A value of the wrong kind is refused where it is given, by its name, before anything is made."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from claude_agent_sdk import ClaudeAgentOptions

from agenthost import HostedAgent, Limits, NetworkPolicy, ResourceLimits, SandboxSpec, open_provider, prewarm
from agenthost.errors import ConfigError

PLAIN = "local-unisolated"


def spec(**fields: Any) -> Callable[[], object]:
    return lambda: SandboxSpec(**fields)


def agent(options: Any = None, **arguments: Any) -> Callable[[], object]:
    return lambda: HostedAgent(options, provider=PLAIN, **arguments)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (agent(limits={"start": 3}), r"limits is .*must be a Limits"),
        (agent(spec={"cpu": 1}), r"spec is .*must be a SandboxSpec"),
        (agent({"modl": "x"}), r"options\.modl: .*Did you mean 'model'\?"),
        (agent({"nothing_like_it": "x"}), r"options\.nothing_like_it: ClaudeAgentOptions has no such field"),
        (
            agent({"env": {"A": None}}),
            r"options\.env\['A'\] is of type NoneType; names and values",
        ),
        (agent(ClaudeAgentOptions(env={"A": 1})), r"options\.env\['A'\] is of type int"),  # type: ignore[dict-item] # on purpose
        (agent({"env": ["A=1"]}), r"options\.env is of type list; it must map names to values"),
        (spec(network="none"), r"network is 'none'; it must be NetworkPolicy\.none\(\)"),
        (spec(cpu="1"), "cpu is '1'; it must be a number"),
        (spec(cpu=True), "cpu is True"),
        (spec(memory_mib=1.5), r"memory_mib is 1\.5; it must be a whole number"),
        (spec(limits={"pids": 3}), r"limits is .*ResourceLimits"),
        (spec(name=3), "name is 3; it must be a string"),
        (spec(env={"A": 1}), r"env\['A'\] is of type int"),
        (spec(env={"A": "x\0"}), r"env\['A'\] holds a NUL byte"),
        (spec(env={"A": "x\ud83d"}), r"env\['A'\] holds U\+D83D, half of a character"),
        (spec(env={"\ud83d": "x"}), r"the name of env\['\\ud83d'\] holds U\+D83D"),
        (spec(workdir="/\ud83d"), r"workdir holds U\+D83D"),
        (spec(labels={1: "a"}), r"labels\[1\] is of type int"),
        (spec(mounts=("/a",)), "mounts must be a list of Mount"),
        (spec(inject={"host": "a"}), "inject must be a list of HeaderInjection"),
        (spec(provider_options="x"), "provider_options is of type str"),
        (lambda: NetworkPolicy.allow("example.org"), r"a list of host names is wanted"),
        (lambda: NetworkPolicy.allow(None), r"NetworkPolicy\.allow\(None\)"),  # type: ignore[arg-type] # on purpose
        (lambda: ResourceLimits(pids=0), "pids is 0; it must be above 0"),
        (lambda: ResourceLimits(cpu=float("inf")), "cpu is inf; it must be finite"),
        (lambda: SandboxSpec(max_lifetime=float("inf")), "max_lifetime is inf; it must be finite"),
        (lambda: Limits(start=0), r"Limits\.start is 0; it must be above 0"),
        (lambda: Limits(close="3"), r"Limits\.close is '3'; it must be a number"),  # type: ignore[arg-type] # on purpose
        (lambda: Limits(start=None), r"Limits\.start is None"),  # type: ignore[arg-type] # on purpose
        (lambda: prewarm(PLAIN, spec={"cpu": 1}), "spec is"),  # type: ignore[arg-type] # on purpose
    ],
)
def test_a_value_of_the_wrong_kind_is_refused_by_its_name(make: Callable[[], object], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        make()


def test_the_value_of_a_variable_is_not_shown() -> None:
    with pytest.raises(ConfigError) as caught:
        SandboxSpec(env=["TOKEN=a secret"])  # type: ignore[arg-type] # on purpose
    assert "secret" not in str(caught.value)
    with pytest.raises(ConfigError) as caught:
        HostedAgent(spec={"env": {"TOKEN": "a secret"}})  # type: ignore[arg-type] # on purpose
    assert "secret" not in str(caught.value)


def test_host_names_may_come_from_a_generator() -> None:
    names = ("a.example", "b.example")
    assert NetworkPolicy.allow(name for name in names).hosts == names


def test_names_of_options_are_known_without_the_sdk() -> None:
    program = (
        "import sys, agenthost\n"
        "try:\n"
        "    agenthost.HostedAgent({'modl': 'x'})\n"
        "except agenthost.errors.ConfigError as error:\n"
        "    print('model' in str(error), 'claude_agent_sdk' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "True False\n"


async def test_a_program_and_its_arguments_are_strings() -> None:
    async with open_provider(PLAIN) as provider:
        with pytest.raises(ConfigError, match="spec is"):
            await provider.create({"cpu": 1})  # type: ignore[arg-type] # on purpose
        sandbox = await provider.create(SandboxSpec())
        try:
            with pytest.raises(TypeError, match=r"argv\[1\] is of type int; it must be a string"):
                await sandbox.exec(["echo", 3])  # type: ignore[list-item] # on purpose
        finally:
            await sandbox.terminate()
