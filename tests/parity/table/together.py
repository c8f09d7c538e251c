"""Many things of the SDK in one session each: the normal run has these in place of one session for each."""

from __future__ import annotations

import json
from typing import Any

from claude_agent_sdk import (
    AgentDefinition,
    HookMatcher,
    PermissionResultAllow,
    PermissionResultDeny,
    PermissionUpdate,
    TaskNotificationMessage,
    TaskStartedMessage,
    UserMessage,
)
from parity.scenario import Run, scenario
from parity.table.controls import write_and_edit
from parity.table.hooks import bash, hook, says
from parity.table.permissions import asking, touch
from parity.table.prompts import FORMAT
from parity.table.tools import PROJECT

from agenthost.testing import ApiError, Text, Thinking, ToolUse


def _many_options(run: Run) -> dict[str, Any]:
    return {
        "system_prompt": "You are 'a' \"test\".\n\u00fc",
        "model": "claude-sonnet-4-5",
        "betas": ["context-1m-2025-08-07"],
        "max_thinking_tokens": 3000,
        "task_budget": {"total": 20_000},
        "client_app": "parity/1.0",
        "verbatim_prompts": True,
        "extra_args": {"replay-user-messages": None, "append-system-prompt": "-- more --"},
        "env": {"GREETING": "gr\u00fc\u00dfe 'and' \"so\" on"},
        "tools": ["Read", "Bash", "Agent", "WebFetch"],
        "allowed_tools": ["Bash(printenv:*)"],
        "disallowed_tools": ["WebFetch"],
        "add_dirs": [f"{run.home}/more"],
        "setting_sources": [],
        "strict_mcp_config": True,
        "agents": {"poet": AgentDefinition(description="Writes \u00fc poems.", prompt="You rhyme.")},
        "max_turns": 4,
    }


@scenario(
    "option:system_prompt option:model option:betas option:max_thinking_tokens option:task_budget "
    "option:client_app option:verbatim_prompts option:extra_args option:env option:tools "
    "option:allowed_tools option:disallowed_tools option:add_dirs option:setting_sources "
    "option:strict_mcp_config option:agents option:max_turns "
    "class:AgentDefinition class:UserMessage class:ToolUseBlock class:ToolResultBlock",
    script=lambda run: [
        [bash("printenv GREETING"), ToolUse("Read", {"file_path": f"{run.home}/more/a.txt"}, id="toolu_2")],
        [bash("touch no", 3), ToolUse("WebFetch", {"url": "http://127.0.0.1", "prompt": "x"}, id="toolu_4")],
        Text("Done."),
        *[bash("printenv HOME", number) for number in (5, 6, 7, 8)],
    ],
    files={
        **PROJECT,
        "../home/more/a.txt": "from another directory\n",
        ".mcp.json": '{"mcpServers": {"of-the-project": {"command": "no-such-program"}}}',
    },
    options=_many_options,
    shows=(
        "You are 'a' ",
        "context-1m-2025-08-07",
        '"budget_tokens": 3000',
        '"total": 20000',
        "client-app/parity/1.0",
        '"/clear @CLAUDE.md"',
        "-- more --",
        "gr\\u00fc\\u00dfe",
        "from another directory",
        "No such tool available: WebFetch",
        "permission_denied",
        "Writes \\u00fc poems.",
        "error_max_turns",
    ),
)
async def many_options(run: Run) -> None:
    await run.ask("/clear @CLAUDE.md")
    await run.call("get_mcp_status")
    await run.ask("Go on.")
    await run.see_file("no")


@scenario(
    "option:fallback_model option:effort option:thinking option:output_format option:settings "
    "option:max_budget_usd class:ThinkingBlock",
    script=[
        ApiError(404, "model: claude-sonnet-4-6"),
        [Thinking("So, \u00fc."), ToolUse("StructuredOutput", {"n": 7, "words": ["\u00fc"]}, id="toolu_1")],
        [Text("Dear."), bash("echo one", 2)],
    ],
    options={
        "model": "claude-sonnet-4-6",
        "fallback_model": "claude-haiku-4-5",
        "effort": "low",
        "thinking": {"type": "enabled", "budget_tokens": 2048},
        "settings": json.dumps({"permissions": {"allow": ["Bash(echo:*)"]}}),
        "max_budget_usd": 0.00015,
        "output_format": FORMAT,
    },
    shows=(
        "model_fallback",
        '"budget_tokens": 2048',
        '"structured_output": {"n": 7, "words": ["\\u00fc"]}',
        "error_max_budget_usd",
    ),
    played=False,
)
async def more_options(run: Run) -> None:
    await run.ask("One?")
    await run.ask("Two?")


