"""Subagents and tasks in the background."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from claude_agent_sdk import AgentDefinition, HookMatcher, TaskNotificationMessage, TaskStartedMessage
from parity.scenario import Run, is_result, scenario
from parity.table.hooks import hook

from agenthost.testing import ModelRequest, Text, Thinking, ToolUse

AGENTS = {"shepherd": AgentDefinition(description="Counts.", prompt="You count sheep.", tools=["Bash"])}
TOOLS: dict[str, Any] = {"allowed_tools": ["Bash", "Agent"]}


def _delegate(background: bool) -> ToolUse:
    given = {"description": "count", "prompt": "Count them.", "subagent_type": "shepherd"}
    return ToolUse("Agent", {**given, "run_in_background": background}, id="toolu_agent")


def answers(background: bool) -> Callable[[Run], Callable[[ModelRequest], Any]]:
    """Return what both the main agent and its subagent say: their requests are told apart by the prompt."""

    def for_run(_: Run) -> Callable[[ModelRequest], Any]:
        def answer(request: ModelRequest) -> Any:
            if request.prompt == "Count them.":
                if request.tool_results:
                    return [Thinking("So many."), Text("Three sheep.")]
                return [Text("I look."), ToolUse("Bash", {"command": "echo sheep"}, id="toolu_sub")]
            if request.prompt == "Go on.":
                return Text("It counts.") if request.tool_results else _delegate(background)
            return Text("Three, I am told.")

        return answer

    return for_run


@scenario(
    "option:agents class:TaskStartedMessage class:TaskProgressMessage class:TaskUpdatedMessage "
    "class:TaskNotificationMessage",
    script=answers(background=False),
    options={**TOOLS, "agents": AGENTS},
    shows=("TaskProgressMessage", "Three sheep."),
    on=("local-unisolated", "local"),
    trio=True,
)
async def a_subagent(run: Run) -> None:
    await run.ask("Go on.")


@scenario(
    "option:forward_subagent_text",
    script=answers(background=False),
    options={**TOOLS, "agents": AGENTS, "forward_subagent_text": True, "include_partial_messages": True},
    shows=('"text": "I look."', '"thinking": "So many."'),
)
async def what_a_subagent_says(run: Run) -> None:
    await run.ask("Go on.")


@scenario(
    "hook:SubagentStart hook:SubagentStop",
    script=answers(background=False),
    options=lambda run: {
        **TOOLS,
        "agents": AGENTS,
        "hooks": {
            event: [HookMatcher(hooks=[hook(run, name=event)])]
            for event in ("SubagentStart", "PreToolUse", "PostToolUse", "SubagentStop")
        },
    },
    shows=("agent_transcript_path", '"agent_type": "shepherd"'),
)
async def hooks_around_a_subagent(run: Run) -> None:
    await run.ask("Go on.")


BACKGROUND = "until [ -e go ]; do sleep 0.02; done; echo finished"


@scenario(
    "class:TaskNotificationMessage class:TaskUpdatedMessage",
    script=[
        ToolUse(
            "Bash", {"command": BACKGROUND, "run_in_background": True, "description": "wait"}, id="toolu_1"
        ),
        Text("It runs."),
        Text("It has finished."),
    ],
    options={"allowed_tools": ["Bash"]},
    shows=('"kind": "task-notification"',),
)
async def a_command_in_the_background(run: Run) -> None:
    await run.ask("Go on.")
    await run.write("go", "")
    await run.until(is_result)


def _started(messages: list[Any]) -> str:
    return next(message.task_id for message in messages if isinstance(message, TaskStartedMessage))


@scenario(
    "method:stop_task",
    script=[
        ToolUse(
            "Bash", {"command": "sleep 60", "run_in_background": True, "description": "wait"}, id="toolu_1"
        ),
        Text("It runs."),
        Text("It was stopped."),
    ],
    options={"allowed_tools": ["Bash"]},
    shows=('"status": "killed"',),
)
async def a_task_is_stopped(run: Run) -> None:
    messages = await run.ask("Go on.")
    await run.call("stop_task", _started(messages))
    await run.until(lambda message: isinstance(message, TaskNotificationMessage))
    await run.ask("And now?")
