"""A model request is held while no host is there, or the model is slow: the CLI does not give it up.

Its limits are shortened here; the bare SDK beside shows that they are in force.
"""

from __future__ import annotations

from tempfile import TemporaryDirectory
from typing import Any

import anyio
import pytest
from claude_agent_sdk import ClaudeAgentOptions, ClaudeSDKClient, Message, SystemMessage
from support.hosting import KEY
from support.messages import texts
from support.waiting import until_true

from agenthost import HostedAgent
from agenthost.testing import Hold, ModelRequest, ScriptedModel, Text, Turn

LIMIT = 120
PLAIN = "local-unisolated"
SHORT = {"CLAUDE_STREAM_FIRST_BYTE_TIMEOUT_MS": "10000", "CLAUDE_BYTE_STREAM_IDLE_TIMEOUT_MS": "10000"}

pytestmark = pytest.mark.full  # the shortest limit that the CLI takes is 10 s


class Model:
    """Answers the hosted agent when the bare one has given up its first request.

    Attributes:
        gave_up: Set then.
        asked: Prompts, in the order of the requests.
    """

    def __init__(self, *, begins: bool) -> None:
        self.gave_up = anyio.Event()
        self.asked: list[str] = []
        self._begins = begins

    def __call__(self, request: ModelRequest) -> Any:
        """Answer one request."""
        prompt = str(request.prompt)
        self.asked.append(prompt)
        if prompt == "bare" and self.asked.count("bare") == 2:
            self.gave_up.set()
            return Text("Asked again.")
        if self._begins:
            return Turn(Text("Half", end=False), Hold(self.gave_up), Text(" and whole."))
        return [Hold(self.gave_up), Text("Whole.")]


def given_up(messages: list[Message]) -> list[Message]:
    return [one for one in messages if isinstance(one, SystemMessage) and one.subtype == "api_retry"]


async def use_bare(model: ScriptedModel) -> None:
    """Ask with the bare SDK until it has its answer."""
    # A short name: the CLI has a socket in it.
    with TemporaryDirectory(prefix="") as home:
        env = {"HOME": home, "TMPDIR": home, "ANTHROPIC_BASE_URL": model.url, "ANTHROPIC_API_KEY": KEY}
        async with ClaudeSDKClient(ClaudeAgentOptions(env={**SHORT, **env}, cwd=home)) as client:
            await client.query("bare")
            async for _ in client.receive_response():
                pass


@pytest.mark.parametrize("begins", [False, True], ids=["before the answer", "in the middle of the answer"])
async def test_a_slow_answer_is_waited_for(script: Any, begins: bool) -> None:
    answers = Model(begins=begins)
    messages: list[Message] = []
    with anyio.fail_after(LIMIT):
        async with (
            script(answers) as model,
            HostedAgent({"env": dict(SHORT)}, provider=PLAIN) as agent,
            anyio.create_task_group() as tasks,
        ):
            await agent.query("hosted")
            await until_true(lambda: "hosted" in answers.asked)
            tasks.start_soon(use_bare, model)
            messages += [message async for message in agent.receive_response()]
    assert given_up(messages) == []
    assert "whole" in "".join(texts(messages)).lower()
    assert answers.asked == ["hosted", "bare", "bare"]


async def test_a_request_waits_for_the_next_host(script: Any) -> None:
    answers = Model(begins=False)
    with anyio.fail_after(LIMIT):
        async with script(answers) as model:
            async with HostedAgent({"env": dict(SHORT)}, provider=PLAIN) as agent:
                await agent.query("hosted")
                ref = await agent.detach()
            await use_bare(model)
            async with HostedAgent.attach(ref) as heir:
                messages = [message async for message in heir.receive_response()]
    assert given_up(messages) == []
    assert texts(messages) == ["Whole."]
