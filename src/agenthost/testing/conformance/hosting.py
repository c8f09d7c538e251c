"""A hosted agent for a check: the real CLI in the provider's sandbox, and a scripted model on this host."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import anyio
from claude_agent_sdk import AssistantMessage, Message, TextBlock, ToolResultBlock, UserMessage

from agenthost.adapter.provider import GuestProvider
from agenthost.agent import AgentRef, HostedAgent
from agenthost.errors import SandboxGoneError, SandboxNotFoundError
from agenthost.link.client import GuestSandbox
from agenthost.registry import registration
from agenthost.sandbox import Sandbox, SandboxProvider
from agenthost.spec import Limits, SandboxSpec
from agenthost.testing.script import Step
from agenthost.testing.scripted_model import ScriptedModel

KEY = "sk-ant-api03-conformance-canary"

_LOOK_AGAIN = 0.2  # seconds

# A host of its own: attaches to the ref that it is given and tells what its agent says.
_SECOND = """
import json, sys
asked = json.load(sys.stdin)
sys.path[:] = asked["path"]
import anyio
from agenthost import HostedAgent, message_to_json, open_provider, register_provider

if asked["target"]:
    register_provider(asked["provider"], asked["target"], replace=True)

async def main():
    async with open_provider(asked["provider"], **asked["options"]) as provider:
        async with HostedAgent.attach(asked["ref"], provider=provider) as agent:
            if asked["kill"]:
                import os, signal
                os.kill(os.getpid(), signal.SIGKILL)
            for prompt in asked["prompts"]:
                if prompt:
                    await agent.query(prompt)
                async for message in agent.receive_response():
                    print(message_to_json(message), flush=True)

anyio.run(main)
"""


@dataclass(frozen=True, slots=True)
class Hosting:
    """Where a check's agents live.

    Attributes:
        provider: Makes a sandbox for each agent; or None, then all live in ``sandbox``.
        sandbox: The one that was given.
        spec: What sandboxes are made of.
        name: For ``open_provider`` in another process; empty where none can.
        options: The provider's.
    """

    provider: SandboxProvider | None
    sandbox: Sandbox | None
    spec: SandboxSpec
    name: str = ""
    options: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False)

    def model(self, *steps: Step) -> ScriptedModel:
        """Return a model that plays a script, or one function for all, to whoever has the host's key."""
        script: Any = steps[0] if len(steps) == 1 and callable(steps[0]) else list(steps)
        return ScriptedModel(script, api_key=KEY)

    def agent(
        self,
        model: ScriptedModel,
        *,
        limits: Limits | None = None,
        provider: SandboxProvider | None = None,
        **options: Any,
    ) -> HostedAgent:
        """Return an agent that asks this model, not connected yet."""
        env = {**_access(model), **options.pop("env", {})}
        options = {**options, "env": env}
        if self.sandbox is not None:
            return HostedAgent(options, sandbox=self.sandbox, limits=limits)
        return HostedAgent(options, provider=provider or self.provider, spec=self.spec, limits=limits)

    def attach(self, ref: AgentRef, model: ScriptedModel) -> HostedAgent:
        """Return another host of an agent, in this process, not connected yet; it then drives."""
        # Where the model is and its key are taken out of the options: the agent keeps its own.
        return HostedAgent.attach(ref, options={"env": _access(model)}, provider=self.provider)

    async def until_told(self, ref: AgentRef, *words: str) -> str:
        """Wait, without driving the agent, until its journal has one of these words, and return it."""
        assert self.provider is not None
        sandbox = await self.provider.get(ref.sandbox)
        assert isinstance(sandbox, GuestSandbox)
        seen = b""
        async with sandbox.observe_agent(ref.agent) as journal:
            while data := await journal.receive():
                seen += data
                for word in words:
                    if word.encode() in seen:
                        return word
        raise AssertionError(f"the agent ended without a word of {', '.join(words)}")

    async def second_host(
        self, ref: AgentRef, model: ScriptedModel, *, prompts: Sequence[str] = (), kill: bool = False
    ) -> list[dict[str, Any]]:
        """Have another process take the agent over, and end it; return the messages as JSON.

        Args:
            ref: The agent.
            model: Which model that process asks.
            prompts: What it sends, one turn for each; an empty one is to read on only.
            kill: It is killed as soon as it drives the agent.
        """
        asked: dict[str, Any] = {"provider": self.name, "options": dict(self.options), "ref": ref.to_json()}
        asked.update(prompts=list(prompts), kill=kill, path=sys.path, target=_registered_target(self.name))
        env = {**os.environ, **_access(model)}
        done = await anyio.run_process(
            [sys.executable, "-c", _SECOND],
            input=json.dumps(asked).encode(),
            env=env,
            stderr=None,
            check=False,
        )
        assert done.returncode == (-9 if kill else 0), f"the second host ended with {done.returncode}"
        return [json.loads(line) for line in done.stdout.splitlines()]

    async def end_all(self) -> None:
        """End every sandbox that has the labels of ``spec``, without asking its guest, until none is there.

        For a check that has failed: an agent that was handed on has no owner that would end it.
        """
        provider = self.provider
        assert provider is not None
        while True:
            left = [one.id async for one in provider.list(self.spec.labels) if one.state != "ended"]
            if not left:
                return
            for sandbox_id in left:
                try:
                    if isinstance(provider, GuestProvider):
                        await (await provider.reach(sandbox_id)).terminate()
                    else:
                        await (await provider.get(sandbox_id)).terminate()
                except (SandboxGoneError, SandboxNotFoundError):
                    continue  # ended meanwhile
            await anyio.sleep(_LOOK_AGAIN)


