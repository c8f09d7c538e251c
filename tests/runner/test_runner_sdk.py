"""Messages become lines of JSON, quickly where it counts and exactly everywhere."""

from __future__ import annotations

import json
from typing import Any

from claude_agent_sdk import AssistantMessage, StreamEvent, TextBlock
from hypothesis import given, settings
from hypothesis import strategies as st

from agenthost.runner.sdk import load

SDK = load()

texts = st.text(st.characters(), max_size=6) | st.sampled_from(["$type", '"$', "$$", "\ud83d", '\\"$'])
# What json.loads makes, as the SDK does of the CLI's lines.
parsed: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
).map(lambda value: json.loads(json.dumps(value)))


def through_text(message: object) -> Any:
    line = SDK.dumps(message)
    assert b"\n" not in line
    return SDK.codec.loads(line)


@settings(max_examples=300, deadline=None)
@given(event=st.dictionaries(texts, parsed, max_size=3), uuid=texts, parent=st.none() | texts)
def test_a_partial_message_comes_back_equal(event: dict[str, Any], uuid: str, parent: str | None) -> None:
    event = json.loads(json.dumps(event))
    made = StreamEvent(
        uuid=json.loads(json.dumps(uuid)), session_id="s", event=event, parent_tool_use_id=parent
    )

    assert through_text(made) == made


@settings(max_examples=100, deadline=None)
@given(text=texts)
def test_any_other_message_comes_back_equal(text: str) -> None:
    text = json.loads(json.dumps(text))
    made = AssistantMessage(content=[TextBlock(text)], model="m", usage={"$" + text: 1})

    assert through_text(made) == made
