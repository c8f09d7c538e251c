"""HostedAgent.from_config: a config, with what the program says before it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import claude_agent_sdk as sdk
import pytest
from support.written import write

from agenthost import HostedAgent, SafeDefaults, SandboxSpec, load_config, open_provider, prewarm
from agenthost.agent.configured import Overrides, arguments_of
from agenthost.agent.defaults import NO_DEFAULTS
from agenthost.errors import ConfigError
from agenthost.spec import Limits
from agenthost.testing import ScriptedModel, Text, ToolUse

Script = Callable[..., AbstractAsyncContextManager[ScriptedModel]]

TEXT = """
provider = "local-unisolated"
[providers.local-unisolated]
state_dir = "STATE"
[spec]
max_lifetime = 600
[agent]
model = "claude-from-the-file"
max_turns = 7
allowed_tools = ["Bash"]
credentials = "host"
[agent.env]
FROM_FILE = "file"
BOTH = "file"
[agent.defaults]
disable_auto_memory = false
[limits]
start = 77
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path, TEXT.replace("STATE", str(tmp_path / "state")))


def arguments(
    file: Path, options: sdk.ClaudeAgentOptions | dict[str, Any] | None = None, **overrides: Any
) -> tuple[Any, dict[str, Any]]:
    given: Overrides = {**overrides}  # type: ignore[typeddict-item] # the test says them by name
    return arguments_of(file, options, given)


def test_a_config_becomes_the_arguments_of_an_agent(file: Path, tmp_path: Path) -> None:
    options, found = arguments(file)
    assert options["model"] == "claude-from-the-file"
    assert found["provider"].options == {"state_dir": str(tmp_path / "state")}
    assert found["provider"] == "local-unisolated"
    assert found["spec"] == SandboxSpec(max_lifetime=600)
    assert found["limits"] == Limits(start=77)
    assert found["defaults"] == SafeDefaults(disable_auto_memory=False)
    assert found["credentials"] == "host"
    assert "ack" not in found


@pytest.mark.parametrize(
    "options",
    [
        sdk.ClaudeAgentOptions(model="mine", env={"BOTH": "mine"}),
        {"model": "mine", "env": {"BOTH": "mine"}, "max_turns": None},
    ],
)
def test_options_of_the_program_come_first_field_by_field(
    file: Path, options: sdk.ClaudeAgentOptions | dict[str, Any]
) -> None:
    found, _ = arguments(file, options)
    assert found == {
        "model": "mine",
        "max_turns": 7,
        "allowed_tools": ["Bash"],
        "env": {"FROM_FILE": "file", "BOTH": "mine"},
    }


def test_functions_of_the_program_stay_what_they_are(file: Path) -> None:
    async def ask(*_: Any) -> sdk.PermissionResultAllow:
        return sdk.PermissionResultAllow()

    found, _ = arguments(file, sdk.ClaudeAgentOptions(can_use_tool=ask))
    assert found["can_use_tool"] is ask


def test_subagents_become_what_the_sdk_takes(tmp_path: Path) -> None:
    text = '[agent.agents.reviewer]\ndescription = "reviews"\nprompt = "Review."\nmodel = "haiku"'
    found, _ = arguments(write(tmp_path, text))
    expected = sdk.AgentDefinition(description="reviews", prompt="Review.", model="haiku")
    assert found["agents"] == {"reviewer": expected}


def test_other_arguments_take_the_place_of_what_the_config_says(file: Path) -> None:
    spec, limits = SandboxSpec(cpu=1), Limits(start=5)
    _, found = arguments(file, spec=spec, limits=limits, defaults=None, ack="manual", credentials="env")
    assert (found["spec"], found["limits"], found["defaults"]) == (spec, limits, None)
    assert (found["ack"], found["credentials"]) == ("manual", "env")
    _, found = arguments(file, provider=None, spec=None, limits=None)
    assert found["provider"] == "local-unisolated"
    assert (found["spec"], found["limits"]) == (SandboxSpec(max_lifetime=600), Limits(start=77))


def test_another_provider_by_name_has_the_options_of_its_own_table(tmp_path: Path) -> None:
    text = 'provider = "nonsense"\n[providers.local]\nsite = "/opt"\n'.replace("nonsense", "local-unisolated")
    _, found = arguments(write(tmp_path, text), provider="local")
    assert (found["provider"], found["provider"].options) == ("local", {"site": "/opt"})


def test_the_sdks_own_defaults_can_be_asked_for(tmp_path: Path) -> None:
    _, found = arguments(write(tmp_path, '[agent]\ndefaults = "sdk"'))
    assert found["defaults"] == NO_DEFAULTS


async def test_a_sandbox_that_exists_is_none_of_the_configs_making(file: Path) -> None:
    config = load_config(file)
    async with open_provider(config.provider) as provider:
        sandbox = await provider.create(config.spec)
        try:
            _, found = arguments(file, sandbox=sandbox)
            assert found["sandbox"] is sandbox
            assert not {"provider", "spec"} & set(found)
        finally:
            await sandbox.terminate()


async def test_options_of_another_kind_are_refused_as_ever(file: Path) -> None:
    wrong: Any = 3
    with pytest.raises(ConfigError, match="options is a int"):
        await HostedAgent.from_config(file, options=wrong).connect()


async def test_an_agent_runs_as_its_config_says(file: Path, tmp_path: Path, script: Script) -> None:
    command = 'echo "$FROM_FILE $BOTH $CLAUDE_CODE_DISABLE_AUTO_MEMORY."'
    async with script(ToolUse("Bash", {"command": command}), Text("Done.")) as model:
        agent = HostedAgent.from_config(file, options={"env": {"BOTH": "mine"}})
        async with agent:
            assert [path.name for path in (tmp_path / "state").glob("*/*")] == [agent.sandbox.name]
            await agent.query("go")
            async for _ in agent.receive_response():
                pass
    assert model.turns[0].model == "claude-from-the-file"
    assert model.turns[1].tool_results[0].text == "file mine ."
    assert list((tmp_path / "state").glob("*/*")) == []


async def test_a_sandbox_that_was_started_ahead_for_the_config_is_taken(file: Path, script: Script) -> None:
    """And one for other options of the same provider is not."""
    config, said = load_config(file), list[str]()
    async with (
        script(Text("Done.")),
        prewarm("local-unisolated", spec=config.spec) as other,
        prewarm(config.provider, spec=config.spec) as warm,
        HostedAgent.from_config(config, on_progress=lambda one: said.append(one.message)) as agent,
    ):
        assert agent.sandbox.id == await warm.sandbox_id() != await other.sandbox_id()
    assert "taking the sandbox that was started ahead (local-unisolated)" in said