def why_only_here(name: str) -> str | None:
    """Return why another process cannot open the provider of this name; None where it can."""
    if not name:
        return "another process cannot open this provider, which has no name"
    target = _registered_target(name)
    module = "" if target is None else target.partition(":")[0]
    if target is None or _is_found(module):
        return None
    return (
        f"register_provider has put {name!r} into {module}, which another process cannot import: put the "
        "provider into a module on sys.path, or let pytest import test files by --import-mode=prepend"
    )


def _registered_target(name: str) -> str | None:
    """Return what ``register_provider`` was given in this process, which other processes do not know."""
    found = registration(name)
    return found.target if found.kind == "registered" else None


def _is_found(module: str) -> bool:
    """Return whether a fresh process with this ``sys.path`` finds a module."""
    path: Sequence[str] | None = None
    parts = module.split(".")
    for count in range(1, len(parts) + 1):
        name = ".".join(parts[:count])
        finders = (finder.find_spec(name, path) for finder in cast("list[Any]", sys.meta_path))
        spec = next((spec for spec in finders if spec is not None), None)
        if spec is None:
            return False
        path = spec.submodule_search_locations
    return True


def _access(model: ScriptedModel) -> dict[str, str]:
    """Return how a host is told of the model."""
    return {"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": model.url}


async def response(agent: HostedAgent) -> list[Message]:
    """Return the messages of one turn."""
    return [message async for message in agent.receive_response()]


def texts(messages: list[Message]) -> str:
    """Return what the agent said."""
    return "".join(
        block.text
        for message in messages
        if isinstance(message, AssistantMessage)
        for block in message.content
        if isinstance(block, TextBlock)
    )


def tool_results(messages: list[Message]) -> list[str]:
    """Return what the agent's tools gave, as text."""
    found: list[str] = []
    for message in messages:
        if isinstance(message, UserMessage) and isinstance(message.content, list):
            for block in message.content:
                if isinstance(block, ToolResultBlock):
                    content = block.content
                    parts = content if isinstance(content, list) else [{"text": content or ""}]
                    found.append("".join(str(part.get("text", "")) for part in parts))
    return found