MODES = ("default", "acceptEdits", "plan", "dontAsk", "auto")


def _in_each_mode(run: Run) -> list[Any]:
    steps: list[Any] = []
    for number, mode in enumerate(["bypassPermissions", *MODES]):
        name = f"{run.work}/{mode}.txt"
        write = ToolUse("Write", {"file_path": name, "content": "new\n"}, id=f"toolu_{number}")
        steps += [[write, bash(f"touch {mode}", 10 + number)], Text("Done.")]
    return steps


@scenario(
    "option:permission_mode method:set_permission_mode mode:bypassPermissions "
    + " ".join(f"mode:{mode}" for mode in MODES),
    script=_in_each_mode,
    options={"permission_mode": "bypassPermissions", "env": {"IS_SANDBOX": "1"}},
    shows=("permission_denied", "set_permission_mode raised"),
    masks=("a refusal of the CLI",),
    played=False,
)
async def all_permission_modes(run: Run) -> None:
    await run.ask("Write.")
    for mode in MODES:
        await run.call("set_permission_mode", mode)
        await run.ask("Write again.")
    await run.call("set_permission_mode", "no such mode")
    for mode in ("bypassPermissions", *MODES):
        await run.see_file(f"{mode}.txt")
        await run.see_file(mode)


AGENT = {"description": "count", "prompt": "Count them.", "subagent_type": "shepherd"}


def _hooked(run: Run) -> dict[str, Any]:
    def once(given: Any) -> Any:
        return {} if given["stop_hook_active"] else {"decision": "block", "reason": "One more thing."}

    def verdict(given: Any) -> Any:
        allowed = {"behavior": "allow", "updatedInput": {**given["tool_input"], "command": "touch other"}}
        return says("PermissionRequest", decision=allowed)

    broken = hook(run, ValueError("broken \u00fc"))
    output = {"stdout": "two", "stderr": "", "interrupted": False, "isImage": False}
    return {
        "allowed_tools": ["Bash(echo:*)", "Bash(exit:*)", "Agent", "Read"],
        "include_hook_events": True,
        "agents": {"shepherd": AgentDefinition(description="Counts.", prompt="You count.", tools=["Bash"])},
        "hooks": {
            "UserPromptSubmit": [
                HookMatcher(
                    hooks=[hook(run, says("UserPromptSubmit", additionalContext="The user is tired."))]
                )
            ],
            "PreToolUse": [
                HookMatcher(matcher="Bash", hooks=[hook(run, name="of Bash")]),
                HookMatcher(matcher="Re.*", hooks=[broken], on_failure="block"),
            ],
            "PostToolUse": [
                HookMatcher(
                    matcher="Bash", hooks=[hook(run, says("PostToolUse", updatedToolOutput=output), "after")]
                )
            ],
            "PostToolUseFailure": [
                HookMatcher(
                    hooks=[hook(run, says("PostToolUseFailure", additionalContext="It often fails."))]
                )
            ],
            "PermissionRequest": [HookMatcher(hooks=[hook(run, verdict)])],
            "Stop": [HookMatcher(hooks=[hook(run, once)])],
            "Notification": [HookMatcher(hooks=[hook(run)])],
            "SubagentStart": [HookMatcher(hooks=[hook(run)])],
            "SubagentStop": [HookMatcher(hooks=[hook(run)])],
            "PreCompact": [HookMatcher(hooks=[hook(run)])],
        },
    }


def _hooked_answers(_: Run) -> Any:
    first = iter(
        [
            bash("echo one"),
            bash("exit 3", 2),
            bash("touch one", 3),
            ToolUse("Read", {"file_path": "/no"}, id="toolu_4"),
            ToolUse("Agent", {**AGENT, "run_in_background": False}, id="toolu_agent"),
            Text("One."),
            Text("Two."),
            Text("<summary>What was said.</summary>"),
        ]
    )

    def answer(request: Any) -> Any:
        if request.prompt == "Count them.":
            return Text("Three sheep.") if request.tool_results else bash("echo sheep", 9)
        return next(first)

    return answer


