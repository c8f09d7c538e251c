"""can_use_tool: what it is asked, and what its answers do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
from claude_agent_sdk import (
    PermissionResultAllow,
    PermissionResultDeny,
    PermissionUpdate,
    StreamEvent,
    ToolPermissionContext,
)
from claude_agent_sdk.types import PermissionRuleValue
from parity.scenario import Run, one_answer, scenario

from agenthost.testing import Text, ToolUse

Decide = Callable[[str, dict[str, Any], ToolPermissionContext], Any]
BOTH = ("local-unisolated", "local")


def deny(message: str, *, interrupt: bool = False) -> Decide:
    def decide(*_: object) -> PermissionResultDeny:
        return PermissionResultDeny(message=message, interrupt=interrupt)

    return decide


def touch(name: str, number: int = 1) -> ToolUse:
    return ToolUse("Bash", {"command": f"touch {name}"}, id=f"toolu_{number}")


def asking(run: Run, decide: Decide) -> Callable[..., Awaitable[Any]]:
    """Return a can_use_tool that records what it is given and returns."""

    async def can_use_tool(tool: str, given: dict[str, Any], context: ToolPermissionContext) -> Any:
        answer = decide(tool, given, context)
        run.note("can_use_tool", {"tool": tool, "input": given, "context": context}, answer)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return can_use_tool


def allow(*_: object) -> PermissionResultAllow:
    return PermissionResultAllow()


@scenario(
    "option:can_use_tool class:PermissionResultAllow class:ToolPermissionContext class:PermissionUpdate",
    script=[[touch("one"), touch("two", 2)], Text("Done.")],
    options=lambda run: {"can_use_tool": asking(run, allow)},
    shows=('"suggestions": [{"$class": "PermissionUpdate"',),
    on=BOTH,
    trio=True,
)
async def tools_are_allowed(run: Run) -> None:
    await one_answer(run)
    await run.see_file("one")
    await run.see_file("two")


def _other_file(_: str, given: dict[str, Any], __: object) -> PermissionResultAllow:
    return PermissionResultAllow(updated_input={**given, "command": "touch other; echo \u00fc \U0001f40d"})


@scenario(
    "option:can_use_tool class:PermissionResultAllow",
    script=[touch("one"), Text("Done.")],
    options=lambda run: {"can_use_tool": asking(run, _other_file)},
    shows=("touch other",),
)
async def a_tool_is_allowed_with_another_input(run: Run) -> None:
    await one_answer(run)
    await run.see_file("one")
    await run.see_file("other")


def _from_now_on(_: str, __: object, context: ToolPermissionContext) -> PermissionResultAllow:
    rule = PermissionRuleValue(tool_name="Bash", rule_content="touch:*")
    update = PermissionUpdate(type="addRules", rules=[rule], behavior="allow", destination="session")
    return PermissionResultAllow(updated_permissions=[*context.suggestions, update])


@scenario(
    "class:PermissionUpdate option:can_use_tool",
    script=[touch("one"), touch("two", 2), Text("Done.")],
    options=lambda run: {"can_use_tool": asking(run, _from_now_on)},
    shows=("touch:*",),
)
async def permissions_are_updated(run: Run) -> None:
    await one_answer(run)
    await run.see_file("two")
    run.see({"questions": len(run.record.callbacks)})


def _mode(*_: object) -> PermissionResultAllow:
    update = PermissionUpdate(type="setMode", mode="acceptEdits", destination="session")
    return PermissionResultAllow(updated_permissions=[update])


@scenario(
    "class:PermissionUpdate mode:acceptEdits",
    script=[touch("one"), touch("two", 2), Text("Done.")],
    options=lambda run: {"can_use_tool": asking(run, _mode)},
)
async def the_mode_is_changed_by_an_answer(run: Run) -> None:
    await one_answer(run)
    run.see({"questions": len(run.record.callbacks)})


def _broken_update(*_: object) -> PermissionResultAllow:
    return PermissionResultAllow(updated_permissions=[PermissionUpdate(type="addRules")])


@scenario(
    "class:PermissionUpdate",
    script=[touch("one"), Text("Done.")],
    options=lambda run: {"can_use_tool": asking(run, _broken_update)},
)
async def an_update_that_makes_no_sense_is_not_sent(run: Run) -> None:
    await one_answer(run)
    await run.see_file("one")


@scenario(
    "class:PermissionResultDeny option:can_use_tool",
    script=[touch("one"), Text("Done.")],
    options=lambda run: {"can_use_tool": asking(run, deny("No \u00fc.\nNever."))},
    shows=("No \\u00fc.",),
    on=BOTH,
)
async def a_tool_is_denied(run: Run) -> None:
    await one_answer(run)
    await run.see_file("one")


@scenario(
    "class:PermissionResultDeny",
    script=[touch("one"), Text("Again.")],
    options=lambda run: {"can_use_tool": asking(run, deny("Stop.", interrupt=True))},
    shows=("aborted_tools",),
)
async def a_tool_is_denied_and_the_turn_ends(run: Run) -> None:
    await run.ask("One?")
    await run.ask("Two?")


@scenario(
    "option:can_use_tool",
    script=[touch("one"), touch("two", 2), touch("three", 3), Text("Done.")],
    options=lambda run: {"can_use_tool": asking(run, _fails)},
    shows=("Tool permission request failed: Error: 'no such thing'", "Tool permission callback must return"),
)
async def a_can_use_tool_that_fails(run: Run) -> None:
    await one_answer(run)
    await run.see_file("one")


def _fails(_: str, given: dict[str, Any], __: object) -> Any:
    answers: dict[str, Any] = {"touch one": KeyError("no such thing"), "touch two": None, "touch three": {}}
    return answers[given["command"]]


@scenario(
    "option:can_use_tool",
    script=[touch("one"), Text("Done.")],
    options=lambda run: {"can_use_tool": asking(run, allow), "permission_prompt_tool_name": "mcp__x__y"},
    connects=False,
    played=False,
    shows=("ValueError",),
)
async def two_ways_to_ask(run: Run) -> None:
    await run.refused(can_use_tool=asking(run, allow), permission_prompt_tool_name="mcp__x__y")


@scenario(
    "warning:CanUseToolShadowedWarning option:can_use_tool",
    script=[touch("one"), Text("Done.")],
    options=lambda run: {"can_use_tool": asking(run, allow), "allowed_tools": ["Bash"]},
    shows=("CanUseToolShadowedWarning",),
    masks=("warnings inside",),
)
async def a_can_use_tool_that_is_not_needed(run: Run) -> None:
    await one_answer(run)
    run.see({"questions": len(run.record.callbacks)})


def _waiting(run: Run) -> dict[str, Any]:
    async def can_use_tool(tool: str, given: dict[str, Any], _: ToolPermissionContext) -> Any:
        run.event("asked").set()
        try:
            await anyio.sleep_forever()
        finally:
            run.note("can_use_tool was cancelled", {"tool": tool, "input": given})

    return {"can_use_tool": can_use_tool, "include_partial_messages": True}


@scenario(
    "method:interrupt option:can_use_tool",
    script=[touch("one"), Text("Again.")],
    options=_waiting,
    shows=("can_use_tool was cancelled",),
    on=BOTH,
    trio=True,
)
async def an_interrupt_takes_the_question_back(run: Run) -> None:
    def is_whole(message: Any) -> bool:
        return isinstance(message, StreamEvent) and message.event["type"] == "message_stop"

    await run.client.query("Go.")
    # The CLI may ask before the answer of the model is whole, and names another reason when it is not.
    await run.until(is_whole)
    await run.event("asked").wait()
    await run.call("interrupt")
    await run.response()
    await run.ask("And now?")


@scenario(
    "option:can_use_tool",
    connects=False,
    script=[touch("one"), Text("Done."), touch("two", 2)],
    masks=("fields of a result that the SDK drops", "stderr of a CLI that died"),
)
async def one_shot_with_can_use_tool(run: Run) -> None:
    async def prompt() -> Any:
        yield {"type": "user", "message": {"role": "user", "content": "Go on."}}

    await run.one_shot(prompt(), can_use_tool=asking(run, allow))
    await run.see_file("one")
    await run.one_shot("A text.", can_use_tool=asking(run, allow), max_turns=1)
