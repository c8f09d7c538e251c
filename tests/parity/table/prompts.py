"""Options that shape what the model is asked."""

from __future__ import annotations

from typing import Any

from claude_agent_sdk import ClaudeAgentOptions
from parity.scenario import Run, one_answer, scenario

from agenthost.testing import ApiError, Text, Thinking, ToolUse

PRESET: dict[str, Any] = {"type": "preset", "preset": "claude_code"}
ANSWER = [Text("Done.")]


@scenario(
    "class:ClaudeAgentOptions class:AssistantMessage class:TextBlock class:ResultMessage class:SystemMessage "
    "method:connect method:disconnect method:query method:receive_response",
    script=ANSWER,
    on=("local-unisolated", "local"),
    trio=True,
)
async def no_options_at_all(run: Run) -> None:
    assert run.record.steps == []
    assert ClaudeAgentOptions().model is None
    await run.ask("Say \"hi\" & 'bye' \\ \N{SNOWMAN} \U0001f40d\n\u2028 line two")


@scenario(
    "option:system_prompt",
    script=ANSWER,
    options={"system_prompt": "You are 'a' \"test\".\n\u00fc"},
    shows=("You are 'a' ",),
)
async def system_prompt_text(run: Run) -> None:
    await one_answer(run)


@scenario("option:system_prompt", script=ANSWER, options={"system_prompt": PRESET})
async def system_prompt_preset(run: Run) -> None:
    await one_answer(run)


@scenario(
    "option:system_prompt",
    script=ANSWER,
    options={"system_prompt": {**PRESET, "append": "Be brief.", "exclude_dynamic_sections": True}},
    shows=("Be brief.",),
)
async def system_prompt_preset_with_more(run: Run) -> None:
    await one_answer(run)


@scenario(
    "option:system_prompt",
    script=[Text("One."), Text("Two.")],
    options={"system_prompt": {"type": "custom", "prompt": "A test.", "snapshot": False}},
    shows=("A test.",),
)
async def system_prompt_custom_without_snapshot(run: Run) -> None:
    await run.ask("One?")
    await run.ask("Two?")


@scenario(
    "option:system_prompt",
    script=ANSWER,
    files={"prompt.md": "From a file.\n"},
    options=lambda run: {"system_prompt": {"type": "file", "path": f"{run.work}/prompt.md"}},
    shows=("From a file.",),
)
async def system_prompt_from_a_file(run: Run) -> None:
    await one_answer(run)


@scenario(
    "option:model",
    script=ANSWER,
    options={"model": "claude-sonnet-4-6"},
    shows=("claude-sonnet-4-6",),
)
async def model(run: Run) -> None:
    await one_answer(run)


@scenario(
    "option:fallback_model",
    script=[ApiError(404, "model: claude-sonnet-4-6"), Text("The other one answers.")],
    options={"model": "claude-sonnet-4-6", "fallback_model": "claude-haiku-4-5"},
    shows=("model_fallback",),
)
async def fallback_model(run: Run) -> None:
    await one_answer(run)


@scenario(
    "option:betas",
    script=ANSWER,
    options={"model": "claude-sonnet-4-5", "betas": ["context-1m-2025-08-07"]},
    shows=("context-1m-2025-08-07",),
)
async def betas(run: Run) -> None:
    await one_answer(run)


@scenario(
    "option:effort",
    script=ANSWER,
    options={"effort": "low"},
    shows=('"effort": "low"',),
)
async def effort(run: Run) -> None:
    await one_answer(run)


@scenario(
    "option:thinking class:ThinkingBlock",
    script=[[Thinking("So, \u00fc."), Text("Done.")]],
    options={"model": "claude-sonnet-4-5", "thinking": {"type": "enabled", "budget_tokens": 2048}},
    shows=('"budget_tokens": 2048',),
)
async def thinking(run: Run) -> None:
    await one_answer(run)


@scenario(
    "option:thinking", script=ANSWER, options={"model": "claude-sonnet-4-5", "thinking": {"type": "disabled"}}
)
async def thinking_switched_off(run: Run) -> None:
    await one_answer(run)