@scenario(
    "option:hooks hook:UserPromptSubmit hook:PreToolUse hook:PostToolUse hook:PostToolUseFailure "
    "hook:PermissionRequest hook:Stop hook:Notification hook:SubagentStart hook:SubagentStop hook:PreCompact "
    "class:HookMatcher matcher:matcher matcher:hooks matcher:on_failure option:include_hook_events "
    "class:HookEventMessage class:TaskStartedMessage class:TaskProgressMessage",
    script=_hooked_answers,
    files={
        ".claude/settings.json": '{"hooks": {"PreToolUse": [{"matcher": "Bash", "hooks": '
        '[{"type": "command", "command": "echo seen by a command"}]}]}}'
    },
    options=_hooked,
    shows=(
        "The user is tired.",
        '"what": "of Bash"',
        "hook_callback_failed",
        '"two"',
        "It often fails.",
        "touch other",
        "One more thing.",
        '"agent_type": "shepherd"',
        '"trigger": "manual"',
        '"$class": "HookEventMessage"',
        "seen by a command",
    ),
)
async def hooks_of_all_events(run: Run) -> None:
    await run.ask("Go on.")
    await run.see_file("other")
    await run.ask("/compact keep the names")


def _decided(run: Run) -> dict[str, Any]:
    def decide(_: str, given: dict[str, Any], __: object) -> Any:
        others = {**given, "command": "touch other; echo \u00fc \U0001f40d"}
        mode = PermissionUpdate(type="setMode", mode="acceptEdits", destination="session")
        answers: dict[str, Any] = {
            "touch one": PermissionResultAllow(),
            "touch two": PermissionResultAllow(updated_input=others),
            "touch three": PermissionResultDeny(message="No \u00fc.\nNever."),
            "touch four": KeyError("no such thing"),
            "touch five": PermissionResultAllow(updated_permissions=[mode]),
        }
        return answers[given["command"]]

    return {"can_use_tool": asking(run, decide), "allowed_tools": ["Read"]}


@scenario(
    "option:can_use_tool class:PermissionResultAllow class:PermissionResultDeny class:PermissionUpdate "
    "class:ToolPermissionContext warning:CanUseToolShadowedWarning mode:acceptEdits",
    script=[
        *[touch(name, n) for n, name in enumerate(("one", "two", "three", "four", "five", "six"))],
        Text("Done."),
    ],
    options=_decided,
    shows=(
        '"suggestions": [{"$class": "PermissionUpdate"',
        "touch other",
        "No \\u00fc.",
        "Tool permission request failed: Error: 'no such thing'",
        "CanUseToolShadowedWarning",
    ),
    masks=("warnings inside",),
)
async def every_kind_of_decision(run: Run) -> None:
    await run.ask("Go on.")
    for name in ("one", "two", "other", "three", "six"):
        await run.see_file(name)
    run.see({"questions": len(run.record.callbacks)})


@scenario(
    "method:get_server_info method:get_context_usage method:set_model method:rewind_files "
    "option:enable_file_checkpointing method:stop_task class:TaskNotificationMessage "
    "class:TaskUpdatedMessage",
    script=lambda run: [
        *write_and_edit(f"{run.work}/a.txt"),
        # The CLI tries a model that it has not used yet.
        Text("It is there."),
        ToolUse(
            "Bash", {"command": "sleep 60", "run_in_background": True, "description": "wait"}, id="toolu_3"
        ),
        Text("It runs."),
        Text("It was stopped."),
    ],
    options={
        "enable_file_checkpointing": True,
        "permission_mode": "acceptEdits",
        "allowed_tools": ["Bash"],
        "extra_args": {"replay-user-messages": None},
    },
    shows=(
        '"commands"',
        '"totalTokens"',
        "rewind_files returned",
        "rewind_files raised",
        '"model": "claude-sonnet-4-6"',
        '"status": "killed"',
    ),
    masks=("a refusal of the CLI",),
)
async def a_session_is_steered(run: Run) -> None:
    await run.call("get_server_info")
    await run.ask("Write.")
    changed = await run.ask("Change.")
    await run.call("get_context_usage")
    prompt = next(m for m in changed if isinstance(m, UserMessage) and m.content == "Change.")
    await run.call("rewind_files", prompt.uuid)
    await run.see_file("a.txt")
    await run.call("rewind_files", "00000000-0000-4000-8000-000000000009")
    await run.call("set_model", "claude-sonnet-4-6")
    messages = await run.ask("Wait.")
    await run.call("stop_task", next(m.task_id for m in messages if isinstance(m, TaskStartedMessage)))
    await run.until(lambda message: isinstance(message, TaskNotificationMessage))
    await run.ask("And now?")
