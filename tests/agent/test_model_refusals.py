"""What the host refuses of an agent's model requests, as the agent and its driver see it."""

from __future__ import annotations

import logging
from typing import Any

import anyio
import pytest
from agent.turns import turn
from claude_agent_sdk import ResultMessage

from agenthost import HostedAgent, open_provider
from agenthost.spec import SandboxSpec
from agenthost.testing import FakeCLI, ModelRequest, Text, ToolUse

LIMIT = 120
PLAIN = "local-unisolated"
LOGGER = "agenthost.agent.model"


def result_of(messages: list[Any]) -> ResultMessage:
    result = messages[-1]
    assert isinstance(result, ResultMessage)
    return result


async def test_a_web_search_in_a_closed_network_is_refused_once_and_the_agent_goes_on(
    script: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def play(request: ModelRequest) -> Any:
        if request.tool_results:
            return Text("The search: " + request.tool_results[0].text)
        return ToolUse("WebSearch", {"query": "anything"})

    caplog.set_level(logging.DEBUG, LOGGER)
    options = {"permission_mode": "bypassPermissions"}
    with anyio.fail_after(LIMIT):
        async with script(play) as model, HostedAgent(options, provider="local") as agent:
            result = result_of(await turn(agent, "Search."))

    assert not result.is_error
    assert result.result is not None
    assert "agenthost: 'web_search_20250305' in a request" in result.result
    assert [len(request.tool_results) for request in model.turns] == [0, 1]
    refused = [record for record in caplog.records if "was refused" in record.getMessage()]
    assert [record.levelname for record in refused] == ["WARNING"]


async def test_a_model_that_the_host_sets_may_be_asked_from_then_on(script: Any) -> None:
    with anyio.fail_after(LIMIT):
        async with open_provider(PLAIN) as provider, script(Text("One."), Text("Two.")) as model:
            sandbox = await provider.create(SandboxSpec())
            options = {"cli_path": await FakeCLI().put(sandbox), "model": "claude-haiku-4-5"}
            async with HostedAgent(options, sandbox=sandbox) as agent:
                await turn(agent, FakeCLI.prompt(FakeCLI.model("go")))
                await agent.set_model("gpt-6")
                await turn(agent, FakeCLI.prompt(FakeCLI.model("go")))
            await sandbox.terminate()

    assert [request.model for request in model.turns] == ["claude-haiku-4-5", "gpt-6"]


async def test_a_budget_is_counted_on_the_host_and_goes_on_with_the_next_host(script: Any) -> None:
    asks = FakeCLI.prompt(FakeCLI.model("go"))
    with anyio.fail_after(LIMIT):
        async with open_provider(PLAIN) as provider, script(Text("One."), Text("Two.")) as model:
            sandbox = await provider.create(SandboxSpec())
            # Ten tokens of a prompt and twenty of an answer cost 0.00044 dollars; a FakeCLI counts nothing.
            options = {
                "cli_path": await FakeCLI().put(sandbox),
                "model": "claude-opus-5-5",
                "max_budget_usd": 0.0005,
            }
            async with HostedAgent(options, sandbox=sandbox) as agent:
                first = result_of(await turn(agent, asks))
                ref = await agent.detach()
            async with HostedAgent.attach(ref.to_json(), sandbox=sandbox) as agent:
                second = result_of(await turn(agent, asks))
                third = result_of(await turn(agent, asks))
            await sandbox.terminate()

    assert (first.is_error, second.is_error, third.is_error) == (False, False, True)
    assert "the agent has used 0.0005 dollars, its bound (options.max_budget_usd)" in str(third)
    assert len(model.turns) == 2
