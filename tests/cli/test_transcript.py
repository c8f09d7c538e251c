"""What a person sees of an agent's messages."""

from __future__ import annotations

import io

import pytest
from claude_agent_sdk import (
    AssistantMessage,
    ResultMessage,
    SystemMessage,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
    UserMessage,
)
from rich.console import Console

from agenthost.cli.transcript import Transcript, printable


def shown(*messages: AssistantMessage | UserMessage | SystemMessage | ResultMessage) -> str:
    output = io.StringIO()
    transcript = Transcript(Console(file=output, highlight=False, width=80))
    for message in messages:
        transcript.show(message)
    return output.getvalue()


def assistant(*blocks: TextBlock | ThinkingBlock | ToolUseBlock) -> AssistantMessage:
    return AssistantMessage(content=list(blocks), model="m")


def result(**fields: object) -> ResultMessage:
    known = {
        "subtype": "success",
        "duration_ms": 1500,
        "duration_api_ms": 1,
        "is_error": False,
        "num_turns": 2,
    }
    return ResultMessage(session_id="s", **{**known, **fields})  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] - fields by name


def test_each_block_is_one_labelled_entry() -> None:
    text = shown(
        assistant(ThinkingBlock(thinking="hm", signature=""), TextBlock(text="I look.\nThen I act.")),
        assistant(ToolUseBlock(id="1", name="Bash", input={"command": "ls -l", "description": "List"})),
        UserMessage(content=[ToolResultBlock(tool_use_id="1", content="total 0")]),
        UserMessage(content=[ToolResultBlock(tool_use_id="1", content="no such file", is_error=True)]),
        result(total_cost_usd=0.0123),
    )
    assert text.splitlines() == [
        "thinks   hm",
        "claude   I look.",
        "         Then I act.",
        "tool     Bash ls -l",
        "result   total 0",
        "failed   no such file",
        "done     2 turns, 1.5 s, $0.0123",
    ]


def test_long_output_is_cut_and_says_by_how_much() -> None:
    many = "\n".join(map(str, range(100)))
    text = shown(
        UserMessage(content=[ToolResultBlock(tool_use_id="1", content=[{"type": "text", "text": many}])]),
        assistant(ToolUseBlock(id="1", name="Write", input={"content": "x" * 5000})),
    )
    assert "... 92 more lines" in text
    assert max(map(len, text.splitlines())) < 350


def test_a_log_keeps_long_lines_whole() -> None:
    sentence = "word " * 60 + "end"
    assert sentence in shown(assistant(TextBlock(text=sentence)))


def test_an_error_result_says_why() -> None:
    assert "failed   no more money (2 turns, 1.5 s)" in shown(result(is_error=True, result="no more money"))
    assert "failed   error_max_turns" in shown(result(is_error=True, subtype="error_max_turns"))


def test_a_retry_of_the_model_is_told() -> None:
    retry = SystemMessage(subtype="api_retry", data={"error_status": 529})
    assert "trying again (529)" in shown(retry)
    assert shown(SystemMessage(subtype="init", data={})) == ""


def test_markup_of_the_agent_is_text() -> None:
    assert "[bold]not bold[/bold]" in shown(assistant(TextBlock(text="[bold]not bold[/bold]")))


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("a\x9b31mb", "a\\x9b31mb"),
        ("back\rward\x08", "back\\rward\\x08"),
        ("dos\r\nline", "dos\nline"),
        ("\u202eevil", "\\u202eevil"),
        ("half \ud83d", "half \\ud83d"),
        ("tab\tand \N{WAVING HAND SIGN} stay", "tab\tand \N{WAVING HAND SIGN} stay"),
    ],
)
def test_nothing_that_an_agent_prints_controls_the_terminal(text: str, safe: str) -> None:
    assert printable(text) == safe
