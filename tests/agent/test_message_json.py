"""Messages as JSON, for what is not Python."""

from __future__ import annotations

import json

import pytest
from claude_agent_sdk import AssistantMessage, TextBlock, ToolUseBlock

from agenthost import message_from_json, message_to_json

SAID = AssistantMessage(
    content=[TextBlock("zwölf\n"), ToolUseBlock("t", "Bash", {"$x": [1, None]})], model="m", session_id="s"
)


def test_a_message_is_one_line_that_says_its_class_and_comes_back_equal() -> None:
    text = message_to_json(SAID)
    assert text.isascii()
    assert "\n" not in text
    plain = json.loads(text)
    assert plain["$type"] == "AssistantMessage"
    assert plain["content"][0] == {"$type": "TextBlock", "text": "zwölf\n"}
    assert "error" not in plain
    assert message_from_json(text) == SAID
    assert message_from_json(text.encode()) == SAID


def test_a_message_of_a_class_that_is_not_known_here_stays_what_it_is() -> None:
    text = '{"$type":"MessageOfTomorrow","text":"hi"}'
    assert message_to_json(message_from_json(text)) == text


@pytest.mark.parametrize("text", ["", "{}", "[1]", "null", '"text"', '{"$type":3}', '{"$new":1}'])
def test_what_is_no_message_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        message_from_json(text)
