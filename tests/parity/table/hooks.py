"""Hooks: every event, what they are given, what their answers do, and how they fail."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
from claude_agent_sdk import HookContext, HookMatcher, PermissionResultDeny
from parity.scenario import Run, one_answer, scenario

from agenthost.testing import Text, ToolUse

BOTH = ("local-unisolated", "local")
Hook = Callable[..., Awaitable[Any]]


def hook(run: Run, answer: Any = None, name: str = "hook") -> Hook:
    """Return a hook that records what it is given and returns."""

    async def call(given: Any, tool_use_id: str | None, context: HookContext) -> Any:
        returned: Any = answer(given) if callable(answer) else answer if answer is not None else {}
        run.note(name, {"input": given, "tool_use_id": tool_use_id, "context": context}, returned)
        if isinstance(returned, Exception):
            raise returned
        return returned

    return call


def on(event: str, answer: Any = None, **matcher: Any) -> Callable[[Run], dict[str, Any]]:
    """Return options with one hook, and Bash allowed."""

    def options(run: Run) -> dict[str, Any]:
        hooks = {event: [HookMatcher(hooks=[hook(run, answer)], **matcher)]}
        return {"allowed_tools": ["Bash"], "hooks": hooks}

    return options


def says(event: str, **fields: Any) -> dict[str, Any]:
    return {"hookSpecificOutput": {"hookEventName": event, **fields}}


def bash(command: str, number: int = 1) -> ToolUse:
    return ToolUse("Bash", {"command": command}, id=f"toolu_{number}")


ECHO = [bash("echo one"), Text("Done.")]


# ---- PreToolUse


@scenario(
    "option:hooks hook:PreToolUse class:HookMatcher matcher:matcher matcher:hooks",
    # One after the other: the results of tools that only read come in any order when called at once.
    script=[bash("echo one"), ToolUse("Read", {"file_path": "/no"}, id="toolu_2"), Text("Done.")],
    options=lambda run: {
        "allowed_tools": ["Bash", "Read"],
        "hooks": {
            "PreToolUse": [
                HookMatcher(matcher="Bash", hooks=[hook(run, name="first"), hook(run, name="second")]),
                HookMatcher(matcher="Re.*", hooks=[hook(run, name="of Read")]),
                HookMatcher(matcher="Write|Edit", hooks=[hook(run, name="of others")]),
                HookMatcher(hooks=[hook(run, name="of all")]),
                HookMatcher(hooks=[]),
            ]
        },
    },
    shows=('"of Read"',),
    on=BOTH,
    trio=True,
)
async def matchers_choose_the_hooks(run: Run) -> None:
    await one_answer(run)
    # Hooks of one event are called at once.
    run.record.callbacks.sort(key=repr)


@scenario(
    "hook:PreToolUse",
    script=ECHO,
    options=on(
        "PreToolUse", says("PreToolUse", permissionDecision="deny", permissionDecisionReason="Not \u00fc.")
    ),
    shows=("Not \\u00fc.",),
    on=BOTH,
)
async def a_hook_denies_a_tool(run: Run) -> None:
    await one_answer(run)


INSTEAD = says(
    "PreToolUse",
    permissionDecision="allow",
    updatedInput={"command": "touch other"},
    additionalContext="Something to know.",
)


@scenario(
    "hook:PreToolUse",
    script=[bash("touch one"), Text("Done.")],
    options=lambda run: {"hooks": {"PreToolUse": [HookMatcher(hooks=[hook(run, INSTEAD)])]}},
    shows=("Something to know.",),
)
async def a_hook_allows_a_tool_with_another_input(run: Run) -> None:
    await one_answer(run)
    await run.see_file("other")


def _asks(run: Run) -> dict[str, Any]:
    async def can_use_tool(tool: str, given: dict[str, Any], context: Any) -> Any:
        run.note("can_use_tool", {"tool": tool, "input": given, "context": context})
        return PermissionResultDeny(message="Asked, and no.")

    answer = says("PreToolUse", permissionDecision="ask", permissionDecisionReason="Who knows?")
    return {**on("PreToolUse", answer)(run), "can_use_tool": can_use_tool}


@scenario(
    "hook:PreToolUse option:can_use_tool",
    script=ECHO,
    options=_asks,
    shows=("Who knows?", "Asked, and no."),
    masks=("warnings inside",),
)
async def a_hook_has_somebody_asked(run: Run) -> None:
    await one_answer(run)


@scenario(
    "hook:PreToolUse class:DeferredToolUse",
    script=[bash("echo one")],
    options=on("PreToolUse", says("PreToolUse", permissionDecision="defer")),
    shows=('"$class": "DeferredToolUse"',),
)
async def a_hook_defers_a_tool(run: Run) -> None:
    await one_answer(run)


@scenario(
    "hook:PreToolUse",
    script=[bash("echo one"), Text("never")],
    options=on(
        "PreToolUse", {"continue_": False, "stopReason": "That is enough.", "systemMessage": "A word."}
    ),
    played=False,
)
async def a_hook_stops_the_turn(run: Run) -> None:
    await one_answer(run)


# ---- the other events


@scenario(
    "hook:PostToolUse",
    script=ECHO,
    options=on(
        "PostToolUse",
        says(
            "PostToolUse",
            additionalContext="It was one.",
            updatedToolOutput={"stdout": "two", "stderr": "", "interrupted": False, "isImage": False},
        ),
    ),
    shows=("It was one.", '"two"'),
)
async def a_hook_changes_what_a_tool_said(run: Run) -> None:
    await one_answer(run)


@scenario(
    "hook:PostToolUseFailure",
    script=[bash("exit 3"), Text("Done.")],
    options=on("PostToolUseFailure", says("PostToolUseFailure", additionalContext="It often fails.")),
    shows=("It often fails.",),
)
async def a_hook_after_a_failed_tool(run: Run) -> None:
    await one_answer(run)


@scenario(
    "hook:UserPromptSubmit",
    script=[Text("Done.")],
    options=on("UserPromptSubmit", says("UserPromptSubmit", additionalContext="The user is tired.")),
    shows=("The user is tired.",),
    trio=True,
)
async def a_hook_adds_to_a_prompt(run: Run) -> None:
    await one_answer(run)


@scenario(
    "hook:UserPromptSubmit",
    options=on("UserPromptSubmit", {"decision": "block", "reason": "Not today."}),
    shows=("Not today.",),
)
async def a_hook_blocks_a_prompt(run: Run) -> None:
    await one_answer(run)


def _once(given: Any) -> Any:
    return {} if given["stop_hook_active"] else {"decision": "block", "reason": "One more thing."}


@scenario(
    "hook:Stop",
    script=[Text("One."), Text("Two.")],
    options=on("Stop", _once),
    shows=("One more thing.",),
)
async def a_hook_lets_the_turn_go_on(run: Run) -> None:
    await one_answer(run)


@scenario(
    "hook:PreCompact",
    script=[Text("One."), Text("<summary>What was said.</summary>")],
    options=on("PreCompact"),
    shows=('"trigger": "manual"', "keep the names"),
)
async def a_hook_before_compaction(run: Run) -> None:
    await run.ask("One?")
    await run.ask("/compact keep the names")


def _verdict(given: Any) -> dict[str, Any]:
    if "two" in given["tool_input"]["command"]:
        return says("PermissionRequest", decision={"behavior": "deny", "message": "Not two."})
    allowed = {"behavior": "allow", "updatedInput": {"command": "touch other"}}
    return says("PermissionRequest", decision=allowed)


@scenario(
    "hook:PermissionRequest",
    script=[bash("touch one"), bash("touch two", 2), Text("Done.")],
    options=lambda run: {"hooks": {"PermissionRequest": [HookMatcher(hooks=[hook(run, _verdict)])]}},
    shows=("Not two.",),
)
async def a_hook_answers_a_permission_request(run: Run) -> None:
    await one_answer(run)
    await run.see_file("other")


@scenario(
    "hook:Notification",
    script=[bash("touch one"), Text("Done.")],
    options=on("Notification"),
    played=False,
)
async def a_hook_on_notifications(run: Run) -> None:
    await one_answer(run)


# ---- several, and what is seen of them


@scenario(
    "option:include_hook_events class:HookEventMessage",
    script=ECHO,
    files={
        ".claude/settings.json": '{"hooks": {"PreToolUse": [{"matcher": "Bash", "hooks": '
        '[{"type": "command", "command": "echo seen by a command"}]}]}}'
    },
    options=lambda run: {**on("PostToolUse")(run), "include_hook_events": True},
    shows=('"$class": "HookEventMessage"', "seen by a command"),
)
async def hook_events_are_told(run: Run) -> None:
    await one_answer(run)


@scenario(
    "option:hooks",
    script=ECHO,
    options=lambda run: {
        "allowed_tools": ["Bash"],
        "hooks": {
            event: [HookMatcher(hooks=[hook(run, name=event)])]
            for event in ("UserPromptSubmit", "PreToolUse", "PostToolUse", "Stop")
        },
    },
)
async def hooks_of_several_events(run: Run) -> None:
    await one_answer(run)
    await run.ask("/clear")


@scenario(
    "option:hooks",
    script=ECHO,
    options=lambda run: on("PreToolUse", {"async_": True, "asyncTimeout": 1000})(run),
)
async def a_hook_that_answers_later(run: Run) -> None:
    await one_answer(run)


@scenario(
    "option:hooks",
    connects=False,
    script=ECHO,
)
async def one_shot_with_a_hook(run: Run) -> None:
    await run.one_shot("Go on.", **on("PreToolUse")(run))


# ---- failing


def _failing(event: str, on_failure: Any) -> Callable[[Run], dict[str, Any]]:
    return on(event, ValueError("broken \u00fc"), on_failure=on_failure)


@scenario(
    "matcher:on_failure", script=ECHO, options=_failing("PreToolUse", None), shows=("hook_callback_failed",)
)
async def a_hook_raises(run: Run) -> None:
    await one_answer(run)


@scenario(
    "matcher:on_failure",
    script=ECHO,
    options=_failing("PreToolUse", "continue"),
    shows=("hook_callback_failed",),
)
async def a_hook_raises_and_the_tool_is_used(run: Run) -> None:
    await one_answer(run)


@scenario(
    "matcher:on_failure",
    script=ECHO,
    options=_failing("PreToolUse", "block"),
    shows=('blocking because onFailure is \\"block\\"',),
    on=BOTH,
)
async def a_hook_raises_and_the_tool_is_not_used(run: Run) -> None:
    await one_answer(run)


@scenario(
    "matcher:on_failure",
    script=ECHO,
    options=_failing("PostToolUse", "block"),
    shows=("hook_callback_failed",),
)
async def a_hook_raises_after_the_tool(run: Run) -> None:
    await one_answer(run)


@scenario("matcher:on_failure", options=_failing("UserPromptSubmit", "block"), shows=("hook_failed",))
async def a_hook_raises_and_the_prompt_is_blocked(run: Run) -> None:
    await one_answer(run)


@scenario(
    "matcher:on_failure", script=ECHO, options=_failing("Stop", "block"), shows=("hook_callback_failed",)
)
async def a_hook_raises_at_the_end(run: Run) -> None:
    await one_answer(run)


def _strange(event: str, answer: Any, on_failure: Any = None) -> Callable[[Run], dict[str, Any]]:
    def options(run: Run) -> dict[str, Any]:
        async def call(given: Any, *_: object) -> Any:
            run.note("hook", given)
            return answer

        hooks = {event: [HookMatcher(hooks=[call], on_failure=on_failure)]}
        return {"allowed_tools": ["Bash"], "hooks": hooks}

    return options


@scenario("matcher:on_failure", script=ECHO, options=_strange("PreToolUse", None, "block"))
async def a_hook_returns_nothing(run: Run) -> None:
    await one_answer(run)


@scenario("option:hooks", script=ECHO, options=_strange("PreToolUse", {"made": {1, 2}}))
async def a_hook_returns_what_is_no_json(run: Run) -> None:
    await one_answer(run)


@scenario(
    "option:hooks", script=ECHO, options=_strange("PreToolUse", says("PreToolUse", permissionDecision="Deny"))
)
async def a_hook_returns_what_the_cli_rejects(run: Run) -> None:
    await one_answer(run)


# ---- taking too long


def _slow(event: str, **matcher: Any) -> Callable[[Run], dict[str, Any]]:
    def options(run: Run) -> dict[str, Any]:
        async def call(given: Any, *_: object) -> Any:
            try:
                await anyio.sleep_forever()
            finally:
                run.note("hook was cancelled", given)

        hooks = {event: [HookMatcher(hooks=[call], timeout=0.5, **matcher)]}
        return {"allowed_tools": ["Bash"], "hooks": hooks}

    return options


@scenario(
    "matcher:timeout",
    script=ECHO,
    options=_slow("PreToolUse"),
    shows=("did not respond before its timeout",),
    masks=("a PreToolUse hook that is late",),
)
async def a_hook_is_late_and_the_tool_is_not_used(run: Run) -> None:
    await one_answer(run)


@scenario(
    "matcher:timeout", script=ECHO, options=_slow("PostToolUse", on_failure="block"), shows=("cancelled",)
)
async def a_hook_is_late_after_the_tool(run: Run) -> None:
    await one_answer(run)


@scenario(
    "matcher:timeout",
    options=_slow("UserPromptSubmit"),
    shows=("timed out after 500ms",),
    masks=("a UserPromptSubmit hook that is late",),
)
async def a_hook_is_late_and_the_prompt_is_blocked(run: Run) -> None:
    await one_answer(run)


@scenario("matcher:timeout", script=ECHO, options=_slow("Stop"), shows=("didn't respond",))
async def a_hook_is_late_at_the_end(run: Run) -> None:
    await one_answer(run)
