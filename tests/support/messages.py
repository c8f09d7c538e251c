"""What messages of the SDK say."""

from __future__ import annotations

from collections.abc import Sequence

from claude_agent_sdk import AssistantMessage, Message, TextBlock, ToolResultBlock, UserMessage


def texts(messages: Sequence[Message]) -> list[str]:
    """Return the texts of the assistant."""
    said = [message.content for message in messages if isinstance(message, AssistantMessage)]
    return [block.text for content in said for block in content if isinstance(block, TextBlock)]


def results(messages: Sequence[Message]) -> list[str]:
    """Return the results of tools, as text."""
    users = [message.content for message in messages if isinstance(message, UserMessage)]
    found = [block.content for content in users for block in content if isinstance(block, ToolResultBlock)]
    return [one if isinstance(one, str) else "".join(part["text"] for part in one or ()) for one in found]
