"""examples/detach_and_attach.py: started by one process, finished by others."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import anyio
from claude_agent_sdk import AssistantMessage, TextBlock, ToolResultBlock, ToolUseBlock, UserMessage
from examples.running import KEY, run_example, start_example
from support.hosting import model_environment, sandboxes_of

from agenthost import AgentRef, Cursor, message_from_json
from agenthost.testing import Hold, ModelRequest, ScriptedModel, Text, ToolUse
from agenthost.testing.script import Answer

LIMIT = 240
NAME = "detach_and_attach.py"
STEPS = 3


def read_log(log: Path) -> list[tuple[Cursor, str]]:
    """Return where each message stands, and what of it does not differ from run to run."""
    found: list[tuple[Cursor, str]] = []
    for line in log.read_text().splitlines(keepends=True):
        if not line.endswith("\n"):
            break
        entry: dict[str, Any] = json.loads(line)
        message = message_from_json(json.dumps(entry["message"]))
        detail = ""
        if isinstance(message, AssistantMessage | UserMessage):
            for block in message.content:
                match block:
                    case TextBlock(text):
                        detail += f" {text}"
                    case ToolUseBlock(name=name):
                        detail += f" {name}"
                    case ToolResultBlock(content=content):
                        detail += f" {content}"
                    case _:
                        pass
        found.append((Cursor.parse(entry["cursor"]), type(message).__name__ + detail))
    return found


async def test_killed_in_every_step_the_log_holds_each_message_once(tmp_path: Path) -> None:
    ref, log = tmp_path / "agent.ref", tmp_path / "messages.jsonl"
    may_go_on = [anyio.Event() for _ in range(STEPS + 1)]
    may_go_on[0].set()  # `start` waits for the first message

    def work(request: ModelRequest) -> Answer:
        """Answer by what was done, not by how often it was asked: a killed process's question comes again."""
        done = len([message for message in request.messages if message.get("role") == "assistant"])
        if done < STEPS:
            tool = ToolUse("Bash", {"command": f"echo {done} >> steps; cat steps"})
            return [Hold(may_go_on[done]), Text(f"Step {done}."), tool]
        return [Hold(may_go_on[done]), Text("All is done.")]

    before = await sandboxes_of("local")
    with anyio.fail_after(LIMIT):
        async with ScriptedModel(work, api_key=KEY) as model:
            env = model_environment(model, KEY)
            ref.write_text(await run_example(NAME, "start", "Take three steps", env=env))
            kills = 0
            for step in range(STEPS):
                may_go_on[step].set()
                # Each step is three messages; the first was written by `start`.
                while not log.exists() or len(read_log(log)) < 3 * step + 2:
                    async with start_example(NAME, "finish", str(ref), str(log), env=env) as example:
                        await example.line()
                        await example.kill()
                    kills += 1
                    if kills == 3:  # the machine went down with it: the last line is not whole
                        os.truncate(log, log.stat().st_size - 10)
            may_go_on[STEPS].set()
            await run_example(NAME, "finish", str(ref), str(log), env=env)
            assert "sk-ant" not in ref.read_text()
            # Whoever comes when all is over is told nothing new.
            whole = log.read_bytes()
            assert await run_example(NAME, "finish", str(ref), str(log), env=env) == ""
            assert log.read_bytes() == whole
    entries = read_log(log)
    assert [what for _, what in entries] == [
        "AssistantMessage Bash",
        "UserMessage 0",
        "AssistantMessage Step 1.",
        "AssistantMessage Bash",
        "UserMessage 0\n1",
        "AssistantMessage Step 2.",
        "AssistantMessage Bash",
        "UserMessage 0\n1\n2",
        "AssistantMessage All is done.",
        "ResultMessage",
    ]
    places = [AgentRef.from_json(ref.read_text()).cursor, *(cursor for cursor, _ in entries)]
    assert places == sorted(set(places), key=lambda place: (place.seq, place.offset))
    assert kills >= STEPS
    assert await sandboxes_of("local") == before
