"""What messages of the SDK say."""

from __future__ import annotations

from claude_agent_sdk import AssistantMessage, Message, TextBlock


def texts(messages: list[Message]) -> list[str]:
    """Return the texts of the assistant."""
    said = [message.content for message in messages if isinstance(message, AssistantMessage)]
    return [block.text for content in said for block in content if isinstance(block, TextBlock)]