@scenario(
    "option:max_thinking_tokens",
    script=ANSWER,
    options={"model": "claude-sonnet-4-5", "max_thinking_tokens": 3000},
    shows=('"budget_tokens": 3000',),
)
async def max_thinking_tokens(run: Run) -> None:
    await one_answer(run)


@scenario(
    "option:task_budget",
    script=ANSWER,
    options={"task_budget": {"total": 20_000}},
    shows=('"total": 20000',),
)
async def task_budget(run: Run) -> None:
    await one_answer(run)


@scenario(
    "option:client_app",
    script=ANSWER,
    options={"client_app": "parity/1.0"},
    shows=("client-app/parity/1.0",),
)
async def client_app(run: Run) -> None:
    await one_answer(run)


@scenario(
    "option:verbatim_prompts",
    script=ANSWER,
    files={"note.txt": "what the note says\n"},
    options={"verbatim_prompts": True},
    shows=('"/clear @note.txt"',),
)
async def verbatim_prompts(run: Run) -> None:
    await run.ask("/clear @note.txt")


@scenario(
    "method:query",
    script=ANSWER,
    files={"note.txt": "what the note says\n"},
    shows=("what the note says",),
)
async def a_prompt_that_mentions_a_file(run: Run) -> None:
    await run.ask("See @note.txt")


FORMAT = {
    "type": "json_schema",
    "schema": {
        "type": "object",
        "properties": {"n": {"type": "integer"}, "words": {"type": "array"}},
        "required": ["n", "words"],
    },
}


@scenario(
    "option:output_format",
    script=[ToolUse("StructuredOutput", {"n": 7, "words": ["\u00fc"]}, id="toolu_1")],
    options={"output_format": FORMAT},
    shows=('"structured_output": {"n": 7, "words": ["\\u00fc"]}',),
)
async def structured_output(run: Run) -> None:
    await one_answer(run)


@scenario(
    "option:max_turns",
    script=[ToolUse("Bash", {"command": "echo one"}, id="toolu_1")],
    options={"max_turns": 1, "allowed_tools": ["Bash"]},
    shows=("error_max_turns",),
)
async def max_turns(run: Run) -> None:
    await one_answer(run)


@scenario(
    "option:max_budget_usd",
    script=[[Text("Dear."), ToolUse("Bash", {"command": "echo one"}, id="toolu_1")]],
    options={"max_budget_usd": 0.0001, "allowed_tools": ["Bash"]},
    shows=("error_max_budget_usd",),
)
async def max_budget_usd(run: Run) -> None:
    await one_answer(run)


@scenario(
    "option:extra_args class:UserMessage",
    script=ANSWER,
    options={"extra_args": {"replay-user-messages": None, "append-system-prompt": "-- more --"}},
    shows=("-- more --", '"$class": "UserMessage"'),
)
async def extra_args(run: Run) -> None:
    await one_answer(run)


@scenario(
    "option:env",
    script=[ToolUse("Bash", {"command": "echo $GREETING"}, id="toolu_1"), Text("Done.")],
    options={"allowed_tools": ["Bash"], "env": {"GREETING": "gr\u00fc\u00dfe 'and' \"so\" on"}},
    shows=("gr\\u00fc\\u00dfe",),
)
async def env(run: Run) -> None:
    await one_answer(run)


@scenario(
    "method:query",
    script=[Text("Two prompts."), Text("And one.")],
    shows=('"user_message_uuid": "00000000-0000-4000-8000-000000000001"',),
)
async def prompts_as_message_dicts(run: Run) -> None:
    first = "00000000-0000-4000-8000-000000000001"

    async def prompts() -> Any:
        content = [{"type": "text", "text": "With"}, {"type": "text", "text": "blocks."}]
        message = {"role": "user", "content": content}
        yield {"type": "user", "message": message, "uuid": first, "parent_tool_use_id": None}

    await run.ask(prompts())
    await run.ask("A text after it.")
