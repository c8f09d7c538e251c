"""A hosted agent at Fly: the real CLI and a scripted model, through Fly's proxy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import anyio
import pytest
from claude_agent_sdk import ClaudeAgentOptions, Message
from support.hosting import KEY, scripted
from support.messages import results, texts
from support.package_index import PackageIndex

from agenthost import HostedAgent
from agenthost.providers.fly.provider import FlyProvider
from agenthost.spec import SandboxSpec
from agenthost.testing import Text, ToolUse
from agenthost.testing.emulators.fly import Emulator, emulator

LIMIT = 180
OPTIONS = ClaudeAgentOptions(permission_mode="bypassPermissions", max_turns=5)
SCRIPT = (ToolUse("Bash", {"command": "id -un; env"}), Text("It is done."))


async def run_agent(
    fly: Emulator,
    spec: SandboxSpec,
    monkeypatch: pytest.MonkeyPatch,
    *,
    on_message: Callable[[], object] = lambda: None,
) -> str:
    """Have an agent print its environment, and return that."""
    said = ""
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    with anyio.fail_after(LIMIT):
        async with (
            scripted(monkeypatch, *SCRIPT),
            FlyProvider(**fly.options) as provider,
            HostedAgent(OPTIONS, provider=provider, spec=spec) as agent,
        ):
            await agent.query("Who are you?")
            messages: list[Message] = []
            async for message in agent.receive_response():
                messages.append(message)
                on_message()
            assert texts(messages) == ["It is done."]
            (said,) = results(messages)
    return said


@pytest.mark.full
async def test_an_agent_works_through_a_proxy_that_breaks_its_streams_and_sees_no_token(
    fly_images: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with emulator(images=fly_images) as fly:
        said = await run_agent(fly, SandboxSpec(), monkeypatch, on_message=fly.cut)
    assert said.startswith("root\n")
    assert KEY not in said
    assert fly.options["token"] not in said
    assert fly.running() == []


@pytest.mark.full  # it installs the SDK
async def test_an_image_without_the_sdk_is_no_hindrance_where_a_package_index_is_reached(
    package_index: PackageIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = ""
    async with emulator() as fly, package_index.serving() as environment:
        # The variables of installers are for the start, too.
        said = await run_agent(fly, SandboxSpec(env=environment), monkeypatch)
    assert said.startswith("root\n")


async def test_an_image_without_the_sdk_and_without_an_index_is_an_error_that_says_so(
    fly: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = SandboxSpec(
        env={
            "PIP_INDEX_URL": "http://127.0.0.1:9/",
            "PIP_RETRIES": "0",
            "UV_INDEX_URL": "http://127.0.0.1:9/",
        }
    )
    with pytest.raises(Exception, match="a package index that has it within reach"):
        await run_agent(fly, spec, monkeypatch)
    assert fly.running() == []
